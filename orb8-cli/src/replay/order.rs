//! Order of rows: by what was asked for, and among equals as the agent does it.

use std::net::Ipv6Addr;

use orb8_proto::filter::End;
use orb8_proto::v1::{
    Direction, DnsSortBy, DnsSummary, Endpoint, Flow, Hook, SortBy, TcpConnection, TcpSortBy,
    Traffic, Workload, WorkloadSortBy, WorkloadSummary,
};

/// Rows returned when a query does not say how many, and at most; as the agent has it.
const LIMITS: (usize, usize) = (100, 100_000);

/// Sorts rows and leaves those within the limit.
pub(super) fn arrange<'a, R: ?Sized, K: Ord>(
    mut rows: Vec<&'a R>,
    ascending: bool,
    limit: u32,
    key: impl Fn(&'a R) -> (u64, K),
) -> Vec<&'a R> {
    let (usual, most) = LIMITS;
    let limit = if limit == 0 { usual } else { (limit as usize).min(most) };
    rows.sort_by_cached_key(|row| {
        let (value, tie) = key(row);
        (if ascending { value } else { u64::MAX - value }, tie)
    });
    rows.truncate(limit);
    rows
}

pub(super) fn flow(flow: &Flow, by: SortBy) -> (u64, impl Ord + use<>) {
    let value = match by {
        SortBy::Unspecified | SortBy::Bytes => flow.bytes,
        SortBy::Packets => flow.packets,
        SortBy::LastSeen => flow.last_seen_ns,
        SortBy::FirstSeen => flow.first_seen_ns,
        SortBy::Rate => flow.bytes_per_second,
    };
    let addresses = End::BOTH.map(|end| address(flow.endpoint(end)));
    let ports = match flow.icmp {
        Some(icmp) => [icmp.r#type, icmp.code],
        None => End::BOTH.map(|end| flow.endpoint(end).map_or(0, |end| end.port)),
    };
    // In the kernel's order: ingress, egress.
    let is_egress = flow.direction() == Direction::Egress;
    let place = match flow.hook() {
        Hook::Interface => (flow.interface.as_ref().map_or(0, |interface| interface.index), 0),
        Hook::Socket | Hook::Unspecified => (0, flow.cgroup_id),
    };
    (value, (addresses, ports, flow.ip_protocol, is_egress, place, flow.first_seen_ns))
}

pub(super) fn summary(row: &DnsSummary, by: DnsSortBy) -> (u64, impl Ord + '_) {
    let no_error = row.rcodes.iter().find(|count| count.rcode == 0).map_or(0, |count| count.count);
    let value = match by {
        DnsSortBy::Unspecified | DnsSortBy::Queries => row.queries,
        DnsSortBy::Errors => row.responses.saturating_sub(no_error),
        DnsSortBy::Timeouts => row.timeouts,
        DnsSortBy::Latency => row.latency.as_ref().map_or(0, |latency| latency.p99),
        DnsSortBy::LastSeen => row.last_seen_ns,
    };
    let name = (!row.other).then_some(row.name.as_str());
    (value, (name, row.workload.as_ref().map(identity), row.side))
}

pub(super) fn connection(row: &TcpConnection, by: TcpSortBy) -> (u64, impl Ord + use<>) {
    let health = row.health.unwrap_or_default();
    let value = match by {
        TcpSortBy::Unspecified | TcpSortBy::Retransmits => health.retransmits,
        TcpSortBy::Rtt => health.rtt_ns.unwrap_or(0),
        TcpSortBy::Handshake => health.handshake_ns.unwrap_or(0),
        TcpSortBy::Bytes => health.bytes_sent.saturating_add(health.bytes_received),
        TcpSortBy::Opened => health.opened_ns,
    };
    let local = row.local().unwrap_or(End::Source);
    let at = |end: End| (address(row.endpoint(end)), row.endpoint(end).map_or(0, |end| end.port));
    (value, (at(local), at(local.other()), row.socket_cookie))
}

pub(super) fn workload(row: &WorkloadSummary, by: WorkloadSortBy) -> (u64, &str) {
    let both = |of: fn(&Traffic) -> u64| {
        let way = |way: &Option<Traffic>| way.as_ref().map_or(0, of);
        way(&row.sent).saturating_add(way(&row.received))
    };
    let tcp = row.tcp.as_ref();
    let dns = row.dns.as_ref();
    let value = match by {
        WorkloadSortBy::Unspecified | WorkloadSortBy::Bytes => both(|way| way.bytes),
        WorkloadSortBy::Rate => both(|way| way.bytes_per_second),
        WorkloadSortBy::Packets => both(|way| way.packets),
        WorkloadSortBy::Flows => row.active_flows,
        WorkloadSortBy::Peers => row.peer_count,
        WorkloadSortBy::Connections => tcp.map_or(0, |tcp| tcp.open_connections),
        WorkloadSortBy::Retransmits => tcp.map_or(0, |tcp| tcp.retransmits),
        WorkloadSortBy::Rtt => tcp.and_then(|tcp| tcp.rtt.as_ref()).map_or(0, |rtt| rtt.p99),
        WorkloadSortBy::Queries => dns.map_or(0, |dns| dns.queries),
        WorkloadSortBy::Errors => dns.map_or(0, |dns| dns.errors),
        WorkloadSortBy::Timeouts => dns.map_or(0, |dns| dns.timeouts),
        WorkloadSortBy::Latency => {
            dns.and_then(|dns| dns.latency.as_ref()).map_or(0, |latency| latency.p99)
        }
    };
    (value, &row.key)
}

/// As 16 bytes, IPv4 mapped.
fn address(end: Option<&Endpoint>) -> [u8; 16] {
    match end.and_then(Endpoint::addr) {
        Some(std::net::IpAddr::V4(v4)) => v4.to_ipv6_mapped().octets(),
        Some(std::net::IpAddr::V6(v6)) => v6.octets(),
        None => Ipv6Addr::UNSPECIFIED.octets(),
    }
}

/// What the agent tells owners apart by: a pod's containers before other ones, and those before units
/// and other cgroups.
fn identity(workload: &Workload) -> (u8, &str, &str) {
    let Workload { pod_uid, container, container_id, unit, cgroup_path, .. } = workload;
    if !pod_uid.is_empty() && !container.is_empty() {
        return (0, pod_uid, container);
    }
    if !container_id.is_empty() {
        return (1, container_id, "");
    }
    let end = cgroup_path.rfind(unit.as_str()).filter(|_| !unit.is_empty());
    (2, end.map_or(cgroup_path, |at| &cgroup_path[..at + unit.len()]), "")
}
