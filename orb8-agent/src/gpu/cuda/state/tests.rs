use std::fs;

use orb8_common::gpu::{
    CALL_ALLOCATED, CALL_FREED, CALL_JOINED, CALL_JOINING, Call, CommunicatorCall, SEEN, Seen,
};
use zerocopy::FromZeros;

use super::*;
use crate::clock::Reading;
use crate::gpu::cuda::governor::GROUPS;

const SECOND: Duration = Duration::from_secs(1);
const LOOK: Look = Look { elapsed: SECOND, watched: [SECOND; GROUPS], costs: [0.0; GROUPS] };

/// Processes in a directory that is like `/proc`.
struct Scene {
    proc: tempfile::TempDir,
    state: State,
    names: Names,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        let proc = tempfile::tempdir().unwrap();
        let clock = Clock::with_source(|| Reading { monotonic_ns: 1_000, unix_ns: 5_001_000 });
        let path = proc.path().to_owned();
        Self {
            state: State::new(path.clone(), SECOND, clock),
            names: Names::start(path),
            proc,
            now: Instant::now(),
        }
    }

    fn start(&self, pid: u32, start: u64) {
        let home = self.proc.path().join(pid.to_string());
        fs::create_dir_all(&home).unwrap();
        let fields = "S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0";
        fs::write(home.join("stat"), format!("{pid} (x) {fields} {start} 0 0")).unwrap();
    }

    fn stop(&self, pid: u32) {
        fs::remove_dir_all(self.proc.path().join(pid.to_string())).unwrap();
    }

    fn take(&mut self, tgid: u32, what: u32, pointer: u64, bytes: u64) {
        let mut call = Call::new_zeroed();
        (call.what, call.tgid, call.pointer, call.bytes) = (what, tgid, pointer, bytes);
        call.time_ns = 2_000;
        self.state.take(&Record::Call(call), self.now);
    }

    fn join(&mut self, tgid: u32, rank: u32) {
        for (what, communicator) in [(CALL_JOINING, 0), (CALL_JOINED, 0x10)] {
            let mut call = CommunicatorCall::new_zeroed();
            (call.what, call.tgid, call.communicator) = (what, tgid, communicator);
            (call.hash, call.rank, call.ranks) = (9, rank, 2);
            self.state.take(&Record::Communicator(call), self.now);
        }
    }

    /// Splits what was joined.
    fn split(&mut self, tgid: u32, colour: i32, key: i32) {
        for (what, communicator) in [(CALL_JOINING, 0), (CALL_JOINED, 0x20)] {
            let mut call = CommunicatorCall::new_zeroed();
            (call.what, call.tgid, call.communicator) = (what, tgid, communicator);
            (call.parent, call.took_ns) = (0x10, 3_000_000);
            (call.rank, call.ranks) = (key.cast_unsigned(), colour.cast_unsigned());
            self.state.take(&Record::Communicator(call), self.now);
        }
    }

    fn look(&mut self, launches: &[(u32, u64)], collectives: &[(u32, u64)]) {
        let counters = |launches| {
            let mut counters = Counters::new_zeroed();
            counters.launches = launches;
            counters.first_ns = 1_500;
            counters
        };
        let table = Table {
            processes: launches.iter().map(|(tgid, count)| (*tgid, counters(*count))).collect(),
            collectives: collectives
                .iter()
                .map(|(tgid, count)| {
                    let key = CollectivesKey { communicator: 0x10, tgid: *tgid, kind: 0 };
                    let (count, bytes) = (*count, *count * 4);
                    (key, Collectives { count, bytes, unsized_count: 0, last_ns: 1_700 })
                })
                .collect(),
        };
        self.state.look(&table, &LOOK, self.now);
    }

    fn end_gone(&mut self) {
        let gone = self.state.gone();
        self.state.end(&gone, self.now);
    }

    fn collect(&mut self) -> (Vec<ProcessActivity>, Vec<GpuEvent>) {
        let mut who = |pid| Process { pid, name: format!("p{pid}").into(), workload: None };
        let coverage =
            |_| Coverage { libraries: vec!["libcuda.so.1".into()], ..Default::default() };
        self.state.collect(self.now, &mut self.names, &coverage, &mut who)
    }
}

#[test]
fn records_and_counters_become_activity() {
    let mut scene = Scene::new();
    scene.start(7, 1);
    scene.take(7, CALL_ALLOCATED, 1, 100);
    scene.look(&[(7, 50)], &[(7, 3)]);
    let (activity, events) = scene.collect();
    let [row] = &activity[..] else { panic!("{activity:?}") };
    assert_eq!((row.process.pid, &*row.process.name), (7, "p7"));
    assert_eq!((row.memory.outstanding, row.launches.count), (100, 50));
    assert_eq!(row.communicators[0].collectives[0].bytes, Some(12));
    assert_eq!(&*row.coverage.libraries[0], "libcuda.so.1");
    // By the kernel's clock, as Unix time.
    assert_eq!(row.since, UnixNanos(5_002_000));
    let kinds: Vec<_> = events.iter().map(|event| &event.kind).collect();
    assert!(matches!(
        kinds[..],
        [
            GpuEventKind::Allocated { bytes: 100, .. },
            GpuEventKind::Collectives { calls: 3, .. },
            GpuEventKind::Launches { .. }
        ]
    ));
    assert_eq!(events[0].time, UnixNanos(5_002_000));
    assert_eq!(events[0].process.as_ref().map(|process| process.pid), Some(7));
    assert_eq!(scene.collect().1, []);
}

#[test]
fn a_number_that_is_used_again_is_another_process() {
    let mut scene = Scene::new();
    scene.start(7, 1);
    scene.take(7, CALL_ALLOCATED, 1, 100);
    scene.start(7, 2);
    scene.end_gone();
    scene.take(7, CALL_FREED, 1, 0);
    scene.take(7, CALL_ALLOCATED, 2, 30);
    let (activity, _) = scene.collect();
    let memory: Vec<_> =
        activity.iter().map(|row| (row.memory.outstanding, row.memory.unknown_frees)).collect();
    assert_eq!(memory, [(30, 1), (100, 0)]);
}

#[test]
fn one_that_ended_is_told_for_a_minute() {
    let mut scene = Scene::new();
    scene.start(7, 1);
    scene.take(7, CALL_ALLOCATED, 1, 100);
    scene.stop(7);
    scene.end_gone();
    assert_eq!(scene.collect().0.len(), 1);
    scene.now += KEEP - SECOND;
    assert_eq!(scene.collect().0[0].memory.outstanding, 100);
    scene.now += SECOND;
    scene.collect();
    assert_eq!(scene.collect().0, []);
}

#[test]
fn one_that_came_and_went_between_two_looks_is_told() {
    let mut scene = Scene::new();
    let mut seen = Seen::new_zeroed();
    (seen.what, seen.tgid) = (SEEN, 7);
    seen.name[..4].copy_from_slice(b"job1");
    scene.state.take(&Record::Seen(seen), scene.now);
    scene.take(7, CALL_ALLOCATED, 1, 100);
    scene.end_gone();
    let mut who = |pid| Process { pid, name: "".into(), workload: None };
    let (activity, _) =
        scene.state.collect(scene.now, &mut scene.names, &|_| Coverage::default(), &mut who);
    assert_eq!(&*activity[0].process.name, "job1");
}

#[test]
fn ranks_of_one_node_are_compared() {
    let mut scene = Scene::new();
    for (pid, rank) in [(7, 0), (8, 1)] {
        scene.start(pid, 1);
        scene.join(pid, rank);
    }
    let mut stragglers = Vec::new();
    for second in 0..15 {
        scene.look(&[(7, 0), (8, 0)], &[(7, 5 + second), (8, 5)]);
        let (activity, events) = scene.collect();
        let row = activity.iter().find(|row| row.process.pid == 7).unwrap();
        assert_eq!(row.communicators[0].behind, Some(second));
        stragglers.extend(
            events.into_iter().filter(|event| matches!(event.kind, GpuEventKind::Straggler { .. })),
        );
        scene.now += SECOND;
    }
    let [event] = &stragglers[..] else { panic!("{stragglers:?}") };
    let expected =
        GpuEventKind::Straggler { communicator: 9, rank: 1, behind: 10, is_missing: false };
    assert_eq!(
        (&event.kind, event.process.as_ref().map(|process| process.pid)),
        (&expected, Some(8))
    );
}

#[test]
fn processes_of_a_split_communicator_are_numbered_when_all_are_here() {
    let mut scene = Scene::new();
    for (pid, rank) in [(7, 0), (8, 1)] {
        scene.start(pid, 1);
        scene.join(pid, rank);
    }
    scene.collect();
    let ranks = |activity: &[ProcessActivity]| {
        let mut ranks: Vec<_> = activity
            .iter()
            .flat_map(|row| row.communicators.iter().map(|it| (row.process.pid, it)))
            .filter(|(_, it)| it.hash != 9)
            .map(|(pid, it)| (pid, it.rank, it.ranks))
            .collect();
        ranks.sort_unstable();
        ranks
    };
    scene.split(7, 3, 0);
    assert_eq!(ranks(&scene.collect().0), [(7, None, None)]);
    scene.split(8, 3, -1);
    let (activity, events) = scene.collect();
    assert_eq!(ranks(&activity), [(7, Some(1), Some(2)), (8, Some(0), Some(2))]);
    let hash = activity[0].communicators.iter().find(|it| it.hash != 9).unwrap().hash;
    let took = Duration::from_millis(3);
    let init = |rank| GpuEventKind::CommunicatorInit { communicator: hash, rank, ranks: 2, took };
    assert!([init(0), init(1)].iter().all(|init| events.iter().any(|event| event.kind == *init)));
    assert_eq!(scene.collect().1, [], "once");
}

#[test]
fn a_rank_that_died_is_missing() {
    let mut scene = Scene::new();
    for (pid, rank) in [(7, 0), (8, 1)] {
        scene.start(pid, 1);
        scene.join(pid, rank);
    }
    scene.look(&[(7, 0), (8, 0)], &[(7, 5), (8, 5)]);
    scene.stop(8);
    scene.end_gone();
    scene.look(&[(7, 0)], &[(7, 6)]);
    let (_, events) = scene.collect();
    let expected =
        GpuEventKind::Straggler { communicator: 9, rank: 1, behind: 1, is_missing: true };
    assert!(events.iter().any(|event| event.kind == expected), "{events:?}");
}

#[test]
fn sampling_is_told_and_says_so_in_every_process() {
    let mut scene = Scene::new();
    scene.start(7, 1);
    scene.take(7, CALL_ALLOCATED, 1, 100);
    let change = Change { group: Group::Launches, began: true, part: 0.25 };
    scene.state.plan([0.25, 1.0, 1.0, 1.0, 1.0], &[change]);
    let (activity, events) = scene.collect();
    assert_eq!(activity[0].coverage.sampled, [("launches", 0.25)]);
    assert_eq!(activity[0].memory.outstanding, 100, "allocations are all seen");
    let expected = GpuEventKind::Sampling { began: true, what: "launches", part: 0.25 };
    assert_eq!(
        events.last().map(|event| (&event.kind, event.process.is_none())),
        Some((&expected, true))
    );
}

#[test]
fn allocations_that_are_sampled_are_not_outstanding() {
    let mut scene = Scene::new();
    scene.start(7, 1);
    scene.take(7, CALL_ALLOCATED, 1, 100);
    scene.state.plan([0.1, 0.1, 0.1, 0.1, 0.5], &[]);
    scene.take(7, CALL_ALLOCATED, 2, 100);
    assert_eq!(scene.collect().0[0].memory.outstanding, 0);
    scene.state.plan([1.0; GROUPS], &[]);
    scene.take(7, CALL_ALLOCATED, 3, 10);
    let row = &scene.collect().0[0];
    assert_eq!(row.memory.outstanding, 10);
    assert!(row.coverage.missing[0].contains("seen in part"), "{:?}", row.coverage);
}

#[test]
fn processes_and_events_are_bounded() {
    let mut scene = Scene::new();
    for pid in 1..=MAX_PROCESSES as u32 + 3 {
        scene.take(pid, CALL_ALLOCATED, 1, 1 << 30);
    }
    assert_eq!((scene.state.live.len(), scene.state.lost()), (MAX_PROCESSES, 3));
    for address in 0..MAX_EVENTS as u64 {
        scene.take(1, CALL_ALLOCATED, 1 + address, 1 << 30);
    }
    let (_, events) = scene.collect();
    assert_eq!(events.len(), MAX_EVENTS);
    assert_eq!(scene.state.lost(), 3 + MAX_PROCESSES as u64);
    // None of them is in `/proc`.
    scene.end_gone();
    assert_eq!((scene.state.live.len(), scene.state.ended.len()), (0, MAX_ENDED));
}

#[test]
fn names_of_processes_that_are_not_told_any_more_are_forgotten() {
    let mut scene = Scene::new();
    for round in 0..5 {
        for pid in 1..=MAX_ENDED as u32 {
            scene.take(round * 1_000 + pid, CALL_ALLOCATED, 1, 100);
        }
        scene.collect();
        scene.end_gone();
    }
    scene.collect();
    assert_eq!((scene.state.ended.len(), scene.names.len()), (MAX_ENDED, MAX_ENDED));
}
