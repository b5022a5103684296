use std::collections::BTreeMap;

use hashbrown::HashMap;
use orb8_common::flow::{DIRECTION_EGRESS, FlowKey, HOOK_SOCKET};
use orb8_proto::filter::Matcher;
use proptest::prelude::*;

use super::*;
use crate::event::SampleKind;
use crate::identity::{Party, Workload};
use crate::store::{FlowRow, FlowStore, InterfaceNames, Owner, Page, Query, SortKey, StoreConfig};

const SECOND: u64 = 1_000_000_000;
const MIB: usize = 1 << 20;

/// A store with its history, and their own time in seconds.
struct Bench {
    store: FlowStore,
    history: History,
    began: Instant,
    now: u64,
    owner: Option<Arc<Workload>>,
}

impl Bench {
    fn new(keep: u64, bytes: usize) -> Self {
        let began = Instant::now();
        let bounds = StoreConfig { max_flows: 1 << 20, idle_timeout: Duration::from_secs(20) };
        let config = HistoryConfig { keep: Duration::from_secs(keep), bytes };
        Self {
            store: FlowStore::new(bounds, began),
            history: History::new(config, UnixNanos(1_000 * SECOND), began),
            began,
            now: 1_000,
            owner: None,
        }
    }

    fn instant(&self) -> Instant {
        self.began + Duration::from_secs(self.now - 1_000)
    }

    fn unix(&self) -> UnixNanos {
        UnixNanos(self.now * SECOND)
    }

    /// Counts packets of 100 bytes for a port.
    fn add(&mut self, port: u16, packets: u64) {
        let sample = counted(port, packets, self.unix());
        let owner = Owner { subject: self.owner.clone(), self_traffic: false };
        let flow = self.store.apply(&sample, owner, self.instant()).1;
        self.history.add(flow, &sample);
    }

    /// Ends a cycle after so many seconds.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1;
            self.store.end_cycle(self.instant());
            self.history.end_cycle(self.unix(), self.instant());
        }
    }

    fn look_back(&mut self, from: Option<u64>, to: Option<u64>) -> (Past, Page) {
        let nanos = |second: u64| UnixNanos(second * SECOND);
        let past = self.history.look_back(from.map(nanos), to.map(nanos), self.unix());
        let page = past.page(&everything(), &InterfaceNames::default(), &HashMap::new());
        (past, page)
    }

    /// Ports with their packets.
    fn moved(&mut self, from: Option<u64>, to: Option<u64>) -> Vec<(u16, u64)> {
        let rows = self.look_back(from, to).1.rows;
        let mut moved: Vec<_> =
            rows.iter().map(|row| (row.flow.key.source_port, row.flow.packets)).collect();
        moved.sort_unstable();
        moved
    }
}

fn everything() -> Query {
    Query {
        matcher: Matcher::default(),
        include_self_traffic: true,
        start: None,
        end: None,
        sort: SortKey::Bytes,
        ascending: false,
        limit: usize::MAX,
    }
}

fn key(port: u16) -> FlowKey {
    FlowKey {
        source_addr: [1; 16],
        destination_addr: [2; 16],
        source_port: port,
        destination_port: 80,
        ifindex: 0,
        cgroup_id: 7,
        protocol: 6,
        direction: DIRECTION_EGRESS,
        hook: HOOK_SOCKET,
        flags: 0,
        vlan: 0,
        inner_vlan: 0,
    }
}

fn counted(port: u16, packets: u64, last: UnixNanos) -> FlowSample {
    FlowSample {
        key: key(port),
        kind: SampleKind::Counted,
        cgroup_id: 7,
        cookie: 9,
        ifindex: 3,
        packets,
        bytes: packets.saturating_mul(100),
        first: last,
        last,
        tcp_flags: 0x10,
    }
}

fn window(past: &Past) -> (u64, u64) {
    let Window { start, end } = past.window();
    (start.0 / SECOND, end.0 / SECOND)
}

#[test]
fn parts_fit_their_budget() {
    assert!(size_of::<Described>() <= 128, "{}", size_of::<Described>());
    assert!(size_of::<segment::Delta>() <= 24, "{}", size_of::<segment::Delta>());
}

#[test]
fn a_window_has_what_moved_in_it() {
    let mut bench = Bench::new(900, MIB);
    for port in 1..=20 {
        bench.add(port, 10);
        bench.add(99, 1);
        bench.pass(1);
    }
    // Second 1000 has port 1, and so on; segments end at 1005, 1010, 1015, 1020.
    let expected: Vec<_> = (6..=10).map(|port| (port, 10)).chain([(99, 5)]).collect();
    assert_eq!(bench.moved(Some(1_005), Some(1_010)), expected);
    let (past, page) = bench.look_back(Some(1_006), Some(1_009));
    assert_eq!(window(&past), (1_005, 1_010), "extended to where segments begin and end");
    assert_eq!(page.total, 6);
    let long = page.rows.iter().find(|row| row.flow.key.source_port == 99).unwrap();
    assert_eq!((long.flow.packets, long.flow.bytes), (5, 500));
    assert_eq!((long.bytes_per_second, long.packets_per_second), (100, 1));
    assert_eq!(long.flow.first, UnixNanos(1_000 * SECOND), "it began earlier");
    assert_eq!(long.flow.last, UnixNanos(1_009 * SECOND));
    assert_eq!(bench.moved(None, None).len(), 21);
    assert_eq!(bench.moved(Some(1_020), None), [], "nothing moved since");
    assert_eq!(window(&bench.look_back(Some(1_500), None).0), (1_020, 1_020), "not yet");
    assert_eq!(window(&bench.look_back(Some(1), Some(2)).0), (1_000, 1_000), "before the start");
}

#[test]
fn a_question_divides_the_history() {
    let mut bench = Bench::new(900, MIB);
    bench.add(1, 1);
    bench.pass(1);
    assert_eq!(bench.moved(None, None), [(1, 1)], "what is open counts");
    bench.add(1, 2);
    bench.pass(1);
    assert_eq!(bench.moved(Some(1_001), None), [(1, 2)]);
    assert_eq!(bench.moved(None, Some(1_001)), [(1, 1)]);
}

#[test]
fn ended_flows_are_in_it_and_a_key_may_come_back() {
    let mut bench = Bench::new(900, MIB);
    bench.add(1, 5);
    bench.pass(60);
    assert!(bench.store.is_empty(), "it was idle");
    bench.add(1, 7);
    bench.pass(6);
    assert_eq!(bench.moved(None, None), [(1, 5), (1, 7)], "two flows");
    assert_eq!(bench.moved(None, Some(1_030)), [(1, 5)]);
    // In one chapter too.
    let mut bench = Bench::new(86_400, MIB);
    bench.add(1, 5);
    bench.pass(30);
    bench.add(1, 7);
    bench.pass(6);
    assert_eq!(bench.moved(None, None), [(1, 5), (1, 7)]);
}

#[test]
fn owners_are_those_of_then() {
    let owner =
        |path: &str| Some(Arc::new(Workload { cgroup_path: path.into(), ..Workload::default() }));
    let path = |page: &Page| match &page.rows[0].flow.ends.source {
        Party::Workload(workload) => workload.cgroup_path.clone(),
        party => panic!("{party:?}"),
    };
    let mut bench = Bench::new(900, MIB);
    bench.owner = owner("/a");
    bench.add(1, 1);
    bench.pass(60);
    bench.owner = owner("/b");
    bench.add(1, 1);
    bench.pass(10);
    bench.owner = owner("/c");
    bench.add(1, 1);
    bench.pass(10);
    assert_eq!(path(&bench.look_back(None, Some(1_060)).1), "/a");
    assert_eq!(path(&bench.look_back(Some(1_060), Some(1_070)).1), "/b");
    let (_, page) = bench.look_back(Some(1_060), None);
    assert_eq!((page.rows.len(), path(&page).as_str(), page.rows[0].flow.packets), (1, "/c", 2));
}

#[test]
fn the_oldest_goes_by_age() {
    let mut bench = Bench::new(60, MIB);
    for port in 1..=200 {
        bench.add(port, 1);
        bench.pass(1);
    }
    let (past, page) = bench.look_back(None, None);
    let since = past.reaches_back_to().0 / SECOND;
    assert!((1_130..=1_140).contains(&since), "{since}: a minute, and the rest of a chapter");
    assert_eq!(window(&past), (since, 1_200));
    assert_eq!(page.total, 1_200 - since);
    bench.pass(200);
    assert_eq!(bench.history.bytes(), 0, "an idle agent has none");
}

#[test]
fn the_oldest_goes_by_bytes() {
    let mut bench = Bench::new(86_400, MIB);
    let mut told = 0;
    for second in 0..60_u64 {
        for port in 0..2_000 {
            bench.add((port + second * 1_000) as u16, 1);
            told += 1;
        }
        bench.pass(1);
        assert!(bench.history.bytes() <= MIB, "{}", bench.history.bytes());
    }
    let (past, page) = bench.look_back(None, None);
    assert!(past.reaches_back_to() > UnixNanos(1_000 * SECOND));
    let kept: u64 = page.rows.iter().map(|row| row.flow.packets).sum();
    assert!(kept < told && kept > 4_000, "{kept} of {told}");
    assert!(bench.history.bytes() > MIB * 3 / 4, "{}", bench.history.bytes());
}

#[test]
fn a_burst_in_one_drain_stays_within_bounds() {
    let mut bench = Bench::new(900, MIB);
    for port in 0..60_000 {
        bench.add(port, 1);
        assert!(bench.history.bytes() <= MIB + MIB / 4, "{}", bench.history.bytes());
    }
    bench.pass(1);
    let total = bench.look_back(None, None).1.total;
    assert!((4_000..8_000).contains(&total), "{total}");
}

#[test]
fn counts_beyond_32_bits_are_whole() {
    let mut bench = Bench::new(900, MIB);
    for packets in [u64::from(u32::MAX), 2, 1 << 40] {
        bench.add(1, packets);
    }
    bench.pass(5);
    let sum = (1 << 40) + u64::from(u32::MAX) + 2;
    assert_eq!(bench.moved(None, None), [(1, sum)]);
}

#[test]
fn a_clock_that_is_set_back_divides_nothing_twice() {
    let mut bench = Bench::new(900, MIB);
    bench.add(1, 1);
    bench.pass(10);
    bench.history.close_segment(UnixNanos(500 * SECOND));
    bench.add(1, 2);
    bench.pass(10);
    assert_eq!(bench.moved(None, None), [(1, 3)]);
    let (past, _) = bench.look_back(None, None);
    assert_eq!(window(&past), (1_000, 1_020));
}

#[test]
fn the_limit_keeps_what_comes_first() {
    let mut bench = Bench::new(900, MIB);
    for port in 1..=50 {
        bench.add(port, port.into());
    }
    let past = bench.history.look_back(None, None, bench.unix());
    let ask = |sort, ascending| {
        let query = Query { sort, ascending, limit: 3, ..everything() };
        let page = past.page(&query, &InterfaceNames::default(), &HashMap::new());
        assert_eq!(page.total, 50);
        let port = |row: &FlowRow| row.flow.key.source_port;
        page.rows.iter().map(port).collect::<Vec<_>>()
    };
    assert_eq!(ask(SortKey::Packets, false), [50, 49, 48]);
    assert_eq!(ask(SortKey::Bytes, true), [1, 2, 3]);
    assert_eq!(ask(SortKey::LastSeen, false), [1, 2, 3], "the key breaks ties");
}

/// What a test does: traffic of some ports, then time that passes, and perhaps a question.
type Step = (Vec<(u16, u64)>, u64, bool);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let traffic = prop::collection::vec((1_u16..12, 1_u64..1_000), 0..6);
    prop::collection::vec((traffic, 0_u64..30, any::<bool>()), 1..60)
}

proptest! {
    /// Whatever windows time is divided into, all of them together are the totals.
    #[test]
    fn windows_add_up(steps in steps(), cuts in prop::collection::vec(900_u64..3_000, 0..8)) {
        let mut bench = Bench::new(86_400, 64 * MIB);
        let mut totals: BTreeMap<u16, u64> = BTreeMap::new();
        for (traffic, seconds, asks) in steps {
            for (port, packets) in traffic {
                bench.add(port, packets);
                *totals.entry(port).or_default() += packets;
            }
            bench.pass(seconds);
            if asks {
                bench.look_back(None, None);
            }
        }
        let mut cuts: Vec<Option<u64>> = cuts.into_iter().map(Some).collect();
        cuts.sort_unstable();
        cuts.push(None);
        let mut sums: BTreeMap<u16, u64> = BTreeMap::new();
        let mut from = UnixNanos(900 * SECOND);
        for cut in cuts {
            let cut = cut.map(|second| UnixNanos(second * SECOND));
            if cut.is_some_and(|cut| cut <= from) {
                continue;
            }
            let past = bench.history.look_back(Some(from), cut, bench.unix());
            let page = past.page(&everything(), &InterfaceNames::default(), &HashMap::new());
            for row in page.rows {
                *sums.entry(row.flow.key.source_port).or_default() += row.flow.packets;
                prop_assert_eq!(row.flow.bytes, row.flow.packets * 100);
            }
            from = from.max(past.window().end);
        }
        prop_assert_eq!(sums, totals);
    }
}
