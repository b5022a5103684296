//! What each workload of this node does on the network: flows, connections and DNS, added up by
//! owner.
//!
//! ```text
//! survey_workloads ─▶ WorkloadSurvey ─▶ describe_workloads, until it is complete ─▶ page
//! ```
//! The stores are walked in pieces, between which others have the pipeline. A flow keeps its slot as
//! long as it lives, so none is counted twice.

use std::time::{Duration, Instant};

use orb8_proto::filter::OwnerMatcher;

use super::Pipeline;
use crate::event::UnixNanos;
use crate::identity::{Party, Workload};
use crate::store::Histogram;

mod page;
mod survey;
#[cfg(test)]
mod tests;
mod who;

use survey::Stage;
pub use survey::WorkloadSurvey;
pub use who::{Level, Peer, Who};

/// Events wait for so long while the stores are walked for somebody who asks.
const MOMENT: Duration = Duration::from_millis(2);

/// Slots of flows that are walked before the clock is looked at: some 100 µs.
const PIECE: u32 = 2_048;

/// Which workloads, and in what order.
#[derive(Clone, Debug, Default)]
pub struct WorkloadQuery {
    /// Which.
    pub matcher: OwnerMatcher,
    /// Whether the agent's own traffic is wanted too.
    pub include_self_traffic: bool,
    /// What makes a row.
    pub group: WorkloadGroup,
    /// Only these keys, in order; all where there are none.
    pub keys: Vec<String>,
    /// Order.
    pub sort: WorkloadSort,
    /// Smallest first.
    pub ascending: bool,
    /// How many.
    pub limit: usize,
    /// How many peers of each.
    pub peers: usize,
}

/// What makes a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkloadGroup {
    /// A controller with all its pods.
    #[default]
    Controller,
    /// A pod with all its containers.
    Pod,
    /// A container.
    Container,
}

/// What workloads are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkloadSort {
    /// IP bytes, both ways.
    #[default]
    Bytes,
    /// Bytes per second, both ways.
    Rate,
    /// Wire packets, both ways.
    Packets,
    /// Flows that have not ended.
    Flows,
    /// Peers.
    Peers,
    /// Open TCP connections.
    Connections,
    /// Segments sent again.
    Retransmits,
    /// The 99th percentile of the round-trip times.
    Rtt,
    /// DNS queries.
    Queries,
    /// DNS responses that told of an error.
    Errors,
    /// DNS timeouts.
    Timeouts,
    /// The 99th percentile of the DNS latencies.
    Latency,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct WorkloadPage {
    /// As many as asked for.
    pub rows: Vec<WorkloadRow>,
    /// Workloads that matched.
    pub total: u64,
    /// What all that matched add up to, as a row without owner.
    pub totals: WorkloadRow,
}

/// A workload, and what it does.
#[derive(Clone, Debug, Default)]
pub struct WorkloadRow {
    /// Who it is.
    pub who: Who,
    /// What is counted.
    pub counts: WorkloadCounts,
    /// Peers, those with most bytes first; as many as asked for.
    pub peers: Vec<PeerRow>,
}

/// What a workload's flows, connections and DNS add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadCounts {
    /// Pods that there is anything to tell of.
    pub pods: u32,
    /// What it sent.
    pub sent: Traffic,
    /// What it received.
    pub received: Traffic,
    /// Flows that have not ended.
    pub active_flows: u64,
    /// Different ones at the other ends.
    pub peers: u64,
    /// TCP connections that are open.
    pub open: u64,
    /// Those, and the ones that closed a moment ago.
    pub connections: u64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Smoothed round-trip times, one of each connection.
    pub rtt: Histogram,
    /// What it asked for.
    pub dns: DnsSums,
    /// What it was asked.
    pub dns_served: DnsSums,
    /// Last packet.
    pub last: UnixNanos,
}

/// What was moved one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// IP bytes.
    pub bytes: u64,
    /// Wire packets.
    pub packets: u64,
    /// Average over the last drain interval; while the survey goes on, what that is made of.
    pub bytes_per_second: u64,
    /// Likewise.
    pub packets_per_second: u64,
}

/// DNS exchanges since start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsSums {
    /// Queries.
    pub queries: u64,
    /// Responses.
    pub responses: u64,
    /// Responses that told of an error.
    pub errors: u64,
    /// Queries without an answer in time.
    pub timeouts: u64,
    /// Of answered queries.
    pub latency: Histogram,
}

/// Someone that a workload talks to.
#[derive(Clone, Debug, Default)]
pub struct PeerRow {
    /// Who it is.
    pub peer: Peer,
    /// What the workload sent to it.
    pub sent: Traffic,
    /// What the workload received from it.
    pub received: Traffic,
    /// Flows that have not ended.
    pub active_flows: u64,
}

impl Pipeline {
    /// Begins to look at what workloads do.
    #[must_use]
    pub fn survey_workloads(&self, query: WorkloadQuery) -> WorkloadSurvey {
        WorkloadSurvey::new(query, self.enrich.node_name())
    }

    /// Walks the stores for a moment, and returns whether that was all of them. In between, let others
    /// have the pipeline.
    #[must_use]
    pub fn describe_workloads(&mut self, survey: &mut WorkloadSurvey) -> bool {
        self.describe_workloads_until(survey, Instant::now() + MOMENT)
    }

    fn describe_workloads_until(&mut self, survey: &mut WorkloadSurvey, end: Instant) -> bool {
        let Self { enrich, store, connections, dns, .. } = self;
        loop {
            let now = Instant::now();
            let mut find = |cgroup_id| enrich.owner(cgroup_id, now);
            match survey.stage {
                Stage::Flows { from } => {
                    let next = store.visit(from, PIECE, |flow, moved| {
                        for party in [&mut flow.ends.source, &mut flow.ends.destination] {
                            party.rename(&mut |workload: &Workload| find(workload.cgroup_id));
                        }
                        survey.add_flow(flow, moved);
                    });
                    survey.stage = next.map_or(Stage::Connections, |from| Stage::Flows { from });
                }
                Stage::Connections => {
                    connections.find_owners(&mut find);
                    connections.iter().for_each(|connection| survey.add_connection(connection));
                    survey.stage = Stage::Dns;
                }
                Stage::Dns => {
                    dns.find_owners(&mut find, now);
                    dns.rows().for_each(|row| survey.add_dns(row));
                    survey.set_interval(store.interval());
                    survey.stage = Stage::Done;
                }
                Stage::Done => return true,
            }
            if Instant::now() >= end {
                return matches!(survey.stage, Stage::Done);
            }
        }
    }
}

/// Whether an end is one of this node's pods, cgroups or processes: of what is seen on an interface,
/// addresses tell it.
fn is_here(party: &Party, node_name: &str) -> bool {
    match party {
        Party::Workload(_) => true,
        Party::Pod(pod) => pod.node.as_deref() == Some(node_name),
        Party::Unknown | Party::Node(_) | Party::Front(_) => false,
    }
}
