use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::gpu::cuda::process::ProcessKey;
use crate::gpu::cuda::stacks::Names;

const MIB: u64 = 1 << 20;
const WINDOW: Duration = Duration::from_secs(60);

/// A process's memory, with records in the order of their time.
struct Scene {
    memory: Memory,
    room: Room,
    time: u64,
}

impl Scene {
    fn new() -> Self {
        Self { memory: Memory::new(WINDOW), room: Room::new(), time: 0 }
    }

    fn take(&mut self, kind: AllocationKind, address: u64, bytes: u64) {
        self.take_at(kind, address, bytes, 1);
    }

    fn take_at(&mut self, kind: AllocationKind, address: u64, bytes: u64, place: u64) {
        self.time += 1;
        let stack: Option<Stack> = Some(Arc::from([place]));
        let taken = Taken { time: self.time, kind, address, bytes, stack };
        self.memory.count(kind, [1, bytes, 0]);
        self.memory.take(taken, &mut self.room);
    }

    fn free(&mut self, kind: AllocationKind, address: u64) {
        self.time += 1;
        self.memory.give_back(Space::of(kind), address, self.time, &mut self.room);
    }

    fn activity(&self) -> MemoryActivity {
        let mut names = Names::start(PathBuf::from("/nowhere"));
        self.memory.activity(&mut names.frames(ProcessKey { pid: 1, start: 1 }))
    }
}

#[test]
fn what_is_taken_and_not_given_back_is_outstanding() {
    let mut scene = Scene::new();
    scene.take(AllocationKind::Device, 0x100, 10);
    scene.take(AllocationKind::Pool, 0x200, 20);
    scene.take(AllocationKind::Pinned, 0x300, 40);
    // Given back by the other call: both are for all that the device has.
    scene.free(AllocationKind::Pool, 0x100);
    let MemoryActivity { allocated, outstanding, outstanding_pinned, .. } = scene.activity();
    assert_eq!((outstanding, outstanding_pinned), (20, 40));
    let row = |kind, count, bytes, freed_count, freed_bytes| Allocated {
        kind,
        count,
        bytes,
        freed_count,
        freed_bytes,
    };
    let expected = [
        row(AllocationKind::Device, 1, 10, 1, 10),
        row(AllocationKind::Pool, 1, 20, 0, 0),
        row(AllocationKind::Pinned, 1, 40, 0, 0),
    ];
    assert_eq!(allocated, expected);
}

#[test]
fn handles_are_no_addresses() {
    let mut scene = Scene::new();
    scene.take(AllocationKind::Physical, 7, 100);
    scene.take(AllocationKind::Device, 7, 1);
    scene.free(AllocationKind::Device, 7);
    assert_eq!(scene.activity().outstanding, 100);
    scene.free(AllocationKind::Physical, 7);
    assert_eq!((scene.activity().outstanding, scene.activity().unknown_frees), (0, 0));
}

#[test]
fn what_was_taken_before_is_unknown_and_never_negative() {
    let mut scene = Scene::new();
    scene.free(AllocationKind::Device, 0x100);
    scene.free(AllocationKind::Pinned, 0x200);
    // Allowed, and does nothing.
    scene.free(AllocationKind::Device, 0);
    let activity = scene.activity();
    assert_eq!((activity.unknown_frees, activity.outstanding), (2, 0));
}

#[test]
fn an_address_that_is_given_out_again_was_given_back() {
    let mut scene = Scene::new();
    scene.take(AllocationKind::Device, 0x100, 10);
    scene.take(AllocationKind::Device, 0x100, 30);
    assert_eq!(scene.activity().outstanding, 30);
    // The first one's return is told now: it began before the second one was taken.
    scene.memory.give_back(Space::Device, 0x100, 1, &mut scene.room);
    let activity = scene.activity();
    assert_eq!((activity.outstanding, activity.unknown_frees), (30, 0));
    assert_eq!(activity.allocated[0].freed_bytes, 10);
}

#[test]
fn what_has_no_room_is_counted_and_not_outstanding() {
    let mut scene = Scene { room: Room::of(1), ..Scene::new() };
    scene.take(AllocationKind::Device, 0x100, 10);
    scene.take(AllocationKind::Device, 0x200, 20);
    assert_eq!((scene.activity().outstanding, scene.memory.no_room()), (10, 1));
    assert_eq!(scene.activity().allocated[0].count, 2);
    scene.free(AllocationKind::Device, 0x200);
    scene.free(AllocationKind::Device, 0x100);
    assert_eq!((scene.activity().unknown_frees, scene.activity().outstanding), (1, 0));
    // There is room again.
    scene.take(AllocationKind::Device, 0x300, 30);
    assert_eq!(scene.activity().outstanding, 30);
}

#[test]
fn a_process_has_no_more_than_its_part_of_the_room() {
    let mut scene = Scene::new();
    for i in 0..=MAX_ALLOCATIONS as u64 {
        scene.take(AllocationKind::Device, 0x1000 + i, 1);
    }
    assert_eq!(scene.memory.no_room(), 1);
    assert_eq!(scene.activity().outstanding, MAX_ALLOCATIONS as u64);
    scene.memory.stop(&mut scene.room);
    assert_eq!(scene.room.left, MAX_ALLOCATIONS_IN_ALL);
    assert_eq!(scene.activity().outstanding, MAX_ALLOCATIONS as u64, "still told");
}

#[test]
fn losing_track_keeps_the_sums() {
    let mut scene = Scene::new();
    scene.take(AllocationKind::Device, 0x100, 10);
    scene.memory.lose_track(&mut scene.room);
    let activity = scene.activity();
    assert_eq!((activity.outstanding, activity.allocated[0].bytes), (0, 10));
    assert_eq!(scene.room.left, MAX_ALLOCATIONS_IN_ALL);
}

#[test]
fn places_are_told_by_what_they_have() {
    let mut scene = Scene::new();
    for place in 1..=20 {
        scene.take_at(AllocationKind::Device, place, place * 100, place);
    }
    let activity = scene.activity();
    assert_eq!(activity.sites.len(), 16);
    assert_eq!((activity.sites[0].outstanding, activity.sites[0].count), (2_000, 1));
    assert_eq!(activity.other_sites, 100 + 200 + 300 + 400);
    let all: u64 = activity.sites.iter().map(|site| site.outstanding).sum();
    assert_eq!(all + activity.other_sites, activity.outstanding);
    scene.free(AllocationKind::Device, 20);
    assert_eq!(scene.activity().sites[0].outstanding, 1_900);
}

#[test]
fn a_leak_names_the_place_that_grows() {
    let mut scene = Scene::new();
    let mut now = Instant::now();
    scene.take_at(AllocationKind::Device, 1, 1_000 * MIB, 0x10);
    scene.memory.step(now);
    let mut told = Vec::new();
    for window in 0..8 {
        // Batches of another place come and go.
        scene.take_at(AllocationKind::Device, 2, 500 * MIB, 0x20);
        scene.take_at(AllocationKind::Device, 100 + window, 20 * MIB, 0x30);
        scene.free(AllocationKind::Device, 2);
        now += WINDOW;
        scene.memory.step(now);
        told.extend(scene.memory.tell_leak(now));
    }
    assert_eq!(told.len(), 1, "{told:?}");
    let leak = scene.activity().leak.unwrap();
    let site = leak.site.unwrap();
    assert_eq!((site.frames.len(), &*site.frames[0], site.count), (1, "0x30", 8));
    assert!((leak.growth - 20.0 * MIB as f64 / 60.0).abs() < 1.0, "{}", leak.growth);
}

#[derive(Clone, Debug)]
enum Step {
    Take(usize, u64, u64),
    Free(usize, u64),
    Lose,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = 0..AllocationKind::ALL.len();
    let step = prop_oneof![
        6 => (kind.clone(), 0_u64..20, 0_u64..1000).prop_map(|(kind, at, size)| Step::Take(kind, at, size)),
        6 => (kind, 0_u64..20).prop_map(|(kind, at)| Step::Free(kind, at)),
        1 => Just(Step::Lose),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    /// Taken less given back is what is outstanding, wherever nothing was lost or without room; places
    /// add up to it; and the room is all there when the process ends.
    #[test]
    fn figures_add_up(steps in steps(), room in 0_usize..30) {
        let mut scene = Scene { room: Room::of(room), ..Scene::new() };
        let mut is_whole = true;
        for step in steps {
            match step {
                Step::Take(kind, at, size) => scene.take_at(AllocationKind::ALL[kind], at, size, at % 3),
                Step::Free(kind, at) => scene.free(AllocationKind::ALL[kind], at),
                Step::Lose => {
                    scene.memory.lose_track(&mut scene.room);
                    is_whole = false;
                }
            }
        }
        let activity = scene.activity();
        let all = activity.outstanding + activity.outstanding_pinned;
        let sites: u64 = activity.sites.iter().map(|site| site.outstanding).sum();
        prop_assert_eq!(sites + activity.other_sites, all);
        let rows = activity.allocated.iter();
        let left: u64 = rows.clone().map(|row| row.bytes - row.freed_bytes).sum();
        if is_whole && scene.memory.no_room() == 0 {
            prop_assert_eq!(left, all);
        }
        prop_assert!(rows.clone().all(|row| row.freed_count <= row.count));
        prop_assert!(all <= left);
        scene.memory.stop(&mut scene.room);
        prop_assert_eq!(scene.room.left, room);
    }
}
