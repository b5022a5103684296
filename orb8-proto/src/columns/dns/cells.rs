//! The text of each cell of a DNS exchange.

use crate::columns::cells::{self, Cell};
use crate::columns::ends::{Ends, TwoEnded};
use crate::columns::{Format, Tone};
use crate::filter::End;
use crate::units;
use crate::v1::{DnsAnswer, DnsExchange, DnsOutcome, Protocol};

type Row<'a> = &'a DnsExchange;

const NOERROR: u32 = 0;
const NXDOMAIN: u32 = 3;

/// The port that is not worth a column's room.
const DNS_PORT: u32 = 53;

/// A response from which on people wait; resolvers of a cluster take a few milliseconds.
const SLOW_NS: u64 = 100_000_000;

impl TwoEnded for DnsExchange {
    fn ends(row: Self::Row<'_>) -> Ends<'_> {
        ends(row)
    }
}

fn ends(row: Row<'_>) -> Ends<'_> {
    let local = row.side().local_end().end();
    Ends::new(local, row.client.as_ref(), row.server.as_ref(), &row.node_name)
}

pub(super) fn time(row: Row<'_>, format: &Format) -> Cell {
    cells::clock(row.time_ns, format)
}

pub(super) fn owner(row: Row<'_>, _: &Format) -> Cell {
    cells::owner(ends(row).owner()?)
}

pub(super) fn name(row: Row<'_>, _: &Format) -> Cell {
    cells::text(&row.name)
}

pub(super) fn query_type(row: Row<'_>, _: &Format) -> Cell {
    cells::text(&row.query_type_name)
}

pub(super) fn result(row: Row<'_>, _: &Format) -> Cell {
    match row.outcome() {
        DnsOutcome::Answered if row.late => Some(format!("{} late", row.rcode_name)),
        DnsOutcome::Answered => cells::text(&row.rcode_name),
        outcome => outcome.word().map(str::to_uppercase),
    }
}

pub(super) fn result_tone(row: Row<'_>) -> Tone {
    match (row.outcome(), row.rcode) {
        (DnsOutcome::Answered, Some(NOERROR)) if row.late => Tone::Warn,
        (DnsOutcome::Answered, None | Some(NOERROR)) => Tone::Plain,
        // Search domains make these; they are not always a mistake.
        (DnsOutcome::Answered, Some(NXDOMAIN)) => Tone::Warn,
        (DnsOutcome::Answered, Some(_)) | (DnsOutcome::Timeout, _) => Tone::Bad,
        (DnsOutcome::Unasked | DnsOutcome::Malformed, _) => Tone::Warn,
        (DnsOutcome::Unspecified, _) => Tone::Plain,
    }
}

pub(super) fn latency(row: Row<'_>, _: &Format) -> Cell {
    let waited = matches!(row.outcome(), DnsOutcome::Answered | DnsOutcome::Timeout);
    waited.then(|| units::latency(row.latency_ns))
}

pub(super) fn latency_tone(row: Row<'_>) -> Tone {
    if row.latency_ns >= SLOW_NS { Tone::Warn } else { Tone::Plain }
}

pub(super) fn retries(row: Row<'_>, _: &Format) -> Cell {
    cells::some(row.retries.into())
}

pub(super) fn side(row: Row<'_>, _: &Format) -> Cell {
    cells::word(row.side().word())
}

pub(super) fn client(row: Row<'_>, format: &Format) -> Cell {
    let ports = (cells::port(row.client.as_ref()), cells::port(row.server.as_ref()));
    ends(row).place(End::Source, (ports.0, ports.1, row.protocol()), format)
}

pub(super) fn server(row: Row<'_>, format: &Format) -> Cell {
    let port = cells::port(row.server.as_ref()).filter(|port| u32::from(*port) != DNS_PORT);
    let ports = (port, cells::port(row.client.as_ref()), row.protocol());
    ends(row).place(End::Destination, ports, format)
}

/// Addresses first: they are what was looked for.
pub(super) fn answers(row: Row<'_>, _: &Format) -> Cell {
    let addresses =
        row.answers.iter().filter_map(DnsAnswer::addr).map(|address| address.to_string());
    let targets = row.answers.iter().filter_map(DnsAnswer::target).map(str::to_owned);
    let mut texts: Vec<String> = addresses.chain(targets).collect();
    let told = u32::try_from(texts.len()).unwrap_or(u32::MAX);
    match (row.answer_count.saturating_sub(told), told) {
        (0, _) => {}
        (1, 0) => texts.push("1 record".to_owned()),
        (records, 0) => texts.push(format!("{records} records")),
        (more, _) => texts.push(format!("+{more}")),
    }
    cells::text(&texts.join(" "))
}

pub(super) fn protocol(row: Row<'_>, _: &Format) -> Cell {
    match row.protocol() {
        Protocol::Unspecified => None,
        protocol => protocol.word().map(str::to_uppercase),
    }
}

pub(super) fn id(row: Row<'_>, _: &Format) -> Cell {
    Some(row.id.to_string())
}

pub(super) fn flags(row: Row<'_>, _: &Format) -> Cell {
    let flags = [
        (row.truncated, "tc"),
        (row.authoritative, "aa"),
        (row.recursion_available, "ra"),
        (row.authentic_data, "ad"),
    ];
    let set: Vec<&str> = flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word).collect();
    cells::text(&set.join(" "))
}

pub(super) fn bytes(row: Row<'_>, _: &Format) -> Cell {
    Some(format!("{}/{}", row.query_bytes, row.response_bytes))
}

pub(super) fn hook(row: Row<'_>, _: &Format) -> Cell {
    cells::word(row.hook().word())
}

pub(super) fn interface(row: Row<'_>, _: &Format) -> Cell {
    cells::interface(row.interface.as_ref())
}

pub(super) fn container(row: Row<'_>, _: &Format) -> Cell {
    cells::text(&ends(row).owner()?.container)
}

pub(super) fn node(row: Row<'_>, _: &Format) -> Cell {
    cells::text(&row.node_name)
}

pub(super) fn cgroup(row: Row<'_>, _: &Format) -> Cell {
    cells::text(&ends(row).owner()?.cgroup_path)
}
