//! Workloads of every kind, quiet ones and busy ones.

use orb8_proto::v1::{
    Controller, Endpoint, Histogram, QueryWorkloadsResponse, ServiceAddress, Traffic, Workload,
    WorkloadDns, WorkloadPeer, WorkloadSummary, WorkloadTcp,
};

use super::{NOON, endpoint, named, pod};

fn traffic(bytes: u64, packets: u64, rate: u64) -> Option<Traffic> {
    Some(Traffic { bytes, packets, bytes_per_second: rate, packets_per_second: rate / 1_400 })
}

/// So many values of about a size.
fn histogram(count: u64, min: u64, max: u64) -> Option<Histogram> {
    let mut counts = vec![0; 28];
    counts[11] = count;
    let sum = count * (min + max) / 2;
    Some(Histogram { counts, shift: 10, sum, min, max, p50: min, p90: max, p99: max })
}

fn summary(key: &str, workload: Option<Workload>) -> WorkloadSummary {
    WorkloadSummary {
        workload,
        key: key.into(),
        sent: traffic(0, 0, 0),
        received: traffic(0, 0, 0),
        tcp: Some(WorkloadTcp::default()),
        dns: Some(WorkloadDns::default()),
        dns_served: Some(WorkloadDns::default()),
        last_seen_ns: NOON,
        ..WorkloadSummary::default()
    }
}

/// A pod with all its containers.
fn whole(namespace: &str, name: &str) -> Option<Workload> {
    let pod = pod(namespace, name)?;
    let Workload { namespace, pod, pod_uid, .. } = pod;
    Some(Workload { namespace, pod, pod_uid, ..Workload::default() })
}

fn peer(endpoint: Endpoint, sent: u64, received: u64) -> WorkloadPeer {
    WorkloadPeer {
        endpoint: Some(endpoint),
        sent: traffic(sent, sent / 1_000, sent / 10),
        received: traffic(received, received / 1_000, received / 10),
        active_flows: 2,
    }
}

/// A training job that fills the line, and asks for names that are not there.
pub(in crate::tests) fn trainer() -> WorkloadSummary {
    let controller = Some(Controller { kind: "PyTorchJob".into(), name: "llama".into() });
    let workload = Workload { namespace: "ml".into(), controller, ..Workload::default() };
    let service =
        ServiceAddress { namespace: "ml".into(), name: "models".into(), ..Default::default() };
    let service = Endpoint { service: Some(service), ..Endpoint::default() };
    let other = Endpoint { workload: whole("ml", "llama-trainer-1"), ..Endpoint::default() };
    WorkloadSummary {
        pods: 2,
        sent: traffic(98_765_432_100, 68_000_000, 1_234_567_890),
        received: traffic(4_200_000, 3_000, 120_000),
        active_flows: 34,
        peer_count: 4,
        peers: vec![
            peer(other, 98_000_000_000, 4_000_000),
            peer(service, 700_000_000, 100_000),
            peer(named("93.184.216.34", 0, "models.example.com"), 65_000_000, 90_000),
            peer(endpoint("10.9.8.7", 0, None), 432_100, 10_000),
        ],
        tcp: Some(WorkloadTcp {
            open_connections: 17,
            connections: 21,
            retransmits: 342,
            rtt: histogram(21, 900_000, 12_300_000),
        }),
        dns: Some(WorkloadDns {
            queries: 340,
            responses: 337,
            errors: 12,
            timeouts: 3,
            latency: histogram(337, 400_000, 45_600_000),
        }),
        ..summary("ml/PyTorchJob/llama", Some(workload))
    }
}

/// A name server: what it is asked is not what it asks.
fn name_server() -> WorkloadSummary {
    let controller = Some(Controller { kind: "Deployment".into(), name: "coredns".into() });
    let workload = Workload { namespace: "kube-system".into(), controller, ..Workload::default() };
    WorkloadSummary {
        pods: 1,
        sent: traffic(120_000, 900, 1_400),
        received: traffic(80_000, 900, 2_800),
        active_flows: 12,
        peer_count: 9,
        dns_served: Some(WorkloadDns { queries: 34_567, ..WorkloadDns::default() }),
        ..summary("kube-system/Deployment/coredns", Some(workload))
    }
}

/// A host process behind a systemd unit.
fn ssh() -> WorkloadSummary {
    let workload = Workload {
        unit: "ssh.service".into(),
        process: "sshd".into(),
        cgroup_path: "/system.slice/ssh.service".into(),
        ..Workload::default()
    };
    WorkloadSummary {
        sent: traffic(1_440, 12, 120),
        received: traffic(2_880, 24, 240),
        active_flows: 2,
        peer_count: 1,
        tcp: Some(WorkloadTcp {
            open_connections: 1,
            connections: 1,
            retransmits: 0,
            rtt: histogram(1, 1_100_000, 1_100_000),
        }),
        ..summary("cgroup:/system.slice/ssh.service", Some(workload))
    }
}

/// A pod that nothing made, and that does nothing now.
fn idle() -> WorkloadSummary {
    WorkloadSummary { pods: 1, ..summary("pod:1", whole("shop", "debug")) }
}

/// What nobody is known to own.
fn unknown() -> WorkloadSummary {
    WorkloadSummary {
        received: traffic(84, 1, 0),
        active_flows: 1,
        peer_count: 1,
        ..summary("", None)
    }
}

pub(crate) fn all() -> Vec<WorkloadSummary> {
    vec![trainer(), name_server(), ssh(), unknown(), idle()]
}

pub(crate) fn answer() -> QueryWorkloadsResponse {
    let totals = WorkloadSummary {
        pods: 4,
        sent: traffic(98_765_553_540, 68_000_912, 1_234_569_410),
        received: traffic(4_282_964, 3_925, 123_040),
        active_flows: 49,
        peer_count: 15,
        tcp: trainer().tcp,
        dns: trainer().dns,
        ..summary("", None)
    };
    QueryWorkloadsResponse {
        workloads: all(),
        total_matched: 5,
        totals: Some(totals),
        node_name: "worker-1".into(),
    }
}
