//! An agent on a unix socket that answers from what a test gives it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orb8_proto::filter::{
    DnsMatcher, FilterError, GpuEventMatcher, GpuQuery, Matcher, OwnerMatcher, PodMatcher,
    TcpMatcher,
};
use orb8_proto::v1::orbit_agent_service_server::{OrbitAgentService, OrbitAgentServiceServer};
use orb8_proto::v1::{
    Accounting, DnsSummary, DnsTotals, Flow, GetStatusRequest, GetStatusResponse, Kubernetes, Pod,
    QueryDnsRequest, QueryDnsResponse, QueryFlowsRequest, QueryFlowsResponse, QueryGpuRequest,
    QueryGpuResponse, QueryPodsRequest, QueryPodsResponse, QueryTcpRequest, QueryTcpResponse,
    QueryWorkloadsRequest, QueryWorkloadsResponse, SourceStatus, StreamDnsRequest,
    StreamDnsResponse, StreamEventsRequest, StreamEventsResponse, StreamGpuRequest,
    StreamGpuResponse, StreamTcpRequest, StreamTcpResponse, TcpConnection, TcpTotals,
    stream_dns_response, stream_tcp_response,
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
pub(crate) struct Script {
    pub(crate) flows: Vec<Flow>,
    pub(crate) accounting: Accounting,
    pub(crate) events: Vec<StreamEventsResponse>,
    pub(crate) summaries: Vec<DnsSummary>,
    pub(crate) dns_totals: DnsTotals,
    pub(crate) exchanges: Vec<StreamDnsResponse>,
    pub(crate) connections: Vec<TcpConnection>,
    pub(crate) tcp_totals: TcpTotals,
    pub(crate) tcp_events: Vec<StreamTcpResponse>,
    pub(crate) gpu: QueryGpuResponse,
    pub(crate) gpu_events: Vec<StreamGpuResponse>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) workloads: QueryWorkloadsResponse,
    /// What it has of the Kubernetes API, unless it is the sample.
    pub(crate) kubernetes: Option<Kubernetes>,
    /// What comes after the events.
    pub(crate) end: End,
    /// What it says of its sources; empty for those that run.
    pub(crate) sources: Vec<SourceStatus>,
    /// Whether it has never heard of DNS and TCP.
    pub(crate) is_old: bool,
}

/// What it was asked.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(super) queries: Mutex<Vec<QueryFlowsRequest>>,
    pub(super) streams: Mutex<Vec<StreamEventsRequest>>,
    pub(super) dns_queries: Mutex<Vec<QueryDnsRequest>>,
    pub(super) dns_streams: Mutex<Vec<StreamDnsRequest>>,
    pub(super) tcp_queries: Mutex<Vec<QueryTcpRequest>>,
    pub(super) tcp_streams: Mutex<Vec<StreamTcpRequest>>,
    pub(super) gpu_queries: Mutex<Vec<QueryGpuRequest>>,
    pub(super) gpu_streams: Mutex<Vec<StreamGpuRequest>>,
    pub(super) pod_queries: Mutex<Vec<QueryPodsRequest>>,
    pub(super) workload_queries: Mutex<Vec<QueryWorkloadsRequest>>,
}

/// How a stream goes on when the events are used up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum End {
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
pub(crate) struct FakeAgent {
    dir: TempDir,
    pub(super) heard: Arc<Heard>,
}

impl FakeAgent {
    pub(crate) fn start(script: Script) -> Self {
        let agent = Self { dir: tempfile::tempdir().unwrap(), heard: Arc::default() };
        let service = Service { script, heard: Arc::clone(&agent.heard) };
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
        let service = Service { script, heard: Arc::default() };
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

    pub(crate) fn socket(&self) -> PathBuf {
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
    heard: Arc<Heard>,
}

type Messages<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

fn bad(error: FilterError) -> Status {
    Status::invalid_argument(error.to_string())
}

impl Service {
    /// Sends messages, and ends as the script says.
    async fn send<M: Send + 'static>(
        &self,
        messages: Vec<M>,
        no_follow: bool,
    ) -> Result<Response<Messages<M>>, Status> {
        let end = if no_follow { End::Ends } else { self.script.end };
        if matches!(end, End::Silent) {
            std::future::pending::<()>().await;
        }
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
        let messages = tokio_stream::iter(messages.into_iter().map(Ok));
        Ok(Response::new(Box::pin(messages.chain(rest.filter_map(|item| item)))))
    }

    fn knows_more_than_flows(&self) -> Result<(), Status> {
        if self.script.is_old { Err(Status::unimplemented("")) } else { Ok(()) }
    }
}

#[tonic::async_trait]
impl OrbitAgentService for Service {
    async fn query_flows(
        &self,
        request: Request<QueryFlowsRequest>,
    ) -> Result<Response<QueryFlowsResponse>, Status> {
        let request = request.into_inner();
        let matcher = Matcher::new(&request.include, &request.exclude).map_err(bad)?;
        let matched: Vec<Flow> =
            self.script.flows.iter().filter(|flow| matcher.matches(*flow)).cloned().collect();
        let answer = QueryFlowsResponse {
            total_matched: matched.len() as u64,
            flows: matched.into_iter().take(request.limit as usize).collect(),
            accounting: Some(self.script.accounting),
            ..QueryFlowsResponse::default()
        };
        self.heard.queries.lock().unwrap().push(request);
        Ok(Response::new(answer))
    }

    type StreamEventsStream = Messages<StreamEventsResponse>;

    async fn stream_events(
        &self,
        request: Request<StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let request = request.into_inner();
        let matcher = Matcher::new(&request.include, &request.exclude).map_err(bad)?;
        let wanted = |event: &&StreamEventsResponse| {
            event.flow.as_ref().is_none_or(|flow| matcher.matches(flow))
        };
        let events = self.script.events.iter().filter(wanted).cloned().collect();
        let no_follow = request.no_follow;
        self.heard.streams.lock().unwrap().push(request);
        self.send(events, no_follow).await
    }

    async fn query_dns(
        &self,
        request: Request<QueryDnsRequest>,
    ) -> Result<Response<QueryDnsResponse>, Status> {
        self.knows_more_than_flows()?;
        let request = request.into_inner();
        DnsMatcher::for_summaries(&request.include, &request.exclude).map_err(bad)?;
        let summaries = self.script.summaries.iter().take(request.limit as usize);
        let answer = QueryDnsResponse {
            summaries: summaries.cloned().collect(),
            total_matched: self.script.summaries.len() as u64,
            totals: Some(self.script.dns_totals),
        };
        self.heard.dns_queries.lock().unwrap().push(request);
        Ok(Response::new(answer))
    }

    type StreamDnsStream = Messages<StreamDnsResponse>;

    async fn stream_dns(
        &self,
        request: Request<StreamDnsRequest>,
    ) -> Result<Response<Self::StreamDnsStream>, Status> {
        self.knows_more_than_flows()?;
        let request = request.into_inner();
        let matcher = DnsMatcher::new(&request.include, &request.exclude).map_err(bad)?;
        let wanted = |message: &&StreamDnsResponse| match &message.event {
            Some(stream_dns_response::Event::Exchange(exchange)) => matcher.matches(exchange),
            Some(stream_dns_response::Event::Lost(_)) | None => true,
        };
        let messages = self.script.exchanges.iter().filter(wanted).cloned().collect();
        let no_follow = request.no_follow;
        self.heard.dns_streams.lock().unwrap().push(request);
        self.send(messages, no_follow).await
    }

    async fn query_tcp(
        &self,
        request: Request<QueryTcpRequest>,
    ) -> Result<Response<QueryTcpResponse>, Status> {
        self.knows_more_than_flows()?;
        let request = request.into_inner();
        let matcher =
            TcpMatcher::for_connections(&request.include, &request.exclude).map_err(bad)?;
        let matched: Vec<TcpConnection> =
            self.script.connections.iter().filter(|one| matcher.matches(*one)).cloned().collect();
        let answer = QueryTcpResponse {
            total_matched: matched.len() as u64,
            connections: matched.into_iter().take(request.limit as usize).collect(),
            totals: Some(self.script.tcp_totals.clone()),
        };
        self.heard.tcp_queries.lock().unwrap().push(request);
        Ok(Response::new(answer))
    }

    type StreamTcpStream = Messages<StreamTcpResponse>;

    async fn stream_tcp(
        &self,
        request: Request<StreamTcpRequest>,
    ) -> Result<Response<Self::StreamTcpStream>, Status> {
        self.knows_more_than_flows()?;
        let request = request.into_inner();
        let matcher = TcpMatcher::new(&request.include, &request.exclude).map_err(bad)?;
        let wanted = |message: &&StreamTcpResponse| match &message.event {
            Some(stream_tcp_response::Event::Tcp(event)) => matcher.matches(event),
            Some(stream_tcp_response::Event::Lost(_)) | None => true,
        };
        let messages = self.script.tcp_events.iter().filter(wanted).cloned().collect();
        let no_follow = request.no_follow;
        self.heard.tcp_streams.lock().unwrap().push(request);
        self.send(messages, no_follow).await
    }

    async fn query_pods(
        &self,
        request: Request<QueryPodsRequest>,
    ) -> Result<Response<QueryPodsResponse>, Status> {
        self.knows_more_than_flows()?;
        let request = request.into_inner();
        let matcher = PodMatcher::new(&request.include, &request.exclude).map_err(bad)?;
        let wanted = |pod: &&Pod| matcher.matches(*pod) && (pod.local || !request.local);
        let matched: Vec<Pod> = self.script.pods.iter().filter(wanted).cloned().collect();
        let answer = QueryPodsResponse {
            total_matched: matched.len() as u64,
            pods: matched.into_iter().take(request.limit as usize).collect(),
            node_name: "worker-1".into(),
        };
        self.heard.pod_queries.lock().unwrap().push(request);
        Ok(Response::new(answer))
    }

    async fn query_workloads(
        &self,
        request: Request<QueryWorkloadsRequest>,
    ) -> Result<Response<QueryWorkloadsResponse>, Status> {
        self.knows_more_than_flows()?;
        let request = request.into_inner();
        let matcher = OwnerMatcher::new(&request.include, &request.exclude).map_err(bad)?;
        let mut answer = self.script.workloads.clone();
        answer.workloads.retain(|workload| {
            let is_named = request.keys.is_empty() || request.keys.contains(&workload.key);
            is_named && matcher.matches(workload)
        });
        answer.total_matched = answer.workloads.len() as u64;
        answer.workloads.truncate(request.limit as usize);
        for workload in &mut answer.workloads {
            workload.peers.truncate(request.peers as usize);
        }
        self.heard.workload_queries.lock().unwrap().push(request);
        Ok(Response::new(answer))
    }

    async fn query_gpu(
        &self,
        request: Request<QueryGpuRequest>,
    ) -> Result<Response<QueryGpuResponse>, Status> {
        self.knows_more_than_flows()?;
        let request = request.into_inner();
        let query = GpuQuery::new(&request).map_err(bad)?;
        let answer = query.select(self.script.gpu.clone()).map_err(bad)?;
        self.heard.gpu_queries.lock().unwrap().push(request);
        Ok(Response::new(answer))
    }

    type StreamGpuStream = Messages<StreamGpuResponse>;

    async fn stream_gpu(
        &self,
        request: Request<StreamGpuRequest>,
    ) -> Result<Response<Self::StreamGpuStream>, Status> {
        self.knows_more_than_flows()?;
        let request = request.into_inner();
        let matcher = GpuEventMatcher::new(&request).map_err(bad)?;
        let wanted = |event: &&StreamGpuResponse| matcher.matches(event);
        let events = self.script.gpu_events.iter().filter(wanted).cloned().collect();
        let no_follow = request.no_follow;
        self.heard.gpu_streams.lock().unwrap().push(request);
        self.send(events, no_follow).await
    }

    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let mut status = samples::status();
        if !self.script.sources.is_empty() {
            status.sources.clone_from(&self.script.sources);
        }
        if self.script.kubernetes.is_some() {
            status.kubernetes.clone_from(&self.script.kubernetes);
        }
        Ok(Response::new(status))
    }
}
