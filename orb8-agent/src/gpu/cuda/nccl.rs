//! NCCL's communicators of one process, as its calls tell of them.
//!
//! A communicator is known by its address in the process, and to other processes by the hash of its
//! unique id. Calls only enqueue: how far a rank is shows in how many it made.

mod lag;
mod row;

pub(super) use lag::{Lags, Member};
pub(super) use row::Identity;

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use orb8_common::gpu::{CALL_ABORTED, CALL_DESTROYED, CALL_JOINED, CALL_JOINING, CommunicatorCall};

use super::ras::Answered;
use super::sums::Estimate;
use crate::event::UnixNanos;
use crate::gpu::activity::{Communicator, CommunicatorState};
use crate::gpu::event::GpuEventKind;
use row::{Kept, Row};

/// Communicators of one process that are followed: jobs have one for each way to divide the work.
const MAX_COMMUNICATORS: usize = 64;
/// Of them, those that are told.
const TOLD: usize = 16;
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
    no_room: u64,
}

/// A call that has not returned.
#[derive(Clone, Copy, Debug)]
struct Joining {
    tid: u32,
    identity: Identity,
    began: UnixNanos,
}

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
            self.rows.remove(&communicator);
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
        row.answered = answered;
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
        ended.map(|(address, row)| {
            row.counters = Kept::Forgotten;
            *address
        })
    }

    /// Whether there are any.
    pub(super) fn is_used(&self) -> bool {
        !self.rows.is_empty() || !self.joining.is_empty()
    }

    /// Communicators that there was no row for.
    pub(super) const fn no_room(&self) -> u64 {
        self.no_room
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

    /// Forgets those that ended long ago.
    pub(super) fn step(&mut self, now: Instant) {
        self.rows.retain(|_, row| {
            row.ended.is_none_or(|ended| now.saturating_duration_since(ended) < KEEP)
        });
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
            let identity = self.identify(call);
            self.joining.push(Joining { tid: call.tid, identity, began });
        }
    }

    fn join(&mut self, call: &CommunicatorCall, now: Instant) -> Option<GpuEventKind> {
        let began = self.joining.iter().position(|joining| joining.tid == call.tid);
        let began = began.map(|at| self.joining.swap_remove(at));
        if !JOINED.contains(&call.result) {
            return None;
        }
        let identity = self.identify(call);
        // A split is numbered when it begins: another may have begun meanwhile.
        let identity = match began {
            Some(began) if call.parent != 0 => began.identity,
            _ => identity,
        };
        if call.parent != 0 {
            if let Some(parent) = self.rows.get_mut(&call.parent) {
                parent.splits += 1;
            }
            // `NCCL_SPLIT_NOCOLOR`: this process is in none of the parts.
            if call.ranks.cast_signed() < 0 {
                return None;
            }
        }
        if call.communicator != 0 {
            self.rows.remove(&call.communicator);
            if let Some(row) = self.row(call.communicator, now) {
                row.identity = identity;
                row.is_whole = true;
            }
        } else if self.nowhere.len() < MAX_JOINING {
            self.nowhere.push(identity);
        }
        Some(GpuEventKind::CommunicatorInit {
            communicator: identity.hash,
            rank: identity.rank?,
            ranks: identity.ranks?,
            took: Duration::from_nanos(call.took_ns),
        })
    }

    fn abort(&mut self, communicator: u64, now: Instant) -> GpuEventKind {
        let identity = self.rows.get(&communicator).map_or(Identity::default(), |row| row.identity);
        self.end(communicator, CommunicatorState::Aborted, now);
        GpuEventKind::CommunicatorAbort { communicator: identity.hash, rank: identity.rank }
    }

    fn end(&mut self, communicator: u64, state: CommunicatorState, now: Instant) {
        let Some(row) = self.row(communicator, now) else { return };
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
                self.no_room += 1;
                return None;
            };
            self.rows.remove(&oldest);
        }
        let nowhere = &mut self.nowhere;
        Some(self.rows.entry(communicator).or_insert_with(|| {
            // The only one that it can be; of several, nothing tells which.
            let identity = if nowhere.len() == 1 { nowhere.pop() } else { None };
            let is_whole = identity.is_some();
            Row { is_whole, ..Row::new(identity.unwrap_or_default(), now) }
        }))
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
                let part = u64::from(parent.splits) << 32 | u64::from(call.ranks);
                mix(parent.identity.hash, part)
            },
        );
        Identity { hash, rank: None, ranks: None }
    }
}

impl Joining {
    fn activity(&self) -> Communicator {
        Communicator {
            hash: self.identity.hash,
            rank: self.identity.rank,
            ranks: self.identity.ranks,
            collectives: Vec::new(),
            last: self.began,
            behind: None,
            slowest_rank: None,
            missing_ranks: Vec::new(),
            is_from_ras: false,
            state: CommunicatorState::Initializing,
        }
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
