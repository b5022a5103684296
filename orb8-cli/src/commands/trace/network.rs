//! `orb8 trace network`: flows as they begin, move and end.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::io;

use orb8_proto::columns::View;
use orb8_proto::columns::flow::{EVENTS, Flows, Row};
use orb8_proto::filter::End;
use orb8_proto::units;
use orb8_proto::v1::{Flow, Hook, StreamEventsRequest, StreamEventsResponse};
use tonic::{Response, Status, Streaming};

use super::summary::Tally;
use super::{Stream, Told};
use crate::args::{NetworkArgs, StreamArgs};
use crate::commands::{FLOWS_LOST_IN_RING, counted};
use crate::connection::Connection;
use crate::output::{Machine, flow};

impl Stream for NetworkArgs {
    const SIGNAL: &'static str = "flow";
    const LOST_IN_RING: &'static str = FLOWS_LOST_IN_RING;
    const VIEW: &'static View<Flows> = &EVENTS;
    type Subject = Flows;
    type Message = StreamEventsResponse;
    type Tally = FlowTally;

    fn args(&self) -> &StreamArgs {
        &self.stream
    }

    async fn subscribe(
        &self,
        connection: &mut Connection,
    ) -> Result<Response<Streaming<StreamEventsResponse>>, Status> {
        let request = StreamEventsRequest {
            include: self.filters.include.clone(),
            exclude: self.filters.exclude.clone(),
            include_self_traffic: self.include_self,
            kinds: self.kinds(),
            last: self.stream.last.unwrap_or(0),
            no_follow: self.stream.is_past(),
            since_time_ns: self.stream.since.map(|since| connection.moment(since)),
        };
        connection.client.stream_events(request).await
    }

    fn told(event: &StreamEventsResponse) -> Told<'_, Flows> {
        match (&event.flow, &event.lost) {
            (_, Some(lost)) => Told::Lost(lost),
            (Some(flow), None) => Told::Row(Row { flow, event: Some(event) }),
            (None, None) => Told::Nothing,
        }
    }

    fn write(
        machine: Machine,
        out: &mut dyn io::Write,
        event: &StreamEventsResponse,
    ) -> io::Result<()> {
        flow::write_event(machine, out, event)
    }
}

/// Which flows went by, and how much they moved.
#[derive(Default)]
pub(crate) struct FlowTally {
    hasher: RandomState,
    flows: HashSet<u64>,
    bytes: u64,
}

/// Flows that the tally tells apart; 16 MiB when full.
const MAX_FLOWS: usize = 1 << 20;

impl Tally<StreamEventsResponse> for FlowTally {
    fn add(&mut self, event: &StreamEventsResponse) {
        self.bytes = self.bytes.saturating_add(event.delta_bytes);
        if let Some(flow) = &event.flow
            && self.flows.len() < MAX_FLOWS
        {
            self.flows.insert(self.hasher.hash_one(identity(flow)));
        }
    }

    fn text(&self) -> String {
        let flows = u64::try_from(self.flows.len()).unwrap_or(u64::MAX);
        let bytes = units::bytes(self.bytes);
        if self.flows.len() == MAX_FLOWS {
            return format!("{}+ flows, {bytes}", units::count(flows));
        }
        format!("{}, {bytes}", counted(flows, "flow", "flows"))
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
        let mut tally = FlowTally::default();
        for flow in flows {
            tally.add(&StreamEventsResponse {
                flow: Some(flow.clone()),
                ..StreamEventsResponse::default()
            });
        }
        tally.flows.len()
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
