//! The columns of TCP events and connections.

use super::ends::TwoEnded;
use super::{Column, Cut, Subject, Tone, View, Width};
use crate::v1::{TcpConnection, TcpEvent};

mod cells;
mod connection;
mod detail;

pub use connection::TOP;

impl Subject for TcpEvent {
    type Row<'a> = &'a Self;
}

impl Subject for TcpConnection {
    type Row<'a> = &'a Self;

    fn is_quiet(row: &Self) -> bool {
        let closed = row.health.as_ref().is_some_and(|health| health.closed_ns > 0);
        row.self_traffic || closed
    }
}

/// A stream of events.
pub static EVENTS: View<TcpEvent> =
    View { command: "trace tcp", columns: COLUMNS, wide: WIDE, is_stream: true };

const COLUMNS: &[&Column<TcpEvent>] = &[&TIME, &EVENT, &SOURCE, &DESTINATION, &OWNER, &DETAIL];

const WIDE: &[&Column<TcpEvent>] = &[
    &TIME,
    &EVENT,
    &SOURCE,
    &DESTINATION,
    &NAME,
    &OWNER,
    &ROLE,
    &STATE,
    &RTT,
    &RETRANSMITS,
    &SENT,
    &RECEIVED,
    &INTERFACE,
    &TcpEvent::WORKLOAD,
    &CONTAINER,
    &TcpEvent::PEER,
    &TcpEvent::BACKEND,
    &TcpEvent::PEER_NODE,
    &TcpEvent::FOUND,
    &NODE,
    &NETNS,
    &CGROUP,
    &DETAIL,
];

const TIME: Column<TcpEvent> = Column { value: cells::time, ..Column::TIME };
const EVENT: Column<TcpEvent> = Column {
    name: "event",
    header: "EVENT",
    width: Width::Natural(10),
    priority: 3,
    tone: cells::event_tone,
    doc: "`connect`, `accept`, `fail`, `close`, `retransmit`, `reset`, `drop`, `overflow`; with `--events state` also `state`.",
    value: cells::event,
    ..Column::WORDS
};
const SOURCE: Column<TcpEvent> = Column {
    name: "source",
    header: "SOURCE",
    priority: 2,
    doc: "Who opened the connection, or sent the packet; absent for a listener. Named as in `flows`.",
    value: cells::source,
    ..Column::END
};
const DESTINATION: Column<TcpEvent> = Column {
    name: "destination",
    header: "DESTINATION",
    priority: 1,
    doc: "The other end, or the address that a listener listens on.",
    value: cells::destination,
    ..Column::END
};
const OWNER: Column<TcpEvent> = Column {
    width: Width::Flexible(13, Cut::End),
    doc: "Whose socket it is, named as in `flows`.",
    value: cells::owner,
    ..Column::OWNER
};
const DETAIL: Column<TcpEvent> = Column {
    name: "detail",
    header: "DETAIL",
    width: Width::Flexible(12, Cut::Words),
    usual: 24,
    comfort: 30,
    priority: 5,
    tone: |_| Tone::Plain,
    doc: "Of a `connect` or `accept`: how long the handshake took; of a `fail`: the error; of a `close`: how long the connection lasted and what it carried; of a `retransmit`: segments; of a `reset`: whether it was sent or received; of a `drop`: the kernel's reason, packets, and where.",
    value: detail::text,
    ..Column::WORDS
};
const NAME: Column<TcpEvent> = Column {
    name: "name",
    header: "NAME",
    doc: "The name by which the owner found the other end, where a DNS answer led there.",
    value: cells::name,
    ..Column::WORDS
};
const ROLE: Column<TcpEvent> = Column {
    name: "role",
    header: "ROLE",
    width: Width::Natural(8),
    doc: "What the local end is: `client`, `server` or `listener`.",
    value: cells::role,
    ..Column::WORDS
};
const STATE: Column<TcpEvent> = Column {
    name: "state",
    header: "STATE",
    width: Width::Natural(11),
    doc: "The state that the connection is in now.",
    value: cells::state,
    ..Column::WORDS
};
const RTT: Column<TcpEvent> = Column {
    name: "rtt",
    header: "RTT",
    width: Width::Natural(6),
    doc: "The kernel's smoothed round-trip time.",
    value: cells::rtt,
    ..Column::NUMBER
};
const RETRANSMITS: Column<TcpEvent> = Column {
    name: "retransmits",
    header: "RETRANS",
    doc: "Segments that were sent again so far.",
    value: cells::retransmits,
    ..Column::NUMBER
};
const SENT: Column<TcpEvent> = Column {
    name: "sent",
    header: "SENT",
    width: Width::Natural(6),
    doc: "Payload that was sent so far.",
    value: cells::sent,
    ..Column::NUMBER
};
const RECEIVED: Column<TcpEvent> = Column {
    name: "received",
    header: "RECV",
    width: Width::Natural(6),
    doc: "Payload that was received so far.",
    value: cells::received,
    ..Column::NUMBER
};
const INTERFACE: Column<TcpEvent> = Column {
    name: "interface",
    header: "INTERFACE",
    doc: "Of a dropped packet.",
    value: cells::interface,
    ..Column::WORDS
};
const CONTAINER: Column<TcpEvent> = Column {
    name: "container",
    header: "CONTAINER",
    doc: "Container of the owner.",
    value: cells::container,
    ..Column::WORDS
};
const NODE: Column<TcpEvent> = Column {
    name: "node",
    header: "NODE",
    doc: "The node that saw it.",
    value: cells::node,
    ..Column::WORDS
};
const NETNS: Column<TcpEvent> = Column {
    name: "netns",
    header: "NETNS",
    width: Width::Natural(10),
    tone: |_| Tone::Quiet,
    doc: "Inode of the network namespace.",
    value: cells::netns,
    ..Column::NUMBER
};
const CGROUP: Column<TcpEvent> = Column {
    name: "cgroup",
    header: "CGROUP",
    doc: "The owner's cgroup, below the root.",
    value: cells::cgroup,
    ..Column::WORDS
};
