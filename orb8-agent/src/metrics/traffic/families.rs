//! The table of traffic metrics, and the families that it makes of label sets.

use std::sync::Arc;

use nix::errno::Errno;
use orb8_proto::dns::rcode_name;

use super::series::{
    DIRECTIONS, DnsSeries, FlowCounts, OTHER_ERRNO, OTHER_RCODE, PROTOCOLS, SIDES, Series,
    TcpSeries,
};
use super::sets::Told;
use crate::metrics::family::{
    Distribution, Family, Kind, Label, Labels, Sample, Text, Unit, Value,
};

/// What has no name of its own.
const OTHER: &str = "other";

/// The label of a `connect(2)` whose caller gave up.
const GAVE_UP: &str = "none";

/// One metric of traffic. Each has the labels that the user chose, and these.
#[derive(Debug)]
pub struct TrafficMetric {
    /// Name, as it is scraped.
    pub name: &'static str,
    /// What it is, one sentence.
    pub help: &'static str,
    /// Names of its own labels.
    pub labels: &'static [&'static str],
    read: Read,
}

/// Where values come from.
#[derive(Clone, Copy, Debug)]
enum Read {
    /// By direction and protocol.
    Flow(fn(&FlowCounts) -> u64),
    /// The same, as it is now.
    FlowGauge(fn(&FlowCounts) -> u64),
    /// By side.
    Dns(fn(&DnsSeries) -> u64),
    /// By side and code.
    Rcodes,
    /// By side.
    DnsLatency,
    Tcp(fn(&TcpSeries) -> u64),
    /// By errno.
    Failures,
    /// By who sent them.
    Resets,
    /// By reason.
    Drops,
    TcpTimes(fn(&TcpSeries) -> Option<&Arc<Distribution>>),
}

macro_rules! traffic {
    ($($name:literal [$($label:literal),*], $read:expr, $help:literal;)*) => {
        /// Every metric of traffic.
        pub const TRAFFIC: &[TrafficMetric] = &[$(TrafficMetric {
            name: $name,
            help: $help,
            labels: &[$($label),*],
            read: $read,
        }),*];
    };
}

traffic! {
    "orb8_flow_bytes_total" ["direction", "protocol"], Read::Flow(|counts| counts.bytes),
        "IP bytes of flows.";
    "orb8_flow_packets_total" ["direction", "protocol"], Read::Flow(|counts| counts.packets),
        "Wire packets of flows.";
    "orb8_active_flows" ["direction", "protocol"], Read::FlowGauge(|counts| counts.active),
        "Flows that have not ended.";
    "orb8_dns_queries_total" ["side"], Read::Dns(|dns| dns.queries),
        "DNS queries, each once however often it was sent.";
    "orb8_dns_responses_total" ["side", "rcode"], Read::Rcodes,
        "Responses to DNS queries.";
    "orb8_dns_timeouts_total" ["side"], Read::Dns(|dns| dns.timeouts),
        "DNS queries without an answer in time; it may have come later.";
    "orb8_dns_retries_total" ["side"], Read::Dns(|dns| dns.retries),
        "Times that a DNS query was sent again.";
    "orb8_dns_latency_seconds" ["side"], Read::DnsLatency,
        "From the first DNS query to its response, late ones included.";
    "orb8_tcp_connects_total" [], Read::Tcp(|tcp| tcp.connects),
        "TCP connections opened to others.";
    "orb8_tcp_accepts_total" [], Read::Tcp(|tcp| tcp.accepts),
        "TCP connections that listeners got.";
    "orb8_tcp_closes_total" [], Read::Tcp(|tcp| tcp.closes),
        "TCP connections that ended.";
    "orb8_tcp_connect_failures_total" ["errno"], Read::Failures,
        "TCP connections that could not be opened.";
    "orb8_tcp_retransmitted_segments_total" [], Read::Tcp(|tcp| tcp.resent),
        "TCP segments sent again.";
    "orb8_tcp_resets_total" ["by"], Read::Resets,
        "RSTs, by who sent them.";
    "orb8_tcp_dropped_packets_total" ["reason"], Read::Drops,
        "TCP packets that the kernel dropped, by its reason.";
    "orb8_tcp_listener_overflows_total" [], Read::Tcp(|tcp| tcp.overflows),
        "TCP connections that a listener dropped since its queue was full.";
    "orb8_tcp_handshake_seconds" [], Read::TcpTimes(|tcp| tcp.handshake.as_ref()),
        "From SYN to SYN-ACK of connections opened, from SYN-ACK to ACK of those accepted.";
    "orb8_tcp_rtt_seconds" [], Read::TcpTimes(|tcp| tcp.rtt.as_ref()),
        "Round-trip times that the kernel measured, to a factor of two.";
}

/// Returns what the values of a traffic metric are.
pub(crate) const fn kind_of(metric: &TrafficMetric) -> Kind {
    match metric.read {
        Read::Flow(_)
        | Read::Dns(_)
        | Read::Rcodes
        | Read::Tcp(_)
        | Read::Failures
        | Read::Resets
        | Read::Drops => Kind::Counter,
        Read::FlowGauge(_) => Kind::Gauge,
        Read::DnsLatency | Read::TcpTimes(_) => Kind::Histogram,
    }
}

/// Makes the families of label sets. One without samples is left out.
pub(crate) fn families(told: &[Told]) -> impl Iterator<Item = Family> {
    let family = move |metric: &TrafficMetric| {
        let mut samples = Vec::new();
        for Told { labels, series } in told {
            read(metric, series, &mut Out { labels, series, samples: &mut samples });
        }
        Family {
            name: metric.name,
            help: metric.help,
            kind: kind_of(metric),
            unit: Unit::of(metric.name),
            samples,
        }
    };
    TRAFFIC.iter().map(family).filter(|family| !family.samples.is_empty())
}

/// Where the samples of one label set go.
struct Out<'a> {
    labels: &'a Arc<[Label]>,
    series: &'a Series,
    samples: &'a mut Vec<Sample>,
}

impl Out<'_> {
    fn push(&mut self, own: [Option<Label>; 2], value: Value) {
        let owner = (!self.labels.is_empty()).then(|| Arc::clone(self.labels));
        let labels = Labels { owner, own };
        self.samples.push(Sample { labels, value, since: self.series.since });
    }
}

fn read(metric: &TrafficMetric, series: &Series, out: &mut Out<'_>) {
    let own = |at: usize, value: Text| Some((metric.labels[at], value));
    match metric.read {
        Read::Flow(value) => flows(series, |direction, protocol, counts| {
            let labels = [own(0, direction.into()), own(1, protocol.into())];
            out.push(labels, Value::Count(value(counts)));
        }),
        Read::FlowGauge(value) => flows(series, |direction, protocol, counts| {
            let labels = [own(0, direction.into()), own(1, protocol.into())];
            out.push(labels, Value::Gauge(value(counts) as f64));
        }),
        Read::Dns(value) => sides(series, |side, dns| {
            out.push([own(0, side.into()), None], Value::Count(value(dns)));
        }),
        Read::Rcodes => sides(series, |side, dns| {
            for (rcode, count) in &dns.rcodes {
                let labels = [own(0, side.into()), own(1, rcode_text(*rcode))];
                out.push(labels, Value::Count(*count));
            }
        }),
        Read::DnsLatency => sides(series, |side, dns| {
            if let Some(latency) = &dns.latency {
                out.push([own(0, side.into()), None], Value::Histogram(Arc::clone(latency)));
            }
        }),
        Read::Tcp(_) | Read::Failures | Read::Resets | Read::Drops | Read::TcpTimes(_) => {
            if let Some(tcp) = series.tcp.as_deref() {
                read_tcp(metric, tcp, out);
            }
        }
    }
}

fn read_tcp(metric: &TrafficMetric, tcp: &TcpSeries, out: &mut Out<'_>) {
    let own = |value: Text| [metric.labels.first().map(|name| (*name, value)), None];
    match metric.read {
        Read::Tcp(value) => out.push([None, None], Value::Count(value(tcp))),
        Read::Failures => {
            for (errno, count) in &tcp.failures {
                out.push(own(errno_text(*errno)), Value::Count(*count));
            }
        }
        Read::Resets => {
            for (by, count) in [("local", tcp.resets_sent), ("remote", tcp.resets_received)] {
                out.push(own(by.into()), Value::Count(count));
            }
        }
        Read::Drops => {
            for (reason, packets) in &tcp.drops {
                out.push(own(Arc::clone(reason).into()), Value::Count(*packets));
            }
            if tcp.other_drops > 0 {
                out.push(own(OTHER.into()), Value::Count(tcp.other_drops));
            }
        }
        Read::TcpTimes(value) => {
            if let Some(times) = value(tcp) {
                out.push([None, None], Value::Histogram(Arc::clone(times)));
            }
        }
        Read::Flow(_) | Read::FlowGauge(_) | Read::Dns(_) | Read::Rcodes | Read::DnsLatency => {}
    }
}

/// Visits what was counted at least once.
fn flows(series: &Series, mut visit: impl FnMut(&'static str, &'static str, &FlowCounts)) {
    let protocols = || PROTOCOLS.iter().map(|(_, word)| *word).chain([OTHER]);
    for (direction, counts) in DIRECTIONS.iter().zip(series.flow.as_deref().into_iter().flatten()) {
        for (protocol, counts) in protocols().zip(counts).filter(|(_, counts)| counts.is_used()) {
            visit(direction, protocol, counts);
        }
    }
}

fn sides(series: &Series, mut visit: impl FnMut(&'static str, &DnsSeries)) {
    for (side, dns) in SIDES.iter().zip(series.dns.as_deref().into_iter().flatten()) {
        if dns.is_used() {
            visit(side, dns);
        }
    }
}

fn rcode_text(rcode: u16) -> Text {
    match rcode {
        OTHER_RCODE => OTHER.into(),
        rcode => Text::Found(rcode_name(rcode).into()),
    }
}

fn errno_text(errno: u16) -> Text {
    match errno {
        0 => GAVE_UP.into(),
        OTHER_ERRNO => OTHER.into(),
        errno => Text::Found(format!("{:?}", Errno::from_raw(errno.into())).into()),
    }
}
