use orb8_common::tcp::{ROLE_UNKNOWN, STATE_ESTABLISHED, STATE_LISTEN};
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::clock::Reading;

const START: u64 = 1_000_000_000_000;

/// Monotonic time is Unix time less [`START`].
fn converter() -> Converter {
    let reading = || Reading { monotonic_ns: 0, unix_ns: START };
    let named = |id, name: &str| (id, name.to_owned());
    let reasons = TcpReasons {
        drops: vec![named(3, "NO_SOCKET")],
        resets: vec![named(11, "TCP_ABORT_ON_CLOSE")],
    };
    Converter::new(Clock::with_source(reading), &reasons)
}

fn moment(kind: u8) -> TcpMoment {
    TcpMoment { kind, cookie: 7, time_ns: 5, ..TcpMoment::new_zeroed() }
}

fn socket(role: u8, state: u8) -> TcpSocket {
    TcpSocket { role, state, cookie: 7, time_ns: 5, ..TcpSocket::new_zeroed() }
}

fn told(converter: &mut Converter, record: &impl ToRecord) -> TcpSample {
    let mut batch = Vec::new();
    converter.ring(record.bytes(), &mut batch);
    sample(batch)
}

fn sample(mut batch: Vec<Event>) -> TcpSample {
    let event = batch.pop().expect("an event");
    assert!(batch.is_empty(), "one record, one event");
    assert_eq!(event.time, UnixNanos(START + 5));
    match event.payload {
        Payload::Tcp(sample) => *sample,
        payload => panic!("{payload:?}"),
    }
}

trait ToRecord {
    fn bytes(&self) -> &[u8];
}

impl ToRecord for TcpMoment {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl ToRecord for TcpSocket {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

#[test]
fn a_record_that_is_none_is_counted() {
    let mut converter = converter();
    let mut batch = Vec::new();
    converter.ring(&[1, 2, 3], &mut batch);
    converter.ring(moment(200).as_bytes(), &mut batch);
    assert!(batch.is_empty());
    assert_eq!(converter.undecodable(), 2);
}

#[test]
fn a_handshake_that_was_not_seen_is_none() {
    let mut converter = converter();
    let seen = TcpMoment { value: 1234, ..moment(MOMENT_CONNECT) };
    let kind = |handshake_ns| TcpKind::Connect { handshake_ns };
    assert_eq!(told(&mut converter, &seen).kind, kind(Some(1234)));
    assert_eq!(told(&mut converter, &moment(MOMENT_CONNECT)).kind, kind(None));
}

#[test]
fn closing_before_the_handshake_is_a_failure() {
    let mut converter = converter();
    let refused =
        TcpSocket { old_state: STATE_SYN_SENT, error: 111, ..socket(ROLE_CLIENT, STATE_CLOSE) };
    assert_eq!(told(&mut converter, &refused).kind, TcpKind::Fail { errno: 111 });
    let unfollowed = TcpMoment { old_state: STATE_SYN_SENT, error: 110, ..moment(MOMENT_CLOSE) };
    assert_eq!(told(&mut converter, &unfollowed).kind, TcpKind::Fail { errno: 110 });
    let orderly = TcpSocket { old_state: 5, ..socket(ROLE_CLIENT, STATE_CLOSE) };
    let orderly = told(&mut converter, &orderly);
    assert_eq!((orderly.kind, orderly.old_state), (TcpKind::Close { errno: 0 }, 5));
}

#[test]
fn reasons_have_the_kernels_names_and_strange_ones_their_number() {
    let mut converter = converter();
    let dropped = |reason| TcpMoment { reason, total: 4, ..moment(MOMENT_DROP) };
    let name = |sample: TcpSample| match sample.kind {
        TcpKind::Drop { reason, weight: 4, .. } => reason.name.to_string(),
        kind => panic!("{kind:?}"),
    };
    assert_eq!(name(told(&mut converter, &dropped(3))), "NO_SOCKET");
    assert_eq!(name(told(&mut converter, &dropped(0x10002))), "0x10002");
    let reset = |reason| TcpMoment { reason, ..moment(MOMENT_RESET_SENT) };
    let reason = |sample: TcpSample| match sample.kind {
        TcpKind::Reset { by: ResetBy::Local, reason } => reason.map(|reason| reason.id),
        kind => panic!("{kind:?}"),
    };
    assert_eq!(reason(told(&mut converter, &reset(11))), Some(11));
    assert_eq!(reason(told(&mut converter, &reset(0))), None, "older kernels tell none");
    let totals = converter.name_drops(&[(3, 9), (77, 1)]);
    assert_eq!(totals, [("NO_SOCKET".into(), 9), ("0x4d".into(), 1)]);
}

#[test]
fn a_listener_tells_only_of_what_it_dropped_since() {
    let mut converter = converter();
    let mut read = |drops, adopted| {
        let socket = TcpSocket {
            drops,
            adopted,
            queue: 2,
            queue_limit: 1,
            ..socket(ROLE_LISTENER, STATE_LISTEN)
        };
        let mut batch = Vec::new();
        converter.socket(&socket, &mut batch);
        (!batch.is_empty()).then(|| match sample(batch).kind {
            TcpKind::Overflow { overflows, queue: 2, limit: 1 } => overflows,
            kind => panic!("{kind:?}"),
        })
    };
    assert_eq!(read(5, 1), None, "an old listener's past is not news");
    assert_eq!(read(5, 1), None);
    assert_eq!(read(9, 1), Some(4));
    assert_eq!(read(9, 1), None);
}

#[test]
fn a_new_listeners_first_drops_are_told() {
    let mut converter = converter();
    let mut batch = Vec::new();
    let socket = TcpSocket { drops: 3, ..socket(ROLE_LISTENER, STATE_LISTEN) };
    converter.socket(&socket, &mut batch);
    assert!(matches!(sample(batch).kind, TcpKind::Overflow { overflows: 3, .. }));
}

#[test]
fn connections_older_than_the_agent_are_sampled_by_reading_them() {
    let mut converter = converter();
    for srtt_us in [100, 300, 0] {
        let old = TcpSocket { srtt_us, adopted: 1, ..socket(ROLE_UNKNOWN, STATE_ESTABLISHED) };
        let mut batch = Vec::new();
        converter.socket(&old, &mut batch);
    }
    let closed = TcpMoment { old_state: 8, value: 10, other_value: 20, ..moment(MOMENT_CLOSE) };
    let sample = told(&mut converter, &closed);
    assert_eq!(sample.kind, TcpKind::Close { errno: 0 });
    let figures = sample.figures.expect("figures");
    assert_eq!((figures.bytes_sent, figures.bytes_received), (10, 20));
    assert_eq!((figures.rtt_samples, figures.rtt_min_us, figures.rtt_max_us), (2, 100, 300));
    assert_eq!((figures.rtt[7], figures.rtt[9]), (1, 1), "64 to 127 and 256 to 511");
    assert_eq!(figures.opened, None);
}

#[test]
fn figures_are_the_sockets_own() {
    let mut converter = converter();
    let mut live = TcpSocket {
        opened_ns: 3,
        handshake_ns: 2,
        rtt_samples: 2,
        rtt_sum_us: 30,
        rtt_min_us: 10,
        rtt_max_us: 20,
        srtt_us: 15,
        retransmits: 4,
        bytes_sent: 5,
        bytes_received: 6,
        ..socket(ROLE_CLIENT, STATE_ESTABLISHED)
    };
    live.rtt[4] = 2;
    let mut batch = Vec::new();
    converter.socket(&live, &mut batch);
    let sample = sample(batch);
    assert_eq!((sample.kind, sample.role), (TcpKind::Progress, TcpRole::Client));
    assert_eq!(sample.srtt_ns, Some(15_000));
    let expected = TcpFigures {
        opened: Some(UnixNanos(START + 3)),
        handshake_ns: Some(2),
        rtt_sum_us: 30,
        rtt_samples: 2,
        rtt_min_us: 10,
        rtt_max_us: 20,
        rtt: live.rtt,
        retransmits: 4,
        bytes_sent: 5,
        bytes_received: 6,
    };
    assert_eq!(sample.figures.as_deref(), Some(&expected));
}

#[test]
fn what_closed_while_it_was_read_stays_closed() {
    let mut converter = converter();
    converter.begin_reading();
    told(&mut converter, &TcpSocket { old_state: 5, ..socket(ROLE_CLIENT, STATE_CLOSE) });
    let mut batch = Vec::new();
    let live = socket(ROLE_CLIENT, STATE_ESTABLISHED);
    converter.socket(&live, &mut batch);
    assert!(batch.is_empty());
    converter.end_reading();
    converter.socket(&live, &mut batch);
    assert_eq!(batch.len(), 1, "cookies are not used again, but only a reading is that old");
}
