//! How a flow reads in a table: one row here per column, from which tables, wide tables and docs
//! derive.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use crate::v1::{Flow, StreamEventsResponse};

mod cells;
#[cfg(test)]
mod tests;

pub use cells::{HOST, endpoint, owner, protocol};

/// One column.
#[derive(Debug)]
pub struct Column {
    /// The name, unique, as docs have it.
    pub name: &'static str,
    /// The header in a list of flows.
    pub header: &'static str,
    /// The header in a stream of events, where room is scarcer, and in a list without room.
    pub short_header: &'static str,
    /// How wide it is.
    pub width: Width,
    /// How wide it usually is: what a stream, which does not know its rows yet, begins with.
    pub usual: u16,
    /// How wide it stays, where its text is that wide, while columns of [`EXTRA`] priority are shown.
    pub comfort: u16,
    /// Which side its text leans to.
    pub align: Align,
    /// Which column goes first where there is no room: the one with the largest number.
    pub priority: u8,
    /// What it looks like.
    pub tone: Tone,
    /// What it holds.
    pub doc: &'static str,
    /// The text of a cell, `None` where there is nothing to tell.
    pub value: fn(&Row<'_>, &Format) -> Option<String>,
}

/// Columns of this priority and above go before another gets less than its comfort.
pub const EXTRA: u8 = 8;

/// How wide a column is, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// As wide as its widest text, and at least this.
    Natural(u16),
    /// As wide as its widest text where there is room, else cut, but not below this.
    Flexible(u16, Cut),
}

/// Where a text is cut that has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The beginning stays.
    End,
    /// Both ends stay.
    Middle,
    /// The beginning stays, and nothing tells that there was more.
    Silent,
    /// Whole words stay, as many as there is room for; the first one at least.
    Words,
}

/// Which side a text leans to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// What a column is to the eye. The colours are the terminal's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Most text.
    Plain,
    /// There when looked for.
    Quiet,
    /// Whose traffic it is.
    Owner,
    /// What happened.
    Event,
}

/// What a cell is made from.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The flow.
    pub flow: &'a Flow,
    /// The event that tells of it; `None` in a list of flows.
    pub event: Option<&'a StreamEventsResponse>,
}

/// Choices of the reader.
#[derive(Clone, Debug)]
pub struct Format {
    /// Print ports as numbers, even those with a name.
    pub numeric: bool,
    /// Where the clock hangs.
    pub time_zone: TimeZone,
}

/// Which columns are shown, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// A list of flows.
    Flows,
    /// The same with everything.
    FlowsWide,
    /// A stream of events.
    Events,
    /// The same with everything.
    EventsWide,
}

impl View {
    /// Every view.
    pub const ALL: [Self; 4] = [Self::Flows, Self::FlowsWide, Self::Events, Self::EventsWide];

    /// Returns the columns, in order.
    #[must_use]
    pub const fn columns(self) -> &'static [&'static Column] {
        match self {
            Self::Flows => FLOWS,
            Self::FlowsWide => FLOWS_WIDE,
            Self::Events => EVENTS,
            Self::EventsWide => EVENTS_WIDE,
        }
    }

    /// Returns the header that a column has here.
    #[must_use]
    pub const fn header(self, column: &Column) -> &'static str {
        match self {
            Self::Flows | Self::FlowsWide => column.header,
            Self::Events | Self::EventsWide => column.short_header,
        }
    }
}

/// Renders the table of columns as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "| column | `flows` | `trace` | wide only | what it holds |\n|---|---|---|---|---|\n",
    );
    for column in TABLE {
        let shown = |view: View| view.columns().iter().any(|shown| shown.name == column.name);
        let header = |wide: View| {
            if shown(wide) { format!("`{}`", wide.header(column)) } else { "–".to_owned() }
        };
        let narrow = shown(View::Flows) || shown(View::Events);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            column.name,
            header(View::FlowsWide),
            header(View::EventsWide),
            if narrow { "" } else { "yes" },
            column.doc,
        );
    }
    text
}

const FLOWS: &[&Column] =
    &[&OWNER, &PROTOCOL, &SOURCE, &DESTINATION, &DIRECTION, &BYTES, &PACKETS, &RATE];

const FLOWS_WIDE: &[&Column] = &[
    &OWNER,
    &PROTOCOL,
    &SOURCE,
    &DESTINATION,
    &DIRECTION,
    &BYTES,
    &PACKETS,
    &RATE,
    &PACKET_RATE,
    &INFO,
    &FIRST_SEEN,
    &LAST_SEEN,
    &INTERFACE,
    &HOOK,
    &VLAN,
    &CONTAINER,
    &PEER,
    &NODE,
    &CGROUP,
];

const EVENTS: &[&Column] =
    &[&TIME, &EVENT, &SOURCE, &DESTINATION, &PROTOCOL, &DIRECTION, &BYTES, &PACKETS, &OWNER];

const EVENTS_WIDE: &[&Column] = &[
    &TIME,
    &EVENT,
    &SOURCE,
    &DESTINATION,
    &PROTOCOL,
    &DIRECTION,
    &BYTES,
    &PACKETS,
    &TOTAL,
    &RATE,
    &INFO,
    &INTERFACE,
    &HOOK,
    &VLAN,
    &OWNER,
    &CONTAINER,
    &PEER,
    &NODE,
    &CGROUP,
];

/// Every column, for docs.
pub const TABLE: &[&Column] = &[
    &TIME,
    &EVENT,
    &OWNER,
    &PROTOCOL,
    &SOURCE,
    &DESTINATION,
    &DIRECTION,
    &BYTES,
    &PACKETS,
    &RATE,
    &PACKET_RATE,
    &TOTAL,
    &INFO,
    &FIRST_SEEN,
    &LAST_SEEN,
    &INTERFACE,
    &HOOK,
    &VLAN,
    &CONTAINER,
    &PEER,
    &NODE,
    &CGROUP,
];

/// What most columns are: words of their own width, the first to go.
const WORDS: Column = Column {
    name: "",
    header: "",
    short_header: "",
    width: Width::Natural(0),
    usual: 0,
    comfort: 0,
    align: Align::Left,
    priority: 20,
    tone: Tone::Quiet,
    doc: "",
    value: |_, _| None,
};

/// An end of the flow: an address is 15 characters at most, a port 5; usually they are fewer.
const END: Column = Column {
    width: Width::Flexible(14, Cut::Middle),
    usual: 16,
    comfort: 20,
    tone: Tone::Plain,
    ..WORDS
};

/// Numbers, right-aligned.
const NUMBER: Column = Column { align: Align::Right, tone: Tone::Plain, ..WORDS };

const TIME: Column = Column {
    name: "time",
    header: "TIME",
    short_header: "TIME",
    width: Width::Flexible(8, Cut::Silent),
    usual: 12,
    priority: 4,
    doc: "When it happened, local time; without milliseconds where there is no room.",
    value: cells::time,
    ..WORDS
};
const EVENT: Column = Column {
    name: "event",
    header: "EVENT",
    short_header: "EVENT",
    width: Width::Natural(6),
    priority: 3,
    tone: Tone::Event,
    doc: "`new`, `update`, or how the flow ended: `closed`, `reset`, `idle` or `evicted`; with `--event closing` also `fin` or `rst`, as soon as one is seen.",
    value: cells::event,
    ..WORDS
};
const OWNER: Column = Column {
    name: "owner",
    header: "NAMESPACE/POD",
    short_header: "OWNER",
    width: Width::Flexible(16, Cut::End),
    usual: 13,
    priority: 0,
    tone: Tone::Owner,
    doc: "Whose socket it is: pod, else container, systemd unit, process or cgroup; `host` for the root cgroup.",
    value: cells::owner_cell,
    ..WORDS
};
const PROTOCOL: Column = Column {
    name: "protocol",
    header: "PROTOCOL",
    short_header: "PROTO",
    width: Width::Flexible(6, Cut::Words),
    usual: 6,
    priority: 6,
    tone: Tone::Plain,
    doc: "TCP, UDP, SCTP or another IP protocol; ICMP and ICMPv6 with the message where there is room.",
    value: cells::protocol_cell,
    ..WORDS
};
const SOURCE: Column = Column {
    name: "source",
    header: "SOURCE",
    short_header: "SOURCE",
    priority: 2,
    doc: "Address and port of the sender.",
    value: cells::source,
    ..END
};
const DESTINATION: Column = Column {
    name: "destination",
    header: "DESTINATION",
    short_header: "DESTINATION",
    priority: 1,
    doc: "Address and port of the receiver.",
    value: cells::destination,
    ..END
};
const DIRECTION: Column = Column {
    name: "direction",
    header: "DIR",
    short_header: "DIR",
    width: Width::Natural(7),
    priority: 8,
    doc: "`egress` where the local end sends, `ingress` where it receives.",
    value: cells::direction,
    ..WORDS
};
const BYTES: Column = Column {
    name: "bytes",
    header: "BYTES",
    short_header: "BYTES",
    width: Width::Natural(6),
    priority: 5,
    doc: "IP bytes, powers of 1000. An `update` has what it adds, a `fin` or `rst` nothing, everything else the total.",
    value: cells::bytes,
    ..NUMBER
};
const PACKETS: Column = Column {
    name: "packets",
    header: "PACKETS",
    short_header: "PACKETS",
    priority: 9,
    doc: "Packets as on the wire, powers of 1000 from 100,000. An `update` has what it adds, a `fin` or `rst` nothing, everything else the total.",
    value: cells::packets,
    ..NUMBER
};
const RATE: Column = Column {
    name: "rate",
    header: "RATE",
    short_header: "RATE",
    width: Width::Natural(8),
    priority: 7,
    doc: "Bytes per second over the agent's last interval.",
    value: cells::rate,
    ..NUMBER
};
const PACKET_RATE: Column = Column {
    name: "packet_rate",
    header: "PACKETS/S",
    short_header: "PACKETS/S",
    doc: "Packets per second over the agent's last interval.",
    value: cells::packet_rate,
    ..NUMBER
};
const TOTAL: Column = Column {
    name: "total",
    header: "TOTAL",
    short_header: "TOTAL",
    width: Width::Natural(6),
    doc: "IP bytes of the flow so far.",
    value: cells::total,
    ..NUMBER
};
const INFO: Column = Column {
    name: "info",
    header: "INFO",
    short_header: "INFO",
    width: Width::Natural(6),
    doc: "TCP flags seen (S A P F R U E C), the ICMP type and code, or `fragment`.",
    value: cells::info,
    ..WORDS
};
const FIRST_SEEN: Column = Column {
    name: "first_seen",
    header: "FIRST SEEN",
    short_header: "FIRST SEEN",
    width: Width::Natural(12),
    doc: "Time of the first packet, local time.",
    value: cells::first_seen,
    ..WORDS
};
const LAST_SEEN: Column = Column {
    name: "last_seen",
    header: "LAST SEEN",
    short_header: "LAST SEEN",
    width: Width::Natural(12),
    doc: "Time of the last packet, local time.",
    value: cells::last_seen,
    ..WORDS
};
const INTERFACE: Column = Column {
    name: "interface",
    header: "INTERFACE",
    short_header: "INTERFACE",
    doc: "Interface as last seen.",
    value: cells::interface,
    ..WORDS
};
const HOOK: Column = Column {
    name: "hook",
    header: "HOOK",
    short_header: "HOOK",
    width: Width::Natural(6),
    doc: "Where it was counted: `socket` or `interface`.",
    value: cells::hook,
    ..WORDS
};
const VLAN: Column = Column {
    name: "vlan",
    header: "VLAN",
    short_header: "VLAN",
    doc: "VLAN id; outermost and innermost where there are two.",
    value: cells::vlan,
    ..WORDS
};
const CONTAINER: Column = Column {
    name: "container",
    header: "CONTAINER",
    short_header: "CONTAINER",
    width: Width::Natural(12),
    doc: "Container of the owner.",
    value: cells::container,
    ..WORDS
};
const PEER: Column = Column {
    name: "peer",
    header: "PEER",
    short_header: "PEER",
    doc: "Whose the other end is, where it is known.",
    value: cells::peer,
    ..WORDS
};
const NODE: Column = Column {
    name: "node",
    header: "NODE",
    short_header: "NODE",
    doc: "The node that counted it.",
    value: cells::node,
    ..WORDS
};
const CGROUP: Column = Column {
    name: "cgroup",
    header: "CGROUP",
    short_header: "CGROUP",
    doc: "The owner's cgroup, below the root.",
    value: cells::cgroup,
    ..WORDS
};
