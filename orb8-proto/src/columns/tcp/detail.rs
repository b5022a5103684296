//! What a TCP event has to tell besides who it is about.
//!
//! Parts have no blanks, so that each is shown whole or not at all; what matters most comes first.

use crate::columns::Format;
use crate::columns::cells::{self, Cell};
use crate::units;
use crate::v1::{ResetBy, TcpEvent, TcpEventKind, TcpHealth, TcpState};

pub(super) fn text(event: &TcpEvent, _: &Format) -> Cell {
    let parts = match event.kind() {
        TcpEventKind::Connect | TcpEventKind::Accept => opened(event),
        TcpEventKind::Fail => vec![error(event), after(event)],
        TcpEventKind::Close => closed(event),
        TcpEventKind::Retransmit => retransmitted(event),
        TcpEventKind::Reset => vec![reset_by(event), cells::text(&event.reason)],
        TcpEventKind::Drop => dropped(event),
        TcpEventKind::Overflow => overflowed(event),
        TcpEventKind::State => states(event),
        TcpEventKind::Unspecified => Vec::new(),
    };
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    cells::text(&parts.join(" "))
}

fn opened(event: &TcpEvent) -> Vec<Cell> {
    let took = event.health.as_ref().and_then(|health| health.handshake_ns);
    vec![took.map(units::latency), rtt(event)]
}

fn closed(event: &TcpEvent) -> Vec<Cell> {
    let health = event.health.as_ref();
    let carried = |what: &str, bytes: fn(&TcpHealth) -> u64| {
        health.map(|health| format!("{what}={}", units::bytes(bytes(health))))
    };
    let again = health.map(|health| health.retransmits).filter(|again| *again > 0);
    vec![
        error(event),
        after(event),
        carried("sent", |health| health.bytes_sent),
        carried("recv", |health| health.bytes_received),
        rtt(event),
        again.map(|again| format!("retransmits={}", units::packets(again))),
    ]
}

fn retransmitted(event: &TcpEvent) -> Vec<Cell> {
    let unusual = (event.state() != TcpState::Established).then(|| event.state().word()).flatten();
    vec![Some(format!("×{}", event.segments)), cells::word(unusual), rtt(event)]
}

fn dropped(event: &TcpEvent) -> Vec<Cell> {
    vec![
        cells::text(&event.reason),
        (event.weight > 1).then(|| format!("×{}", units::packets(event.weight))),
        cells::text(&event.location).map(|location| format!("at={location}")),
        cells::text(&cells::tcp_flags(event.tcp_flags)).map(|flags| format!("flags={flags}")),
        (event.bytes > 0).then(|| units::bytes(event.bytes.into())),
    ]
}

fn overflowed(event: &TcpEvent) -> Vec<Cell> {
    vec![
        Some(format!("refused={}", units::packets(event.overflows))),
        Some(format!("queue={}/{}", event.queue, event.queue_limit)),
    ]
}

fn states(event: &TcpEvent) -> Vec<Cell> {
    let old = event.old_state().word().map(|old| format!("from={old}"));
    vec![cells::word(event.state().word()), old]
}

fn error(event: &TcpEvent) -> Cell {
    let number = || (event.errno > 0).then(|| format!("errno={}", event.errno));
    cells::text(&event.errno_name).or_else(number)
}

/// How long it took to get here.
fn after(event: &TcpEvent) -> Cell {
    let opened = event.health.as_ref()?.opened_ns;
    cells::span(opened, event.time_ns).map(|span| span.replace(' ', ""))
}

fn rtt(event: &TcpEvent) -> Cell {
    cells::rtt(event.health.as_ref()).map(|rtt| format!("rtt={rtt}"))
}

fn reset_by(event: &TcpEvent) -> Cell {
    match event.reset_by() {
        ResetBy::Local => Some("sent".to_owned()),
        ResetBy::Remote => Some("received".to_owned()),
        ResetBy::Unspecified => None,
    }
}
