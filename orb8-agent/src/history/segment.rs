//! What flows moved in a few seconds.

use std::sync::Arc;

use orb8_common::flow::FlowKey;

use crate::event::{FlowSample, UnixNanos};
use crate::identity::Ends;
use crate::store::{Flow, Label};

/// What a closed segment takes besides its parts: itself, the counts of its `Arc` and its place.
const AROUND: usize = size_of::<Segment>() + 4 * size_of::<usize>();

/// A flow, apart from what it moved.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) key: FlowKey,
    pub(super) ends: Ends,
    pub(super) label: Option<Arc<Label>>,
    pub(super) first: UnixNanos,
    pub(super) cgroup_id: u64,
    pub(super) cookie: u64,
    pub(super) ifindex: u32,
    pub(super) self_traffic: bool,
    /// Whether it is the first word of this flow: what was told of the key before is another's.
    pub(super) begins: bool,
}

/// What a flow added.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delta {
    pub(super) bytes: u64,
    /// Number of the description in the chapter.
    pub(super) flow: u32,
    /// What exceeds it is among the segment's carries.
    packets: u32,
    /// Last packet, microseconds since the segment's base.
    last_us: u32,
    pub(super) tcp_flags: u8,
}

/// A part of a delta that has no room in it.
#[derive(Clone, Copy, Debug)]
struct Carry {
    delta: u32,
    packets: u64,
}

/// What flows moved between two times, for good.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) start: UnixNanos,
    pub(super) end: UnixNanos,
    /// What last packets are told by.
    base: UnixNanos,
    /// Descriptions of the chapter before this segment's.
    pub(super) first_flow: u32,
    /// Flows that the chapter did not know, or not as they are.
    pub(super) flows: Box<[Described]>,
    pub(super) deltas: Box<[Delta]>,
    carries: Box<[Carry]>,
}

/// The segment that is being made.
#[derive(Debug)]
pub(super) struct Open {
    start: UnixNanos,
    base: Option<UnixNanos>,
    pub(super) flows: Vec<Described>,
    deltas: Vec<Delta>,
    carries: Vec<Carry>,
    /// By number of the description: the place of its delta here plus one, 0 for none.
    places: Vec<u32>,
}

impl Described {
    pub(super) fn new(flow: &Flow, begins: bool) -> Self {
        Self {
            key: flow.key,
            ends: flow.ends.clone(),
            label: flow.label.clone(),
            first: flow.first,
            cgroup_id: flow.cgroup_id,
            cookie: flow.cookie,
            ifindex: flow.ifindex,
            self_traffic: flow.self_traffic,
            begins,
        }
    }

    /// Whether it still says what is known of the flow.
    pub(super) fn is_current(&self, flow: &Flow) -> bool {
        // Shared parts are compared by their address first.
        self.ends == flow.ends
            && self.label == flow.label
            && (self.cgroup_id, self.cookie) == (flow.cgroup_id, flow.cookie)
            && self.self_traffic == flow.self_traffic
    }

    /// Takes what is known of the flow now.
    pub(super) fn learn(&mut self, flow: &Flow) {
        if !self.is_current(flow) {
            *self = Self::new(flow, self.begins);
        }
    }
}

impl Segment {
    /// Returns the packets of a delta by its place.
    pub(super) fn packets(&self, place: usize) -> u64 {
        let carried = self.carries.iter().filter(|carry| carry.delta as usize == place);
        let carried: u64 = carried.map(|carry| carry.packets).sum();
        u64::from(self.deltas[place].packets) + carried
    }

    /// Returns the last packet of a delta.
    pub(super) fn last(&self, delta: &Delta) -> UnixNanos {
        UnixNanos(self.base.0 + u64::from(delta.last_us) * 1_000)
    }

    /// Returns what it has in memory.
    pub(super) fn bytes(&self) -> usize {
        AROUND
            + size_of_val(&*self.flows)
            + size_of_val(&*self.deltas)
            + size_of_val(&*self.carries)
    }
}

impl Open {
    pub(super) const fn new(start: UnixNanos) -> Self {
        Self {
            start,
            base: None,
            flows: Vec::new(),
            deltas: Vec::new(),
            carries: Vec::new(),
            places: Vec::new(),
        }
    }

    /// Adds to the flow whose description has the number.
    pub(super) fn add(&mut self, flow: u32, sample: &FlowSample) {
        // Of a drain, all last packets are later than the drain before: the first one's may be by so
        // much later than another's.
        const SLACK_NS: u64 = 120 * 1_000_000_000;
        let base = *self.base.get_or_insert(UnixNanos(sample.last.0.saturating_sub(SLACK_NS)));
        let last_us = sample.last.0.saturating_sub(base.0) / 1_000;
        let last_us = u32::try_from(last_us).unwrap_or(u32::MAX);
        if self.places.len() <= flow as usize {
            self.places.resize(flow as usize + 1, 0);
        }
        let place = &mut self.places[flow as usize];
        if *place == 0 {
            let delta = Delta { bytes: 0, flow, packets: 0, last_us, tcp_flags: 0 };
            self.deltas.push(delta);
            *place = self.deltas.len() as u32;
        }
        let at = *place - 1;
        let delta = &mut self.deltas[at as usize];
        delta.bytes = delta.bytes.saturating_add(sample.bytes);
        delta.last_us = delta.last_us.max(last_us);
        delta.tcp_flags |= sample.tcp_flags;
        let packets = u64::from(delta.packets).saturating_add(sample.packets);
        delta.packets = u32::try_from(packets).unwrap_or(u32::MAX);
        let rest = packets - u64::from(delta.packets);
        if rest > 0 {
            self.carries.push(Carry { delta: at, packets: rest });
        }
    }

    /// Whether nothing moved yet.
    pub(super) const fn is_empty(&self) -> bool {
        self.deltas.is_empty()
    }

    /// Returns what it will take when it is closed.
    pub(super) const fn used(&self) -> usize {
        self.flows.len() * size_of::<Described>() + self.deltas.len() * size_of::<Delta>()
    }

    /// Returns what it has in memory, reserved room included.
    pub(super) const fn bytes(&self) -> usize {
        self.flows.capacity() * size_of::<Described>()
            + self.deltas.capacity() * size_of::<Delta>()
            + self.carries.capacity() * size_of::<Carry>()
            + self.places.capacity() * size_of::<u32>()
    }

    /// Ends it and begins the next one; `None` where nothing moved.
    pub(super) fn close(&mut self, first_flow: u32, end: UnixNanos) -> Option<Segment> {
        // Clocks may be set back, and each segment is in some window.
        let end = end.max(UnixNanos(self.start.0.saturating_add(1)));
        let start = std::mem::replace(&mut self.start, end);
        let Some(base) = self.base.take() else {
            self.deltas = Vec::new();
            return None;
        };
        for delta in &self.deltas {
            self.places[delta.flow as usize] = 0;
        }
        // The next one will be about as large, and its buffers need not grow.
        let deltas = Vec::with_capacity(self.deltas.len());
        Some(Segment {
            start,
            end,
            base,
            first_flow,
            flows: std::mem::take(&mut self.flows).into_boxed_slice(),
            deltas: std::mem::replace(&mut self.deltas, deltas).into_boxed_slice(),
            carries: std::mem::take(&mut self.carries).into_boxed_slice(),
        })
    }

    /// Forgets the numbers of a chapter that is complete.
    pub(super) fn forget_places(&mut self) {
        self.places = Vec::new();
    }
}
