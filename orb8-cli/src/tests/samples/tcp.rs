//! TCP: a connection's life, and what goes wrong with it.

use orb8_proto::v1::stream_tcp_response::Event;
use orb8_proto::v1::{
    Endpoint, Histogram, LocalEnd, LostSource, ResetBy, StreamTcpResponse, TcpConnection,
    TcpDropCount, TcpEvent, TcpEventKind, TcpHealth, TcpRole, TcpState, TcpTotals, Workload,
};

use super::{NOON, SECOND, endpoint, lost, named, pod};

/// Of a connection that does its work.
pub(in crate::tests) fn health() -> TcpHealth {
    TcpHealth {
        state: TcpState::Established.into(),
        role: TcpRole::Client.into(),
        handshake_ns: Some(1_234_000),
        rtt_ns: Some(1_100_000),
        rtt_min_ns: Some(900_000),
        rtt_mean_ns: Some(1_200_000),
        rtt_p99_ns: Some(12_300_000),
        rtt_max_ns: Some(45_600_000),
        rtt_samples: 1234,
        retransmits: 3,
        bytes_sent: 98_765_432_100,
        bytes_received: 34_567,
        opened_ns: NOON - 90 * SECOND,
        closed_ns: 0,
    }
}

fn event(kind: TcpEventKind, source: Endpoint, destination: Endpoint) -> TcpEvent {
    TcpEvent {
        time_ns: NOON,
        kind: kind.into(),
        source: Some(source),
        destination: Some(destination),
        local_end: LocalEnd::Source.into(),
        role: TcpRole::Client.into(),
        state: TcpState::Established.into(),
        health: Some(health()),
        cgroup_id: 815,
        socket_cookie: 4242,
        network_namespace: 4_026_531_840,
        node_name: "worker-1".into(),
        ..TcpEvent::default()
    }
}

fn trainer() -> Endpoint {
    endpoint("10.244.1.12", 51_000, pod("ml", "llama-trainer-0"))
}

fn torch() -> Endpoint {
    endpoint("10.244.200.107", 29_500, None)
}

fn models() -> Endpoint {
    named("93.184.216.34", 443, "models.example.com")
}

fn failed() -> TcpEvent {
    TcpEvent {
        state: TcpState::Close.into(),
        old_state: TcpState::SynSent.into(),
        errno: 111,
        errno_name: "ECONNREFUSED".into(),
        health: Some(TcpHealth { opened_ns: NOON - 345_000, ..TcpHealth::default() }),
        ..event(TcpEventKind::Fail, trainer(), models())
    }
}

fn closed() -> TcpEvent {
    TcpEvent {
        state: TcpState::Close.into(),
        old_state: TcpState::LastAck.into(),
        health: Some(TcpHealth { state: TcpState::Close.into(), closed_ns: NOON, ..health() }),
        ..event(TcpEventKind::Close, trainer(), torch())
    }
}

fn reset() -> TcpEvent {
    TcpEvent {
        local_end: LocalEnd::Destination.into(),
        role: TcpRole::Server.into(),
        reset_by: ResetBy::Remote.into(),
        health: None,
        ..event(
            TcpEventKind::Reset,
            endpoint("192.168.100.23", 60_022, None),
            endpoint("192.168.100.200", 22, unit("ssh.service")),
        )
    }
}

/// Nobody's, and more than one.
fn dropped() -> TcpEvent {
    TcpEvent {
        local_end: LocalEnd::Unspecified.into(),
        role: TcpRole::Unspecified.into(),
        state: TcpState::Unspecified.into(),
        health: None,
        reason: "NETFILTER_DROP".into(),
        reason_id: 9,
        location: "nf_hook_slow".into(),
        weight: 12,
        tcp_flags: 2,
        bytes: 60,
        cgroup_id: 0,
        socket_cookie: 0,
        ..event(
            TcpEventKind::Drop,
            endpoint("2001:db8:1234:5678:9abc:def0:1234:5678", 40_123, None),
            endpoint("2001:db8::80", 8443, None),
        )
    }
}

fn overflow() -> TcpEvent {
    TcpEvent {
        source: None,
        local_end: LocalEnd::Destination.into(),
        role: TcpRole::Listener.into(),
        state: TcpState::Listen.into(),
        health: None,
        overflows: 5,
        queue: 129,
        queue_limit: 128,
        ..event(TcpEventKind::Overflow, trainer(), endpoint("0.0.0.0", 443, unit("nginx.service")))
    }
}

fn unit(name: &str) -> Option<Workload> {
    Some(Workload { unit: name.into(), ..Workload::default() })
}

pub(in crate::tests) fn events() -> Vec<StreamTcpResponse> {
    let told = |event| StreamTcpResponse { event: Some(Event::Tcp(event)) };
    let retransmit =
        TcpEvent { segments: 3, ..event(TcpEventKind::Retransmit, trainer(), torch()) };
    let state = TcpEvent {
        old_state: TcpState::Established.into(),
        state: TcpState::FinWait1.into(),
        ..event(TcpEventKind::State, trainer(), torch())
    };
    let lost = lost(LostSource::Subscriber).lost.map(Event::Lost);
    vec![
        told(event(TcpEventKind::Connect, trainer(), models())),
        told(failed()),
        told(retransmit),
        StreamTcpResponse { event: lost },
        told(state),
        told(closed()),
        told(reset()),
        told(dropped()),
        told(overflow()),
    ]
}

fn connection(source: Endpoint, destination: Endpoint, health: TcpHealth) -> TcpConnection {
    TcpConnection {
        source: Some(source),
        destination: Some(destination),
        local_end: LocalEnd::Source.into(),
        health: Some(health),
        cgroup_id: 815,
        socket_cookie: 4242,
        node_name: "worker-1".into(),
        self_traffic: false,
    }
}

pub(crate) fn connections() -> Vec<TcpConnection> {
    let gone = TcpHealth {
        state: TcpState::Close.into(),
        closed_ns: NOON - 30 * SECOND,
        retransmits: 0,
        ..health()
    };
    let older = TcpHealth { handshake_ns: None, opened_ns: 0, ..health() };
    let ssh = endpoint("192.168.100.200", 22, unit("ssh.service"));
    vec![
        connection(trainer(), torch(), TcpHealth { retransmits: 1234, ..health() }),
        connection(trainer(), models(), gone),
        TcpConnection {
            local_end: LocalEnd::Destination.into(),
            ..connection(endpoint("192.168.100.23", 60_022, None), ssh, older)
        },
    ]
}

pub(crate) fn totals() -> TcpTotals {
    let times = Histogram {
        counts: vec![1, 2],
        shift: 20,
        sum: 4_200_000,
        min: 900_000,
        max: 2_000_000,
        p50: 1_200_000,
        p90: 1_900_000,
        p99: 1_990_000,
    };
    TcpTotals {
        connects: 120,
        accepts: 3,
        failures: 4,
        closes: 110,
        retransmitted_segments: 1237,
        resets_sent: 1,
        resets_received: 2,
        overflows: 5,
        drops: vec![TcpDropCount { reason: "NETFILTER_DROP".into(), packets: 12 }],
        lost_events: 0,
        untracked: 0,
        handshake: Some(times.clone()),
        rtt: Some(times),
    }
}
