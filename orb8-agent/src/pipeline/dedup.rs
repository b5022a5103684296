//! Counting a packet once that several hooks see.
//!
//! A packet crosses several interfaces (a veth, a bridge, the uplink), and where the socket hook runs
//! too, a local socket has counted it already. So a 5-tuple is counted where it was observed first,
//! and with both hooks an interface's sample waits until the socket hook has had its say.

use std::collections::VecDeque;

use hashbrown::HashMap;
use orb8_common::flow::{FlowKey, HOOK_SOCKET};

use crate::event::{FlowSample, UnixNanos};

/// A 5-tuple that is not seen for so many cycles at its point may be counted at another one: its
/// route changed.
const OWNED_CYCLES: u32 = 3;
/// A 5-tuple that is not seen anywhere for so many cycles is forgotten.
const FORGET_CYCLES: u32 = 64;
/// A 5-tuple that the socket hook did not report for so many cycles is forgotten: an interface's
/// sample waits for one.
const SOCKET_CYCLES: u32 = 4;
/// Tuples of the socket hook that are remembered, in parts of the limit: short connections make far
/// more in a few cycles than there are flows held.
const SOCKETS_PART: usize = 4;

/// Decides which samples count.
#[derive(Debug)]
pub(super) struct Dedup {
    /// Whether the socket hook runs beside the interface hook.
    both: bool,
    /// Most tuples remembered of interfaces, and most samples that wait.
    limit: usize,
    cycle: u32,
    points: ByTuple<Owned>,
    /// Tuples that the socket hook reported, with the cycle of the last report.
    sockets: ByTuple<u32>,
    /// The last cycle in which there were more than can be remembered.
    forgets_sockets: u32,
    waiting: VecDeque<Waiting>,
}

type ByTuple<T> = HashMap<Tuple, T, foldhash::fast::RandomState>;

/// What is the same wherever a packet is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tuple {
    addresses: [[u8; 16]; 2],
    ports: [u16; 2],
    protocol: u8,
    flags: u8,
}

/// Where a packet was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    ifindex: u32,
    vlans: [u16; 2],
    direction: u8,
}

#[derive(Clone, Copy, Debug)]
struct Owned {
    by: Point,
    cycle: u32,
}

/// A sample whose turn has not come.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) time: UnixNanos,
    pub(super) sample: FlowSample,
    since: u32,
}

/// What to do with a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody else counts it.
    Count,
    /// It is counted elsewhere.
    Duplicate,
    /// The next cycle tells; [`Dedup::wait`] takes it.
    Wait,
}

impl Dedup {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            both: false,
            limit,
            cycle: FORGET_CYCLES,
            points: ByTuple::default(),
            sockets: ByTuple::default(),
            forgets_sockets: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Tells whether the socket hook runs beside the interface hook.
    pub(super) fn set_both(&mut self, both: bool) {
        self.both = both;
    }

    /// Judges a sample as it arrives.
    pub(super) fn judge(&mut self, sample: &FlowSample) -> Verdict {
        let tuple = Tuple::of(&sample.key);
        if sample.key.hook == HOOK_SOCKET {
            if self.both {
                self.remember(tuple);
            }
            return Verdict::Count;
        }
        if !self.both {
            return self.judge_point(tuple, Point::of(&sample.key));
        }
        match self.is_of_socket(&tuple) {
            true => Verdict::Duplicate,
            false if self.waiting.len() < self.limit => Verdict::Wait,
            // It cannot be told, and a packet that counts twice is worse than one left out: what is
            // left out is a number too.
            false => Verdict::Duplicate,
        }
    }

    /// Notes that the socket hook counts a tuple.
    fn remember(&mut self, tuple: Tuple) {
        let has_room = self.sockets.len() < self.limit * SOCKETS_PART;
        match self.sockets.get_mut(&tuple) {
            Some(seen) => *seen = self.cycle,
            None if has_room => {
                self.sockets.insert(tuple, self.cycle);
            }
            None => self.forgets_sockets = self.cycle,
        }
    }

    /// Whether the socket hook counts a tuple, or may do so: some were too many to be remembered.
    fn is_of_socket(&self, tuple: &Tuple) -> bool {
        self.sockets.contains_key(tuple) || self.cycle - self.forgets_sockets < SOCKET_CYCLES
    }

    /// Keeps a sample for the next cycle.
    pub(super) fn wait(&mut self, time: UnixNanos, sample: FlowSample) {
        self.waiting.push_back(Waiting { time, sample, since: self.cycle });
    }

    /// Returns the next sample that waited for a whole cycle, and whether it counts.
    pub(super) fn release(&mut self) -> Option<(Waiting, Verdict)> {
        let waiting = self.waiting.pop_front_if(|waiting| waiting.since < self.cycle)?;
        let tuple = Tuple::of(&waiting.sample.key);
        let verdict = match self.is_of_socket(&tuple) {
            true => Verdict::Duplicate,
            false => self.judge_point(tuple, Point::of(&waiting.sample.key)),
        };
        Some((waiting, verdict))
    }

    /// Ends a cycle, after everything was released.
    pub(super) fn end_cycle(&mut self) {
        self.cycle += 1;
        let cycle = self.cycle;
        // Now and then: a sweep looks at every entry.
        if cycle.is_multiple_of(FORGET_CYCLES / 4) || self.is_full() {
            self.points.retain(|_, owned| cycle - owned.cycle < FORGET_CYCLES);
        }
        if cycle.is_multiple_of(SOCKET_CYCLES) {
            self.sockets.retain(|_, seen| cycle - *seen < SOCKET_CYCLES);
            self.sockets.shrink_to(self.limit);
        }
    }

    fn is_full(&self) -> bool {
        self.points.len() >= self.limit
    }

    fn judge_point(&mut self, tuple: Tuple, point: Point) -> Verdict {
        let cycle = self.cycle;
        match self.points.get_mut(&tuple) {
            Some(owned) if owned.by == point || cycle - owned.cycle > OWNED_CYCLES => {
                *owned = Owned { by: point, cycle };
                Verdict::Count
            }
            Some(_) => Verdict::Duplicate,
            None => {
                if self.points.len() < self.limit {
                    self.points.insert(tuple, Owned { by: point, cycle });
                }
                Verdict::Count
            }
        }
    }
}

impl Tuple {
    fn of(key: &FlowKey) -> Self {
        Self {
            addresses: [key.source_addr, key.destination_addr],
            ports: [key.source_port, key.destination_port],
            protocol: key.protocol,
            flags: key.flags,
        }
    }
}

impl Point {
    fn of(key: &FlowKey) -> Self {
        Self { ifindex: key.ifindex, vlans: [key.vlan, key.inner_vlan], direction: key.direction }
    }
}
