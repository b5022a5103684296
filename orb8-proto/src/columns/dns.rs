//! The columns of DNS exchanges, and of what an owner asked for.

use super::ends::TwoEnded;
use super::{Column, Cut, Subject, Tone, View, Width};
use crate::v1::{DnsExchange, DnsSummary};

mod cells;
mod summary;

pub use summary::TOP;

impl Subject for DnsExchange {
    type Row<'a> = &'a Self;
}

impl Subject for DnsSummary {
    type Row<'a> = &'a Self;
}

/// A stream of exchanges.
pub static EXCHANGES: View<DnsExchange> =
    View { command: "trace dns", columns: COLUMNS, wide: WIDE, is_stream: true };

const COLUMNS: &[&Column<DnsExchange>] =
    &[&TIME, &OWNER, &NAME, &TYPE, &RESULT, &LATENCY, &RETRIES, &SIDE, &SERVER, &ANSWERS];

const WIDE: &[&Column<DnsExchange>] = &[
    &TIME,
    &OWNER,
    &NAME,
    &TYPE,
    &RESULT,
    &LATENCY,
    &RETRIES,
    &SIDE,
    &CLIENT,
    &SERVER,
    &PROTOCOL,
    &ID,
    &FLAGS,
    &BYTES,
    &HOOK,
    &INTERFACE,
    &DnsExchange::WORKLOAD,
    &CONTAINER,
    &DnsExchange::PEER,
    &DnsExchange::BACKEND,
    &DnsExchange::PEER_NODE,
    &DnsExchange::FOUND,
    &NODE,
    &CGROUP,
    &ANSWERS,
];

const TIME: Column<DnsExchange> = Column { value: cells::time, ..Column::TIME };
const OWNER: Column<DnsExchange> = Column {
    doc: "Whose socket it is: the client's, or the server's where `SIDE` is `server`; named as in `flows`.",
    value: cells::owner,
    ..Column::OWNER
};
const NAME: Column<DnsExchange> = Column {
    name: "name",
    header: "NAME",
    width: Width::Flexible(16, Cut::Middle),
    usual: 24,
    comfort: 24,
    priority: 1,
    tone: |_| Tone::Plain,
    doc: "The name that was asked for; `.` is the root.",
    value: cells::name,
    ..Column::WORDS
};
const TYPE: Column<DnsExchange> = Column {
    name: "type",
    header: "TYPE",
    width: Width::Natural(5),
    priority: 5,
    tone: |_| Tone::Plain,
    doc: "The type of record that was asked for.",
    value: cells::query_type,
    ..Column::WORDS
};
const RESULT: Column<DnsExchange> = Column {
    name: "rcode",
    header: "RCODE",
    width: Width::Flexible(8, Cut::Words),
    usual: 8,
    comfort: 13,
    priority: 2,
    tone: cells::result_tone,
    doc: "The response code, with `late` where the response came after a timeout was told; or `TIMEOUT`, `UNASKED` (a response that matches no query) or `MALFORMED`.",
    value: cells::result,
    ..Column::WORDS
};
const LATENCY: Column<DnsExchange> = Column {
    name: "latency",
    header: "LATENCY",
    priority: 3,
    tone: cells::latency_tone,
    doc: "From the first query to the response, or until waiting ended.",
    value: cells::latency,
    ..Column::NUMBER
};
const RETRIES: Column<DnsExchange> = Column {
    name: "retries",
    header: "RETRIES",
    priority: 11,
    tone: |_| Tone::Warn,
    doc: "Times that the same query was sent again.",
    value: cells::retries,
    ..Column::NUMBER
};
const SIDE: Column<DnsExchange> = Column {
    name: "side",
    header: "SIDE",
    width: Width::Natural(6),
    priority: 6,
    doc: "Where it was seen: at the `client`, at the `server`, or in `transit`.",
    value: cells::side,
    ..Column::WORDS
};
const CLIENT: Column<DnsExchange> = Column {
    name: "client",
    header: "CLIENT",
    doc: "Who asked, as `SOURCE` of `flows`.",
    value: cells::client,
    ..Column::END
};
const SERVER: Column<DnsExchange> = Column {
    name: "server",
    header: "SERVER",
    width: Width::Flexible(10, Cut::Middle),
    usual: 12,
    comfort: 16,
    priority: 9,
    doc: "Who was asked, as `DESTINATION` of `flows`, with the port where it is not 53.",
    value: cells::server,
    ..Column::END
};
const ANSWERS: Column<DnsExchange> = Column {
    name: "answers",
    header: "ANSWERS",
    width: Width::Flexible(12, Cut::End),
    usual: 16,
    comfort: 16,
    priority: 8,
    doc: "Addresses in the answer, the names that it points to, and how many records there are besides.",
    value: cells::answers,
    ..Column::WORDS
};
const PROTOCOL: Column<DnsExchange> = Column {
    name: "protocol",
    header: "PROTO",
    doc: "UDP or TCP.",
    value: cells::protocol,
    ..Column::WORDS
};
const ID: Column<DnsExchange> = Column {
    name: "id",
    header: "ID",
    width: Width::Natural(5),
    tone: |_| Tone::Quiet,
    doc: "The id of the messages.",
    value: cells::id,
    ..Column::NUMBER
};
const FLAGS: Column<DnsExchange> = Column {
    name: "flags",
    header: "FLAGS",
    doc: "Of the response: `tc` truncated, `aa` authoritative, `ra` recursion available, `ad` authentic data.",
    value: cells::flags,
    ..Column::WORDS
};
const BYTES: Column<DnsExchange> = Column {
    name: "bytes",
    header: "BYTES",
    tone: |_| Tone::Quiet,
    doc: "DNS bytes of the query and of the response.",
    value: cells::bytes,
    ..Column::NUMBER
};
const HOOK: Column<DnsExchange> = Column {
    name: "hook",
    header: "HOOK",
    width: Width::Natural(6),
    doc: "Where it was seen: `socket` or `interface`.",
    value: cells::hook,
    ..Column::WORDS
};
const INTERFACE: Column<DnsExchange> = Column {
    name: "interface",
    header: "INTERFACE",
    doc: "Interface as last seen.",
    value: cells::interface,
    ..Column::WORDS
};
const CONTAINER: Column<DnsExchange> = Column {
    name: "container",
    header: "CONTAINER",
    doc: "Container of the owner.",
    value: cells::container,
    ..Column::WORDS
};
const NODE: Column<DnsExchange> = Column {
    name: "node",
    header: "NODE",
    doc: "The node that saw it.",
    value: cells::node,
    ..Column::WORDS
};
const CGROUP: Column<DnsExchange> = Column {
    name: "cgroup",
    header: "CGROUP",
    doc: "The owner's cgroup, below the root.",
    value: cells::cgroup,
    ..Column::WORDS
};
