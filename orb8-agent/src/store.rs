//! What the agent holds of each signal: here the flows, [`dns`] and [`tcp`] beside them. All of it
//! is bounded, and nothing that was counted leaves the totals.
//!
//! ```text
//!        new ──▶ live ──FIN, RST──▶ closing ──last counts──▶ ended ──grace──▶ retired
//!                 └──idle──▶ retired   └── End is told here, with the last counts
//! ```
//! When the store is full, ended flows make room first, then those longest without traffic.
//! Every step is O(1): each state is a list in the order of the last change.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use orb8_common::flow::{DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey};
use zerocopy::IntoBytes;

use crate::event::{FlowSample, SampleKind, SocketEnd, UnixNanos};
use crate::identity::Workload;
use flow::{five_tuple, reverse};
use slab::{Slab, Slot, State};
use sockets::SocketIndex;

pub mod dns;
mod fields;
mod flow;
mod histogram;
mod names;
mod query;
mod slab;
mod sockets;
pub mod tcp;

pub(crate) use fields::owner_fields;
pub use fields::{FlowView, InterfaceNames, direction_of, ip_of, protocol_of, state_of};
pub use flow::{Added, EndReason, Flow, Looked, Moved, Totals, local_end};
pub use histogram::Histogram;
pub use names::{Label, NameTable};
pub use query::{FlowRow, Page, Query, SortKey};
pub(crate) use query::{per_second, tie};
pub use tcp::TcpHealth;

/// TCP flags as in the header.
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const TCP: u8 = 6;

/// An ended flow can be asked for this long, so that a slow eye still sees it.
const GRACE: Duration = Duration::from_secs(10);

/// Packets so long after a close are of a connection whose opening was not seen, not stragglers.
const REOPENED_AFTER: Duration = Duration::from_secs(5);

/// By how much the time of a drained packet may be off: two of the kernel's longest ticks. The SYN
/// that a RST answered must not pass for a later one.
const TICKS: Duration = Duration::from_millis(20);

/// Drains that may pass until the last counts of a closed flow are in: the kernel's table has two
/// generations.
const CLOSING_CYCLES: u32 = 2;

/// Bounds of a [`FlowStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Flows that are kept.
    pub max_flows: u32,
    /// A flow without packets for this long has ended.
    pub idle_timeout: Duration,
}

/// A flow as it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its final state.
    pub row: FlowRow,
    /// Why.
    pub reason: EndReason,
    /// What was added since it was closed, which no [`Change::Updated`] told.
    pub added: Added,
}

/// What a sample did to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It made a flow.
    New,
    /// It added counts to a flow.
    Updated,
    /// Nothing to tell now: it was a moment of a flow that is known, or it added the last counts to
    /// a flow that was closed, which [`FlowStore::take_ended`] tells with the end.
    Unchanged,
}

/// Whose a sample is.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    /// The owner of the local end.
    pub subject: Option<Arc<Workload>>,
    /// Whether it is the agent's own API traffic.
    pub self_traffic: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub struct FlowStore {
    config: StoreConfig,
    index: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    slab: Slab,
    sockets: SocketIndex,
    ended: Vec<Ended>,
    started: Instant,
    cycle: u32,
    cycle_started: Instant,
    /// Length of the last complete cycle: what rates are over.
    interval: Duration,
    counted: Totals,
    retired: Totals,
    evicted: Totals,
}

impl FlowStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new(config: StoreConfig, now: Instant) -> Self {
        Self {
            config,
            index: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            slab: Slab::default(),
            sockets: SocketIndex::default(),
            ended: Vec::new(),
            started: now,
            cycle: 1,
            cycle_started: now,
            interval: Duration::ZERO,
            counted: Totals::default(),
            retired: Totals::default(),
            evicted: Totals::default(),
        }
    }

    /// Adds a sample, and returns what that did with the flow as it is now.
    pub fn apply(
        &mut self,
        sample: &FlowSample,
        owner: Owner,
        now: Instant,
    ) -> (Change, &mut Flow) {
        self.counted.packets += sample.packets;
        self.counted.bytes += sample.bytes;
        let known = self.find(&sample.key).filter(|at| !self.is_reused(*at, sample));
        let (change, at) = match known {
            Some(at) if sample.kind == SampleKind::Counted => (Change::Updated, at),
            Some(at) => (Change::Unchanged, at),
            None => (Change::New, self.insert(sample, now)),
        };
        let touched = self.millis(now);
        let slot = &mut self.slab[at];
        slot.flow.add(sample, owner, self.cycle);
        if slot.state == State::Live {
            slot.touched = touched;
            self.slab.move_to(at, State::Live);
        }
        if sample.key.protocol == TCP {
            self.follow_close(at, sample);
        }
        let slot = &mut self.slab[at];
        let change = match change {
            Change::Updated if slot.state == State::Closing => {
                slot.flow.untold.add(sample);
                Change::Unchanged
            }
            change => change,
        };
        (change, &mut slot.flow)
    }

    /// Ends a drain cycle: rates are over what came since the last one, closed flows whose last
    /// counts are in are told, and what is idle or past its grace goes.
    pub fn end_cycle(&mut self, now: Instant) {
        self.interval = now.saturating_duration_since(self.cycle_started);
        self.cycle_started = now;
        self.tell_closed(now);
        self.expire(now);
        self.cycle = self.cycle.wrapping_add(1);
    }

    /// Returns the flows that ended since the last call, in the order of their ends.
    pub fn take_ended(&mut self) -> std::vec::Drain<'_, Ended> {
        self.ended.drain(..)
    }

    /// Returns how many flows the store holds, those ended a moment ago included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether the store holds no flow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Returns what was counted since start, over all flows there ever were.
    #[must_use]
    pub fn counted(&self) -> Totals {
        self.counted
    }

    /// Returns the flows that ended and are not held any more.
    #[must_use]
    pub fn retired(&self) -> Totals {
        self.retired
    }

    /// Returns the flows that had not ended and for which there was no room.
    #[must_use]
    pub fn evicted(&self) -> Totals {
        self.evicted
    }

    /// Whether the sample is of a later connection than the flow that its key names.
    fn is_reused(&mut self, at: u32, sample: &FlowSample) -> bool {
        let slot = &self.slab[at];
        let slack = match sample.kind {
            // Without one it is the last word of a connection whose socket is gone already.
            SampleKind::New if sample.tcp_flags & SYN != 0 => Some(0),
            SampleKind::Counted if sample.tcp_flags & SYN != 0 => Some(TICKS.as_nanos() as u64),
            SampleKind::New | SampleKind::Counted | SampleKind::Fin | SampleKind::Rst => None,
        };
        let is_later = |slack| sample.first.0 > slot.closed_at.0.saturating_add(slack);
        let is_reused = slot.state != State::Live && slack.is_some_and(is_later);
        if is_reused {
            self.retire(at);
        }
        is_reused
    }

    fn insert(&mut self, sample: &FlowSample, now: Instant) -> u32 {
        if self.len() >= self.config.max_flows as usize {
            self.make_room();
        }
        self.counted.flows += 1;
        let slot = Slot::new(Flow::new(sample), self.millis(now));
        let at = self.slab.insert(slot);
        let hash = self.hash(&sample.key);
        let Self { index, slab, hasher, .. } = self;
        index.insert_unique(hash, at, |at| hash_with(hasher, &slab[*at].flow.key));
        self.sockets.insert(slab, at);
        at
    }

    fn make_room(&mut self) {
        if let Some(at) = self.slab.oldest(State::Ended).or(self.slab.oldest(State::Closing)) {
            self.retire(at);
        } else if let Some(at) = self.slab.oldest(State::Live) {
            let flow = self.remove(at);
            self.evicted.add(&flow);
            self.tell(flow, EndReason::Evicted);
        }
    }

    /// Closes the flow and its other direction when the sample brings what closes them.
    fn follow_close(&mut self, at: u32, sample: &FlowSample) {
        let closes = match sample.kind {
            SampleKind::Fin => FIN,
            SampleKind::Rst => RST,
            SampleKind::New | SampleKind::Counted => sample.tcp_flags & (FIN | RST),
        };
        if closes == 0 {
            return;
        }
        self.slab[at].flow.tcp_flags |= closes;
        self.slab[at].is_drained |= sample.kind == SampleKind::Counted;
        let reverse = self.find(&reverse(&sample.key));
        let reverse_fin = reverse.is_none_or(|at| self.slab[at].flow.tcp_flags & FIN != 0);
        let reason = match closes & RST {
            0 if !reverse_fin => return,
            0 => EndReason::Fin,
            _ => EndReason::Rst,
        };
        for at in [Some(at), reverse].into_iter().flatten() {
            self.close(at, reason, sample.last);
        }
    }

    fn close(&mut self, at: u32, reason: EndReason, when: UnixNanos) {
        let cycle = self.cycle;
        let slot = &mut self.slab[at];
        if slot.state == State::Live {
            slot.flow.end = Some(reason);
            slot.closed_at = when;
            slot.closed_in = cycle;
            self.slab.move_to(at, State::Closing);
        }
    }

    fn tell_closed(&mut self, now: Instant) {
        let touched = self.millis(now);
        let mut next = self.slab.oldest(State::Closing);
        while let Some(at) = next {
            next = self.slab.after(at);
            let cycle = self.cycle;
            let slot = &mut self.slab[at];
            if slot.is_drained || cycle.wrapping_sub(slot.closed_in) >= CLOSING_CYCLES {
                slot.touched = touched;
                let flow = slot.flow.clone();
                slot.flow.untold = Added::default();
                // Who is told of its end takes it out of there.
                slot.flow.counted_in = None;
                self.slab.move_to(at, State::Ended);
                self.tell_as_closed(flow);
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        let now = self.millis(now);
        let idle = millis(self.config.idle_timeout);
        while let Some(at) = self.slab.oldest(State::Live) {
            if now.saturating_sub(self.slab[at].touched) < idle {
                break;
            }
            let flow = self.remove(at);
            self.retired.add(&flow);
            self.tell(flow, EndReason::Idle);
        }
        while let Some(at) = self.slab.oldest(State::Ended) {
            let slot = &mut self.slab[at];
            if now.saturating_sub(slot.touched) < millis(GRACE) {
                break;
            }
            if slot.flow.last.0.saturating_sub(slot.closed_at.0) > REOPENED_AFTER.as_nanos() as u64
            {
                slot.flow.end = None;
                slot.is_drained = false;
                slot.touched = now;
                self.slab.move_to(at, State::Live);
            } else {
                self.retire(at);
            }
        }
    }

    /// Lets a flow go that has ended, or is about to.
    fn retire(&mut self, at: u32) {
        let is_told = self.slab[at].state == State::Ended;
        let flow = self.remove(at);
        self.retired.add(&flow);
        if !is_told {
            self.tell_as_closed(flow);
        }
    }

    fn remove(&mut self, at: u32) -> Flow {
        let hash = self.hash(&self.slab[at].flow.key);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == at) {
            entry.remove();
        }
        self.sockets.remove(&mut self.slab, at);
        self.slab.remove(at)
    }

    fn tell_as_closed(&mut self, flow: Flow) {
        let reason = flow.end.unwrap_or(EndReason::Idle);
        self.tell(flow, reason);
    }

    fn tell(&mut self, mut flow: Flow, reason: EndReason) {
        flow.end = Some(reason);
        let added = std::mem::take(&mut flow.untold);
        let row = self.row(flow);
        self.ended.push(Ended { row, reason, added });
    }

    /// Returns a flow, to tell who is at its ends.
    pub fn get_mut(&mut self, key: &FlowKey) -> Option<&mut Flow> {
        let at = self.find(key)?;
        Some(&mut self.slab[at].flow)
    }

    /// Looks again for the names of who is at the ends, by cgroup.
    pub fn find_names(&mut self, mut find: impl FnMut(&Workload) -> Option<Arc<Workload>>) {
        for flow in self.slab.flows_mut() {
            flow.ends.source.rename(&mut find);
            flow.ends.destination.rename(&mut find);
        }
    }

    /// Visits the cgroup of each local socket that is at `end` and talks to `other`.
    pub fn visit_sockets(
        &self,
        protocol: u8,
        end: SocketEnd,
        other: SocketEnd,
        mut visit: impl FnMut(u64),
    ) {
        let sent = five_tuple(protocol, end, other);
        let received = five_tuple(protocol, other, end);
        for (key, direction) in [(sent, DIRECTION_EGRESS), (received, DIRECTION_INGRESS)] {
            self.sockets.visit(&self.slab, &FlowKey { direction, ..key }, &mut visit);
        }
    }

    fn find(&self, key: &FlowKey) -> Option<u32> {
        let equal = |at: &u32| self.slab[*at].flow.key.as_bytes() == key.as_bytes();
        self.index.find(self.hash(key), equal).copied()
    }

    fn hash(&self, key: &FlowKey) -> u64 {
        hash_with(&self.hasher, key)
    }

    fn millis(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.started))
    }
}

fn hash_with(hasher: &foldhash::fast::RandomState, key: &FlowKey) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(key.as_bytes());
    hasher.finish()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
