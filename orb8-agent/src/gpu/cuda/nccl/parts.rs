//! Numbers of processes in what a communicator was split into (`ncclCommSplit`).
//!
//! Within a part, they are in the order of their keys, and then of their numbers in the whole. So who
//! knows all processes of the whole knows the numbers: that is where all of them run on this node. Of
//! others, only NCCL's own account tells.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;

use super::row::Identity;

/// Splits of one communicator that are remembered: all of its processes split at about the same time.
const MAX_SPLITS: usize = 32;

/// What one process became by a split.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    /// How many times the whole had been split before.
    pub number: u32,
    /// What the part is known by; 0 where the process is in none.
    pub hash: u64,
    /// Where it is; 0 where the call does not tell.
    pub address: u64,
    pub key: i32,
    pub took: Duration,
}

/// What one process became by the last splits of a communicator.
#[derive(Debug, Default)]
pub(super) struct Splits {
    count: u32,
    last: VecDeque<Split>,
}

/// Communicators and what they were split into, of all processes.
#[derive(Debug)]
pub(in super::super) struct Parts<P> {
    /// By the whole's hash and the split's number.
    splits: HashMap<(u64, u32), Vec<Place<P>>>,
}

/// A process of a whole.
#[derive(Debug)]
struct Place<P> {
    process: P,
    rank: u32,
    ranks: u32,
    split: Split,
}

/// A process's number in a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Number<P> {
    pub process: P,
    pub hash: u64,
    pub address: u64,
    pub rank: u32,
    pub ranks: u32,
    pub took: Duration,
}

impl Splits {
    /// How many there were.
    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// Takes in one that is over.
    pub(super) fn add(&mut self, split: Split) {
        self.count += 1;
        if self.last.len() == MAX_SPLITS {
            self.last.pop_front();
        }
        self.last.push_back(split);
    }
}

impl<P: Copy> Parts<P> {
    pub(in super::super) fn new() -> Self {
        Self { splits: HashMap::new() }
    }

    /// Takes in a process's splits of a communicator.
    pub(super) fn add(&mut self, process: P, identity: &Identity, splits: &Splits) {
        let Identity { hash, rank: Some(rank), ranks: Some(ranks) } = *identity else { return };
        for split in splits.last.iter().filter(|_| hash != 0) {
            let places = self.splits.entry((hash, split.number)).or_default();
            places.push(Place { process, rank, ranks, split: *split });
        }
    }

    /// Returns the numbers that are known.
    pub(in super::super) fn numbers(self) -> Vec<Number<P>> {
        let whole = self.splits.into_values().filter(|places| is_whole(places));
        whole.flat_map(numbers).collect()
    }
}

/// Whether all processes of a communicator are there, each once.
fn is_whole<P>(places: &[Place<P>]) -> bool {
    let mut ranks = Vec::from_iter(places.iter().map(|place| place.rank));
    ranks.sort_unstable();
    places.iter().all(|place| place.ranks as usize == places.len())
        && (0..).zip(ranks).all(|(expected, rank): (u32, u32)| expected == rank)
}

fn numbers<P: Copy>(mut places: Vec<Place<P>>) -> Vec<Number<P>> {
    places.retain(|place| place.split.hash != 0);
    places.sort_unstable_by_key(|place| (place.split.hash, place.split.key, place.rank));
    let parts = places.chunk_by(|one, other| one.split.hash == other.split.hash);
    let number = |part: &[Place<P>]| {
        let ranks = u32::try_from(part.len()).unwrap_or(u32::MAX);
        let part = (0..).zip(part).map(move |(rank, Place { process, split, .. })| {
            let Split { hash, address, took, .. } = *split;
            Number { process: *process, hash, address, rank, ranks, took }
        });
        Vec::from_iter(part)
    };
    parts.flat_map(number).collect()
}

#[cfg(test)]
mod tests;
