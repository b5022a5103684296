//! The agent's API: gRPC over TCP, a unix socket or in-process, and admin pages over HTTP.
//!
//! ```text
//! tcp (TLS, mTLS) ─┐
//! unix socket ─────┼─▶ OrbitAgentService, health, reflection ──▶ pipeline, status board
//! in-process ──────┘
//! http ─────────────▶ /livez /readyz /metrics ─────────────────▶ pipeline, status board
//! ```

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use orb8_proto::v1::orbit_agent_service_server::OrbitAgentServiceServer;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::{StreamExt, wrappers::UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::{Instrument, info, info_span};

use crate::config::Config;
use crate::error::AgentError;
use crate::metrics::Metrics;
use crate::pipeline::{SharedPipeline, lock};
use crate::status::StatusBoard;
use admin::{Admin, AdminServer};
use grpc::Agent;
use listen::{Listeners, UnixSocket};

mod admin;
mod convert;
mod grpc;
mod listen;
mod requests;
mod stream;
mod tls;

pub use listen::Bound;
pub(crate) use listen::{grpc as listen_grpc, local_address};

/// Connections that are open at shutdown get this long to finish.
const GRACE: Duration = Duration::from_secs(3);

/// Bytes on their way inside the process.
const IN_PROCESS_BUFFER: usize = 256 * 1024;

/// Who may ask, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiConfig {
    /// Address of the gRPC API; `None` for off.
    pub listen: Option<SocketAddr>,
    /// Address of the API that Hubble's clients speak (see [`crate::hubble`]); `None` for off.
    pub hubble: Option<SocketAddr>,
    /// Address of metrics and health over HTTP; `None` for off.
    pub admin: Option<SocketAddr>,
    /// Path of the gRPC API's unix socket; `None` for off.
    pub socket: Option<PathBuf>,
    /// Files for TLS; `None` for clear text.
    pub tls: Option<TlsFiles>,
    /// Whether accelerators' metrics have dcgm-exporter's names too.
    pub dcgm_names: bool,
}

/// PEM files for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Authorities of client certificates; mTLS where given.
    pub client_ca: Option<PathBuf>,
}

/// The API's tasks. Each ends after the token of [`Api::run`] is cancelled, or with an error.
pub type Tasks = JoinSet<Result<(), AgentError>>;

/// An API whose listeners are bound and that does not answer yet.
#[derive(Debug)]
pub struct Api {
    node_name: String,
    pipeline: SharedPipeline,
    board: StatusBoard,
    listeners: Listeners,
    dcgm_names: bool,
    /// Connections of this process.
    in_process: Vec<DuplexStream>,
}

impl Api {
    /// Binds every listener, and tells the pipeline which ports are the agent's own.
    ///
    /// # Errors
    ///
    /// An address or socket that is in use or cannot be bound, or TLS files that cannot be used.
    pub async fn build(
        config: &Config,
        pipeline: SharedPipeline,
        board: StatusBoard,
    ) -> Result<Self, AgentError> {
        let listeners = Listeners::bind(&config.api).await?;
        let Bound { listen, admin, .. } = listeners.bound;
        let ports = [listen, admin].into_iter().flatten().map(|at| at.port());
        lock(&pipeline).set_own_ports(ports.collect());
        Ok(Self { listeners, ..Self::without_listeners(config, pipeline, board) })
    }

    /// Answers this process only, whatever the configuration says of listeners.
    #[must_use]
    pub fn without_listeners(
        config: &Config,
        pipeline: SharedPipeline,
        board: StatusBoard,
    ) -> Self {
        Self {
            node_name: config.node_name.clone(),
            pipeline,
            board,
            listeners: Listeners::default(),
            dcgm_names: config.api.dcgm_names,
            in_process: Vec::new(),
        }
    }

    /// Returns where it listens.
    #[must_use]
    pub fn bound(&self) -> &Bound {
        &self.listeners.bound
    }

    /// Connects this process. What is asked before [`Api::run`] waits for it.
    pub fn connect(&mut self) -> Channel {
        let (client, server) = tokio::io::duplex(IN_PROCESS_BUFFER);
        self.in_process.push(server);
        let mut client = Some(TokioIo::new(client));
        let connector = tower::service_fn(move |_| {
            let gone = || std::io::Error::other("the agent in this process has stopped");
            std::future::ready(client.take().ok_or_else(gone))
        });
        // The name goes nowhere: the connector has the connection.
        Endpoint::from_static("http://in-process").connect_with_connector_lazy(connector)
    }

    /// Answers until `shutdown` is cancelled.
    #[must_use]
    pub fn run(self, shutdown: &CancellationToken) -> Tasks {
        let mut tasks = Tasks::new();
        let routes = self.routes(shutdown, &mut tasks);
        let Self { node_name, pipeline, board, listeners, dcgm_names, in_process } = self;
        let Listeners { grpc, admin, socket, bound } = listeners;
        let stop = || shutdown.clone().cancelled_owned();
        if let Some((mut server, listener)) = grpc {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let serve =
                server.add_routes(routes.clone()).serve_with_incoming_shutdown(incoming, stop());
            spawn(&mut tasks, "grpc", shutdown, async { serve.await.map_err(AgentError::Serve) });
        }
        if let Some(UnixSocket { listener, file }) = socket {
            let serve = Server::builder()
                .add_routes(routes.clone())
                .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop());
            spawn(&mut tasks, "socket", shutdown, async move {
                let _file = file;
                serve.await.map_err(AgentError::Serve)
            });
        }
        if !in_process.is_empty() {
            // Never ends: the server would close its connections with it.
            let incoming = tokio_stream::iter(in_process.into_iter().map(std::io::Result::Ok))
                .chain(tokio_stream::pending());
            let serve =
                Server::builder().add_routes(routes).serve_with_incoming_shutdown(incoming, stop());
            spawn(&mut tasks, "in_process", shutdown, async {
                serve.await.map_err(AgentError::Serve)
            });
        }
        if let Some(listener) = admin {
            let mut metrics = Metrics::new(pipeline, board.clone());
            if dcgm_names {
                metrics = metrics.with_dcgm_names(&node_name);
            }
            let pages = Admin::new(metrics, board.clone()).router();
            let serve = AdminServer::new(listener, pages, board).run(shutdown.clone());
            spawn(&mut tasks, "admin", shutdown, serve);
        }
        if bound != Bound::default() {
            info!(?bound, "listening");
        }
        tasks
    }

    /// The services, with the task that keeps gRPC health in step with readiness.
    fn routes(&self, shutdown: &CancellationToken, tasks: &mut Tasks) -> Routes {
        let agent = Agent::new(
            &self.node_name,
            self.pipeline.clone(),
            self.board.clone(),
            shutdown.clone(),
        );
        let (reporter, health) = tonic_health::server::health_reporter();
        let names = &[OrbitAgentServiceServer::<Agent>::NAME];
        let follow = follow_readiness(names, reporter, self.board.readiness(), shutdown.clone());
        spawn(tasks, "health", shutdown, follow);
        let routes = Routes::new(OrbitAgentServiceServer::new(agent)).add_service(health);
        with_reflection(routes, orb8_proto::FILE_DESCRIPTOR_SET)
    }
}

/// Adds what tells clients of the services, of which `descriptors` are all but health.
pub(crate) fn with_reflection(routes: Routes, descriptors: &'static [u8]) -> Routes {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Most clients still ask by the older name.
    match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "reflection is off: the built-in descriptors do not parse");
            routes
        }
    }
}

/// Reports services as serving while the agent is ready, until `shutdown` is cancelled. It sleeps
/// while nothing changes.
pub(crate) async fn follow_readiness(
    services: &'static [&'static str],
    reporter: HealthReporter,
    mut readiness: watch::Receiver<bool>,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    let tell = async |status: ServingStatus| {
        for service in services {
            reporter.set_service_status(service, status).await;
        }
    };
    loop {
        let is_ready = *readiness.borrow_and_update();
        tell(if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
        let changed = tokio::select! {
            () = shutdown.cancelled() => false,
            changed = readiness.changed() => changed.is_ok(),
        };
        if !changed {
            break;
        }
    }
    tell(ServingStatus::NotServing).await;
    Ok(())
}

/// Spawns a task that ends by itself soon after `shutdown`, or is ended then.
pub(crate) fn spawn(
    tasks: &mut Tasks,
    name: &'static str,
    shutdown: &CancellationToken,
    work: impl Future<Output = Result<(), AgentError>> + Send + 'static,
) {
    let shutdown = shutdown.clone();
    let overdue = async move {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    let work = async move {
        tokio::select! {
            result = work => result,
            () = overdue => Ok(()),
        }
    };
    tasks.spawn(work.instrument(info_span!("api", task = name)));
}

#[cfg(test)]
mod tests;
