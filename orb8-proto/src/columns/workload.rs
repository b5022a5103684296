//! The columns of workloads.

use super::cells::{self, Cell};
use super::{Align, Column, Cut, HOST, Subject, Tone, View, Width};
use crate::flow::present;
use crate::v1::{
    Endpoint, Histogram, Traffic, Workload, WorkloadDns, WorkloadPeer, WorkloadSummary,
};
use crate::{kinds, units};

impl Subject for WorkloadSummary {
    type Row<'a> = &'a Self;
}

impl Subject for WorkloadPeer {
    type Row<'a> = &'a Self;
}

/// A list of workloads.
pub static LIST: View<WorkloadSummary> =
    View { command: "workloads", columns: COLUMNS, wide: WIDE, is_stream: false };

/// Who a workload talks to.
pub static PEERS: View<WorkloadPeer> =
    View { command: "workloads --peers", columns: PEER_COLUMNS, wide: PEER_WIDE, is_stream: false };

const COLUMNS: &[&Column<WorkloadSummary>] = &[
    &WORKLOAD,
    &RATE_OUT,
    &RATE_IN,
    &BYTES,
    &FLOWS,
    &PEER_COUNT,
    &CONNECTIONS,
    &RETRANSMITS,
    &RTT,
    &ERRORS,
    &TIMEOUTS,
    &LATENCY,
];

const WIDE: &[&Column<WorkloadSummary>] = &[
    &WORKLOAD,
    &PODS,
    &RATE_OUT,
    &RATE_IN,
    &BYTES,
    &SENT,
    &RECEIVED,
    &PACKETS,
    &FLOWS,
    &PEER_COUNT,
    &CONNECTIONS,
    &RETRANSMITS,
    &RTT_MIN,
    &RTT_MEAN,
    &RTT,
    &QUERIES,
    &ERRORS,
    &TIMEOUTS,
    &LATENCY,
    &SERVED,
    &LAST_SEEN,
    &CONTAINER,
    &TOP_PEERS,
];

const PEER_COLUMNS: &[&Column<WorkloadPeer>] =
    &[&PEER, &PEER_RATE_OUT, &PEER_RATE_IN, &PEER_SENT, &PEER_RECEIVED, &PEER_FLOWS];

const PEER_WIDE: &[&Column<WorkloadPeer>] =
    &[&PEER, &PEER_RATE_OUT, &PEER_RATE_IN, &PEER_SENT, &PEER_RECEIVED, &PEER_PACKETS, &PEER_FLOWS];

/// What a column of numbers about someone is.
const NUMBER: Column<WorkloadSummary> = Column::NUMBER;
const PEER_NUMBER: Column<WorkloadPeer> = Column::NUMBER;

const WORKLOAD: Column<WorkloadSummary> = Column {
    name: "workload",
    header: "WORKLOAD",
    short_header: None,
    width: Width::Flexible(16, Cut::Middle),
    comfort: 24,
    doc: "Who it is: `namespace/kind/name` of a controller, `namespace/pod`, with `--by container` the container in parentheses; else as the owner of `flows`. `(unknown)` for what nobody is known to own.",
    value: |row, _| Some(workload(row.workload.as_ref())),
    ..Column::OWNER
};
const PODS: Column<WorkloadSummary> = Column {
    name: "pods",
    header: "PODS",
    doc: "Its pods that there is anything to tell of.",
    value: |row, _| cells::some(row.pods.into()),
    ..NUMBER
};
const RATE_OUT: Column<WorkloadSummary> = Column {
    name: "rate_sent",
    header: "SENT/S",
    width: Width::Natural(8),
    priority: 1,
    doc: "Bytes per second that it sent in the agent's last interval.",
    value: |row, _| rate(row.sent.as_ref()),
    ..NUMBER
};
const RATE_IN: Column<WorkloadSummary> = Column {
    name: "rate_received",
    header: "RECV/S",
    width: Width::Natural(8),
    priority: 2,
    doc: "Bytes per second that it received in the agent's last interval.",
    value: |row, _| rate(row.received.as_ref()),
    ..NUMBER
};
const BYTES: Column<WorkloadSummary> = Column {
    name: "bytes",
    header: "BYTES",
    width: Width::Natural(6),
    priority: 5,
    doc: "IP bytes, both ways, of the flows that the agent holds.",
    value: |row, _| Some(units::bytes(both(row, |traffic| traffic.bytes))),
    ..NUMBER
};
const SENT: Column<WorkloadSummary> = Column {
    name: "sent",
    header: "SENT",
    width: Width::Natural(6),
    doc: "IP bytes that it sent, likewise.",
    value: |row, _| bytes(row.sent.as_ref()),
    ..NUMBER
};
const RECEIVED: Column<WorkloadSummary> = Column {
    name: "received",
    header: "RECV",
    width: Width::Natural(6),
    doc: "IP bytes that it received, likewise.",
    value: |row, _| bytes(row.received.as_ref()),
    ..NUMBER
};
const PACKETS: Column<WorkloadSummary> = Column {
    name: "packets",
    header: "PACKETS",
    doc: "Wire packets, both ways, likewise.",
    value: |row, _| Some(units::packets(both(row, |traffic| traffic.packets))),
    ..NUMBER
};
const FLOWS: Column<WorkloadSummary> = Column {
    name: "flows",
    header: "FLOWS",
    priority: 6,
    doc: "Its flows that have not ended.",
    value: |row, _| Some(units::packets(row.active_flows)),
    ..NUMBER
};
const PEER_COUNT: Column<WorkloadSummary> = Column {
    name: "peers",
    header: "PEERS",
    priority: 9,
    doc: "How many it talks to: workloads, Services, nodes, names, addresses.",
    value: |row, _| Some(units::packets(row.peer_count)),
    ..NUMBER
};
const CONNECTIONS: Column<WorkloadSummary> = Column {
    name: "connections",
    header: "CONNS",
    priority: 8,
    doc: "Its TCP connections that are open.",
    value: |row, _| Some(units::packets(row.tcp.as_ref()?.open_connections)),
    ..NUMBER
};
const RETRANSMITS: Column<WorkloadSummary> = Column {
    name: "retransmits",
    header: "RETRANS",
    priority: 4,
    tone: |row| if retransmits(row) > 0 { Tone::Warn } else { Tone::Plain },
    doc: "Segments that its connections sent again: those that are open, or closed in the last minute.",
    value: |row, _| cells::some(retransmits(row)),
    ..NUMBER
};
const RTT_MIN: Column<WorkloadSummary> = Column {
    name: "rtt_min",
    header: "RTT MIN",
    width: Width::Natural(6),
    doc: "The shortest smoothed round-trip time of those connections.",
    value: |row, _| latency(rtt(row), |rtt| rtt.min),
    ..NUMBER
};
const RTT_MEAN: Column<WorkloadSummary> = Column {
    name: "rtt_mean",
    header: "RTT MEAN",
    width: Width::Natural(6),
    doc: "The mean of their smoothed round-trip times.",
    value: |row, _| latency(rtt(row), |rtt| rtt.mean().unwrap_or_default()),
    ..NUMBER
};
const RTT: Column<WorkloadSummary> = Column {
    name: "rtt_p99",
    header: "RTT P99",
    width: Width::Natural(6),
    priority: 7,
    doc: "99 % of them have no longer smoothed round-trip time.",
    value: |row, _| latency(rtt(row), |rtt| rtt.p99),
    ..NUMBER
};
const QUERIES: Column<WorkloadSummary> = Column {
    name: "queries",
    header: "QUERIES",
    doc: "DNS queries of it, since the agent started.",
    value: |row, _| cells::some(row.dns.as_ref()?.queries),
    ..NUMBER
};
const ERRORS: Column<WorkloadSummary> = Column {
    name: "errors",
    header: "DNS ERR",
    priority: 3,
    tone: |_| Tone::Bad,
    doc: "Share of the DNS responses to it with another code than NOERROR.",
    value: |row, _| error_share(row.dns.as_ref()),
    ..NUMBER
};
const TIMEOUTS: Column<WorkloadSummary> = Column {
    name: "timeouts",
    header: "TIMEOUTS",
    short_header: Some("TMO"),
    priority: 10,
    tone: |_| Tone::Bad,
    doc: "DNS queries of it without a response in time.",
    value: |row, _| cells::some(row.dns.as_ref()?.timeouts),
    ..NUMBER
};
const LATENCY: Column<WorkloadSummary> = Column {
    name: "latency",
    header: "DNS P99",
    width: Width::Natural(6),
    priority: 11,
    doc: "99 % of the DNS responses to it took no longer.",
    value: |row, _| latency(row.dns.as_ref()?.latency.as_ref(), |latency| latency.p99),
    ..NUMBER
};
const SERVED: Column<WorkloadSummary> = Column {
    name: "served",
    header: "SERVED",
    doc: "DNS queries that it was asked, since the agent started.",
    value: |row, _| cells::some(row.dns_served.as_ref()?.queries),
    ..NUMBER
};
const LAST_SEEN: Column<WorkloadSummary> = Column {
    name: "last_seen",
    header: "LAST SEEN",
    doc: "Time of its last packet, local time.",
    value: |row, format| cells::clock(row.last_seen_ns, format),
    ..Column::WORDS
};
const CONTAINER: Column<WorkloadSummary> = Column {
    name: "container",
    header: "CONTAINER",
    doc: "The container, with `--by container`.",
    value: |row, _| cells::text(&row.workload.as_ref()?.container),
    ..Column::WORDS
};
const TOP_PEERS: Column<WorkloadSummary> = Column {
    name: "top_peers",
    header: "TOP PEERS",
    doc: "As many peers as `--peers` says, with their bytes both ways.",
    value: top_peers,
    ..Column::WORDS
};

const PEER: Column<WorkloadPeer> = Column {
    name: "peer",
    header: "PEER",
    short_header: None,
    width: Width::Flexible(16, Cut::Middle),
    comfort: 24,
    align: Align::Left,
    priority: 0,
    doc: "Who it is: a workload grouped likewise, `svc:` and a Service, `node:` and a node, a DNS name, or an address.",
    value: |row, _| row.endpoint.as_ref().map(peer),
    ..Column::OWNER
};
const PEER_RATE_OUT: Column<WorkloadPeer> = Column {
    name: "rate_sent",
    header: "SENT/S",
    width: Width::Natural(8),
    priority: 1,
    doc: "Bytes per second that the workload sent to it.",
    value: |row, _| rate(row.sent.as_ref()),
    ..PEER_NUMBER
};
const PEER_RATE_IN: Column<WorkloadPeer> = Column {
    name: "rate_received",
    header: "RECV/S",
    width: Width::Natural(8),
    priority: 2,
    doc: "Bytes per second that the workload received from it.",
    value: |row, _| rate(row.received.as_ref()),
    ..PEER_NUMBER
};
const PEER_SENT: Column<WorkloadPeer> = Column {
    name: "sent",
    header: "SENT",
    width: Width::Natural(6),
    priority: 3,
    doc: "IP bytes that the workload sent to it.",
    value: |row, _| bytes(row.sent.as_ref()),
    ..PEER_NUMBER
};
const PEER_RECEIVED: Column<WorkloadPeer> = Column {
    name: "received",
    header: "RECV",
    width: Width::Natural(6),
    priority: 4,
    doc: "IP bytes that the workload received from it.",
    value: |row, _| bytes(row.received.as_ref()),
    ..PEER_NUMBER
};
const PEER_PACKETS: Column<WorkloadPeer> = Column {
    name: "packets",
    header: "PACKETS",
    doc: "Wire packets, both ways.",
    value: |row, _| {
        let of = |traffic: Option<&Traffic>| traffic.map_or(0, |traffic| traffic.packets);
        Some(units::packets(of(row.sent.as_ref()).saturating_add(of(row.received.as_ref()))))
    },
    ..PEER_NUMBER
};
const PEER_FLOWS: Column<WorkloadPeer> = Column {
    name: "flows",
    header: "FLOWS",
    priority: 5,
    doc: "Flows between them that have not ended.",
    value: |row, _| Some(units::packets(row.active_flows)),
    ..PEER_NUMBER
};

/// Names the owner of a row: `shop/deploy/web`, `shop/web-0`, `shop/web-0 (proxy)`, or as the owner
/// of a flow.
#[must_use]
pub fn workload(workload: Option<&Workload>) -> String {
    let Some(workload) = workload else { return "(unknown)".to_owned() };
    if let Some(controller) = workload.controller.as_ref().filter(|_| workload.pod.is_empty()) {
        let kind = kinds::word(&controller.kind);
        return format!("{}/{kind}/{}", workload.namespace, controller.name);
    }
    let owner = cells::owner(workload).unwrap_or_else(|| HOST.to_owned());
    match (present(&workload.pod), present(&workload.container)) {
        (Some(_), Some(container)) => format!("{owner} ({container})"),
        _ => owner,
    }
}

/// Names who is at the other end.
#[must_use]
pub fn peer(endpoint: &Endpoint) -> String {
    if let Some(service) = &endpoint.service {
        return format!("svc:{}/{}", service.namespace, service.name);
    }
    if endpoint.workload.is_some() {
        return workload(endpoint.workload.as_ref());
    }
    let node = present(&endpoint.node).map(|node| format!("node:{node}"));
    let name = || endpoint.dns.as_ref().map(|label| label.name.clone());
    let addr = || endpoint.addr().map(|addr| addr.to_string());
    node.or_else(name).or_else(addr).unwrap_or_else(|| "(unknown)".to_owned())
}

fn both(row: &WorkloadSummary, of: fn(&Traffic) -> u64) -> u64 {
    let of = |traffic: Option<&Traffic>| traffic.map_or(0, of);
    of(row.sent.as_ref()).saturating_add(of(row.received.as_ref()))
}

fn rate(traffic: Option<&Traffic>) -> Cell {
    Some(units::byte_rate(traffic?.bytes_per_second))
}

fn bytes(traffic: Option<&Traffic>) -> Cell {
    Some(units::bytes(traffic?.bytes))
}

fn retransmits(row: &WorkloadSummary) -> u64 {
    row.tcp.as_ref().map_or(0, |tcp| tcp.retransmits)
}

fn rtt(row: &WorkloadSummary) -> Option<&Histogram> {
    row.tcp.as_ref()?.rtt.as_ref()
}

fn latency(histogram: Option<&Histogram>, of: fn(&Histogram) -> u64) -> Cell {
    let histogram = histogram.filter(|histogram| histogram.count() > 0)?;
    Some(units::latency(of(histogram)))
}

fn error_share(dns: Option<&WorkloadDns>) -> Cell {
    let WorkloadDns { errors, responses, .. } = dns?;
    units::share(*errors, *responses).filter(|_| *errors > 0)
}

fn top_peers(row: &WorkloadSummary, _: &super::Format) -> Cell {
    let text = |of: &WorkloadPeer| {
        let bytes = |traffic: Option<&Traffic>| traffic.map_or(0, |traffic| traffic.bytes);
        let bytes = bytes(of.sent.as_ref()).saturating_add(bytes(of.received.as_ref()));
        Some(format!("{} {}", peer(of.endpoint.as_ref()?), units::bytes(bytes)))
    };
    let texts: Vec<String> = row.peers.iter().filter_map(text).collect();
    cells::text(&texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Controller, DnsLabel, Runtime, ServiceAddress};

    #[test]
    fn owners_have_their_best_name() {
        let pod = Workload { namespace: "shop".into(), pod: "web-0".into(), ..Workload::default() };
        let controller = Some(Controller { kind: "Deployment".into(), name: "web".into() });
        let of_controller =
            Workload { namespace: "shop".into(), controller, ..Workload::default() };
        let docker = Workload {
            container: "web".into(),
            runtime: Runtime::Docker.into(),
            ..Workload::default()
        };
        let root = Workload { cgroup_path: "/".into(), ..Workload::default() };
        for (of, expected) in [
            (Some(&of_controller), "shop/deploy/web"),
            (Some(&pod), "shop/web-0"),
            (Some(&Workload { container: "proxy".into(), ..pod.clone() }), "shop/web-0 (proxy)"),
            (Some(&docker), "docker:web"),
            (Some(&root), "host"),
            (None, "(unknown)"),
        ] {
            assert_eq!(workload(of), expected);
        }
    }

    #[test]
    fn peers_have_their_best_name() {
        let service =
            ServiceAddress { namespace: "shop".into(), name: "db".into(), ..Default::default() };
        let label = DnsLabel { name: "api.example.com".into(), ..DnsLabel::default() };
        let ip = vec![10, 0, 0, 1];
        for (endpoint, expected) in [
            (
                Endpoint { service: Some(service), ip: ip.clone(), ..Default::default() },
                "svc:shop/db",
            ),
            (Endpoint { node: "n1".into(), ..Default::default() }, "node:n1"),
            (
                Endpoint { dns: Some(label), ip: ip.clone(), ..Default::default() },
                "api.example.com",
            ),
            (Endpoint { ip, ..Default::default() }, "10.0.0.1"),
            (Endpoint::default(), "(unknown)"),
        ] {
            assert_eq!(peer(&endpoint), expected);
        }
    }
}
