//! TCP events, connections and totals as objects. The schema is documented one level up.

use std::io::{self, Write};

use orb8_proto::v1::stream_tcp_response::Event;
use orb8_proto::v1::{
    StreamTcpResponse, TcpConnection, TcpDropCount, TcpEvent, TcpHealth, TcpTotals,
};
use serde::Serialize;

use super::Machine;
use super::end::{EndObject, InterfaceObject};
use super::histogram::HistogramObject;
use super::lost::LostObject;
use super::value::{Word, is_zero, is_zero_u32, tcp_flags, timestamp};

/// Writes one message of a stream; nothing for what this build does not know.
pub(crate) fn write_message(
    machine: Machine,
    out: &mut dyn Write,
    message: &StreamTcpResponse,
) -> io::Result<()> {
    match &message.event {
        Some(Event::Tcp(event)) => machine.write(out, &EventObject::new(event)),
        Some(Event::Lost(lost)) => machine.write(out, &LostObject::new(lost)),
        None => Ok(()),
    }
}

/// Something that happened.
#[derive(Debug, Serialize)]
struct EventObject<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    node_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<EndObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<EndObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_end: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_state: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthObject>,
    #[serde(skip_serializing_if = "is_zero_u32")]
    errno: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    errno_name: &'a str,
    #[serde(skip_serializing_if = "is_zero_u32")]
    segments: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    reset_by: Word,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "is_zero_u32")]
    reason_id: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    location: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    weight: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tcp_flags: Vec<&'static str>,
    #[serde(skip_serializing_if = "is_zero_u32")]
    bytes: u32,
    #[serde(skip_serializing_if = "is_zero")]
    overflows: u64,
    #[serde(skip_serializing_if = "is_zero_u32")]
    queue: u32,
    #[serde(skip_serializing_if = "is_zero_u32")]
    queue_limit: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<InterfaceObject<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    cgroup_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    socket_cookie: u64,
    #[serde(skip_serializing_if = "is_zero_u32")]
    network_namespace: u32,
}

/// What TCP knows of a connection.
#[derive(Debug, Serialize)]
pub(super) struct HealthObject {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_min_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_mean_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_p99_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_max_ns: Option<u64>,
    rtt_samples: u64,
    retransmits: u64,
    bytes_sent: u64,
    bytes_received: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    opened: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed: Option<String>,
}

/// A connection of a list.
#[derive(Debug, Serialize)]
pub(crate) struct ConnectionObject<'a> {
    r#type: &'static str,
    source: EndObject<'a>,
    destination: EndObject<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_end: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthObject>,
    #[serde(skip_serializing_if = "is_zero")]
    cgroup_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    socket_cookie: u64,
    self_traffic: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    node_name: &'a str,
}

/// Everything since the agent started.
#[derive(Debug, Serialize)]
pub(crate) struct TotalsObject<'a> {
    r#type: &'static str,
    connects: u64,
    accepts: u64,
    failures: u64,
    closes: u64,
    retransmitted_segments: u64,
    resets_sent: u64,
    resets_received: u64,
    overflows: u64,
    drops: Vec<DropObject<'a>>,
    lost_events: u64,
    untracked: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake: Option<HistogramObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt: Option<HistogramObject<'a>>,
}

#[derive(Debug, Serialize)]
struct DropObject<'a> {
    reason: &'a str,
    packets: u64,
}

impl<'a> EventObject<'a> {
    fn new(event: &'a TcpEvent) -> Self {
        Self {
            r#type: "tcp",
            time: timestamp(event.time_ns),
            node_name: &event.node_name,
            event: event.kind().word(),
            source: event.source.as_ref().map(|end| EndObject::with_port(Some(end))),
            destination: event.destination.as_ref().map(|end| EndObject::with_port(Some(end))),
            local_end: event.local_end().word(),
            role: event.role().word(),
            state: event.state().word(),
            old_state: event.old_state().word(),
            health: event.health.as_ref().map(HealthObject::new),
            errno: event.errno,
            errno_name: &event.errno_name,
            segments: event.segments,
            reset_by: event.reset_by().word(),
            reason: &event.reason,
            reason_id: event.reason_id,
            location: &event.location,
            weight: event.weight,
            tcp_flags: tcp_flags(event.tcp_flags),
            bytes: event.bytes,
            overflows: event.overflows,
            queue: event.queue,
            queue_limit: event.queue_limit,
            interface: event.interface.as_ref().map(InterfaceObject::new),
            cgroup_id: event.cgroup_id,
            socket_cookie: event.socket_cookie,
            network_namespace: event.network_namespace,
        }
    }
}

impl HealthObject {
    pub(super) fn new(health: &TcpHealth) -> Self {
        Self {
            state: health.state().word(),
            role: health.role().word(),
            handshake_ns: health.handshake_ns,
            rtt_ns: health.rtt_ns,
            rtt_min_ns: health.rtt_min_ns,
            rtt_mean_ns: health.rtt_mean_ns,
            rtt_p99_ns: health.rtt_p99_ns,
            rtt_max_ns: health.rtt_max_ns,
            rtt_samples: health.rtt_samples,
            retransmits: health.retransmits,
            bytes_sent: health.bytes_sent,
            bytes_received: health.bytes_received,
            opened: timestamp(health.opened_ns),
            closed: timestamp(health.closed_ns),
        }
    }
}

impl<'a> ConnectionObject<'a> {
    pub(crate) fn new(connection: &'a TcpConnection) -> Self {
        Self {
            r#type: "tcp_connection",
            source: EndObject::with_port(connection.source.as_ref()),
            destination: EndObject::with_port(connection.destination.as_ref()),
            local_end: connection.local_end().word(),
            health: connection.health.as_ref().map(HealthObject::new),
            cgroup_id: connection.cgroup_id,
            socket_cookie: connection.socket_cookie,
            self_traffic: connection.self_traffic,
            node_name: &connection.node_name,
        }
    }
}

impl<'a> TotalsObject<'a> {
    pub(crate) fn new(totals: &'a TcpTotals) -> Self {
        let drop = |count: &'a TcpDropCount| {
            let TcpDropCount { reason, packets } = count;
            DropObject { reason, packets: *packets }
        };
        Self {
            r#type: "tcp_totals",
            connects: totals.connects,
            accepts: totals.accepts,
            failures: totals.failures,
            closes: totals.closes,
            retransmitted_segments: totals.retransmitted_segments,
            resets_sent: totals.resets_sent,
            resets_received: totals.resets_received,
            overflows: totals.overflows,
            drops: totals.drops.iter().map(drop).collect(),
            lost_events: totals.lost_events,
            untracked: totals.untracked,
            handshake: HistogramObject::new(totals.handshake.as_ref()),
            rtt: HistogramObject::new(totals.rtt.as_ref()),
        }
    }
}
