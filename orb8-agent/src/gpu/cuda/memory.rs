//! Device memory that one process took and gave back.
//!
//! The kernel counts what was taken; what of it is outstanding comes from the calls themselves, one by
//! one. What was taken before the probes were there is not known: it is in no sum, and giving it back is
//! an `unknown` free. The same holds for what the table has no room for.
//!
//! Physical memory (`cuMemCreate`) is outstanding until its handle is released, whether or not it is
//! still mapped; mapping counts nothing. What a context's end gives back by itself is not seen.

use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::leak::{LeakWatch, Window};
use super::sites::Sites;
use super::stacks::{Frames, Stack};
use crate::gpu::activity::{Allocated, Leak, MemoryActivity};
use crate::gpu::event::AllocationKind;

/// Allocations of one process that are followed: frameworks take a few hundred large pieces, and
/// programs that take each tensor by itself some ten thousand.
pub(super) const MAX_ALLOCATIONS: usize = 65_536;
/// The same of all processes: 16 MiB of memory here.
const MAX_ALLOCATIONS_IN_ALL: usize = 262_144;

/// What is left for allocations of all processes.
#[derive(Debug)]
pub(super) struct Room {
    left: usize,
}

/// Whose addresses an allocation's is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Space {
    /// The device's, and what both can use.
    Device,
    /// Handles of physical memory.
    Handle,
    /// The machine's.
    Host,
}

/// Memory that was taken.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    /// `CLOCK_MONOTONIC` at the call's return, nanoseconds.
    pub time: u64,
    pub kind: AllocationKind,
    /// Address or handle.
    pub address: u64,
    pub bytes: u64,
    pub stack: Option<Stack>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Memory {
    live: HashMap<(Space, u64), Allocation>,
    kinds: [Allocated; AllocationKind::ALL.len()],
    outstanding: u64,
    outstanding_pinned: u64,
    unknown_frees: u64,
    failed: u64,
    no_room: u64,
    has_lost_track: bool,
    sites: Sites,
    leak: LeakWatch,
}

#[derive(Clone, Copy, Debug)]
struct Allocation {
    time: u64,
    bytes: u64,
    kind: AllocationKind,
    site: Option<u32>,
}

impl Room {
    pub(super) const fn new() -> Self {
        Self { left: MAX_ALLOCATIONS_IN_ALL }
    }

    #[cfg(test)]
    pub(super) const fn of(left: usize) -> Self {
        Self { left }
    }
}

impl Space {
    pub(super) const fn of(kind: AllocationKind) -> Self {
        match kind {
            AllocationKind::Device | AllocationKind::Pool | AllocationKind::Managed => Self::Device,
            AllocationKind::Physical => Self::Handle,
            AllocationKind::Pinned => Self::Host,
        }
    }
}

impl Memory {
    pub(super) fn new(leak_window: Duration) -> Self {
        Self {
            live: HashMap::new(),
            kinds: AllocationKind::ALL.map(|kind| Allocated {
                kind,
                count: 0,
                bytes: 0,
                freed_count: 0,
                freed_bytes: 0,
            }),
            outstanding: 0,
            outstanding_pinned: 0,
            unknown_frees: 0,
            failed: 0,
            no_room: 0,
            has_lost_track: false,
            sites: Sites::default(),
            leak: LeakWatch::new(leak_window),
        }
    }

    /// Takes in an allocation that succeeded.
    pub(super) fn take(&mut self, taken: Taken, room: &mut Room) {
        let Taken { time, kind, address, bytes, stack } = taken;
        let place = (Space::of(kind), address);
        // An address is given out once it was given back, and that was not heard of yet.
        if let Some(before) = self.live.remove(&place) {
            self.forget(before, room);
            self.count_freed(before);
        }
        if room.left == 0 || self.live.len() >= MAX_ALLOCATIONS {
            self.no_room += 1;
            return;
        }
        room.left -= 1;
        let is_pinned = Space::of(kind) == Space::Host;
        let site = stack.and_then(|stack| self.sites.take(stack, bytes, is_pinned));
        self.live.insert(place, Allocation { time, bytes, kind, site });
        let sum = self.sum(kind);
        *sum = sum.saturating_add(bytes);
    }

    /// Takes in that memory was given back; `time` is when the call began.
    pub(super) fn give_back(&mut self, space: Space, address: u64, time: u64, room: &mut Room) {
        // `cuMemFree(0)` is allowed, and does nothing.
        if address == 0 {
            return;
        }
        let Some(allocation) = self.live.get(&(space, address)).copied() else {
            self.unknown_frees += 1;
            return;
        };
        // Of what had the address before: a thread may tell late, when another one was given it.
        if time < allocation.time {
            return;
        }
        self.live.remove(&(space, address));
        self.forget(allocation, room);
        self.count_freed(allocation);
    }

    /// Takes in what the kernel counted: allocations that succeeded since the last time, their bytes,
    /// and those that failed.
    pub(super) fn count(&mut self, kind: AllocationKind, counted: [u64; 3]) {
        let [count, bytes, failed] = counted;
        let row = self.row(kind);
        row.count += count;
        row.bytes = row.bytes.saturating_add(bytes);
        self.failed += failed;
    }

    /// Takes in that calls were missed: what is outstanding may be wrong, and is no sign of a leak.
    pub(super) fn doubt(&mut self) {
        self.leak.reset();
    }

    /// Forgets what the process has: frees were missed, so that it is not known any more. Sums stay.
    pub(super) fn lose_track(&mut self, room: &mut Room) {
        self.has_lost_track = true;
        room.left += self.live.len();
        self.live = HashMap::new();
        self.sites = Sites::default();
        self.outstanding = 0;
        self.outstanding_pinned = 0;
        self.leak.reset();
    }

    /// Gives back its room, and keeps what is to be told.
    pub(super) fn stop(&mut self, room: &mut Room) {
        room.left += self.live.len();
        self.live = HashMap::new();
    }

    /// Ends a window of the verdict where it is over.
    pub(super) fn step(&mut self, now: Instant) {
        match self.leak.step(now, self.outstanding) {
            Window::Began => self.sites.begin_window(),
            Window::Open => {}
            Window::Ended => self.sites.end_window(),
        }
    }

    /// The leak that is to be told now: outstanding bytes, and bytes a second.
    pub(super) fn tell_leak(&mut self, now: Instant) -> Option<(u64, f64)> {
        self.leak.tell(now).map(|growth| (self.outstanding, growth.per_second))
    }

    /// Allocations that the table had no room for.
    pub(super) const fn no_room(&self) -> u64 {
        self.no_room
    }

    /// Whether what is outstanding leaves out what was taken before or while calls were seen in part.
    pub(super) const fn has_lost_track(&self) -> bool {
        self.has_lost_track
    }

    /// What it comes to, with `frames` for the names of places.
    pub(super) fn activity(&self, frames: &mut Frames<'_>) -> MemoryActivity {
        let (sites, named) = self.sites.largest(frames);
        MemoryActivity {
            allocated: self.kinds.iter().filter(|row| row.count > 0).copied().collect(),
            outstanding: self.outstanding,
            outstanding_pinned: self.outstanding_pinned,
            unknown_frees: self.unknown_frees,
            failed: self.failed,
            sites,
            other_sites: (self.outstanding + self.outstanding_pinned).saturating_sub(named),
            leak: self.leak.growth().map(|growth| Leak {
                growth: growth.per_second,
                windows: growth.rises,
                window: growth.window,
                site: self.sites.grown(growth.scale, growth.rises, frames),
            }),
        }
    }

    fn forget(&mut self, allocation: Allocation, room: &mut Room) {
        room.left += 1;
        let sum = self.sum(allocation.kind);
        *sum = sum.saturating_sub(allocation.bytes);
        if let Some(site) = allocation.site {
            self.sites.give_back(site, allocation.bytes);
        }
        self.leak.observe(self.outstanding);
    }

    fn count_freed(&mut self, allocation: Allocation) {
        let row = self.row(allocation.kind);
        row.freed_count += 1;
        row.freed_bytes = row.freed_bytes.saturating_add(allocation.bytes);
    }

    fn sum(&mut self, kind: AllocationKind) -> &mut u64 {
        match Space::of(kind) {
            Space::Host => &mut self.outstanding_pinned,
            Space::Device | Space::Handle => &mut self.outstanding,
        }
    }

    fn row(&mut self, kind: AllocationKind) -> &mut Allocated {
        // The order of `ALL` is the order of the variants.
        &mut self.kinds[kind as usize]
    }
}

#[cfg(test)]
mod tests;
