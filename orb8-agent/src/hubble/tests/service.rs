//! What is not flows: status, nodes, namespaces, peers, health, reflection, and the listener.

use orb8_proto::hubble::observer::{
    GetAgentEventsRequest, GetDebugEventsRequest, GetNamespacesRequest, GetNodesRequest,
    ServerStatusRequest,
};
use orb8_proto::hubble::peer::peer_client::PeerClient;
use orb8_proto::hubble::peer::{ChangeNotificationType, NotifyRequest};
use orb8_proto::hubble::relay::NodeState;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::*;
use crate::event::Signal;
use crate::status::SourceStatus;

#[tokio::test]
async fn status_and_node_say_how_much_there_is() {
    let mut node = Node::new();
    node.config.hub.recent = 100;
    let mut node = Node::with(node.config.clone());
    let address = node.run().await;
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = Client::new(channel.connect().await.unwrap());
    node.connect(1..=250);
    let status = client.server_status(ServerStatusRequest {}).await.unwrap().into_inner();
    // Of each of three signals.
    assert_eq!(status.max_flows, 300);
    assert!((100..=228).contains(&status.num_flows), "{status:?}");
    assert_eq!(status.seen_flows, 250);
    assert!(status.uptime_ns > 0 && status.flows_rate >= 0.0);
    assert_eq!((status.num_connected_nodes, status.num_unavailable_nodes), (Some(1), Some(0)));
    assert_eq!(status.version, concat!("orb8 v", env!("CARGO_PKG_VERSION")));

    let nodes = client.get_nodes(GetNodesRequest {}).await.unwrap().into_inner().nodes;
    let [this] = &nodes[..] else { panic!("{nodes:?}") };
    assert_eq!((&*this.name, &*this.address), (NODE, &*address.to_string()));
    assert_eq!(this.state(), NodeState::NodeConnected);
    assert!(!this.tls.as_ref().unwrap().enabled);
    assert_eq!((this.max_flows, this.seen_flows), (300, 250));
    node.stop().await;
}

#[tokio::test]
async fn namespaces_are_those_of_flows() {
    use orb8_k8s::index::{Index, Source};
    use orb8_k8s::testing::objects;
    use orb8_k8s::wire::PodObject;

    let mut node = Node::new();
    let mut client = node.client().await;
    let (index, mut writer) = Index::new();
    lock(&node.pipeline).set_kubernetes(index);
    for (namespace, name, at, ip) in [
        ("shop", "web", "node-2", "10.0.0.2"),
        ("ml", "idle", NODE, "10.0.0.9"),
        ("far", "x", "node-2", "10.0.0.8"),
    ] {
        let pod = objects::with_uid(objects::pod(namespace, name, at, &[ip]), name);
        let pod: PodObject = serde_json::from_value(pod).unwrap();
        let source = if at == NODE { Source::LocalPods } else { Source::RemotePods };
        writer.apply(source, pod);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let time = UnixNanos(now.as_nanos() as u64);
    let sample = FlowSample { first: time, last: time, ..samples::sample(samples::key(), 0) };
    node.feed([(time, Payload::Flow(sample))]);
    let answer = client.get_namespaces(GetNamespacesRequest {}).await.unwrap().into_inner();
    let names: Vec<_> = answer.namespaces.iter().map(|of| (&*of.cluster, &*of.namespace)).collect();
    assert_eq!(names, [("default", "ml"), ("default", "shop")], "by name, and no pod elsewhere");
    node.stop().await;
}

#[tokio::test]
async fn what_is_ciliums_own_is_not_served() {
    let mut node = Node::new();
    let mut client = node.client().await;
    let agent = client.get_agent_events(GetAgentEventsRequest {}).await.unwrap_err();
    let debug = client.get_debug_events(GetDebugEventsRequest {}).await.unwrap_err();
    for error in [agent, debug] {
        assert_eq!(error.code(), tonic::Code::Unimplemented);
        assert!(error.message().contains("Cilium"), "{}", error.message());
    }
    node.stop().await;
}

#[tokio::test]
async fn a_relay_finds_this_node() {
    let mut node = Node::new();
    let address = node.run().await;
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = PeerClient::new(channel.connect().await.unwrap());
    let mut changes = client.notify(NotifyRequest {}).await.unwrap().into_inner();
    let this = changes.next().await.unwrap().unwrap();
    assert_eq!((&*this.name, this.r#type()), (NODE, ChangeNotificationType::PeerAdded));
    assert_eq!((this.address, this.tls), (address.to_string(), None));
    node.stop().await;
    assert!(changes.next().await.is_none());
}

#[tokio::test]
async fn health_follows_readiness() {
    let mut node = Node::new();
    let mut client = HealthClient::new(node.channel().await);
    let mut status = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        client.check(request).await.unwrap().into_inner().status().as_str_name()
    };
    let start = Instant::now();
    while status("hubble.server.Observer").await != "NOT_SERVING" {
        assert!(start.elapsed() < SOON, "nothing runs yet");
    }
    node.board.update(|status| {
        status.sources = vec![SourceStatus::running(Signal::Flow, Vec::new())];
    });
    for service in ["hubble.server.Observer", "observer.Observer", "peer.Peer"] {
        while status(service).await != "SERVING" {
            assert!(start.elapsed() < SOON, "{service}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn reflection_names_the_services() {
    let mut node = Node::new();
    let mut client = ServerReflectionClient::new(node.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let asked = tokio_stream::iter([request]);
    let mut answers = client.server_reflection_info(asked).await.unwrap().into_inner();
    let ServerReflectionResponse { message_response, .. } = answers.next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = message_response else { panic!() };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in ["observer.Observer", "peer.Peer", "grpc.health.v1.Health"] {
        assert!(names.contains(&service), "{service} in {names:?}");
    }
    node.stop().await;
}

/// As a relay connects: to a name that only this node's certificate has.
#[tokio::test]
async fn peers_are_reached_by_tls() {
    use rcgen::{CertificateParams, KeyPair};
    use tonic::transport::{Certificate, ClientTlsConfig};

    let name = "node-1.default.hubble-grpc.cilium.io";
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| {
        let path = folder.path().join(file);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut node = Node::new();
    node.config.api.tls = Some(api::TlsFiles {
        certificate: write("cert.pem", &certificate),
        key: write("key.pem", &key.serialize_pem()),
        client_ca: None,
    });
    let address = node.run().await;
    let connect = async |name: &str| {
        let tls = ClientTlsConfig::new()
            .domain_name(name)
            .ca_certificate(Certificate::from_pem(&certificate));
        let endpoint = Channel::from_shared(format!("https://{address}")).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.ok()
    };
    assert!(connect("elsewhere").await.is_none());
    let mut client = PeerClient::new(connect(name).await.unwrap());
    let mut changes = client.notify(NotifyRequest {}).await.unwrap().into_inner();
    let this = changes.next().await.unwrap().unwrap();
    assert_eq!(this.tls.unwrap().server_name, name, "the name that a relay is told to expect");
    let mut client = Client::new(connect(name).await.unwrap());
    let nodes = client.get_nodes(GetNodesRequest {}).await.unwrap().into_inner().nodes;
    assert!(nodes[0].tls.as_ref().is_some_and(|tls| tls.enabled && tls.server_name == name));
    let plain = Channel::from_shared(format!("http://{address}")).unwrap();
    let refused = match plain.connect().await {
        Ok(channel) => Client::new(channel).get_nodes(GetNodesRequest {}).await.is_err(),
        Err(_) => true,
    };
    assert!(refused, "clear text");
    node.stop().await;
}

#[tokio::test]
async fn it_is_off_unless_asked_for_and_says_where_it_is() {
    let mut node = Node::new();
    node.config.api.hubble = None;
    assert!(node.build().await.unwrap().is_none());
    assert!(node.board.read().checks.is_empty());
    node.config.api.hubble = Some("127.0.0.1:0".parse().unwrap());
    let address = node.run().await;
    let checks = node.board.read().checks;
    let [check] = &checks[..] else { panic!("{checks:?}") };
    assert_eq!((check.name, check.state), ("hubble", CheckState::Ok));
    let expected = format!("Hubble's clients are served on {address} (clear text)");
    assert_eq!(check.detail, expected);
    node.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut node = Node::new();
    node.config.api.hubble = Some(taken.local_addr().unwrap());
    let error = node.build().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, AgentError::AddressInUse { .. }), "{error:?}");
    assert!(text.contains("--hubble-listen"), "{text}");
    assert!(node.board.read().checks.is_empty());
}
