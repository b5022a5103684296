//! The text of each cell of a flow.

use super::{Flows, Row};
use crate::columns::cells::{self, Cell, clock, owner};
use crate::columns::ends::{Ends, TwoEnded};
use crate::columns::{Format, Tone};
use crate::filter::{End, FlowFields};
use crate::v1::{EndReason, EventKind, Flow, IcmpType, Protocol, StreamEventsResponse};
use crate::{icmp, units};

pub(super) fn time(row: Row<'_>, format: &Format) -> Cell {
    clock(row.event.map_or(row.flow.last_seen_ns, |event| event.time_ns), format)
}

pub(super) fn first_seen(row: Row<'_>, format: &Format) -> Cell {
    clock(row.flow.first_seen_ns, format)
}

pub(super) fn last_seen(row: Row<'_>, format: &Format) -> Cell {
    clock(row.flow.last_seen_ns, format)
}

pub(super) fn event(row: Row<'_>, _: &Format) -> Cell {
    let event = row.event?;
    let word = match (event.kind(), event.end_reason()) {
        (EventKind::FlowClosing, EndReason::Fin) => "fin",
        (EventKind::FlowClosing, EndReason::Rst) => "rst",
        (EventKind::FlowEnd, EndReason::Fin) => "closed",
        (EventKind::FlowEnd, EndReason::Rst) => "reset",
        (EventKind::FlowEnd, EndReason::Idle) => "idle",
        (EventKind::FlowEnd, EndReason::Evicted) => "evicted",
        (kind, _) => kind.word()?,
    };
    Some(word.to_owned())
}

pub(super) fn event_tone(row: Row<'_>) -> Tone {
    match row.event.map(StreamEventsResponse::kind) {
        Some(EventKind::FlowNew) => Tone::Good,
        Some(_) | None => Tone::Plain,
    }
}

impl TwoEnded for Flows {
    fn ends(row: Self::Row<'_>) -> Ends<'_> {
        ends(row.flow)
    }
}

fn ends(flow: &Flow) -> Ends<'_> {
    Ends::new(flow.local(), flow.source.as_ref(), flow.destination.as_ref(), &flow.node_name)
}

pub(super) fn owner_cell(row: Row<'_>, _: &Format) -> Cell {
    owner(ends(row.flow).owner()?)
}

pub(super) fn protocol_cell(row: Row<'_>, _: &Format) -> Cell {
    let flow = row.flow;
    let protocol = protocol(flow);
    let message = flow.icmp.and_then(|icmp| icmp::name(flow.protocol(), icmp));
    Some(match message {
        Some(message) => format!("{protocol} {message}"),
        None => protocol,
    })
}

pub(super) fn source(row: Row<'_>, format: &Format) -> Cell {
    endpoint(row.flow, End::Source, format)
}

pub(super) fn destination(row: Row<'_>, format: &Format) -> Cell {
    endpoint(row.flow, End::Destination, format)
}

pub(super) fn direction(row: Row<'_>, _: &Format) -> Cell {
    cells::word(row.flow.direction().word())
}

pub(super) fn bytes(row: Row<'_>, _: &Format) -> Cell {
    Some(units::bytes(amounts(row)?.0))
}

pub(super) fn packets(row: Row<'_>, _: &Format) -> Cell {
    Some(units::packets(amounts(row)?.1))
}

pub(super) fn total(row: Row<'_>, _: &Format) -> Cell {
    Some(units::bytes(row.flow.bytes))
}

pub(super) fn rate(row: Row<'_>, _: &Format) -> Cell {
    Some(units::byte_rate(row.flow.bytes_per_second))
}

pub(super) fn packet_rate(row: Row<'_>, _: &Format) -> Cell {
    Some(units::packets(row.flow.packets_per_second))
}

pub(super) fn info(row: Row<'_>, _: &Format) -> Cell {
    let flow = row.flow;
    if flow.fragment {
        return Some("fragment".to_owned());
    }
    match flow.protocol() {
        Protocol::Tcp => cells::text(&cells::tcp_flags(flow.tcp_flags)),
        Protocol::Icmp | Protocol::Icmpv6 => {
            let IcmpType { r#type, code } = flow.icmp?;
            Some(format!("{type}/{code}"))
        }
        Protocol::Udp | Protocol::Sctp | Protocol::Other | Protocol::Unspecified => None,
    }
}

pub(super) fn interface(row: Row<'_>, _: &Format) -> Cell {
    cells::interface(row.flow.interface.as_ref())
}

pub(super) fn hook(row: Row<'_>, _: &Format) -> Cell {
    cells::word(row.flow.hook().word())
}

pub(super) fn vlan(row: Row<'_>, _: &Format) -> Cell {
    let outer = row.flow.vlan?;
    Some(match row.flow.inner_vlan {
        Some(inner) => format!("{outer}.{inner}"),
        None => outer.to_string(),
    })
}

pub(super) fn container(row: Row<'_>, _: &Format) -> Cell {
    cells::text(&ends(row.flow).owner()?.container)
}

pub(super) fn node(row: Row<'_>, _: &Format) -> Cell {
    cells::text(&row.flow.node_name)
}

pub(super) fn cgroup(row: Row<'_>, _: &Format) -> Cell {
    cells::text(&ends(row.flow).owner()?.cgroup_path)
}

pub(super) fn name(row: Row<'_>, _: &Format) -> Cell {
    ends(row.flow).label()
}

pub(super) fn state(row: Row<'_>, _: &Format) -> Cell {
    cells::state(row.flow.tcp.as_ref())
}

pub(super) fn rtt(row: Row<'_>, _: &Format) -> Cell {
    cells::rtt(row.flow.tcp.as_ref())
}

pub(super) fn retransmits(row: Row<'_>, _: &Format) -> Cell {
    cells::retransmits(row.flow.tcp.as_ref())
}

/// Names the protocol: `TCP`, `ICMPv6`, `GRE`, or `IP 99` where it has no name here.
#[must_use]
pub fn protocol(flow: &Flow) -> String {
    let name = match (flow.protocol(), flow.ip_protocol) {
        (Protocol::Tcp, _) => "TCP",
        (Protocol::Udp, _) => "UDP",
        (Protocol::Icmp, _) => "ICMP",
        (Protocol::Icmpv6, _) => "ICMPv6",
        (Protocol::Sctp, _) => "SCTP",
        (_, 2) => "IGMP",
        (_, 4) => "IPIP",
        (_, 41) => "IP6IN4",
        (_, 47) => "GRE",
        (_, 50) => "ESP",
        (_, 51) => "AH",
        (_, 89) => "OSPF",
        (_, 112) => "VRRP",
        (_, other) => return format!("IP {other}"),
    };
    name.to_owned()
}

/// Formats one end: `shop/web-7d4f:https`, `svc:shop/db:5432`, `api.example.com:443`,
/// `[fd00::1]:51000`, or without a port where there are none.
#[must_use]
pub fn endpoint(flow: &Flow, end: End, format: &Format) -> Option<String> {
    let ports = (flow.port(end), flow.port(end.other()), flow.protocol());
    ends(flow).place(end, ports, format)
}

/// Bytes and packets: what an update adds, else the flow's totals. A new flow has none yet.
fn amounts(row: Row<'_>) -> Option<(u64, u64)> {
    let totals = (row.flow.bytes, row.flow.packets);
    match row.event.map(|event| (event.kind(), event)) {
        Some((EventKind::FlowUpdate, event)) => Some((event.delta_bytes, event.delta_packets)),
        Some((EventKind::FlowNew, _)) if totals == (0, 0) => None,
        // The end that follows has them.
        Some((EventKind::FlowClosing, _)) => None,
        Some(_) | None => Some(totals),
    }
}
