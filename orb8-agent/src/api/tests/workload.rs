use orb8_common::flow::{DIRECTION_INGRESS, FlowKey};

use super::flow::sample;
use super::*;

fn ask(request: v1::QueryWorkloadsRequest) -> v1::QueryWorkloadsRequest {
    v1::QueryWorkloadsRequest { limit: 10, ..request }
}

#[tokio::test]
async fn workloads_are_told_in_full() {
    let mut node = Node::new();
    let mut client = node.client();
    let received = FlowSample {
        key: FlowKey { direction: DIRECTION_INGRESS, ..sample(2, 1).key },
        ..sample(2, 5)
    };
    node.ingest(&[sample(1, 3), received]);
    let request = ask(v1::QueryWorkloadsRequest { peers: 10, ..Default::default() });
    let answer = client.query_workloads(request).await.unwrap().into_inner();
    assert_eq!((answer.total_matched, answer.node_name.as_str()), (1, "node-1"));
    let row = &answer.workloads[0];
    assert_eq!((&row.workload, row.key.as_str(), row.pods), (&None, "", 0), "nobody known");
    let (sent, received) = (row.sent.unwrap(), row.received.unwrap());
    assert_eq!((sent.packets, sent.bytes), (3, 300));
    assert_eq!((received.packets, received.bytes), (5, 500));
    assert_eq!((row.active_flows, row.peer_count, row.last_seen_ns), (2, 2, 2_000));
    let peers: Vec<_> = row.peers.iter().map(|peer| peer.endpoint.clone().unwrap().ip).collect();
    assert_eq!(peers.len(), 2);
    assert!(peers.contains(&vec![10, 0, 0, 1]), "{peers:?}");
    let totals = answer.totals.unwrap();
    assert_eq!((totals.sent, totals.received, totals.peers), (row.sent, row.received, vec![]));
    node.stop().await;
}

#[tokio::test]
async fn peers_are_told_where_they_are_asked_for() {
    let mut node = Node::new();
    let mut client = node.client();
    node.ingest(&[sample(1, 3)]);
    let answer = client.query_workloads(ask(v1::QueryWorkloadsRequest::default())).await;
    let row = answer.unwrap().into_inner().workloads.remove(0);
    assert_eq!((row.peer_count, row.peers.len()), (1, 0));
    node.stop().await;
}

#[tokio::test]
async fn what_no_workload_has_is_refused() {
    let mut node = Node::new();
    let mut client = node.client();
    let port = v1::FlowFilter { port: vec![443], ..v1::FlowFilter::default() };
    for request in [
        v1::QueryWorkloadsRequest { include: vec![port], ..Default::default() },
        v1::QueryWorkloadsRequest { group_by: 99, ..Default::default() },
        v1::QueryWorkloadsRequest { sort_by: -1, ..Default::default() },
    ] {
        let status = client.query_workloads(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }
    node.stop().await;
}
