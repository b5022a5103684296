use orb8_common::packet::protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::flow::sample;
use super::*;
use crate::conntrack::{ConntrackError, Translations, Tuple, Wanted};
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
        status.sources.push(SourceStatus::skipped(Signal::Dns, reason));
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

#[tokio::test]
async fn status_tells_that_nobody_is_known_behind_addresses() {
    let mut node = Node::new();
    let mut client = node.client();
    let mut check = async || {
        let answer = client.get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
        answer.checks.into_iter().find(|check| check.name == "connection tracking")
    };
    assert_eq!(check().await, None, "it is not asked");
    let mut translations = Translations::new(|| Err(ConntrackError::Absent));
    let tuple = Tuple { protocol: protocol::TCP, ..Tuple::default() };
    let wanted = Wanted { tuple, ..Wanted::default() };
    assert_eq!(translations.opposite(&wanted, Instant::now()), None);
    lock(&node.pipeline).set_translations(translations);
    let check = check().await.unwrap();
    assert_eq!(check.state(), v1::CheckState::Absent);
    assert!(check.detail.contains("nf_conntrack"), "{check:?}");
    node.board.update(|status| status.kubernetes.counts.conflicts = 3);
    let answer = node.client().get_status(v1::GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!(answer.kubernetes.unwrap().address_conflicts, 3);
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
        status.sources = vec![SourceStatus::skipped(Signal::Flow, "no BPF here".into())];
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
