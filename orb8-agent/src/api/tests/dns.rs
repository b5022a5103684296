use std::net::IpAddr;

use super::*;
use crate::event::{
    DnsAnswer, DnsData, DnsExchange, DnsOutcome, DnsQuestion, DnsResponse, DnsSide, Loss,
    SocketEnd, TcpKind, TcpRole, TcpSample,
};

const SECOND: u64 = 1_000_000_000;

fn mapped(last: u8) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last]
}

/// 10.0.0.1 asks 10.0.0.53 for a name, and gets an alias of it and the address fd00::1.
fn exchange(name: &str) -> DnsExchange {
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
        client: SocketEnd { addr: mapped(1), port: 40_000 },
        server: SocketEnd { addr: mapped(53), port: 53 },
        transport: 17,
        side: DnsSide::Client,
        cgroup_id: 5,
        cookie: 8,
        ifindex: 7,
        id: 4242,
        question: Some(DnsQuestion { name: name.into(), kind: 28, class: 1 }),
        outcome: DnsOutcome::Answered,
        response: Some(DnsResponse {
            answers: vec![alias, address],
            answer_count: 3,
            recursion_available: true,
            bytes: 120,
            ..DnsResponse::default()
        }),
        asked: Some(UnixNanos(SECOND)),
        latency_ns: 2_000_000,
        retries: 1,
        told_retries: None,
        query_bytes: 40,
    }
}

fn missing(name: &str) -> DnsExchange {
    let response = DnsResponse { rcode: 3, ..DnsResponse::default() };
    DnsExchange { response: Some(response), ..exchange(name) }
}

fn timeout(name: &str) -> DnsExchange {
    DnsExchange { outcome: DnsOutcome::Timeout, response: None, ..exchange(name) }
}

fn feed(node: &Node, exchanges: impl IntoIterator<Item = DnsExchange>) {
    let payload = |exchange| (UnixNanos(2 * SECOND), Payload::Dns(Box::new(exchange)));
    node.feed(exchanges.into_iter().map(payload));
}

async fn exchanges(client: &mut Client, request: v1::StreamDnsRequest) -> Vec<v1::DnsExchange> {
    let request = v1::StreamDnsRequest { last: 100, no_follow: true, ..request };
    let events = client.stream_dns(request).await.unwrap().into_inner();
    let exchange = |event: Result<v1::StreamDnsResponse, _>| match event.unwrap().event {
        Some(v1::stream_dns_response::Event::Exchange(exchange)) => exchange,
        other => panic!("{other:?}"),
    };
    events.map(exchange).collect().await
}

#[tokio::test]
async fn exchanges_are_told_in_full() {
    let mut node = Node::new();
    let mut client = node.client();
    feed(&node, [exchange("api.example")]);
    let told = exchanges(&mut client, v1::StreamDnsRequest::default()).await.remove(0);
    let end = |last, port| v1::Endpoint { ip: vec![10, 0, 0, last], port, ..Default::default() };
    let mut v6 = vec![0; 16];
    (v6[0], v6[15]) = (0xfd, 1);
    let answer = |name: &str, r#type, type_name: &str, ttl_seconds, data| v1::DnsAnswer {
        name: name.into(),
        r#type,
        type_name: type_name.into(),
        ttl_seconds,
        data: Some(data),
    };
    let expected = v1::DnsExchange {
        time_ns: 2 * SECOND,
        client: Some(end(1, 40_000)),
        server: Some(end(53, 53)),
        protocol: v1::Protocol::Udp.into(),
        side: v1::DnsSide::Client.into(),
        hook: v1::Hook::Socket.into(),
        interface: Some(v1::Interface { index: 7, name: String::new() }),
        id: 4242,
        name: "api.example".into(),
        query_type: 28,
        query_type_name: "AAAA".into(),
        query_class: 1,
        outcome: v1::DnsOutcome::Answered.into(),
        rcode: Some(0),
        rcode_name: "NOERROR".into(),
        answers: vec![
            answer(
                "api.example",
                5,
                "CNAME",
                30,
                v1::dns_answer::Data::Target("edge.example".into()),
            ),
            answer("edge.example", 28, "AAAA", 20, v1::dns_answer::Data::Ip(v6)),
        ],
        answer_count: 3,
        latency_ns: 2_000_000,
        retries: 1,
        recursion_available: true,
        query_time_ns: SECOND,
        query_bytes: 40,
        response_bytes: 120,
        cgroup_id: 5,
        socket_cookie: 8,
        node_name: "node-1".into(),
        ..Default::default()
    };
    assert_eq!(told, expected);

    feed(&node, [timeout("b"), DnsExchange { side: DnsSide::Transit, ..exchange("c") }]);
    let told = exchanges(&mut client, v1::StreamDnsRequest::default()).await;
    assert_eq!((told[1].rcode, told[1].rcode_name.as_str()), (None, ""), "no answer has no code");
    assert_eq!(told[2].hook(), v1::Hook::Interface);
    assert_eq!(told[2].interface.as_ref().unwrap().name, "veth7");
    node.stop().await;
}

#[tokio::test]
async fn streams_filter_and_refuse_nonsense() {
    let mut node = Node::new();
    let mut client = node.client();
    let unasked = DnsExchange { outcome: DnsOutcome::Unasked, asked: None, ..exchange("forged") };
    feed(&node, [exchange("a.example"), missing("db.ml.svc.cluster.local"), timeout("b"), unasked]);
    let mut names = async |filter: v1::DnsFilter| {
        let request = v1::StreamDnsRequest { include: vec![filter], ..Default::default() };
        let told = exchanges(&mut client, request).await;
        told.into_iter().map(|exchange| exchange.name).collect::<Vec<_>>()
    };
    let none = v1::DnsFilter::default;
    let filter = v1::DnsFilter { name: vec!["*.svc".into()], ..none() };
    assert_eq!(names(filter).await, ["db.ml.svc.cluster.local"]);
    let filter = v1::DnsFilter { rcode: vec!["nxdomain".into()], ..none() };
    assert_eq!(names(filter).await, ["db.ml.svc.cluster.local"]);
    let filter = v1::DnsFilter { min_latency_ns: Some(SECOND), ..none() };
    assert_eq!(names(filter).await, ["b"]);
    let outcome = vec![v1::DnsOutcome::Unasked.into()];
    assert_eq!(names(v1::DnsFilter { outcome, ..none() }).await, ["forged"]);
    let flow = v1::FlowFilter { destination_ip: vec!["10.0.0.53".into()], ..Default::default() };
    assert_eq!(names(v1::DnsFilter { flow: Some(flow), ..none() }).await.len(), 4);

    let bad = v1::DnsFilter { rcode: vec!["NXDOMAIM".into()], ..none() };
    let request = v1::StreamDnsRequest { include: vec![bad.clone()], ..Default::default() };
    let error = client.stream_dns(request).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().starts_with("rcode: `NXDOMAIM`"), "{}", error.message());
    let request = v1::QueryDnsRequest { exclude: vec![bad], ..Default::default() };
    assert_eq!(client.query_dns(request).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    let request = v1::QueryDnsRequest { sort_by: 99, ..Default::default() };
    assert!(client.query_dns(request).await.unwrap_err().message().contains("sort_by"));
    node.stop().await;
}

#[tokio::test]
async fn a_subscriber_gets_what_follows_and_what_was_lost() {
    let mut node = Node::new();
    let mut client = node.client();
    let events = client.stream_dns(v1::StreamDnsRequest::default()).await.unwrap();
    let mut events = events.into_inner();
    feed(&node, [exchange("a")]);
    let loss = |signal| Loss { signal, moments: 3, ..Loss::default() };
    let time = UnixNanos(1);
    node.feed([
        (time, Payload::Loss(loss(Signal::Flow))),
        (time, Payload::Loss(loss(Signal::Dns))),
    ]);
    feed(&node, [exchange("b")]);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(match events.next().await.unwrap().unwrap().event.unwrap() {
            v1::stream_dns_response::Event::Exchange(exchange) => exchange.name,
            v1::stream_dns_response::Event::Lost(lost) => {
                assert_eq!(lost.source(), v1::LostSource::Ring);
                format!("{} lost", lost.events)
            }
        });
    }
    assert_eq!(seen, ["a", "3 lost", "b"], "the flows' loss is not theirs");
    node.stop().await;
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn summaries_sort_and_add_up() {
    let mut node = Node::new();
    let mut client = node.client();
    let malformed = DnsExchange {
        outcome: DnsOutcome::Malformed,
        question: None,
        response: None,
        ..exchange("")
    };
    feed(
        &node,
        [exchange("a"), exchange("a"), missing("b"), timeout("b"), timeout("b"), malformed],
    );
    node.board.update(|status| (status.dns.lost, status.dns.evicted) = (4, 5));
    let request = v1::QueryDnsRequest::default();
    let answer = client.query_dns(request).await.unwrap().into_inner();
    assert_eq!(answer.total_matched, 2);
    let totals = v1::DnsTotals {
        queries: 5,
        responses: 3,
        timeouts: 2,
        unasked: 0,
        malformed: 1,
        lost_messages: 4,
        evicted: 5,
    };
    assert_eq!(answer.totals, Some(totals));
    let row = &answer.summaries[0];
    assert_eq!((row.name.as_str(), row.queries, row.responses, row.timeouts), ("b", 3, 1, 2));
    assert_eq!(row.rcodes, [v1::DnsRcodeCount { rcode: 3, name: "NXDOMAIN".into(), count: 1 }]);
    assert_eq!(row.types, [v1::DnsTypeCount { query_type: 28, name: "AAAA".into(), count: 3 }]);
    assert_eq!((row.side(), row.other, row.retries), (v1::DnsSide::Client, false, 3));
    assert_eq!((row.first_seen_ns, row.last_seen_ns), (2 * SECOND, 2 * SECOND));
    let latency = row.latency.as_ref().unwrap();
    assert_eq!((latency.count(), latency.p50, latency.max), (1, 2_000_000, 2_000_000));

    let request = v1::QueryDnsRequest { ascending: true, limit: 1, ..Default::default() };
    let answer = client.query_dns(request).await.unwrap().into_inner();
    assert_eq!((answer.summaries[0].name.as_str(), answer.total_matched), ("a", 2));
    node.stop().await;
}

#[tokio::test]
async fn a_flow_has_the_name_that_its_owner_asked_for() {
    let mut node = Node::new();
    let mut client = node.client();
    feed(&node, [exchange("api.example")]);
    let first = UnixNanos(2 * SECOND + 1);
    let to_server = FlowSample { first, last: first, ..super::flow::sample(1, 1) };
    let mut stranger = FlowSample { cgroup_id: 6, ..to_server.clone() };
    stranger.key.cgroup_id = 6;
    stranger.key.source_port = 2;
    node.ingest(&[to_server, stranger]);
    let answer = client.query_flows(v1::QueryFlowsRequest::default()).await.unwrap().into_inner();
    let label = |port| {
        let is_its = |flow: &&v1::Flow| flow.source.as_ref().unwrap().port == port;
        let flow = answer.flows.iter().find(is_its).unwrap();
        assert!(flow.source.as_ref().unwrap().dns.is_none());
        flow.destination.as_ref().unwrap().dns.clone()
    };
    let expected =
        v1::DnsLabel { name: "api.example".into(), learned_ns: 2 * SECOND, ttl_seconds: 20 };
    assert_eq!((label(1), label(2)), (Some(expected), None));
    node.stop().await;
}

#[tokio::test]
async fn a_connection_has_the_name_that_its_owner_asked_for() {
    let mut node = Node::new();
    let mut client = node.client();
    let mut server = [0; 16];
    (server[0], server[15]) = (0xfd, 1);
    let connect = TcpSample {
        kind: TcpKind::Connect { handshake_ns: None },
        local: SocketEnd { addr: mapped(1), port: 1 },
        remote: SocketEnd { addr: server, port: 443 },
        of_packet: false,
        local_end: None,
        cgroup_id: 5,
        cookie: 9,
        netns: 0,
        ifindex: 0,
        role: TcpRole::Client,
        state: 1,
        old_state: 0,
        srtt_ns: None,
        figures: None,
    };
    feed(&node, [exchange("api.example")]);
    let close = TcpSample { kind: TcpKind::Close { errno: 0 }, ..connect.clone() };
    let payload = |second, sample| (UnixNanos(second * SECOND), Payload::Tcp(Box::new(sample)));
    node.feed([payload(3, connect), payload(900, close)]);
    let name = |end: &Option<v1::Endpoint>| end.as_ref()?.dns.as_ref().map(|dns| dns.name.clone());
    let request = v1::StreamTcpRequest { last: 2, no_follow: true, ..Default::default() };
    let mut events = client.stream_tcp(request).await.unwrap().into_inner();
    while let Some(event) = events.next().await {
        let Some(v1::stream_tcp_response::Event::Tcp(event)) = event.unwrap().event else {
            panic!("nothing was lost");
        };
        assert_eq!(name(&event.destination).as_deref(), Some("api.example"), "{:?}", event.kind());
        assert_eq!(name(&event.source), None);
    }
    let answer = client.query_tcp(v1::QueryTcpRequest::default()).await.unwrap().into_inner();
    assert_eq!(name(&answer.connections[0].destination).as_deref(), Some("api.example"));
    node.stop().await;
}
