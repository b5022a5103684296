//! What a collector gets of real traffic: flows whose records add up to what was sent, and metrics that
//! say the same.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    logs::v1::LogRecord,
    metrics::v1::{metric::Data, number_data_point},
};
use orb8_agent::{
    config::AttachStrategy,
    otlp::{LogKind, OtlpConfig},
};
use orb8_proto::{filter::End, filter::FlowFields, v1::Flow};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::support::{
    Lab,
    agent::{Agent, config, in_runtime},
    netns::VERSIONS,
    scaled,
    traffic::{Ends, Udp, headers, tcp_transfer, udp_echo},
};

/// A payload that no other traffic has.
const SIZE: usize = 321;

/// Everything that came.
#[derive(Clone, Debug, Default)]
struct Inbox(Arc<Mutex<(Vec<LogRecord>, Vec<ExportMetricsServiceRequest>)>>);

#[tonic::async_trait]
impl LogsService for Inbox {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let mut inbox = self.0.lock().expect("the inbox");
        let resources = request.into_inner().resource_logs.into_iter();
        let scopes = resources.flat_map(|resource| resource.scope_logs);
        inbox.0.extend(scopes.flat_map(|scope| scope.log_records));
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Inbox {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.0.lock().expect("the inbox").1.push(request.into_inner());
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

impl Inbox {
    /// Receives in this namespace, and returns where.
    async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("its address");
        let server = Server::builder()
            .add_service(LogsServiceServer::new(self.clone()))
            .add_service(MetricsServiceServer::new(self.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        address
    }

    fn records(&self) -> Vec<LogRecord> {
        self.0.lock().expect("the inbox").0.clone()
    }

    /// Adds up the last values of a counter.
    fn sum(&self, name: &str) -> u64 {
        let inbox = self.0.lock().expect("the inbox");
        let metrics = inbox.1.iter().flat_map(|request| &request.resource_metrics);
        let metrics = metrics.flat_map(|resource| &resource.scope_metrics);
        let mut metrics = metrics.flat_map(|scope| &scope.metrics);
        let last = metrics.rfind(|metric| metric.name == name).expect("a counter");
        let Some(Data::Sum(sum)) = &last.data else { panic!("{last:?}") };
        let value = |value: &number_data_point::Value| match value {
            number_data_point::Value::AsInt(count) => u64::try_from(*count).expect("a count"),
            number_data_point::Value::AsDouble(value) => panic!("{value}"),
        };
        sum.data_points.iter().filter_map(|point| point.value.as_ref()).map(value).sum()
    }
}

/// Both ends and the direction: what tells a flow of these tests.
type Key = (String, String, String);

fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|pair| pair.key == key).map(|pair| pair.value.clone());
    match value.flatten().and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{key}: {other:?} in {attributes:#?}"),
    }
}

/// Packets and bytes that the records of each flow add up to.
fn added_up(records: &[LogRecord]) -> HashMap<Key, (u64, u64)> {
    let mut flows = HashMap::<Key, (u64, u64)>::new();
    for record in records.iter().filter(|record| record.event_name.starts_with("orb8.flow.")) {
        let get = |key: &str| attribute(&record.attributes, key);
        // Of what has no ports, such as ICMP, there may be something too.
        if get("network.transport") == "icmpv6" {
            continue;
        }
        let end = |end: &str| {
            format!("{} {}", get(&format!("{end}.address")), get(&format!("{end}.port")))
        };
        let key = (end("source"), end("destination"), get("network.io.direction"));
        let number = |key: &str| get(key).parse::<u64>().expect("a number");
        let flow = flows.entry(key).or_default();
        flow.0 += number("orb8.flow.packets");
        flow.1 += number("orb8.flow.bytes");
    }
    flows
}

fn key(flow: &Flow) -> Key {
    let end = |end: End| {
        let (ip, port) = (flow.ip(end).expect("an address"), flow.port(end).expect("a port"));
        format!("{ip} {port}")
    };
    let is_sent = flow.direction() == orb8_proto::v1::Direction::Egress;
    let direction = if is_sent { "transmit" } else { "receive" };
    (end(End::Source), end(End::Destination), direction.to_owned())
}

#[test]
fn a_collector_gets_all_of_the_traffic() {
    let lab = Lab::new();
    let inbox = Inbox::default();
    let count = scaled(400);
    let (udp, flows, collector) = in_runtime(&lab.pair.client, async || {
        let address = inbox.serve().await;
        let mut config = config(AttachStrategy::Cgroup, Some(&lab.cgroup));
        config.otlp = OtlpConfig {
            endpoint: Some(format!("http://{address}").parse().expect("a URL")),
            logs: vec![LogKind::Flow, LogKind::Tcp],
            interval: Duration::from_secs(1),
            flow_interval: Duration::from_secs(1),
            ..config.otlp
        };
        let mut agent = Agent::start(config).await;
        let mut udp = Vec::new();
        for addresses in VERSIONS {
            udp.push(udp_echo(&lab.pair, addresses, Udp::Connected, count, SIZE));
            tcp_transfer(&lab.pair, addresses, 200_000, 100_000);
        }
        // Long enough for records of what goes on.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        for addresses in VERSIONS {
            udp.push(udp_echo(&lab.pair, addresses, Udp::Connected, count, SIZE));
        }
        agent.drain().await;
        let checks = agent.status().await.checks;
        let check = checks.iter().find(|check| check.name == "OTLP export").expect("its check");
        assert_eq!(check.state(), orb8_proto::v1::CheckState::Ok, "{check:?}");
        let flows = agent.flows().await.flows;
        // What was not told yet is told then.
        agent.stop().await;
        (udp, flows, address)
    });

    let records = inbox.records();
    let added = added_up(&records);
    for Ends { client, server } in udp {
        let bytes = count * (SIZE as u64 + headers(server.ip()));
        for (source, destination) in [(client, server), (server, client)] {
            for direction in ["transmit", "receive"] {
                let [source, destination] =
                    [source, destination].map(|end| format!("{} {}", end.ip(), end.port()));
                let key = (source, destination, direction.to_owned());
                assert_eq!(added.get(&key), Some(&(count, bytes)), "{key:?} in {added:#?}");
            }
        }
    }
    // Packets of a connection whose socket is gone are a flow of their own, of nobody's cgroup.
    let mut expected = HashMap::<Key, (u64, u64)>::new();
    for flow in flows.iter().filter(|flow| !flow.self_traffic && flow.port(End::Source).is_some()) {
        let counted = expected.entry(key(flow)).or_default();
        (counted.0, counted.1) = (counted.0 + flow.packets, counted.1 + flow.bytes);
    }
    assert!(expected.len() >= 24, "{}", expected.len());
    for (key, held) in &expected {
        let told = added.get(key).copied().unwrap_or_default();
        assert_eq!(told, *held, "{key:?}");
        let (source, destination, direction) = key.clone();
        let other_side = if direction == "transmit" { "receive" } else { "transmit" };
        // Both ends of what goes over the wire are here, and see the same packets.
        if !source.starts_with("127.") {
            let other = (source, destination, other_side.to_owned());
            assert_eq!(added.get(&other), Some(&told), "{key:?}");
        }
    }
    let packets = expected.values().map(|(packets, _)| packets).sum::<u64>();
    let bytes = expected.values().map(|(_, bytes)| bytes).sum::<u64>();
    assert!(flows.iter().any(|flow| flow.self_traffic), "the export itself");
    // What the collector's own socket sees is its own.
    let collector = format!("{} {}", collector.ip(), collector.port());
    let is_export = |(source, destination, direction): &Key| match &**direction {
        "transmit" => *destination == collector,
        _ => *source == collector,
    };
    assert!(!added.keys().any(is_export), "the export does not tell of itself: {added:#?}");

    // Tracepoints tell of the whole machine.
    for (_, server) in VERSIONS {
        let is_ours = |record: &&LogRecord| {
            record.event_name == "orb8.tcp.connect"
                && attribute(&record.attributes, "destination.address") == server.to_string()
        };
        assert_eq!(records.iter().filter(is_ours).count(), 1, "{server}");
    }
    // Metrics have what has no ports too.
    let (told_packets, told_bytes) =
        (inbox.sum("orb8_flow_packets_total"), inbox.sum("orb8_flow_bytes_total"));
    assert!(told_packets >= packets && told_bytes >= bytes, "{told_packets} {packets}");
    assert!(told_packets <= packets + packets / 10, "{told_packets} {packets}");
}
