//! NCCL's communicators of one process, as its calls tell of them.
//!
//! A communicator is known by its address in the process, and to other processes by the hash of its
//! unique id. Calls only enqueue: how far a rank is shows in how many it made.

mod joining;
mod lag;
mod parts;
mod row;

pub(super) use lag::{Lags, Member};
pub(super) use parts::{Number, Parts};
pub(super) use row::{Identity, is_collective};

use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use orb8_common::gpu::{
    CALL_ABORTED, CALL_DESTROYED, CALL_JOINED, CALL_JOINING, COLLECTIVE_KINDS, CommunicatorCall,
};

use super::ras::Answered;
use super::sums::Estimate;
use crate::event::UnixNanos;
use crate::gpu::activity::{CollectiveKind, Collectives, Communicator, CommunicatorState};
use crate::gpu::event::GpuEventKind;
use joining::Joining;
use parts::Split;
use row::{Kept, Row};

/// Communicators of one process that are followed: jobs have one for each way to divide the work.
pub(super) const MAX_COMMUNICATORS: usize = 64;
/// Of them, those that are told.
const TOLD: usize = 16;
/// Those beyond them that are counted, as many as the kernel counts calls of.
const MAX_LEFT_OUT: usize = orb8_common::gpu::COLLECTIVES;
/// Calls that make a communicator and have not returned, of one process.
const MAX_JOINING: usize = 64;
/// For how long a communicator that ended is told.
const KEEP: Duration = Duration::from_mins(1);
/// `ncclSuccess`, and `ncclInProgress` of calls that do not wait.
const JOINED: [u32; 2] = [0, 7];

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Communicators {
    rows: HashMap<u64, Row>,
    joining: Vec<Joining>,
    /// Made within a group, where the call does not tell the address yet.
    nowhere: Vec<Identity>,
    /// Those that there is no row for, and of them those that ended.
    left_out: HashSet<u64>,
    left_out_ended: Vec<u64>,
    /// Of all there ever were.
    sums: Sums,
}

/// Collectives and their bytes, by kind.
type Sums = [(u64, u64); COLLECTIVE_KINDS];

/// What the kernel's table says of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub count: u64,
    pub bytes: u64,
    pub unsized_count: u64,
}

impl Communicators {
    /// Takes in a call that makes or ends a communicator. Returns what is to be told.
    pub(super) fn take(
        &mut self,
        call: &CommunicatorCall,
        time: UnixNanos,
        now: Instant,
    ) -> Option<GpuEventKind> {
        match call.what {
            CALL_JOINING => {
                self.begin_joining(call, time);
                None
            }
            CALL_JOINED => self.join(call, now),
            CALL_ABORTED => Some(self.abort(call.communicator, now)),
            CALL_DESTROYED => {
                self.end(call.communicator, CommunicatorState::Destroyed, now);
                None
            }
            _ => None,
        }
    }

    /// Takes in what was counted for one communicator and kind. `group` says for how long calls were
    /// watched, and of how long a time.
    pub(super) fn count(
        &mut self,
        communicator: u64,
        kind: u32,
        counted: Counted,
        last: UnixNanos,
        (watched, elapsed): (Duration, Duration),
        now: Instant,
    ) {
        // Another one has its address.
        if self.rows.get(&communicator).is_some_and(|row| row.counters == Kept::Forgotten) {
            self.forget(communicator);
        }
        let Some(row) = self.row(communicator, now) else { return };
        let Some(estimate) = row.kinds.get_mut(kind as usize) else { return };
        let Counted { count, bytes, unsized_count } = counted;
        estimate.take([count, bytes, unsized_count], watched, elapsed, 0.0);
        row.last = row.last.max(last);
        let calls = row.collective_calls();
        if calls > row.calls {
            row.calls = calls;
            if row.is_whole {
                row.moved = now;
            }
        }
    }

    /// Takes in what NCCL itself says of a communicator, or that it does not any more.
    pub(super) fn answer(&mut self, communicator: u64, answered: Option<Answered>, now: Instant) {
        let Some(row) = self.rows.get_mut(&communicator) else { return };
        let calls = |answered: &Answered| answered.calls();
        let before = row.answered.as_ref().map(calls);
        if !row.is_whole && before != answered.as_ref().map(calls) {
            row.moved = now;
        }
        if let Some(answered) = &answered {
            // Where its beginning was not seen.
            if row.identity.hash == 0 {
                row.identity.hash = answered.hash;
            }
            row.identity.rank = row.identity.rank.or(Some(answered.rank));
            row.identity.ranks = row.identity.ranks.or(Some(answered.ranks));
        }
        row.answer(answered);
    }

    /// What is known of each that has not ended: its address, and what it is known by.
    pub(super) fn identities(&self) -> impl Iterator<Item = (u64, Identity)> {
        let live = self.rows.iter().filter(|(_, row)| !row.is_ended());
        live.map(|(communicator, row)| (*communicator, row.identity))
    }

    /// Whether NCCL itself tells of all of them.
    pub(super) fn is_answered(&self) -> bool {
        let mut live = self.rows.values().filter(|row| !row.is_ended()).peekable();
        live.peek().is_some() && live.all(|row| row.answered.is_some())
    }

    /// Addresses of those that ended since the last time.
    pub(super) fn take_ended(&mut self) -> impl Iterator<Item = u64> {
        let ended = self.rows.iter_mut().filter(|(_, row)| row.counters == Kept::ToForget);
        let ended = ended.map(|(address, row)| {
            row.counters = Kept::Forgotten;
            *address
        });
        // They were looked at once more.
        self.left_out.retain(|address| !self.left_out_ended.contains(address));
        ended.chain(std::mem::take(&mut self.left_out_ended))
    }

    /// Whether the counters of one are to be forgotten.
    pub(super) fn has_ended(&self) -> bool {
        let has_row = self.rows.values().any(|row| row.counters == Kept::ToForget);
        has_row || !self.left_out_ended.is_empty()
    }

    /// Whether there are any.
    pub(super) fn is_used(&self) -> bool {
        !self.rows.is_empty() || !self.joining.is_empty()
    }

    /// Communicators that there is no row for.
    pub(super) fn left_out(&self) -> usize {
        self.left_out.len()
    }

    /// Shows what each was split into, to who knows those of other processes.
    pub(super) fn show_parts<P: Copy>(&self, process: P, parts: &mut Parts<P>) {
        for row in self.rows.values() {
            parts.add(process, &row.identity, &row.splits);
        }
    }

    /// Takes in this process's number in one that was split off. Returns what is to be told.
    pub(super) fn number<P>(&mut self, number: &Number<P>) -> Option<GpuEventKind> {
        let Number { hash, address, rank, ranks, took, .. } = *number;
        let row = self.rows.get_mut(&address).filter(|row| row.identity.hash == hash)?;
        if row.identity.rank.is_some() {
            return None;
        }
        row.identity = Identity { hash, rank: Some(rank), ranks: Some(ranks) };
        Some(GpuEventKind::CommunicatorInit { communicator: hash, rank, ranks, took })
    }

    /// How far this process is in those that others may be in too.
    pub(super) fn members(&self) -> impl Iterator<Item = (u64, Member)> {
        self.rows.values().filter_map(|row| {
            let is_member = row.identity.hash != 0 && row.state == CommunicatorState::Ready;
            let (calls, patience) = row.progress().filter(|_| is_member)?;
            let missing = row.answered.as_ref().map_or(Vec::new(), |told| told.missing.clone());
            let (rank, moved) = (row.identity.rank?, row.moved);
            let member = Member { rank, calls, moved, patience, is_gone: false, missing };
            Some((row.identity.hash, member))
        })
    }

    /// What was called in each since the last time.
    pub(super) fn tell(&mut self) -> Vec<GpuEventKind> {
        let mut events = Vec::new();
        for row in self.rows.values_mut() {
            let sums = row.kinds.iter().map(Estimate::sums);
            let (calls, bytes) = sums.fold((0, 0), |(calls, bytes), sum| {
                (calls + sum[0], u64::saturating_add(bytes, sum[1]))
            });
            let (told_calls, told_bytes) = std::mem::replace(&mut row.told, (calls, bytes));
            if calls > told_calls {
                events.push(GpuEventKind::Collectives {
                    communicator: row.identity.hash,
                    rank: row.identity.rank,
                    calls: calls - told_calls,
                    bytes: bytes.saturating_sub(told_bytes),
                });
            }
        }
        events
    }

    /// Adds up what was called, and forgets those that ended long ago.
    pub(super) fn step(&mut self, now: Instant) {
        let sums = &mut self.sums;
        self.rows.retain(|_, row| {
            row.add_to(sums);
            row.ended.is_none_or(|ended| now.saturating_duration_since(ended) < KEEP)
        });
    }

    /// What was called in all that there were until the last step.
    pub(super) fn collectives(&self) -> Vec<Collectives> {
        let rows = CollectiveKind::ALL.into_iter().zip(self.sums);
        let rows = rows.filter(|(_, (count, _))| *count > 0);
        rows.map(|(kind, (count, bytes))| Collectives { kind, count, bytes: Some(bytes) }).collect()
    }

    /// What they come to, the busiest first.
    pub(super) fn activity(&self, lags: &Lags) -> Vec<Communicator> {
        let mut rows = Vec::from_iter(self.rows.values().map(|row| row.activity(lags)));
        let joining = self.joining.iter().map(Joining::activity);
        let calls = |row: &Communicator| row.collectives.iter().map(|row| row.count).sum::<u64>();
        rows.sort_by_key(|row| std::cmp::Reverse((calls(row), row.last)));
        rows.extend(joining);
        rows.truncate(TOLD);
        rows
    }

    fn begin_joining(&mut self, call: &CommunicatorCall, began: UnixNanos) {
        // A thread that joins again has returned from the last one, unseen.
        self.joining.retain(|joining| joining.tid != call.tid);
        if self.joining.len() < MAX_JOINING {
            let (identity, splits) = (self.identify(call), self.splits_of(call.parent));
            self.joining.push(Joining { tid: call.tid, identity, splits, began });
        }
    }

    fn join(&mut self, call: &CommunicatorCall, now: Instant) -> Option<GpuEventKind> {
        let began = self.joining.iter().position(|joining| joining.tid == call.tid);
        let began = began.map(|at| self.joining.swap_remove(at));
        if !JOINED.contains(&call.result) {
            return None;
        }
        // A split is numbered when it begins: another may have begun meanwhile.
        let (identity, number) = match began {
            Some(began) if call.parent != 0 => (began.identity, began.splits),
            _ => (self.identify(call), self.splits_of(call.parent)),
        };
        let took = Duration::from_nanos(call.took_ns);
        if call.parent != 0 {
            // `NCCL_SPLIT_NOCOLOR`: this process is in none of the parts.
            let is_in_none = call.ranks.cast_signed() < 0;
            if let Some(parent) = self.rows.get_mut(&call.parent) {
                let hash = if is_in_none { 0 } else { identity.hash };
                let (address, key) = (call.communicator, call.rank.cast_signed());
                parent.splits.add(Split { number, hash, address, key, took });
            }
            if is_in_none {
                return None;
            }
        }
        if call.communicator != 0 {
            self.begin(call.communicator, identity, now);
        } else if self.nowhere.len() < MAX_JOINING {
            self.nowhere.push(identity);
        }
        Some(GpuEventKind::CommunicatorInit {
            communicator: identity.hash,
            rank: identity.rank?,
            ranks: identity.ranks?,
            took,
        })
    }

    /// Begins a communicator at an address that another one may have had.
    fn begin(&mut self, communicator: u64, identity: Identity, now: Instant) {
        // Calls were counted before this one's return was read.
        let is_it = |row: &Row| !row.is_whole && !row.is_ended();
        let before = match self.rows.get(&communicator) {
            Some(row) if !is_it(row) => self.rows.remove(&communicator),
            _ => None,
        };
        let before = before.map(|mut row| {
            row.add_to(&mut self.sums);
            row
        });
        let Some(row) = self.row(communicator, now) else { return };
        row.identity = identity;
        row.is_whole = true;
        // The kernel goes on from what the other one came to.
        if let Some(before) = before.filter(|row| row.counters != Kept::Forgotten) {
            row.kinds = before.kinds.map(|kind| kind.anew());
        }
    }

    fn abort(&mut self, communicator: u64, now: Instant) -> GpuEventKind {
        let identity = self.rows.get(&communicator).map_or(Identity::default(), |row| row.identity);
        self.end(communicator, CommunicatorState::Aborted, now);
        GpuEventKind::CommunicatorAbort { communicator: identity.hash, rank: identity.rank }
    }

    fn end(&mut self, communicator: u64, state: CommunicatorState, now: Instant) {
        let Some(row) = self.row(communicator, now) else {
            if self.left_out.remove(&communicator) {
                self.left_out_ended.push(communicator);
            }
            return;
        };
        // What was aborted is destroyed as well, later.
        if row.ended.is_none() {
            row.state = state;
            row.ended = Some(now);
            row.counters = Kept::ToForget;
        }
    }

    /// A communicator's row, made where there is none and there is room.
    fn row(&mut self, communicator: u64, now: Instant) -> Option<&mut Row> {
        if !self.rows.contains_key(&communicator) && self.rows.len() >= MAX_COMMUNICATORS {
            let ended = self.rows.iter().filter(|(_, row)| row.is_ended());
            let oldest = ended.min_by_key(|(_, row)| row.ended).map(|(address, _)| *address);
            let Some(oldest) = oldest else {
                if self.left_out.len() < MAX_LEFT_OUT {
                    self.left_out.insert(communicator);
                }
                return None;
            };
            self.forget(oldest);
        }
        self.left_out.remove(&communicator);
        let nowhere = &mut self.nowhere;
        Some(self.rows.entry(communicator).or_insert_with(|| {
            // The only one that it can be; of several, nothing tells which.
            let identity = if nowhere.len() == 1 { nowhere.pop() } else { None };
            let is_whole = identity.is_some();
            Row { is_whole, ..Row::new(identity.unwrap_or_default(), now) }
        }))
    }

    /// Takes a communicator's row away. What was called stays in the sums.
    fn forget(&mut self, communicator: u64) {
        if let Some(mut row) = self.rows.remove(&communicator) {
            row.add_to(&mut self.sums);
        }
    }

    /// What a communicator is known by. Of a split, all that are in it know the parent, how many were
    /// split off before, and the colour; the number in it depends on the others' keys.
    fn identify(&self, call: &CommunicatorCall) -> Identity {
        if call.parent == 0 {
            return Identity { hash: call.hash, rank: Some(call.rank), ranks: Some(call.ranks) };
        }
        let hash = self.rows.get(&call.parent).filter(|parent| parent.identity.hash != 0).map_or(
            0,
            |parent| {
                let part = u64::from(parent.splits.count()) << 32 | u64::from(call.ranks);
                mix(parent.identity.hash, part)
            },
        );
        Identity { hash, rank: None, ranks: None }
    }

    fn splits_of(&self, communicator: u64) -> u32 {
        self.rows.get(&communicator).map_or(0, |row| row.splits.count())
    }
}

/// A number from two, the same everywhere.
const fn mix(first: u64, second: u64) -> u64 {
    let mixed =
        (first ^ second.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = mixed ^ (mixed >> 31);
    mixed | (mixed == 0) as u64
}

#[cfg(test)]
mod tests;
