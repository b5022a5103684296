//! TCP events, connections and totals.

use nix::errno::Errno;
use orb8_proto::filter::{End, FlowFields, TcpFields};
use orb8_proto::v1;

use super::{Converter, endpoint, interface, local_end, lost};
use crate::event::{Reason, ResetBy, TcpKind, TcpRole, TcpSample, UnixNanos};
use crate::pipeline::{Happened, StreamItem, TcpEvent, TcpView};
use crate::status::TcpCounters;
use crate::store::tcp::{Connection, ConnectionView, TcpHealth, TcpTotals};
use crate::store::{Histogram, state_of};

impl Converter {
    pub(in crate::api) fn tcp_event(&self, item: &StreamItem<TcpEvent>) -> v1::StreamTcpResponse {
        let event = match &item.happened {
            Happened::Event(event) => {
                v1::stream_tcp_response::Event::Tcp(self.tcp(item.time, event))
            }
            Happened::Lost(what) => v1::stream_tcp_response::Event::Lost(lost(*what)),
        };
        v1::StreamTcpResponse { event: Some(event) }
    }

    pub(in crate::api) fn connection(&self, connection: &Connection) -> v1::TcpConnection {
        let view = ConnectionView(connection);
        let end = |end: End| Some(endpoint(view.end(end), view.party(end), view.label(end)));
        v1::TcpConnection {
            source: end(End::Source),
            destination: end(End::Destination),
            local_end: local_end(Some(view.local())).into(),
            health: Some(tcp_health(connection.health())),
            cgroup_id: connection.cgroup_id,
            socket_cookie: connection.cookie,
            node_name: self.node_name.to_string(),
            self_traffic: connection.self_traffic,
        }
    }

    fn tcp(&self, time: UnixNanos, event: &TcpEvent) -> v1::TcpEvent {
        let view = TcpView { event, interfaces: &self.interfaces };
        let end = |end: End| Some(endpoint(view.end(end)?, view.party(end), view.label(end)));
        // Exhaustive: what is known of an event is told.
        let TcpSample {
            kind,
            local: _,
            remote: _,
            local_end: _,
            of_packet: _,
            cgroup_id,
            cookie,
            netns,
            ifindex,
            role: of,
            state,
            old_state,
            srtt_ns,
            figures: _,
        } = &*event.sample;
        let health = event.health.as_deref().map(|health| v1::TcpHealth {
            rtt_ns: srtt_ns.or(health.srtt_ns),
            ..tcp_health(health)
        });
        let told = v1::TcpEvent {
            time_ns: time.0,
            kind: view.kind().unwrap_or_default().into(),
            source: end(End::Source),
            destination: end(End::Destination),
            local_end: local_end(event.local).into(),
            role: role(*of).into(),
            state: state_of(*state).into(),
            old_state: state_of(*old_state).into(),
            health,
            interface: interface(*ifindex, view.interface()),
            cgroup_id: *cgroup_id,
            socket_cookie: *cookie,
            network_namespace: *netns,
            node_name: self.node_name.to_string(),
            self_traffic: event.self_traffic,
            ..v1::TcpEvent::default()
        };
        with_kind(told, kind)
    }
}

/// Adds what only this kind of event has.
fn with_kind(told: v1::TcpEvent, kind: &TcpKind) -> v1::TcpEvent {
    match kind {
        TcpKind::Progress | TcpKind::Connect { .. } | TcpKind::Accept { .. } | TcpKind::State => {
            told
        }
        TcpKind::Fail { errno } | TcpKind::Close { errno } => {
            v1::TcpEvent { errno: (*errno).into(), errno_name: errno_name(*errno), ..told }
        }
        TcpKind::Retransmit { segments, total: _ } => v1::TcpEvent { segments: *segments, ..told },
        TcpKind::Reset { by, reason } => v1::TcpEvent {
            reset_by: match by {
                ResetBy::Local => v1::ResetBy::Local,
                ResetBy::Remote => v1::ResetBy::Remote,
            }
            .into(),
            ..with_reason(told, reason.as_ref())
        },
        TcpKind::Drop { reason, location, weight, tcp_flags, bytes } => v1::TcpEvent {
            location: location.as_deref().unwrap_or_default().to_owned(),
            weight: (*weight).into(),
            tcp_flags: (*tcp_flags).into(),
            bytes: *bytes,
            ..with_reason(told, Some(reason))
        },
        TcpKind::Overflow { overflows, queue, limit } => v1::TcpEvent {
            overflows: (*overflows).into(),
            queue: *queue,
            queue_limit: *limit,
            ..told
        },
    }
}

fn with_reason(told: v1::TcpEvent, reason: Option<&Reason>) -> v1::TcpEvent {
    match reason {
        Some(Reason { id, name }) => {
            v1::TcpEvent { reason: name.to_string(), reason_id: *id, ..told }
        }
        None => told,
    }
}

/// `ECONNREFUSED`; nothing for 0 and for a number that has no name here.
fn errno_name(errno: u16) -> String {
    match Errno::from_raw(errno.into()) {
        Errno::UnknownErrno => String::new(),
        named => format!("{named:?}"),
    }
}

fn role(role: TcpRole) -> v1::TcpRole {
    match role {
        TcpRole::Unknown => v1::TcpRole::Unspecified,
        TcpRole::Client => v1::TcpRole::Client,
        TcpRole::Server => v1::TcpRole::Server,
        TcpRole::Listener => v1::TcpRole::Listener,
    }
}

pub(super) fn tcp_health(health: &TcpHealth) -> v1::TcpHealth {
    // Exhaustive: what is known of a connection is told.
    let TcpHealth {
        state,
        role: of,
        handshake_ns,
        srtt_ns,
        rtt,
        retransmits,
        bytes_sent,
        bytes_received,
        opened,
        closed,
    } = *health;
    v1::TcpHealth {
        state: state_of(state).into(),
        role: role(of).into(),
        handshake_ns,
        rtt_ns: srtt_ns,
        rtt_min_ns: rtt.map(|rtt| rtt.min),
        rtt_mean_ns: rtt.map(|rtt| rtt.mean),
        rtt_p99_ns: rtt.map(|rtt| rtt.p99),
        rtt_max_ns: rtt.map(|rtt| rtt.max),
        rtt_samples: rtt.map_or(0, |rtt| rtt.samples).into(),
        retransmits: retransmits.into(),
        bytes_sent,
        bytes_received,
        opened_ns: opened.unwrap_or_default().0,
        closed_ns: closed.unwrap_or_default().0,
    }
}

/// What events told, and what the programs counted, which misses nothing.
pub(in crate::api) fn tcp_totals(totals: &TcpTotals, counters: &TcpCounters) -> v1::TcpTotals {
    let TcpTotals {
        connects,
        accepts,
        failures,
        closes,
        resent,
        resets_sent,
        resets_received,
        overflows,
        drops,
        untracked,
        handshake,
        rtt,
    } = totals;
    let drop =
        |(reason, packets): (&str, u64)| v1::TcpDropCount { reason: reason.to_owned(), packets };
    let of_events = drops.iter().map(|of| (&*of.reason, of.packets));
    let of_kernel = counters.drops.iter().map(|(reason, packets)| (&**reason, *packets));
    v1::TcpTotals {
        connects: *connects,
        accepts: *accepts,
        failures: *failures,
        closes: *closes,
        retransmitted_segments: *resent,
        resets_sent: counters.resets_sent.max(*resets_sent),
        resets_received: counters.resets_received.max(*resets_received),
        overflows: *overflows,
        drops: match counters.drops.is_empty() {
            true => of_events.map(drop).collect(),
            false => of_kernel.map(drop).collect(),
        },
        lost_events: counters.lost,
        untracked: untracked + counters.untracked,
        handshake: Some(histogram(handshake)),
        rtt: Some(histogram(rtt)),
    }
}

pub(super) fn histogram(histogram: &Histogram) -> v1::Histogram {
    let (counts, shift) = histogram.buckets();
    let quantile = |share| histogram.quantile(share).unwrap_or(0);
    v1::Histogram {
        counts: counts.to_vec(),
        shift,
        sum: histogram.sum(),
        min: histogram.min(),
        max: histogram.max(),
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
    }
}
