//! The columns of TCP connections.

use super::cells::end;
use crate::columns::cells::{self, Cell};
use crate::columns::ends::TwoEnded;
use crate::columns::{Column, Cut, Format, Tone, View, Width};
use crate::filter::End;
use crate::units;
use crate::v1::{TcpConnection, TcpHealth};

/// A list of connections.
pub static TOP: View<TcpConnection> =
    View { command: "tcp top", columns: COLUMNS, wide: WIDE, is_stream: false };

const COLUMNS: &[&Column<TcpConnection>] =
    &[&OWNER, &SOURCE, &DESTINATION, &STATE, &RTT, &P99, &RETRANSMITS, &SENT, &RECEIVED, &AGE];

const WIDE: &[&Column<TcpConnection>] = &[
    &OWNER,
    &SOURCE,
    &DESTINATION,
    &NAME,
    &ROLE,
    &STATE,
    &HANDSHAKE,
    &RTT,
    &MIN,
    &MEAN,
    &P99,
    &MAX,
    &SAMPLES,
    &RETRANSMITS,
    &SENT,
    &RECEIVED,
    &AGE,
    &OPENED,
    &CLOSED,
    &TcpConnection::WORKLOAD,
    &CONTAINER,
    &TcpConnection::PEER,
    &TcpConnection::BACKEND,
    &TcpConnection::PEER_NODE,
    &TcpConnection::FOUND,
    &NODE,
    &CGROUP,
];

const OWNER: Column<TcpConnection> = Column {
    doc: "Whose socket it is, named as in `flows`.",
    value: |row, _| cells::owner(TcpConnection::ends(row).owner()?),
    ..Column::OWNER
};
const SOURCE: Column<TcpConnection> = Column {
    name: "source",
    header: "SOURCE",
    priority: 2,
    doc: "Who opened it, where that is known, else the local end. Named as in `flows`.",
    value: |row, format| end::<TcpConnection>(row, End::Source, format),
    ..Column::END
};
const DESTINATION: Column<TcpConnection> = Column {
    name: "destination",
    header: "DESTINATION",
    priority: 1,
    doc: "The other end.",
    value: |row, format| end::<TcpConnection>(row, End::Destination, format),
    ..Column::END
};
const NAME: Column<TcpConnection> = Column {
    name: "name",
    header: "NAME",
    doc: "The name by which the owner found the other end, where a DNS answer led there.",
    value: |row, _| TcpConnection::ends(row).label(),
    ..Column::WORDS
};
const ROLE: Column<TcpConnection> = Column {
    name: "role",
    header: "ROLE",
    width: Width::Natural(6),
    doc: "Whether the local end is the `client` or the `server`.",
    value: |row, _| cells::word(row.health.as_ref()?.role().word()),
    ..Column::WORDS
};
const STATE: Column<TcpConnection> = Column {
    name: "state",
    header: "STATE",
    width: Width::Natural(11),
    priority: 9,
    doc: "Its state, as `ss` names it.",
    value: |row, _| cells::state(row.health.as_ref()),
    ..Column::WORDS
};
const HANDSHAKE: Column<TcpConnection> = Column {
    name: "handshake",
    header: "HANDSHAKE",
    doc: "How long the handshake took.",
    value: |row, _| latency(row, |health| health.handshake_ns),
    ..Column::NUMBER
};
const RTT: Column<TcpConnection> = Column {
    name: "rtt",
    header: "RTT",
    width: Width::Natural(6),
    priority: 3,
    doc: "The kernel's smoothed round-trip time.",
    value: |row, _| cells::rtt(row.health.as_ref()),
    ..Column::NUMBER
};
const MIN: Column<TcpConnection> = Column {
    name: "rtt_min",
    header: "MIN",
    width: Width::Natural(6),
    doc: "The shortest sample of the round-trip time.",
    value: |row, _| latency(row, |health| health.rtt_min_ns),
    ..Column::NUMBER
};
const MEAN: Column<TcpConnection> = Column {
    name: "rtt_mean",
    header: "MEAN",
    width: Width::Natural(6),
    doc: "The mean of the samples.",
    value: |row, _| latency(row, |health| health.rtt_mean_ns),
    ..Column::NUMBER
};
const P99: Column<TcpConnection> = Column {
    name: "rtt_p99",
    header: "P99",
    width: Width::Natural(6),
    priority: 8,
    doc: "99 % of the samples were no longer.",
    value: |row, _| latency(row, |health| health.rtt_p99_ns),
    ..Column::NUMBER
};
const MAX: Column<TcpConnection> = Column {
    name: "rtt_max",
    header: "MAX",
    width: Width::Natural(6),
    doc: "The longest sample.",
    value: |row, _| latency(row, |health| health.rtt_max_ns),
    ..Column::NUMBER
};
const SAMPLES: Column<TcpConnection> = Column {
    name: "rtt_samples",
    header: "SAMPLES",
    doc: "How many samples there were.",
    value: |row, _| Some(units::packets(row.health.as_ref()?.rtt_samples)),
    ..Column::NUMBER
};
const RETRANSMITS: Column<TcpConnection> = Column {
    name: "retransmits",
    header: "RETRANS",
    priority: 4,
    tone: |row| match row.health.as_ref().map(|health| health.retransmits) {
        Some(1..) => Tone::Warn,
        Some(0) | None => Tone::Plain,
    },
    doc: "Segments that were sent again.",
    value: |row, _| cells::retransmits(row.health.as_ref()),
    ..Column::NUMBER
};
const SENT: Column<TcpConnection> = Column {
    name: "sent",
    header: "SENT",
    width: Width::Natural(6),
    priority: 5,
    doc: "Payload that was sent, each byte once.",
    value: |row, _| Some(units::bytes(row.health.as_ref()?.bytes_sent)),
    ..Column::NUMBER
};
const RECEIVED: Column<TcpConnection> = Column {
    name: "received",
    header: "RECV",
    width: Width::Natural(6),
    priority: 6,
    doc: "Payload that was received in order.",
    value: |row, _| Some(units::bytes(row.health.as_ref()?.bytes_received)),
    ..Column::NUMBER
};
const AGE: Column<TcpConnection> = Column {
    name: "age",
    header: "AGE",
    width: Width::Natural(6),
    priority: 10,
    doc: "How long it is open, or was; absent where it is older than the agent.",
    value: age,
    ..Column::NUMBER
};
const OPENED: Column<TcpConnection> = Column {
    name: "opened",
    header: "OPENED",
    doc: "When it was opened, local time.",
    value: |row, format| cells::clock(row.health.as_ref()?.opened_ns, format),
    ..Column::WORDS
};
const CLOSED: Column<TcpConnection> = Column {
    name: "closed",
    header: "CLOSED",
    doc: "When it ended, local time.",
    value: |row, format| cells::clock(row.health.as_ref()?.closed_ns, format),
    ..Column::WORDS
};
const CONTAINER: Column<TcpConnection> = Column {
    name: "container",
    header: "CONTAINER",
    width: Width::Flexible(12, Cut::End),
    doc: "Container of the owner.",
    value: |row, _| cells::text(&TcpConnection::ends(row).owner()?.container),
    ..Column::WORDS
};
const NODE: Column<TcpConnection> = Column {
    name: "node",
    header: "NODE",
    doc: "The node that it is on.",
    value: |row, _| cells::text(&row.node_name),
    ..Column::WORDS
};
const CGROUP: Column<TcpConnection> = Column {
    name: "cgroup",
    header: "CGROUP",
    doc: "The owner's cgroup, below the root.",
    value: |row, _| cells::text(&TcpConnection::ends(row).owner()?.cgroup_path),
    ..Column::WORDS
};

fn latency(row: &TcpConnection, of: fn(&TcpHealth) -> Option<u64>) -> Cell {
    of(row.health.as_ref()?).map(units::latency)
}

fn age(row: &TcpConnection, format: &Format) -> Cell {
    let health = row.health.as_ref()?;
    let end = if health.closed_ns > 0 { health.closed_ns } else { format.now_ns };
    cells::span(health.opened_ns, end)
}
