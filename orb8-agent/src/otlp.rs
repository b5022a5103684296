//! Export over OTLP, OpenTelemetry's protocol: metrics, and flows, DNS, TCP, what happens to
//! accelerators and alerts as logs.
//!
//! ```text
//! hubs ──▶ collect ──▶ records ──▶ Queue ──batches──▶ LogSender ─────┐ retry
//!                                                                    ├──────▶ Client ──▶ collector
//! Metrics ──gather, every interval──▶ requests ──▶ MetricSender ─────┘        gRPC, HTTP
//!                                       └──────── Health ──▶ status board, /metrics
//! ```
//! The messages are those of `opentelemetry-proto`, and the names those of
//! `opentelemetry-semantic-conventions`. The rest of the SDK is left out: its batch processors drop
//! without telling how much, it makes metrics of instruments where ours are gathered already, and it
//! would have a second copy of what the agent holds.
//!
//! A collector that is away costs a full queue of logs and nothing else: metrics are cumulative, so the
//! next ones tell what the last ones would have. What is dropped is counted by cause, and told to the
//! collector itself when it is back.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, Uri};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, info_span};

use crate::config::Config;
use crate::error::AgentError;
use crate::metrics::Metrics;
use crate::pipeline::{SharedPipeline, lock};
use crate::status::{KubernetesState, StatusBoard};
use crate::store::StoreConfig;
use client::Client;
use collect::Collector;
use health::Health;
use queue::Queue;
use resource::Resource;
use send::{GIVE_UP, LogSender, MetricSender};

mod attributes;
mod client;
mod collect;
mod flows;
mod health;
mod logs;
mod metrics;
mod names;
mod queue;
mod resource;
mod retry;
mod send;

pub use health::{Cause, Kind, KindStatus, OtlpStatus};
pub use names::{attributes_table, labels_table};

/// What was not sent at shutdown gets this long.
const FLUSH: Duration = Duration::from_secs(3);

/// Where telemetry is sent, and what of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpConfig {
    /// The collector; `None` for off.
    pub endpoint: Option<Uri>,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Headers of each request; their values are marked as sensitive.
    pub headers: HeaderMap,
    /// Authorities of its certificate; `None` for this machine's.
    pub ca: Option<PathBuf>,
    /// Attributes of everything, besides ours.
    pub resource: Vec<(String, String)>,
    /// How often metrics are sent.
    pub interval: Duration,
    /// Which buckets histograms have.
    pub histograms: Histograms,
    /// What is sent as logs.
    pub logs: Vec<LogKind>,
    /// How often a flow that goes on is told.
    pub flow_interval: Duration,
    /// Log records that may wait.
    pub queue_size: u32,
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// Protobuf over HTTP.
    Http,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 2] = [Self::Grpc, Self::Http];

    /// Returns OpenTelemetry's word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http/protobuf",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Which buckets histograms have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Histograms {
    /// Fixed bounds.
    Explicit,
    /// Widths that double every few buckets.
    Exponential,
}

/// What can be sent as logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogKind {
    /// Flows: their ends, and now and then what goes on.
    Flow,
    /// Every DNS exchange.
    Dns,
    /// Every TCP event but changes of state.
    Tcp,
    /// What happens to accelerators, and what is done with them.
    Gpu,
    /// Of DNS, TCP and accelerators what goes wrong, and what was lost.
    Alerts,
}

impl LogKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Flow, Self::Dns, Self::Tcp, Self::Gpu, Self::Alerts];

    /// Returns the word for it in settings.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Gpu => "gpu",
            Self::Alerts => "alerts",
        }
    }
}

/// An export that is ready and sends nothing yet.
#[derive(Debug)]
pub struct Otlp {
    config: OtlpConfig,
    node_name: String,
    store: StoreConfig,
    /// One for each kind: of two that wait for a connection, hyper tells only one why there is none.
    clients: [Client; Kind::ALL.len()],
    /// Made before anything is counted: its counters begin then.
    metrics: Metrics,
    pipeline: SharedPipeline,
    board: StatusBoard,
}

impl Otlp {
    /// Prepares what the settings ask for; `None` where they ask for nothing. The collector need not
    /// be there.
    ///
    /// # Errors
    /// [`AgentError::OtlpTls`] for authorities that cannot be used.
    pub fn build(
        config: &Config,
        pipeline: SharedPipeline,
        board: StatusBoard,
    ) -> Result<Option<Self>, AgentError> {
        let Some(endpoint) = &config.otlp.endpoint else { return Ok(None) };
        let client = || Client::build(endpoint, &config.otlp);
        let clients = [client()?, client()?];
        let status = OtlpStatus::new(config.otlp.protocol, endpoint);
        board.update(|all| all.otlp = Some(status));
        lock(&pipeline).set_collector_port(clients[0].port());
        let node_name = config.node_name.clone();
        let (store, config) = (config.store, config.otlp.clone());
        let metrics = Metrics::new(pipeline.clone(), board.clone());
        Ok(Some(Self { config, node_name, store, clients, metrics, pipeline, board }))
    }

    /// Starts to send. Call it within a runtime, when it is known whether there is Kubernetes.
    #[must_use]
    pub fn start(self) -> Export {
        let Self { config, node_name, store, clients, metrics, pipeline, board } = self;
        let in_kubernetes = board.read().kubernetes.state != KubernetesState::Off;
        let resource = Resource::new(&node_name, in_kubernetes, &config.resource);
        let health = Health::new(board.clone());
        let mut export = Export::default();

        let [for_metrics, for_logs] = clients;
        let (interval, histograms) = (config.interval, config.histograms);
        let sender = MetricSender {
            client: for_metrics,
            metrics,
            resource: resource.clone(),
            interval,
            histograms,
            health: health.clone(),
        };
        export.sending.spawn("metrics", &health, |stop| sender.run(stop));

        if !config.logs.is_empty() {
            let queue = Queue::new(config.queue_size);
            let sender = LogSender {
                client: for_logs,
                queue: queue.clone(),
                resource,
                health: health.clone(),
                give_up: GIVE_UP,
            };
            export.sending.spawn("logs", &health, |stop| sender.run(stop));
            let collector = Collector { config, store, pipeline, board, queue, health };
            collector.spawn(&mut export.collecting);
        }
        export
    }
}

/// A running export.
#[derive(Debug, Default)]
pub struct Export {
    collecting: Tasks,
    sending: Tasks,
}

impl Export {
    /// Takes in what happened until now, sends what it can within seconds, and ends.
    pub async fn stop(self) {
        let Self { collecting, sending } = self;
        collecting.stop().await;
        sending.stop().await;
    }
}

/// Tasks that end together.
#[derive(Debug, Default)]
struct Tasks {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Tasks {
    fn spawn<F>(
        &mut self,
        name: &'static str,
        health: &Health,
        work: impl FnOnce(CancellationToken) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let work = work(self.stop.clone()).instrument(info_span!("otlp", task = name));
        let (work, health) = (AbortOnDropHandle::new(tokio::spawn(work)), health.clone());
        self.tasks.spawn(async move {
            // An agent that counts and exports nothing is worth more than none, but must not look well.
            if let Err(error) = work.await {
                tracing::error!(%error, task = name, "a task of the export failed");
                health.broken(&error);
            }
        });
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
