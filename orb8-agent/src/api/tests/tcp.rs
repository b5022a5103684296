use super::*;
use crate::event::{Loss, Reason, ResetBy, SocketEnd, TcpFigures, TcpKind, TcpRole, TcpSample};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn end(last: u8, port: u16) -> SocketEnd {
    SocketEnd { addr: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last], port }
}

/// Something about the connection of a cookie, from 10.0.0.1 to 10.0.0.2:443.
fn sample(cookie: u16, kind: TcpKind) -> TcpSample {
    TcpSample {
        kind,
        local: end(1, cookie),
        remote: end(2, 443),
        of_packet: false,
        local_end: None,
        cgroup_id: 5,
        cookie: cookie.into(),
        netns: 77,
        ifindex: 0,
        role: TcpRole::Client,
        state: 1,
        old_state: 0,
        srtt_ns: Some(3 * MS),
        figures: None,
    }
}

fn connect(cookie: u16) -> TcpSample {
    sample(cookie, TcpKind::Connect { handshake_ns: Some(2 * MS) })
}

fn figures() -> TcpFigures {
    let mut figures = TcpFigures {
        opened: Some(UnixNanos(SECOND)),
        handshake_ns: Some(2 * MS),
        rtt_sum_us: 8_000,
        rtt_samples: 4,
        rtt_min_us: 1_000,
        rtt_max_us: 3_000,
        retransmits: 2,
        bytes_sent: 100,
        bytes_received: 200,
        ..TcpFigures::default()
    };
    (figures.rtt[10], figures.rtt[12]) = (1, 3);
    figures
}

fn close(cookie: u16, errno: u16) -> TcpSample {
    let figures = Some(Box::new(figures()));
    TcpSample { figures, state: 7, old_state: 8, ..sample(cookie, TcpKind::Close { errno }) }
}

fn no_socket() -> Reason {
    Reason { id: 3, name: "NO_SOCKET".into() }
}

/// A packet from the server of the connection of a cookie, which was dropped.
fn dropped(cookie: u16) -> TcpSample {
    let location = Some("tcp_v4_rcv".into());
    let kind = TcpKind::Drop { reason: no_socket(), location, weight: 3, tcp_flags: 2, bytes: 60 };
    TcpSample {
        local: end(2, 443),
        remote: end(1, cookie),
        of_packet: true,
        cgroup_id: 0,
        cookie: 0,
        netns: 0,
        role: TcpRole::Unknown,
        state: 0,
        srtt_ns: None,
        ..sample(cookie, kind)
    }
}

fn feed(node: &Node, samples: impl IntoIterator<Item = TcpSample>) {
    let payload = |sample| (UnixNanos(2 * SECOND), Payload::Tcp(Box::new(sample)));
    node.feed(samples.into_iter().map(payload));
}

async fn events(client: &mut Client, request: v1::StreamTcpRequest) -> Vec<v1::TcpEvent> {
    let request = v1::StreamTcpRequest { last: 100, no_follow: true, ..request };
    let events = client.stream_tcp(request).await.unwrap().into_inner();
    let event = |event: Result<v1::StreamTcpResponse, _>| match event.unwrap().event {
        Some(v1::stream_tcp_response::Event::Tcp(event)) => event,
        other => panic!("{other:?}"),
    };
    events.map(event).collect().await
}

fn endpoint(last: u8, port: u32) -> v1::Endpoint {
    v1::Endpoint { ip: vec![10, 0, 0, last], port, ..Default::default() }
}

#[tokio::test]
async fn a_close_tells_all_that_is_known_of_its_connection() {
    let mut node = Node::new();
    let mut client = node.client();
    feed(&node, [connect(1), close(1, 104)]);
    let told = events(&mut client, v1::StreamTcpRequest::default()).await.remove(1);
    let health = v1::TcpHealth {
        state: v1::TcpState::Close.into(),
        role: v1::TcpRole::Client.into(),
        handshake_ns: Some(2 * MS),
        rtt_ns: Some(3 * MS),
        rtt_min_ns: Some(MS),
        rtt_mean_ns: Some(2 * MS),
        rtt_p99_ns: told.health.as_ref().unwrap().rtt_p99_ns,
        rtt_max_ns: Some(3 * MS),
        rtt_samples: 4,
        retransmits: 2,
        bytes_sent: 100,
        bytes_received: 200,
        opened_ns: SECOND,
        closed_ns: 2 * SECOND,
    };
    let p99 = health.rtt_p99_ns.unwrap();
    assert!((2 * MS..=3 * MS).contains(&p99), "{p99}");
    let expected = v1::TcpEvent {
        time_ns: 2 * SECOND,
        kind: v1::TcpEventKind::Close.into(),
        source: Some(endpoint(1, 1)),
        destination: Some(endpoint(2, 443)),
        local_end: v1::LocalEnd::Source.into(),
        role: v1::TcpRole::Client.into(),
        state: v1::TcpState::Close.into(),
        old_state: v1::TcpState::CloseWait.into(),
        health: Some(health),
        errno: 104,
        errno_name: "ECONNRESET".into(),
        cgroup_id: 5,
        socket_cookie: 1,
        network_namespace: 77,
        node_name: "node-1".into(),
        ..Default::default()
    };
    assert_eq!(told, expected);
    node.stop().await;
}

#[tokio::test]
async fn every_kind_tells_its_own() {
    let mut node = Node::new();
    let mut client = node.client();
    let reset = |by, reason| TcpKind::Reset { by, reason };
    let overflow = TcpKind::Overflow { overflows: 5, queue: 129, limit: 128 };
    feed(
        &node,
        [
            connect(1),
            sample(2, TcpKind::Fail { errno: 111 }),
            sample(1, TcpKind::Retransmit { segments: 2, total: 2 }),
            sample(1, reset(ResetBy::Local, Some(no_socket()))),
            sample(1, reset(ResetBy::Remote, None)),
            dropped(1),
            TcpSample { role: TcpRole::Listener, remote: end(0, 0), ..sample(80, overflow) },
            TcpSample {
                role: TcpRole::Server,
                ..sample(3, TcpKind::Accept { handshake_ns: None })
            },
            sample(1, TcpKind::Progress),
            sample(1, TcpKind::State),
        ],
    );
    let all = events(&mut client, v1::StreamTcpRequest::default()).await;
    let [_connect, fail, again, sent, received, drop, overflow, accept] = all.as_slice() else {
        panic!("neither progress nor states: {all:?}");
    };
    assert_eq!((fail.errno, fail.errno_name.as_str()), (111, "ECONNREFUSED"));
    assert_eq!((again.kind(), again.segments), (v1::TcpEventKind::Retransmit, 2));
    assert_eq!(again.health.as_ref().unwrap().retransmits, 2);
    assert_eq!((sent.reset_by(), sent.reason.as_str()), (v1::ResetBy::Local, "NO_SOCKET"));
    assert_eq!((received.reset_by(), received.reason.as_str()), (v1::ResetBy::Remote, ""));

    assert_eq!((&drop.source, &drop.destination), (&Some(endpoint(2, 443)), &Some(endpoint(1, 1))));
    assert_eq!((drop.local_end(), drop.cgroup_id), (v1::LocalEnd::Destination, 5), "by its ends");
    assert_eq!((drop.reason.as_str(), drop.reason_id, drop.weight), ("NO_SOCKET", 3, 3));
    assert_eq!((drop.location.as_str(), drop.tcp_flags, drop.bytes), ("tcp_v4_rcv", 2, 60));
    assert!(drop.health.is_some());

    assert_eq!((&overflow.source, &overflow.destination), (&None, &Some(endpoint(1, 80))));
    assert_eq!((overflow.overflows, overflow.queue, overflow.queue_limit), (5, 129, 128));
    assert_eq!(overflow.local_end(), v1::LocalEnd::Destination);
    assert_eq!(accept.source, Some(endpoint(2, 443)), "who connected is the source");
    assert_eq!(accept.local_end(), v1::LocalEnd::Destination);
    node.stop().await;
}

#[tokio::test]
async fn streams_filter_by_kind_and_more() {
    let mut node = Node::new();
    let mut client = node.client();
    feed(&node, [connect(1), sample(1, TcpKind::State), dropped(1), close(1, 0), connect(2)]);
    let mut kinds = async |filter: v1::TcpFilter| {
        let request = v1::StreamTcpRequest { include: vec![filter], ..Default::default() };
        let events = events(&mut client, request).await;
        events.iter().map(v1::TcpEvent::kind).collect::<Vec<_>>()
    };
    let of = |kinds: &[v1::TcpEventKind]| v1::TcpFilter {
        kind: kinds.iter().map(|kind| (*kind).into()).collect(),
        ..Default::default()
    };
    let (connect, close, drop, state) = (
        v1::TcpEventKind::Connect,
        v1::TcpEventKind::Close,
        v1::TcpEventKind::Drop,
        v1::TcpEventKind::State,
    );
    assert_eq!(kinds(of(&[close, state])).await, [state, close]);
    let reason = v1::TcpFilter { reason: vec!["NO_*".into()], ..Default::default() };
    assert_eq!(kinds(reason).await, [drop]);
    let flow = v1::FlowFilter { source_port: vec![2], ..Default::default() };
    assert_eq!(kinds(v1::TcpFilter { flow: Some(flow), ..Default::default() }).await, [connect]);
    let slow = v1::TcpFilter { min_latency_ns: Some(SECOND), ..Default::default() };
    assert_eq!(kinds(slow).await, []);

    let request = v1::StreamTcpRequest {
        include: vec![v1::TcpFilter { kind: vec![99], ..Default::default() }],
        ..Default::default()
    };
    let error = client.stream_tcp(request).await.unwrap_err();
    assert_eq!(error.message(), "kind: 99 is none of its values");
    node.stop().await;
}

#[tokio::test]
async fn losses_are_in_line() {
    let mut node = Node::new();
    let mut client = node.client();
    let stream = client.stream_tcp(v1::StreamTcpRequest::default()).await.unwrap();
    let mut stream = stream.into_inner();
    assert_eq!(lock(&node.pipeline).tcp_subscribers(), 1);
    let loss = Loss { signal: Signal::Tcp, moments: 3, ..Loss::default() };
    node.feed([(UnixNanos(1), Payload::Loss(loss))]);
    let event = stream.next().await.unwrap().unwrap().event.unwrap();
    let expected =
        v1::Lost { source: v1::LostSource::Ring.into(), events: 3, ..Default::default() };
    assert_eq!(event, v1::stream_tcp_response::Event::Lost(expected));
    node.stop().await;
}

#[tokio::test]
async fn connections_sort_and_add_up() {
    let mut node = Node::new();
    let mut client = node.client();
    let slow = TcpSample { srtt_ns: Some(300 * MS), ..connect(2) };
    feed(
        &node,
        [connect(1), slow, close(1, 0), dropped(1), sample(3, TcpKind::Fail { errno: 110 })],
    );
    node.board.update(|status| {
        status.tcp.drops = vec![("NO_SOCKET".into(), 30), ("NETFILTER_DROP".into(), 4)];
        (status.tcp.resets_sent, status.tcp.lost, status.tcp.untracked) = (6, 7, 8);
    });
    let answer = client.query_tcp(v1::QueryTcpRequest::default()).await.unwrap().into_inner();
    let port = |row: &v1::TcpConnection| row.source.as_ref().unwrap().port;
    assert_eq!(answer.connections.iter().map(port).collect::<Vec<_>>(), [1, 2, 3]);
    let first = &answer.connections[0];
    assert_eq!((first.cgroup_id, first.socket_cookie), (5, 1));
    assert_eq!(first.health.as_ref().unwrap().retransmits, 2);

    let totals = answer.totals.unwrap();
    assert_eq!((totals.connects, totals.failures, totals.closes), (2, 1, 1));
    assert_eq!((totals.retransmitted_segments, totals.resets_sent), (2, 6));
    assert_eq!((totals.lost_events, totals.untracked), (7, 8));
    let drops: Vec<_> = totals.drops.iter().map(|of| (of.reason.as_str(), of.packets)).collect();
    assert_eq!(drops, [("NO_SOCKET", 30), ("NETFILTER_DROP", 4)], "as the programs counted");
    assert_eq!(totals.handshake.as_ref().unwrap().count(), 2);
    let rtt = totals.rtt.unwrap();
    assert_eq!((rtt.count(), rtt.sum, rtt.min, rtt.max), (4, 8 * MS, MS, 3 * MS));

    let request =
        v1::QueryTcpRequest { sort_by: v1::TcpSortBy::Rtt.into(), limit: 1, ..Default::default() };
    let answer = client.query_tcp(request).await.unwrap().into_inner();
    assert_eq!((port(&answer.connections[0]), answer.total_matched), (2, 3));
    let filter = v1::TcpFilter { reason: vec!["X".into()], ..Default::default() };
    let request = v1::QueryTcpRequest { include: vec![filter], ..Default::default() };
    let error = client.query_tcp(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    node.stop().await;
}

#[tokio::test]
async fn the_agents_own_connections_are_hidden() {
    let mut node = Node::new();
    let mut client = node.client();
    lock(&node.pipeline).set_own_ports(vec![9090]);
    let loopback =
        SocketEnd { addr: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1], port: 9090 };
    feed(&node, [connect(1), TcpSample { remote: loopback, ..connect(2) }]);
    for (include_self_traffic, expected) in [(false, 1), (true, 2)] {
        let request = v1::StreamTcpRequest { include_self_traffic, ..Default::default() };
        assert_eq!(events(&mut client, request).await.len(), expected);
        let request = v1::QueryTcpRequest { include_self_traffic, ..Default::default() };
        let answer = client.query_tcp(request).await.unwrap().into_inner();
        assert_eq!(answer.total_matched as usize, expected);
        assert_eq!(answer.connections.iter().any(|row| row.self_traffic), include_self_traffic);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_flow_shows_the_health_of_its_connection() {
    let mut node = Node::new();
    let mut client = node.client();
    feed(&node, [connect(9)]);
    let to_server = super::flow::sample(9, 1);
    let mut by_ends = FlowSample { cookie: 0, ..to_server.clone() };
    by_ends.key.destination_addr = end(2, 443).addr;
    (by_ends.first, by_ends.last) = (UnixNanos(2 * SECOND), UnixNanos(2 * SECOND));
    let mut back = by_ends.clone();
    std::mem::swap(&mut back.key.source_addr, &mut back.key.destination_addr);
    std::mem::swap(&mut back.key.source_port, &mut back.key.destination_port);
    back.key.direction = orb8_common::flow::DIRECTION_INGRESS;
    let mut stranger = by_ends.clone();
    stranger.key.source_port = 10;
    let stream = client.stream_events(v1::StreamEventsRequest::default()).await.unwrap();
    let mut stream = stream.into_inner();
    node.ingest(&[to_server, by_ends, back, stranger]);
    let answer = client.query_flows(v1::QueryFlowsRequest::default()).await.unwrap().into_inner();
    let mut known = 0;
    for flow in &answer.flows {
        let is_its =
            [&flow.source, &flow.destination].iter().all(|end| end.as_ref().unwrap().port != 10);
        let handshake = flow.tcp.as_ref().and_then(|health| health.handshake_ns);
        assert_eq!(handshake, is_its.then_some(2 * MS));
        known += u32::from(is_its);
    }
    assert_eq!(known, 3, "by the cookie, and by the ends in both directions");
    let event = stream.next().await.unwrap().unwrap();
    assert!(event.flow.unwrap().tcp.is_some());
    node.stop().await;
}
