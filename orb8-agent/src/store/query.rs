//! Asking the store.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;
use std::time::Duration;

use orb8_proto::filter::Matcher;

use super::{Flow, FlowStore, FlowView, InterfaceNames, TcpHealth};
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
        (self.include_self_traffic || !flow.self_traffic)
            && self.start.is_none_or(|start| flow.last >= start)
            && self.end.is_none_or(|end| flow.first <= end)
            && (self.matcher.is_empty() || self.matcher.matches(&FlowView { flow, interfaces }))
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
            by_value.then_with(|| tie(a).cmp(&tie(b)))
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

    fn value(&self, flow: &Flow, sort: SortKey) -> u64 {
        match sort {
            SortKey::Bytes => flow.bytes,
            SortKey::Packets => flow.packets,
            SortKey::LastSeen => flow.last.0,
            SortKey::FirstSeen => flow.first.0,
            SortKey::Rate => self.last_interval(flow).1,
        }
    }

    /// Packets and bytes of the last complete cycle, or of the present one where it has some:
    /// counters arrive at a cycle's very end.
    fn last_interval(&self, flow: &Flow) -> (u64, u64) {
        match self.cycle.wrapping_sub(flow.cycle) {
            0 | 1 => (flow.cycle_packets, flow.cycle_bytes),
            _ => (0, 0),
        }
    }
}

fn tie(flow: &Flow) -> impl Ord + use<> {
    let key = &flow.key;
    let addresses = (key.source_addr, key.destination_addr);
    let ports = (key.source_port, key.destination_port);
    (addresses, ports, key.protocol, key.direction, key.ifindex, key.cgroup_id)
}

/// `count` over `interval`, per second; 0 before the first drain.
fn per_second(count: u64, interval: Duration) -> u64 {
    let nanos = interval.as_nanos();
    (u128::from(count) * 1_000_000_000)
        .checked_div(nanos)
        .map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
}
