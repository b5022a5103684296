//! Flows, events and losses as objects. The schema is documented one level up.

use std::io::{self, Write};
use std::net::IpAddr;

use jiff::Timestamp;
use orb8_proto::filter::{End, FlowFields};
use orb8_proto::icmp;
use orb8_proto::v1::{
    Accounting, EventKind, Flow, IcmpType, Interface, Lost, LostSource, Protocol,
    StreamEventsResponse, Workload,
};
use serde::Serialize;

use super::Machine;

/// A word of an enum; absent where it is unspecified.
pub(super) type Word = Option<&'static str>;

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
        EventKind::Lost => return machine.write(out, &LostObject::of_event(event)),
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

/// Something lost.
#[derive(Debug, Serialize)]
pub(crate) struct LostObject<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    node_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Word,
    events: u64,
    packets: u64,
    bytes: u64,
}

impl<'a> LostObject<'a> {
    fn of_event(event: &'a StreamEventsResponse) -> Self {
        let Lost { events, packets, bytes, .. } = event.lost.unwrap_or_default();
        Self {
            r#type: "lost",
            time: timestamp(event.time_ns),
            node_name: &event.node_name,
            source: event.lost.and_then(|lost| lost.source().word()),
            events,
            packets,
            bytes,
        }
    }

    /// Returns what the kernel side has lost since it started, if anything.
    pub(crate) fn of_accounting(accounting: &Accounting) -> Option<Self> {
        (accounting.lost_packets > 0).then(|| Self {
            r#type: "lost",
            time: None,
            node_name: "",
            source: LostSource::Kernel.word(),
            events: 0,
            packets: accounting.lost_packets,
            bytes: accounting.lost_bytes,
        })
    }
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
    #[serde(skip_serializing_if = "str::is_empty")]
    node_name: &'a str,
}

#[derive(Debug, Serialize)]
struct EndObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<WorkloadObject<'a>>,
}

#[derive(Debug, Serialize)]
struct WorkloadObject<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pod: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pod_uid: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    container: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    container_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Word,
    #[serde(skip_serializing_if = "str::is_empty")]
    unit: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    process: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cgroup_path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attribution: Word,
}

#[derive(Debug, Serialize)]
struct InterfaceObject<'a> {
    index: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
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
            source: EndObject::new(flow, End::Source),
            destination: EndObject::new(flow, End::Destination),
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
            interface: flow
                .interface
                .as_ref()
                .map(|Interface { index, name }| InterfaceObject { index: *index, name }),
            vlan: flow.vlan,
            inner_vlan: flow.inner_vlan,
            fragment: flow.fragment,
            self_traffic: flow.self_traffic,
            node_name: &flow.node_name,
        }
    }
}

impl IcmpObject {
    fn new(protocol: Protocol, icmp: IcmpType) -> Self {
        let IcmpType { r#type, code } = icmp;
        Self { r#type, code, name: icmp::name(protocol, icmp) }
    }
}

impl<'a> EndObject<'a> {
    fn new(flow: &'a Flow, end: End) -> Self {
        Self {
            ip: flow.ip(end),
            port: flow.port(end),
            workload: flow.workload(end).map(WorkloadObject::new),
        }
    }
}

impl<'a> WorkloadObject<'a> {
    fn new(workload: &'a Workload) -> Self {
        Self {
            namespace: &workload.namespace,
            pod: &workload.pod,
            pod_uid: &workload.pod_uid,
            container: &workload.container,
            container_id: &workload.container_id,
            runtime: workload.runtime().word(),
            unit: &workload.unit,
            process: &workload.process,
            cgroup_path: &workload.cgroup_path,
            attribution: workload.attribution().word(),
        }
    }
}

/// RFC 3339 with nanoseconds; absent where the time is not known.
fn timestamp(unix_ns: u64) -> Option<String> {
    if unix_ns == 0 {
        return None;
    }
    let time = Timestamp::from_nanosecond(i128::from(unix_ns)).ok()?;
    Some(format!("{time:.9}"))
}

fn tcp_flags(flags: u32) -> Vec<&'static str> {
    const WORDS: [(u32, &str); 8] = [
        (0x02, "syn"),
        (0x10, "ack"),
        (0x08, "psh"),
        (0x01, "fin"),
        (0x04, "rst"),
        (0x20, "urg"),
        (0x40, "ece"),
        (0x80, "cwr"),
    ];
    WORDS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, word)| *word).collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}
