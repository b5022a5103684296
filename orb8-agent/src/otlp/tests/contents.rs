//! What arrives, over both protocols.

use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};

use super::samples::*;
use super::*;
use crate::event::{Loss, SampleKind, Signal, TcpKind};
use crate::gpu::{GpuEventKind, xid};

/// Runs the same over both protocols.
async fn over_both(test: impl AsyncFn(Protocol)) {
    for protocol in Protocol::ALL {
        test(protocol).await;
    }
}

#[tokio::test]
async fn events_arrive_as_records_of_this_agent() {
    over_both(async |protocol| {
        let receiver = Receiver::start(protocol).await;
        let mut node = Node::new(&receiver, &[LogKind::Dns, LogKind::Tcp, LogKind::Flow]);
        node.config.otlp.headers.insert("x-scope", "tenant".parse().unwrap());
        node.config.otlp.resource = vec![("k8s.cluster.name".into(), "prod".into())];
        let mut node = node.start();
        node.feed([dns(exchange("a.example")), dns(timeout("b.example"))]);
        node.feed([tcp(tcp_sample(1, TcpKind::Connect { handshake_ns: Some(1_000_000) }))]);
        node.feed([Payload::Loss(Loss { signal: Signal::Tcp, moments: 3, ..Loss::default() })]);
        let records = receiver.expect(4).await;
        let names: Vec<&str> = records.iter().map(|record| &*record.event_name).collect();
        for name in ["orb8.dns.answered", "orb8.dns.timeout", "orb8.tcp.connect", "orb8.lost"] {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
        let timeout = records.iter().find(|record| record.event_name == "orb8.dns.timeout");
        let timeout = timeout.unwrap();
        assert_eq!(timeout.time_unix_nano, at(100).0);
        assert!(timeout.observed_time_unix_nano > timeout.time_unix_nano, "now");
        assert_eq!((timeout.severity_number, &*timeout.severity_text), (17, "ERROR"));
        assert_attributes(
            &timeout.attributes,
            &[
                ("dns.question.name", "b.example"),
                ("destination.port", "53"),
                ("error.type", "timeout"),
            ],
        );

        let requests = receiver.log_requests();
        let logs = &requests[0].resource_logs[0];
        assert_resource(&logs.resource.as_ref().unwrap().attributes);
        assert_eq!(logs.scope_logs[0].scope.as_ref().unwrap().name, "orb8-agent");
        assert!(logs.schema_url.starts_with("https://opentelemetry.io/schemas/1."));
        let headers = &receiver.headers()[0];
        assert_eq!(headers["x-scope"], "tenant");
        assert!(headers["user-agent"].to_str().unwrap().starts_with("orb8-agent/"));
        node.stop().await;
        assert_eq!(node.status().logs.exported, 4);
        assert_eq!(node.status().logs.dropped, [0; Cause::ALL.len()]);
    })
    .await;
}

fn assert_resource(attributes: &[KeyValue]) {
    assert_attributes(
        attributes,
        &[
            ("service.name", "orb8-agent"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", "node-1"),
            ("k8s.cluster.name", "prod"),
        ],
    );
    assert!(attribute(attributes, "host.name").is_some());
    assert_eq!(attribute(attributes, "k8s.node.name"), None, "there is no Kubernetes");
}

#[test]
fn the_node_is_one_of_kubernetes_where_there_is_one() {
    let added = [("service.name".to_owned(), "mine".to_owned())];
    let attributes = Resource::new("node-1", true, &added).message().attributes;
    assert_attributes(&attributes, &[("k8s.node.name", "node-1"), ("service.name", "mine")]);
    assert_eq!(attributes.iter().filter(|pair| pair.key == "service.name").count(), 1);
}

#[tokio::test]
async fn records_of_flows_add_up_to_what_was_counted() {
    over_both(async |protocol| {
        let receiver = Receiver::start(protocol).await;
        let mut node = Node::new(&receiver, &[LogKind::Flow]).start();
        let counted =
            |port, packets| Payload::Flow(flow_sample(port, SampleKind::Counted, packets));
        for round in 0..50 {
            node.feed((1..=20).map(|port| counted(port, u64::from(port) + round)));
        }
        // All of them are idle by then.
        node.end_cycle(3_600);
        let records = receiver.expect(20).await;
        assert_eq!(records.len(), 20, "one for each flow, not for each of its thousand events");
        for record in &records {
            assert_eq!(record.event_name, "orb8.flow.end");
            let port: u64 = attribute(&record.attributes, "source.port").unwrap().parse().unwrap();
            let packets = 50 * port + 49 * 50 / 2;
            let (packets, bytes) = (packets.to_string(), (packets * 100).to_string());
            assert_attributes(
                &record.attributes,
                &[
                    ("orb8.flow.packets", &packets),
                    ("orb8.flow.bytes", &bytes),
                    ("orb8.flow.total.packets", &packets),
                    ("orb8.flow.end_reason", "idle"),
                ],
            );
        }
        node.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_goes_on_when_the_agent_stops_is_told() {
    let receiver = Receiver::start(Protocol::Grpc).await;
    let mut node = Node::new(&receiver, &[LogKind::Flow]).start();
    node.feed((1..=3).map(|port| Payload::Flow(flow_sample(port, SampleKind::Counted, 7))));
    node.stop().await;
    let records = receiver.records();
    assert_eq!(records.len(), 3);
    for record in records {
        assert_eq!(record.event_name, "orb8.flow.update");
        assert_attributes(&record.attributes, &[("orb8.flow.packets", "7")]);
    }
}

#[tokio::test]
async fn alerts_are_what_goes_wrong() {
    let receiver = Receiver::start(Protocol::Grpc).await;
    let mut node = Node::new(&receiver, &[LogKind::Alerts]).start();
    node.feed([dns(exchange("a.example")), dns(missing("a.example")), dns(refused("a.example"))]);
    node.feed([
        tcp(tcp_sample(1, TcpKind::Connect { handshake_ns: None })),
        tcp(tcp_sample(1, TcpKind::Retransmit { segments: 1, total: 1 })),
        Payload::Flow(flow_sample(1, SampleKind::Counted, 1)),
        Payload::Loss(Loss { packets: 2, bytes: 200, ..Loss::default() }),
        gpu(GpuEventKind::Xid(xid::describe(79))),
        gpu(GpuEventKind::Launches { rate: 1.0, graph_rate: 0.0, is_sampled: false }),
    ]);
    node.end_cycle(3_600);
    receiver.expect(4).await;
    node.stop().await;
    let mut names: Vec<String> =
        receiver.records().into_iter().map(|record| record.event_name).collect();
    names.sort();
    assert_eq!(names, ["orb8.dns.answered", "orb8.gpu.xid", "orb8.lost", "orb8.tcp.retransmit"]);
}

#[tokio::test]
async fn metrics_arrive_without_logs_and_again_and_again() {
    over_both(async |protocol| {
        let receiver = Receiver::start(protocol).await;
        let mut node = Node::new(&receiver, &[]);
        node.config.otlp.interval = Duration::from_millis(50);
        node.board.update(|status| status.kernel_counters.lost_packets = 7);
        let mut node = node.start();
        eventually("three requests", || (receiver.metric_requests().len() >= 3).then_some(()))
            .await;
        node.feed([Payload::Flow(flow_sample(1, SampleKind::Counted, 9))]);
        node.stop().await;
        let requests = receiver.metric_requests();
        let resource = &requests[0].resource_metrics[0].resource;
        let attributes = &resource.as_ref().unwrap().attributes;
        assert_attributes(attributes, &[("service.name", "orb8-agent")]);
        let metrics = receiver.metrics();
        let lost: Vec<_> = metrics
            .iter()
            .filter(|metric| metric.name == "orb8_agent_lost_packets_total")
            .collect();
        assert_eq!(lost.len(), requests.len());
        for metric in &lost {
            let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
            assert!(sum.is_monotonic && sum.aggregation_temporality == 2, "cumulative");
            let point = &sum.data_points[0];
            assert_eq!(point.value, Some(number_data_point::Value::AsInt(7)));
            assert!(point.start_time_unix_nano > 0, "a sum has a beginning");
            assert!(point.time_unix_nano >= point.start_time_unix_nano);
        }
        // The last one goes out when the agent stops.
        let flows = metrics.iter().rev().find(|metric| metric.name == "orb8_agent_flows").unwrap();
        let Some(Data::Gauge(gauge)) = &flows.data else { panic!("{flows:?}") };
        assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsDouble(1.0)));
        let KindStatus { exported, failures, .. } = node.status().metrics;
        assert!(exported > 100 && failures == 0, "{exported}");
    })
    .await;
}

#[tokio::test]
async fn nothing_is_sent_unless_asked_for() {
    let receiver = Receiver::start(Protocol::Grpc).await;
    let mut node = Node::new(&receiver, &[LogKind::Flow]);
    node.config.otlp.endpoint = None;
    assert!(node.build().unwrap().is_none());
    assert_eq!(node.board.read().otlp, None);
}
