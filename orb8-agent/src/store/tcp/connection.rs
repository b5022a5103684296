//! One TCP connection.

use std::sync::Arc;
use std::time::Instant;

use orb8_common::tcp::{RTT_BUCKETS, STATE_CLOSE};
use orb8_proto::histogram::quantile;

use super::totals::Added;
use super::{ConnectionOwner, LIVE_STATES};
use crate::event::{SocketEnd, TcpFigures, TcpKind, TcpRole, TcpSample, UnixNanos};
use crate::identity::Party;
use crate::metrics::distribution::RoundTrips;
use crate::store::Label;

/// A connection, seen from its local end.
#[derive(Debug)]
pub struct Connection {
    /// The local end.
    pub local: SocketEnd,
    /// The other one.
    pub remote: SocketEnd,
    /// The owner of the local end.
    pub subject: Party,
    /// Who is at the other one.
    pub peer: Party,
    /// [`Enricher::epoch`](crate::enrich) of the last look at who that is.
    pub looked: u32,
    /// The name by which the owner found the other end.
    pub label: Option<Arc<Label>>,
    /// cgroup v2 id of the socket, 0 where none is known.
    pub cgroup_id: u64,
    /// Socket cookie, 0 where none is known.
    pub cookie: u64,
    /// Inode of the network namespace, 0 where it is not known.
    pub netns: u32,
    /// Whether it is the agent's own API traffic.
    pub self_traffic: bool,
    health: Arc<TcpHealth>,
    /// The last ones, while it is open: what is new in the next ones is added to the totals.
    figures: Option<Box<TcpFigures>>,
    /// When the agent first heard of it.
    seen: UnixNanos,
    touched: Instant,
    /// Its close was not told, but found out: it may be told yet.
    is_presumed_closed: bool,
    /// Since when it has a place among the closed ones, `None` while it is open.
    pub(super) queued: Option<Instant>,
}

/// What is known of a connection's health. Times are nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpHealth {
    /// As the kernel numbers states; 0 where none is known.
    pub state: u8,
    /// Who opened it.
    pub role: TcpRole,
    /// How long the handshake took.
    pub handshake_ns: Option<u64>,
    /// The kernel's smoothed round-trip time.
    pub srtt_ns: Option<u64>,
    /// Over the samples; `None` without any.
    pub rtt: Option<RttFigures>,
    /// Segments sent again.
    pub retransmits: u32,
    /// Payload bytes sent, each once.
    pub bytes_sent: u64,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// `None` for a connection that is older than the agent.
    pub opened: Option<UnixNanos>,
    /// `None` while it is open.
    pub closed: Option<UnixNanos>,
}

/// Samples of the round-trip time, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RttFigures {
    /// The smallest.
    pub min: u64,
    /// Their mean.
    pub mean: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// The largest.
    pub max: u64,
    /// How many.
    pub samples: u32,
}

impl Connection {
    pub(super) fn new(time: UnixNanos, sample: &TcpSample, now: Instant) -> Self {
        Self {
            local: sample.local,
            remote: sample.remote,
            subject: Party::Unknown,
            peer: Party::Unknown,
            looked: 0,
            label: None,
            cgroup_id: 0,
            cookie: sample.cookie,
            netns: sample.netns,
            self_traffic: false,
            health: Arc::new(TcpHealth { retransmits: before(sample), ..TcpHealth::default() }),
            figures: None,
            seen: time,
            touched: now,
            is_presumed_closed: false,
            queued: None,
        }
    }

    /// Takes what is known of its owner.
    pub(super) fn belong_to(&mut self, owner: ConnectionOwner) {
        let ConnectionOwner { subject, peer, looked, label, self_traffic } = owner;
        self.subject.learn(subject);
        self.peer.learn(peer);
        self.looked = looked;
        self.label = self.label.take().or(label);
        self.self_traffic |= self_traffic;
    }

    /// Returns what is known of its health.
    #[must_use]
    pub fn health(&self) -> &Arc<TcpHealth> {
        &self.health
    }

    /// What a question is answered with: the figures stay here.
    pub(super) fn without_figures(&self) -> Self {
        Self {
            subject: self.subject.clone(),
            peer: self.peer.clone(),
            label: self.label.clone(),
            health: Arc::clone(&self.health),
            figures: None,
            ..*self
        }
    }

    pub(super) fn touched(&self) -> Instant {
        self.touched
    }

    pub(super) fn is_open(&self) -> bool {
        self.health.closed.is_none()
    }

    /// Whether it was open then, as far as is known.
    pub(super) fn was_open(&self, before: UnixNanos) -> bool {
        self.is_open() && self.seen < before
    }

    /// Takes it for closed, though nothing told so. Its figures stay, for a close that is told yet.
    pub(super) fn presume_closed(&mut self, time: UnixNanos) {
        let health = Arc::make_mut(&mut self.health);
        (health.closed, health.state) = (Some(time), STATE_CLOSE);
        self.is_presumed_closed = true;
    }

    /// Whether a sample, of the same socket or between the same ends, is of a later connection: a
    /// socket may connect again after it failed or was disconnected.
    pub(super) fn is_before(&self, time: UnixNanos, sample: &TcpSample) -> bool {
        let is_live = LIVE_STATES.contains(&sample.state);
        let opened = sample.figures.as_deref().and_then(|figures| figures.opened);
        let Some(closed) = self.health.closed else {
            let opens = matches!(sample.kind, TcpKind::Connect { .. } | TcpKind::Accept { .. });
            let is_other = (self.local, self.remote) != (sample.local, sample.remote);
            // What told of its close was lost.
            return is_other && (opens || is_live && sample.kind == TcpKind::Progress);
        };
        match sample.kind {
            TcpKind::Connect { .. } | TcpKind::Accept { .. } => true,
            TcpKind::Fail { .. } | TcpKind::Close { .. } if self.is_presumed_closed => {
                opened.is_some_and(|opened| opened > closed)
            }
            // Each closes once; but a socket may be told to once more.
            TcpKind::Fail { .. } | TcpKind::Close { .. } => sample.old_state != STATE_CLOSE,
            TcpKind::Progress | TcpKind::State | TcpKind::Retransmit { .. } => {
                let began = opened.or((!self.is_presumed_closed).then_some(time));
                is_live && began.is_some_and(|began| began > closed)
            }
            TcpKind::Reset { .. } | TcpKind::Drop { .. } | TcpKind::Overflow { .. } => false,
        }
    }

    /// Whether a sample says more of its close than was presumed, or that it is open.
    fn is_corrected_by(&self, time: UnixNanos, sample: &TcpSample) -> bool {
        let is_live = || LIVE_STATES.contains(&sample.state) && self.health.closed < Some(time);
        self.is_presumed_closed
            && match sample.kind {
                TcpKind::Fail { .. } | TcpKind::Close { .. } => true,
                TcpKind::Progress | TcpKind::State | TcpKind::Retransmit { .. } => is_live(),
                _ => false,
            }
    }

    /// Takes in a sample, and returns what that adds to the totals.
    pub(super) fn absorb(&mut self, time: UnixNanos, sample: &TcpSample, now: Instant) -> Added {
        self.touched = now;
        let is_corrected = self.is_corrected_by(time, sample);
        self.is_presumed_closed &= !is_corrected;
        if sample.cgroup_id != 0 {
            self.cgroup_id = sample.cgroup_id;
        }
        // Shared with events on their way: those keep what was known then.
        let health = Arc::make_mut(&mut self.health);
        health.closed = health.closed.filter(|_| !is_corrected);
        let is_closed = health.closed.is_some();
        let resent_before = health.retransmits;
        health.follow(time, sample);
        let mut added = Added::default();
        if let Some(figures) = sample.figures.as_deref().filter(|_| !is_closed) {
            health.take_counts(figures);
            // A reader of sockets and a reader of the ring may be out of step: fewer samples are no
            // news.
            if figures.rtt_samples > self.figures.as_ref().map_or(0, |old| old.rtt_samples) {
                health.rtt = RttFigures::of(figures);
                added.rtt = Some(RttAdded::between(self.figures.as_deref(), figures));
                self.figures = Some(figures.clone().into());
            }
        }
        if health.closed.is_some() && !self.is_presumed_closed {
            self.figures = None;
        }
        added.resent = u64::from(health.retransmits - resent_before);
        added
    }
}

/// Segments that were sent again before the agent first heard of the connection.
fn before(sample: &TcpSample) -> u32 {
    match (&sample.kind, sample.figures.as_deref()) {
        (TcpKind::Retransmit { segments, total }, _) => total.saturating_sub(*segments),
        (_, Some(figures)) if figures.opened.is_none() => figures.retransmits,
        _ => 0,
    }
}

impl TcpHealth {
    /// Returns the longer of the handshake and the smoothed round-trip time, `None` without either.
    #[must_use]
    pub fn latency_ns(&self) -> Option<u64> {
        self.handshake_ns.max(self.srtt_ns)
    }

    fn follow(&mut self, time: UnixNanos, sample: &TcpSample) {
        if sample.role != TcpRole::Unknown {
            self.role = sample.role;
        }
        self.srtt_ns = sample.srtt_ns.or(self.srtt_ns);
        if sample.state != 0 && self.closed.is_none() {
            self.state = sample.state;
        }
        match sample.kind {
            TcpKind::Connect { handshake_ns } | TcpKind::Accept { handshake_ns } => {
                self.handshake_ns = handshake_ns.or(self.handshake_ns);
                let opened = match sample.kind {
                    TcpKind::Connect { .. } => time.0 - handshake_ns.unwrap_or(0).min(time.0),
                    _ => time.0,
                };
                self.opened.get_or_insert(UnixNanos(opened));
            }
            TcpKind::Fail { .. } | TcpKind::Close { .. } => {
                self.closed.get_or_insert(time);
                self.state = STATE_CLOSE;
            }
            TcpKind::Retransmit { total, .. } => self.retransmits = self.retransmits.max(total),
            TcpKind::Progress
            | TcpKind::State
            | TcpKind::Reset { .. }
            | TcpKind::Drop { .. }
            | TcpKind::Overflow { .. } => {}
        }
    }

    /// Takes what only grows, so that older figures change nothing.
    fn take_counts(&mut self, figures: &TcpFigures) {
        let TcpFigures { opened, handshake_ns, retransmits, bytes_sent, bytes_received, .. } =
            figures;
        self.opened = opened.or(self.opened);
        self.handshake_ns = handshake_ns.or(self.handshake_ns);
        self.retransmits = self.retransmits.max(*retransmits);
        self.bytes_sent = self.bytes_sent.max(*bytes_sent);
        self.bytes_received = self.bytes_received.max(*bytes_received);
    }
}

impl RttFigures {
    fn of(figures: &TcpFigures) -> Option<Self> {
        let (min, max) = (u64::from(figures.rtt_min_us), u64::from(figures.rtt_max_us));
        let sum_ns = figures.rtt_sum_us.saturating_mul(1_000);
        // Microseconds: the first bucket ends at one.
        let p99 = quantile(&figures.rtt.map(u64::from), 0, min, max, 0.99)?;
        Some(Self {
            min: min * 1_000,
            mean: sum_ns.checked_div(figures.rtt_samples.into())?,
            p99: p99 * 1_000,
            max: max * 1_000,
            samples: figures.rtt_samples,
        })
    }
}

/// Samples that are new since the last figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RttAdded {
    pub(super) counts: [u32; RTT_BUCKETS],
    pub(super) sum_us: u64,
    pub(super) min_us: u32,
    pub(super) max_us: u32,
}

impl RttAdded {
    pub(super) fn round_trips(&self) -> RoundTrips<'_> {
        RoundTrips { counts: &self.counts, sum_us: self.sum_us }
    }

    fn between(old: Option<&TcpFigures>, new: &TcpFigures) -> Self {
        let of = |bucket: usize| old.map_or(0, |old| old.rtt[bucket]);
        Self {
            counts: std::array::from_fn(|bucket| new.rtt[bucket].saturating_sub(of(bucket))),
            sum_us: new.rtt_sum_us.saturating_sub(old.map_or(0, |old| old.rtt_sum_us)),
            min_us: new.rtt_min_us,
            max_us: new.rtt_max_us,
        }
    }
}
