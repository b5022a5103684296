//! The agent's own telemetry for Prometheus. Values are read when they are asked for, so counters
//! are as good as their sources and never go back.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use orb8_k8s::watch::WatchHealth;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::cost::OwnCost;
use crate::pipeline::{Accounting, PipelineTotals, SharedPipeline, lock};
use crate::status::{EngineStatus, SourceState, StatusBoard, watch_name};

/// The content type of [`Metrics::render`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One metric: its name, and where its value comes from.
pub struct Metric {
    /// Name, as it is scraped.
    pub name: &'static str,
    /// What it is, one sentence.
    pub help: &'static str,
    /// Name of its label, where it has one.
    pub label: Option<&'static str>,
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
    Counters(fn(&Snapshot) -> Vec<(&'static str, u64)>),
    /// One gauge per value of the label.
    Gauges(fn(&Snapshot) -> Vec<(&'static str, f64)>),
}

macro_rules! metrics {
    ($($name:literal $(($label:literal))?, $value:expr, $help:literal;)*) => {
        /// Every metric of the agent.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name,
            help: $help,
            label: metrics!(@label $($label)?),
            value: $value,
        }),*];
    };
    (@label) => { None };
    (@label $label:literal) => { Some($label) };
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
    "orb8_agent_build_info" ("version"), Value::Gauges(|_| vec![(env!("CARGO_PKG_VERSION"), 1.0)]),
        "Version of the agent.";
}

/// Everything that metrics are made of, read at once.
struct Snapshot {
    status: EngineStatus,
    totals: PipelineTotals,
    accounting: Accounting,
    own: OwnCost,
}

impl Snapshot {
    fn rings<T>(&self, value: impl Fn(&crate::status::RingStatus) -> T) -> Vec<(&'static str, T)> {
        self.status.rings.iter().map(|ring| (ring.probe, value(ring))).collect()
    }

    fn watches<T>(&self, value: impl Fn(&WatchHealth) -> T) -> Vec<(&'static str, T)> {
        let watches = &self.status.kubernetes.watches;
        watches.iter().map(|watch| (watch_name(watch), value(watch))).collect()
    }

    fn sources(&self) -> Vec<(&'static str, f64)> {
        let up = |state: &SourceState| {
            if *state == SourceState::Running { 1.0 } else { 0.0 }
        };
        self.status.sources.iter().map(|source| (source.name, up(&source.state))).collect()
    }
}

/// Renders the agent's metrics.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Registry>);

impl Metrics {
    /// Reads from a pipeline and a board.
    #[must_use]
    pub fn new(pipeline: SharedPipeline, board: StatusBoard) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(AgentCollector { pipeline, board }));
        Self(Arc::new(registry))
    }

    /// Returns all metrics as OpenMetrics text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.0);
        text
    }
}

struct AgentCollector {
    pipeline: SharedPipeline,
    board: StatusBoard,
}

impl fmt::Debug for AgentCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentCollector").finish_non_exhaustive()
    }
}

impl Collector for AgentCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (status, totals) = (self.board.read(), lock(&self.pipeline).totals());
        let accounting = Accounting::new(&status.kernel_counters, &totals);
        let snapshot = Snapshot { status, totals, accounting, own: OwnCost::read() };
        METRICS.iter().try_for_each(|metric| metric.encode(&snapshot, &mut encoder))
    }
}

impl Metric {
    const fn kind(&self) -> MetricType {
        match self.value {
            Value::Counter(_) | Value::Seconds(_) | Value::Counters(_) => MetricType::Counter,
            Value::Gauge(_) | Value::Gauges(_) => MetricType::Gauge,
        }
    }

    fn encode(&self, at: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        // The encoder adds the suffix of counters.
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        let mut metric = encoder.encode_descriptor(name, self.help, None, self.kind())?;
        let label = self.label.unwrap_or_default();
        match self.value {
            Value::Counter(value) => counter(&mut metric, &value(at)),
            Value::Seconds(value) => match value(at) {
                Some(nanos) => counter(&mut metric, &(nanos as f64 / 1e9)),
                None => Ok(()),
            },
            Value::Gauge(value) => metric.encode_gauge(&value(at)),
            Value::Counters(values) => values(at).iter().try_for_each(|(of, value)| {
                counter(&mut metric.encode_family(&[(label, *of)])?, value)
            }),
            Value::Gauges(values) => values(at).iter().try_for_each(|(of, value)| {
                metric.encode_family(&[(label, *of)])?.encode_gauge(value)
            }),
        }
    }
}

fn counter<T>(metric: &mut MetricEncoder<'_>, value: &T) -> fmt::Result
where
    T: prometheus_client::encoding::EncodeCounterValue,
{
    metric.encode_counter::<NoLabelSet, T, u64>(value, None)
}

/// Renders the table of metrics as Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut table = String::from("| metric | type | label | what it is |\n|---|---|---|---|\n");
    for metric in METRICS {
        let kind = match metric.kind() {
            MetricType::Counter => "counter",
            _ => "gauge",
        };
        let label = metric.label.map_or_else(|| "–".to_owned(), |label| format!("`{label}`"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| `{}` | {kind} | {label} | {} |",
            metric.name,
            metric.help.replace('|', "\\|"),
        );
    }
    table
}

#[cfg(test)]
mod tests;
