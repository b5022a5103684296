//! OpenTelemetry's own collector between the agent and the receiver, where the machine has it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::samples::*;
use super::*;
use crate::event::SampleKind;

/// Ends the process, whatever becomes of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn otelcol() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["otelcol", "otelcol-contrib", "otelcol-k8s"];
    let mut candidates =
        std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name)));
    candidates.find(|path| path.is_file())
}

/// A collector that passes everything on.
fn settings(protocol: Protocol, port: u16, receiver: &Receiver) -> String {
    let name = if protocol == Protocol::Grpc { "grpc" } else { "http" };
    format!(
        "receivers:\n  otlp:\n    protocols:\n      {name}:\n        endpoint: 127.0.0.1:{port}\n\
         exporters:\n  otlp:\n    endpoint: {}\n    tls:\n      insecure: true\n\
         service:\n  telemetry:\n    metrics:\n      level: none\n  pipelines:\n\
         \x20   logs:\n      receivers: [otlp]\n      exporters: [otlp]\n\
         \x20   metrics:\n      receivers: [otlp]\n      exporters: [otlp]\n",
        receiver.address,
    )
}

#[tokio::test]
async fn the_real_collector_takes_all_of_it() {
    let Some(program) = otelcol() else {
        // Not a macro: the harness keeps to itself what a test that passes prints by one.
        writeln!(
            std::io::stderr(),
            "SKIPPED the_real_collector_takes_all_of_it: no otelcol in PATH (it is no Debian package)"
        )
        .unwrap();
        return;
    };
    for protocol in Protocol::ALL {
        let receiver = Receiver::start(Protocol::Grpc).await;
        let port = Receiver::away(protocol).await.address.port();
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        std::fs::write(file.path(), settings(protocol, port, &receiver)).unwrap();
        let child = Command::new(&program)
            .arg(format!("--config={}", file.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _running = Running(child);
        for histograms in [Histograms::Explicit, Histograms::Exponential] {
            let mut node = Node::new(&receiver, &LogKind::ALL);
            node.config.otlp.endpoint = Some(format!("http://127.0.0.1:{port}").parse().unwrap());
            node.config.otlp.protocol = protocol;
            node.config.otlp.interval = Duration::from_secs(1);
            node.config.otlp.histograms = histograms;
            let before = receiver.records().len();
            let mut node = node.start();
            node.feed([
                dns(exchange("a.example")),
                dns(timeout("b.example")),
                Payload::Flow(flow_sample(1, SampleKind::Counted, 9)),
            ]);
            node.end_cycle(3_600);
            let records = receiver.expect(before + 3).await;
            // Older ones do not pass on the event's name.
            let of_flow = |record: &&LogRecord| {
                attribute(&record.attributes, "orb8.flow.end_reason").is_some()
            };
            let end = records.iter().rev().find(of_flow).expect("the flow's end");
            assert_attributes(&end.attributes, &[("orb8.flow.packets", "9")]);
            eventually("metrics", || (node.status().metrics.exported > 0).then_some(())).await;
            node.stop().await;
            let status = node.status();
            assert_eq!(status.metrics.dropped, [0; Cause::ALL.len()], "{status:?}");
            assert_eq!(status.logs.dropped, [0; Cause::ALL.len()], "{status:?}");
            let latencies = receiver.metrics();
            assert!(
                latencies.iter().any(|metric| metric.name == "orb8_dns_latency_seconds"),
                "no histogram"
            );
        }
    }
}
