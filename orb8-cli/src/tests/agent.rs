//! An agent on a unix socket that answers from what a test gives it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orb8_proto::filter::Matcher;
use orb8_proto::v1::orbit_agent_service_server::{OrbitAgentService, OrbitAgentServiceServer};
use orb8_proto::v1::{
    Accounting, Flow, GetStatusRequest, GetStatusResponse, QueryFlowsRequest, QueryFlowsResponse,
    StreamEventsRequest, StreamEventsResponse,
};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::ServerTlsConfig;
use tonic::{Request, Response, Status};

use super::samples;

/// What it answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    pub(super) flows: Vec<Flow>,
    pub(super) accounting: Accounting,
    pub(super) events: Vec<StreamEventsResponse>,
    /// What comes after the events.
    pub(super) end: End,
}

/// How a stream goes on when the events are used up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum End {
    /// It ends.
    #[default]
    Ends,
    /// It stays open.
    Stays,
    /// The agent shuts down.
    Fails,
    /// It does not even begin.
    Silent,
}

/// A running agent. It ends with the test's runtime.
pub(super) struct FakeAgent {
    dir: TempDir,
    pub(super) queries: Arc<Mutex<Vec<QueryFlowsRequest>>>,
    pub(super) streams: Arc<Mutex<Vec<StreamEventsRequest>>>,
}

impl FakeAgent {
    pub(super) fn start(script: Script) -> Self {
        let agent = Self {
            dir: tempfile::tempdir().unwrap(),
            queries: Arc::default(),
            streams: Arc::default(),
        };
        let service = Service {
            script,
            queries: Arc::clone(&agent.queries),
            streams: Arc::clone(&agent.streams),
        };
        let listener = UnixListener::bind(agent.socket()).unwrap();
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(OrbitAgentServiceServer::new(service))
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        agent
    }

    /// Listens on loopback with TLS, for clients that its authority knows.
    pub(super) async fn start_tls(script: Script, tls: ServerTlsConfig) -> SocketAddr {
        let service = Service { script, queries: Arc::default(), streams: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = tonic::transport::Server::builder().tls_config(tls).unwrap();
        tokio::spawn(
            server
                .add_service(OrbitAgentServiceServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        address
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    /// Returns a command line that asks this agent.
    pub(super) fn ask(&self, command: &str) -> String {
        line(&self.socket(), command)
    }
}

pub(super) fn line(socket: &Path, command: &str) -> String {
    format!("--agent unix:{} {command}", socket.display())
}

struct Service {
    script: Script,
    queries: Arc<Mutex<Vec<QueryFlowsRequest>>>,
    streams: Arc<Mutex<Vec<StreamEventsRequest>>>,
}

#[tonic::async_trait]
impl OrbitAgentService for Service {
    async fn query_flows(
        &self,
        request: Request<QueryFlowsRequest>,
    ) -> Result<Response<QueryFlowsResponse>, Status> {
        let request = request.into_inner();
        let matcher = Matcher::new(&request.include, &request.exclude)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let matched: Vec<Flow> =
            self.script.flows.iter().filter(|flow| matcher.matches(*flow)).cloned().collect();
        let answer = QueryFlowsResponse {
            total_matched: matched.len() as u64,
            flows: matched.into_iter().take(request.limit as usize).collect(),
            accounting: Some(self.script.accounting),
        };
        self.queries.lock().unwrap().push(request);
        Ok(Response::new(answer))
    }

    type StreamEventsStream =
        Pin<Box<dyn Stream<Item = Result<StreamEventsResponse, Status>> + Send>>;

    async fn stream_events(
        &self,
        request: Request<StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let request = request.into_inner();
        let matcher = Matcher::new(&request.include, &request.exclude)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let events = self
            .script
            .events
            .clone()
            .into_iter()
            .filter(move |event| event.flow.as_ref().is_none_or(|flow| matcher.matches(flow)));
        let end = if request.no_follow { End::Ends } else { self.script.end };
        self.streams.lock().unwrap().push(request);
        if matches!(end, End::Silent) {
            std::future::pending::<()>().await;
        }
        let events = tokio_stream::iter(events.map(Ok));
        let rest = tokio_stream::once(()).then(move |()| async move {
            match end {
                End::Ends | End::Silent => None,
                End::Stays => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    None
                }
                End::Fails => Some(Err(Status::unavailable("the agent is shutting down"))),
            }
        });
        Ok(Response::new(Box::pin(events.chain(rest.filter_map(|item| item)))))
    }

    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(samples::status()))
    }
}
