//! What was asked of the driver, counted exactly: what others see of it is compared with this.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// By this name `cuGetExportTable` gives out the driver's own [`Counts`], as real drivers give out
/// tables that nobody else knows.
pub(crate) const TABLE: [u8; 16] = *b"orb8-cuda-counts";

/// Kinds of allocations: indices and names.
pub(crate) const DEVICE: usize = 0;
pub(crate) const POOL: usize = 1;
pub(crate) const PHYSICAL: usize = 2;
pub(crate) const MANAGED: usize = 3;
pub(crate) const PINNED: usize = 4;
pub(crate) const ALLOCATIONS: [&str; 5] = ["device", "pool", "physical", "managed", "pinned"];

/// Kinds of copies: indices and names.
pub(crate) const TO_DEVICE: usize = 0;
pub(crate) const TO_HOST: usize = 1;
pub(crate) const WITHIN: usize = 2;
pub(crate) const PEER: usize = 3;
pub(crate) const UNIFIED: usize = 4;
pub(crate) const COPIES: [&str; 5] =
    ["host-to-device", "device-to-host", "device-to-device", "peer", "unified"];

/// Kinds of waits: indices and names.
pub(crate) const STREAM: usize = 0;
pub(crate) const EVENT: usize = 1;
pub(crate) const CONTEXT: usize = 2;
pub(crate) const WAITS: [&str; 3] = ["stream", "event", "context"];

/// Calls so far. Those that the driver refuses count too, but for allocations.
#[repr(C)]
pub(crate) struct Counts {
    pub(crate) launches: AtomicU64,
    /// Of the launches, those that went into a graph instead.
    pub(crate) captured: AtomicU64,
    pub(crate) graph_launches: AtomicU64,
    pub(crate) allocations: [Allocations; 5],
    pub(crate) failed_allocations: AtomicU64,
    /// Frees of what was not there.
    pub(crate) refused_frees: AtomicU64,
    pub(crate) copies: [Copies; 5],
    pub(crate) waits: [Timed; 3],
    pub(crate) modules: Timed,
}

/// Memory that was given, and given back.
#[repr(C)]
pub(crate) struct Allocations {
    pub(crate) count: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) freed_count: AtomicU64,
    pub(crate) freed_bytes: AtomicU64,
}

/// Copies of one kind.
#[repr(C)]
pub(crate) struct Copies {
    pub(crate) count: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// For how long the calls that wait for the copy did not return.
    pub(crate) waited_ns: AtomicU64,
}

/// Calls that take time.
#[repr(C)]
pub(crate) struct Timed {
    pub(crate) count: AtomicU64,
    pub(crate) ns: AtomicU64,
    pub(crate) longest_ns: AtomicU64,
}

impl Counts {
    pub(crate) const fn new() -> Self {
        Self {
            launches: AtomicU64::new(0),
            captured: AtomicU64::new(0),
            graph_launches: AtomicU64::new(0),
            allocations: [const { Allocations::new() }; 5],
            failed_allocations: AtomicU64::new(0),
            refused_frees: AtomicU64::new(0),
            copies: [const { Copies::new() }; 5],
            waits: [const { Timed::new() }; 3],
            modules: Timed::new(),
        }
    }

    pub(crate) fn launched(&self) {
        self.launches.fetch_add(1, Relaxed);
    }

    /// A launch that went into a graph.
    pub(crate) fn captured(&self) {
        self.launched();
        self.captured.fetch_add(1, Relaxed);
    }

    pub(crate) fn launched_graph(&self) {
        self.graph_launches.fetch_add(1, Relaxed);
    }

    pub(crate) fn allocated(&self, kind: usize, bytes: u64) {
        self.allocations[kind].count.fetch_add(1, Relaxed);
        self.allocations[kind].bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn freed(&self, kind: usize, bytes: u64) {
        self.allocations[kind].freed_count.fetch_add(1, Relaxed);
        self.allocations[kind].freed_bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn failed_allocation(&self) {
        self.failed_allocations.fetch_add(1, Relaxed);
    }

    pub(crate) fn refused_free(&self) {
        self.refused_frees.fetch_add(1, Relaxed);
    }

    pub(crate) fn copied(&self, kind: usize, bytes: u64) {
        self.copies[kind].count.fetch_add(1, Relaxed);
        self.copies[kind].bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn waited_for_copy(&self, kind: usize, time: Duration) {
        self.copies[kind].waited_ns.fetch_add(nanos(time), Relaxed);
    }

    pub(crate) fn waited(&self, kind: usize, time: Duration) {
        self.waits[kind].took(time);
    }

    pub(crate) fn loaded(&self, time: Duration) {
        self.modules.took(time);
    }
}

impl Allocations {
    const fn new() -> Self {
        Self {
            count: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            freed_count: AtomicU64::new(0),
            freed_bytes: AtomicU64::new(0),
        }
    }
}

impl Copies {
    const fn new() -> Self {
        Self { count: AtomicU64::new(0), bytes: AtomicU64::new(0), waited_ns: AtomicU64::new(0) }
    }
}

impl Timed {
    const fn new() -> Self {
        Self { count: AtomicU64::new(0), ns: AtomicU64::new(0), longest_ns: AtomicU64::new(0) }
    }

    fn took(&self, time: Duration) {
        self.count.fetch_add(1, Relaxed);
        self.ns.fetch_add(nanos(time), Relaxed);
        self.longest_ns.fetch_max(nanos(time), Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
