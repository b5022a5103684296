//! What workloads do.

use orb8_proto::v1;

use super::party::endpoint;
use super::tcp::histogram;
use crate::event::SocketEnd;
use crate::identity::Party;
use crate::pipeline::{DnsSums, Level, Peer, PeerRow, Traffic, Who, WorkloadCounts, WorkloadRow};

pub(in crate::api) fn workload_summary(row: &WorkloadRow) -> v1::WorkloadSummary {
    let WorkloadRow { who, counts, peers } = row;
    // Exhaustive: what is counted is told.
    let WorkloadCounts {
        pods,
        sent,
        received,
        active_flows,
        peers: peer_count,
        open,
        connections,
        retransmits,
        rtt,
        dns: asked,
        dns_served,
        last,
    } = counts;
    v1::WorkloadSummary {
        workload: workload(who),
        key: who.key.clone(),
        pods: *pods,
        sent: Some(traffic(*sent)),
        received: Some(traffic(*received)),
        active_flows: *active_flows,
        peer_count: *peer_count,
        peers: peers.iter().map(peer).collect(),
        tcp: Some(v1::WorkloadTcp {
            open_connections: *open,
            connections: *connections,
            retransmits: *retransmits,
            rtt: Some(histogram(rtt)),
        }),
        dns: Some(dns(asked)),
        dns_served: Some(dns(dns_served)),
        last_seen_ns: last.0,
    }
}

/// Tells what the members of a row have in common, and nothing that one of them alone has.
fn workload(who: &Who) -> Option<v1::Workload> {
    let told = endpoint(SocketEnd::default(), Some(&who.party), None).workload?;
    let v1::Workload {
        namespace, pod, pod_uid, controller, labels, node_name, host_network, ..
    } = told.clone();
    match who.level {
        Level::Nobody => None,
        Level::Controller => {
            Some(v1::Workload { namespace, controller, ..v1::Workload::default() })
        }
        Level::Pod => Some(v1::Workload {
            namespace,
            pod,
            pod_uid,
            controller,
            labels,
            node_name,
            host_network,
            ..v1::Workload::default()
        }),
        Level::Own => Some(told),
    }
}

fn peer(row: &PeerRow) -> v1::WorkloadPeer {
    let PeerRow { peer, sent, received, active_flows } = row;
    v1::WorkloadPeer {
        endpoint: Some(peer_endpoint(peer)),
        sent: Some(traffic(*sent)),
        received: Some(traffic(*received)),
        active_flows: *active_flows,
    }
}

/// Without port, and where it has a name without address: others of that name have others.
fn peer_endpoint(peer: &Peer) -> v1::Endpoint {
    let nameless = |party: &Party| {
        let told = endpoint(SocketEnd::default(), Some(party), None);
        let without_port =
            |service| v1::ServiceAddress { port: 0, port_name: String::new(), ..service };
        let service = told.service.map(without_port);
        v1::Endpoint { service, node: told.node, ..v1::Endpoint::default() }
    };
    match peer {
        Peer::Nobody => v1::Endpoint::default(),
        Peer::Who(who) => v1::Endpoint { workload: workload(who), ..v1::Endpoint::default() },
        // Of a Service, who answered may be several.
        Peer::Party(party) => nameless(party),
        Peer::Name(name) => v1::Endpoint {
            dns: Some(v1::DnsLabel { name: name.to_string(), ..v1::DnsLabel::default() }),
            ..v1::Endpoint::default()
        },
        Peer::Addr(addr) => v1::Endpoint { ip: super::ip(*addr), ..v1::Endpoint::default() },
    }
}

const fn traffic(traffic: Traffic) -> v1::Traffic {
    let Traffic { bytes, packets, bytes_per_second, packets_per_second } = traffic;
    v1::Traffic { bytes, packets, bytes_per_second, packets_per_second }
}

fn dns(sums: &DnsSums) -> v1::WorkloadDns {
    let DnsSums { queries, responses, errors, timeouts, latency } = sums;
    v1::WorkloadDns {
        queries: *queries,
        responses: *responses,
        errors: *errors,
        timeouts: *timeouts,
        latency: Some(histogram(latency)),
    }
}
