//! Ends and events as short as a test wants them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orb8_common::flow::{DIRECTION_EGRESS, FlowKey, HOOK_SOCKET};
use orb8_k8s::object::{AddressKind, Controller, Node, Phase, Pod, Service, ServiceAddress, Text};
use orb8_proto::filter::End;

use crate::event::{
    DnsAnswer, DnsData, DnsExchange, DnsOutcome, DnsQuestion, DnsResponse, DnsSide, FlowSample,
    Reason, SampleKind, Signal, SocketEnd, TcpKind, TcpRole, TcpSample, UnixNanos,
};
use crate::hubble::id::{EventId, Instance};
use crate::hubble::observed::Observed;
use crate::identity::{Address, Behind, Ends, Front, Party, Workload};
use crate::pipeline::{DnsEvent, FlowEvent, FlowStep, TcpEvent};
use crate::store::{FlowStore, InterfaceNames, Owner, StoreConfig};

pub(in crate::hubble) const SECOND: u64 = 1_000_000_000;
pub(in crate::hubble) const NODE: &str = "node-1";

pub(in crate::hubble) fn instance() -> Instance {
    Instance::new(NODE, UnixNanos(SECOND))
}

pub(in crate::hubble) fn id(signal: Signal, part: u8) -> EventId {
    EventId { signal, sequence: 7, part }
}

pub(in crate::hubble) fn interfaces() -> InterfaceNames {
    [(7, "veth7")].into_iter().collect()
}

/// 10.0.0.x, as the kernel's records have it.
pub(in crate::hubble) fn mapped(last: u8) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last]
}

pub(in crate::hubble) fn at(last: u8, port: u16) -> SocketEnd {
    SocketEnd { addr: mapped(last), port }
}

pub(in crate::hubble) fn pod(
    namespace: &str,
    name: &str,
    controller: Option<(&str, &str)>,
    labels: &[(&str, &str)],
) -> Arc<Pod> {
    let mut labels: Vec<(Text, Text)> =
        labels.iter().map(|(key, value)| (Text::from(*key), Text::from(*value))).collect();
    labels.sort();
    Arc::new(Pod {
        namespace: namespace.into(),
        name: name.into(),
        uid: format!("uid-of-{name}").into(),
        config_hash: None,
        node: Some(NODE.into()),
        labels: labels.into(),
        controller: controller
            .map(|(kind, name)| Controller { kind: kind.into(), name: name.into() }),
        host_network: false,
        ips: Box::default(),
        containers: Box::default(),
        phase: Phase::Running,
    })
}

/// shop/web-1 of Deployment web.
pub(in crate::hubble) fn web() -> Party {
    Party::Pod(pod("shop", "web-1", Some(("Deployment", "web")), &[("app", "web"), ("tier", "a")]))
}

/// shop/db-0 of StatefulSet db.
pub(in crate::hubble) fn db() -> Party {
    Party::Pod(pod("shop", "db-0", Some(("StatefulSet", "db")), &[("app", "db")]))
}

pub(in crate::hubble) fn node(name: &str) -> Party {
    Party::Node(Arc::new(Node { name: name.into(), ips: Box::default() }))
}

pub(in crate::hubble) fn process(unit: &str) -> Party {
    let workload = Workload { unit: Some(unit.to_owned()), ..Workload::default() };
    Party::Workload(Arc::new(workload))
}

/// A Service's address, and who is behind it.
pub(in crate::hubble) fn service(namespace: &str, name: &str, behind: Option<Party>) -> Party {
    let service = Service { namespace: namespace.into(), name: name.into() };
    let address = Address::Service(Arc::new(ServiceAddress {
        service: Arc::new(service),
        port: Some(80),
        port_name: None,
        kind: AddressKind::Cluster,
    }));
    let behind = behind.map(|party| Behind { at: None, party });
    Party::Front(Arc::new(Front { address, behind }))
}

/// 10.0.0.1:40000 → 10.0.0.2:443 by TCP, at the client's socket.
pub(in crate::hubble) fn key() -> FlowKey {
    FlowKey {
        source_addr: mapped(1),
        destination_addr: mapped(2),
        source_port: 40_000,
        destination_port: 443,
        ifindex: 0,
        cgroup_id: 5,
        protocol: 6,
        direction: DIRECTION_EGRESS,
        hook: HOOK_SOCKET,
        flags: 0,
        vlan: 0,
        inner_vlan: 0,
    }
}

pub(in crate::hubble) fn sample(key: FlowKey, packets: u64) -> FlowSample {
    FlowSample {
        key,
        kind: if packets == 0 { SampleKind::New } else { SampleKind::Counted },
        cgroup_id: key.cgroup_id,
        cookie: 9,
        ifindex: 7,
        packets,
        bytes: packets * 100,
        first: UnixNanos(SECOND),
        last: UnixNanos(2 * SECOND),
        tcp_flags: 0x02,
    }
}

/// An event of a flow that has had SYN, PSH and ACK.
pub(in crate::hubble) fn flow_event(key: FlowKey, step: FlowStep, ends: Ends) -> FlowEvent {
    let config = StoreConfig { max_flows: 1024, idle_timeout: Duration::from_secs(60) };
    let mut store = FlowStore::new(config, Instant::now());
    let sample = FlowSample { kind: SampleKind::New, tcp_flags: 0x1a, ..sample(key, 0) };
    let (_, flow) = store.apply(&sample, Owner::default(), Instant::now());
    flow.ends = ends;
    let flow = flow.clone();
    let row = store.row(flow);
    FlowEvent { step, row, packets: 12, bytes: 3400 }
}

pub(in crate::hubble) fn ends(source: Party, destination: Party) -> Ends {
    Ends { source, destination }
}

/// Reads an event of a flow.
pub(in crate::hubble) fn of_flow<'a>(
    event: &'a FlowEvent,
    interfaces: &'a InterfaceNames,
) -> Option<Observed<'a>> {
    Observed::of_flow(id(Signal::Flow, 0), UnixNanos(3 * SECOND), event, interfaces, NODE)
}

/// 10.0.0.1 asks 10.0.0.53 for the AAAA of api.example, and gets an alias and two addresses.
pub(in crate::hubble) fn exchange(outcome: DnsOutcome) -> DnsExchange {
    let answer = |name: &str, kind, ttl, data| DnsAnswer { name: name.into(), kind, ttl, data };
    let response = DnsResponse {
        answers: vec![
            answer("api.example", 5, 30, DnsData::Name("edge.example".into())),
            answer("edge.example", 28, 20, DnsData::Address("fd00::1".parse().unwrap())),
            answer("edge.example", 28, 20, DnsData::Address("fd00::2".parse().unwrap())),
        ],
        answer_count: 3,
        ..DnsResponse::default()
    };
    let has_response = matches!(outcome, DnsOutcome::Answered | DnsOutcome::Unasked);
    DnsExchange {
        client: at(1, 40_000),
        server: at(53, 53),
        transport: 17,
        side: DnsSide::Client,
        cgroup_id: 5,
        cookie: 8,
        ifindex: 7,
        id: 4242,
        question: Some(DnsQuestion { name: "api.example".into(), kind: 28, class: 1 }),
        outcome,
        response: has_response.then_some(response),
        asked: (outcome != DnsOutcome::Unasked).then_some(UnixNanos(SECOND)),
        latency_ns: 2_000_000,
        retries: 1,
        told_retries: None,
        query_bytes: 40,
    }
}

pub(in crate::hubble) fn dns_event(exchange: DnsExchange) -> DnsEvent {
    DnsEvent { exchange: Box::new(exchange), ends: ends(web(), db()) }
}

/// A dropped packet from 10.0.0.1:40000 to 10.0.0.2:443.
pub(in crate::hubble) fn drop_sample(reason: &str, tcp_flags: u8) -> TcpSample {
    TcpSample {
        kind: TcpKind::Drop {
            reason: Reason { id: 3, name: reason.into() },
            location: Some("nf_hook_slow".into()),
            weight: 3,
            tcp_flags,
            bytes: 60,
        },
        local: at(1, 40_000),
        remote: at(2, 443),
        of_packet: true,
        local_end: Some(End::Destination),
        cgroup_id: 5,
        cookie: 9,
        netns: 0,
        ifindex: 7,
        role: TcpRole::Unknown,
        state: 0,
        old_state: 0,
        srtt_ns: None,
        figures: None,
    }
}

pub(in crate::hubble) fn tcp_event(sample: TcpSample, ends: Ends) -> TcpEvent {
    TcpEvent {
        local: sample.local_end,
        sample: Box::new(sample),
        ends,
        health: None,
        label: None,
        self_traffic: false,
        in_our_network: true,
    }
}
