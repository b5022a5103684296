//! Whose call it is, and the process's sums.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid,
    generated::{bpf_get_current_cgroup_id, bpf_get_current_comm},
};
use orb8_common::gpu::{Calls, Counter, Process, SEEN, Seen, THREAD_SLOTS};
use orb8_probes::kernel::{atomic_add, monotonic_ns};

use crate::{COUNTERS, EVENTS, Entry, NO_PROCESS, PROCESSES};

/// The thread that calls, as the first PID namespace numbers it.
#[derive(Clone, Copy)]
pub(crate) struct Thread(pub(crate) u64);

impl Thread {
    #[inline(always)]
    pub(crate) fn current() -> Self {
        Self(bpf_get_current_pid_tgid())
    }

    #[inline(always)]
    pub(crate) const fn tgid(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    pub(crate) const fn tid(self) -> u32 {
        self.0 as u32
    }

    /// Finds the process's sums, and counts that one of its threads hit a probe.
    #[inline(always)]
    pub(crate) fn process(self) -> Option<Sums> {
        let process = match PROCESSES.get_ptr_mut(self.tgid()) {
            Some(process) => process,
            None => self.first_call()?,
        };
        let slot = self.0 as usize & (THREAD_SLOTS - 1);
        // SAFETY: a live map value, and the index is below the array's length.
        unsafe { atomic_add((&raw mut (*process).threads).cast::<u64>().add(slot), 1) };
        Some(Sums(process))
    }

    /// Makes an entry for a process that has none.
    #[inline(never)]
    fn first_call(self) -> Option<*mut Process> {
        let nothing = NO_PROCESS.get(0)?;
        let is_first = PROCESSES.insert(self.tgid(), nothing, u64::from(BPF_NOEXIST)).is_ok();
        let Some(process) = PROCESSES.get_ptr_mut(self.tgid()) else {
            bump(Counter::Untracked);
            return None;
        };
        if is_first {
            let time_ns = monotonic_ns();
            // SAFETY: the helper has no arguments.
            let cgroup_id = unsafe { bpf_get_current_cgroup_id() };
            // SAFETY: a live map value; who made the entry writes these.
            unsafe {
                (*process).first_ns = time_ns;
                (*process).cgroup_id = cgroup_id;
            }
            let mut name = [0; 16];
            // SAFETY: the helper writes so many bytes.
            unsafe { bpf_get_current_comm(name.as_mut_ptr().cast::<c_void>(), 16) };
            let seen = Seen { what: SEEN, tgid: self.tgid(), time_ns, cgroup_id, name };
            // Not told is not lost: the entry says the same.
            tell(seen);
        }
        Some(process)
    }
}

/// The sums of a process: a live map value.
#[derive(Clone, Copy)]
pub(crate) struct Sums(pub(crate) *mut Process);

/// Adds to a field of [`Process`], or to a field of an array's entry: `array[index; room].field`, where
/// the index is below the array's length, and so many entries would still lie in the value.
macro_rules! add {
    ($sums:expr, $array:ident[$index:expr; $room:literal].$field:ident, $value:expr) => {
        // SAFETY: a live map value, whose fields are aligned; the index is below the array's length.
        unsafe {
            let entries = &raw mut (*$sums.0).$array;
            let entry = entries.cast_entry().add(orb8_probes::kernel::index::<$room>($index));
            orb8_probes::kernel::atomic_add(&raw mut (*entry).$field, $value)
        }
    };
    ($sums:expr, $field:ident, $value:expr) => {
        // SAFETY: a live map value, whose fields are aligned.
        unsafe { orb8_probes::kernel::atomic_add(&raw mut (*$sums.0).$field, $value) }
    };
}
pub(crate) use add;

/// An array's first entry.
pub(crate) trait CastEntry {
    /// Its entries.
    type Entry;

    fn cast_entry(self) -> *mut Self::Entry;
}

impl<T, const N: usize> CastEntry for *mut [T; N] {
    type Entry = T;

    #[inline(always)]
    fn cast_entry(self) -> *mut T {
        self.cast()
    }
}

impl Sums {
    /// Adds a call that returned.
    ///
    /// # Safety
    /// `calls` points into the live map value.
    #[inline(always)]
    pub(crate) unsafe fn add_call(calls: *mut Calls, took_ns: u64) {
        // SAFETY: the caller vouches for it.
        unsafe {
            atomic_add(&raw mut (*calls).count, 1);
            atomic_add(&raw mut (*calls).time_ns, took_ns);
            // Kernel 5.10 has no exchange: of two threads at the same time, one may be lost.
            if took_ns > (&raw const (*calls).longest_ns).read_volatile() {
                (&raw mut (*calls).longest_ns).write_volatile(took_ns);
            }
        }
    }
}

impl Entry {
    #[inline(always)]
    pub(crate) fn launch(&self, kernels: u32) {
        if let Some(sums) = self.thread.process() {
            add!(sums, launches, u64::from(kernels));
        }
    }

    #[inline(always)]
    pub(crate) fn launch_graph(&self) {
        if let Some(sums) = self.thread.process() {
            add!(sums, graph_launches, 1);
        }
    }
}

/// Puts a record into the ring. Without flags the kernel wakes the reader only when it had read
/// everything. Returns whether there was room.
#[inline(always)]
pub(crate) fn tell<T: 'static>(record: T) -> bool {
    let Some(mut entry) = EVENTS.reserve_untyped::<T>(0) else {
        bump(Counter::Lost);
        return false;
    };
    entry.write(record);
    entry.submit(0);
    true
}

/// Programs may be interrupted by others of their kind, so even a CPU's own counter needs an atomic
/// addition.
#[inline(always)]
pub(crate) fn bump(counter: Counter) {
    count(counter, 1);
}

/// As [`bump`], by `amount`.
#[inline(always)]
pub(crate) fn count(counter: Counter, amount: u64) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: a live map value, and the index is a constant below its length.
        unsafe { atomic_add(counters.cast::<u64>().add(counter as usize), amount) };
    }
}
