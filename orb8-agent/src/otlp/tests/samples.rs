//! Events as the pipeline tells them.

use std::net::IpAddr;
use std::sync::Arc;

use orb8_common::flow::{DIRECTION_EGRESS, FlowKey, HOOK_SOCKET};
use orb8_k8s::object::{AddressKind, Controller, Phase, Pod, Service, ServiceAddress};

use super::*;
use crate::event::{
    DnsAnswer, DnsData, DnsExchange, DnsOutcome, DnsQuestion, DnsResponse, DnsSide, FlowSample,
    SampleKind, SocketEnd, TcpKind, TcpRole, TcpSample,
};
use crate::gpu::event::Process;
use crate::gpu::{DeviceId, GpuEvent, GpuEventKind};
use crate::identity::{Address, Front, Party, Runtime, Workload};
use crate::pipeline::{FlowEvent, FlowStep};
use crate::store::{FlowRow, FlowStore, Owner, StoreConfig};

/// A second of a day in 2025.
pub(in crate::otlp) fn at(second: u64) -> UnixNanos {
    UnixNanos((1_750_000_000 + second) * 1_000_000_000)
}

pub(in crate::otlp) fn end(last: u8, port: u16) -> SocketEnd {
    SocketEnd { addr: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last], port }
}

/// From 10.0.0.1 to 10.0.0.2:443.
pub(in crate::otlp) fn flow_sample(port: u16, kind: SampleKind, packets: u64) -> FlowSample {
    FlowSample {
        key: FlowKey {
            source_addr: end(1, 0).addr,
            destination_addr: end(2, 0).addr,
            source_port: port,
            destination_port: 443,
            ifindex: 0,
            cgroup_id: 5,
            protocol: 6,
            direction: DIRECTION_EGRESS,
            hook: HOOK_SOCKET,
            flags: 0,
            vlan: 0,
            inner_vlan: 0,
        },
        kind,
        cgroup_id: 5,
        cookie: port.into(),
        ifindex: 0,
        packets,
        bytes: packets * 100,
        first: at(0),
        last: at(3),
        tcp_flags: 0x10,
    }
}

/// What happened with the flow of a port: packets that were added, and its total.
pub(in crate::otlp) fn flow_event(port: u16, step: FlowStep, added: u64, total: u64) -> FlowEvent {
    let config = StoreConfig { max_flows: 1_024, idle_timeout: Duration::from_secs(60) };
    let mut store = FlowStore::new(config, Instant::now());
    let sample = flow_sample(port, SampleKind::Counted, total);
    let (_, flow) = store.apply(&sample, Owner::default(), Instant::now());
    let row = FlowRow { flow: flow.clone(), bytes_per_second: 0, packets_per_second: 0, tcp: None };
    FlowEvent { step, row, packets: added, bytes: added * 100 }
}

/// 10.0.0.1 asks 10.0.0.53 for the address of a name, and gets fd00::1 by an alias.
pub(in crate::otlp) fn exchange(name: &str) -> DnsExchange {
    let alias = DnsAnswer {
        name: name.into(),
        kind: 5,
        ttl: 30,
        data: DnsData::Name("edge.example".into()),
    };
    let address = DnsAnswer {
        name: "edge.example".into(),
        kind: 28,
        ttl: 20,
        data: DnsData::Address(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])),
    };
    DnsExchange {
        client: end(1, 40_000),
        server: end(53, 53),
        transport: 17,
        side: DnsSide::Client,
        cgroup_id: 5,
        cookie: 8,
        ifindex: 0,
        id: 4242,
        question: Some(DnsQuestion { name: name.into(), kind: 28, class: 1 }),
        outcome: DnsOutcome::Answered,
        response: Some(DnsResponse {
            answers: vec![alias, address],
            answer_count: 2,
            ..DnsResponse::default()
        }),
        asked: Some(at(1)),
        latency_ns: 2_500_000,
        retries: 1,
        told_retries: None,
        query_bytes: 40,
    }
}

pub(in crate::otlp) fn refused(name: &str) -> DnsExchange {
    let response = DnsResponse { rcode: 5, ..DnsResponse::default() };
    DnsExchange { response: Some(response), ..exchange(name) }
}

pub(in crate::otlp) fn missing(name: &str) -> DnsExchange {
    let response = DnsResponse { rcode: 3, ..DnsResponse::default() };
    DnsExchange { response: Some(response), ..exchange(name) }
}

pub(in crate::otlp) fn timeout(name: &str) -> DnsExchange {
    DnsExchange { outcome: DnsOutcome::Timeout, response: None, ..exchange(name) }
}

pub(in crate::otlp) fn dns(exchange: DnsExchange) -> Payload {
    Payload::Dns(Box::new(exchange))
}

/// Something about the connection from 10.0.0.1 to 10.0.0.2:443.
pub(in crate::otlp) fn tcp_sample(port: u16, kind: TcpKind) -> TcpSample {
    TcpSample {
        kind,
        local: end(1, port),
        remote: end(2, 443),
        of_packet: false,
        local_end: None,
        cgroup_id: 5,
        cookie: port.into(),
        netns: 77,
        ifindex: 0,
        role: TcpRole::Client,
        state: 1,
        old_state: 0,
        srtt_ns: Some(3_000_000),
        figures: None,
    }
}

pub(in crate::otlp) fn tcp(sample: TcpSample) -> Payload {
    Payload::Tcp(Box::new(sample))
}

/// The container `web` of the pod `shop/web-1`, which a Deployment made.
pub(in crate::otlp) fn web() -> Party {
    Party::Workload(Arc::new(Workload {
        namespace: Some("shop".into()),
        pod: Some("web-1".into()),
        pod_uid: Some("11111111-2222-3333-4444-555555555555".into()),
        api: Some(Arc::new(pod("Deployment", "web"))),
        container: Some("web".into()),
        container_id: Some("ab".repeat(32)),
        runtime: Some(Runtime::Containerd),
        cgroup_id: 5,
        cgroup_path: "/kubepods/pod1/ab".into(),
        ..Workload::default()
    }))
}

/// What the Kubernetes API says of the pod `shop/web-1` on `node-2`.
pub(in crate::otlp) fn pod(kind: &str, controller: &str) -> Pod {
    Pod {
        namespace: "shop".into(),
        name: "web-1".into(),
        uid: "11111111-2222-3333-4444-555555555555".into(),
        config_hash: None,
        node: Some("node-2".into()),
        labels: Arc::new([]),
        controller: Some(Controller { kind: kind.into(), name: controller.into() }),
        host_network: false,
        ips: Box::new([]),
        containers: Box::new([]),
        phase: Phase::Running,
    }
}

/// The Service `shop/db`.
pub(in crate::otlp) fn db() -> Party {
    let service = Arc::new(Service { namespace: "shop".into(), name: "db".into() });
    let address =
        ServiceAddress { service, port: Some(443), port_name: None, kind: AddressKind::Cluster };
    Party::Front(Arc::new(Front { address: Address::Service(Arc::new(address)), behind: None }))
}

/// What happened to the device of a pod's process.
pub(in crate::otlp) fn gpu_event(kind: GpuEventKind) -> GpuEvent {
    let owner = crate::gpu::share::Owner {
        namespace: Some("shop".into()),
        pod: Some("web-1".into()),
        container: Some("app".into()),
        workload: None,
    };
    GpuEvent {
        time: at(9),
        device: Some(DeviceId::new("GPU-1")),
        index: Some(3),
        process: Some(Process { pid: 77, name: "python3".into(), workload: None }),
        owners: vec![owner],
        kind,
    }
}

pub(in crate::otlp) fn gpu(kind: GpuEventKind) -> Payload {
    Payload::Gpu(Box::new(gpu_event(kind)))
}
