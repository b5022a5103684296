//! The columns of what an owner asked for.

use crate::columns::cells::{self, Cell};
use crate::columns::{Column, Cut, Format, Tone, View, Width};
use crate::units;
use crate::v1::{DnsSummary, Histogram};

/// A list by owner and name.
pub static TOP: View<DnsSummary> =
    View { command: "dns top", columns: COLUMNS, wide: WIDE, is_stream: false };

const COLUMNS: &[&Column<DnsSummary>] = &[
    &OWNER, &NAME, &SIDE, &QUERIES, &ERRORS, &NXDOMAIN, &SERVFAIL, &TIMEOUTS, &RETRIES, &P50, &P99,
    &MAX,
];

const WIDE: &[&Column<DnsSummary>] = &[
    &OWNER,
    &NAME,
    &SIDE,
    &TYPES,
    &QUERIES,
    &RESPONSES,
    &ERRORS,
    &NXDOMAIN,
    &SERVFAIL,
    &RCODES,
    &TIMEOUTS,
    &RETRIES,
    &TRUNCATED,
    &P50,
    &P90,
    &P99,
    &MAX,
    &MEAN,
    &FIRST_SEEN,
    &LAST_SEEN,
    &WORKLOAD,
    &CONTAINER,
    &CGROUP,
];

const OWNER: Column<DnsSummary> = Column {
    width: Width::Flexible(16, Cut::End),
    doc: "Who asked, or where `SIDE` is `server` who was asked; named as in `flows`.",
    value: |row, _| cells::owner(row.workload.as_ref()?),
    ..Column::OWNER
};
const NAME: Column<DnsSummary> = Column {
    name: "name",
    header: "NAME",
    width: Width::Flexible(16, Cut::Middle),
    comfort: 24,
    priority: 1,
    tone: |_| Tone::Plain,
    doc: "The name that was asked for; `(other)` for those without a row of their own.",
    value: |row, _| if row.other { Some("(other)".to_owned()) } else { cells::text(&row.name) },
    ..Column::WORDS
};
const TYPES: Column<DnsSummary> = Column {
    name: "types",
    header: "TYPES",
    doc: "The types of record that were asked for, the most frequent first.",
    value: types,
    ..Column::WORDS
};
const SIDE: Column<DnsSummary> = Column {
    name: "side",
    header: "SIDE",
    width: Width::Natural(7),
    priority: 8,
    doc: "Where it was seen: at the `client`, at the `server`, or in `transit`.",
    value: |row, _| cells::word(row.side().word()),
    ..Column::WORDS
};
const QUERIES: Column<DnsSummary> = Column {
    name: "queries",
    header: "QUERIES",
    priority: 2,
    doc: "Queries, repeated ones once.",
    value: |row, _| Some(units::packets(row.queries)),
    ..Column::NUMBER
};
const RESPONSES: Column<DnsSummary> = Column {
    name: "responses",
    header: "RESPONSES",
    doc: "Responses.",
    value: |row, _| Some(units::packets(row.responses)),
    ..Column::NUMBER
};
const ERRORS: Column<DnsSummary> = Column {
    name: "errors",
    header: "ERRORS",
    priority: 4,
    tone: |row| if errors(row) > 0 { Tone::Bad } else { Tone::Plain },
    doc: "Share of responses with another code than NOERROR.",
    value: error_share,
    ..Column::NUMBER
};
const NXDOMAIN: Column<DnsSummary> = Column {
    name: "nxdomain",
    header: "NXDOMAIN",
    priority: 9,
    tone: |_| Tone::Warn,
    doc: "Responses that say that there is no such name.",
    value: |row, _| cells::some(responses(row, 3)),
    ..Column::NUMBER
};
const SERVFAIL: Column<DnsSummary> = Column {
    name: "servfail",
    header: "SERVFAIL",
    priority: 10,
    tone: |_| Tone::Bad,
    doc: "Responses that say that the server failed.",
    value: |row, _| cells::some(responses(row, 2)),
    ..Column::NUMBER
};
const RCODES: Column<DnsSummary> = Column {
    name: "rcodes",
    header: "RCODES",
    doc: "Responses by code.",
    value: rcodes,
    ..Column::WORDS
};
const TIMEOUTS: Column<DnsSummary> = Column {
    name: "timeouts",
    header: "TIMEOUTS",
    priority: 5,
    tone: |_| Tone::Bad,
    doc: "Queries without a response in time.",
    value: |row, _| cells::some(row.timeouts),
    ..Column::NUMBER
};
const RETRIES: Column<DnsSummary> = Column {
    name: "retries",
    header: "RETRIES",
    priority: 11,
    tone: |_| Tone::Warn,
    doc: "Times that a query was sent again.",
    value: |row, _| cells::some(row.retries),
    ..Column::NUMBER
};
const TRUNCATED: Column<DnsSummary> = Column {
    name: "truncated",
    header: "TRUNCATED",
    doc: "Responses that did not fit.",
    value: |row, _| cells::some(row.truncated),
    ..Column::NUMBER
};
const P50: Column<DnsSummary> = Column {
    name: "p50",
    header: "P50",
    width: Width::Natural(6),
    priority: 7,
    doc: "Half of the responses took no longer.",
    value: |row, _| latency(row, |latency| latency.p50),
    ..Column::NUMBER
};
const P90: Column<DnsSummary> = Column {
    name: "p90",
    header: "P90",
    width: Width::Natural(6),
    doc: "90 % of the responses took no longer.",
    value: |row, _| latency(row, |latency| latency.p90),
    ..Column::NUMBER
};
const P99: Column<DnsSummary> = Column {
    name: "p99",
    header: "P99",
    width: Width::Natural(6),
    priority: 3,
    doc: "99 % of the responses took no longer.",
    value: |row, _| latency(row, |latency| latency.p99),
    ..Column::NUMBER
};
const MAX: Column<DnsSummary> = Column {
    name: "max",
    header: "MAX",
    width: Width::Natural(6),
    priority: 12,
    doc: "The longest that a response took.",
    value: |row, _| latency(row, |latency| latency.max),
    ..Column::NUMBER
};
const MEAN: Column<DnsSummary> = Column {
    name: "mean",
    header: "MEAN",
    width: Width::Natural(6),
    doc: "What a response took on average.",
    value: |row, _| latency(row, |latency| latency.mean().unwrap_or_default()),
    ..Column::NUMBER
};
const FIRST_SEEN: Column<DnsSummary> = Column {
    name: "first_seen",
    header: "FIRST SEEN",
    doc: "When it was first asked for, local time.",
    value: |row, format| cells::clock(row.first_seen_ns, format),
    ..Column::WORDS
};
const LAST_SEEN: Column<DnsSummary> = Column {
    name: "last_seen",
    header: "LAST SEEN",
    doc: "When it was last asked for, local time.",
    value: |row, format| cells::clock(row.last_seen_ns, format),
    ..Column::WORDS
};
const WORKLOAD: Column<DnsSummary> = Column {
    name: "workload",
    header: "WORKLOAD",
    doc: "What made the owner's pod, kind and name, as kubectl takes them.",
    value: |row, _| cells::controller(row.workload.as_ref()?.controller.as_ref()),
    ..Column::WORDS
};
const CONTAINER: Column<DnsSummary> = Column {
    name: "container",
    header: "CONTAINER",
    doc: "Container of the owner.",
    value: |row, _| cells::text(&row.workload.as_ref()?.container),
    ..Column::WORDS
};
const CGROUP: Column<DnsSummary> = Column {
    name: "cgroup",
    header: "CGROUP",
    doc: "The owner's cgroup, below the root.",
    value: |row, _| cells::text(&row.workload.as_ref()?.cgroup_path),
    ..Column::WORDS
};

fn responses(row: &DnsSummary, rcode: u32) -> u64 {
    let found = row.rcodes.iter().find(|count| count.rcode == rcode);
    found.map_or(0, |found| found.count)
}

fn errors(row: &DnsSummary) -> u64 {
    row.rcodes.iter().filter(|count| count.rcode > 0).map(|count| count.count).sum()
}

fn error_share(row: &DnsSummary, _: &Format) -> Cell {
    units::share(errors(row), row.responses)
}

fn rcodes(row: &DnsSummary, _: &Format) -> Cell {
    let texts = row.rcodes.iter().map(|count| format!("{} {}", count.name, count.count));
    cells::text(&texts.collect::<Vec<_>>().join(", "))
}

fn types(row: &DnsSummary, _: &Format) -> Cell {
    let names: Vec<&str> = row.types.iter().map(|count| count.name.as_str()).collect();
    cells::text(&names.join(" "))
}

fn latency(row: &DnsSummary, of: fn(&Histogram) -> u64) -> Cell {
    let latency = row.latency.as_ref().filter(|latency| latency.count() > 0)?;
    Some(units::latency(of(latency)))
}
