//! Asking what flows moved in a part of time.

use std::time::Duration;

use super::flow::sample;
use super::*;
use crate::pipeline::Happened;

fn now() -> u64 {
    crate::clock::Clock::system().now().0
}

/// Asks for a part of time.
async fn ask(client: &mut Client, from: Option<u64>, to: Option<u64>) -> v1::QueryFlowsResponse {
    let request = v1::QueryFlowsRequest {
        start_time_ns: from,
        end_time_ns: to,
        ..v1::QueryFlowsRequest::default()
    };
    client.query_flows(request).await.unwrap().into_inner()
}

fn moved(answer: &v1::QueryFlowsResponse) -> Vec<(u32, u64, u64)> {
    let port = |flow: &v1::Flow| flow.source.as_ref().unwrap().port;
    answer.flows.iter().map(|flow| (port(flow), flow.packets, flow.bytes)).collect()
}

#[tokio::test]
async fn a_window_has_its_own_counts_and_ended_flows() {
    let mut node = Node::new();
    let mut client = node.client();
    let begin = now();
    let at = |port, packets| FlowSample { last: UnixNanos(now()), ..sample(port, packets) };
    node.ingest(&[at(1, 3), at(2, 4)]);
    let reset = FlowSample { tcp_flags: 4, ..at(2, 1) };
    node.ingest(&[reset]);
    // Idle for so long that the store has forgotten both.
    let later = Instant::now() + Duration::from_secs(120);
    lock(&node.pipeline).end_of_cycle(later);
    lock(&node.pipeline).end_of_cycle(later + Duration::from_secs(60));
    assert_eq!(
        client.query_flows(v1::QueryFlowsRequest::default()).await.unwrap().into_inner().flows,
        []
    );

    let first = ask(&mut client, Some(begin), None).await;
    assert_eq!(moved(&first), [(2, 5, 500), (1, 3, 300)]);
    assert_eq!((first.total_matched, first.flows[0].tcp_flags), (2, 0x16));
    assert!(first.window_start_ns.unwrap() >= first.history_start_ns.unwrap());
    assert!(first.history_start_ns.unwrap() <= begin);
    let divided = first.window_end_ns.unwrap();
    assert!(divided >= begin && divided <= now());

    node.ingest(&[at(1, 7)]);
    assert_eq!(moved(&ask(&mut client, Some(divided), None).await), [(1, 7, 700)]);
    assert_eq!(moved(&ask(&mut client, None, Some(divided)).await), [(2, 5, 500), (1, 3, 300)]);
    let all = ask(&mut client, Some(0), None).await;
    assert_eq!(
        moved(&all),
        [(1, 7, 700), (2, 5, 500), (1, 3, 300)],
        "the second one with that port is new"
    );
    assert_eq!(ask(&mut client, Some(now() + 1_000_000_000), None).await.flows, []);
    node.stop().await;
}

#[tokio::test]
async fn without_a_history_flows_that_are_held_are_told() {
    let mut node = Node::new();
    node.config.history = None;
    node.pipeline = Pipeline::new(&node.config, LocalAddresses::default()).shared();
    let mut client = node.client();
    node.ingest(&[sample(1, 3)]);
    let answer = ask(&mut client, Some(1_500), None).await;
    assert_eq!(moved(&answer), [(1, 3, 300)]);
    assert_eq!((answer.window_start_ns, answer.history_start_ns), (None, None));
    assert_eq!(ask(&mut client, Some(3_000), None).await.flows, [], "its last packet was before");
    assert_eq!(lock(&node.pipeline).totals().history_bytes, 0);
    node.stop().await;
}

/// Who reads what happens and adds it up has what the history has.
#[tokio::test]
async fn history_and_events_agree() {
    let mut node = Node::new();
    let mut client = node.client();
    let subscription = lock(&node.pipeline).subscribe();
    for step in 1..=50_u64 {
        let samples = [sample((step % 7) as u16 + 1, step), sample(99, 1)];
        node.ingest(&samples);
        if step % 5 == 0 {
            node.end_cycle();
            ask(&mut client, Some(0), None).await;
        }
    }
    let answer = ask(&mut client, Some(0), None).await;
    let mut reader = subscription.reader;
    let mut told = 0;
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while let std::task::Poll::Ready(Some(received)) = reader.poll_next(&mut context) {
        for item in &received.batch.items {
            if let Happened::Event(event) = &item.happened {
                told += event.bytes;
            }
        }
    }
    let sum: u64 = answer.flows.iter().map(|flow| flow.bytes).sum();
    assert_eq!((answer.total_matched, sum), (8, told));
    assert_eq!(sum, ((1..=50_u64).sum::<u64>() + 50) * 100);
    node.stop().await;
}
