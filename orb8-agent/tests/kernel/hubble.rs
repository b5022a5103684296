//! What Hubble's clients are told: real traffic, over the agent's own port.

use std::net::SocketAddr;

use orb8_agent::config::{AttachStrategy, Config, KubernetesConfig};
use orb8_k8s::{client::Access, testing::ApiServer};
use orb8_proto::hubble::{
    flow::{
        DropReason, Flow, FlowFilter, FlowType, L7FlowType, TcpFlags, TrafficDirection, Verdict,
        layer4::Protocol, layer7::Record,
    },
    observer::GetFlowsRequest,
};

use super::support::{
    Lab, PATIENCE,
    agent::{self, in_runtime},
    cluster::{self, DB, HERE, RULES, WEB},
    dns::{A, ask, client, query},
    hubble::{Flows, Observer, ends},
    name_server::NameServer,
    netns::{CLIENT4, SERVER4, VERSIONS},
    node::{Kubepods, Layout, Network, apart},
    skip,
    tcp::{begin_to_connect, tracepoint_format},
    traffic::tcp_transfer,
};

fn flags(flow: &Flow) -> TcpFlags {
    match flow.l4.as_ref().and_then(|l4| l4.protocol.as_ref()) {
        Some(Protocol::Tcp(tcp)) => tcp.flags.expect("flags"),
        other => panic!("{other:?}"),
    }
}

fn is_tcp(flow: &Flow, from: SocketAddr, to: SocketAddr) -> bool {
    flow.r#type() == FlowType::L3L4 && ends(flow) == [from, to]
}

/// Where it was seen: at the socket of who sends, or of who receives.
fn is_at_sender(flow: &Flow) -> bool {
    let of = flow.event_type.expect("a type");
    assert_eq!(of.r#type, 4, "{flow:#?}");
    matches!(of.sub_type, 5 | 7)
}

#[test]
fn a_connection_from_its_syn_to_its_end() {
    let lab = Lab::new();
    in_runtime(&lab.pair.client, async || {
        let mut observer = Observer::start(config(&lab)).await;
        let mut flows = observer.follow().await;
        for version in VERSIONS {
            let ends = tcp_transfer(&lab.pair, version, 100_000, 50_000);
            let (client, server) = (ends.client, ends.server);
            let syn =
                |flow: &Flow| is_tcp(flow, client, server) && flags(flow).syn && is_at_sender(flow);
            let first = flows.one("the SYN", syn).await;
            assert_eq!(first.verdict(), Verdict::Forwarded, "{first:#?}");
            assert_eq!(flags(&first), TcpFlags { syn: true, ..Default::default() }, "{first:#?}");
            assert_eq!(first.is_reply, Some(false));
            assert_eq!(first.traffic_direction(), TrafficDirection::Egress);
            assert!(first.socket_cookie != 0 && first.cgroup_id != 0, "{first:#?}");
            let answer = |flow: &Flow| {
                is_tcp(flow, server, client) && flags(flow).syn && !is_at_sender(flow)
            };
            let answer = flows.one("the SYN and ACK", answer).await;
            assert_eq!(answer.is_reply, Some(true), "{answer:#?}");
            // The connection goes out, whichever way its packets go.
            assert_eq!(answer.traffic_direction(), TrafficDirection::Egress, "{answer:#?}");
            let at_server = |flow: &Flow| {
                is_tcp(flow, client, server) && flags(flow).syn && !is_at_sender(flow)
            };
            let at_server = flows.one("the SYN at the server", at_server).await;
            assert_eq!(at_server.traffic_direction(), TrafficDirection::Ingress, "{at_server:#?}");
            let fin = |flow: &Flow| is_tcp(flow, client, server) && flags(flow).fin;
            let fin = flows.one("the FIN", fin).await;
            assert!(!flags(&fin).syn, "{fin:#?}");
            counts_add_up(&mut flows, client, server).await;
        }
        the_past(&mut observer, &flows.seen).await;
        observer.stop().await;
    });
}

fn config(lab: &Lab) -> Config {
    agent::config(AttachStrategy::Cgroup, Some(&lab.cgroup))
}

/// What is told of one direction at its sender adds up to the bytes that were sent.
async fn counts_add_up(flows: &mut Flows, client: SocketAddr, server: SocketAddr) {
    let started = std::time::Instant::now();
    loop {
        let told = flows.seen.iter();
        let told = told.filter(|flow| is_tcp(flow, client, server) && is_at_sender(flow));
        let counts: Vec<_> = told.filter_map(|flow| Some((counted(flow)?, flags(flow)))).collect();
        let is_moment = |flags: &TcpFlags| flags.syn || flags.fin || flags.rst;
        assert!(!counts.iter().any(|(_, flags)| is_moment(flags)), "moments count nothing");
        let bytes: u64 = counts.iter().map(|(bytes, _)| bytes).sum();
        // With the headers of the connection's packets.
        if (100_000..120_000).contains(&bytes) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{bytes} bytes in {:#?}", flows.seen);
        flows.more().await;
    }
}

fn counted(flow: &Flow) -> Option<u64> {
    #[expect(deprecated, reason = "the only place that has counts")]
    let (_, bytes) = flow.summary.rsplit_once(", ")?;
    bytes.strip_suffix(" bytes")?.parse().ok()
}

/// Who comes later gets the same flows, with the same ids.
async fn the_past(observer: &mut Observer, followed: &[Flow]) {
    let ids: Vec<String> = followed.iter().map(|flow| flow.uuid.clone()).collect();
    let of_these = FlowFilter { uuid: ids.clone(), ..FlowFilter::default() };
    let request =
        GetFlowsRequest { whitelist: vec![of_these.clone()], ..GetFlowsRequest::default() };
    let mut past = observer.flows(request.clone()).await.all().await;
    assert!(past.is_sorted_by_key(|flow| flow.time.map(|time| (time.seconds, time.nanos))));
    past.sort_by_key(|flow| ids.iter().position(|id| *id == flow.uuid));
    assert_eq!(past, followed);
    let last = GetFlowsRequest { number: 3, ..request };
    assert_eq!(observer.flows(last).await.all().await.len(), 3);
    let none = GetFlowsRequest {
        blacklist: vec![of_these.clone()],
        whitelist: vec![of_these],
        ..GetFlowsRequest::default()
    };
    assert_eq!(observer.flows(none).await.all().await, []);
    let status = observer.status().await;
    assert!(status.seen_flows >= ids.len() as u64, "{status:?}");
    assert!((1..=status.max_flows).contains(&status.num_flows), "{status:?}");
}

#[test]
fn names_that_are_asked_for() {
    let lab = Lab::new();
    let server = NameServer::start(&lab.pair.server, (SERVER4, 53).into());
    in_runtime(&lab.pair.client, async || {
        let mut observer = Observer::start(config(&lab)).await;
        let mut flows = observer.follow().await;
        let socket = client(&lab.pair.client, CLIENT4, server.address);
        let from = socket.local_addr().expect("its address");
        ask(&socket, &query(1, "web.orb8.test", A));
        ask(&socket, &query(2, "rcode-3.orb8.test", A));
        let is = |kind, name: &'static str, direction| {
            move |flow: &Flow| {
                let Some(l7) = &flow.l7 else { return false };
                let Some(Record::Dns(dns)) = &l7.record else { return false };
                l7.r#type() == kind && dns.query == name && flow.traffic_direction() == direction
            }
        };
        let out = TrafficDirection::Egress;
        let asked = flows.one("the query", is(L7FlowType::Request, "web.orb8.test.", out)).await;
        assert_eq!(ends(&asked), [from, server.address], "{asked:#?}");
        let told = flows.one("the answer", is(L7FlowType::Response, "web.orb8.test.", out)).await;
        assert_eq!(ends(&told), [server.address, from], "{told:#?}");
        assert_eq!((asked.is_reply, told.is_reply), (Some(false), Some(true)));
        let layer = told.l7.as_ref().expect("layer 7");
        let Some(Record::Dns(dns)) = &layer.record else { panic!("{told:#?}") };
        assert_eq!((&dns.ips[..], dns.rcode, dns.ttl), (&["192.0.2.1".to_owned()][..], 0, 300));
        assert!(layer.latency_ns > 0 && dns.qtypes == ["A"], "{told:#?}");
        let missing = is(L7FlowType::Response, "rcode-3.orb8.test.", out);
        let missing = flows.one("that there is none", missing).await;
        assert!(matches!(
            missing.l7.and_then(|l7| l7.record),
            Some(Record::Dns(dns)) if dns.rcode == 3 && dns.ips.is_empty()
        ));
        // The server's socket tells its side.
        let into = TrafficDirection::Ingress;
        flows.one("the server's", is(L7FlowType::Request, "web.orb8.test.", into)).await;
        observer.stop().await;
    });
}

#[test]
fn a_packet_that_is_dropped() {
    let lab = Lab::new();
    if !tracepoint_format("skb", "kfree_skb").contains("NO_SOCKET") {
        return skip("drop reasons", "the kernel's tracepoint does not print them");
    }
    in_runtime(&lab.pair.client, async || {
        let mut observer = Observer::start(config(&lab)).await;
        // As `hubble observe --verdict DROPPED --protocol tcp --to-port 7001 -f`.
        let wanted = FlowFilter {
            verdict: vec![Verdict::Dropped.into()],
            protocol: vec!["tcp".to_owned()],
            destination_port: vec!["7001".to_owned()],
            ..FlowFilter::default()
        };
        let request =
            GetFlowsRequest { follow: true, whitelist: vec![wanted], ..GetFlowsRequest::default() };
        let mut flows = observer.flows(request).await;
        for (from, to) in VERSIONS {
            drop(begin_to_connect(&lab.pair.client, (to, 7001).into()));
            let is_it = |flow: &Flow| ends(flow)[0].ip() == from;
            let dropped = flows.one("the SYN", is_it).await;
            assert_eq!(ends(&dropped)[1], (to, 7001).into());
            assert_eq!(dropped.drop_reason_desc(), DropReason::SocketLookupFailed, "{dropped:#?}");
            assert!(flags(&dropped).syn && dropped.is_reply == Some(false), "{dropped:#?}");
            assert_eq!(dropped.event_type.map(|of| of.r#type), Some(1));
            #[expect(deprecated, reason = "what people read")]
            let line = &dropped.summary;
            assert!(line.starts_with("TCP Flags: SYN") && line.contains("; NO_SOCKET"), "{line}");
        }
        assert!(flows.seen.iter().all(|flow| flow.verdict() == Verdict::Dropped));
        observer.stop().await;
    });
}

/// As Hubble's UI asks for a namespace, and what it needs to draw an arrow.
#[test]
fn pods_and_a_service_between_them() {
    apart(|| {
        let mut here = Kubepods::new();
        let Some(network) = Network::new(RULES) else { return };
        let (web, db) = (network.pod(10), network.pod(11));
        let mut web = here.start(&web, Layout::SystemdBurstable, WEB.uid, "main");
        let mut db = here.start(&db, Layout::CgroupfsBesteffort, DB.uid, "main");
        web.serve("[::]:8080");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let api = ApiServer::start().await.expect("an API server");
            cluster::fill(&api);
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("kubeconfig");
            api.write_kubeconfig(&path).expect("a kubeconfig");
            let access = Access::Kubeconfig { path: Some(path), context: None };
            let config = Config {
                node_name: HERE.into(),
                kubernetes: KubernetesConfig { access, remote_pods: true },
                ..agent::config(AttachStrategy::Cgroup, Some(here.root()))
            };
            let mut observer = Observer::start(config).await;
            let of_shop = FlowFilter {
                source_pod: vec!["shop/".to_owned()],
                reply: vec![false],
                ..FlowFilter::default()
            };
            let request = GetFlowsRequest {
                follow: true,
                whitelist: vec![of_shop],
                ..GetFlowsRequest::default()
            };
            let mut flows = observer.flows(request).await;
            known(&mut observer).await;
            db.call(20_001, "10.96.0.10:80");
            let at_client =
                |flow: &Flow| ends(flow)[1] == ([10, 96, 0, 10], 80).into() && is_at_sender(flow);
            let flow = flows.one("the request to the Service", at_client).await;
            review(&flow, true);
            let at_server = |flow: &Flow| {
                ends(flow)[1] == ([10, 244, 1, 10], 8080).into() && !is_at_sender(flow)
            };
            let flow = flows.one("the request at the pod", at_server).await;
            review(&flow, false);
            observer.stop().await;
        });
    });
}

/// Waits until the API server's pods are known: their namespaces are told.
async fn known(observer: &mut Observer) {
    let started = std::time::Instant::now();
    loop {
        let request = orb8_proto::hubble::observer::GetNamespacesRequest {};
        let answer = observer.client.get_namespaces(request).await.expect("an answer").into_inner();
        if answer.namespaces.iter().any(|of| of.namespace == "shop") {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{answer:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn review(flow: &Flow, has_service: bool) {
    let end = |end: &Option<orb8_proto::hubble::flow::Endpoint>| {
        let end = end.clone().expect("an end");
        let workload = end.workloads.first().cloned().unwrap_or_default();
        (end.namespace, end.pod_name, workload.kind, workload.name, end.identity)
    };
    let (namespace, pod, kind, name, source) = end(&flow.source);
    assert_eq!((&*namespace, &*pod), (DB.namespace, DB.name), "{flow:#?}");
    assert_eq!((&*kind, &*name), ("StatefulSet", "db"), "{flow:#?}");
    let (namespace, pod, kind, name, destination) = end(&flow.destination);
    assert_eq!((&*namespace, &*pod), (WEB.namespace, WEB.name), "{flow:#?}");
    assert_eq!((&*kind, &*name), ("Deployment", "web"), "{flow:#?}");
    assert!(source >= 1 << 31 && destination >= 1 << 31 && source != destination, "{flow:#?}");
    let labels = &flow.source.as_ref().expect("a source").labels;
    assert!(labels.iter().any(|label| label == "k8s:app=db"), "{labels:?}");
    let service = flow.destination_service.clone().map(|of| (of.namespace, of.name));
    let expected = has_service.then(|| ("shop".to_owned(), "web".to_owned()));
    assert_eq!(service, expected, "{flow:#?}");
    assert_eq!((&*flow.node_name, flow.is_reply), (HERE, Some(false)));
    assert!(flow.destination_names.is_empty(), "the UI leaves out flows to a Service with a name");
}
