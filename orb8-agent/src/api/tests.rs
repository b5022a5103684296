use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Instant;

use orb8_common::flow::{DIRECTION_EGRESS, FlowKey, HOOK_INTERFACE, HOOK_SOCKET};
use orb8_proto::v1;
use orb8_proto::v1::orbit_agent_service_client::OrbitAgentServiceClient;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_stream::StreamExt;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::convert::Converter;
use super::*;
use crate::event::{Event, FlowSample, Loss, Payload, SampleKind, UnixNanos};
use crate::identity::Workload;
use crate::pipeline::{FlowStep, Happened, LocalAddresses, Lost, Pipeline, StreamItem};
use crate::status::{SourceState, SourceStatus};
use crate::store::{EndReason, FlowStore, Owner};

type Client = OrbitAgentServiceClient<Channel>;

/// An agent without an engine: a test is its source.
struct Node {
    config: Config,
    pipeline: SharedPipeline,
    board: StatusBoard,
    shutdown: CancellationToken,
    tasks: Tasks,
    directory: TempDir,
}

impl Node {
    fn new() -> Self {
        let mut config = Config::in_process().unwrap();
        config.node_name = "node-1".into();
        config.cgroup_root = None;
        let board = StatusBoard::default();
        board.update(|status| {
            let names = [(7, "veth7")].into_iter().collect();
            status.interfaces = Arc::new(names);
        });
        Self {
            pipeline: Pipeline::new(&config, LocalAddresses::default()).shared(),
            config,
            board,
            shutdown: CancellationToken::new(),
            tasks: Tasks::new(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Answers this process only.
    fn channel(&mut self) -> Channel {
        let mut api =
            Api::without_listeners(&self.config, self.pipeline.clone(), self.board.clone());
        let channel = api.connect();
        self.tasks = api.run(&self.shutdown);
        channel
    }

    fn client(&mut self) -> Client {
        Client::new(self.channel())
    }

    async fn build(&self) -> Result<Api, AgentError> {
        Api::build(&self.config, self.pipeline.clone(), self.board.clone()).await
    }

    /// Listens, and returns where.
    async fn run(&mut self) -> Bound {
        let api = self.build().await.unwrap();
        let bound = api.bound().clone();
        self.tasks = api.run(&self.shutdown);
        bound
    }

    fn ingest(&self, samples: &[FlowSample]) {
        let event = |sample: &FlowSample| Event {
            time: sample.last,
            subject: None,
            payload: Payload::Flow(sample.clone()),
        };
        lock(&self.pipeline).ingest(&mut samples.iter().map(event).collect());
    }

    fn end_cycle(&self) {
        lock(&self.pipeline).end_of_cycle(Instant::now());
    }

    fn run_source(&self) {
        let running = SourceStatus { name: "flow", state: SourceState::Running };
        self.board.update(|status| status.sources = vec![running]);
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(result) = self.tasks.join_next().await {
            result.unwrap().unwrap();
        }
    }
}

fn sample(port: u16, packets: u64) -> FlowSample {
    let mut address = [0; 16];
    address[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
    let mut v6 = [0; 16];
    (v6[0], v6[15]) = (0xfd, 1);
    FlowSample {
        key: FlowKey {
            source_addr: address,
            destination_addr: v6,
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
        kind: if packets == 0 { SampleKind::New } else { SampleKind::Counted },
        cgroup_id: 5,
        cookie: 9,
        ifindex: 7,
        packets,
        bytes: packets * 100,
        first: UnixNanos(1_000),
        last: UnixNanos(2_000),
        tcp_flags: 0x12,
    }
}

#[tokio::test]
async fn flows_are_told_in_full() {
    let mut node = Node::new();
    let mut client = node.client();
    let icmp = FlowKey {
        protocol: 1,
        source_port: 8,
        destination_port: 0,
        hook: HOOK_INTERFACE,
        cgroup_id: 0,
        ifindex: 7,
        vlan: 100,
        ..sample(1, 1).key
    };
    node.ingest(&[sample(1, 3), FlowSample { key: icmp, cgroup_id: 0, ..sample(8, 1) }]);
    let answer = client.query_flows(v1::QueryFlowsRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.total_matched, 2);
    let accounting = answer.accounting.unwrap();
    assert_eq!((accounting.counted_packets, accounting.counted_bytes), (4, 400));

    let tcp = &answer.flows[0];
    let mut destination = vec![0; 16];
    (destination[0], destination[15]) = (0xfd, 1);
    let source = v1::Endpoint { ip: vec![10, 0, 0, 1], port: 1, workload: None };
    assert_eq!(tcp.source, Some(source));
    assert_eq!(tcp.destination, Some(v1::Endpoint { ip: destination, port: 443, workload: None }));
    assert_eq!((tcp.protocol(), tcp.ip_protocol), (v1::Protocol::Tcp, 6));
    assert_eq!((tcp.direction(), tcp.hook()), (v1::Direction::Egress, v1::Hook::Socket));
    assert_eq!((tcp.packets, tcp.bytes, tcp.tcp_flags), (3, 300, 0x12));
    assert_eq!((tcp.first_seen_ns, tcp.last_seen_ns), (1_000, 2_000));
    assert_eq!((tcp.local_end(), tcp.cgroup_id), (v1::LocalEnd::Source, 5));
    assert_eq!((tcp.socket_cookie, tcp.node_name.as_str(), tcp.icmp), (9, "node-1", None));
    let unnamed = v1::Interface { index: 7, name: String::new() };
    assert_eq!(tcp.interface, Some(unnamed), "a socket's interface may be another namespace's");

    let icmp = &answer.flows[1];
    assert_eq!(
        (icmp.protocol(), icmp.icmp),
        (v1::Protocol::Icmp, Some(v1::IcmpType { r#type: 8, code: 0 }))
    );
    assert_eq!((icmp.source.as_ref().unwrap().port, icmp.vlan), (0, Some(100)));
    assert_eq!((icmp.hook(), icmp.local_end()), (v1::Hook::Interface, v1::LocalEnd::Unspecified));
    assert_eq!(icmp.interface, Some(v1::Interface { index: 7, name: "veth7".into() }));
    node.stop().await;
}

#[tokio::test]
async fn queries_filter_and_refuse_nonsense() {
    let mut node = Node::new();
    let mut client = node.client();
    node.ingest(&[sample(1, 3), sample(2, 4), sample(3, 5)]);
    let port = |port| v1::FlowFilter { source_port: vec![port], ..v1::FlowFilter::default() };
    let request = v1::QueryFlowsRequest {
        include: vec![port(1), port(2)],
        sort_by: v1::SortBy::Packets.into(),
        limit: 1,
        ..v1::QueryFlowsRequest::default()
    };
    let answer = client.query_flows(request).await.unwrap().into_inner();
    assert_eq!((answer.total_matched, answer.flows[0].packets), (2, 4));

    let bad_ip = v1::FlowFilter { ip: vec!["nonsense".into()], ..v1::FlowFilter::default() };
    let bad_filter = v1::QueryFlowsRequest { exclude: vec![bad_ip], ..Default::default() };
    let bad_sort = v1::QueryFlowsRequest { sort_by: 99, ..Default::default() };
    for (request, word) in [(bad_filter, "nonsense"), (bad_sort, "sort_by")] {
        let error = client.query_flows(request).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        assert!(error.message().contains(word), "{}", error.message());
    }
    let request = v1::StreamEventsRequest { kinds: vec![99], ..Default::default() };
    let error = client.stream_events(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    node.stop().await;
}

#[tokio::test]
async fn streams_give_the_last_events_and_then_the_next() {
    let mut node = Node::new();
    let mut client = node.client();
    for port in 1..=10 {
        node.ingest(&[sample(port, 0)]);
    }
    let request = v1::StreamEventsRequest { last: 2, ..Default::default() };
    let mut events = client.stream_events(request).await.unwrap().into_inner();
    let port = |event: &v1::StreamEventsResponse| {
        event.flow.as_ref().unwrap().source.as_ref().unwrap().port
    };
    for expected in [9, 10] {
        let event = events.next().await.unwrap().unwrap();
        assert_eq!((event.kind(), port(&event)), (v1::EventKind::FlowNew, expected));
        assert_eq!((event.time_ns, event.node_name.as_str()), (2_000, "node-1"));
    }
    node.ingest(&[sample(11, 7)]);
    node.ingest(&[sample(11, 5)]);
    let event = events.next().await.unwrap().unwrap();
    assert_eq!((event.kind(), event.delta_packets), (v1::EventKind::FlowNew, 7));
    let event = events.next().await.unwrap().unwrap();
    assert_eq!((event.kind(), event.delta_bytes), (v1::EventKind::FlowUpdate, 500));
    assert_eq!(event.flow.unwrap().bytes, 1200);
    let reset = FlowSample { tcp_flags: 4, ..sample(11, 1) };
    node.ingest(&[reset]);
    node.end_cycle();
    let event = events.next().await.unwrap().unwrap();
    assert_eq!((event.kind(), event.end_reason()), (v1::EventKind::FlowEnd, v1::EndReason::Rst));
    assert_eq!((event.delta_packets, event.delta_bytes), (1, 100));
    assert_eq!(event.flow.unwrap().packets, 13);

    // A stream that follows ends with the agent.
    node.stop().await;
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn streams_filter_and_end_where_asked() {
    let mut node = Node::new();
    let mut client = node.client();
    let many: Vec<FlowSample> = (1..=1000).map(|port| sample(port, 1)).collect();
    node.ingest(&many);
    node.ingest(&many);
    let filter = v1::FlowFilter { source_port: vec![500], ..Default::default() };
    let request = v1::StreamEventsRequest {
        include: vec![filter],
        kinds: vec![v1::EventKind::FlowNew.into()],
        last: 100,
        no_follow: true,
        ..Default::default()
    };
    let events = client.stream_events(request).await.unwrap().into_inner();
    let events: Vec<_> = events.collect().await;
    assert_eq!(events.len(), 1, "the one new event of that port, and then the end");
    node.stop().await;
}

#[tokio::test]
async fn streams_begin_at_a_time() {
    let mut node = Node::new();
    let mut client = node.client();
    for port in 1..=5_u16 {
        node.ingest(&[FlowSample { last: UnixNanos(u64::from(port) * 1_000), ..sample(port, 0) }]);
    }
    let mut ports = async |last: u32, since: Option<u64>| {
        let request = v1::StreamEventsRequest {
            last,
            since_time_ns: since,
            no_follow: true,
            ..Default::default()
        };
        let events = client.stream_events(request).await.unwrap().into_inner();
        let port = |event: Result<v1::StreamEventsResponse, _>| {
            event.unwrap().flow.unwrap().source.unwrap().port
        };
        events.map(port).collect::<Vec<u32>>().await
    };
    assert_eq!(ports(0, Some(3_000)).await, [3, 4, 5], "at the time, and later");
    assert_eq!(ports(0, Some(0)).await, [1, 2, 3, 4, 5]);
    assert_eq!(ports(0, Some(5_001)).await, [0; 0]);
    assert_eq!(ports(2, Some(3_000)).await, [4, 5], "of the last two");
    assert_eq!(ports(4, Some(4_000)).await, [4, 5], "of the last four");
    assert_eq!(ports(0, None).await, [0; 0], "the past is not asked for");
    node.stop().await;
}

#[tokio::test]
async fn a_sockets_interface_has_a_name_where_its_owner_is_in_our_network() {
    let node = Node::new();
    let converter = Converter::new("node-1".into(), &node.board);
    let name = |hook: u8, host_network: bool| {
        let key = FlowKey { hook, ..sample(1, 1).key };
        let owner = Workload { host_network, ..Workload::default() };
        let mut store = FlowStore::new(node.config.store, Instant::now());
        let owner = Owner { subject: Some(Arc::new(owner)), self_traffic: false };
        let (_, flow) = store.apply(&FlowSample { key, ..sample(1, 1) }, owner, Instant::now());
        let flow = flow.clone();
        converter.flow(&store.row(flow)).interface.unwrap().name
    };
    assert_eq!(name(HOOK_SOCKET, true), "veth7");
    assert_eq!(name(HOOK_SOCKET, false), "", "7 is something else over there");
    assert_eq!(name(HOOK_INTERFACE, false), "veth7");
}

#[tokio::test]
async fn every_end_and_loss_is_told_as_what_it_is() {
    let node = Node::new();
    let converter = Converter::new("node-1".into(), &node.board);
    let tell = |happened| converter.event(&StreamItem { time: UnixNanos(5), happened });
    let mut store = FlowStore::new(node.config.store, Instant::now());
    let (_, flow) = store.apply(&sample(1, 1), Owner::default(), Instant::now());
    let flow = flow.clone();
    let row = store.row(flow);
    let steps = [
        (FlowStep::New, v1::EventKind::FlowNew, v1::EndReason::Unspecified),
        (FlowStep::Update, v1::EventKind::FlowUpdate, v1::EndReason::Unspecified),
        (FlowStep::End(EndReason::Fin), v1::EventKind::FlowEnd, v1::EndReason::Fin),
        (FlowStep::End(EndReason::Rst), v1::EventKind::FlowEnd, v1::EndReason::Rst),
        (FlowStep::End(EndReason::Idle), v1::EventKind::FlowEnd, v1::EndReason::Idle),
        (FlowStep::End(EndReason::Evicted), v1::EventKind::FlowEnd, v1::EndReason::Evicted),
    ];
    for (step, kind, reason) in steps {
        let happened = Happened::Flow { step, row: row.clone(), packets: 2, bytes: 30 };
        let event = tell(happened);
        assert_eq!((event.kind(), event.end_reason()), (kind, reason));
        assert_eq!((event.delta_packets, event.delta_bytes), (2, 30), "{kind:?}");
        assert!(event.flow.is_some() && event.lost.is_none(), "{kind:?}");
    }
    let lost = |source: v1::LostSource, events, packets, bytes| v1::Lost {
        source: source.into(),
        events,
        packets,
        bytes,
    };
    let losses = [
        (Lost::Kernel { packets: 2, bytes: 30 }, lost(v1::LostSource::Kernel, 0, 2, 30)),
        (Lost::Ring { events: 4 }, lost(v1::LostSource::Ring, 4, 0, 0)),
        (Lost::Subscriber { events: 5 }, lost(v1::LostSource::Subscriber, 5, 0, 0)),
    ];
    for (of, expected) in losses {
        let event = tell(Happened::Lost(of));
        assert_eq!((event.kind(), event.lost), (v1::EventKind::Lost, Some(expected)));
        assert!(event.flow.is_none() && event.delta_packets == 0);
    }
}

#[tokio::test]
async fn losses_are_in_line() {
    let mut node = Node::new();
    node.config.hub.backlog = 1024;
    node.pipeline = Pipeline::new(&node.config, LocalAddresses::default()).shared();
    let mut client = node.client();
    let request = v1::StreamEventsRequest {
        kinds: vec![v1::EventKind::FlowNew.into()],
        ..Default::default()
    };
    let mut events = client.stream_events(request).await.unwrap().into_inner();
    // Nobody polls the stream meanwhile, so nothing leaves the hub.
    let total = 30_000_u64;
    for port in 0..total {
        node.ingest(&[FlowSample { kind: SampleKind::New, ..sample(port as u16, 0) }]);
    }
    let (mut got, mut lost) = (0, 0);
    while got + lost < total {
        let event = events.next().await.unwrap().unwrap();
        match event.lost {
            Some(of) => {
                assert_eq!(of.source(), v1::LostSource::Subscriber);
                lost += of.events;
            }
            None => got += 1,
        }
    }
    assert!(lost > 0 && got > 0, "{got} got, {lost} lost");
    assert_eq!(got + lost, total);

    let request = v1::StreamEventsRequest::default();
    let mut events = client.stream_events(request).await.unwrap().into_inner();
    let loss = Loss { packets: 3, bytes: 300, moments: 0 };
    let event = Event { time: UnixNanos(5), subject: None, payload: Payload::Loss(loss) };
    lock(&node.pipeline).ingest(&mut vec![event]);
    let lost = events.next().await.unwrap().unwrap().lost.unwrap();
    assert_eq!((lost.source(), lost.packets, lost.bytes), (v1::LostSource::Kernel, 3, 300));
    node.stop().await;
}

#[tokio::test]
async fn status_tells_what_is_skipped_and_lost() {
    let mut node = Node::new();
    let mut client = node.client();
    node.ingest(&[sample(1, 3)]);
    node.run_source();
    let status = |mut client: Client| async move {
        client.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner()
    };
    let answer = status(client.clone()).await;
    assert_eq!((answer.health(), answer.node_name.as_str()), (v1::Health::Ok, "node-1"));
    assert_eq!((answer.active_flows, answer.events_processed), (1, 1));
    assert_eq!(answer.version, env!("CARGO_PKG_VERSION"));
    let cost = answer.cost.unwrap();
    assert!(cost.rss_bytes > 0 && cost.cpu_ns > 0 && cost.bpf_ns.is_none());
    let owners = answer.checks.iter().find(|check| check.name == "owners").unwrap();
    assert!(owners.detail.contains("--cgroup-root"), "{owners:?}");

    node.board.update(|status| {
        status.kernel_counters.lost_packets = 1;
        let reason = "no BTF".to_owned();
        let state = SourceState::Skipped { reason };
        status.sources.push(SourceStatus { name: "dns", state });
    });
    let answer = status(client.clone()).await;
    assert_eq!(answer.health(), v1::Health::Degraded);
    assert_eq!(answer.accounting.unwrap().lost_packets, 1);
    let expected = v1::SourceStatus {
        name: "dns".into(),
        state: v1::SourceState::Skipped.into(),
        reason: "no BTF".into(),
    };
    assert_eq!(answer.sources[1], expected);
    // Streams are counted while they are open.
    let events = client.stream_events(v1::StreamEventsRequest::default()).await.unwrap();
    assert_eq!(status(client).await.subscribers, 1);
    drop(events);
    node.stop().await;
}

async fn http(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn admin_pages_tell_liveness_readiness_and_metrics() {
    let mut node = Node::new();
    node.config.api.admin = Some("127.0.0.1:0".parse().unwrap());
    let address = node.run().await.admin.unwrap();
    assert_eq!(http(address, "/livez").await, (200, "ok\n".into()));
    assert_eq!(http(address, "/readyz").await, (503, "sources are starting\n".into()));
    node.board.update(|status| {
        let state = SourceState::Skipped { reason: "no BPF here".into() };
        status.sources = vec![SourceStatus { name: "flow", state }];
    });
    assert_eq!(http(address, "/readyz").await, (503, "flow: no BPF here\n".into()));
    node.run_source();
    assert_eq!(http(address, "/readyz").await, (200, "ok\n".into()));
    let (status, text) = http(address, "/metrics").await;
    assert!(status == 200 && text.contains("\norb8_agent_flows 0"), "{text}");
    assert_eq!(http(address, "/nonsense").await.0, 404);
    node.stop().await;
}

#[tokio::test]
async fn health_and_reflection_follow() {
    let mut node = Node::new();
    let channel = node.channel();
    let service = "orb8.v1.OrbitAgentService".to_owned();
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    let answers = reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = answers.into_inner().next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    assert!(list.service.iter().any(|listed| listed.name == service), "{list:?}");

    let request = HealthCheckRequest { service };
    let health = HealthClient::new(channel).watch(request).await.unwrap();
    let mut health = health.into_inner();
    let mut next = async || health.next().await.unwrap().unwrap().status();
    let mut status = next().await;
    if status == ServingStatus::ServiceUnknown {
        // The watch was faster than the first report.
        status = next().await;
    }
    assert_eq!(status, ServingStatus::NotServing);
    // Whoever looked now and then would see one change per look.
    let began = Instant::now();
    for _ in 0..20 {
        node.run_source();
        assert_eq!(next().await, ServingStatus::Serving);
        node.board.update(|status| status.sources.clear());
        assert_eq!(next().await, ServingStatus::NotServing);
    }
    assert!(began.elapsed() < Duration::from_secs(2));
    drop(health);
    let asked = Instant::now();
    node.stop().await;
    assert!(asked.elapsed() < GRACE, "nothing had to be cut off");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut node = Node::new();
    for (setting, listen, admin) in
        [("--listen", Some(address), None), ("--admin-listen", None, Some(address))]
    {
        (node.config.api.listen, node.config.api.admin) = (listen, admin);
        let error = node.build().await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, AgentError::AddressInUse { .. }), "{error:?}");
        assert!(text.contains(&address.to_string()) && text.contains(setting), "{text}");
    }
}

async fn connect_unix(path: PathBuf) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://unix").connect_with_connector(connector).await
}

#[tokio::test]
async fn the_unix_socket_is_private_and_replaces_a_dead_ones() {
    let mut node = Node::new();
    let path = node.directory.path().join("run/agent.sock");
    node.config.api.socket = Some(path.clone());
    // What an agent that was killed leaves behind.
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());

    assert_eq!(node.run().await.socket, Some(path.clone()));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path) & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else");
    let mut client = Client::new(connect_unix(path.clone()).await.unwrap());
    let status = client.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.node_name, "node-1");

    let error = node.build().await.unwrap_err();
    assert!(matches!(error, AgentError::SocketInUse { .. }), "{error:?}");
    drop(client);
    node.stop().await;
    assert!(!path.exists(), "it goes with the agent");
}

#[tokio::test]
async fn a_file_that_is_no_socket_stays() {
    let mut node = Node::new();
    let path = node.directory.path().join("agent.sock");
    std::fs::write(&path, "precious").unwrap();
    node.config.api.socket = Some(path.clone());
    let error = node.build().await.unwrap_err();
    assert!(crate::error::chain(&error).contains("no socket"), "{error:?}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");

    let path = node.directory.path().join("new/deep/agent.sock");
    node.config.api.socket = Some(path.clone());
    let api = node.build().await.unwrap();
    let mode = std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    drop(api);
}

/// An authority, and certificates of it.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn tls_asks_for_client_certificates_where_told() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut node = Node::new();
    let write = |name: &str, text: String| {
        let path = node.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = authority.issue(ExtendedKeyUsagePurpose::ServerAuth);
    let tls = TlsFiles {
        certificate: write("cert.pem", certificate),
        key: write("key.pem", key),
        client_ca: Some(write("ca.pem", authority.0.pem())),
    };
    node.config.api.tls = Some(tls);
    node.config.api.listen = Some("127.0.0.1:0".parse().unwrap());
    let port = node.run().await.listen.unwrap().port();

    let ask = async |identity: Option<(String, String)>, trust: &Authority| {
        let mut tls = ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(trust.0.pem()));
        if let Some((certificate, key)) = identity {
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}")).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect().await.ok()?;
        Client::new(channel).get_status(v1::GetStatusRequest {}).await.ok()
    };
    let client = || Some(authority.issue(ExtendedKeyUsagePurpose::ClientAuth));
    assert!(ask(client(), &authority).await.is_some(), "both know each other");
    assert!(ask(None, &authority).await.is_none(), "no client certificate");
    let other = Some(stranger.issue(ExtendedKeyUsagePurpose::ClientAuth));
    assert!(ask(other, &authority).await.is_none(), "a stranger's certificate");
    assert!(ask(client(), &stranger).await.is_none(), "the client trusts somebody else");
    node.stop().await;
}

#[tokio::test]
async fn tls_files_that_do_not_serve_are_named() {
    let mut node = Node::new();
    node.config.api.listen = Some("127.0.0.1:0".parse().unwrap());
    let (certificate, key) = Authority::new().issue(ExtendedKeyUsagePurpose::ServerAuth);
    let path = |name: &str| node.directory.path().join(name);
    std::fs::write(path("cert.pem"), &certificate).unwrap();
    std::fs::write(path("key.pem"), key).unwrap();
    std::fs::write(path("text.pem"), "hello").unwrap();
    for (cert, key, culprit) in [
        ("missing.pem", "key.pem", "missing.pem"),
        ("cert.pem", "text.pem", "text.pem"),
        ("cert.pem", "cert.pem", "cert.pem"),
    ] {
        let tls = TlsFiles { certificate: path(cert), key: path(key), client_ca: None };
        let mut config = node.config.clone();
        config.api.tls = Some(tls);
        let built = Api::build(&config, Arc::clone(&node.pipeline), node.board.clone()).await;
        let error = built.unwrap_err();
        assert!(matches!(error, AgentError::Tls { .. }), "{error:?}");
        assert!(error.to_string().contains(culprit), "{error}");
    }
}
