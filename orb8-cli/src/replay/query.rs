//! Answers from one snapshot.

use orb8_proto::filter::{DnsMatcher, FilterError, GpuQuery, Matcher, PodMatcher, TcpMatcher};
use orb8_proto::v1::{
    Pod, QueryDnsRequest, QueryDnsResponse, QueryFlowsRequest, QueryFlowsResponse, QueryGpuRequest,
    QueryGpuResponse, QueryPodsRequest, QueryPodsResponse, QueryTcpRequest, QueryTcpResponse,
};
use tonic::Status;

use super::order;

/// What an agent answers whose own traffic is not asked for as well.
const fn is_shown(self_traffic: bool, include: bool) -> bool {
    include || !self_traffic
}

pub(super) fn flows(
    request: &QueryFlowsRequest,
    recorded: &QueryFlowsResponse,
) -> Result<QueryFlowsResponse, Status> {
    let matcher = Matcher::new(&request.include, &request.exclude).map_err(refuse)?;
    let sort_by = read("sort_by", request.sort_by)?;
    let rows: Vec<_> = recorded
        .flows
        .iter()
        .filter(|flow| is_shown(flow.self_traffic, request.include_self_traffic))
        .filter(|flow| matcher.matches(*flow))
        .collect();
    let total_matched = rows.len() as u64;
    let rows =
        order::arrange(rows, request.ascending, request.limit, |row| order::flow(row, sort_by));
    Ok(QueryFlowsResponse {
        flows: rows.into_iter().cloned().collect(),
        total_matched,
        accounting: recorded.accounting,
        window_start_ns: recorded.window_start_ns,
        window_end_ns: recorded.window_end_ns,
        history_start_ns: recorded.history_start_ns,
    })
}

pub(super) fn dns(
    request: &QueryDnsRequest,
    recorded: &QueryDnsResponse,
) -> Result<QueryDnsResponse, Status> {
    let matcher = DnsMatcher::for_summaries(&request.include, &request.exclude).map_err(refuse)?;
    let sort_by = read("sort_by", request.sort_by)?;
    let rows: Vec<_> = recorded.summaries.iter().filter(|row| matcher.matches(*row)).collect();
    let total_matched = rows.len() as u64;
    let rows =
        order::arrange(rows, request.ascending, request.limit, |row| order::summary(row, sort_by));
    Ok(QueryDnsResponse {
        summaries: rows.into_iter().cloned().collect(),
        total_matched,
        totals: recorded.totals,
    })
}

pub(super) fn tcp(
    request: &QueryTcpRequest,
    recorded: &QueryTcpResponse,
) -> Result<QueryTcpResponse, Status> {
    let matcher =
        TcpMatcher::for_connections(&request.include, &request.exclude).map_err(refuse)?;
    let sort_by = read("sort_by", request.sort_by)?;
    let rows: Vec<_> = recorded
        .connections
        .iter()
        .filter(|row| is_shown(row.self_traffic, request.include_self_traffic))
        .filter(|row| matcher.matches(*row))
        .collect();
    let total_matched = rows.len() as u64;
    let rows = order::arrange(rows, request.ascending, request.limit, |row| {
        order::connection(row, sort_by)
    });
    Ok(QueryTcpResponse {
        connections: rows.into_iter().cloned().collect(),
        total_matched,
        totals: recorded.totals.clone(),
    })
}

/// Devices are recorded in their order.
pub(super) fn gpu(
    request: &QueryGpuRequest,
    recorded: &QueryGpuResponse,
) -> Result<QueryGpuResponse, Status> {
    GpuQuery::new(request).and_then(|query| query.select(recorded.clone())).map_err(refuse)
}

/// Pods are recorded in their order.
pub(super) fn pods(
    request: &QueryPodsRequest,
    recorded: &QueryPodsResponse,
) -> Result<QueryPodsResponse, Status> {
    let matcher = PodMatcher::new(&request.include, &request.exclude).map_err(refuse)?;
    let is_wanted = |pod: &&Pod| (pod.local || !request.local) && matcher.matches(*pod);
    let rows: Vec<_> = recorded.pods.iter().filter(is_wanted).collect();
    let total_matched = rows.len() as u64;
    let rows = order::arrange(rows, true, request.limit, |_| (0, ()));
    Ok(QueryPodsResponse {
        pods: rows.into_iter().cloned().collect(),
        total_matched,
        node_name: recorded.node_name.clone(),
    })
}

/// Reads an enum as the agent does.
pub(super) fn read<E: TryFrom<i32>>(field: &str, value: i32) -> Result<E, Status> {
    E::try_from(value)
        .map_err(|_| Status::invalid_argument(format!("{field}: {value} is none of its values")))
}

pub(super) fn refuse(error: FilterError) -> Status {
    Status::invalid_argument(error.to_string())
}
