use super::*;
use crate::gpu::activity::{CollectiveKind, Collectives};

const SECOND: Duration = Duration::from_secs(1);
const HASH: u64 = 0xfeed;

fn call(what: u32, communicator: u64) -> CommunicatorCall {
    CommunicatorCall {
        what,
        tgid: 1,
        time_ns: 0,
        communicator,
        hash: HASH,
        parent: 0,
        took_ns: 2_000_000,
        rank: 3,
        ranks: 8,
        result: 0,
        tid: 1,
    }
}

struct Scene {
    communicators: Communicators,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        Self { communicators: Communicators::default(), now: Instant::now() }
    }

    fn take(&mut self, call: CommunicatorCall) -> Option<GpuEventKind> {
        self.communicators.take(&call, UnixNanos(5), self.now)
    }

    fn join(&mut self, communicator: u64) -> Option<GpuEventKind> {
        self.take(call(CALL_JOINING, 0));
        self.take(call(CALL_JOINED, communicator))
    }

    fn count(&mut self, communicator: u64, kind: CollectiveKind, count: u64, bytes: u64) {
        let counted = Counted { count, bytes, unsized_count: 0 };
        let time = (SECOND, SECOND);
        let last = UnixNanos(count);
        self.communicators.count(communicator, kind as u32, counted, last, time, self.now);
    }

    fn activity(&self) -> Vec<Communicator> {
        self.communicators.activity(&Lags::default())
    }

    fn members(&self) -> Vec<(u64, u32, u64)> {
        let members = self.communicators.members();
        members.map(|(hash, member)| (hash, member.rank, member.calls)).collect()
    }
}

#[test]
fn a_communicator_is_made_used_and_ended() {
    let mut scene = Scene::new();
    scene.take(call(CALL_JOINING, 0));
    let [row] = &scene.activity()[..] else { panic!("{:?}", scene.activity()) };
    assert_eq!(row.state, CommunicatorState::Initializing);
    assert_eq!((row.hash, row.rank, row.ranks, row.last), (HASH, Some(3), Some(8), UnixNanos(5)));
    let expected = GpuEventKind::CommunicatorInit {
        communicator: HASH,
        rank: 3,
        ranks: 8,
        took: Duration::from_millis(2),
    };
    assert_eq!(scene.take(call(CALL_JOINED, 0x10)), Some(expected));
    scene.count(0x10, CollectiveKind::AllReduce, 100, 6_400);
    let [row] = &scene.activity()[..] else { panic!("{:?}", scene.activity()) };
    assert_eq!((row.state, row.last), (CommunicatorState::Ready, UnixNanos(100)));
    let all_reduce =
        Collectives { kind: CollectiveKind::AllReduce, count: 100, bytes: Some(6_400) };
    assert_eq!(row.collectives, [all_reduce]);
    assert_eq!(scene.take(call(CALL_DESTROYED, 0x10)), None);
    assert_eq!(scene.activity()[0].state, CommunicatorState::Destroyed);
    assert_eq!(scene.members(), []);
    scene.communicators.step(scene.now + KEEP);
    assert_eq!(scene.activity(), []);
}

#[test]
fn an_abort_is_told_with_what_is_known() {
    let mut scene = Scene::new();
    scene.join(0x10);
    let abort = GpuEventKind::CommunicatorAbort { communicator: HASH, rank: Some(3) };
    assert_eq!(scene.take(call(CALL_ABORTED, 0x10)), Some(abort));
    // Destroyed afterwards: it stays what it was.
    scene.take(call(CALL_DESTROYED, 0x10));
    assert_eq!(scene.activity()[0].state, CommunicatorState::Aborted);
    let unknown = GpuEventKind::CommunicatorAbort { communicator: 0, rank: None };
    assert_eq!(scene.take(call(CALL_ABORTED, 0x20)), Some(unknown));
}

#[test]
fn a_call_that_fails_makes_none() {
    let mut scene = Scene::new();
    scene.take(call(CALL_JOINING, 0));
    assert_eq!(scene.take(CommunicatorCall { result: 1, ..call(CALL_JOINED, 0x10) }), None);
    assert_eq!(scene.activity(), []);
    // `ncclInProgress`: it does not wait.
    scene.take(call(CALL_JOINING, 0));
    assert!(scene.take(CommunicatorCall { result: 7, ..call(CALL_JOINED, 0x10) }).is_some());
}

#[test]
fn bytes_are_what_this_rank_puts_in() {
    let mut scene = Scene::new();
    scene.join(0x10);
    scene.count(0x10, CollectiveKind::ReduceScatter, 2, 100);
    scene.count(0x10, CollectiveKind::Send, 3, 30);
    // Its beginning was not seen: nobody knows how many ranks it has.
    scene.count(0x20, CollectiveKind::AllToAll, 1, 100);
    let rows = scene.activity();
    assert_eq!(
        rows[0].collectives.iter().map(|row| row.bytes).collect::<Vec<_>>(),
        [Some(800), Some(30)]
    );
    assert_eq!((rows[1].hash, rows[1].rank, rows[1].collectives[0].bytes), (0, None, None));
    // A type that has no size here.
    let counted = Counted { count: 4, bytes: 0, unsized_count: 4 };
    scene.communicators.count(0x30, 0, counted, UnixNanos(1), (SECOND, SECOND), scene.now);
    let rows = scene.activity();
    let row = rows.iter().find(|row| row.collectives[0].count == 4).unwrap();
    assert_eq!(row.collectives[0].bytes, None);
}

#[test]
fn what_is_told_is_what_was_added() {
    let mut scene = Scene::new();
    scene.join(0x10);
    scene.count(0x10, CollectiveKind::AllReduce, 10, 100);
    scene.count(0x10, CollectiveKind::AllGather, 5, 50);
    let event = |calls, bytes| GpuEventKind::Collectives {
        communicator: HASH,
        rank: Some(3),
        calls,
        bytes,
    };
    assert_eq!(scene.communicators.tell(), [event(15, 150)]);
    assert_eq!(scene.communicators.tell(), []);
    scene.count(0x10, CollectiveKind::AllReduce, 11, 110);
    assert_eq!(scene.communicators.tell(), [event(1, 10)]);
}

#[test]
fn ranks_are_compared_by_what_all_of_them_call() {
    let mut scene = Scene::new();
    scene.join(0x10);
    scene.count(0x10, CollectiveKind::AllReduce, 10, 100);
    scene.count(0x10, CollectiveKind::Send, 7, 100);
    assert_eq!(scene.members(), [(HASH, 3, 10)]);
    // Without its number in the communicator it cannot be compared.
    scene.count(0x20, CollectiveKind::AllReduce, 10, 100);
    assert_eq!(scene.members().len(), 1);
}

#[test]
fn parts_of_a_communicator_have_the_same_hash_on_all_ranks() {
    let split = |colour: i32, key: u32, communicator| CommunicatorCall {
        hash: 0,
        parent: 0x10,
        rank: key,
        ranks: colour.cast_unsigned(),
        ..call(CALL_JOINED, communicator)
    };
    let hashes = |first: i32, second: i32| {
        let mut scene = Scene::new();
        scene.join(0x10);
        for (colour, communicator) in [(first, 0x20), (second, 0x30)] {
            scene.take(CommunicatorCall { what: CALL_JOINING, ..split(colour, 9, 0) });
            assert_eq!(scene.take(split(colour, 9, communicator)), None, "its rank is not known");
        }
        let rows = scene.activity();
        let mut hashes =
            Vec::from_iter(rows.iter().map(|row| row.hash).filter(|hash| *hash != HASH));
        hashes.sort_unstable();
        hashes
    };
    assert_eq!(hashes(0, 1).len(), 2);
    assert_eq!(hashes(0, 1), hashes(0, 1));
    assert_ne!(hashes(0, 0)[0], hashes(0, 0)[1], "split twice");
    // In none of the second one's parts.
    assert_eq!(hashes(0, -1).len(), 1);
    assert!(hashes(0, 1).iter().all(|hash| *hash != 0));
}

#[test]
fn one_that_is_made_within_a_group_is_found_when_it_is_used() {
    let mut scene = Scene::new();
    scene.join(0);
    scene.count(0x10, CollectiveKind::AllReduce, 1, 8);
    assert_eq!((scene.activity()[0].hash, scene.activity()[0].rank), (HASH, Some(3)));
    // Of two, nothing tells which it is.
    scene.join(0);
    scene.join(0);
    scene.count(0x20, CollectiveKind::AllReduce, 9, 8);
    assert_eq!((scene.activity()[0].hash, scene.activity()[0].rank), (0, None));
}

#[test]
fn there_are_no_more_than_there_is_room_for() {
    let mut scene = Scene::new();
    for communicator in 1..=MAX_COMMUNICATORS as u64 + 5 {
        scene.count(communicator, CollectiveKind::AllReduce, communicator, 8);
    }
    assert_eq!(scene.communicators.rows.len(), MAX_COMMUNICATORS);
    assert_eq!(scene.communicators.left_out(), 5);
    // Looked at again, they are no more.
    scene.count(MAX_COMMUNICATORS as u64 + 5, CollectiveKind::AllReduce, 70, 8);
    assert_eq!(scene.communicators.left_out(), 5);
    let rows = scene.activity();
    assert_eq!((rows.len(), rows[0].collectives[0].count), (TOLD, 64), "the busiest first");
    // One that ended makes room.
    scene.take(call(CALL_DESTROYED, 1));
    scene.count(0x999, CollectiveKind::AllReduce, 1_000, 8);
    assert_eq!(scene.activity()[0].collectives[0].count, 1_000);
    scene.take(call(CALL_DESTROYED, MAX_COMMUNICATORS as u64 + 5));
    assert!(scene.communicators.has_ended());
    let last = MAX_COMMUNICATORS as u64 + 5;
    scene.count(last, CollectiveKind::AllReduce, 71, 8);
    assert_eq!(scene.communicators.take_ended().last(), Some(last));
    assert_eq!((scene.communicators.left_out(), scene.communicators.has_ended()), (4, false));
    for _ in 0..1_000 {
        scene.take(CommunicatorCall {
            tid: scene.communicators.joining.len() as u32,
            ..call(CALL_JOINING, 0)
        });
        scene.join(0);
    }
    assert!(scene.communicators.joining.len() <= MAX_JOINING);
    assert!(scene.communicators.nowhere.len() <= MAX_JOINING);
}

fn answered(all_reduce: u64, missing: &[u32]) -> Answered {
    Answered {
        hash: 0xabc,
        rank: 3,
        ranks: 8,
        counts: vec![(CollectiveKind::AllReduce, all_reduce)],
        missing: missing.to_vec(),
    }
}

#[test]
fn nccls_own_counts_win() {
    let mut scene = Scene::new();
    scene.join(0x10);
    scene.count(0x10, CollectiveKind::AllReduce, 10, 100);
    scene.count(0x10, CollectiveKind::Send, 5, 50);
    scene.communicators.answer(0x10, Some(answered(500, &[6])), scene.now);
    let row = &scene.activity()[0];
    assert!(row.is_from_ras);
    assert_eq!((row.hash, &row.missing_ranks[..]), (HASH, &[6][..]));
    let rows: Vec<_> = row.collectives.iter().map(|row| (row.count, row.bytes)).collect();
    // The bytes of calls before the watching are not known; what it does not tell stays.
    assert_eq!(rows, [(500, None), (5, Some(50))]);
    // It is some seconds old: all calls since the beginning were seen.
    assert_eq!(scene.members(), [(HASH, 3, 10)]);
    assert!(scene.communicators.is_answered());
    scene.communicators.answer(0x10, None, scene.now);
    assert!(!scene.activity()[0].is_from_ras);
    assert_eq!(scene.members(), [(HASH, 3, 10)]);
}

#[test]
fn nccl_tells_what_was_not_seen() {
    let mut scene = Scene::new();
    scene.count(0x20, CollectiveKind::AllReduce, 10, 100);
    scene.communicators.answer(0x20, Some(answered(10, &[])), scene.now);
    let row = &scene.activity()[0];
    assert_eq!((row.hash, row.rank, row.ranks), (0xabc, Some(3), Some(8)));
    assert_eq!(row.collectives[0].bytes, Some(100), "all calls were seen");
    scene.communicators.answer(0x20, Some(answered(70, &[])), scene.now);
    assert_eq!(scene.members(), [(0xabc, 3, 70)]);
    // Its own counts are older than what was seen since.
    scene.count(0x20, CollectiveKind::AllReduce, 90, 900);
    assert_eq!(scene.activity()[0].collectives[0].count, 90);
}

#[test]
fn estimates_are_no_measure_of_who_is_behind() {
    let mut scene = Scene::new();
    scene.join(0x10);
    scene.count(0x10, CollectiveKind::AllReduce, 10, 100);
    assert_eq!(scene.members().len(), 1);
    let counted = Counted { count: 20, bytes: 200, unsized_count: 0 };
    let time = (SECOND / 10, SECOND);
    scene.communicators.count(0x10, 0, counted, UnixNanos(1), time, scene.now);
    assert_eq!(scene.members(), []);
    scene.communicators.answer(0x10, Some(answered(70, &[])), scene.now);
    assert_eq!(scene.members(), [(HASH, 3, 70)]);
}

#[test]
fn an_address_that_is_used_again_is_another_communicator() {
    let mut scene = Scene::new();
    scene.join(0x10);
    scene.count(0x10, CollectiveKind::AllReduce, 10, 100);
    scene.take(call(CALL_DESTROYED, 0x10));
    // Counted before it ended.
    scene.count(0x10, CollectiveKind::AllReduce, 12, 100);
    assert_eq!(scene.communicators.take_ended().collect::<Vec<_>>(), [0x10]);
    assert_eq!(scene.communicators.take_ended().count(), 0);
    assert_eq!(scene.activity()[0].collectives[0].count, 12);
    scene.count(0x10, CollectiveKind::AllReduce, 3, 100);
    let row = &scene.activity()[0];
    assert_eq!((row.state, row.hash, row.collectives[0].count), (CommunicatorState::Ready, 0, 3));
}

#[test]
fn one_that_begins_where_another_ended_does_not_have_its_calls() {
    let mut scene = Scene::new();
    scene.join(0x10);
    scene.count(0x10, CollectiveKind::AllReduce, 10, 100);
    scene.take(call(CALL_DESTROYED, 0x10));
    // Before the kernel's counters were forgotten.
    scene.join(0x10);
    assert!(!scene.communicators.has_ended());
    scene.count(0x10, CollectiveKind::AllReduce, 13, 130);
    let row = &scene.activity()[0];
    assert_eq!((row.state, row.collectives[0].count), (CommunicatorState::Ready, 3));
    // And where they were.
    scene.take(call(CALL_DESTROYED, 0x10));
    assert!(scene.communicators.has_ended());
    assert_eq!(scene.communicators.take_ended().count(), 1);
    scene.join(0x10);
    scene.count(0x10, CollectiveKind::AllReduce, 20, 200);
    assert_eq!(scene.activity()[0].collectives[0].count, 20);
}

#[test]
fn calls_that_are_counted_before_the_beginning_is_read_are_its_own() {
    let mut scene = Scene::new();
    scene.take(call(CALL_JOINING, 0));
    scene.count(0x10, CollectiveKind::AllReduce, 4, 40);
    assert_eq!(scene.communicators.tell().len(), 1);
    scene.take(call(CALL_JOINED, 0x10));
    scene.count(0x10, CollectiveKind::AllReduce, 6, 60);
    let row = &scene.activity()[0];
    assert_eq!((row.hash, row.rank, row.collectives[0].count), (HASH, Some(3), 6));
    assert_eq!(scene.members(), [(HASH, 3, 6)]);
    assert!(matches!(
        scene.communicators.tell()[..],
        [GpuEventKind::Collectives { calls: 2, bytes: 20, .. }]
    ));
}

#[test]
fn nccls_count_of_what_ranks_call_alike_is_what_is_compared() {
    let mut scene = Scene::new();
    scene.count(0x20, CollectiveKind::AllReduce, 10, 100);
    let mut answered = answered(10, &[]);
    answered.counts.push((CollectiveKind::Send, 999));
    scene.communicators.answer(0x20, Some(answered), scene.now);
    assert_eq!(scene.members(), [(0xabc, 3, 10)]);
}

#[test]
fn sums_have_what_was_called_in_communicators_that_are_gone_or_not_told() {
    let mut scene = Scene::new();
    let sums = |scene: &mut Scene| {
        scene.communicators.step(scene.now);
        let [row] = scene.communicators.collectives()[..] else { panic!("one kind") };
        (row.count, row.bytes)
    };
    let communicators = TOLD as u64 + 1;
    for communicator in 1..=communicators {
        scene.count(communicator, CollectiveKind::AllReduce, 10, 100);
    }
    let all = communicators * 10;
    assert_eq!(sums(&mut scene), (all, Some(all * 10)));
    scene.take(call(CALL_DESTROYED, 1));
    scene.now += KEEP;
    scene.count(2, CollectiveKind::AllReduce, 15, 150);
    assert_eq!(sums(&mut scene), (all + 5, Some(all * 10 + 50)));
    assert_eq!(scene.communicators.rows.len(), TOLD);
    // What NCCL's own account had before the watching is not of these sums; what it has since is.
    for (own, expected) in [(Some(1_000), 5), (Some(1_020), 25), (None, 25), (Some(1_030), 35)] {
        scene.communicators.answer(2, own.map(|own| answered(own, &[])), scene.now);
        assert_eq!(sums(&mut scene), (all + expected, Some(all * 10 + 50)), "{own:?}");
    }
}
