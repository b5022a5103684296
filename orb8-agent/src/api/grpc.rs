//! `orb8.v1.OrbitAgentService`.

use std::sync::Arc;
use std::time::Instant;

use orb8_proto::filter::{FilterError, Matcher};
use orb8_proto::v1;
use orb8_proto::v1::orbit_agent_service_server::OrbitAgentService;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::convert::{self, Converter};
use super::stream::{EventStream, Past, Selection};
use crate::cost::OwnCost;
use crate::event::UnixNanos;
use crate::pipeline::{Accounting, PipelineTotals, SharedPipeline, lock};
use crate::status::{Check, CheckState, EngineStatus, SourceState, StatusBoard};
use crate::store::{Query, SortKey};

/// Flows returned when a query does not say how many.
const DEFAULT_LIMIT: usize = 100;

/// The service.
#[derive(Debug)]
pub(super) struct Agent {
    pipeline: SharedPipeline,
    board: StatusBoard,
    node_name: Arc<str>,
    started: Instant,
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
        Self { pipeline, board, node_name: node_name.into(), started: Instant::now(), shutdown }
    }

    fn converter(&self) -> Converter {
        Converter::new(Arc::clone(&self.node_name), &self.board)
    }

    fn status(&self) -> v1::GetStatusResponse {
        // Exhaustive: what the engine knows, the answer tells.
        let EngineStatus {
            kernel,
            sources,
            attachment,
            interfaces: _,
            checks,
            kernel_counters,
            rings,
            map_bytes,
            bpf_run,
        } = self.board.read();
        let (totals, problem) = {
            let pipeline = lock(&self.pipeline);
            (pipeline.totals(), pipeline.identity_problem().map(str::to_owned))
        };
        let owners = problem.map(|detail| Check {
            name: "owners",
            state: CheckState::Absent,
            detail,
            remedy: None,
        });
        let PipelineTotals { events, flows, workloads, pods, subscribers, .. } = totals;
        let accounting = Accounting::new(&kernel_counters, &totals);
        v1::GetStatusResponse {
            node_name: self.node_name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            health: health(&sources, &accounting).into(),
            uptime_ns: u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
            active_flows: flows,
            events_processed: events,
            events_dropped: accounting.lost_moments,
            accounting: Some(convert::accounting(&accounting)),
            sources: sources.iter().map(convert::source).collect(),
            attachment: attachment.as_ref().map(convert::attachment),
            checks: checks.iter().chain(&owners).map(convert::check).collect(),
            cost: Some(convert::cost(OwnCost::read(), map_bytes, bpf_run)),
            kernel,
            rings: rings.iter().map(convert::ring).collect(),
            subscribers: u32::try_from(subscribers).unwrap_or(u32::MAX),
            workloads_known: workloads,
            pods_tracked: pods,
        }
    }
}

#[tonic::async_trait]
impl OrbitAgentService for Agent {
    type StreamEventsStream = EventStream;

    async fn query_flows(
        &self,
        request: Request<v1::QueryFlowsRequest>,
    ) -> Result<Response<v1::QueryFlowsResponse>, Status> {
        let query = query(&request.into_inner())?;
        let converter = self.converter();
        let (page, totals) = {
            let pipeline = lock(&self.pipeline);
            (pipeline.query(&query, &converter.interfaces), pipeline.totals())
        };
        let accounting = Accounting::new(&self.board.read().kernel_counters, &totals);
        Ok(Response::new(v1::QueryFlowsResponse {
            flows: page.rows.iter().map(|row| converter.flow(row)).collect(),
            total_matched: page.total,
            accounting: Some(convert::accounting(&accounting)),
        }))
    }

    async fn stream_events(
        &self,
        request: Request<v1::StreamEventsRequest>,
    ) -> Result<Response<EventStream>, Status> {
        let selection = selection(&request.into_inner())?;
        let subscription = lock(&self.pipeline).subscribe();
        Ok(Response::new(EventStream::new(
            selection,
            subscription,
            self.converter(),
            self.board.clone(),
            self.shutdown.clone(),
        )))
    }

    async fn get_status(
        &self,
        _request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        Ok(Response::new(self.status()))
    }
}

fn query(request: &v1::QueryFlowsRequest) -> Result<Query, Status> {
    let sort = match v1::SortBy::try_from(request.sort_by) {
        Ok(v1::SortBy::Unspecified | v1::SortBy::Bytes) => SortKey::Bytes,
        Ok(v1::SortBy::Packets) => SortKey::Packets,
        Ok(v1::SortBy::LastSeen) => SortKey::LastSeen,
        Ok(v1::SortBy::FirstSeen) => SortKey::FirstSeen,
        Ok(v1::SortBy::Rate) => SortKey::Rate,
        Err(_) => {
            let sort = request.sort_by;
            return Err(Status::invalid_argument(format!("sort_by: {sort} is none of its values")));
        }
    };
    Ok(Query {
        matcher: matcher(&request.include, &request.exclude)?,
        include_self_traffic: request.include_self_traffic,
        start: request.start_time_ns.map(UnixNanos),
        end: request.end_time_ns.map(UnixNanos),
        sort,
        ascending: request.ascending,
        limit: match request.limit {
            0 => DEFAULT_LIMIT,
            limit => limit as usize,
        },
    })
}

fn selection(request: &v1::StreamEventsRequest) -> Result<Selection, Status> {
    let kind = |kind: &i32| {
        v1::EventKind::try_from(*kind)
            .ok()
            .filter(|kind| *kind != v1::EventKind::Unspecified)
            .ok_or_else(|| Status::invalid_argument(format!("kinds: {kind} is none of its values")))
    };
    Ok(Selection {
        matcher: matcher(&request.include, &request.exclude)?,
        include_self_traffic: request.include_self_traffic,
        kinds: request.kinds.iter().map(kind).collect::<Result<_, _>>()?,
        past: Past::new(request.last, request.since_time_ns),
        follow: !request.no_follow,
    })
}

fn matcher(include: &[v1::FlowFilter], exclude: &[v1::FlowFilter]) -> Result<Matcher, Status> {
    Matcher::new(include, exclude)
        .map_err(|error: FilterError| Status::invalid_argument(error.to_string()))
}

fn health(sources: &[crate::status::SourceStatus], accounting: &Accounting) -> v1::Health {
    let is_skipped = |state: &SourceState| matches!(state, SourceState::Skipped { .. });
    // Nothing runs while the agent starts.
    let is_missing = sources.is_empty() || sources.iter().any(|source| is_skipped(&source.state));
    let has_lost = accounting.lost.packets > 0 || accounting.lost_moments > 0;
    if is_missing || has_lost { v1::Health::Degraded } else { v1::Health::Ok }
}
