//! One communicator of one process.

use std::time::{Duration, Instant};

use orb8_common::gpu::COLLECTIVE_KINDS;

use super::lag::{Lags, STRAGGLES_AFTER};
use crate::event::UnixNanos;
use crate::gpu::activity::{CollectiveKind, Collectives, Communicator, CommunicatorState};
use crate::gpu::cuda::ras::{Answered, EVERY};
use crate::gpu::cuda::sums::Estimate;

/// What it is known by elsewhere, and this process's place in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::gpu::cuda) struct Identity {
    /// 0 where its beginning was not seen.
    pub hash: u64,
    pub rank: Option<u32>,
    pub ranks: Option<u32>,
}

/// What is known of it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) identity: Identity,
    /// Communicators that were split off.
    pub(super) splits: u32,
    pub(super) kinds: [Estimate<3>; COLLECTIVE_KINDS],
    pub(super) last: UnixNanos,
    pub(super) state: CommunicatorState,
    /// Whether it was seen to begin: all its calls are counted.
    pub(super) is_whole: bool,
    pub(super) ended: Option<Instant>,
    /// Whether its counters are to be forgotten since it ended, or were.
    pub(super) counters: Kept,
    /// When its number of calls was last found to have grown.
    pub(super) moved: Instant,
    pub(super) calls: u64,
    /// What was told of the last interval.
    pub(super) told: (u64, u64),
    pub(super) answered: Option<Answered>,
}

/// What is to be done with the kernel's counters of a communicator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Counting,
    ToForget,
    Forgotten,
}

impl Row {
    pub(super) fn new(identity: Identity, now: Instant) -> Self {
        Self {
            identity,
            splits: 0,
            kinds: [Estimate::default(); COLLECTIVE_KINDS],
            last: UnixNanos(0),
            state: CommunicatorState::Ready,
            is_whole: false,
            ended: None,
            counters: Kept::Counting,
            moved: now,
            calls: 0,
            told: (0, 0),
            answered: None,
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// How far it is, where that can be compared with others, and for how long it may stand: by its
    /// calls where all of them were seen, else by NCCL's own account, which is asked for seldom.
    pub(super) fn progress(&self) -> Option<(u64, Duration)> {
        if self.is_whole && !self.kinds.iter().any(Estimate::is_sampled) {
            return Some((self.calls, STRAGGLES_AFTER));
        }
        let answered = self.answered.as_ref()?;
        Some((answered.calls(), STRAGGLES_AFTER.max(EVERY.saturating_mul(5) / 2)))
    }

    /// Calls that all ranks make alike.
    pub(super) fn collective_calls(&self) -> u64 {
        let own = |(i, kind): (usize, &Estimate<3>)| {
            is_collective(CollectiveKind::ALL[i]).then(|| kind.sums()[0])
        };
        self.kinds.iter().enumerate().filter_map(own).sum()
    }

    pub(super) fn activity(&self, lags: &Lags) -> Communicator {
        let Identity { hash, rank, ranks } = self.identity;
        let lag = lags.of(hash);
        Communicator {
            hash,
            rank,
            ranks,
            collectives: self.collectives(),
            last: self.last,
            behind: lag.map(|lag| lag.behind),
            slowest_rank: lag.filter(|lag| lag.behind > 0).map(|lag| lag.slowest),
            missing_ranks: self.answered.as_ref().map_or(Vec::new(), |row| row.missing.clone()),
            is_from_ras: self.answered.is_some(),
            state: self.state,
        }
    }

    fn collectives(&self) -> Vec<Collectives> {
        let mut rows = Vec::new();
        for (kind, estimate) in CollectiveKind::ALL.into_iter().zip(&self.kinds) {
            let [count, bytes, unsized_count] = estimate.sums();
            let bytes = self.bytes_put_in(kind, bytes).filter(|_| unsized_count < count.max(1));
            // NCCL's own count begins with the communicator, and the bytes with the watching. It is some
            // seconds old.
            let own = self.answered.as_ref().and_then(|answered| answered.count(kind)).unwrap_or(0);
            let bytes = bytes.filter(|_| own <= count);
            let count = count.max(own);
            if count > 0 {
                rows.push(Collectives { kind, count, bytes });
            }
        }
        rows
    }

    /// What a call's size says of the bytes that this rank puts in.
    fn bytes_put_in(&self, kind: CollectiveKind, bytes: u64) -> Option<u64> {
        match kind {
            // The call has what one rank gets.
            CollectiveKind::ReduceScatter | CollectiveKind::AllToAll => {
                Some(bytes.saturating_mul(u64::from(self.identity.ranks?)))
            }
            _ => Some(bytes),
        }
    }
}

/// Whether all ranks make the call: what goes between two is not counted alike.
const fn is_collective(kind: CollectiveKind) -> bool {
    !matches!(kind, CollectiveKind::Send | CollectiveKind::Recv)
}
