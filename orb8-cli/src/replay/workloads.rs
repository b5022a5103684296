//! `QueryWorkloads` from one snapshot.

use orb8_proto::filter::OwnerMatcher;
use orb8_proto::histogram::quantile;
use orb8_proto::v1::{
    Histogram, QueryWorkloadsRequest, QueryWorkloadsResponse, Traffic, WorkloadDns,
    WorkloadSummary, WorkloadTcp,
};
use tonic::Status;

use super::order;
use super::query::{read, refuse};

pub(super) fn workloads(
    request: &QueryWorkloadsRequest,
    recorded: &QueryWorkloadsResponse,
) -> Result<QueryWorkloadsResponse, Status> {
    let matcher = OwnerMatcher::new(&request.include, &request.exclude).map_err(refuse)?;
    let sort_by = read("sort_by", request.sort_by)?;
    let is_wanted = |row: &&WorkloadSummary| {
        (request.keys.is_empty() || request.keys.contains(&row.key)) && matcher.matches(*row)
    };
    let rows: Vec<_> = recorded.workloads.iter().filter(is_wanted).collect();
    let total_matched = rows.len() as u64;
    let totals = match rows.len() == recorded.workloads.len() {
        true => recorded.totals.clone(),
        false => Some(rows.iter().fold(WorkloadSummary::default(), |sum, row| add(sum, row))),
    };
    let rows =
        order::arrange(rows, request.ascending, request.limit, |row| order::workload(row, sort_by));
    let told = |row: &WorkloadSummary| {
        let mut row = row.clone();
        row.peers.truncate(request.peers as usize);
        row
    };
    Ok(QueryWorkloadsResponse {
        workloads: rows.into_iter().map(told).collect(),
        total_matched,
        totals,
        node_name: recorded.node_name.clone(),
    })
}

/// Adds a row to totals.
fn add(sum: WorkloadSummary, row: &WorkloadSummary) -> WorkloadSummary {
    WorkloadSummary {
        workload: None,
        key: String::new(),
        peers: Vec::new(),
        pods: sum.pods.saturating_add(row.pods),
        sent: Some(add_traffic(sum.sent, row.sent)),
        received: Some(add_traffic(sum.received, row.received)),
        active_flows: sum.active_flows.saturating_add(row.active_flows),
        peer_count: sum.peer_count.saturating_add(row.peer_count),
        tcp: Some(add_tcp(sum.tcp.unwrap_or_default(), row.tcp.as_ref())),
        dns: Some(add_dns(sum.dns.unwrap_or_default(), row.dns.as_ref())),
        dns_served: Some(add_dns(sum.dns_served.unwrap_or_default(), row.dns_served.as_ref())),
        last_seen_ns: sum.last_seen_ns.max(row.last_seen_ns),
    }
}

fn add_traffic(sum: Option<Traffic>, row: Option<Traffic>) -> Traffic {
    let (sum, row) = (sum.unwrap_or_default(), row.unwrap_or_default());
    Traffic {
        bytes: sum.bytes.saturating_add(row.bytes),
        packets: sum.packets.saturating_add(row.packets),
        bytes_per_second: sum.bytes_per_second.saturating_add(row.bytes_per_second),
        packets_per_second: sum.packets_per_second.saturating_add(row.packets_per_second),
    }
}

fn add_tcp(sum: WorkloadTcp, row: Option<&WorkloadTcp>) -> WorkloadTcp {
    let Some(row) = row else { return sum };
    WorkloadTcp {
        open_connections: sum.open_connections.saturating_add(row.open_connections),
        connections: sum.connections.saturating_add(row.connections),
        retransmits: sum.retransmits.saturating_add(row.retransmits),
        rtt: Some(merge(sum.rtt.unwrap_or_default(), row.rtt.as_ref())),
    }
}

fn add_dns(sum: WorkloadDns, row: Option<&WorkloadDns>) -> WorkloadDns {
    let Some(row) = row else { return sum };
    WorkloadDns {
        queries: sum.queries.saturating_add(row.queries),
        responses: sum.responses.saturating_add(row.responses),
        errors: sum.errors.saturating_add(row.errors),
        timeouts: sum.timeouts.saturating_add(row.timeouts),
        latency: Some(merge(sum.latency.unwrap_or_default(), row.latency.as_ref())),
    }
}

/// Merges distributions of one kind, which have the same buckets.
fn merge(sum: Histogram, row: Option<&Histogram>) -> Histogram {
    let Some(row) = row.filter(|row| row.count() > 0) else { return sum };
    if sum.count() == 0 {
        return row.clone();
    }
    let mut counts = sum.counts;
    counts.resize(counts.len().max(row.counts.len()), 0);
    for (count, more) in counts.iter_mut().zip(&row.counts) {
        *count = count.saturating_add(*more);
    }
    let (min, max) = (sum.min.min(row.min), sum.max.max(row.max));
    let at = |share| quantile(&counts, sum.shift, min, max, share).unwrap_or(0);
    Histogram {
        shift: sum.shift,
        sum: sum.sum.saturating_add(row.sum),
        min,
        max,
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        counts,
    }
}
