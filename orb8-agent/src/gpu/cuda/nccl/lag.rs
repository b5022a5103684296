//! Which rank of a communicator the others wait for.

use std::time::{Duration, Instant};

use hashbrown::HashMap;

use crate::gpu::event::GpuEventKind;

/// For how long a rank makes no call while others are ahead before it is told: longer than a step of a
/// large model, and than what a checkpoint on a fast disk takes.
pub(super) const STRAGGLES_AFTER: Duration = Duration::from_secs(10);
/// Communicators that are compared.
const MAX_COMPARED: usize = 1024;

/// How far one rank is.
#[derive(Clone, Debug)]
pub(in super::super) struct Member {
    pub rank: u32,
    /// Collectives that it called.
    pub calls: u64,
    /// When that last grew.
    pub moved: Instant,
    /// For how long it may stand.
    pub patience: Duration,
    /// Whether its process ended without ending the communicator.
    pub is_gone: bool,
    /// Ranks that do not answer, as NCCL tells this one.
    pub missing: Vec<u32>,
}

/// How far ranks are from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Lag {
    /// Calls between the first and the last.
    pub behind: u64,
    pub slowest: u32,
}

/// All communicators' lags, and what was told of them.
#[derive(Debug, Default)]
pub(in super::super) struct Lags {
    rows: HashMap<u64, Compared>,
}

#[derive(Debug, Default)]
struct Compared {
    lag: Option<Lag>,
    /// The rank that was told, and has not moved since.
    told: Option<u32>,
    /// Whether it is there in this comparison.
    is_seen: bool,
}

/// A straggler to tell: whose process it is, where that is one of this node's.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Straggler<P> {
    pub process: Option<P>,
    pub event: GpuEventKind,
}

impl Lags {
    /// The lag within a communicator; `None` where fewer than two ranks are known.
    pub(in super::super) fn of(&self, hash: u64) -> Option<Lag> {
        self.rows.get(&hash)?.lag
    }

    /// Compares the ranks of every communicator. Returns who the others began to wait for.
    pub(in super::super) fn compare<P: Copy>(
        &mut self,
        members: &HashMap<u64, Vec<(P, Member)>>,
        now: Instant,
    ) -> Vec<Straggler<P>> {
        let mut stragglers = Vec::new();
        for row in self.rows.values_mut() {
            row.is_seen = false;
        }
        for (hash, members) in members {
            if !self.rows.contains_key(hash) && self.rows.len() >= MAX_COMPARED {
                continue;
            }
            let row = self.rows.entry(*hash).or_default();
            row.is_seen = true;
            stragglers.extend(row.compare(*hash, members, now));
        }
        self.rows.retain(|_, row| row.is_seen);
        stragglers
    }
}

impl Compared {
    fn compare<P: Copy>(
        &mut self,
        hash: u64,
        members: &[(P, Member)],
        now: Instant,
    ) -> Option<Straggler<P>> {
        let last = members.iter().min_by_key(|(_, member)| (member.calls, member.rank))?;
        let most = members.iter().map(|(_, member)| member.calls).max()?;
        let Member { rank: slowest, calls, moved, patience, is_gone, .. } = last.1;
        let behind = most - calls;
        let is_compared = members.iter().any(|(_, other)| other.rank != slowest);
        self.lag = is_compared.then_some(Lag { behind, slowest });
        let stands = now.saturating_duration_since(moved) >= patience;
        // NCCL knows of ranks on other nodes, too.
        let missing = members.iter().find_map(|(_, member)| member.missing.first().copied());
        let (rank, is_missing) = match missing {
            Some(rank) => (rank, true),
            None if is_compared && behind > 0 && (stands || is_gone) => (slowest, is_gone),
            None => {
                self.told = None;
                return None;
            }
        };
        // Once for as long as it stands.
        if self.told.replace(rank) == Some(rank) {
            return None;
        }
        let whose = members.iter().find(|(_, member)| member.rank == rank);
        let behind = whose.map_or(0, |(_, member)| most - member.calls);
        let event = GpuEventKind::Straggler { communicator: hash, rank, behind, is_missing };
        Some(Straggler { process: whose.map(|(process, _)| *process), event })
    }
}

#[cfg(test)]
mod tests;
