use orb8_proto::filter::DnsMatcher;
use orb8_proto::v1::{DnsFilter, FlowFilter};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::event::{DnsQuestion, DnsResponse, SocketEnd};

const MS: u64 = 1_000_000;

/// A query by an owner for a name, answered with a code after some milliseconds.
fn answered(owner: u64, name: &str, rcode: u16, millis: u64) -> DnsExchange {
    DnsExchange {
        client: SocketEnd::default(),
        server: SocketEnd::default(),
        transport: 17,
        side: DnsSide::Client,
        cgroup_id: owner,
        cookie: 0,
        ifindex: 0,
        id: 1,
        question: Some(DnsQuestion { name: name.into(), kind: 1, class: 1 }),
        outcome: DnsOutcome::Answered,
        response: Some(DnsResponse { rcode, ..DnsResponse::default() }),
        asked: Some(UnixNanos(1)),
        latency_ns: millis * MS,
        retries: 0,
        told_retries: None,
        query_bytes: 30,
    }
}

fn timeout(owner: u64, name: &str) -> DnsExchange {
    let outcome = DnsOutcome::Timeout;
    DnsExchange { outcome, response: None, retries: 2, ..answered(owner, name, 0, 5_000) }
}

fn late(owner: u64, name: &str) -> DnsExchange {
    let response = Some(DnsResponse { late: true, ..DnsResponse::default() });
    DnsExchange { response, retries: 2, told_retries: Some(2), ..answered(owner, name, 0, 7_000) }
}

/// The container of a pod, in one instance of it.
fn pod(pod: u64, instance: u64) -> Workload {
    Workload {
        pod: Some(format!("pod-{pod}")),
        pod_uid: Some(format!("uid-{pod}")),
        container: Some("web".into()),
        container_id: Some(format!("id-{instance}")),
        cgroup_path: format!("/pods/{pod}/{instance}"),
        ..Workload::default()
    }
}

struct Bench {
    store: DnsStore,
    start: Instant,
    second: u64,
}

impl Bench {
    fn new(limit: usize) -> Self {
        Self { store: DnsStore::new(limit), start: Instant::now(), second: 0 }
    }

    fn apply(&mut self, exchange: &DnsExchange) {
        let owner = pod(exchange.cgroup_id, exchange.cgroup_id);
        self.apply_as(exchange, Some(owner).filter(|_| exchange.cgroup_id != 0));
    }

    fn apply_as(&mut self, exchange: &DnsExchange, owner: Option<Workload>) {
        self.second += 1;
        let now = self.start + Duration::from_secs(self.second);
        let owner = owner.map(Arc::new);
        self.store.apply(UnixNanos(self.second), exchange, owner.as_ref(), now);
    }

    fn rows(&self, query: &DnsQuery) -> Vec<DnsSummary> {
        self.store.query(query).rows
    }

    /// The one row of a name.
    fn row(&self, name: &str) -> DnsSummary {
        let mut rows = self.rows(&everything());
        rows.retain(|row| row.name.as_deref() == Some(name));
        assert_eq!(rows.len(), 1, "{name}");
        rows.remove(0)
    }

    /// What the rows add up to.
    fn sum(&self) -> DnsTotals {
        let mut sum = DnsTotals { unasked: 0, malformed: 0, ..DnsTotals::default() };
        for row in self.store.rows.values() {
            sum.queries += row.counts.queries;
            sum.responses += row.counts.responses;
            sum.timeouts += row.counts.timeouts;
        }
        sum
    }
}

fn everything() -> DnsQuery {
    DnsQuery { limit: usize::MAX, ..DnsQuery::default() }
}

fn names(rows: &[DnsSummary]) -> Vec<&str> {
    rows.iter().map(|row| row.name.as_deref().unwrap_or("other")).collect()
}

#[test]
fn exchanges_add_up_by_owner_and_name() {
    let mut bench = Bench::new(100);
    bench.apply(&answered(1, "a", 0, 1));
    bench.apply(&answered(1, "a", 3, 2));
    bench.apply(&answered(1, "a", 3, 4));
    bench.apply(&timeout(1, "a"));
    bench.apply(&answered(2, "a", 0, 1));
    let mut rows = bench.rows(&everything());
    assert_eq!(rows.len(), 2, "another owner's is another row");
    let row = rows.remove(0);
    let DnsCounts { queries, responses, timeouts, retries, rcodes, types, latency, .. } =
        &row.counts;
    assert_eq!((*queries, *responses, *timeouts, *retries), (4, 3, 1, 2));
    assert_eq!((rcodes.as_slice(), types.as_slice()), (&[(0, 1), (3, 2)][..], &[(1, 4)][..]));
    assert_eq!((latency.count(), latency.sum(), latency.max()), (3, 7 * MS, 4 * MS));
    assert_eq!((row.first, row.last), (UnixNanos(1), UnixNanos(4)));
    assert_eq!(row.workload.unwrap().pod.as_deref(), Some("pod-1"));
    assert_eq!(row.counts.errors(), 2);
}

#[test]
fn a_workload_that_was_started_again_keeps_its_rows() {
    let mut bench = Bench::new(100);
    for instance in 1..=3 {
        bench.apply_as(&answered(instance, "a", 0, 1), Some(pod(9, instance)));
    }
    let service = |path: &str| Workload {
        unit: Some("a.service".into()),
        cgroup_path: path.into(),
        ..Workload::default()
    };
    bench.apply_as(&answered(4, "b", 0, 1), Some(service("/system.slice/a.service")));
    bench.apply_as(&answered(5, "b", 0, 1), Some(service("/system.slice/a.service")));
    let rows = bench.rows(&everything());
    assert_eq!(names(&rows), ["a", "b"]);
    assert_eq!((rows[0].counts.queries, rows[1].counts.queries), (3, 2));
    let latest = rows[0].workload.as_ref().unwrap();
    assert_eq!(latest.container_id.as_deref(), Some("id-3"));
}

#[test]
fn an_owner_that_is_known_later_takes_its_rows_along() {
    let mut bench = Bench::new(100);
    bench.apply_as(&answered(1, "a", 0, 1), None);
    bench.apply_as(&answered(1, "b", 0, 1), None);
    bench.apply_as(&answered(2, "a", 0, 1), None);
    bench.apply_as(&DnsExchange { question: None, ..answered(1, "", 0, 1) }, None);
    assert_eq!(bench.rows(&everything()).len(), 4);
    bench.apply_as(&answered(1, "a", 0, 1), Some(pod(1, 1)));
    let mut rows = bench.rows(&everything());
    assert_eq!((rows.len(), rows[0].counts.queries), (4, 2));
    rows.retain(|row| row.workload.is_none());
    assert_eq!(names(&rows), ["a"], "the other cgroup's");
    assert_eq!(bench.store.owned.len(), 2);
    bench.store.find_owners(|cgroup| Some(Arc::new(pod(cgroup, 1))), bench.start);
    let rows = bench.rows(&everything());
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row.workload.is_some()), "before a question is answered");
}

#[test]
fn the_instances_of_a_workload_have_one_part_of_the_table() {
    let mut bench = Bench::new(16);
    for name in 0..20 {
        bench.apply_as(&answered(name, &format!("{name}.random"), 3, 1), Some(pod(1, name)));
    }
    assert_eq!(bench.rows(&everything()).len(), 4 + 1);
}

#[test]
fn each_timeout_and_each_repetition_counts_once() {
    let mut bench = Bench::new(100);
    bench.apply(&timeout(1, "a"));
    bench.apply(&DnsExchange { retries: 3, told_retries: Some(2), ..timeout(1, "a") });
    bench.apply(&DnsExchange { retries: 5, told_retries: Some(3), ..late(1, "a") });
    let DnsCounts { queries, responses, timeouts, retries, .. } = bench.row("a").counts;
    assert_eq!((queries, responses, timeouts, retries), (1, 1, 2, 5));
}

#[test]
fn a_late_answer_is_a_response_to_a_query_that_is_counted() {
    let mut bench = Bench::new(100);
    bench.apply(&timeout(1, "a"));
    bench.apply(&late(1, "a"));
    let DnsCounts { queries, responses, timeouts, retries, types, latency, .. } =
        bench.row("a").counts;
    assert_eq!((queries, responses, timeouts, retries), (1, 1, 1, 2));
    assert_eq!((types, latency.max()), (vec![(1, 1)], 7_000 * MS));
}

#[test]
fn what_nobody_asked_is_in_no_row() {
    let mut bench = Bench::new(100);
    bench.apply(&DnsExchange { outcome: DnsOutcome::Unasked, ..answered(1, "a", 0, 0) });
    let malformed = DnsExchange { question: None, response: None, ..answered(1, "a", 0, 0) };
    bench.apply(&DnsExchange { outcome: DnsOutcome::Malformed, ..malformed });
    let totals = bench.store.totals();
    assert_eq!((totals.unasked, totals.malformed, totals.queries), (1, 1, 0));
    assert!(bench.rows(&everything()).is_empty());
}

#[test]
fn one_owner_does_not_push_out_the_others() {
    let mut bench = Bench::new(16);
    for name in 0..100 {
        bench.apply(&answered(1, &format!("{name}.random"), 3, 1));
    }
    bench.apply(&answered(2, "a", 0, 1));
    let rows = bench.rows(&everything());
    assert_eq!(rows.len(), 4 + 1 + 1, "a quarter of the table, `other`, and the second owner's");
    let other = &rows[0];
    assert_eq!((other.name.as_ref(), other.counts.queries), (None, 96));
    assert_eq!(other.workload.as_ref().unwrap().pod.as_deref(), Some("pod-1"));
    assert_eq!(bench.row("a").counts.queries, 1);
}

#[test]
fn a_full_table_counts_new_owners_together() {
    let mut bench = Bench::new(8);
    for owner in 1..=20 {
        bench.apply(&answered(owner, "a", 0, 1));
    }
    let rows = bench.rows(&everything());
    assert_eq!(rows.len(), 9);
    assert_eq!((&rows[0].workload, rows[0].counts.queries), (&None, 12), "nobody's");
}

#[test]
fn old_rows_make_room_for_new_ones() {
    let mut bench = Bench::new(8);
    for owner in 1..=8 {
        bench.apply(&answered(owner, "a", 0, 1));
    }
    bench.second += OLD.as_secs();
    bench.apply(&answered(8, "a", 0, 1));
    bench.apply(&answered(9, "b", 0, 1));
    assert_eq!(bench.row("b").counts.queries, 1);
    let rows = bench.rows(&everything());
    let others = rows.iter().filter(|row| row.name.is_none());
    assert_eq!(others.map(|row| row.counts.queries).sum::<u64>(), 7);
    assert_eq!(bench.sum().queries, 10);
}

#[test]
fn a_question_without_a_name_is_other() {
    let mut bench = Bench::new(8);
    bench.apply(&DnsExchange { question: None, ..answered(1, "a", 0, 1) });
    assert_eq!(names(&bench.rows(&everything())), ["other"]);
}

#[test]
fn queries_sort_and_filter() {
    let mut bench = Bench::new(100);
    (0..3).for_each(|_| bench.apply(&answered(1, "often", 0, 1)));
    bench.apply(&answered(1, "slow", 0, 900));
    (0..2).for_each(|_| bench.apply(&answered(2, "missing.svc", 3, 1)));
    bench.apply(&timeout(2, "lost"));
    let sorted = |sort| bench.rows(&DnsQuery { sort, limit: 1, ..DnsQuery::default() });
    assert_eq!(names(&sorted(DnsSort::Queries)), ["often"]);
    assert_eq!(names(&sorted(DnsSort::Errors)), ["missing.svc"]);
    assert_eq!(names(&sorted(DnsSort::Timeouts)), ["lost"]);
    assert_eq!(names(&sorted(DnsSort::Latency)), ["slow"]);
    assert_eq!(names(&sorted(DnsSort::LastSeen)), ["lost"]);
    let ascending = bench.rows(&DnsQuery { ascending: true, ..everything() });
    assert_eq!(names(&ascending), ["lost", "slow", "missing.svc", "often"]);

    let filtered = |filter: DnsFilter| {
        let matcher = DnsMatcher::for_summaries(&[filter], &[]).unwrap();
        let rows = bench.rows(&DnsQuery { matcher, ..everything() });
        names(&rows).iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    let none = DnsFilter::default;
    assert_eq!(filtered(DnsFilter { name: vec!["*.svc".into()], ..none() }), ["missing.svc"]);
    assert_eq!(filtered(DnsFilter { rcode: vec!["NXDOMAIN".into()], ..none() }), ["missing.svc"]);
    let slow = DnsFilter { min_latency_ns: Some(100 * MS), ..none() };
    assert_eq!(filtered(slow), ["lost", "slow"], "timeouts are slow");
    let pod = FlowFilter { source_pod: vec!["pod-1".into()], ..FlowFilter::default() };
    assert_eq!(filtered(DnsFilter { flow: Some(pod), ..none() }), ["often", "slow"]);
}

fn exchanges() -> impl Strategy<Value = DnsExchange> {
    let response = option::of((0_u16..20, any::<bool>(), any::<bool>()));
    (0_u64..6, option::of(0_u8..40), 0_u8..3, response, 0_u64..1_000, 0_u16..12).prop_map(
        |(owner, name, side, response, millis, kind)| DnsExchange {
            side: [DnsSide::Client, DnsSide::Server, DnsSide::Transit][usize::from(side)],
            question: name.map(|name| DnsQuestion {
                name: format!("{name}.example").into(),
                kind,
                class: 1,
            }),
            outcome: match response {
                Some(_) => DnsOutcome::Answered,
                None => DnsOutcome::Timeout,
            },
            response: response.map(|(rcode, truncated, late)| DnsResponse {
                rcode,
                truncated,
                late,
                ..DnsResponse::default()
            }),
            ..answered(owner, "", 0, millis)
        },
    )
}

/// Of the cgroups 1 to 5, two at a time are instances of one pod.
fn owner(cgroup: u64, is_known: bool) -> Option<Workload> {
    Some(pod(cgroup / 2, cgroup)).filter(|_| is_known && cgroup != 0)
}

proptest! {
    #[test]
    fn nothing_counted_is_lost(
        steps in vec(
            (exchanges(), prop_oneof![9 => Just(0_u64), 1 => Just(4_000)], any::<bool>()),
            0..300,
        ),
    ) {
        let mut bench = Bench::new(16);
        for (exchange, idle, is_known) in steps {
            bench.second += idle;
            bench.apply_as(&exchange, owner(exchange.cgroup_id, is_known));
            prop_assert_eq!(bench.sum(), bench.store.totals());
            prop_assert!(bench.store.rows.len() <= 16 + 3);
            let unknown = Owner::Cgroup(exchange.cgroup_id);
            prop_assert!(!(is_known && exchange.cgroup_id != 0 && bench.store.has_rows(&unknown)));
        }
        for row in bench.store.rows.values() {
            let rcodes: u64 = row.counts.rcodes.iter().map(|(_, count)| count).sum();
            prop_assert_eq!(rcodes, row.counts.responses, "of 20 codes");
            prop_assert_eq!(row.counts.latency.count(), row.counts.responses);
            prop_assert!(row.counts.types.len() <= MAX_TYPES && row.first <= row.last);
        }
        for owner in bench.store.rows.keys().map(|key| &key.owner) {
            let keys = bench.store.rows.keys();
            let named = keys.filter(|key| key.owner == *owner && key.name.is_some()).count();
            prop_assert!(named <= 4);
            prop_assert_eq!(named, bench.store.owned.get(owner).copied().unwrap_or(0));
        }
        let named = bench.store.rows.keys().filter(|key| key.name.is_some()).count();
        prop_assert_eq!(bench.store.owned.values().sum::<usize>(), named);
    }
}
