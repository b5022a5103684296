//! Flows and their events as objects. The schema is documented one level up.

use std::io::{self, Write};

use orb8_proto::filter::{End, FlowFields};
use orb8_proto::icmp;
use orb8_proto::v1::{
    EventKind, Flow, IcmpType, Protocol, QueryFlowsResponse, StreamEventsResponse,
};
use serde::Serialize;

use super::Machine;
use super::end::{EndObject, InterfaceObject};
use super::lost::LostObject;
use super::tcp::HealthObject;
use super::value::{Word, is_zero, tcp_flags, timestamp};

/// What the counts of flows are of.
#[derive(Debug, Serialize)]
pub(crate) struct WindowObject {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history_start: Option<String>,
}

impl WindowObject {
    /// Returns `None` for counts since each flow began.
    pub(crate) fn new(answer: &QueryFlowsResponse) -> Option<Self> {
        Some(Self {
            r#type: "window",
            start: timestamp(answer.window_start_ns?),
            end: timestamp(answer.window_end_ns?),
            history_start: answer.history_start_ns.and_then(timestamp),
        })
    }
}

/// Writes one event; nothing for a kind that this build does not know.
pub(crate) fn write_event(
    machine: Machine,
    out: &mut dyn Write,
    event: &StreamEventsResponse,
) -> io::Result<()> {
    let r#type = match event.kind() {
        EventKind::FlowNew => "flow_new",
        EventKind::FlowUpdate => "flow_update",
        EventKind::FlowClosing => "flow_closing",
        EventKind::FlowEnd => "flow_end",
        EventKind::Lost => {
            let lost = event.lost.unwrap_or_default();
            let lost = LostObject::new(&lost).at(event.time_ns, &event.node_name);
            return machine.write(out, &lost);
        }
        EventKind::Unspecified => return Ok(()),
    };
    let Some(flow) = &event.flow else {
        return Ok(());
    };
    let object = FlowEvent {
        r#type,
        time: timestamp(event.time_ns),
        node_name: &event.node_name,
        delta_bytes: event.delta_bytes,
        delta_packets: event.delta_packets,
        end_reason: event.end_reason().word(),
        flow: FlowFieldsObject::new(flow),
    };
    machine.write(out, &object)
}

/// An event of a flow.
#[derive(Debug, Serialize)]
struct FlowEvent<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    node_name: &'a str,
    delta_bytes: u64,
    delta_packets: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_reason: Word,
    flow: FlowFieldsObject<'a>,
}

/// A flow of a list.
#[derive(Debug, Serialize)]
pub(crate) struct FlowObject<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    flow: FlowFieldsObject<'a>,
}

impl<'a> FlowObject<'a> {
    pub(crate) fn new(flow: &'a Flow) -> Self {
        Self { r#type: "flow", flow: FlowFieldsObject::new(flow) }
    }
}

#[derive(Debug, Serialize)]
struct FlowFieldsObject<'a> {
    source: EndObject<'a>,
    destination: EndObject<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Word,
    ip_protocol: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_end: Word,
    bytes: u64,
    packets: u64,
    bytes_per_second: u64,
    packets_per_second: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tcp_flags: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp: Option<IcmpObject>,
    #[serde(skip_serializing_if = "is_zero")]
    cgroup_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    socket_cookie: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<InterfaceObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vlan: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inner_vlan: Option<u32>,
    fragment: bool,
    self_traffic: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<HealthObject>,
    #[serde(skip_serializing_if = "str::is_empty")]
    node_name: &'a str,
}

#[derive(Debug, Serialize)]
struct IcmpObject {
    r#type: u32,
    code: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Word,
}

impl<'a> FlowFieldsObject<'a> {
    fn new(flow: &'a Flow) -> Self {
        Self {
            source: end(flow, End::Source),
            destination: end(flow, End::Destination),
            protocol: flow.protocol().word(),
            ip_protocol: flow.ip_protocol,
            direction: flow.direction().word(),
            hook: flow.hook().word(),
            local_end: flow.local_end().word(),
            bytes: flow.bytes,
            packets: flow.packets,
            bytes_per_second: flow.bytes_per_second,
            packets_per_second: flow.packets_per_second,
            first_seen: timestamp(flow.first_seen_ns),
            last_seen: timestamp(flow.last_seen_ns),
            tcp_flags: tcp_flags(flow.tcp_flags),
            icmp: flow.icmp.map(|icmp| IcmpObject::new(flow.protocol(), icmp)),
            cgroup_id: flow.cgroup_id,
            socket_cookie: flow.socket_cookie,
            interface: flow.interface.as_ref().map(InterfaceObject::new),
            vlan: flow.vlan,
            inner_vlan: flow.inner_vlan,
            fragment: flow.fragment,
            self_traffic: flow.self_traffic,
            tcp: flow.tcp.as_ref().map(HealthObject::new),
            node_name: &flow.node_name,
        }
    }
}

fn end(flow: &Flow, end: End) -> EndObject<'_> {
    EndObject::new(flow.endpoint(end), flow.port(end))
}

impl IcmpObject {
    fn new(protocol: Protocol, icmp: IcmpType) -> Self {
        let IcmpType { r#type, code } = icmp;
        Self { r#type, code, name: icmp::name(protocol, icmp) }
    }
}
