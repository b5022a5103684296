//! Cells of TCP.

use super::{NOW, format};
use crate::columns::tcp;
use crate::v1::{
    Endpoint, LocalEnd, ResetBy, TcpConnection, TcpEvent, TcpEventKind, TcpHealth, TcpState,
    Workload,
};

const SECOND: u64 = 1_000_000_000;

fn end(last: u8, port: u32) -> Option<Endpoint> {
    Some(Endpoint { ip: vec![10, 0, 0, last], port, ..Endpoint::default() })
}

fn event(kind: TcpEventKind) -> TcpEvent {
    TcpEvent {
        time_ns: NOW,
        kind: kind.into(),
        source: end(1, 51_000),
        destination: end(2, 443),
        health: Some(TcpHealth {
            handshake_ns: Some(1_200_000),
            rtt_ns: Some(1_100_000),
            retransmits: 4,
            bytes_sent: 1_200_000,
            bytes_received: 34_000,
            opened_ns: NOW - 2 * SECOND,
            ..TcpHealth::default()
        }),
        ..TcpEvent::default()
    }
}

fn detail(event: &TcpEvent) -> String {
    let column = tcp::EVENTS.wide.iter().find(|column| column.name == "detail").unwrap();
    (column.value)(event, &format()).unwrap_or_default()
}

#[test]
fn each_event_has_its_own_detail() {
    let errno = |kind| TcpEvent { errno: 111, errno_name: "ECONNREFUSED".into(), ..event(kind) };
    let cases = [
        (event(TcpEventKind::Connect), "1.2ms rtt=1.1ms"),
        (event(TcpEventKind::Accept), "1.2ms rtt=1.1ms"),
        (errno(TcpEventKind::Fail), "ECONNREFUSED 2.0s"),
        (event(TcpEventKind::Close), "2.0s sent=1.2MB recv=34.0KB rtt=1.1ms retransmits=4"),
        (
            errno(TcpEventKind::Close),
            "ECONNREFUSED 2.0s sent=1.2MB recv=34.0KB rtt=1.1ms retransmits=4",
        ),
        (
            TcpEvent {
                segments: 3,
                state: TcpState::SynSent.into(),
                ..event(TcpEventKind::Retransmit)
            },
            "×3 syn-sent rtt=1.1ms",
        ),
        (
            TcpEvent {
                reset_by: ResetBy::Local.into(),
                reason: "NO_SOCKET".into(),
                ..event(TcpEventKind::Reset)
            },
            "sent NO_SOCKET",
        ),
        (
            TcpEvent {
                reason: "NETFILTER_DROP".into(),
                weight: 12,
                location: "nf_hook_slow".into(),
                tcp_flags: 2,
                bytes: 60,
                health: None,
                ..event(TcpEventKind::Drop)
            },
            "NETFILTER_DROP ×12 at=nf_hook_slow flags=S 60B",
        ),
        (
            TcpEvent {
                overflows: 5,
                queue: 129,
                queue_limit: 128,
                ..event(TcpEventKind::Overflow)
            },
            "refused=5 queue=129/128",
        ),
        (
            TcpEvent {
                old_state: TcpState::Established.into(),
                state: TcpState::FinWait1.into(),
                ..event(TcpEventKind::State)
            },
            "fin-wait-1 from=established",
        ),
    ];
    for (event, text) in cases {
        assert_eq!(detail(&event), text);
    }
    let old = TcpHealth { opened_ns: NOW - 90 * SECOND, ..TcpHealth::default() };
    let old = TcpEvent { health: Some(old), ..event(TcpEventKind::Close) };
    assert!(detail(&old).starts_with("1m30s sent=0B"), "a part has no blanks");
}

#[test]
fn what_is_not_known_is_left_out() {
    let bare = |kind: TcpEventKind| TcpEvent { kind: kind.into(), ..TcpEvent::default() };
    assert_eq!(detail(&bare(TcpEventKind::Connect)), "");
    assert_eq!(detail(&bare(TcpEventKind::Close)), "");
    assert_eq!(detail(&TcpEvent { errno: 9999, ..bare(TcpEventKind::Fail) }), "errno=9999");
}

#[test]
fn a_listener_has_one_end() {
    let cell = |name: &str, event: &TcpEvent| {
        let column = tcp::EVENTS.wide.iter().find(|column| column.name == name).unwrap();
        (column.value)(event, &format())
    };
    let mut listener = TcpEvent { source: None, ..event(TcpEventKind::Overflow) };
    listener.destination.as_mut().unwrap().workload =
        Some(Workload { unit: "nginx.service".into(), ..Workload::default() });
    listener.local_end = LocalEnd::Destination.into();
    assert_eq!(cell("source", &listener), None);
    assert_eq!(cell("destination", &listener).unwrap(), "10.0.0.2:https");
    assert_eq!(cell("owner", &listener).unwrap(), "nginx.service");
}

#[test]
fn a_connection_ages_until_it_is_closed() {
    let age = |opened_ns, closed_ns| {
        let health = Some(TcpHealth { opened_ns, closed_ns, ..TcpHealth::default() });
        let column = tcp::TOP.wide.iter().find(|column| column.name == "age").unwrap();
        (column.value)(&TcpConnection { health, ..TcpConnection::default() }, &format())
    };
    assert_eq!(age(NOW - 90 * SECOND, 0).unwrap(), "1m 30s");
    assert_eq!(age(NOW - 90 * SECOND, NOW - 89 * SECOND).unwrap(), "1.0s");
    assert_eq!(age(0, 0), None, "older than the agent");
    assert_eq!(age(NOW + SECOND, 0), None, "another clock");
}
