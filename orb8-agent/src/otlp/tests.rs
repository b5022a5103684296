//! The export against a receiver of the test's own, over both protocols.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;

use super::*;
use crate::event::{Event, Payload, UnixNanos};
use crate::pipeline::{LocalAddresses, Pipeline};
use receiver::{Answer, Receiver};

mod contents;
mod otelcol;
mod outages;
mod receiver;
mod records;
pub(in crate::otlp) mod samples;
mod secure;

/// How long what has to happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A pipeline whose source is the test, and its export.
struct Node {
    config: Config,
    pipeline: SharedPipeline,
    board: StatusBoard,
    export: Option<Export>,
}

impl Node {
    fn new(receiver: &Receiver, logs: &[LogKind]) -> Self {
        let mut config = Config::in_process().unwrap();
        config.cgroup_root = None;
        config.node_name = "node-1".into();
        config.otlp.endpoint = Some(receiver.endpoint().parse().unwrap());
        config.otlp.protocol = receiver.protocol;
        config.otlp.logs = logs.to_vec();
        config.otlp.queue_size = 1_024;
        let pipeline = Pipeline::new(&config, LocalAddresses::default()).shared();
        Self { config, pipeline, board: StatusBoard::default(), export: None }
    }

    fn build(&self) -> Result<Option<Otlp>, AgentError> {
        Otlp::build(&self.config, self.pipeline.clone(), self.board.clone())
    }

    fn start(mut self) -> Self {
        self.export = self.build().unwrap().map(Otlp::start);
        self
    }

    fn feed(&self, payloads: impl IntoIterator<Item = Payload>) {
        let event = |payload| Event { time: samples::at(100), subject: None, payload };
        lock(&self.pipeline).ingest(&mut payloads.into_iter().map(event).collect());
    }

    /// Ends a drain cycle `seconds` from now.
    fn end_cycle(&self, seconds: u64) {
        lock(&self.pipeline).end_of_cycle(Instant::now() + Duration::from_secs(seconds));
    }

    fn status(&self) -> OtlpStatus {
        self.board.read().otlp.unwrap()
    }

    fn dropped(&self, kind: Kind, cause: Cause) -> u64 {
        self.status().of(kind).dropped[cause as usize]
    }

    async fn stop(&mut self) {
        if let Some(export) = self.export.take() {
            export.stop().await;
        }
    }
}

/// Waits for what has to happen.
async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the value of an attribute for comparison: `10.0.0.1`, `443`, `a,b`.
fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let pair = attributes.iter().find(|pair| pair.key == key)?;
    Some(shown(pair.value.as_ref()?.value.as_ref()?))
}

fn shown(value: &Value) -> String {
    match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        Value::ArrayValue(list) => {
            let values = list.values.iter().filter_map(|value| value.value.as_ref());
            values.map(shown).collect::<Vec<_>>().join(",")
        }
        other => panic!("{other:?}"),
    }
}

/// Compares attributes, all of which have to be there.
fn assert_attributes(attributes: &[KeyValue], expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(attribute(attributes, key).as_deref(), Some(*value), "{key} of {attributes:#?}");
    }
}
