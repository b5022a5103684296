use super::*;
use crate::v1::{Endpoint, FlowFilter, LocalEnd, TcpConnection, TcpEvent, TcpHealth};

/// A connection from 10.0.0.1 to 10.0.0.2:443 that was made in 5 ms.
fn event(kind: TcpEventKind) -> TcpEvent {
    let end = |last, port| Endpoint { ip: vec![10, 0, 0, last], port, ..Endpoint::default() };
    TcpEvent {
        kind: kind.into(),
        source: Some(end(1, 40_000)),
        destination: Some(end(2, 443)),
        local_end: LocalEnd::Source.into(),
        state: TcpState::Established.into(),
        health: Some(TcpHealth { handshake_ns: Some(5_000_000), ..Default::default() }),
        ..Default::default()
    }
}

fn kinds(kinds: &[TcpEventKind]) -> TcpFilter {
    TcpFilter { kind: kinds.iter().map(|kind| (*kind).into()).collect(), ..Default::default() }
}

fn matcher(include: &[TcpFilter], exclude: &[TcpFilter]) -> TcpMatcher {
    TcpMatcher::new(include, exclude).unwrap()
}

#[test]
fn changes_of_state_are_for_those_who_ask() {
    let port = |port| TcpFilter {
        flow: Some(FlowFilter { port: vec![port], ..Default::default() }),
        ..Default::default()
    };
    let (state, connect) = (event(TcpEventKind::State), event(TcpEventKind::Connect));
    for quiet in [matcher(&[], &[]), matcher(&[port(443)], &[]), matcher(&[], &[port(80)])] {
        assert!(quiet.matches(&connect) && !quiet.matches(&state));
    }
    let asked = kinds(&[TcpEventKind::State, TcpEventKind::Close]);
    let matcher = matcher(&[asked, port(80)], &[]);
    assert!(matcher.matches(&state) && !matcher.matches(&connect));
}

#[test]
fn asking_for_one_connections_states_is_not_asking_for_all() {
    let port = |port| Some(FlowFilter { port: vec![port], ..Default::default() });
    let states = TcpFilter { flow: port(80), ..kinds(&[TcpEventKind::State]) };
    let all = TcpFilter { flow: port(443), ..Default::default() };
    assert!(!matcher(&[states, all], &[]).matches(&event(TcpEventKind::State)));
}

#[test]
fn each_field_is_any_of_its_values() {
    let is = |filter, event: &TcpEvent| matcher(&[filter], &[]).matches(event);
    let close = event(TcpEventKind::Close);
    assert!(is(kinds(&[TcpEventKind::Reset, TcpEventKind::Close]), &close));
    assert!(!is(kinds(&[TcpEventKind::Reset]), &close));
    let state = |state: TcpState| TcpFilter { state: vec![state.into()], ..Default::default() };
    assert!(is(state(TcpState::Established), &close) && !is(state(TcpState::Close), &close));
    let reason = |reason: &str| TcpFilter { reason: vec![reason.to_owned()], ..Default::default() };
    let drop = TcpEvent { reason: "NO_SOCKET".into(), ..event(TcpEventKind::Drop) };
    assert!(is(reason("NO_*"), &drop) && !is(reason("NO"), &drop) && !is(reason("NO_*"), &close));
}

#[test]
fn slow_is_the_handshake_or_the_round_trip() {
    let slow = |least| TcpFilter { min_latency_ns: Some(least), ..Default::default() };
    let is = |least, event: &TcpEvent| matcher(&[slow(least)], &[]).matches(event);
    let mut event = event(TcpEventKind::Close);
    assert!(is(5_000_000, &event) && !is(5_000_001, &event));
    event.health.as_mut().unwrap().rtt_ns = Some(9_000_000);
    assert!(is(9_000_000, &event));
    event.health = None;
    assert!(!is(0, &event), "neither is known");
}

#[test]
fn connections_have_no_kind() {
    let error = TcpMatcher::for_connections(&[kinds(&[TcpEventKind::Drop])], &[]).unwrap_err();
    assert_eq!(error.to_string(), "kind: connections have no such thing; it filters streams only");
    let flow = FlowFilter { interface: vec!["eth0".into()], ..Default::default() };
    let interface = TcpFilter { flow: Some(flow), ..Default::default() };
    let error = TcpMatcher::for_connections(&[], &[interface]).unwrap_err();
    assert_eq!(error.field, "interface");
    let connection =
        TcpConnection { destination: event(TcpEventKind::Close).destination, ..Default::default() };
    let port = TcpFilter {
        flow: Some(FlowFilter { destination_port: vec![443], ..Default::default() }),
        ..Default::default()
    };
    let matcher = TcpMatcher::for_connections(&[port], &[]).unwrap();
    assert!(matcher.matches(&connection) && !matcher.matches(&TcpConnection::default()));
}
