//! The text of each cell.

use jiff::Timestamp;

use super::{Format, Row};
use crate::filter::{End, FlowFields};
use crate::flow::present;
use crate::v1::{EndReason, EventKind, Flow, IcmpType, Protocol, Runtime, Workload};
use crate::{icmp, ports, units};

/// First port that systems hand out by themselves. A name for one of these is a coincidence, unless
/// the other end's port is no better.
const EPHEMERAL: u16 = 32_768;

type Cell = Option<String>;

pub(super) fn time(row: &Row<'_>, format: &Format) -> Cell {
    clock(row.event.map_or(row.flow.last_seen_ns, |event| event.time_ns), format)
}

pub(super) fn first_seen(row: &Row<'_>, format: &Format) -> Cell {
    clock(row.flow.first_seen_ns, format)
}

pub(super) fn last_seen(row: &Row<'_>, format: &Format) -> Cell {
    clock(row.flow.last_seen_ns, format)
}

pub(super) fn event(row: &Row<'_>, _: &Format) -> Cell {
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

pub(super) fn owner_cell(row: &Row<'_>, _: &Format) -> Cell {
    owner(row.flow.owner()?)
}

pub(super) fn peer(row: &Row<'_>, _: &Format) -> Cell {
    owner(row.flow.workload(row.flow.local()?.other())?)
}

pub(super) fn protocol_cell(row: &Row<'_>, _: &Format) -> Cell {
    let flow = row.flow;
    let protocol = protocol(flow);
    let message = flow.icmp.and_then(|icmp| icmp::name(flow.protocol(), icmp));
    Some(match message {
        Some(message) => format!("{protocol} {message}"),
        None => protocol,
    })
}

pub(super) fn source(row: &Row<'_>, format: &Format) -> Cell {
    endpoint(row.flow, End::Source, format)
}

pub(super) fn destination(row: &Row<'_>, format: &Format) -> Cell {
    endpoint(row.flow, End::Destination, format)
}

pub(super) fn direction(row: &Row<'_>, _: &Format) -> Cell {
    row.flow.direction().word().map(str::to_owned)
}

pub(super) fn bytes(row: &Row<'_>, _: &Format) -> Cell {
    Some(units::bytes(amounts(row)?.0))
}

pub(super) fn packets(row: &Row<'_>, _: &Format) -> Cell {
    Some(units::packets(amounts(row)?.1))
}

pub(super) fn total(row: &Row<'_>, _: &Format) -> Cell {
    Some(units::bytes(row.flow.bytes))
}

pub(super) fn rate(row: &Row<'_>, _: &Format) -> Cell {
    Some(units::byte_rate(row.flow.bytes_per_second))
}

pub(super) fn packet_rate(row: &Row<'_>, _: &Format) -> Cell {
    Some(units::packets(row.flow.packets_per_second))
}

pub(super) fn info(row: &Row<'_>, _: &Format) -> Cell {
    let flow = row.flow;
    if flow.fragment {
        return Some("fragment".to_owned());
    }
    match flow.protocol() {
        Protocol::Tcp => present(&tcp_flags(flow.tcp_flags)).map(str::to_owned),
        Protocol::Icmp | Protocol::Icmpv6 => {
            let IcmpType { r#type, code } = flow.icmp?;
            Some(format!("{type}/{code}"))
        }
        Protocol::Udp | Protocol::Sctp | Protocol::Other | Protocol::Unspecified => None,
    }
}

pub(super) fn interface(row: &Row<'_>, _: &Format) -> Cell {
    let interface = row.flow.interface.as_ref()?;
    match (interface.name.as_str(), interface.index) {
        ("", 0) => None,
        ("", index) => Some(format!("#{index}")),
        (name, _) => Some(name.to_owned()),
    }
}

pub(super) fn hook(row: &Row<'_>, _: &Format) -> Cell {
    row.flow.hook().word().map(str::to_owned)
}

pub(super) fn vlan(row: &Row<'_>, _: &Format) -> Cell {
    let outer = row.flow.vlan?;
    Some(match row.flow.inner_vlan {
        Some(inner) => format!("{outer}.{inner}"),
        None => outer.to_string(),
    })
}

pub(super) fn container(row: &Row<'_>, _: &Format) -> Cell {
    present(&row.flow.owner()?.container).map(str::to_owned)
}

pub(super) fn node(row: &Row<'_>, _: &Format) -> Cell {
    present(&row.flow.node_name).map(str::to_owned)
}

pub(super) fn cgroup(row: &Row<'_>, _: &Format) -> Cell {
    present(&row.flow.owner()?.cgroup_path).map(str::to_owned)
}

/// The owner where no cgroup but the root has the socket: the kernel, or a process outside every
/// container and unit.
pub const HOST: &str = "host";

/// Names an owner by the best name it has: `namespace/pod`, `docker:container`, a systemd unit,
/// a process, its cgroup, or [`HOST`].
#[must_use]
pub fn owner(workload: &Workload) -> Option<String> {
    if let Some(pod) = present(&workload.pod) {
        return Some(match present(&workload.namespace) {
            Some(namespace) => format!("{namespace}/{pod}"),
            None => pod.to_owned(),
        });
    }
    if let Some(container) = present(&workload.container) {
        return Some(match workload.runtime() {
            Runtime::Unspecified => container.to_owned(),
            runtime => format!("{}:{container}", runtime.word().unwrap_or_default()),
        });
    }
    let path = match workload.cgroup_path.as_str() {
        "/" => HOST,
        path => path,
    };
    [&workload.unit, &workload.process, path].into_iter().find_map(present).map(str::to_owned)
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

/// Formats one end: `10.0.0.1:https`, `[fd00::1]:51000`, or the address alone where there are no
/// ports.
#[must_use]
pub fn endpoint(flow: &Flow, end: End, format: &Format) -> Option<String> {
    let ip = flow.ip(end)?;
    let Some(port) = flow.port(end) else {
        return Some(ip.to_string());
    };
    let known = ports::name(flow.protocol(), port).filter(|_| !format.numeric);
    let by_chance = port >= EPHEMERAL && flow.port(end.other()).is_some_and(|p| p < EPHEMERAL);
    let port = match known {
        Some(name) if !by_chance => name.to_owned(),
        Some(_) | None => port.to_string(),
    };
    Some(if ip.is_ipv6() { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") })
}

/// Bytes and packets: what an update adds, else the flow's totals. A new flow has none yet.
fn amounts(row: &Row<'_>) -> Option<(u64, u64)> {
    let totals = (row.flow.bytes, row.flow.packets);
    match row.event.map(|event| (event.kind(), event)) {
        Some((EventKind::FlowUpdate, event)) => Some((event.delta_bytes, event.delta_packets)),
        Some((EventKind::FlowNew, _)) if totals == (0, 0) => None,
        // The end that follows has them.
        Some((EventKind::FlowClosing, _)) => None,
        Some(_) | None => Some(totals),
    }
}

fn clock(unix_ns: u64, format: &Format) -> Cell {
    if unix_ns == 0 {
        return None;
    }
    let time = Timestamp::from_nanosecond(i128::from(unix_ns)).ok()?;
    Some(time.to_zoned(format.time_zone.clone()).strftime("%H:%M:%S%.3f").to_string())
}

/// In the order of a connection's life.
fn tcp_flags(flags: u32) -> String {
    const LETTERS: [(u32, char); 8] = [
        (0x02, 'S'),
        (0x10, 'A'),
        (0x08, 'P'),
        (0x01, 'F'),
        (0x04, 'R'),
        (0x20, 'U'),
        (0x40, 'E'),
        (0x80, 'C'),
    ];
    LETTERS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, letter)| *letter).collect()
}
