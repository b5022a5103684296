//! `GetFlows`: which part of time, which flows, and what is lost.

use orb8_proto::hubble::flow::{FlowFilter, LostEventSource};
use prost_types::{FieldMask, Timestamp};

use super::*;
use crate::event::{DnsOutcome, Loss, Signal};

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn request() -> GetFlowsRequest {
    GetFlowsRequest::default()
}

fn to_ports(ports: &[u16]) -> FlowFilter {
    FlowFilter {
        destination_port: ports.iter().map(u16::to_string).collect(),
        ..FlowFilter::default()
    }
}

#[tokio::test]
async fn the_past_is_told_as_it_is_asked_for() {
    let mut node = Node::new();
    let mut client = node.client().await;
    // In no order, and not in one batch.
    node.connect([5, 3]);
    node.connect([1, 4, 2, 6]);
    for (asked, expected) in [
        (request(), vec![1, 2, 3, 4, 5, 6]),
        (GetFlowsRequest { number: 2, ..request() }, vec![5, 6]),
        (GetFlowsRequest { number: u64::MAX, ..request() }, vec![1, 2, 3, 4, 5, 6]),
        (GetFlowsRequest { number: 2, first: true, ..request() }, vec![1, 2]),
        (GetFlowsRequest { since: at(4), ..request() }, vec![4, 5, 6]),
        (GetFlowsRequest { until: at(3), ..request() }, vec![1, 2, 3]),
        (GetFlowsRequest { since: at(2), until: at(4), ..request() }, vec![2, 3, 4]),
        (GetFlowsRequest { until: at(4), number: 2, ..request() }, vec![3, 4]),
        (GetFlowsRequest { since: at(2), number: 2, ..request() }, vec![2, 3]),
        (GetFlowsRequest { since: at(9), ..request() }, vec![]),
    ] {
        assert_eq!(ports(&all(&mut client, asked.clone()).await), expected, "{asked:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn what_is_filtered_out_is_not_counted() {
    let mut node = Node::new();
    let mut client = node.client().await;
    node.connect(1..=9);
    let whitelist = vec![to_ports(&[1, 2, 3, 4, 5, 6])];
    let asked = GetFlowsRequest { number: 3, whitelist: whitelist.clone(), ..request() };
    assert_eq!(ports(&all(&mut client, asked).await), [4, 5, 6]);
    let blacklist = vec![to_ports(&[5]), to_ports(&[6, 7])];
    let asked = GetFlowsRequest { number: 3, whitelist, blacklist: blacklist.clone(), ..request() };
    assert_eq!(ports(&all(&mut client, asked).await), [2, 3, 4]);
    let asked = GetFlowsRequest { number: 3, first: true, blacklist, ..request() };
    assert_eq!(ports(&all(&mut client, asked).await), [1, 2, 3]);
    let flow = all(&mut client, request()).await.remove(4);
    let by_id = FlowFilter { uuid: vec![flow.uuid.clone()], ..FlowFilter::default() };
    let asked = GetFlowsRequest { whitelist: vec![by_id], ..request() };
    assert_eq!(all(&mut client, asked).await, [flow], "an id is the same for everyone");
    node.stop().await;
}

#[tokio::test]
async fn who_follows_gets_the_last_ones_and_what_comes() {
    let mut node = Node::new();
    let mut client = node.client().await;
    node.connect(1..=3);
    let asked = GetFlowsRequest { blacklist: vec![to_ports(&[5])], ..request() };
    let mut from_now = follow(&mut client, asked.clone()).await;
    let mut last = follow(&mut client, GetFlowsRequest { number: 1, ..asked.clone() }).await;
    let mut since = follow(&mut client, GetFlowsRequest { since: at(2), ..asked }).await;
    node.connect(4..=6);
    for (stream, expected) in
        [(&mut from_now, vec![4, 6]), (&mut last, vec![3, 4, 6]), (&mut since, vec![2, 3, 4, 6])]
    {
        for port in expected {
            assert_eq!(super::port(&next(stream).await.unwrap().flow()), port);
        }
    }
    node.stop().await;
    for mut stream in [from_now, last, since] {
        assert!(next(&mut stream).await.is_none(), "it ends with the agent");
    }
}

#[tokio::test]
async fn following_ends_when_its_time_is_over() {
    let mut node = Node::new();
    let mut client = node.client().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let until = at(now.as_secs().cast_signed() + 1);
    let mut stream = follow(&mut client, GetFlowsRequest { until, ..request() }).await;
    node.connect([1]);
    assert_eq!(super::port(&next(&mut stream).await.unwrap().flow()), 1);
    assert!(next(&mut stream).await.is_none());
    node.stop().await;
}

#[tokio::test]
async fn every_signal_is_in_one_stream_by_time() {
    let mut node = Node::new();
    let mut client = node.client().await;
    // The query was at 1 s, its answer at 2 s.
    let exchange = samples::exchange(DnsOutcome::Answered);
    let dropped = samples::drop_sample("NETFILTER_DROP", 2);
    node.connect([4]);
    node.feed([
        (UnixNanos(3 * SECOND), Payload::Tcp(Box::new(dropped))),
        (UnixNanos(2 * SECOND), Payload::Dns(Box::new(exchange))),
    ]);
    let told = all(&mut client, request()).await;
    #[expect(deprecated, reason = "what people read")]
    let lines: Vec<&str> = told.iter().map(|flow| flow.summary.as_str()).collect();
    let expected = [
        "DNS Query api.example. AAAA",
        r#"DNS Answer "fd00::1,fd00::2" CNAMEs: "edge.example." TTL: 20 (api.example. AAAA)"#,
        "TCP Flags: SYN; NETFILTER_DROP in nf_hook_slow; stands for 3 packets",
        "TCP Flags: SYN",
    ];
    assert_eq!(lines, expected);
    let seconds: Vec<_> = told.iter().map(|flow| flow.time.unwrap().seconds).collect();
    assert_eq!(seconds, [1, 2, 3, 4]);
    let ids: std::collections::HashSet<_> = told.iter().map(|flow| &flow.uuid).collect();
    assert_eq!(ids.len(), 4);
    node.stop().await;
}

#[tokio::test]
async fn the_agents_own_traffic_is_not_told() {
    let mut node = Node::new();
    let address = node.run().await;
    let at = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = Client::new(at.connect().await.unwrap());
    let key = FlowKey {
        source_addr: loopback(),
        destination_addr: loopback(),
        destination_port: address.port(),
        ..samples::key()
    };
    node.feed([(UnixNanos(1), Payload::Flow(samples::sample(key, 0)))]);
    node.connect([7]);
    assert_eq!(ports(&all(&mut client, request()).await), [7], "a stream would feed itself");
    node.stop().await;
}

fn loopback() -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1]
}

#[tokio::test]
async fn losses_are_told_in_line_and_not_counted() {
    let mut node = Node::new();
    let mut client = node.client().await;
    node.connect([1]);
    let loss = Loss { signal: Signal::Flow, packets: 3, bytes: 300, moments: 2 };
    node.feed([(UnixNanos(2 * SECOND), Payload::Loss(loss))]);
    node.connect([3, 4]);
    // Whatever is filtered: that something is missing is never left out.
    let asked = GetFlowsRequest { number: 2, whitelist: vec![to_ports(&[1, 4])], ..request() };
    let stream = client.get_flows(asked).await.unwrap().into_inner();
    let told: Vec<Told> = stream.map(|response| Told::new(response.unwrap())).collect().await;
    let shown: Vec<String> = told
        .into_iter()
        .map(|told| match told {
            Told::Flow(flow) => port(&flow).to_string(),
            Told::Lost(lost) => {
                assert_eq!(lost.source(), LostEventSource::PerfEventRingBuffer);
                format!("{} lost", lost.num_events_lost)
            }
        })
        .collect();
    assert_eq!(shown, ["1", "3 lost", "2 lost", "4"]);
    node.stop().await;
}

#[tokio::test]
async fn a_slow_client_is_told_how_many_it_missed() {
    let mut node = Node::new();
    node.config.hub.backlog = 1_024;
    let mut node = Node::with(node.config.clone());
    let mut client = node.client().await;
    let mut stream = follow(&mut client, request()).await;
    // More than fits in the backlog and in what HTTP/2 lets a client leave unread.
    let rounds = 60_000;
    for round in 0..rounds / 1_000 {
        let first = 1 + round * 1_000;
        node.connect(first..first + 1_000);
    }
    node.connect([65_000]);
    let (mut seen, mut missed) = (0u64, 0);
    loop {
        match next(&mut stream).await.unwrap() {
            Told::Flow(flow) => {
                seen += 1;
                if port(&flow) == 65_000 {
                    break;
                }
            }
            Told::Lost(lost) => {
                assert_eq!(lost.source(), LostEventSource::HubbleRingBuffer);
                assert!(lost.num_events_lost > 0);
                missed += lost.num_events_lost;
            }
        }
    }
    assert!(missed > 0, "all of it fitted somewhere");
    assert_eq!(seen + missed, u64::from(rounds) + 1, "each is told, or told to be missing");
    node.stop().await;
}

#[tokio::test]
async fn a_mask_leaves_the_rest_out() {
    let mut node = Node::new();
    let mut client = node.client().await;
    node.connect([9]);
    let paths = ["l4", "source.identity", "ethernet"].map(str::to_owned).to_vec();
    let asked = GetFlowsRequest { field_mask: Some(FieldMask { paths }), ..request() };
    let flow = all(&mut client, asked).await.remove(0);
    assert_eq!(port(&flow), 9);
    let source = flow.source.as_ref().unwrap();
    assert_eq!((source.identity, source.labels.len()), (2, 0));
    assert!(flow.time.is_none() && flow.ip.is_none() && flow.uuid.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn nonsense_is_refused_and_named() {
    let mut node = Node::new();
    let mut client = node.client().await;
    let bad_ip = FlowFilter { source_ip: vec!["ten".into()], ..FlowFilter::default() };
    let http = FlowFilter { http_status_code: vec!["500".into()], ..FlowFilter::default() };
    let paths = vec!["a b".to_owned()];
    for (asked, word) in [
        (
            GetFlowsRequest { whitelist: vec![bad_ip.clone()], ..request() },
            "whitelist[0].source_ip",
        ),
        (GetFlowsRequest { blacklist: vec![bad_ip], ..request() }, "blacklist[0].source_ip"),
        (GetFlowsRequest { whitelist: vec![http], ..request() }, "whitelist[0].http_status_code"),
        (GetFlowsRequest { first: true, follow: true, ..request() }, "first"),
        (GetFlowsRequest { field_mask: Some(FieldMask { paths }), ..request() }, "field_mask"),
        (
            GetFlowsRequest { since: Some(Timestamp { seconds: 0, nanos: -1 }), ..request() },
            "since",
        ),
    ] {
        let error = client.get_flows(asked).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::InvalidArgument);
        assert!(error.message().starts_with(word), "{}", error.message());
    }
    node.stop().await;
}

#[tokio::test]
async fn streams_are_bounded() {
    let mut node = Node::new();
    let mut client = node.client().await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(follow(&mut client, request()).await);
    }
    let error = client.get_flows(request()).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::ResourceExhausted);
    streams.pop();
    let start = Instant::now();
    while client.get_flows(request()).await.is_err() {
        assert!(start.elapsed() < SOON, "a place that is free again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    node.stop().await;
}
