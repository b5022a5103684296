//! What clients ask for → what the agent looks for. What cannot be understood is refused, and named.

use orb8_proto::filter::{
    DnsMatcher, FilterError, GpuEventMatcher, GpuQuery, Matcher, OwnerMatcher, PodMatcher,
    TcpMatcher,
};
use orb8_proto::v1;
use tonic::Status;

use super::stream::{DnsSelection, FlowSelection, GpuSelection, Span, TcpSelection};
use crate::event::UnixNanos;
use crate::gpu::Board;
use crate::pipeline::{PodQuery, WorkloadGroup, WorkloadQuery, WorkloadSort};
use crate::store::dns::{DnsQuery, DnsSort};
use crate::store::tcp::{TcpQuery, TcpSort};
use crate::store::{Query, SortKey};

/// Rows returned when a query does not say how many.
const DEFAULT_LIMIT: usize = 100;

/// Rows returned at most: more than people read, and some 50 MiB of flows.
const MAX_LIMIT: usize = 100_000;

/// Peers returned of each workload at most.
const MAX_PEERS: usize = 1_000;

pub(super) fn flows(request: &v1::QueryFlowsRequest) -> Result<Query, Status> {
    let sort = match read("sort_by", request.sort_by)? {
        v1::SortBy::Unspecified | v1::SortBy::Bytes => SortKey::Bytes,
        v1::SortBy::Packets => SortKey::Packets,
        v1::SortBy::LastSeen => SortKey::LastSeen,
        v1::SortBy::FirstSeen => SortKey::FirstSeen,
        v1::SortBy::Rate => SortKey::Rate,
    };
    Ok(Query {
        matcher: Matcher::new(&request.include, &request.exclude).map_err(refuse)?,
        include_self_traffic: request.include_self_traffic,
        start: request.start_time_ns.map(UnixNanos),
        end: request.end_time_ns.map(UnixNanos),
        sort,
        ascending: request.ascending,
        limit: limit(request.limit),
    })
}

pub(super) fn flow_events(
    request: &v1::StreamEventsRequest,
) -> Result<(FlowSelection, Span), Status> {
    let kind = |kind: &i32| match read("kinds", *kind)? {
        v1::EventKind::Unspecified => Err(no_value("kinds", *kind)),
        kind => Ok(kind),
    };
    let selection = FlowSelection {
        matcher: Matcher::new(&request.include, &request.exclude).map_err(refuse)?,
        include_self_traffic: request.include_self_traffic,
        kinds: request.kinds.iter().map(kind).collect::<Result<_, _>>()?,
    };
    Ok((selection, Span::new(request.last, request.since_time_ns, request.no_follow)))
}

pub(super) fn dns(request: &v1::QueryDnsRequest) -> Result<DnsQuery, Status> {
    let sort = match read("sort_by", request.sort_by)? {
        v1::DnsSortBy::Unspecified | v1::DnsSortBy::Queries => DnsSort::Queries,
        v1::DnsSortBy::Errors => DnsSort::Errors,
        v1::DnsSortBy::Timeouts => DnsSort::Timeouts,
        v1::DnsSortBy::Latency => DnsSort::Latency,
        v1::DnsSortBy::LastSeen => DnsSort::LastSeen,
    };
    Ok(DnsQuery {
        matcher: DnsMatcher::for_summaries(&request.include, &request.exclude).map_err(refuse)?,
        sort,
        ascending: request.ascending,
        limit: limit(request.limit),
    })
}

pub(super) fn dns_events(request: &v1::StreamDnsRequest) -> Result<(DnsSelection, Span), Status> {
    let matcher = DnsMatcher::new(&request.include, &request.exclude).map_err(refuse)?;
    let span = Span::new(request.last, request.since_time_ns, request.no_follow);
    Ok((DnsSelection { matcher }, span))
}

pub(super) fn tcp(request: &v1::QueryTcpRequest) -> Result<TcpQuery, Status> {
    let sort = match read("sort_by", request.sort_by)? {
        v1::TcpSortBy::Unspecified | v1::TcpSortBy::Retransmits => TcpSort::Retransmits,
        v1::TcpSortBy::Rtt => TcpSort::Rtt,
        v1::TcpSortBy::Handshake => TcpSort::Handshake,
        v1::TcpSortBy::Bytes => TcpSort::Bytes,
        v1::TcpSortBy::Opened => TcpSort::Opened,
    };
    Ok(TcpQuery {
        matcher: TcpMatcher::for_connections(&request.include, &request.exclude).map_err(refuse)?,
        include_self_traffic: request.include_self_traffic,
        sort,
        ascending: request.ascending,
        limit: limit(request.limit),
    })
}

pub(super) fn tcp_events(request: &v1::StreamTcpRequest) -> Result<(TcpSelection, Span), Status> {
    let matcher = TcpMatcher::new(&request.include, &request.exclude).map_err(refuse)?;
    let selection = TcpSelection { matcher, include_self_traffic: request.include_self_traffic };
    Ok((selection, Span::new(request.last, request.since_time_ns, request.no_follow)))
}

pub(super) fn pods(request: &v1::QueryPodsRequest) -> Result<PodQuery, Status> {
    Ok(PodQuery {
        matcher: PodMatcher::new(&request.include, &request.exclude).map_err(refuse)?,
        local: request.local,
        limit: limit(request.limit),
    })
}

pub(super) fn workloads(request: &v1::QueryWorkloadsRequest) -> Result<WorkloadQuery, Status> {
    let mut keys = request.keys.clone();
    keys.sort_unstable();
    Ok(WorkloadQuery {
        matcher: OwnerMatcher::new(&request.include, &request.exclude).map_err(refuse)?,
        include_self_traffic: request.include_self_traffic,
        group: match read("group_by", request.group_by)? {
            v1::WorkloadGroup::Unspecified | v1::WorkloadGroup::Workload => {
                WorkloadGroup::Controller
            }
            v1::WorkloadGroup::Pod => WorkloadGroup::Pod,
            v1::WorkloadGroup::Container => WorkloadGroup::Container,
        },
        keys,
        sort: workload_sort(read("sort_by", request.sort_by)?),
        ascending: request.ascending,
        limit: limit(request.limit),
        peers: (request.peers as usize).min(MAX_PEERS),
    })
}

pub(super) fn gpu(request: &v1::QueryGpuRequest) -> Result<GpuQuery, Status> {
    GpuQuery::new(request).map_err(refuse)
}

pub(super) fn gpu_events(
    request: &v1::StreamGpuRequest,
    board: Board,
) -> Result<(GpuSelection, Span), Status> {
    let matcher = GpuEventMatcher::new(request).map_err(refuse)?;
    let span = Span::new(request.last, request.since_time_ns, request.no_follow);
    Ok((GpuSelection { matcher, board }, span))
}

const fn workload_sort(by: v1::WorkloadSortBy) -> WorkloadSort {
    use v1::WorkloadSortBy as By;
    match by {
        By::Unspecified | By::Bytes => WorkloadSort::Bytes,
        By::Rate => WorkloadSort::Rate,
        By::Packets => WorkloadSort::Packets,
        By::Flows => WorkloadSort::Flows,
        By::Peers => WorkloadSort::Peers,
        By::Connections => WorkloadSort::Connections,
        By::Retransmits => WorkloadSort::Retransmits,
        By::Rtt => WorkloadSort::Rtt,
        By::Queries => WorkloadSort::Queries,
        By::Errors => WorkloadSort::Errors,
        By::Timeouts => WorkloadSort::Timeouts,
        By::Latency => WorkloadSort::Latency,
    }
}

fn limit(asked: u32) -> usize {
    match asked {
        0 => DEFAULT_LIMIT,
        asked => (asked as usize).min(MAX_LIMIT),
    }
}

fn read<E: TryFrom<i32>>(field: &str, value: i32) -> Result<E, Status> {
    E::try_from(value).map_err(|_| no_value(field, value))
}

fn no_value(field: &str, value: i32) -> Status {
    Status::invalid_argument(format!("{field}: {value} is none of its values"))
}

pub(super) fn refuse(error: FilterError) -> Status {
    Status::invalid_argument(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_bounded() {
        assert_eq!([0, 1, u32::MAX].map(limit), [DEFAULT_LIMIT, 1, MAX_LIMIT]);
    }
}
