//! Flows and what happens with them.

use orb8_common::flow::HOOK_SOCKET;
use orb8_proto::filter::{End, FlowFields};
use orb8_proto::v1;

use super::tcp::tcp_health;
use super::{Converter, endpoint, interface, local_end, lost};
use crate::event::SocketEnd;
use crate::pipeline::{FlowEvent, FlowStep, Happened, StreamItem};
use crate::store::{EndReason, FlowRow, FlowView};

impl Converter {
    pub(in crate::api) fn flow(&self, row: &FlowRow) -> v1::Flow {
        let view = FlowView { flow: &row.flow, interfaces: &self.interfaces };
        let flow = &row.flow;
        let key = &flow.key;
        v1::Flow {
            source: Some(end(&view, End::Source)),
            destination: Some(end(&view, End::Destination)),
            protocol: view.protocol().into(),
            ip_protocol: key.protocol.into(),
            direction: view.direction().into(),
            hook: match key.hook {
                HOOK_SOCKET => v1::Hook::Socket,
                _ => v1::Hook::Interface,
            }
            .into(),
            bytes: flow.bytes,
            packets: flow.packets,
            first_seen_ns: flow.first.0,
            last_seen_ns: flow.last.0,
            tcp_flags: flow.tcp_flags.into(),
            icmp: view.has_icmp_type().then(|| v1::IcmpType {
                r#type: key.source_port.into(),
                code: key.destination_port.into(),
            }),
            local_end: local_end(flow.local_end()).into(),
            cgroup_id: flow.cgroup_id,
            socket_cookie: flow.cookie,
            interface: interface(flow.ifindex, view.interface()),
            vlan: (key.vlan != 0).then(|| key.vlan.into()),
            inner_vlan: (key.inner_vlan != 0).then(|| key.inner_vlan.into()),
            fragment: view.is_fragment(),
            self_traffic: flow.self_traffic,
            node_name: self.node_name.to_string(),
            bytes_per_second: row.bytes_per_second,
            packets_per_second: row.packets_per_second,
            tcp: row.tcp.as_deref().map(tcp_health),
        }
    }

    pub(in crate::api) fn flow_event(
        &self,
        item: &StreamItem<FlowEvent>,
    ) -> v1::StreamEventsResponse {
        let event = v1::StreamEventsResponse {
            time_ns: item.time.0,
            node_name: self.node_name.to_string(),
            kind: kind(item).into(),
            ..v1::StreamEventsResponse::default()
        };
        match &item.happened {
            Happened::Event(FlowEvent { step, row, packets, bytes }) => v1::StreamEventsResponse {
                flow: Some(self.flow(row)),
                delta_bytes: *bytes,
                delta_packets: *packets,
                end_reason: match step {
                    FlowStep::End(reason) | FlowStep::Closing(reason) => end_reason(*reason),
                    FlowStep::New | FlowStep::Update => v1::EndReason::Unspecified,
                }
                .into(),
                ..event
            },
            Happened::Lost(what) => v1::StreamEventsResponse { lost: Some(lost(*what)), ..event },
        }
    }
}

/// Returns the kind of an event.
pub(in crate::api) fn kind(item: &StreamItem<FlowEvent>) -> v1::EventKind {
    match &item.happened {
        Happened::Event(FlowEvent { step, .. }) => match step {
            FlowStep::New => v1::EventKind::FlowNew,
            FlowStep::Update => v1::EventKind::FlowUpdate,
            FlowStep::Closing(_) => v1::EventKind::FlowClosing,
            FlowStep::End(_) => v1::EventKind::FlowEnd,
        },
        Happened::Lost(_) => v1::EventKind::Lost,
    }
}

fn end_reason(reason: EndReason) -> v1::EndReason {
    match reason {
        EndReason::Fin => v1::EndReason::Fin,
        EndReason::Rst => v1::EndReason::Rst,
        EndReason::Idle => v1::EndReason::Idle,
        EndReason::Evicted => v1::EndReason::Evicted,
    }
}

fn end(view: &FlowView<'_>, end: End) -> v1::Endpoint {
    let of = SocketEnd { addr: view.raw_ip(end), port: view.port(end).unwrap_or_default() };
    endpoint(of, view.party(end), view.flow.label(end))
}
