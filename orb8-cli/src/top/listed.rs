//! The lists that tabs show: what sorts them, what tells their rows apart. Everything else about them
//! is as their commands have it.

use std::hash::{DefaultHasher, Hash, Hasher};

use orb8_proto::columns::Subject;
use orb8_proto::columns::gpu::ShareRow;
use orb8_proto::v1::{
    DnsSortBy, DnsSummary, Endpoint, Flow, QueryDnsRequest, QueryDnsResponse, QueryFlowsRequest,
    QueryFlowsResponse, QueryGpuRequest, QueryTcpRequest, QueryTcpResponse, QueryWorkloadsRequest,
    QueryWorkloadsResponse, SortBy, TcpConnection, TcpSortBy, WorkloadSortBy, WorkloadSummary,
};

use super::filter::Filter;
use crate::args::{DnsTopArgs, FlowsArgs, ShareSort, SharesArgs, TcpTopArgs, WorkloadsArgs};
use crate::commands::list::List;
use crate::commands::list::gpu::{Part, Told};
use crate::filters::{Connections, DnsSummaries, FilterKind, Flows, Workloads};

/// Rows that are asked for.
const ROWS: u32 = 500;

/// Rows that are asked for where text chooses among them.
const SEARCHED: u32 = 5_000;

/// A way to sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sort {
    /// As `--sort` has it.
    pub(super) word: &'static str,
    /// The column that shows it.
    pub(super) column: &'static str,
    /// As requests have it.
    by: i32,
}

/// What tells a row from others, as long as it is there.
pub(super) type RowId = u64;

/// A list that a tab shows.
pub(super) trait Listed: List {
    type Filter: FilterKind;
    type Request: Clone + PartialEq;

    /// The first is what the tab begins with.
    const SORTS: &'static [Sort];

    /// From how many columns on there is room for sparklines.
    const SPARKS_FROM: u16 = u16::MAX;

    /// What is said where there are no rows; `None` for `no … yet`.
    const NONE: Option<&'static str> = None;

    /// What fills a sparkline's height; `None` where its own largest value does.
    const SPARK_MOST: Option<u64> = None;

    fn request(filter: &Filter<Self::Filter>, order: Order) -> Self::Request;

    fn id(row: <Self::Subject as Subject>::Row<'_>) -> RowId;

    /// Returns an answer with these rows alone, in this order.
    fn only(answer: &Self::Answer, rows: &[usize]) -> Self::Answer;

    /// Returns what its sparkline shows, bytes per second or parts of [`Self::SPARK_MOST`]; `None` where
    /// it has none.
    fn rate(_: <Self::Subject as Subject>::Row<'_>) -> Option<u64> {
        None
    }
}

/// In what order rows are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) sort: Sort,
    pub(super) ascending: bool,
    pub(super) include_self: bool,
    pub(super) group: i32,
}

const fn limit<K: FilterKind>(filter: &Filter<K>) -> u32 {
    if filter.words.is_empty() { ROWS } else { SEARCHED }
}

macro_rules! sorts {
    ($type:ident: $($variant:ident in $column:literal),* $(,)?) => {
        &[$(Sort {
            word: match $type::$variant.word() { Some(word) => word, None => "" },
            column: $column,
            by: $type::$variant as i32,
        }),*]
    };
}

impl Listed for FlowsArgs {
    type Filter = Flows;
    type Request = QueryFlowsRequest;
    const SORTS: &'static [Sort] = sorts! {
        SortBy:
        Rate in "rate",
        Bytes in "bytes",
        Packets in "packets",
        LastSeen in "last_seen",
        FirstSeen in "first_seen",
    };
    /// Both ends are worth more.
    const SPARKS_FROM: u16 = 110;

    fn request(filter: &Filter<Flows>, order: Order) -> QueryFlowsRequest {
        QueryFlowsRequest {
            include: filter.include.clone(),
            exclude: filter.exclude.clone(),
            sort_by: order.sort.by,
            ascending: order.ascending,
            limit: limit(filter),
            include_self_traffic: order.include_self,
            ..QueryFlowsRequest::default()
        }
    }

    fn id(row: orb8_proto::columns::flow::Row<'_>) -> RowId {
        flow_id(row.flow)
    }

    fn only(answer: &QueryFlowsResponse, rows: &[usize]) -> QueryFlowsResponse {
        QueryFlowsResponse { flows: picked(&answer.flows, rows), ..answer.clone() }
    }

    fn rate(row: orb8_proto::columns::flow::Row<'_>) -> Option<u64> {
        Some(row.flow.bytes_per_second)
    }
}

impl Listed for WorkloadsArgs {
    type Filter = Workloads;
    type Request = QueryWorkloadsRequest;
    const SORTS: &'static [Sort] = sorts! {
        WorkloadSortBy:
        Rate in "rate_sent",
        Bytes in "bytes",
        Packets in "packets",
        Flows in "flows",
        Peers in "peers",
        Connections in "connections",
        Retransmits in "retransmits",
        Rtt in "rtt_p99",
        Queries in "queries",
        Errors in "errors",
        Timeouts in "timeouts",
        Latency in "latency",
    };
    const SPARKS_FROM: u16 = 70;

    fn request(filter: &Filter<Workloads>, order: Order) -> QueryWorkloadsRequest {
        QueryWorkloadsRequest {
            include: filter.include.clone(),
            exclude: filter.exclude.clone(),
            group_by: order.group,
            sort_by: order.sort.by,
            ascending: order.ascending,
            // Few nodes have more, and the overview looks for trouble in all of them.
            limit: SEARCHED,
            peers: 0,
            include_self_traffic: order.include_self,
            keys: Vec::new(),
        }
    }

    fn id(row: &WorkloadSummary) -> RowId {
        hash(&row.key)
    }

    fn only(answer: &QueryWorkloadsResponse, rows: &[usize]) -> QueryWorkloadsResponse {
        QueryWorkloadsResponse { workloads: picked(&answer.workloads, rows), ..answer.clone() }
    }

    fn rate(row: &WorkloadSummary) -> Option<u64> {
        let rate = |traffic: Option<orb8_proto::v1::Traffic>| {
            traffic.map_or(0, |traffic| traffic.bytes_per_second)
        };
        Some(rate(row.sent).saturating_add(rate(row.received)))
    }
}

impl Listed for DnsTopArgs {
    type Filter = DnsSummaries;
    type Request = QueryDnsRequest;
    const SORTS: &'static [Sort] = sorts! {
        DnsSortBy:
        Queries in "queries",
        Errors in "errors",
        Timeouts in "timeouts",
        Latency in "p99",
        LastSeen in "last_seen",
    };

    fn request(filter: &Filter<DnsSummaries>, order: Order) -> QueryDnsRequest {
        QueryDnsRequest {
            include: filter.include.clone(),
            exclude: filter.exclude.clone(),
            sort_by: order.sort.by,
            ascending: order.ascending,
            limit: limit(filter),
        }
    }

    fn id(row: &DnsSummary) -> RowId {
        let owner = row.workload.as_ref().map(|of| (&of.pod_uid, &of.container, &of.cgroup_path));
        hash(&(owner, row.side, &row.name))
    }

    fn only(answer: &QueryDnsResponse, rows: &[usize]) -> QueryDnsResponse {
        QueryDnsResponse { summaries: picked(&answer.summaries, rows), ..answer.clone() }
    }
}

impl Listed for TcpTopArgs {
    type Filter = Connections;
    type Request = QueryTcpRequest;
    const SORTS: &'static [Sort] = sorts! {
        TcpSortBy:
        Retransmits in "retransmits",
        Rtt in "rtt",
        Handshake in "handshake",
        Bytes in "sent",
        Opened in "opened",
    };

    fn request(filter: &Filter<Connections>, order: Order) -> QueryTcpRequest {
        QueryTcpRequest {
            include: filter.include.clone(),
            exclude: filter.exclude.clone(),
            sort_by: order.sort.by,
            ascending: order.ascending,
            limit: limit(filter),
            include_self_traffic: order.include_self,
        }
    }

    fn id(row: &TcpConnection) -> RowId {
        let end = |end: Option<&Endpoint>| end.map(|end| (end.ip.clone(), end.port));
        hash(&(end(row.source.as_ref()), end(row.destination.as_ref()), row.socket_cookie))
    }

    fn only(answer: &QueryTcpResponse, rows: &[usize]) -> QueryTcpResponse {
        QueryTcpResponse { connections: picked(&answer.connections, rows), ..answer.clone() }
    }
}

/// A whole device's time in a sparkline.
const BUSY: u64 = 1_000;

impl Listed for SharesArgs {
    type Filter = Workloads;
    type Request = QueryGpuRequest;
    const SORTS: &'static [Sort] = &[
        share_order("device", "gpu", ShareSort::Device),
        share_order("memory", "memory", ShareSort::Memory),
        share_order("utilization", "utilization", ShareSort::Utilization),
        share_order("idle", "since", ShareSort::Idle),
        share_order("owner", "owner", ShareSort::Owner),
    ];
    const SPARKS_FROM: u16 = 100;
    const NONE: Option<&'static str> = Some("nobody holds or uses a device");
    const SPARK_MOST: Option<u64> = Some(BUSY);

    /// An answer has everything: order is the reader's.
    fn request(filter: &Filter<Workloads>, _: Order) -> QueryGpuRequest {
        QueryGpuRequest {
            include: filter.include.clone(),
            exclude: filter.exclude.clone(),
            ..QueryGpuRequest::default()
        }
    }

    fn id(row: ShareRow<'_>) -> RowId {
        let who = row.share.map(|share| {
            let owner = share.owner.as_ref();
            let owner = owner.map(|of| (&of.pod_uid, &of.pod, &of.container, &of.cgroup_path));
            // Of one that is not known, its processes tell it from others.
            (owner, &share.resource, if owner.is_none() { &share.pids[..] } else { &[] })
        });
        hash(&(&row.of.device.id, who))
    }

    fn only(answer: &Told<Part>, rows: &[usize]) -> Told<Part> {
        answer.only(rows)
    }

    fn rate(row: ShareRow<'_>) -> Option<u64> {
        let part = match row.share {
            Some(share) => share.utilization,
            None => row.of.device.unattributed_utilization,
        };
        let part = part?;
        // What is no number is 0; what is not nothing is seen.
        let least = if part > 0.0 { BUSY / 8 } else { 0 };
        Some(((part.clamp(0.0, 1.0) * BUSY as f64).round() as u64).max(least))
    }
}

const fn share_order(word: &'static str, column: &'static str, by: ShareSort) -> Sort {
    Sort { word, column, by: by as i32 }
}

/// Returns the order of shares that a way to sort is.
pub(super) fn share_sort(sort: Sort) -> ShareSort {
    let of = |(order, _): &&(ShareSort, &str)| *order as i32 == sort.by;
    ShareSort::WORDS.iter().find(of).map_or_else(ShareSort::default, |(order, _)| *order)
}

fn picked<T: Clone>(of: &[T], rows: &[usize]) -> Vec<T> {
    rows.iter().filter_map(|row| of.get(*row).cloned()).collect()
}

/// What tells a flow from others.
pub(super) fn flow_id(flow: &Flow) -> RowId {
    let end = |end: Option<&Endpoint>| end.map(|end| (end.ip.clone(), end.port));
    let ends = (end(flow.source.as_ref()), end(flow.destination.as_ref()));
    let seen = (flow.direction, flow.hook, flow.cgroup_id, flow.first_seen_ns);
    hash(&(ends, flow.ip_protocol, seen))
}

fn hash(of: &impl Hash) -> RowId {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<L: Listed>(orders: usize) {
        assert_eq!(L::SORTS.len(), orders, "{}: every order of the command", L::VIEW.command);
        for Sort { word, column, .. } in L::SORTS {
            assert!(L::VIEW.wide.iter().any(|of| of.name == *column), "{word}: {column}");
        }
    }

    #[test]
    fn every_order_has_its_column() {
        check::<FlowsArgs>(SortBy::WORDS.len());
        check::<WorkloadsArgs>(WorkloadSortBy::WORDS.len());
        check::<DnsTopArgs>(DnsSortBy::WORDS.len());
        check::<TcpTopArgs>(TcpSortBy::WORDS.len());
        check::<SharesArgs>(ShareSort::WORDS.len());
    }

    #[test]
    fn orders_of_shares_are_those_of_the_command() {
        for (sort, (order, word)) in SharesArgs::SORTS.iter().zip(ShareSort::WORDS) {
            assert_eq!((share_sort(*sort), sort.word), (*order, *word));
        }
    }
}
