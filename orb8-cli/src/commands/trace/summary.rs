//! What a trace says of itself when it ends.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Instant;

use orb8_proto::filter::End;
use orb8_proto::units;
use orb8_proto::v1::{Flow, Hook, StreamEventsResponse};

/// What went by.
pub(super) struct Summary {
    /// `None` where nothing was waited for: the past is read in no time.
    began: Option<Instant>,
    hasher: RandomState,
    flows: HashSet<u64>,
    bytes: u64,
    lost_events: u64,
    lost_packets: u64,
}

/// Flows that the summary tells apart; 16 MiB when full.
const MAX_FLOWS: usize = 1 << 20;

impl Summary {
    pub(super) fn new(is_past: bool) -> Self {
        Self {
            began: (!is_past).then(Instant::now),
            hasher: RandomState::new(),
            flows: HashSet::new(),
            bytes: 0,
            lost_events: 0,
            lost_packets: 0,
        }
    }

    pub(super) fn add(&mut self, event: &StreamEventsResponse) {
        self.bytes = self.bytes.saturating_add(event.delta_bytes);
        if let Some(lost) = &event.lost {
            self.lost_events = self.lost_events.saturating_add(lost.events);
            self.lost_packets = self.lost_packets.saturating_add(lost.packets);
        }
        if let Some(flow) = &event.flow
            && self.flows.len() < MAX_FLOWS
        {
            self.flows.insert(self.hasher.hash_one(identity(flow)));
        }
    }

    pub(super) fn text(&self) -> String {
        let more = if self.flows.len() == MAX_FLOWS { "+" } else { "" };
        let flows = u64::try_from(self.flows.len()).unwrap_or(u64::MAX);
        let lost = match (self.lost_events, self.lost_packets) {
            (0, 0) => "nothing lost".to_owned(),
            (events, 0) => format!("{} events lost", units::count(events)),
            (0, packets) => format!("{} packets lost", units::count(packets)),
            (events, packets) => {
                format!(
                    "{} events and {} packets lost",
                    units::count(events),
                    units::count(packets)
                )
            }
        };
        let took = self.began.map(|began| format!(" in {}", units::duration(began.elapsed())));
        format!(
            "{}{more} {}, {}, {lost}{}",
            units::count(flows),
            if flows == 1 { "flow" } else { "flows" },
            units::bytes(self.bytes),
            took.unwrap_or_default()
        )
    }
}

/// Returns what makes a flow the same flow in another event: what the agent tells flows apart by.
fn identity(flow: &Flow) -> impl Hash {
    let end = |end| flow.endpoint(end).map(|end| (end.ip.as_slice(), end.port));
    let icmp = flow.icmp.map(|icmp| (icmp.r#type, icmp.code));
    let interface = flow.interface.as_ref().map_or(0, |interface| interface.index);
    // A socket's packets may change their interface, an interface's their owner.
    let place = match flow.hook() {
        Hook::Interface => (u64::from(interface), flow.vlan, flow.inner_vlan),
        Hook::Socket | Hook::Unspecified => (flow.cgroup_id, None, None),
    };
    (
        (flow.node_name.as_str(), flow.hook, place),
        End::BOTH.map(end),
        (flow.ip_protocol, icmp, flow.fragment),
        flow.direction,
    )
}

#[cfg(test)]
mod tests {
    use orb8_proto::v1::{Endpoint, IcmpType, Interface};

    use super::*;

    fn flow() -> Flow {
        let end = |last: u8| Endpoint { ip: vec![10, 0, 0, last], ..Endpoint::default() };
        Flow {
            source: Some(end(1)),
            destination: Some(end(2)),
            ip_protocol: 1,
            icmp: Some(IcmpType { r#type: 8, code: 0 }),
            hook: Hook::Socket.into(),
            cgroup_id: 5,
            interface: Some(Interface { index: 2, name: String::new() }),
            ..Flow::default()
        }
    }

    fn count(flows: &[Flow]) -> usize {
        let mut summary = Summary::new(false);
        for flow in flows {
            summary.add(&StreamEventsResponse {
                flow: Some(flow.clone()),
                ..StreamEventsResponse::default()
            });
        }
        summary.flows.len()
    }

    #[test]
    fn the_summary_tells_flows_apart_as_the_agent_does() {
        let icmp = |r#type, code| Flow { icmp: Some(IcmpType { r#type, code }), ..flow() };
        assert_eq!(count(&[flow(), icmp(0, 0), icmp(8, 1), icmp(8, 0)]), 3);
        let more = Flow { bytes: 7, ..flow() };
        let fragment = Flow { fragment: true, ..flow() };
        let elsewhere = Flow { node_name: "b".into(), ..flow() };
        assert_eq!(count(&[flow(), more, fragment, elsewhere]), 3);
        let moved = |hook: Hook, index, cgroup_id| Flow {
            hook: hook.into(),
            interface: Some(Interface { index, name: String::new() }),
            cgroup_id,
            ..flow()
        };
        assert_eq!(count(&[moved(Hook::Socket, 2, 5), moved(Hook::Socket, 3, 5)]), 1);
        assert_eq!(count(&[moved(Hook::Socket, 2, 5), moved(Hook::Socket, 2, 6)]), 2);
        assert_eq!(count(&[moved(Hook::Interface, 2, 0), moved(Hook::Interface, 2, 5)]), 1);
        assert_eq!(count(&[moved(Hook::Interface, 2, 0), moved(Hook::Interface, 3, 0)]), 2);
    }
}
