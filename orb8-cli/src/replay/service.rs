//! `orb8.v1.OrbitAgentService` over a recording.

use std::io;
use std::sync::Arc;

use orb8_proto::filter::{DnsMatcher, GpuEventMatcher, Matcher, TcpMatcher};
use orb8_proto::v1::orbit_agent_service_server::OrbitAgentService;
use orb8_proto::v1::{
    EventKind, GetStatusRequest, GetStatusResponse, QueryDnsRequest, QueryDnsResponse,
    QueryFlowsRequest, QueryFlowsResponse, QueryGpuRequest, QueryGpuResponse, QueryPodsRequest,
    QueryPodsResponse, QueryTcpRequest, QueryTcpResponse, QueryWorkloadsRequest,
    QueryWorkloadsResponse, SourceState, StreamDnsRequest, StreamDnsResponse, StreamEventsRequest,
    StreamEventsResponse, StreamGpuRequest, StreamGpuResponse, StreamTcpRequest, StreamTcpResponse,
    stream_dns_response, stream_tcp_response,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::archive::{Archive, Snapshot};
use super::clock::Clock;
use super::query::{read, refuse};
use super::stream::{Span, stream};
use super::{past, query, workloads};

/// The service.
pub(super) struct Service {
    archive: Arc<Archive>,
    clock: Clock,
}

type Events<E> = ReceiverStream<Result<E, Status>>;

impl Service {
    pub(super) const fn new(archive: Arc<Archive>, clock: Clock) -> Self {
        Self { archive, clock }
    }

    /// Reads where that holds up nobody.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Archive) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        let archive = Arc::clone(&self.archive);
        let done = tokio::task::spawn_blocking(move || work(&archive)).await;
        let done = done.map_err(|error| Status::internal(error.to_string()))?;
        done.map_err(|error| Status::data_loss(error.to_string()))
    }

    /// Returns what the queries answered by now.
    async fn snapshot(&self) -> Result<Arc<Snapshot>, Status> {
        let now = self.clock.now();
        let found = self.read(move |archive| archive.snapshot(now)).await?;
        found.ok_or_else(|| {
            Status::invalid_argument(
                "the recording has no answers to queries: it was cut off before the first; \
                 `orb8 trace` shows the events that it has",
            )
        })
    }

    /// Whether a signal is in the recording. One that did not run is not, and has nothing to tell; one
    /// that was left out is refused.
    async fn has_signal(&self, signal: &str) -> Result<bool, Status> {
        let recorded = self.archive.signals();
        if recorded.iter().any(|name| name == signal) {
            return Ok(true);
        }
        let status = self.snapshot().await.ok().and_then(|snapshot| snapshot.status.clone());
        let ran = status.is_some_and(|status| {
            let sources = &status.sources;
            let running = |state| state == SourceState::Running;
            sources.iter().any(|source| source.name == signal && running(source.state()))
        });
        match ran {
            true => Err(Status::invalid_argument(format!(
                "the recording has no {signal}: it was made with --signals {}",
                recorded.join(",")
            ))),
            false => Ok(false),
        }
    }
}

#[tonic::async_trait]
impl OrbitAgentService for Service {
    type StreamEventsStream = Events<StreamEventsResponse>;
    type StreamDnsStream = Events<StreamDnsResponse>;
    type StreamTcpStream = Events<StreamTcpResponse>;
    type StreamGpuStream = Events<StreamGpuResponse>;

    async fn query_flows(
        &self,
        request: Request<QueryFlowsRequest>,
    ) -> Result<Response<QueryFlowsResponse>, Status> {
        let request = request.into_inner();
        self.has_signal("flow").await?;
        let snapshot = self.snapshot().await;
        if request.start_time_ns.is_none() && request.end_time_ns.is_none() {
            let recorded = snapshot?;
            let none = QueryFlowsResponse::default();
            let recorded = recorded.flows.as_ref().unwrap_or(&none);
            return query::flows(&request, recorded).map(Response::new);
        }
        let now = self.clock.now();
        let end = request.end_time_ns.map_or(now, |end| end.min(now));
        let window = (request.start_time_ns, Some(end));
        let mut recorded = self.read(move |archive| past::flows(archive, window)).await?;
        let flows = snapshot.ok();
        recorded.accounting = flows.and_then(|snapshot| snapshot.flows.as_ref()?.accounting);
        query::flows(&request, &recorded).map(Response::new)
    }

    async fn stream_events(
        &self,
        request: Request<StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let request = request.into_inner();
        let matcher = Matcher::new(&request.include, &request.exclude).map_err(refuse)?;
        let kinds: Vec<EventKind> =
            request.kinds.iter().map(|kind| read("kinds", *kind)).collect::<Result<_, _>>()?;
        let span = Span::new(request.last, request.since_time_ns, request.no_follow);
        self.has_signal("flow").await?;
        let include_self = request.include_self_traffic;
        let wanted = move |event: &StreamEventsResponse| {
            let kind = event.kind();
            let is_kind = match kinds.is_empty() {
                true => kind != EventKind::FlowClosing,
                false => kinds.contains(&kind),
            };
            let is_wanted = |flow| matcher.matches(flow);
            is_kind
                && event
                    .flow
                    .as_ref()
                    .is_none_or(|flow| (include_self || !flow.self_traffic) && is_wanted(flow))
        };
        let events = stream(Arc::clone(&self.archive), self.clock.clone(), span, wanted);
        Ok(Response::new(events))
    }

    async fn query_dns(
        &self,
        request: Request<QueryDnsRequest>,
    ) -> Result<Response<QueryDnsResponse>, Status> {
        self.has_signal("dns").await?;
        let snapshot = self.snapshot().await?;
        let none = QueryDnsResponse::default();
        let recorded = snapshot.dns.as_ref().unwrap_or(&none);
        query::dns(&request.into_inner(), recorded).map(Response::new)
    }

    async fn stream_dns(
        &self,
        request: Request<StreamDnsRequest>,
    ) -> Result<Response<Self::StreamDnsStream>, Status> {
        let request = request.into_inner();
        let matcher = DnsMatcher::new(&request.include, &request.exclude).map_err(refuse)?;
        let span = Span::new(request.last, request.since_time_ns, request.no_follow);
        self.has_signal("dns").await?;
        let wanted = move |event: &StreamDnsResponse| match &event.event {
            Some(stream_dns_response::Event::Exchange(exchange)) => matcher.matches(exchange),
            Some(stream_dns_response::Event::Lost(_)) | None => true,
        };
        let events = stream(Arc::clone(&self.archive), self.clock.clone(), span, wanted);
        Ok(Response::new(events))
    }

    async fn query_tcp(
        &self,
        request: Request<QueryTcpRequest>,
    ) -> Result<Response<QueryTcpResponse>, Status> {
        self.has_signal("tcp").await?;
        let snapshot = self.snapshot().await?;
        let none = QueryTcpResponse::default();
        let recorded = snapshot.tcp.as_ref().unwrap_or(&none);
        query::tcp(&request.into_inner(), recorded).map(Response::new)
    }

    async fn stream_tcp(
        &self,
        request: Request<StreamTcpRequest>,
    ) -> Result<Response<Self::StreamTcpStream>, Status> {
        let request = request.into_inner();
        let matcher = TcpMatcher::new(&request.include, &request.exclude).map_err(refuse)?;
        let span = Span::new(request.last, request.since_time_ns, request.no_follow);
        self.has_signal("tcp").await?;
        let include_self = request.include_self_traffic;
        let wanted = move |event: &StreamTcpResponse| match &event.event {
            Some(stream_tcp_response::Event::Tcp(event)) => {
                (include_self || !event.self_traffic) && matcher.matches(event)
            }
            Some(stream_tcp_response::Event::Lost(_)) | None => true,
        };
        let events = stream(Arc::clone(&self.archive), self.clock.clone(), span, wanted);
        Ok(Response::new(events))
    }

    async fn query_pods(
        &self,
        request: Request<QueryPodsRequest>,
    ) -> Result<Response<QueryPodsResponse>, Status> {
        let snapshot = self.snapshot().await?;
        let none = QueryPodsResponse::default();
        let recorded = snapshot.pods.as_ref().unwrap_or(&none);
        query::pods(&request.into_inner(), recorded).map(Response::new)
    }

    async fn query_workloads(
        &self,
        request: Request<QueryWorkloadsRequest>,
    ) -> Result<Response<QueryWorkloadsResponse>, Status> {
        let request = request.into_inner();
        let group = read("group_by", request.group_by)?;
        let snapshot = self.snapshot().await?;
        let none = QueryWorkloadsResponse::default();
        let recorded = snapshot.workloads(group).unwrap_or(&none);
        workloads::workloads(&request, recorded).map(Response::new)
    }

    async fn query_gpu(
        &self,
        request: Request<QueryGpuRequest>,
    ) -> Result<Response<QueryGpuResponse>, Status> {
        self.has_signal("gpu").await?;
        let snapshot = self.snapshot().await?;
        let none = QueryGpuResponse::default();
        let recorded = snapshot.gpu.as_ref().unwrap_or(&none);
        query::gpu(&request.into_inner(), recorded).map(Response::new)
    }

    async fn stream_gpu(
        &self,
        request: Request<StreamGpuRequest>,
    ) -> Result<Response<Self::StreamGpuStream>, Status> {
        let request = request.into_inner();
        let matcher = GpuEventMatcher::new(&request).map_err(refuse)?;
        let span = Span::new(request.last, request.since_time_ns, request.no_follow);
        self.has_signal("gpu").await?;
        let wanted = move |event: &StreamGpuResponse| matcher.matches(event);
        let events = stream(Arc::clone(&self.archive), self.clock.clone(), span, wanted);
        Ok(Response::new(events))
    }

    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let snapshot = self.snapshot().await?;
        let unknown = || GetStatusResponse {
            node_name: self.archive.node_name().to_owned(),
            ..GetStatusResponse::default()
        };
        Ok(Response::new(snapshot.status.clone().unwrap_or_else(unknown)))
    }
}
