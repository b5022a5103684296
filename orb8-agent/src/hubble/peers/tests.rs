use std::sync::Arc;

use orb8_k8s::index::{Index, IndexWriter, Source};
use orb8_k8s::testing::objects;
use orb8_k8s::wire::NodeObject;
use tokio_stream::StreamExt;

use super::*;
use crate::config::Config;
use crate::pipeline::{LocalAddresses, Pipeline};

fn pipeline() -> SharedPipeline {
    Pipeline::new(&Config::in_process().unwrap(), LocalAddresses::default()).shared()
}

fn peers(listen: &str, has_tls: bool, pipeline: &SharedPipeline) -> Peers {
    let listen = listen.parse().unwrap();
    Peers::new("node.1", listen, has_tls, Arc::clone(pipeline), CancellationToken::new())
}

fn apply(writer: &mut IndexWriter, name: &str, ip: &str) {
    let node = objects::with_uid(objects::node(name, &[ip]), name);
    let node: NodeObject = serde_json::from_value(node).unwrap();
    writer.apply(Source::Nodes, node);
}

async fn notifications(peers: &Peers) -> Notifications {
    peers.notify(Request::new(peer::NotifyRequest {})).await.unwrap().into_inner()
}

/// Looks, and returns what changed.
fn look(notifications: &mut Notifications) -> Vec<(String, String, Change)> {
    notifications.look();
    let changes = notifications.ready.drain(..);
    changes.map(|change| (change.name.clone(), change.address.clone(), change.r#type())).collect()
}

fn change(name: &str, address: &str, change: Change) -> (String, String, Change) {
    (name.to_owned(), address.to_owned(), change)
}

#[tokio::test]
async fn without_the_api_this_node_is_all() {
    let pipeline = pipeline();
    let peers = peers("127.0.0.1:4244", false, &pipeline);
    let mut notifications = notifications(&peers).await;
    let this = notifications.next().await.unwrap().unwrap();
    assert_eq!((&*this.name, &*this.address), ("node.1", "127.0.0.1:4244"));
    assert_eq!((this.r#type(), this.tls.clone()), (Change::PeerAdded, None));
    assert_eq!(peers.this(), this);
    assert_eq!(look(&mut notifications), []);
    peers.shutdown.cancel();
    assert!(notifications.next().await.is_none(), "it ends with the agent");
}

#[tokio::test]
async fn nodes_come_move_and_go() {
    let pipeline = pipeline();
    let (index, mut writer) = Index::new();
    lock(&pipeline).set_kubernetes(index);
    apply(&mut writer, "node.1", "10.0.0.1");
    apply(&mut writer, "node.2", "10.0.0.2");
    let peers = peers("0.0.0.0:4244", true, &pipeline);
    let mut notifications = notifications(&peers).await;
    let tls = notifications.next().await.unwrap().unwrap().tls.unwrap();
    assert_eq!(tls.server_name, "node-1.default.hubble-grpc.cilium.io");
    let other = notifications.next().await.unwrap().unwrap();
    assert_eq!((&*other.name, &*other.address), ("node.2", "10.0.0.2:4244"));
    assert_eq!(look(&mut notifications), []);
    apply(&mut writer, "node.2", "10.0.0.9");
    apply(&mut writer, "node.3", "10.0.0.3");
    let changes = [
        change("node.2", "10.0.0.9:4244", Change::PeerUpdated),
        change("node.3", "10.0.0.3:4244", Change::PeerAdded),
    ];
    assert_eq!(look(&mut notifications), changes);
    writer.begin(Source::Nodes);
    apply(&mut writer, "node.1", "10.0.0.1");
    writer.finish(Source::Nodes);
    let gone = [
        change("node.2", "10.0.0.9:4244", Change::PeerDeleted),
        change("node.3", "10.0.0.3:4244", Change::PeerDeleted),
    ];
    assert_eq!(look(&mut notifications), gone);
}

#[test]
fn an_address_that_was_chosen_is_told() {
    let pipeline = pipeline();
    let (index, mut writer) = Index::new();
    lock(&pipeline).set_kubernetes(index);
    apply(&mut writer, "node.1", "10.0.0.1");
    apply(&mut writer, "node.2", "10.0.0.2");
    let at = |listen: &str| {
        let addresses = peers(listen, false, &pipeline).addresses();
        addresses.into_iter().map(|(name, at)| format!("{name} {at}")).collect::<Vec<_>>()
    };
    assert_eq!(at("0.0.0.0:4244"), ["node.1 10.0.0.1:4244", "node.2 10.0.0.2:4244"]);
    assert_eq!(at("10.9.9.9:4244"), ["node.1 10.9.9.9:4244", "node.2 10.0.0.2:4244"]);
    assert_eq!(at("127.0.0.1:4244"), ["node.1 127.0.0.1:4244"], "no other node could connect");
}

#[test]
fn of_any_address_one_is_told_that_others_can_use() {
    for any in ["0.0.0.0:4244", "[::]:4244"] {
        let this = peers(any, false, &pipeline()).this();
        let at: SocketAddr = this.address.parse().unwrap();
        assert!(!at.ip().is_unspecified() && at.port() == 4244, "{at}");
    }
}

#[tokio::test]
async fn so_many_clients_and_no_more_are_told() {
    let pipeline = pipeline();
    let peers = peers("127.0.0.1:4244", false, &pipeline);
    let mut told = Vec::new();
    for _ in 0..CLIENTS {
        told.push(notifications(&peers).await);
    }
    let refused = peers.notify(Request::new(peer::NotifyRequest {})).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    told.pop();
    notifications(&peers).await;
}
