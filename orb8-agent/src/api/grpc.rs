//! `orb8.v1.OrbitAgentService`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orb8_proto::v1;
use orb8_proto::v1::orbit_agent_service_server::OrbitAgentService;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::convert::{self, Converter};
use super::requests;
use super::stream::{
    DnsSelection, EventStream, FlowSelection, GpuSelection, Selection, Span, TcpSelection,
};
use crate::cost::OwnCost;
use crate::gpu::Board;
use crate::otlp::OtlpStatus;
use crate::pipeline::{
    Accounting, PastPage, Pipeline, PipelineTotals, SharedPipeline, Subscription, lock, query_past,
};
use crate::status::{Check, CheckState, EngineStatus, SourceState, SourceStatus, StatusBoard};
use crate::store::Query;

/// Whoever waits for the pipeline gets it in between.
const PAUSE: Duration = Duration::from_millis(1);

/// The service.
#[derive(Debug)]
pub(super) struct Agent {
    pipeline: SharedPipeline,
    board: StatusBoard,
    /// The last state of accelerators: who asks for it does not wait for the pipeline.
    gpu: Board,
    node_name: Arc<str>,
    started: Instant,
    /// Questions to the history that may be answered at once.
    past: Arc<Semaphore>,
    /// Ends the streams, which would never end by themselves.
    shutdown: CancellationToken,
}

impl Agent {
    pub(super) fn new(
        node_name: &str,
        pipeline: SharedPipeline,
        board: StatusBoard,
        shutdown: CancellationToken,
    ) -> Self {
        let gpu = lock(&pipeline).gpu();
        Self {
            gpu,
            pipeline,
            board,
            node_name: node_name.into(),
            started: Instant::now(),
            past: Arc::new(Semaphore::new(1)),
            shutdown,
        }
    }

    fn converter(&self) -> Converter {
        Converter::new(Arc::clone(&self.node_name), &self.board)
    }

    fn stream<S: Selection>(
        &self,
        selection: S,
        span: Span,
        subscription: Subscription<S::Event>,
    ) -> Response<EventStream<S>> {
        Response::new(EventStream::new(
            selection,
            span,
            subscription,
            self.converter(),
            self.board.clone(),
            self.shutdown.clone(),
        ))
    }

    /// Asks the history. One question at a time: what it adds up may be as large as the history.
    async fn query_past(
        &self,
        query: &Query,
        converter: &Converter,
    ) -> Result<Option<PastPage>, Status> {
        let turn = Arc::clone(&self.past).acquire_owned().await;
        let turn = turn.map_err(|_| Status::unavailable("the agent is shutting down"))?;
        let pipeline = Arc::clone(&self.pipeline);
        let (query, interfaces) = (query.clone(), Arc::clone(&converter.interfaces));
        let asked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            query_past(&pipeline, &query, &interfaces)
        });
        asked.await.map_err(|error| Status::internal(format!("the history failed: {error}")))
    }

    fn status(&self) -> v1::GetStatusResponse {
        // Exhaustive: what the engine knows, the answer tells.
        let EngineStatus {
            kernel,
            sources,
            is_starting: _,
            attachment,
            interfaces: _,
            checks,
            kernel_counters,
            rings,
            map_bytes,
            bpf_run,
            programs: _,
            dns,
            tcp,
            kubernetes,
            otlp,
            admin: _,
        } = self.board.read();
        let (totals, unknown) = {
            let pipeline = lock(&self.pipeline);
            (pipeline.totals(), unknown(&pipeline))
        };
        let otlp = otlp.as_ref().map(OtlpStatus::check);
        let PipelineTotals { events, flows, workloads, pods, subscribers, .. } = totals;
        let accounting = Accounting::new(&kernel_counters, &totals);
        let dropped = accounting.lost_moments + dns.lost + tcp.lost;
        v1::GetStatusResponse {
            node_name: self.node_name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            health: health(&sources, dropped, &accounting).into(),
            uptime_ns: u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
            active_flows: flows,
            events_processed: events,
            events_dropped: dropped,
            accounting: Some(convert::accounting(&accounting)),
            sources: sources.iter().map(convert::source).collect(),
            attachment: attachment.as_ref().map(convert::attachment),
            checks: checks.iter().chain(&unknown).chain(&otlp).map(convert::check).collect(),
            cost: Some(convert::cost(OwnCost::read(), map_bytes.total(), bpf_run.total())),
            kernel,
            rings: rings.iter().map(convert::ring).collect(),
            subscribers: u32::try_from(subscribers).unwrap_or(u32::MAX),
            workloads_known: workloads,
            pods_tracked: pods,
            kubernetes: Some(convert::kubernetes(&kubernetes)),
        }
    }
}

#[tonic::async_trait]
impl OrbitAgentService for Agent {
    type StreamEventsStream = EventStream<FlowSelection>;
    type StreamDnsStream = EventStream<DnsSelection>;
    type StreamTcpStream = EventStream<TcpSelection>;
    type StreamGpuStream = EventStream<GpuSelection>;

    async fn query_flows(
        &self,
        request: Request<v1::QueryFlowsRequest>,
    ) -> Result<Response<v1::QueryFlowsResponse>, Status> {
        let query = requests::flows(&request.into_inner())?;
        let converter = self.converter();
        let has_window = query.start.is_some() || query.end.is_some();
        let past = if has_window { self.query_past(&query, &converter).await? } else { None };
        let (page, totals) = {
            let mut pipeline = lock(&self.pipeline);
            let page = past.is_none().then(|| pipeline.query(&query, &converter.interfaces));
            (page, pipeline.totals())
        };
        let window = past.as_ref().map(|past| past.window);
        let reaches_back_to = past.as_ref().map(|past| past.reaches_back_to);
        let page = past.map(|past| past.page).or(page).unwrap_or_default();
        let accounting = Accounting::new(&self.board.read().kernel_counters, &totals);
        Ok(Response::new(v1::QueryFlowsResponse {
            flows: page.rows.iter().map(|row| converter.flow(row)).collect(),
            total_matched: page.total,
            accounting: Some(convert::accounting(&accounting)),
            window_start_ns: window.map(|window| window.start.0),
            window_end_ns: window.map(|window| window.end.0),
            history_start_ns: reaches_back_to.map(|time| time.0),
        }))
    }

    async fn stream_events(
        &self,
        request: Request<v1::StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let (selection, span) = requests::flow_events(&request.into_inner())?;
        let subscription = lock(&self.pipeline).subscribe();
        Ok(self.stream(selection, span, subscription))
    }

    async fn query_dns(
        &self,
        request: Request<v1::QueryDnsRequest>,
    ) -> Result<Response<v1::QueryDnsResponse>, Status> {
        let query = requests::dns(&request.into_inner())?;
        let page = lock(&self.pipeline).query_dns(&query);
        Ok(Response::new(v1::QueryDnsResponse {
            summaries: page.rows.iter().map(convert::dns_summary).collect(),
            total_matched: page.total,
            totals: Some(convert::dns_totals(&page.totals, &self.board.read().dns)),
        }))
    }

    async fn stream_dns(
        &self,
        request: Request<v1::StreamDnsRequest>,
    ) -> Result<Response<Self::StreamDnsStream>, Status> {
        let (selection, span) = requests::dns_events(&request.into_inner())?;
        let subscription = lock(&self.pipeline).subscribe_dns();
        Ok(self.stream(selection, span, subscription))
    }

    async fn query_tcp(
        &self,
        request: Request<v1::QueryTcpRequest>,
    ) -> Result<Response<v1::QueryTcpResponse>, Status> {
        let query = requests::tcp(&request.into_inner())?;
        let converter = self.converter();
        let (page, totals) = {
            let mut pipeline = lock(&self.pipeline);
            (pipeline.query_tcp(&query), pipeline.tcp_totals())
        };
        Ok(Response::new(v1::QueryTcpResponse {
            connections: page.rows.iter().map(|row| converter.connection(row)).collect(),
            total_matched: page.total,
            totals: Some(convert::tcp_totals(&totals, &self.board.read().tcp)),
        }))
    }

    async fn stream_tcp(
        &self,
        request: Request<v1::StreamTcpRequest>,
    ) -> Result<Response<Self::StreamTcpStream>, Status> {
        let (selection, span) = requests::tcp_events(&request.into_inner())?;
        let subscription = lock(&self.pipeline).subscribe_tcp();
        Ok(self.stream(selection, span, subscription))
    }

    async fn query_pods(
        &self,
        request: Request<v1::QueryPodsRequest>,
    ) -> Result<Response<v1::QueryPodsResponse>, Status> {
        let query = requests::pods(&request.into_inner())?;
        let converter = self.converter();
        let mut survey = lock(&self.pipeline).survey_pods();
        while !lock(&self.pipeline).describe_pods(&mut survey) {
            tokio::time::sleep(PAUSE).await;
        }
        let page = survey.page(&query);
        Ok(Response::new(v1::QueryPodsResponse {
            pods: page.rows.iter().map(|row| converter.pod(row)).collect(),
            total_matched: page.total,
            node_name: self.node_name.to_string(),
        }))
    }

    async fn query_workloads(
        &self,
        request: Request<v1::QueryWorkloadsRequest>,
    ) -> Result<Response<v1::QueryWorkloadsResponse>, Status> {
        let query = requests::workloads(&request.into_inner())?;
        let mut survey = lock(&self.pipeline).survey_workloads(query);
        while !lock(&self.pipeline).describe_workloads(&mut survey) {
            tokio::time::sleep(PAUSE).await;
        }
        let page = survey.page();
        Ok(Response::new(v1::QueryWorkloadsResponse {
            workloads: page.rows.iter().map(convert::workload_summary).collect(),
            total_matched: page.total,
            totals: Some(convert::workload_summary(&page.totals)),
            node_name: self.node_name.to_string(),
        }))
    }

    async fn query_gpu(
        &self,
        request: Request<v1::QueryGpuRequest>,
    ) -> Result<Response<v1::QueryGpuResponse>, Status> {
        let query = requests::gpu(&request.into_inner())?;
        let answer = self.converter().gpu(&self.gpu.read());
        query.select(answer).map(Response::new).map_err(requests::refuse)
    }

    async fn stream_gpu(
        &self,
        request: Request<v1::StreamGpuRequest>,
    ) -> Result<Response<Self::StreamGpuStream>, Status> {
        let (selection, span) = requests::gpu_events(&request.into_inner(), self.gpu.clone())?;
        let subscription = lock(&self.pipeline).subscribe_gpu();
        Ok(self.stream(selection, span, subscription))
    }

    async fn get_status(
        &self,
        _request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        Ok(Response::new(self.status()))
    }
}

/// What cannot be known at this moment, and why.
fn unknown(pipeline: &Pipeline) -> Vec<Check> {
    let problems = [
        ("owners", pipeline.identity_problem()),
        ("connection tracking", pipeline.translation_problem()),
    ];
    let check = |(name, problem): (&'static str, Option<&str>)| {
        let detail = problem?.to_owned();
        Some(Check { name, state: CheckState::Absent, detail, remedy: None })
    };
    problems.into_iter().filter_map(check).collect()
}

fn health(sources: &[SourceStatus], dropped: u64, accounting: &Accounting) -> v1::Health {
    let is_skipped = |state: &SourceState| matches!(state, SourceState::Skipped { .. });
    // Nothing runs while the agent starts.
    let is_missing = sources.is_empty() || sources.iter().any(|source| is_skipped(&source.state));
    let has_lost = accounting.lost.packets > 0 || dropped > 0;
    if is_missing || has_lost { v1::Health::Degraded } else { v1::Health::Ok }
}
