use orb8_common::flow::{DIRECTION_EGRESS, HOOK_INTERFACE, HOOK_SOCKET};
use orb8_proto::filter::Matcher;
use orb8_proto::v1::FlowFilter;
use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// A store with its own time, in seconds.
struct Bench {
    store: FlowStore,
    start: Instant,
}

impl Bench {
    fn new(max_flows: u32) -> Self {
        let start = Instant::now();
        let idle_timeout = Duration::from_secs(60);
        Self { store: FlowStore::new(StoreConfig { max_flows, idle_timeout }, start), start }
    }

    fn apply(&mut self, sample: &FlowSample) -> Change {
        let now = self.start + Duration::from_nanos(sample.last.0);
        self.store.apply(sample, Owner::default(), now).0
    }

    fn end_cycle(&mut self, second: u64) {
        self.store.end_cycle(self.start + Duration::from_secs(second));
    }

    fn ended(&mut self) -> Vec<(u16, EndReason, u64)> {
        let ended = self.store.take_ended();
        ended.map(|end| (end.row.flow.key.source_port, end.reason, end.row.flow.packets)).collect()
    }

    fn rows(&self, query: &Query) -> Vec<u16> {
        let page = self.store.query(query, &InterfaceNames::default());
        page.rows.iter().map(|row| row.flow.key.source_port).collect()
    }

    /// What is held, retired and evicted, together.
    fn sum(&self) -> Totals {
        let mut sum = Totals::default();
        self.store.slab.flows().for_each(|flow| sum.add(flow));
        for gone in [self.store.retired(), self.store.evicted()] {
            sum.flows += gone.flows;
            sum.packets += gone.packets;
            sum.bytes += gone.bytes;
        }
        sum
    }
}

/// The flow out of a port, to 10.0.0.2:80.
fn key(port: u16) -> FlowKey {
    let mapped = |last| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last];
    FlowKey {
        source_addr: mapped(1),
        destination_addr: mapped(2),
        source_port: port,
        destination_port: 80,
        ifindex: 0,
        cgroup_id: 7,
        protocol: TCP,
        direction: DIRECTION_EGRESS,
        hook: HOOK_SOCKET,
        flags: 0,
        vlan: 0,
        inner_vlan: 0,
    }
}

fn counted(key: FlowKey, packets: u64, second: u64) -> FlowSample {
    FlowSample {
        key,
        kind: SampleKind::Counted,
        cgroup_id: 7,
        cookie: 9,
        ifindex: 3,
        packets,
        bytes: packets * 100,
        first: UnixNanos(second * SECOND),
        last: UnixNanos(second * SECOND),
        tcp_flags: 0x10,
    }
}

fn moment(key: FlowKey, kind: SampleKind, second: u64) -> FlowSample {
    let tcp_flags = match kind {
        SampleKind::New => SYN,
        SampleKind::Fin => FIN,
        SampleKind::Rst => RST,
        SampleKind::Counted => 0,
    };
    FlowSample { kind, tcp_flags, ..counted(key, 0, second) }
}

fn everything() -> Query {
    Query {
        matcher: Matcher::default(),
        include_self_traffic: false,
        start: None,
        end: None,
        sort: SortKey::Bytes,
        ascending: false,
        limit: 100,
    }
}

#[test]
fn samples_add_up() {
    let mut bench = Bench::new(10);
    assert_eq!(bench.apply(&moment(key(1), SampleKind::New, 1)), Change::New);
    assert_eq!(bench.apply(&moment(key(1), SampleKind::New, 1)), Change::Unchanged);
    assert_eq!(bench.apply(&counted(key(1), 3, 2)), Change::Updated);
    assert_eq!(bench.apply(&counted(key(1), 4, 5)), Change::Updated);
    assert_eq!(bench.apply(&counted(key(2), 1, 5)), Change::New);
    let page = bench.store.query(&everything(), &InterfaceNames::default());
    assert_eq!((page.total, page.rows.len()), (2, 2));
    let flow = &page.rows[0].flow;
    assert_eq!((flow.packets, flow.bytes), (7, 700));
    assert_eq!((flow.first, flow.last), (UnixNanos(SECOND), UnixNanos(5 * SECOND)));
    assert_eq!((flow.tcp_flags, flow.cookie, flow.ifindex, flow.cgroup_id), (0x12, 9, 3, 7));
    assert_eq!(bench.store.counted(), Totals { flows: 2, packets: 8, bytes: 800 });
}

#[test]
fn rates_are_over_the_last_interval() {
    let mut bench = Bench::new(10);
    bench.apply(&counted(key(1), 100, 0));
    bench.end_cycle(1);
    bench.apply(&counted(key(1), 10, 2));
    bench.apply(&counted(key(1), 20, 2));
    bench.end_cycle(3);
    let rates = |bench: &Bench| {
        let page = bench.store.query(&everything(), &InterfaceNames::default());
        (page.rows[0].packets_per_second, page.rows[0].bytes_per_second)
    };
    assert_eq!(rates(&bench), (15, 1500), "30 packets in 2 s");
    bench.end_cycle(4);
    assert_eq!(rates(&bench), (0, 0), "nothing came since");
}

#[test]
fn a_moment_without_counts_leaves_rates_as_they_are() {
    let mut bench = Bench::new(10);
    bench.end_cycle(1);
    bench.apply(&counted(key(1), 30, 2));
    bench.end_cycle(3);
    let rate = |bench: &Bench| {
        let page = bench.store.query(&everything(), &InterfaceNames::default());
        page.rows[0].packets_per_second
    };
    // Each generation of the kernel's table tells of a flow anew.
    bench.apply(&FlowSample { tcp_flags: 0, ..moment(key(1), SampleKind::New, 3) });
    assert_eq!(rate(&bench), 15);
    bench.end_cycle(4);
    assert_eq!(rate(&bench), 0, "it was no traffic either");
}

#[test]
fn a_connection_ends_with_its_last_counts() {
    let mut bench = Bench::new(10);
    let (out, back) = (key(1), reverse(&key(1)));
    bench.apply(&moment(out, SampleKind::New, 1));
    bench.apply(&moment(back, SampleKind::New, 1));
    bench.apply(&moment(out, SampleKind::Fin, 1));
    bench.end_cycle(1);
    assert_eq!(bench.ended(), [], "one FIN is half a close");
    bench.apply(&moment(back, SampleKind::Fin, 2));
    bench.end_cycle(2);
    assert_eq!(bench.ended(), [], "their counts are still in the kernel");
    bench.apply(&FlowSample { tcp_flags: SYN | FIN, ..counted(out, 5, 2) });
    bench.apply(&FlowSample { tcp_flags: SYN | FIN, ..counted(back, 4, 2) });
    bench.end_cycle(3);
    assert_eq!(bench.ended(), [(80, EndReason::Fin, 4), (1, EndReason::Fin, 5)]);
    bench.end_cycle(4);
    assert_eq!(bench.ended(), [], "told once");
    assert_eq!(bench.store.len(), 2, "still there to be asked for");
    bench.end_cycle(13);
    assert_eq!((bench.store.len(), bench.ended()), (0, vec![]));
    assert_eq!(bench.store.retired(), Totals { flows: 2, packets: 9, bytes: 900 });
}

#[test]
fn a_close_whose_counts_never_come_is_told_all_the_same() {
    let mut bench = Bench::new(10);
    bench.apply(&moment(key(1), SampleKind::Rst, 1));
    bench.end_cycle(1);
    bench.end_cycle(2);
    assert_eq!(bench.ended(), []);
    bench.end_cycle(3);
    assert_eq!(bench.ended(), [(1, EndReason::Rst, 0)]);
}

#[test]
fn a_reset_ends_both_directions() {
    let mut bench = Bench::new(10);
    bench.apply(&counted(key(1), 1, 1));
    let reset = FlowSample { tcp_flags: RST, ..counted(reverse(&key(1)), 1, 1) };
    bench.apply(&reset);
    bench.end_cycle(1);
    assert_eq!(bench.ended(), [(80, EndReason::Rst, 1)], "its counts came with the reset");
    bench.end_cycle(2);
    bench.end_cycle(3);
    assert_eq!(bench.ended(), [(1, EndReason::Rst, 1)]);
}

#[test]
fn one_direction_alone_ends_with_its_own_fin() {
    let mut bench = Bench::new(10);
    let alone = FlowKey { hook: HOOK_INTERFACE, ifindex: 2, cgroup_id: 0, ..key(1) };
    bench.apply(&FlowSample { tcp_flags: FIN, ..counted(alone, 6, 1) });
    bench.end_cycle(1);
    assert_eq!(bench.ended(), [(1, EndReason::Fin, 6)]);
}

#[test]
fn a_reused_port_is_a_new_flow() {
    let mut bench = Bench::new(10);
    bench.apply(&FlowSample { tcp_flags: RST, ..counted(key(1), 5, 1) });
    bench.end_cycle(2);
    assert_eq!(bench.ended(), [(1, EndReason::Rst, 5)]);
    let straggler = counted(key(1), 1, 3);
    assert_eq!(bench.apply(&straggler), Change::Updated, "no SYN: it belongs to the old one");
    let last_ack = FlowSample { tcp_flags: 0x10, ..moment(key(1), SampleKind::New, 3) };
    assert_eq!(
        bench.apply(&last_ack),
        Change::Unchanged,
        "nor does the moment of one open another"
    );
    assert_eq!(bench.apply(&moment(key(1), SampleKind::New, 4)), Change::New);
    assert_eq!(bench.apply(&counted(key(1), 2, 4)), Change::Updated);
    let page = bench.store.query(&everything(), &InterfaceNames::default());
    assert_eq!((page.rows[0].flow.packets, page.rows[0].flow.end), (2, None));
    assert_eq!(bench.store.retired(), Totals { flows: 1, packets: 6, bytes: 600 });
}

#[test]
fn the_syn_of_a_refused_connection_opens_no_second_one() {
    let mut bench = Bench::new(10);
    bench.apply(&moment(key(1), SampleKind::New, 1));
    bench.apply(&moment(key(1), SampleKind::Rst, 1));
    let syn = |after_ms: u64| FlowSample {
        tcp_flags: SYN,
        first: UnixNanos(SECOND + after_ms * 1_000_000),
        ..counted(key(1), 1, 1)
    };
    assert_eq!(bench.apply(&syn(10)), Change::Unchanged, "a tick off");
    bench.end_cycle(2);
    bench.end_cycle(3);
    bench.end_cycle(4);
    assert_eq!(bench.ended(), [(1, EndReason::Rst, 1)]);
    assert_eq!(bench.apply(&syn(500)), Change::New, "its moment was lost");
}

#[test]
fn an_ended_flow_that_goes_on_is_live_again() {
    let mut bench = Bench::new(10);
    bench.apply(&FlowSample { tcp_flags: RST, ..counted(key(1), 5, 1) });
    bench.end_cycle(1);
    for second in 2..=20 {
        bench.apply(&counted(key(1), 1, second));
        bench.end_cycle(second);
    }
    let page = bench.store.query(&everything(), &InterfaceNames::default());
    assert_eq!((page.rows[0].flow.packets, page.rows[0].flow.end), (24, None));
}

#[test]
fn idle_flows_expire() {
    let mut bench = Bench::new(10);
    bench.apply(&counted(key(1), 1, 0));
    bench.apply(&counted(key(2), 2, 0));
    bench.apply(&counted(key(1), 1, 30));
    bench.end_cycle(59);
    assert_eq!(bench.ended(), []);
    bench.end_cycle(60);
    assert_eq!(bench.ended(), [(2, EndReason::Idle, 2)]);
    bench.end_cycle(90);
    assert_eq!(bench.ended(), [(1, EndReason::Idle, 2)]);
    assert!(bench.store.is_empty());
    assert_eq!(bench.store.retired().packets, 4);
}

#[test]
fn a_full_store_lets_ended_flows_go_first_and_then_the_oldest() {
    let mut bench = Bench::new(3);
    bench.apply(&counted(key(1), 1, 0));
    bench.apply(&FlowSample { tcp_flags: RST, ..counted(key(2), 2, 1) });
    bench.apply(&counted(key(3), 3, 2));
    bench.end_cycle(2);
    assert_eq!(bench.ended(), [(2, EndReason::Rst, 2)]);
    bench.apply(&counted(key(4), 4, 3));
    assert_eq!(bench.ended(), [], "the ended one made room");
    assert_eq!(bench.store.evicted(), Totals::default());
    bench.apply(&counted(key(1), 1, 4));
    bench.apply(&counted(key(5), 5, 5));
    assert_eq!(bench.ended(), [(3, EndReason::Evicted, 3)]);
    assert_eq!(bench.store.evicted(), Totals { flows: 1, packets: 3, bytes: 300 });
    assert_eq!(bench.rows(&everything()), [5, 4, 1]);
}

#[test]
fn queries_sort_filter_and_limit() {
    let mut bench = Bench::new(10);
    for port in 1..=5 {
        bench.apply(&counted(key(port), u64::from(6 - port), u64::from(port)));
    }
    bench.end_cycle(6);
    assert_eq!(bench.rows(&Query { limit: 2, ..everything() }), [1, 2]);
    assert_eq!(bench.rows(&Query { limit: 2, ascending: true, ..everything() }), [5, 4]);
    assert!(bench.rows(&Query { limit: 0, ..everything() }).is_empty());
    let latest = Query { sort: SortKey::LastSeen, limit: 1, ..everything() };
    assert_eq!(bench.rows(&latest), [5]);
    let (start, end) = (Some(UnixNanos(2 * SECOND)), Some(UnixNanos(3 * SECOND)));
    assert_eq!(bench.rows(&Query { start, end, ..everything() }), [2, 3]);
    let filter = FlowFilter { source_port: vec![4], ..FlowFilter::default() };
    let matcher = Matcher::new(&[filter], &[]).unwrap();
    let page = bench.store.query(&Query { matcher, ..everything() }, &InterfaceNames::default());
    assert_eq!((page.total, page.rows[0].flow.key.source_port), (1, 4));
}

#[test]
fn own_traffic_is_hidden_unless_asked_for() {
    let mut bench = Bench::new(10);
    let owner = Owner { self_traffic: true, ..Owner::default() };
    bench.store.apply(&counted(key(1), 1, 1), owner, bench.start);
    assert!(bench.rows(&everything()).is_empty());
    assert_eq!(bench.rows(&Query { include_self_traffic: true, ..everything() }), [1]);
}

#[test]
fn an_owner_that_is_found_late_stays() {
    let mut bench = Bench::new(10);
    let subject = Arc::new(Workload { unit: Some("a.service".into()), ..Workload::default() });
    bench.apply(&counted(key(1), 1, 1));
    let owner = Owner { subject: Some(Arc::clone(&subject)), self_traffic: false };
    bench.store.apply(&counted(key(1), 1, 2), owner, bench.start);
    bench.apply(&counted(key(1), 1, 3));
    let page = bench.store.query(&everything(), &InterfaceNames::default());
    assert_eq!(page.rows[0].flow.subject(), Some(&*subject));
    let by_unit = FlowFilter { unit: vec!["a.service".into()], ..FlowFilter::default() };
    let matcher = Matcher::new(&[by_unit], &[]).unwrap();
    assert_eq!(bench.rows(&Query { matcher, ..everything() }), [1]);
    drop(page);
    bench.end_cycle(100);
    bench.ended();
    assert_eq!(Arc::strong_count(&subject), 1, "no flow, no owner");
}

fn any_sample() -> impl Strategy<Value = (FlowSample, u64, bool)> {
    let kinds = prop_oneof![
        4 => Just(SampleKind::Counted),
        2 => Just(SampleKind::New),
        1 => Just(SampleKind::Fin),
        1 => Just(SampleKind::Rst),
    ];
    (0..12_u16, any::<bool>(), kinds, 0..50_u64, 0..8_u8, 0..20_u64, any::<bool>()).prop_map(
        |(port, back, kind, packets, flags, wait, drains)| {
            let key = if back { reverse(&key(port)) } else { key(port) };
            let packets = if kind == SampleKind::Counted { packets } else { 0 };
            let sample = FlowSample { kind, tcp_flags: flags, ..counted(key, packets, 0) };
            (sample, wait, drains)
        },
    )
}

proptest! {
    #[test]
    fn nothing_counted_is_lost(samples in proptest::collection::vec(any_sample(), 1..400)) {
        let mut bench = Bench::new(8);
        let (mut second, mut packets, mut bytes) = (0, 0, 0);
        let (mut made, mut told) = (0, 0);
        for (mut sample, wait, drains) in samples {
            second += wait;
            (sample.first, sample.last) = (UnixNanos(second * SECOND), UnixNanos(second * SECOND));
            packets += sample.packets;
            bytes += sample.bytes;
            made += u64::from(bench.apply(&sample) == Change::New);
            if drains {
                bench.end_cycle(second);
            }
            told += bench.ended().len() as u64;
            prop_assert!(bench.store.len() <= 8);
        }
        prop_assert_eq!(bench.sum(), Totals { flows: made, packets, bytes });
        prop_assert_eq!(bench.store.counted(), bench.sum());
        // Everything ends at last. One that went on after its end may end twice.
        for _ in 0..5 {
            second += 100;
            bench.end_cycle(second);
        }
        told += bench.ended().len() as u64;
        prop_assert!(bench.store.is_empty());
        prop_assert!(told >= made, "{} of {} flows ended", told, made);
        prop_assert_eq!(bench.store.counted(), bench.sum());
    }
}
