//! Asking the store.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;
use std::time::Duration;

use orb8_common::flow::FlowKey;
use orb8_proto::filter::Matcher;

use super::{Added, Flow, FlowStore, FlowView, InterfaceNames, TcpHealth};
use crate::event::UnixNanos;

/// What flows are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortKey {
    /// IP bytes.
    #[default]
    Bytes,
    /// Wire packets.
    Packets,
    /// Last packet.
    LastSeen,
    /// First packet.
    FirstSeen,
    /// Bytes per second over the last drain interval.
    Rate,
}

/// Which flows, and in what order.
#[derive(Clone, Debug)]
pub struct Query {
    /// Which flows.
    pub matcher: Matcher,
    /// Whether the agent's own traffic is wanted too.
    pub include_self_traffic: bool,
    /// Only flows with a packet at or after it.
    pub start: Option<UnixNanos>,
    /// Only flows with a packet at or before it.
    pub end: Option<UnixNanos>,
    /// Order.
    pub sort: SortKey,
    /// Smallest first.
    pub ascending: bool,
    /// How many.
    pub limit: usize,
}

/// A flow with its rates, and what is known of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRow {
    /// The flow.
    pub flow: Flow,
    /// Average over the last drain interval.
    pub bytes_per_second: u64,
    /// Average over the last drain interval.
    pub packets_per_second: u64,
    /// What is known of its connection. The store does not know it; who has the connections adds it.
    pub tcp: Option<Arc<TcpHealth>>,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// As many as asked for.
    pub rows: Vec<FlowRow>,
    /// Flows that matched.
    pub total: u64,
}

impl Query {
    fn matches(&self, flow: &Flow, interfaces: &InterfaceNames) -> bool {
        self.start.is_none_or(|start| flow.last >= start)
            && self.end.is_none_or(|end| flow.first <= end)
            && self.wants(flow, interfaces)
    }

    /// Whether it wants a flow, whenever that moved.
    #[must_use]
    pub fn wants(&self, flow: &Flow, interfaces: &InterfaceNames) -> bool {
        (self.include_self_traffic || !flow.self_traffic)
            && (self.matcher.is_empty() || self.matcher.matches(&FlowView { flow, interfaces }))
    }
}

impl FlowRow {
    /// Makes one with what a flow moved on average over a time.
    #[must_use]
    pub fn over(flow: Flow, length: Duration) -> Self {
        Self {
            bytes_per_second: per_second(flow.bytes, length),
            packets_per_second: per_second(flow.packets, length),
            flow,
            tcp: None,
        }
    }
}

impl FlowStore {
    /// Returns the flows that a query asks for.
    #[must_use]
    pub fn query(&self, query: &Query, interfaces: &InterfaceNames) -> Page {
        let mut found: Vec<&Flow> =
            self.slab.flows().filter(|flow| query.matches(flow, interfaces)).collect();
        let total = found.len() as u64;
        // The key breaks ties, so that the same question gets the same answer.
        let order = |a: &&Flow, b: &&Flow| -> Ordering {
            let (a_value, b_value) = (self.value(a, query.sort), self.value(b, query.sort));
            let by_value = match query.ascending {
                true => a_value.cmp(&b_value),
                false => Reverse(a_value).cmp(&Reverse(b_value)),
            };
            by_value.then_with(|| tie(&a.key).cmp(&tie(&b.key)))
        };
        if query.limit < found.len() {
            if query.limit > 0 {
                found.select_nth_unstable_by(query.limit - 1, order);
            }
            found.truncate(query.limit);
        }
        found.sort_unstable_by(order);
        Page { rows: found.into_iter().map(|flow| self.row(flow.clone())).collect(), total }
    }

    /// Adds its rates to a flow of this store.
    #[must_use]
    pub fn row(&self, flow: Flow) -> FlowRow {
        let (packets, bytes) = self.last_interval(&flow);
        FlowRow {
            bytes_per_second: per_second(bytes, self.interval),
            packets_per_second: per_second(packets, self.interval),
            flow,
            tcp: None,
        }
    }

    /// Visits the flows of some slots, with what each moved in the last interval, and returns the slot
    /// to go on at; `None` where those were the last.
    pub fn visit(
        &mut self,
        from: u32,
        slots: u32,
        mut visit: impl FnMut(&mut Flow, Added),
    ) -> Option<u32> {
        let cycle = self.cycle;
        let (flows, has_more) = self.slab.piece(from, slots);
        for flow in flows {
            let (packets, bytes) = last_interval(flow, cycle);
            visit(flow, Added { packets, bytes });
        }
        has_more.then(|| from.saturating_add(slots))
    }

    /// Returns the length of the last complete cycle, which rates are over; zero before the first.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    fn value(&self, flow: &Flow, sort: SortKey) -> u64 {
        match sort {
            SortKey::Bytes => flow.bytes,
            SortKey::Packets => flow.packets,
            SortKey::LastSeen => flow.last.0,
            SortKey::FirstSeen => flow.first.0,
            SortKey::Rate => self.last_interval(flow).1,
        }
    }

    fn last_interval(&self, flow: &Flow) -> (u64, u64) {
        last_interval(flow, self.cycle)
    }
}

/// Packets and bytes of the last complete cycle, or of the present one where it has some: counters
/// arrive at a cycle's very end.
fn last_interval(flow: &Flow, cycle: u32) -> (u64, u64) {
    match cycle.wrapping_sub(flow.cycle) {
        0 | 1 => (flow.cycle_packets, flow.cycle_bytes),
        _ => (0, 0),
    }
}

/// Returns what decides between flows of which a query's order does not.
pub(crate) fn tie(key: &FlowKey) -> impl Ord + use<> {
    let addresses = (key.source_addr, key.destination_addr);
    let ports = (key.source_port, key.destination_port);
    (addresses, ports, key.protocol, key.direction, key.ifindex, key.cgroup_id)
}

/// `count` over `interval`, per second; 0 before the first drain.
pub(crate) fn per_second(count: u64, interval: Duration) -> u64 {
    let nanos = interval.as_nanos();
    (u128::from(count) * 1_000_000_000)
        .checked_div(nanos)
        .map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
}
