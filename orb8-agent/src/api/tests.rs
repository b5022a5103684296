//! An agent without an engine, asked over its API: a test is its source.

use std::sync::Arc;
use std::time::Instant;

use orb8_proto::v1;
use orb8_proto::v1::orbit_agent_service_client::OrbitAgentServiceClient;
use tempfile::TempDir;
use tokio_stream::StreamExt;

use super::*;
use crate::event::{Event, FlowSample, Payload, Signal, UnixNanos};
use crate::pipeline::{LocalAddresses, Pipeline};
use crate::status::SourceStatus;

mod dns;
mod flow;
mod gpu;
mod history;
mod listen;
mod status;
mod tcp;
mod workload;

type Client = OrbitAgentServiceClient<Channel>;

/// An agent without an engine: a test is its source.
struct Node {
    config: Config,
    pipeline: SharedPipeline,
    board: StatusBoard,
    shutdown: CancellationToken,
    tasks: Tasks,
    directory: TempDir,
}

impl Node {
    fn new() -> Self {
        let mut config = Config::in_process().unwrap();
        config.node_name = "node-1".into();
        config.cgroup_root = None;
        let board = StatusBoard::default();
        board.update(|status| {
            let names = [(7, "veth7")].into_iter().collect();
            status.interfaces = Arc::new(names);
        });
        Self {
            pipeline: Pipeline::new(&config, LocalAddresses::default()).shared(),
            config,
            board,
            shutdown: CancellationToken::new(),
            tasks: Tasks::new(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Answers this process only.
    fn channel(&mut self) -> Channel {
        let mut api =
            Api::without_listeners(&self.config, self.pipeline.clone(), self.board.clone());
        let channel = api.connect();
        self.tasks = api.run(&self.shutdown);
        channel
    }

    fn client(&mut self) -> Client {
        Client::new(self.channel())
    }

    async fn build(&self) -> Result<Api, AgentError> {
        Api::build(&self.config, self.pipeline.clone(), self.board.clone()).await
    }

    /// Listens, and returns where.
    async fn run(&mut self) -> Bound {
        let api = self.build().await.unwrap();
        let bound = api.bound().clone();
        self.tasks = api.run(&self.shutdown);
        bound
    }

    fn ingest(&self, samples: &[FlowSample]) {
        let event = |sample: &FlowSample| (sample.last, Payload::Flow(sample.clone()));
        self.feed(samples.iter().map(event));
    }

    fn feed(&self, payloads: impl IntoIterator<Item = (UnixNanos, Payload)>) {
        let event = |(time, payload)| Event { time, subject: None, payload };
        lock(&self.pipeline).ingest(&mut payloads.into_iter().map(event).collect());
    }

    fn end_cycle(&self) {
        lock(&self.pipeline).end_of_cycle(Instant::now());
    }

    fn run_source(&self) {
        let running = SourceStatus::running(Signal::Flow, Vec::new());
        self.board.update(|status| status.sources = vec![running]);
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(result) = self.tasks.join_next().await {
            result.unwrap().unwrap();
        }
    }
}
