//! TCP events.

use std::fmt::Write as _;

use nix::errno::Errno;
use orb8_proto::filter::{End, TcpFields};
use orb8_proto::v1::{self, TcpState};

use super::ends::{self, Between, Line};
use super::{Record, Severity};
use crate::event::{ResetBy, TcpKind, TcpRole, UnixNanos};
use crate::otlp::attributes::Attributes;
use crate::otlp::names;
use crate::pipeline::{TcpEvent, TcpView};
use crate::store::{InterfaceNames, TcpHealth};

/// Returns the record of an event; `None` for changes of state, of which there are six to a
/// connection and which tell nothing that its open and close do not.
pub(in crate::otlp) fn event(
    time: UnixNanos,
    event: &TcpEvent,
    interfaces: &InterfaceNames,
) -> Option<Record> {
    let mut attributes = Attributes::default();
    let told = of_kind(&event.sample.kind, &mut attributes)?;
    let view = TcpView { event, interfaces };
    let domain = |end| view.label(end).map(|label| &*label.name);
    let between = Between {
        local: event.local,
        parties: End::BOTH.map(|end| view.party(end)),
        domains: End::BOTH.map(domain),
    };
    ends::tell(&view, &between, &mut attributes);
    attributes.text(names::NETWORK_CONNECTION_STATE, state(view.state()));
    attributes.text(names::TCP_ROLE, role(event.sample.role).and_then(v1::TcpRole::word));
    attributes.text(names::TCP_REASON, view.reason());
    if let Some(known) = &event.health {
        health(known, event.sample.srtt_ns, &mut attributes);
    } else {
        attributes.seconds(names::TCP_RTT, event.sample.srtt_ns);
    }
    let mut body = format!("{} {}", Line(&view, &between), told.words);
    let error = told.error.as_deref().filter(|_| told.words.ends_with(':'));
    for word in [error, view.reason()].into_iter().flatten() {
        // Writing to a String cannot fail.
        let _ = write!(body, " {word}");
    }
    let Told { name, severity, error, .. } = told;
    attributes.text(names::ERROR_TYPE, error.as_deref());
    Some(Record { time, name, severity, body, attributes })
}

/// What only this kind of event has.
struct Told {
    name: &'static str,
    severity: Severity,
    words: String,
    error: Option<String>,
}

impl Told {
    fn new(name: &'static str, severity: Severity, words: impl Into<String>) -> Self {
        Self { name, severity, words: words.into(), error: None }
    }

    fn with_error(self, error: Option<String>) -> Self {
        Self { error, ..self }
    }
}

fn of_kind(kind: &TcpKind, to: &mut Attributes) -> Option<Told> {
    Some(match kind {
        TcpKind::Progress | TcpKind::State => return None,
        TcpKind::Connect { .. } => Told::new("orb8.tcp.connect", Severity::Info, "connected"),
        TcpKind::Accept { .. } => Told::new("orb8.tcp.accept", Severity::Info, "accepted"),
        TcpKind::Fail { errno: 0 } => {
            Told::new("orb8.tcp.fail", Severity::Warn, "did not connect: the caller gave up")
                .with_error(Some("cancelled".into()))
        }
        TcpKind::Fail { errno } => Told::new("orb8.tcp.fail", Severity::Error, "did not connect:")
            .with_error(Some(errno_name(*errno))),
        TcpKind::Close { errno: 0 } => Told::new("orb8.tcp.close", Severity::Info, "closed"),
        TcpKind::Close { errno } => Told::new("orb8.tcp.close", Severity::Error, "broke:")
            .with_error(Some(errno_name(*errno))),
        TcpKind::Retransmit { segments, total: _ } => {
            to.number(names::TCP_SEGMENTS, *segments);
            Told::new("orb8.tcp.retransmit", Severity::Warn, format!("sent {segments} again"))
        }
        TcpKind::Reset { by, reason: _ } => {
            let by = match by {
                ResetBy::Local => v1::ResetBy::Local,
                ResetBy::Remote => v1::ResetBy::Remote,
            };
            let by = by.word().unwrap_or_default();
            to.text(names::TCP_RESET_BY, by);
            Told::new("orb8.tcp.reset", Severity::Warn, format!("reset by the {by} end"))
                .with_error(Some("reset".into()))
        }
        TcpKind::Drop { reason: _, location, weight, tcp_flags: _, bytes: _ } => {
            to.number(names::TCP_DROPPED, *weight);
            to.text(names::TCP_LOCATION, location.as_deref());
            Told::new("orb8.tcp.drop", Severity::Warn, format!("{weight} packets dropped"))
                .with_error(Some("drop".into()))
        }
        TcpKind::Overflow { overflows, queue, limit } => {
            to.number(names::TCP_OVERFLOWS, *overflows);
            to.number(names::TCP_QUEUE, *queue);
            to.number(names::TCP_QUEUE_LIMIT, *limit);
            let words = format!("refused {overflows} connections: {queue} of {limit} wait");
            Told::new("orb8.tcp.overflow", Severity::Error, words)
                .with_error(Some("overflow".into()))
        }
    })
}

fn health(health: &TcpHealth, srtt_ns: Option<u64>, to: &mut Attributes) {
    to.seconds(names::TCP_HANDSHAKE, health.handshake_ns);
    to.seconds(names::TCP_RTT, srtt_ns.or(health.srtt_ns));
    to.number(names::TCP_RETRANSMITS, health.retransmits);
    to.number(names::TCP_SENT, health.bytes_sent);
    to.number(names::TCP_RECEIVED, health.bytes_received);
    if let (Some(opened), Some(closed)) = (health.opened, health.closed) {
        to.seconds(names::TCP_DURATION, Some(closed.0.saturating_sub(opened.0)));
    }
}

/// `ECONNREFUSED`; the number where it has no name here.
fn errno_name(errno: u16) -> String {
    match Errno::from_raw(errno.into()) {
        Errno::UnknownErrno => format!("errno {errno}"),
        named => format!("{named:?}"),
    }
}

/// Returns the conventions' word for a state.
const fn state(state: TcpState) -> Option<&'static str> {
    Some(match state {
        TcpState::Unspecified => return None,
        TcpState::Established => "established",
        TcpState::SynSent => "syn_sent",
        TcpState::SynRecv | TcpState::NewSynRecv => "syn_received",
        TcpState::FinWait1 => "fin_wait_1",
        TcpState::FinWait2 => "fin_wait_2",
        TcpState::TimeWait => "time_wait",
        TcpState::Close => "closed",
        TcpState::CloseWait => "close_wait",
        TcpState::LastAck => "last_ack",
        TcpState::Listen => "listen",
        TcpState::Closing => "closing",
    })
}

const fn role(role: TcpRole) -> Option<v1::TcpRole> {
    Some(match role {
        TcpRole::Unknown => return None,
        TcpRole::Client => v1::TcpRole::Client,
        TcpRole::Server => v1::TcpRole::Server,
        TcpRole::Listener => v1::TcpRole::Listener,
    })
}
