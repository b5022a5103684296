//! Workloads as objects. The schema is documented one level up.

use orb8_proto::v1::{Endpoint, Traffic, WorkloadDns, WorkloadPeer, WorkloadSummary, WorkloadTcp};
use serde::Serialize;

use super::end::{EndObject, WorkloadObject};
use super::histogram::HistogramObject;
use super::value::timestamp;

/// What a workload does on the network, or what all do.
#[derive(Debug, Serialize)]
pub(crate) struct SummaryObject<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<WorkloadObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    pods: u32,
    sent: TrafficObject,
    received: TrafficObject,
    active_flows: u64,
    peer_count: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peers: Vec<PeerObject<'a>>,
    tcp: TcpObject<'a>,
    dns: DnsObject<'a>,
    dns_served: DnsObject<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<String>,
}

#[derive(Debug, Serialize)]
struct TrafficObject {
    bytes: u64,
    packets: u64,
    bytes_per_second: u64,
    packets_per_second: u64,
}

#[derive(Debug, Serialize)]
struct PeerObject<'a> {
    endpoint: EndObject<'a>,
    sent: TrafficObject,
    received: TrafficObject,
    active_flows: u64,
}

#[derive(Debug, Serialize)]
struct TcpObject<'a> {
    open_connections: u64,
    connections: u64,
    retransmits: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt: Option<HistogramObject<'a>>,
}

#[derive(Debug, Serialize)]
struct DnsObject<'a> {
    queries: u64,
    responses: u64,
    errors: u64,
    timeouts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<HistogramObject<'a>>,
}

impl<'a> SummaryObject<'a> {
    /// Makes the object of one workload.
    pub(crate) fn new(summary: &'a WorkloadSummary) -> Self {
        Self { key: Some(&summary.key), ..Self::of("workload", summary) }
    }

    /// Makes the object of all of them.
    pub(crate) fn totals(summary: &'a WorkloadSummary) -> Self {
        Self::of("workload_totals", summary)
    }

    fn of(r#type: &'static str, summary: &'a WorkloadSummary) -> Self {
        // Exhaustive, so that a new field is not forgotten here.
        let WorkloadSummary {
            workload,
            key: _,
            pods,
            sent,
            received,
            active_flows,
            peer_count,
            peers,
            tcp,
            dns,
            dns_served,
            last_seen_ns,
        } = summary;
        Self {
            r#type,
            workload: workload.as_ref().map(WorkloadObject::new),
            key: None,
            pods: *pods,
            sent: TrafficObject::new(sent.as_ref()),
            received: TrafficObject::new(received.as_ref()),
            active_flows: *active_flows,
            peer_count: *peer_count,
            peers: peers.iter().map(PeerObject::new).collect(),
            tcp: TcpObject::new(tcp.as_ref()),
            dns: DnsObject::new(dns.as_ref()),
            dns_served: DnsObject::new(dns_served.as_ref()),
            last_seen: timestamp(*last_seen_ns),
        }
    }
}

impl TrafficObject {
    fn new(traffic: Option<&Traffic>) -> Self {
        let Traffic { bytes, packets, bytes_per_second, packets_per_second } =
            traffic.copied().unwrap_or_default();
        Self { bytes, packets, bytes_per_second, packets_per_second }
    }
}

impl<'a> PeerObject<'a> {
    fn new(peer: &'a WorkloadPeer) -> Self {
        let WorkloadPeer { endpoint, sent, received, active_flows } = peer;
        let endpoint: Option<&Endpoint> = endpoint.as_ref();
        Self {
            endpoint: EndObject::new(endpoint, None),
            sent: TrafficObject::new(sent.as_ref()),
            received: TrafficObject::new(received.as_ref()),
            active_flows: *active_flows,
        }
    }
}

impl<'a> TcpObject<'a> {
    fn new(tcp: Option<&'a WorkloadTcp>) -> Self {
        let count = |of: fn(&WorkloadTcp) -> u64| tcp.map_or(0, of);
        Self {
            open_connections: count(|tcp| tcp.open_connections),
            connections: count(|tcp| tcp.connections),
            retransmits: count(|tcp| tcp.retransmits),
            rtt: HistogramObject::new(tcp.and_then(|tcp| tcp.rtt.as_ref())),
        }
    }
}

impl<'a> DnsObject<'a> {
    fn new(dns: Option<&'a WorkloadDns>) -> Self {
        let count = |of: fn(&WorkloadDns) -> u64| dns.map_or(0, of);
        Self {
            queries: count(|dns| dns.queries),
            responses: count(|dns| dns.responses),
            errors: count(|dns| dns.errors),
            timeouts: count(|dns| dns.timeouts),
            latency: HistogramObject::new(dns.and_then(|dns| dns.latency.as_ref())),
        }
    }
}
