use std::path::PathBuf;

use orb8_common::gpu::{ALLOCATION_DEVICE, Allocations, FRAMES, STACK};
use zerocopy::FromZeros;

use super::*;
use crate::gpu::cuda::governor::GROUPS;
use crate::gpu::cuda::stacks::Names;

const LOOK: Look = Look {
    elapsed: Duration::from_secs(1),
    watched: [Duration::from_secs(1); GROUPS],
    costs: [0.0; GROUPS],
};

fn call(what: u32, pointer: u64, bytes: u64) -> Call {
    let mut call = Call::new_zeroed();
    (call.what, call.pointer, call.bytes, call.kind) = (what, pointer, bytes, ALLOCATION_DEVICE);
    call
}

struct Scene {
    process: Watched,
    room: Room,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        let key = ProcessKey { pid: 7, start: 1 };
        let process = Watched::new(key, UnixNanos(10), Duration::from_secs(60));
        Self { process, room: Room::new(), now: Instant::now() }
    }

    fn take(&mut self, call: &Call, is_whole: bool) -> Option<GpuEventKind> {
        self.process.call(call, UnixNanos(20), self.now, is_whole, &mut self.room)
    }

    fn activity(&mut self) -> ProcessActivity {
        let process =
            self.process.identify(&mut |pid| Process { pid, name: "who".into(), workload: None });
        let mut names = Names::start(PathBuf::from("/nowhere"));
        let mut frames = names.frames(self.process.key);
        self.process.activity(process, &Lags::default(), &mut frames, Coverage::default())
    }
}

#[test]
fn the_start_is_the_22nd_field_whatever_the_name_is() {
    let stat = |name: &str, state: &str| {
        format!(
            "12 ({name}) {state} 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 987654 0 0 18446744073709551615"
        )
    };
    assert_eq!(parse_start_time(&stat("python3", "S")), Some(987_654));
    assert_eq!(parse_start_time(&stat("a) R 1 (b", "R")), Some(987_654));
    assert_eq!(parse_start_time(&stat("gone", "Z")), None);
    assert_eq!(parse_start_time("12 (x"), None);
    assert_eq!(parse_start_time("12 (x) S 1"), None);
    assert!(start_time(Path::new("/proc/self")).is_some());
    let home = tempfile::tempdir().expect("a folder");
    let cut = [b"12 (caf\xc3) S", " 1".repeat(18).as_bytes(), b" 987654 0 0"].concat();
    std::fs::write(home.path().join("stat"), cut).expect("written");
    assert_eq!(start_time(home.path()), Some(987_654), "a name that is cut off in a character");
}

#[test]
fn large_allocations_are_always_told_and_small_ones_not_all() {
    let mut scene = Scene::new();
    let told = |scene: &mut Scene, bytes| {
        (0..100).filter(|i| scene.take(&call(CALL_ALLOCATED, 1 + i, bytes), true).is_some()).count()
    };
    assert_eq!(told(&mut scene, 1 << 20), TOLD_ALLOCATIONS as usize);
    assert_eq!(told(&mut scene, LARGE), 100);
    scene.now += Duration::from_secs(1);
    assert_eq!(told(&mut scene, 1 << 20), TOLD_ALLOCATIONS as usize);
}

#[test]
fn a_refusal_is_told_with_the_drivers_error() {
    let mut scene = Scene::new();
    let refused = Call { result: 2, ..call(CALL_REFUSED, 0, 1 << 40) };
    let expected = GpuEventKind::AllocationFailed { bytes: 1 << 40, error: 2 };
    assert_eq!(scene.take(&refused, true), Some(expected));
    // A program that tries again and again.
    let told = (0..1_000).filter(|_| scene.take(&refused, true).is_some()).count();
    assert!(told < TOLD_ALLOCATIONS as usize, "{told}");
}

#[test]
fn only_long_modules_are_told() {
    let mut scene = Scene::new();
    let module = |took_ns| Call { took_ns, ..call(CALL_MODULE, 0, 0) };
    assert_eq!(scene.take(&module(9_999_999), true), None);
    let took = Duration::from_millis(10);
    assert_eq!(scene.take(&module(10_000_000), true), Some(GpuEventKind::ModuleLoaded { took }));
}

#[test]
fn frames_are_those_that_were_told() {
    let mut scene = Scene::new();
    let mut frames = [0; FRAMES];
    (frames[0], frames[1]) = (0x10, 0x20);
    scene.process.remember(&Told { what: STACK, tgid: 7, id: 5, count: 2, reserved: 0, frames });
    scene.take(&Call { stack: 5, ..call(CALL_ALLOCATED, 1, 100) }, true);
    // Its frames were lost.
    scene.take(&Call { stack: 6, ..call(CALL_ALLOCATED, 2, 1) }, true);
    let activity = scene.activity();
    let frames: Vec<_> = activity.memory.sites[0].frames.iter().map(|frame| &**frame).collect();
    assert_eq!(frames, ["0x10", "0x20"]);
    assert_eq!((activity.memory.sites.len(), activity.memory.other_sites), (1, 1));
    assert_eq!((activity.since, activity.last), (UnixNanos(10), UnixNanos(20)));
}

#[test]
fn stacks_are_bounded() {
    let mut scene = Scene::new();
    for id in 1..3_000 {
        let frames = [id; FRAMES];
        scene.process.remember(&Told { what: STACK, tgid: 7, id, count: 24, reserved: 0, frames });
    }
    assert_eq!(scene.process.stacks.len(), MAX_STACKS);
}

#[test]
fn what_is_seen_in_part_is_not_outstanding() {
    let mut scene = Scene::new();
    scene.take(&call(CALL_ALLOCATED, 1, 100), false);
    scene.take(&call(CALL_FREED, 2, 0), false);
    let memory = scene.activity().memory;
    assert_eq!((memory.outstanding, memory.unknown_frees), (0, 0));
}

#[test]
fn what_the_ring_lost_is_said() {
    let mut scene = Scene::new();
    let mut counters = Counters::new_zeroed();
    counters.allocations[0] = Allocations { count: 3, bytes: 300, freed: 0, failed: 2 };
    counters.lost = 2;
    counters.uncounted_collectives = 4;
    scene.process.count(&counters, 0, &LOOK, UnixNanos(30));
    scene.process.count(&counters, 0, &LOOK, UnixNanos(40));
    let activity = scene.activity();
    assert_eq!((activity.memory.allocated[0].count, activity.memory.failed), (3, 2));
    let missing = &activity.coverage.missing;
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert!(missing[0].starts_with("2 calls for memory") && missing[0].contains("may be wrong"));
    assert!(missing[1].starts_with("4 collectives"));
}

#[test]
fn launches_are_told_while_there_are_any() {
    let mut scene = Scene::new();
    let mut counters = Counters::new_zeroed();
    assert_eq!(scene.process.step(scene.now), []);
    (counters.launches, counters.graph_launches) = (50, 5);
    scene.process.count(&counters, 0, &LOOK, UnixNanos(30));
    let expected = GpuEventKind::Launches { rate: 50.0, graph_rate: 5.0, is_sampled: false };
    assert_eq!(scene.process.step(scene.now), [expected]);
    scene.process.count(&counters, 0, &LOOK, UnixNanos(40));
    assert_eq!(scene.process.step(scene.now), []);
}

#[test]
fn one_that_ended_stays_who_it_was() {
    let mut scene = Scene::new();
    let name = |scene: &mut Scene, name: &str| {
        let who = &mut |pid| Process { pid, name: name.into(), workload: None };
        scene.process.identify(who).name.to_string()
    };
    scene.process.call_it(b"comm\0\0\0");
    assert_eq!(name(&mut scene, ""), "comm", "nobody knows it any more");
    assert_eq!(name(&mut scene, "python3"), "python3");
    scene.process.end(scene.now, &mut scene.room);
    assert_eq!(name(&mut scene, "another one with its number"), "python3");
}
