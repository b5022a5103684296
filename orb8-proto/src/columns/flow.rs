//! The columns of flows and their events.

use super::ends::TwoEnded;
use super::{Column, Cut, Subject, Tone, View, Width};
use crate::v1::{EventKind, Flow, StreamEventsResponse};

mod cells;

pub use cells::{endpoint, protocol};

/// Flows, by themselves or as events tell of them.
#[derive(Clone, Copy, Debug)]
pub enum Flows {}

impl Subject for Flows {
    type Row<'a> = Row<'a>;

    fn is_quiet(row: Row<'_>) -> bool {
        let ended = row.event.is_some_and(|event| event.kind() == EventKind::FlowEnd);
        row.flow.self_traffic || ended
    }
}

/// What a cell is made from.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The flow.
    pub flow: &'a Flow,
    /// The event that tells of it; `None` in a list of flows.
    pub event: Option<&'a StreamEventsResponse>,
}

/// A list of flows.
pub static LIST: View<Flows> =
    View { command: "flows", columns: LIST_COLUMNS, wide: LIST_WIDE, is_stream: false };

/// A stream of their events.
pub static EVENTS: View<Flows> =
    View { command: "trace network", columns: EVENT_COLUMNS, wide: EVENTS_WIDE, is_stream: true };

const LIST_COLUMNS: &[&Column<Flows>] =
    &[&OWNER, &PROTOCOL, &SOURCE, &DESTINATION, &DIRECTION, &BYTES, &PACKETS, &RATE];

const LIST_WIDE: &[&Column<Flows>] = &[
    &OWNER,
    &PROTOCOL,
    &SOURCE,
    &DESTINATION,
    &NAME,
    &DIRECTION,
    &BYTES,
    &PACKETS,
    &RATE,
    &PACKET_RATE,
    &STATE,
    &RTT,
    &RETRANSMITS,
    &INFO,
    &FIRST_SEEN,
    &LAST_SEEN,
    &INTERFACE,
    &HOOK,
    &VLAN,
    &Flows::WORKLOAD,
    &CONTAINER,
    &Flows::PEER,
    &Flows::BACKEND,
    &Flows::PEER_NODE,
    &Flows::FOUND,
    &NODE,
    &CGROUP,
];

const EVENT_COLUMNS: &[&Column<Flows>] =
    &[&TIME, &EVENT, &SOURCE, &DESTINATION, &PROTOCOL, &DIRECTION, &BYTES, &PACKETS, &OWNER];

const EVENTS_WIDE: &[&Column<Flows>] = &[
    &TIME,
    &EVENT,
    &SOURCE,
    &DESTINATION,
    &NAME,
    &PROTOCOL,
    &DIRECTION,
    &BYTES,
    &PACKETS,
    &TOTAL,
    &RATE,
    &STATE,
    &RTT,
    &RETRANSMITS,
    &INFO,
    &INTERFACE,
    &HOOK,
    &VLAN,
    &OWNER,
    &Flows::WORKLOAD,
    &CONTAINER,
    &Flows::PEER,
    &Flows::BACKEND,
    &Flows::PEER_NODE,
    &Flows::FOUND,
    &NODE,
    &CGROUP,
];

const TIME: Column<Flows> = Column { value: cells::time, ..Column::TIME };
const EVENT: Column<Flows> = Column {
    name: "event",
    header: "EVENT",
    width: Width::Natural(6),
    priority: 3,
    tone: cells::event_tone,
    doc: "`new`, `update`, or how the flow ended: `closed`, `reset`, `idle` or `evicted`; with `--event closing` also `fin` or `rst`, as soon as one is seen.",
    value: cells::event,
    ..Column::WORDS
};
const OWNER: Column<Flows> = Column {
    width: Width::Flexible(16, Cut::End),
    doc: "Whose socket it is: pod, else container, systemd unit, process or cgroup; `host` for the root cgroup.",
    value: cells::owner_cell,
    ..Column::OWNER
};
const PROTOCOL: Column<Flows> = Column {
    name: "protocol",
    header: "PROTOCOL",
    short_header: Some("PROTO"),
    width: Width::Flexible(6, Cut::Words),
    usual: 6,
    priority: 6,
    tone: |_| Tone::Plain,
    doc: "TCP, UDP, SCTP or another IP protocol; ICMP and ICMPv6 with the message where there is room.",
    value: cells::protocol_cell,
    ..Column::WORDS
};
const SOURCE: Column<Flows> = Column {
    name: "source",
    header: "SOURCE",
    priority: 2,
    doc: "Who sends, by the best name there is: `svc:` and a Service, a pod, `node:` and a node, a container or unit, or the DNS name by which its address was found; else the address. The address too where the owner column has the name, and with `-o wide` and `--numeric`.",
    value: cells::source,
    ..Column::END
};
const DESTINATION: Column<Flows> = Column {
    name: "destination",
    header: "DESTINATION",
    priority: 1,
    doc: "Who receives, likewise.",
    value: cells::destination,
    ..Column::END
};
const DIRECTION: Column<Flows> = Column {
    name: "direction",
    header: "DIR",
    width: Width::Natural(7),
    priority: 8,
    doc: "`egress` where the local end sends, `ingress` where it receives.",
    value: cells::direction,
    ..Column::WORDS
};
const BYTES: Column<Flows> = Column {
    name: "bytes",
    header: "BYTES",
    width: Width::Natural(6),
    priority: 5,
    doc: "IP bytes, powers of 1000. An `update` has what it adds, a `fin` or `rst` nothing, everything else the total.",
    value: cells::bytes,
    ..Column::NUMBER
};
const PACKETS: Column<Flows> = Column {
    name: "packets",
    header: "PACKETS",
    priority: 9,
    doc: "Packets as on the wire, powers of 1000 from 100,000. An `update` has what it adds, a `fin` or `rst` nothing, everything else the total.",
    value: cells::packets,
    ..Column::NUMBER
};
const RATE: Column<Flows> = Column {
    name: "rate",
    header: "RATE",
    width: Width::Natural(8),
    priority: 7,
    doc: "Bytes per second over the agent's last interval.",
    value: cells::rate,
    ..Column::NUMBER
};
const PACKET_RATE: Column<Flows> = Column {
    name: "packet_rate",
    header: "PACKETS/S",
    doc: "Packets per second over the agent's last interval.",
    value: cells::packet_rate,
    ..Column::NUMBER
};
const TOTAL: Column<Flows> = Column {
    name: "total",
    header: "TOTAL",
    width: Width::Natural(6),
    doc: "IP bytes of the flow so far.",
    value: cells::total,
    ..Column::NUMBER
};
const NAME: Column<Flows> = Column {
    name: "name",
    header: "NAME",
    doc: "The name by which the owner found the other end, where a DNS answer led there.",
    value: cells::name,
    ..Column::WORDS
};
const STATE: Column<Flows> = Column {
    name: "state",
    header: "STATE",
    width: Width::Natural(11),
    doc: "State of the TCP connection.",
    value: cells::state,
    ..Column::WORDS
};
const RTT: Column<Flows> = Column {
    name: "rtt",
    header: "RTT",
    width: Width::Natural(6),
    doc: "The connection's smoothed round-trip time.",
    value: cells::rtt,
    ..Column::NUMBER
};
const RETRANSMITS: Column<Flows> = Column {
    name: "retransmits",
    header: "RETRANS",
    doc: "Segments that the connection sent again.",
    value: cells::retransmits,
    ..Column::NUMBER
};
const INFO: Column<Flows> = Column {
    name: "info",
    header: "INFO",
    width: Width::Natural(6),
    doc: "TCP flags seen (S A P F R U E C), the ICMP type and code, or `fragment`.",
    value: cells::info,
    ..Column::WORDS
};
const FIRST_SEEN: Column<Flows> = Column {
    name: "first_seen",
    header: "FIRST SEEN",
    width: Width::Natural(12),
    doc: "Time of the first packet, local time.",
    value: cells::first_seen,
    ..Column::WORDS
};
const LAST_SEEN: Column<Flows> = Column {
    name: "last_seen",
    header: "LAST SEEN",
    width: Width::Natural(12),
    doc: "Time of the last packet, local time.",
    value: cells::last_seen,
    ..Column::WORDS
};
const INTERFACE: Column<Flows> = Column {
    name: "interface",
    header: "INTERFACE",
    doc: "Interface as last seen.",
    value: cells::interface,
    ..Column::WORDS
};
const HOOK: Column<Flows> = Column {
    name: "hook",
    header: "HOOK",
    width: Width::Natural(6),
    doc: "Where it was counted: `socket` or `interface`.",
    value: cells::hook,
    ..Column::WORDS
};
const VLAN: Column<Flows> = Column {
    name: "vlan",
    header: "VLAN",
    doc: "VLAN id; outermost and innermost where there are two.",
    value: cells::vlan,
    ..Column::WORDS
};
const CONTAINER: Column<Flows> = Column {
    name: "container",
    header: "CONTAINER",
    width: Width::Natural(12),
    doc: "Container of the owner.",
    value: cells::container,
    ..Column::WORDS
};
const NODE: Column<Flows> = Column {
    name: "node",
    header: "NODE",
    doc: "The node that counted it.",
    value: cells::node,
    ..Column::WORDS
};
const CGROUP: Column<Flows> = Column {
    name: "cgroup",
    header: "CGROUP",
    doc: "The owner's cgroup, below the root.",
    value: cells::cgroup,
    ..Column::WORDS
};
