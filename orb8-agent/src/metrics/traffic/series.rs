//! What is counted for one label set.

use std::borrow::Cow;
use std::sync::Arc;

use nix::errno::Errno;
use orb8_common::flow::DIRECTION_EGRESS;
use orb8_proto::dns::rcode_name;
use orb8_proto::filter::End;

use crate::event::{DnsExchange, DnsOutcome, DnsSide, ResetBy, TcpKind, TcpSample, UnixNanos};
use crate::metrics::distribution::{LATENCY_BOUNDS, RTT_BOUNDS, RoundTrips};
use crate::metrics::family::Distribution;

/// Values that a label of the kernel's may have in one label set: more than there are.
const MAX_VALUES: usize = 128;

/// Stands for response codes without a name.
pub(super) const OTHER_RCODE: u16 = u16::MAX;

/// Stands for error numbers without a name.
pub(super) const OTHER_ERRNO: u16 = u16::MAX;

/// What such numbers read as.
const UNNAMED: Errno = Errno::UnknownErrno;

/// IP protocols that are told apart, with their label.
pub(super) const PROTOCOLS: [(u8, &str); 5] =
    [(6, "TCP"), (17, "UDP"), (1, "ICMP"), (58, "ICMPv6"), (132, "SCTP")];

/// Directions with their label, in the order of [`Way`].
pub(super) const DIRECTIONS: [&str; 2] = ["ingress", "egress"];

/// Sides with their label, in the order of [`side`].
pub(super) const SIDES: [&str; 3] = ["client", "server", "transit"];

/// Everything of one label set. Cheap to copy: histograms are shared until they change.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// When it was empty.
    pub(super) since: UnixNanos,
    pub(super) flow: Option<Box<FlowSeries>>,
    pub(super) dns: Option<Box<[DnsSeries; 3]>>,
    pub(super) tcp: Option<Box<TcpSeries>>,
}

/// Flows by direction and protocol; the last protocol is any other.
pub(super) type FlowSeries = [[FlowCounts; PROTOCOLS.len() + 1]; 2];

/// What flows count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FlowCounts {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// Flows that have not ended.
    pub(super) active: u64,
}

/// Which of the [`FlowCounts`] a flow is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    direction: u8,
    protocol: u8,
}

/// Exchanges of one side.
#[derive(Clone, Debug, Default)]
pub(super) struct DnsSeries {
    pub(super) queries: u64,
    pub(super) timeouts: u64,
    pub(super) retries: u64,
    pub(super) rcodes: Vec<(u16, u64)>,
    pub(super) latency: Option<Arc<Distribution>>,
}

/// Connections.
#[derive(Clone, Debug, Default)]
pub(super) struct TcpSeries {
    pub(super) connects: u64,
    pub(super) accepts: u64,
    pub(super) closes: u64,
    /// By errno, 0 where the caller gave up.
    pub(super) failures: Vec<(u16, u64)>,
    pub(super) resent: u64,
    pub(super) resets_sent: u64,
    pub(super) resets_received: u64,
    /// By the kernel's reason.
    pub(super) drops: Vec<(Arc<str>, u64)>,
    /// For what reasons did not fit.
    pub(super) other_drops: u64,
    pub(super) overflows: u64,
    pub(super) handshake: Option<Arc<Distribution>>,
    pub(super) rtt: Option<Arc<Distribution>>,
}

/// What a TCP sample adds that only its connection tells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OfConnection<'a> {
    /// Segments sent again.
    pub(crate) resent: u64,
    /// Round-trip times.
    pub(crate) round_trips: Option<RoundTrips<'a>>,
}

impl Series {
    pub(super) const fn new(since: UnixNanos) -> Self {
        Self { since, flow: None, dns: None, tcp: None }
    }

    pub(super) fn flow(&mut self, way: Way) -> &mut FlowCounts {
        let Way { direction, protocol } = way;
        &mut self.flow.get_or_insert_default()[usize::from(direction)][usize::from(protocol)]
    }

    pub(super) fn dns(&mut self, of: DnsSide) -> &mut DnsSeries {
        &mut self.dns.get_or_insert_default()[side(of)]
    }

    pub(super) fn tcp(&mut self) -> &mut TcpSeries {
        self.tcp.get_or_insert_default()
    }

    /// Adds what another one counted.
    pub(super) fn merge(&mut self, other: Self) {
        let Self { since, flow, dns, tcp } = other;
        self.since = self.since.min(since);
        if let Some(flow) = flow {
            let own = self.flow.get_or_insert_default().as_flattened_mut();
            own.iter_mut().zip(flow.as_flattened()).for_each(|(own, more)| own.merge(*more));
        }
        if let Some(dns) = dns {
            let own = self.dns.get_or_insert_default();
            own.iter_mut().zip(*dns).for_each(|(own, more)| own.merge(more));
        }
        if let Some(tcp) = tcp {
            self.tcp().merge(*tcp);
        }
    }
}

impl Way {
    /// `local` is the end that is this node's; without one, what the hook says has to do.
    pub(super) fn of(protocol: u8, local: Option<End>, hook_direction: u8) -> Self {
        let is_egress = match local {
            Some(end) => end == End::Source,
            None => hook_direction == DIRECTION_EGRESS,
        };
        let known = PROTOCOLS.iter().position(|(number, _)| *number == protocol);
        Self { direction: u8::from(is_egress), protocol: known.unwrap_or(PROTOCOLS.len()) as u8 }
    }
}

impl Way {
    /// Bits that it takes.
    pub(super) const BITS: u32 = 4;

    pub(super) const fn bits(self) -> u32 {
        (self.protocol as u32) << 1 | self.direction as u32
    }

    pub(super) const fn from_bits(bits: u32) -> Self {
        Self { direction: (bits & 1) as u8, protocol: (bits >> 1 & 7) as u8 }
    }
}

impl FlowCounts {
    pub(super) const fn is_used(&self) -> bool {
        self.packets > 0 || self.active > 0
    }

    fn merge(&mut self, other: Self) {
        let Self { packets, bytes, active } = other;
        self.packets += packets;
        self.bytes += bytes;
        self.active += active;
    }
}

const fn side(side: DnsSide) -> usize {
    match side {
        DnsSide::Client => 0,
        DnsSide::Server => 1,
        DnsSide::Transit => 2,
    }
}

impl DnsSeries {
    pub(super) const fn is_used(&self) -> bool {
        self.queries > 0 || self.timeouts > 0 || !self.rcodes.is_empty()
    }

    /// Counts as the table of names does: a query once, however often it was sent.
    pub(super) fn count(&mut self, exchange: &DnsExchange) {
        let counted = exchange.told_retries;
        self.queries += u64::from(counted.is_none());
        self.retries += u64::from(exchange.retries.saturating_sub(counted.unwrap_or(0)));
        self.timeouts += u64::from(exchange.outcome == DnsOutcome::Timeout);
        if let Some(response) = &exchange.response {
            let is_named = matches!(rcode_name(response.rcode), Cow::Borrowed(_));
            let rcode = if is_named { response.rcode } else { OTHER_RCODE };
            tally(&mut self.rcodes, rcode, 1);
            record(&mut self.latency, exchange.latency_ns);
        }
    }

    fn merge(&mut self, other: Self) {
        let Self { queries, timeouts, retries, rcodes, latency } = other;
        self.queries += queries;
        self.timeouts += timeouts;
        self.retries += retries;
        rcodes.into_iter().for_each(|(rcode, count)| tally(&mut self.rcodes, rcode, count));
        merge(&mut self.latency, latency);
    }
}

impl TcpSeries {
    pub(super) fn count(&mut self, sample: &TcpSample, added: OfConnection<'_>) {
        match &sample.kind {
            TcpKind::Connect { handshake_ns } => {
                self.connects += 1;
                handshake_ns.iter().for_each(|nanos| record(&mut self.handshake, *nanos));
            }
            TcpKind::Accept { handshake_ns } => {
                self.accepts += 1;
                handshake_ns.iter().for_each(|nanos| record(&mut self.handshake, *nanos));
            }
            TcpKind::Fail { errno } => {
                let is_named = *errno == 0 || Errno::from_raw((*errno).into()) != UNNAMED;
                tally(&mut self.failures, if is_named { *errno } else { OTHER_ERRNO }, 1);
            }
            TcpKind::Close { .. } => self.closes += 1,
            TcpKind::Reset { by: ResetBy::Local, .. } => self.resets_sent += 1,
            TcpKind::Reset { by: ResetBy::Remote, .. } => self.resets_received += 1,
            TcpKind::Drop { reason, weight, .. } => self.drop(&reason.name, u64::from(*weight)),
            TcpKind::Overflow { overflows, .. } => self.overflows += u64::from(*overflows),
            // By the connection: `added`.
            TcpKind::Retransmit { .. } | TcpKind::Progress | TcpKind::State => {}
        }
        self.resent += added.resent;
        if let Some(round_trips) = &added.round_trips {
            let rtt = self.rtt.get_or_insert_with(|| Arc::new(Distribution::new(RTT_BOUNDS)));
            Arc::make_mut(rtt).record_round_trips(round_trips);
        }
    }

    fn drop(&mut self, reason: &Arc<str>, packets: u64) {
        match self.drops.iter().position(|(known, _)| known == reason) {
            Some(at) => self.drops[at].1 += packets,
            None if self.drops.len() < MAX_VALUES => {
                self.drops.push((Arc::clone(reason), packets));
            }
            None => self.other_drops += packets,
        }
    }

    fn merge(&mut self, other: Self) {
        // Exhaustive: what is counted is kept.
        let Self {
            connects,
            accepts,
            closes,
            failures,
            resent,
            resets_sent,
            resets_received,
            drops,
            other_drops,
            overflows,
            handshake,
            rtt,
        } = other;
        self.connects += connects;
        self.accepts += accepts;
        self.closes += closes;
        failures.into_iter().for_each(|(errno, count)| tally(&mut self.failures, errno, count));
        self.resent += resent;
        self.resets_sent += resets_sent;
        self.resets_received += resets_received;
        drops.iter().for_each(|(reason, packets)| self.drop(reason, *packets));
        self.other_drops += other_drops;
        self.overflows += overflows;
        merge(&mut self.handshake, handshake);
        merge(&mut self.rtt, rtt);
    }
}

/// Whether a sample tells anything that is counted.
pub(super) const fn is_counted(sample: &TcpSample, added: OfConnection<'_>) -> bool {
    let is_silent =
        matches!(sample.kind, TcpKind::Progress | TcpKind::State | TcpKind::Retransmit { .. });
    !is_silent || added.resent > 0 || added.round_trips.is_some()
}

fn record(distribution: &mut Option<Arc<Distribution>>, nanos: u64) {
    let own = distribution.get_or_insert_with(|| Arc::new(Distribution::new(LATENCY_BOUNDS)));
    // A reader that has it keeps what it was.
    Arc::make_mut(own).record_nanos(nanos);
}

fn merge(own: &mut Option<Arc<Distribution>>, other: Option<Arc<Distribution>>) {
    match (own, other) {
        (Some(own), Some(other)) => Arc::make_mut(own).merge(&other),
        (own @ None, other) => *own = other,
        (Some(_), None) => {}
    }
}

/// Adds to the count of a number. There are fewer numbers than fit: codes and errnos that have names.
fn tally(counts: &mut Vec<(u16, u64)>, number: u16, added: u64) {
    match counts.iter().position(|(of, _)| *of == number) {
        Some(at) => counts[at].1 += added,
        None => counts.push((number, added)),
    }
}
