//! A small shop: pods of two nodes, a Service between them, and what the API tells of it.

use std::collections::BTreeMap;

use orb8_proto::v1::stream_dns_response::Event as DnsEvent;
use orb8_proto::v1::stream_tcp_response::Event as TcpEventOf;
use orb8_proto::v1::{
    Attribution, Container, ContainerKind, Controller, Direction, DnsExchange, DnsOutcome, DnsSide,
    Endpoint, Flow, Kubernetes, KubernetesState, KubernetesWatch, LocalEnd, Pod, PodPhase,
    PodSource, Protocol, Runtime, ServiceAddress, ServiceAddressKind, StreamDnsResponse,
    StreamTcpResponse, TcpConnection, TcpEvent, TcpEventKind, TcpRole, TcpState, Translation,
    Workload,
};

use super::{NOON, SECOND, endpoint, flow, tcp};

fn labels(app: &str) -> BTreeMap<String, String> {
    [("app", app), ("app.kubernetes.io/part-of", "shop")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn controller(kind: &str, name: &str) -> Option<Controller> {
    Some(Controller { kind: kind.into(), name: name.into() })
}

const ID: &str = "3f2a9c01d4e5b6a7988776655443322110ffeeddccbbaa998877665544332211";

/// `shop/web` of this node, by its cgroup.
fn web() -> Workload {
    Workload {
        container_kind: ContainerKind::Sidecar.into(),
        controller: controller("Deployment", "web"),
        labels: labels("web"),
        node_name: "worker-1".into(),
        ..super::pod("shop", "web-7d4f9c6b58-x2x1z").unwrap()
    }
}

/// A pod of the other node, by its address.
fn db() -> Workload {
    Workload {
        namespace: "shop".into(),
        pod: "db-0".into(),
        pod_uid: "5b1d".into(),
        controller: controller("StatefulSet", "db"),
        labels: labels("db"),
        node_name: "worker-2".into(),
        attribution: Attribution::PodIp.into(),
        ..Workload::default()
    }
}

fn service(namespace: &str, name: &str, port: u32) -> Option<ServiceAddress> {
    Some(ServiceAddress {
        namespace: namespace.into(),
        name: name.into(),
        port,
        port_name: "main".into(),
        kind: ServiceAddressKind::ClusterIp.into(),
    })
}

/// The Service's address, and who answered.
fn db_service() -> Endpoint {
    Endpoint {
        service: service("shop", "db", 5432),
        translated: Some(Translation { ip: vec![10, 244, 2, 9], port: 5432 }),
        ..endpoint("10.96.14.2", 5432, Some(db()))
    }
}

fn from_web(port: u32) -> Endpoint {
    endpoint("10.244.1.12", port, Some(web()))
}

fn node(ip: &str, port: u32, name: &str) -> Endpoint {
    Endpoint { node: name.into(), ..endpoint(ip, port, None) }
}

fn inbound(source: Endpoint) -> Flow {
    Flow {
        direction: Direction::Ingress.into(),
        local_end: LocalEnd::Destination.into(),
        ..flow(Protocol::Tcp, source, from_web(8080))
    }
}

/// To a Service, straight to its backend, from a node, and between pods that have no socket here.
pub(in crate::tests) fn flows() -> Vec<Flow> {
    let straight = endpoint("10.244.2.9", 5432, Some(db()));
    let forwarded = Flow {
        local_end: LocalEnd::Unspecified.into(),
        cgroup_id: 0,
        node_name: "worker-3".into(),
        ..flow(
            Protocol::Tcp,
            endpoint("10.244.2.9", 40_000, Some(db())),
            Endpoint { translated: None, workload: None, ..db_service() },
        )
    };
    vec![
        flow(Protocol::Tcp, from_web(40_312), db_service()),
        flow(Protocol::Tcp, from_web(40_313), straight),
        inbound(node("192.168.0.12", 33_100, "worker-2")),
        forwarded,
    ]
}

pub(in crate::tests) fn exchanges() -> Vec<StreamDnsResponse> {
    let server = Endpoint {
        service: service("kube-system", "kube-dns", 53),
        ..endpoint("10.96.0.10", 53, None)
    };
    let exchange = DnsExchange {
        time_ns: NOON,
        client: Some(from_web(51_000)),
        server: Some(server),
        protocol: Protocol::Udp.into(),
        side: DnsSide::Client.into(),
        name: "db.shop.svc.cluster.local".into(),
        query_type: 1,
        query_type_name: "A".into(),
        outcome: DnsOutcome::Answered.into(),
        rcode: Some(0),
        rcode_name: "NOERROR".into(),
        latency_ns: 1_234_567,
        node_name: "worker-1".into(),
        ..DnsExchange::default()
    };
    vec![StreamDnsResponse { event: Some(DnsEvent::Exchange(exchange)) }]
}

pub(in crate::tests) fn tcp_events() -> Vec<StreamTcpResponse> {
    let event = TcpEvent {
        time_ns: NOON,
        kind: TcpEventKind::Connect.into(),
        source: Some(from_web(40_312)),
        destination: Some(db_service()),
        local_end: LocalEnd::Source.into(),
        role: TcpRole::Client.into(),
        state: TcpState::Established.into(),
        health: Some(tcp::health()),
        node_name: "worker-1".into(),
        ..TcpEvent::default()
    };
    vec![StreamTcpResponse { event: Some(TcpEventOf::Tcp(event)) }]
}

pub(in crate::tests) fn connections() -> Vec<TcpConnection> {
    vec![TcpConnection {
        source: Some(from_web(40_312)),
        destination: Some(db_service()),
        local_end: LocalEnd::Source.into(),
        health: Some(tcp::health()),
        node_name: "worker-1".into(),
        ..TcpConnection::default()
    }]
}

fn container(name: &str, kind: ContainerKind) -> Container {
    Container {
        name: name.into(),
        id: ID.into(),
        kind: kind.into(),
        runtime: Runtime::Containerd.into(),
        cgroup_id: 4711,
        cgroup_path: format!("/kubepods.slice/{name}.scope"),
    }
}

/// One that is known by everything, one of another node, one on the host network that ended, and one
/// that only its cgroup told.
pub(in crate::tests) fn pods() -> Vec<Pod> {
    let sources = |sources: &[PodSource]| sources.iter().map(|source| (*source).into()).collect();
    vec![
        Pod {
            namespace: "kube-system".into(),
            name: "kube-proxy-9x8w7".into(),
            uid: "7c0e".into(),
            node_name: "worker-1".into(),
            controller: controller("DaemonSet", "kube-proxy"),
            phase: PodPhase::Ended.into(),
            host_network: true,
            local: true,
            sources: sources(&[PodSource::Api]),
            ..Pod::default()
        },
        Pod {
            namespace: "shop".into(),
            name: "db-0".into(),
            uid: "5b1d".into(),
            node_name: "worker-2".into(),
            controller: controller("StatefulSet", "db"),
            labels: labels("db"),
            phase: PodPhase::Running.into(),
            ips: vec![vec![10, 244, 2, 9]],
            sources: sources(&[PodSource::Api]),
            ..Pod::default()
        },
        Pod {
            namespace: "shop".into(),
            name: "web-7d4f9c6b58-x2x1z".into(),
            uid: "0d9f8c1e-1111-2222-3333-444455556666".into(),
            node_name: "worker-1".into(),
            controller: controller("Deployment", "web"),
            labels: labels("web"),
            phase: PodPhase::Running.into(),
            ips: vec![vec![10, 244, 1, 12], [[0xfd; 2].as_slice(), &[0; 13], &[0x12]].concat()],
            containers: vec![
                container("nginx", ContainerKind::Main),
                container("proxy", ContainerKind::Sidecar),
            ],
            local: true,
            sources: sources(&[PodSource::Api, PodSource::Cgroup, PodSource::Runtime]),
            ..Pod::default()
        },
        Pod {
            uid: "9a8b7c6d-1111-2222-3333-444455556666".into(),
            node_name: "worker-1".into(),
            containers: vec![Container {
                name: String::new(),
                ..container("", ContainerKind::Main)
            }],
            local: true,
            sources: sources(&[PodSource::Cgroup]),
            ..Pod::default()
        },
    ]
}

fn watch(resource: &str, error: &str) -> KubernetesWatch {
    KubernetesWatch {
        resource: resource.into(),
        connected: error.is_empty(),
        reconnections: 2,
        last_sync_ns: NOON - 12 * SECOND,
        objects: 1234,
        error: error.into(),
    }
}

pub(in crate::tests) fn connected() -> Kubernetes {
    Kubernetes {
        state: KubernetesState::Connected.into(),
        access: "in-cluster".into(),
        server: "https://10.96.0.1:443".into(),
        watches: vec![watch("pods", ""), watch("services", "")],
        pods: 5000,
        services: 120,
        nodes: 10,
        address_conflicts: 2,
        ..Kubernetes::default()
    }
}

pub(in crate::tests) fn disconnected() -> Kubernetes {
    let forbidden = "services is forbidden: this ServiceAccount cannot list services; apply deploy/base/rbac.yaml";
    Kubernetes {
        state: KubernetesState::Disconnected.into(),
        reason: "1 of 2 watches is down".into(),
        watches: vec![watch("pods", ""), watch("services", forbidden)],
        ..connected()
    }
}

pub(in crate::tests) fn off() -> Kubernetes {
    Kubernetes {
        state: KubernetesState::Off.into(),
        reason: "this is no pod, and there is no kubeconfig: name one with --kubeconfig".into(),
        ..Kubernetes::default()
    }
}
