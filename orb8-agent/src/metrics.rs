//! The agent's own telemetry and the traffic's, for Prometheus and everybody else. Values are read when
//! they are asked for, so counters are as good as their sources and never go back.
//!
//! ```text
//! status board, pipeline's totals ─▶ METRICS ─┐
//! accelerators' view ──────────────▶ GPU ─────┼─▶ gather ─▶ families ─▶ text, protobuf; OTLP
//! pipeline's label sets ───────────▶ TRAFFIC ─┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::event::UnixNanos;
use crate::pipeline::{SharedPipeline, lock};
use crate::status::StatusBoard;
use family::{Family, Kind, Labels, Sample, Text, Unit};
use snapshot::Snapshot;
use traffic::Told;

pub(crate) mod distribution;
mod docs;
mod encode;
pub mod family;
pub mod gpu;
mod snapshot;
pub mod traffic;

pub use docs::markdown;
pub use encode::{Format, accepts_gzip};

/// Label sets that are read while the pipeline is locked: some tens of microseconds.
const CHUNK: usize = 128;

/// How long the pipeline has its lock to itself between two of those. A lock that is taken again at once
/// is hard to get for others.
const BREATHER: Duration = Duration::from_micros(50);

/// One metric of the agent itself: its name, and where its value comes from.
pub struct Metric {
    /// Name, as it is scraped.
    pub name: &'static str,
    /// What it is, one sentence.
    pub help: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    value: Value,
}

/// Where a value comes from.
#[derive(Clone, Copy)]
enum Value {
    Counter(fn(&Snapshot) -> u64),
    /// Nanoseconds, told as seconds. `None` leaves the metric out.
    Seconds(fn(&Snapshot) -> Option<u64>),
    Gauge(fn(&Snapshot) -> f64),
    /// One counter per value of the label.
    Counters(Labelled<Text, u64>),
    /// The same in nanoseconds, told as seconds.
    SecondsBy(Labelled<Text, u64>),
    /// One counter per value of both labels.
    CountersByTwo(Labelled<[Text; 2], u64>),
    /// One gauge per value of the label.
    Gauges(Labelled<Text, f64>),
}

/// Reads values, each with its label's.
type Labelled<L, T> = fn(&Snapshot) -> Vec<(L, T)>;

macro_rules! metrics {
    ($($name:literal $(($($label:literal),+))?, $value:expr, $help:literal;)*) => {
        /// Every metric of the agent.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name,
            help: $help,
            labels: &[$($($label),+)?],
            value: $value,
        }),*];
    };
}

metrics! {
    "orb8_ring_buffer_drops_total" ("probe"),
        Value::Counters(|at| at.rings(|ring| ring.drops)),
        "Moments that the ring had no room for.";
    "orb8_ring_buffer_events_total" ("probe"),
        Value::Counters(|at| at.rings(|ring| ring.events)),
        "Records that the ring took.";
    "orb8_ring_buffer_utilization" ("probe"),
        Value::Gauges(|at| at.rings(|ring| ring.utilization)),
        "Fullest state of the ring in the last interval, 0 to 1.";
    "orb8_ring_buffer_size_bytes" ("probe"),
        Value::Gauges(|at| at.rings(|ring| ring.size_bytes as f64)),
        "Size of the ring.";
    "orb8_agent_counted_packets_total", Value::Counter(|at| at.accounting.counted.packets),
        "Packets that were counted, in flows or not.";
    "orb8_agent_counted_bytes_total", Value::Counter(|at| at.accounting.counted.bytes),
        "IP bytes that were counted, in flows or not.";
    "orb8_agent_lost_packets_total", Value::Counter(|at| at.accounting.lost.packets),
        "Packets that neither the kernel's flow table nor the ring had room for.";
    "orb8_agent_lost_bytes_total", Value::Counter(|at| at.accounting.lost.bytes),
        "IP bytes of lost packets.";
    "orb8_agent_duplicate_packets_total", Value::Counter(|at| at.accounting.duplicate.packets),
        "Counted packets left out of flows since they are counted at another hook or interface.";
    "orb8_agent_duplicate_bytes_total", Value::Counter(|at| at.accounting.duplicate.bytes),
        "IP bytes of duplicate packets.";
    "orb8_agent_other_packets_total", Value::Counter(|at| at.accounting.other.packets),
        "Counted packets that are not IP.";
    "orb8_agent_other_bytes_total", Value::Counter(|at| at.accounting.other.bytes),
        "Bytes behind the link header of packets that are not IP.";
    "orb8_agent_malformed_packets_total", Value::Counter(|at| at.accounting.malformed.packets),
        "Counted IP packets whose header does not parse.";
    "orb8_agent_malformed_bytes_total", Value::Counter(|at| at.accounting.malformed.bytes),
        "IP bytes of malformed packets.";
    "orb8_agent_evicted_flows_total", Value::Counter(|at| at.accounting.evicted.flows),
        "Flows that the full store let go before they ended.";
    "orb8_agent_evicted_packets_total", Value::Counter(|at| at.accounting.evicted.packets),
        "Packets of evicted flows.";
    "orb8_agent_evicted_bytes_total", Value::Counter(|at| at.accounting.evicted.bytes),
        "IP bytes of evicted flows.";
    "orb8_agent_flows", Value::Gauge(|at| at.totals.flows as f64),
        "Flows in the store.";
    "orb8_agent_connections", Value::Gauge(|at| at.totals.connections as f64),
        "TCP connections in the table, those closed a moment ago included.";
    "orb8_agent_untracked_connections_total",
        Value::Counter(|at| at.totals.untracked + at.status.tcp.untracked),
        "TCP connections for which the kernel's storage or the table had no room.";
    "orb8_agent_names", Value::Gauge(|at| at.totals.names as f64),
        "Addresses that have a name by a DNS answer.";
    "orb8_agent_evicted_names_total", Value::Counter(|at| at.totals.evicted_names),
        "Names that were forgotten early for want of room.";
    "orb8_agent_evicted_queries_total", Value::Counter(|at| at.status.dns.evicted),
        "DNS queries that made room for others before an answer came.";
    "orb8_agent_unread_dns_packets_total", Value::Counter(|at| at.status.dns.unread),
        "DNS packets of which too little could be read.";
    "orb8_agent_history_bytes", Value::Gauge(|at| at.totals.history_bytes as f64),
        "Memory of the history of flows.";
    "orb8_agent_history_seconds", Value::Gauge(|at| at.totals.history_ns as f64 / 1e9),
        "How far back the history of flows reaches.";
    "orb8_agent_subscribers", Value::Gauge(|at| at.totals.subscribers as f64),
        "Open event streams.";
    "orb8_agent_subscriber_lost_events_total", Value::Counter(|at| at.totals.subscriber_lost),
        "Events that slow subscribers did not get.";
    "orb8_agent_waiting_events", Value::Gauge(|at| at.totals.waiting_events as f64),
        "Events that wait, 10 seconds at most, for the names of pods that were just started.";
    "orb8_agent_unnamed_events_total", Value::Counter(|at| at.totals.unnamed_events),
        "Events that waited and went out without a name, in vain or for want of room.";
    "orb8_agent_source_up" ("source"), Value::Gauges(Snapshot::sources),
        "Whether a source runs, 1 or 0.";
    "orb8_k8s_watch_connected" ("resource"),
        Value::Gauges(|at| at.watches(|watch| if watch.is_connected() { 1.0 } else { 0.0 })),
        "Whether a watch of the Kubernetes API is open, 1 or 0.";
    "orb8_k8s_watch_reconnections_total" ("resource"),
        Value::Counters(|at| at.watches(|watch| watch.reconnections)),
        "Watches of the Kubernetes API that were opened again after they failed.";
    "orb8_k8s_watch_stalls_total" ("resource"),
        Value::Counters(|at| at.watches(|watch| watch.stalls)),
        "Watches of the Kubernetes API that were given up for their silence.";
    "orb8_k8s_bad_objects_total" ("resource"),
        Value::Counters(|at| at.watches(|watch| watch.bad_objects)),
        "Objects of the Kubernetes API that could not be understood, and were left out.";
    "orb8_k8s_last_sync_timestamp" ("resource"),
        Value::Gauges(|at| at.watches(|watch| watch.last_sync.unwrap_or_default() as f64)),
        "Unix seconds of the last word from the API server, 0 before the first.";
    "orb8_k8s_pods_tracked", Value::Gauge(|at| at.status.kubernetes.counts.pods as f64),
        "Pods that the Kubernetes API told of and that are there now, of all nodes.";
    "orb8_k8s_address_conflicts", Value::Gauge(|at| at.status.kubernetes.counts.conflicts as f64),
        "Addresses that several pods have at this moment.";
    "orb8_k8s_skipped_addresses_total",
        Value::Counter(|at| at.status.kubernetes.counts.skipped_addresses),
        "Addresses of Kubernetes objects that could not be read.";
    "orb8_k8s_skipped_objects_total",
        Value::Counter(|at| at.status.kubernetes.counts.skipped_objects),
        "Kubernetes objects that had no name or uid, and were left out.";
    "orb8_agent_conntrack_skipped_total", Value::Counter(|at| at.totals.conntrack_skipped),
        "Times that connection tracking was not asked who is behind an address, since it was asked too \
         much already.";
    "orb8_agent_cpu_seconds_total", Value::Seconds(|at| Some(at.own.cpu_ns)),
        "Processor time of the agent, user and system.";
    "orb8_agent_resident_memory_bytes", Value::Gauge(|at| at.own.rss_bytes as f64),
        "Resident memory of the agent.";
    "orb8_agent_map_memory_bytes", Value::Gauge(|at| at.status.map_bytes.total() as f64),
        "Kernel memory of the maps.";
    "orb8_agent_bpf_seconds_total", Value::Seconds(|at| Some(at.status.bpf_run.total()?.run_ns)),
        "Run time of the programs; only where kernel.bpf_stats_enabled is set.";
    "orb8_agent_bpf_program_seconds_total" ("program"),
        Value::SecondsBy(|at| at.programs(|run| run.run_ns)),
        "Run time of a program; only where kernel.bpf_stats_enabled is set.";
    "orb8_agent_bpf_program_runs_total" ("program"),
        Value::Counters(|at| at.programs(|run| run.runs)),
        "Runs of a program; only where kernel.bpf_stats_enabled is set.";
    "orb8_agent_drops_total" ("cause"), Value::Counters(Snapshot::drops),
        "Everything that was lost, by cause, in what that loses: see below.";
    "orb8_metrics_series", Value::Gauge(|at| at.totals.traffic.sets as f64),
        "Label sets of traffic metrics.";
    "orb8_metrics_overflow_total", Value::Counter(|at| at.totals.traffic.overflows),
        "Label sets that had no room and were counted with every label `other`.";
    "orb8_agent_self_packets_total", Value::Counter(|at| at.totals.traffic.self_packets),
        "Packets of the agent's own API, which are left out of traffic metrics.";
    "orb8_agent_self_bytes_total", Value::Counter(|at| at.totals.traffic.self_bytes),
        "IP bytes of those packets.";
    "orb8_agent_admin_connections", Value::Gauge(|at| at.status.admin.open as f64),
        "Open connections to the admin address.";
    "orb8_agent_admin_refused_total" ("cause"), Value::Counters(Snapshot::refusals),
        "Connections to the admin address that were refused (`connections`, `client`) or given up \
         (`slow_request`, `slow_reader`), and scrapes that were refused (`unread`).";
    "orb8_otlp_exported_total" ("kind"), Value::Counters(|at| at.exported(|kind| kind.exported)),
        "Log records and data points of metrics that the OTLP collector took.";
    "orb8_otlp_dropped_total" ("kind", "cause"), Value::CountersByTwo(Snapshot::export_drops),
        "Log records and data points that it did not get: queue (full while it was away), behind (the export \
         fell behind), rejected and refused (by the collector), retries (put off for too long), shutdown.";
    "orb8_otlp_failures_total",
        Value::Counter(|at| at.exported(|kind| kind.failures).iter().map(|(_, count)| count).sum()),
        "Requests to the OTLP collector that failed.";
    "orb8_otlp_up" ("kind"),
        Value::Gauges(|at| at.exported(|kind| if kind.error.is_none() { 1.0 } else { 0.0 })),
        "Whether the last request to the OTLP collector succeeded, 1 or 0.";
    "orb8_otlp_queue", Value::Gauge(|at| at.export().map_or(0, |otlp| otlp.queued) as f64),
        "Log records that wait for the OTLP collector.";
    "orb8_otlp_queue_bytes",
        Value::Gauge(|at| at.export().map_or(0, |otlp| otlp.queued_bytes) as f64),
        "Their bytes.";
    "orb8_agent_build_info" ("version"), Value::Gauges(|_| vec![(env!("CARGO_PKG_VERSION").into(), 1.0)]),
        "Version of the agent.";
}

/// Reads the agent's metrics and the traffic's.
#[derive(Clone, Debug)]
pub struct Metrics {
    pipeline: SharedPipeline,
    board: StatusBoard,
    /// When the agent's own counters began at zero.
    started: UnixNanos,
    /// The node's name, where accelerators' figures are told by dcgm-exporter's names too.
    dcgm_names: Option<Arc<str>>,
}

impl Metrics {
    /// Reads from a pipeline and a board.
    #[must_use]
    pub fn new(pipeline: SharedPipeline, board: StatusBoard) -> Self {
        Self { pipeline, board, started: Clock::system().now(), dcgm_names: None }
    }

    /// Tells accelerators' figures by dcgm-exporter's names too.
    #[must_use]
    pub fn with_dcgm_names(self, node_name: &str) -> Self {
        Self { dcgm_names: Some(node_name.into()), ..self }
    }

    /// Returns everything as it is now: the agent's metrics, then the traffic's. It takes milliseconds
    /// where there are thousands of series, and locks the pipeline for short pieces of them: call it
    /// where it may block.
    #[must_use]
    pub fn gather(&self) -> Vec<Family> {
        self.own().chain(self.gpu()).chain(traffic::families(&self.traffic())).collect()
    }

    /// Returns everything in a format of Prometheus's.
    #[must_use]
    pub fn render(&self, format: Format) -> Vec<u8> {
        format.encode(self.own().chain(self.gpu()).chain(traffic::families(&self.traffic())))
    }

    fn gpu(&self) -> impl Iterator<Item = Family> {
        let view = lock(&self.pipeline).gpu().read();
        let mut families = gpu::families(&view, self.started);
        if let Some(node) = &self.dcgm_names {
            families.extend(gpu::dcgm_families(&view, node, self.started));
        }
        families.into_iter()
    }

    fn own(&self) -> impl Iterator<Item = Family> {
        let (snapshot, started) = (Snapshot::read(&self.pipeline, &self.board), self.started);
        let families = METRICS.iter().map(move |metric| metric.family(&snapshot, started));
        families.filter(|family| !family.samples.is_empty())
    }

    fn traffic(&self) -> Vec<Told> {
        let mut told = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            if from > 0 {
                std::thread::sleep(BREATHER);
            }
            let piece = lock(&self.pipeline).traffic(from, CHUNK);
            told.extend(piece.0);
            next = piece.1;
        }
        told
    }
}

impl Metric {
    const fn kind(&self) -> Kind {
        match self.value {
            Value::Counter(_)
            | Value::Seconds(_)
            | Value::Counters(_)
            | Value::CountersByTwo(_)
            | Value::SecondsBy(_) => Kind::Counter,
            Value::Gauge(_) | Value::Gauges(_) => Kind::Gauge,
        }
    }

    fn family(&self, at: &Snapshot, since: UnixNanos) -> Family {
        use family::Value::{Count, Gauge, Sum};
        let seconds = |nanos: u64| Sum(nanos as f64 / 1e9);
        let values: Vec<(Labels, family::Value)> = match self.value {
            Value::Counter(value) => vec![(Labels::default(), Count(value(at)))],
            Value::Seconds(value) => {
                value(at).map(|nanos| (Labels::default(), seconds(nanos))).into_iter().collect()
            }
            Value::Gauge(value) => vec![(Labels::default(), Gauge(value(at)))],
            Value::Counters(values) => self.labelled(values(at), Count),
            Value::CountersByTwo(values) => {
                let named = |of: [Text; 2]| {
                    let mut labels = self.labels.iter().copied().zip(of);
                    Labels { owner: None, own: [labels.next(), labels.next()] }
                };
                values(at).into_iter().map(|(of, now)| (named(of), Count(now))).collect()
            }
            Value::SecondsBy(values) => self.labelled(values(at), seconds),
            Value::Gauges(values) => self.labelled(values(at), Gauge),
        };
        let sample = |(labels, value)| Sample { labels, value, since };
        Family {
            name: self.name,
            help: self.help,
            kind: self.kind(),
            unit: Unit::of(self.name),
            samples: values.into_iter().map(sample).collect(),
        }
    }

    fn labelled<T>(
        &self,
        values: Vec<(Text, T)>,
        value: impl Fn(T) -> family::Value,
    ) -> Vec<(Labels, family::Value)> {
        let name = self.labels.first().copied().unwrap_or_default();
        values.into_iter().map(|(of, now)| (Labels::own((name, of)), value(now))).collect()
    }
}

#[cfg(test)]
mod tests;
