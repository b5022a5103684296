//! One communicator of one process.

use std::time::{Duration, Instant};

use orb8_common::gpu::COLLECTIVE_KINDS;

use super::Sums;
use super::lag::{Lags, STRAGGLES_AFTER};
use super::parts::Splits;
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
    /// What this process became by splitting it.
    pub(super) splits: Splits,
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
    /// By kind, what NCCL's own account had before the process was watched, once it told.
    pub(super) unseen: Option<[u64; COLLECTIVE_KINDS]>,
    /// What of it is in the process's sums.
    pub(super) added: Sums,
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
            splits: Splits::default(),
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
            unseen: None,
            added: Sums::default(),
        }
    }

    /// Takes in NCCL's own account.
    pub(super) fn answer(&mut self, answered: Option<Answered>) {
        if let (None, Some(answered)) = (self.unseen, &answered) {
            let mut unseen = [0; COLLECTIVE_KINDS];
            for (unseen, kind) in
                unseen.iter_mut().zip(CollectiveKind::ALL).filter(|_| !self.is_whole)
            {
                let [count, ..] = self.kinds[kind as usize].sums();
                *unseen = answered.count(kind).unwrap_or(0).saturating_sub(count);
            }
            self.unseen = Some(unseen);
        }
        self.answered = answered;
    }

    /// Adds to sums by how much it grew since the last time. What NCCL does not tell any more takes
    /// nothing away.
    pub(super) fn add_to(&mut self, sums: &mut Sums) {
        let unseen = self.unseen.unwrap_or_default();
        for (i, kind) in CollectiveKind::ALL.into_iter().enumerate() {
            let [count, bytes, _] = self.kinds[i].sums();
            let own = self.answered.as_ref().and_then(|answered| answered.count(kind)).unwrap_or(0);
            let count = count.max(own.saturating_sub(unseen[i]));
            let bytes = self.bytes_put_in(kind, bytes).unwrap_or(0);
            let (sum, added) = (&mut sums[i], &mut self.added[i]);
            sum.0 += count.saturating_sub(added.0);
            sum.1 = sum.1.saturating_add(bytes.saturating_sub(added.1));
            *added = (count.max(added.0), bytes.max(added.1));
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
pub(in crate::gpu::cuda) const fn is_collective(kind: CollectiveKind) -> bool {
    !matches!(kind, CollectiveKind::Send | CollectiveKind::Recv)
}
