use orb8_common::tcp::RTT_BUCKETS;
use orb8_proto::filter::TcpMatcher;
use orb8_proto::v1::{FlowFilter, TcpFilter, TcpState};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::event::{Reason, ResetBy, SocketEnd, TcpFigures};

mod life;
mod lookup;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const ESTABLISHED: u8 = 1;

fn end(last: u8, port: u16) -> SocketEnd {
    SocketEnd { addr: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last], port }
}

/// Something about the connection of a cookie, from 10.0.0.1 to 10.0.0.2:443.
fn sample(cookie: u64, kind: TcpKind) -> TcpSample {
    TcpSample {
        kind,
        local: end(1, cookie as u16),
        remote: end(2, 443),
        of_packet: false,
        local_end: None,
        cgroup_id: 5,
        cookie,
        netns: 9,
        ifindex: 0,
        role: TcpRole::Client,
        state: ESTABLISHED,
        old_state: 0,
        srtt_ns: None,
        figures: None,
    }
}

fn connect(cookie: u64) -> TcpSample {
    sample(cookie, TcpKind::Connect { handshake_ns: Some(2 * MS) })
}

fn close(cookie: u64) -> TcpSample {
    sample(cookie, TcpKind::Close { errno: 0 })
}

/// Figures with so many round trips of a millisecond.
fn figures(samples: u32, retransmits: u32) -> TcpFigures {
    let mut rtt = [0; RTT_BUCKETS];
    rtt[10] = samples;
    TcpFigures {
        opened: Some(UnixNanos(SECOND)),
        handshake_ns: Some(2 * MS),
        rtt_sum_us: u64::from(samples) * 1_000,
        rtt_samples: samples,
        rtt_min_us: 1_000,
        rtt_max_us: 1_000,
        rtt,
        retransmits,
        bytes_sent: 100,
        bytes_received: 200,
    }
}

fn with_figures(sample: TcpSample, figures: TcpFigures) -> TcpSample {
    TcpSample { figures: Some(Box::new(figures)), ..sample }
}

fn progress(cookie: u64, samples: u32, retransmits: u32) -> TcpSample {
    with_figures(sample(cookie, TcpKind::Progress), figures(samples, retransmits))
}

struct Bench {
    table: ConnectionTable,
    start: Instant,
    second: u64,
}

impl Bench {
    fn new(limit: usize) -> Self {
        Self { table: ConnectionTable::new(limit), start: Instant::now(), second: 0 }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.second)
    }

    fn apply(&mut self, sample: &TcpSample) {
        self.second += 1;
        let (time, now) = (UnixNanos(self.second * SECOND), self.now());
        self.table.apply(time, sample, ConnectionOwner::default(), now);
    }

    fn health(&self, cookie: u64) -> &TcpHealth {
        self.table.connections[&cookie].health()
    }

    fn ports(&self, query: &TcpQuery) -> Vec<u16> {
        let page = self.table.query(query);
        page.rows.iter().map(|connection| connection.local.port).collect()
    }
}

fn everything() -> TcpQuery {
    TcpQuery { limit: 100, ..TcpQuery::default() }
}

#[test]
fn a_connection_from_its_handshake_to_its_end() {
    let mut bench = Bench::new(10);
    bench.apply(&connect(7));
    assert_eq!(bench.health(7).opened, Some(UnixNanos(SECOND - 2 * MS)));
    bench.apply(&progress(7, 4, 1));
    let rtt = RttFigures { min: MS, mean: MS, p99: MS, max: MS, samples: 4 };
    assert_eq!((bench.health(7).rtt, bench.health(7).retransmits), (Some(rtt), 1));
    bench.apply(&with_figures(close(7), figures(6, 2)));
    let expected = TcpHealth {
        state: 7,
        role: TcpRole::Client,
        handshake_ns: Some(2 * MS),
        srtt_ns: None,
        rtt: Some(RttFigures { samples: 6, ..rtt }),
        retransmits: 2,
        bytes_sent: 100,
        bytes_received: 200,
        opened: Some(UnixNanos(SECOND)),
        closed: Some(UnixNanos(3 * SECOND)),
    };
    assert_eq!(*bench.health(7), expected);
    let TcpTotals { connects, closes, resent, handshake, rtt, .. } = bench.table.totals();
    assert_eq!((*connects, *closes, *resent), (1, 1, 2));
    assert_eq!((handshake.count(), handshake.max()), (1, 2 * MS));
    assert_eq!((rtt.count(), rtt.sum()), (6, 6 * MS), "each once");
}

#[test]
fn old_figures_are_no_news() {
    let mut bench = Bench::new(10);
    bench.apply(&progress(7, 9, 3));
    bench.apply(&progress(7, 4, 1));
    bench.apply(&with_figures(close(7), figures(10, 3)));
    bench.apply(&progress(7, 9, 3));
    assert_eq!(bench.table.totals().rtt.count(), 10);
    assert_eq!(bench.health(7).rtt.unwrap().samples, 10);
    assert_eq!(bench.table.totals().resent, 3);
}

#[test]
fn segments_sent_again_count_once_whoever_tells() {
    let mut bench = Bench::new(10);
    let again = |segments, total| sample(7, TcpKind::Retransmit { segments, total });
    bench.apply(&connect(7));
    bench.apply(&again(1, 1));
    bench.apply(&progress(7, 1, 3));
    bench.apply(&again(1, 3));
    bench.apply(&again(2, 5));
    assert_eq!((bench.table.totals().resent, bench.health(7).retransmits), (5, 5));

    // Older than the agent: what it sent again before that is its own, and not since start.
    bench.apply(&sample(8, TcpKind::Retransmit { segments: 2, total: 40 }));
    let adopted = TcpFigures { opened: None, ..figures(1, 30) };
    bench.apply(&with_figures(sample(9, TcpKind::Progress), adopted));
    assert_eq!(bench.table.totals().resent, 7);
    assert_eq!((bench.health(8).retransmits, bench.health(9).retransmits), (40, 30));

    // SYN-ACKs, by the listener's.
    let listener = TcpRole::Listener;
    bench.apply(&TcpSample {
        role: listener,
        ..sample(1, TcpKind::Retransmit { segments: 1, total: 0 })
    });
    assert_eq!((bench.table.totals().resent, bench.table.len()), (8, 3));
}

#[test]
fn a_reset_is_no_connection_and_a_half_open_one_is_the_listeners() {
    let mut bench = Bench::new(10);
    bench.apply(&sample(7, TcpKind::Reset { by: ResetBy::Local, reason: None }));
    let again = sample(8, TcpKind::Retransmit { segments: 1, total: 0 });
    bench.apply(&TcpSample { state: 12, ..again });
    assert!(bench.table.is_empty());
    assert_eq!((bench.table.totals().resets_sent, bench.table.totals().resent), (1, 1));
}

#[test]
fn the_last_counts_are_told_without_samples_too() {
    let mut bench = Bench::new(10);
    bench.apply(&progress(7, 4, 1));
    let last = TcpFigures { bytes_sent: 1_000, retransmits: 3, ..TcpFigures::default() };
    bench.apply(&with_figures(close(7), last));
    let health = bench.health(7);
    assert_eq!((health.bytes_sent, health.bytes_received, health.retransmits), (1_000, 200, 3));
    assert_eq!(health.rtt.unwrap().samples, 4);
}

#[test]
fn events_are_counted_by_kind() {
    let mut bench = Bench::new(10);
    let reason = || Reason { id: 3, name: "NO_SOCKET".into() };
    let drop =
        TcpKind::Drop { reason: reason(), location: None, weight: 4, tcp_flags: 2, bytes: 60 };
    let packet = TcpSample { of_packet: true, cookie: 0, ..sample(3, drop) };
    let overflow = TcpKind::Overflow { overflows: 5, queue: 129, limit: 128 };
    for sample in [
        sample(1, TcpKind::Accept { handshake_ns: None }),
        sample(2, TcpKind::Fail { errno: 111 }),
        sample(1, TcpKind::Reset { by: ResetBy::Local, reason: None }),
        sample(1, TcpKind::Reset { by: ResetBy::Remote, reason: Some(reason()) }),
        sample(1, TcpKind::State),
        packet.clone(),
        packet,
        TcpSample { role: TcpRole::Listener, ..sample(4, overflow) },
    ] {
        bench.apply(&sample);
    }
    let totals = bench.table.totals();
    assert_eq!((totals.connects, totals.accepts, totals.failures, totals.closes), (0, 1, 1, 0));
    assert_eq!((totals.resets_sent, totals.resets_received, totals.overflows), (1, 1, 5));
    assert_eq!(totals.drops, [DropCount { reason: "NO_SOCKET".into(), packets: 8 }]);
    assert_eq!(bench.table.len(), 2, "neither packets nor listeners");
    assert!(bench.health(2).closed.is_some());
}

#[test]
fn without_a_cookie_the_ends_tell() {
    let mut bench = Bench::new(10);
    let of = |kind| TcpSample { cookie: 0, local: end(1, 7), ..sample(0, kind) };
    bench.apply(&of(TcpKind::Connect { handshake_ns: None }));
    bench.apply(&of(TcpKind::Close { errno: 0 }));
    assert_eq!((bench.table.len(), bench.table.closed.len()), (1, 1));
    bench.apply(&of(TcpKind::Connect { handshake_ns: None }));
    assert_eq!(bench.table.len(), 2, "the port again, and another connection");
}

#[test]
fn closed_connections_stay_a_minute() {
    let mut bench = Bench::new(10);
    bench.apply(&connect(7));
    bench.apply(&close(7));
    bench.second += 59;
    bench.table.expire(bench.now());
    assert_eq!(bench.table.len(), 1);
    bench.second += 1;
    bench.table.expire(bench.now());
    assert!(bench.table.is_empty() && bench.table.by_ends.len() == 0);
}

#[test]
fn closed_connections_have_a_part_of_the_table() {
    let mut bench = Bench::new(40);
    for cookie in 1..=100 {
        bench.apply(&connect(cookie));
        bench.apply(&close(cookie));
    }
    assert_eq!((bench.table.len(), bench.table.totals().untracked), (10, 0));
    assert!(bench.table.connections.contains_key(&100));
}

#[test]
fn a_full_table_loses_no_figures() {
    let mut bench = Bench::new(2);
    for cookie in 1..=3 {
        bench.apply(&connect(cookie));
        bench.apply(&progress(cookie, 5, 1));
    }
    assert_eq!((bench.table.len(), bench.table.totals().untracked), (2, 1));
    bench.apply(&with_figures(close(3), figures(8, 2)));
    let totals = bench.table.totals();
    assert_eq!((totals.connects, totals.closes), (3, 1));
    assert_eq!((totals.rtt.count(), totals.resent), (5 + 5 + 8, 1 + 1 + 2));
    // Closed ones go first.
    bench.apply(&close(1));
    bench.apply(&connect(4));
    assert!(bench.table.connections.contains_key(&4) && !bench.table.connections.contains_key(&1));
}

#[test]
fn a_connection_whose_end_was_lost_makes_room_in_the_end() {
    let mut bench = Bench::new(1);
    bench.apply(&connect(1));
    bench.second += FORGOTTEN.as_secs();
    bench.apply(&connect(2));
    assert_eq!(bench.table.connections.keys().copied().collect::<Vec<_>>(), [2]);
}

#[test]
fn queries_sort_and_filter() {
    let mut bench = Bench::new(10);
    let slow = TcpSample { srtt_ns: Some(300 * MS), ..connect(1) };
    let server = TcpSample { role: TcpRole::Server, ..progress(2, 1, 9) };
    let far = TcpKind::Connect { handshake_ns: Some(500 * MS) };
    let large = TcpFigures { bytes_sent: 1 << 40, ..figures(1, 0) };
    let late = UnixNanos(100 * SECOND);
    let young = TcpFigures { opened: Some(late), ..figures(1, 0) };
    for sample in [
        slow,
        server,
        sample(3, far),
        with_figures(sample(4, TcpKind::Progress), large),
        with_figures(sample(5, TcpKind::Progress), young),
    ] {
        bench.apply(&sample);
    }
    let sorted = |sort| bench.ports(&TcpQuery { sort, limit: 1, ..TcpQuery::default() });
    assert_eq!(sorted(TcpSort::Rtt), [1]);
    assert_eq!(sorted(TcpSort::Retransmits), [2]);
    assert_eq!(sorted(TcpSort::Handshake), [3]);
    assert_eq!(sorted(TcpSort::Bytes), [4]);
    assert_eq!(sorted(TcpSort::Opened), [5]);
    assert_eq!(bench.table.query(&TcpQuery { limit: 0, ..everything() }).total, 5);
    let ascending = TcpQuery { ascending: true, ..everything() };
    assert_eq!(bench.ports(&ascending), [1, 3, 4, 5, 2]);

    let filtered = |filter: TcpFilter| {
        let matcher = TcpMatcher::for_connections(&[filter], &[]).unwrap();
        bench.ports(&TcpQuery { matcher, ..everything() })
    };
    let none = TcpFilter::default;
    let least = TcpFilter { min_latency_ns: Some(300 * MS), ..none() };
    assert_eq!(filtered(least), [1, 3]);
    // Of an accepted connection the other end is the source.
    let flow = Some(FlowFilter { destination_port: vec![2], ..FlowFilter::default() });
    assert_eq!(filtered(TcpFilter { flow, ..none() }), [2]);
    assert_eq!(filtered(TcpFilter { state: vec![TcpState::Close.into()], ..none() }), [0; 0]);
}

/// What may happen to one of a few connections.
#[derive(Clone, Copy, Debug)]
enum Step {
    Connect,
    /// Round trips and segments sent again, since the last time.
    Progress(u32, u32),
    /// The same, and whether the socket is used again.
    Close(u32, u32, bool),
}

fn steps() -> impl Strategy<Value = (u64, Step)> {
    let step = prop_oneof![
        Just(Step::Connect),
        (0_u32..5, 0_u32..3).prop_map(|(samples, resent)| Step::Progress(samples, resent)),
        (0_u32..5, 0_u32..3, any::<bool>())
            .prop_map(|(samples, resent, again)| Step::Close(samples, resent, again)),
    ];
    (0_u64..6, step)
}

/// A connection's figures so far.
#[derive(Clone, Copy)]
struct Sofar {
    cookie: u64,
    opened: u64,
    samples: u32,
    resent: u32,
}

impl Sofar {
    fn new(cookie: u64, opened: u64) -> Self {
        Self { cookie, opened, samples: 0, resent: 0 }
    }

    fn told_by(&self, sample: TcpSample) -> TcpSample {
        let opened = Some(UnixNanos(self.opened));
        with_figures(sample, TcpFigures { opened, ..figures(self.samples, self.resent) })
    }
}

proptest! {
    #[test]
    fn the_totals_are_those_of_all_closed_connections(steps in vec(steps(), 0..200)) {
        let mut bench = Bench::new(3);
        let mut now: Vec<Sofar> = (1..=6).map(|cookie| Sofar::new(cookie, 1)).collect();
        let (mut next, mut samples_sum, mut resent_sum) = (7, 0_u64, 0_u64);
        for (which, step) in steps {
            let at = &mut now[which as usize];
            if let Step::Progress(samples, resent) | Step::Close(samples, resent, _) = step {
                (at.samples, at.resent) = (at.samples + samples, at.resent + resent);
            }
            match step {
                Step::Connect => bench.apply(&connect(at.cookie)),
                Step::Progress(..) => bench.apply(&at.told_by(sample(at.cookie, TcpKind::Progress))),
                Step::Close(.., again) => {
                    bench.apply(&at.told_by(close(at.cookie)));
                    samples_sum += u64::from(at.samples);
                    resent_sum += u64::from(at.resent);
                    let cookie = if again { at.cookie } else { next };
                    *at = Sofar::new(cookie, bench.second * SECOND + 1);
                    next += 1;
                }
            }
            prop_assert!(bench.table.len() <= 3);
            prop_assert!(bench.table.by_ends.len() <= bench.table.len());
        }
        for at in now {
            bench.apply(&at.told_by(close(at.cookie)));
            (samples_sum, resent_sum) =
                (samples_sum + u64::from(at.samples), resent_sum + u64::from(at.resent));
        }
        let totals = bench.table.totals();
        prop_assert_eq!((totals.rtt.count(), totals.resent), (samples_sum, resent_sum));
    }
}
