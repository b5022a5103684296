//! Calls from their beginning to their return.
//!
//! One call of a thread is followed at each layer: the outermost. What it calls of the same layer is
//! inside it and is no call of its own. The stack pointer tells the two apart: it is lower inside. A
//! call that was never seen to return (its thread ended, or jumped out of it) is known by the same
//! means, since no call can be as high on the stack while it lasts.

use aya_ebpf::bindings::BPF_ANY;
use orb8_common::gpu::{COPY_KINDS, Counter};
use orb8_probes::kernel::monotonic_ns;

use crate::copies::Copy;
use crate::process::{CastEntry, Thread, add, bump};
use crate::registers::Registers;
use crate::{CONTROL, Entry, IN_FLIGHT};

/// Which library's calls. NCCL's come down to the driver's, and both count.
#[derive(Clone, Copy)]
pub(crate) enum Layer {
    Driver = 0,
    Nccl = 1,
}

/// What is to be done when a call returns.
pub(crate) mod operation {
    /// Values: where the pointer is written, bytes.
    pub(crate) const ALLOCATE: u32 = 1;
    /// Values: where the pointer is written, where the pitch is, rows.
    pub(crate) const ALLOCATE_PITCH: u32 = 2;
    /// Values: the pointer, bytes.
    pub(crate) const REGISTER: u32 = 3;
    pub(crate) const COPY: u32 = 4;
    pub(crate) const WAIT: u32 = 5;
    pub(crate) const LOAD_MODULE: u32 = 6;
    /// Values: where the communicator is written, hash, rank and ranks, parent.
    pub(crate) const JOIN: u32 = 7;
    /// Values: where the communicators are written, how many.
    pub(crate) const JOIN_ALL: u32 = 8;
    /// Counted when it began: it is followed for what it calls.
    pub(crate) const SURROUND: u32 = 9;
}

/// A call that has not returned.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Pending {
    pub(crate) frame: u64,
    pub(crate) began_ns: u64,
    pub(crate) epoch: u64,
    /// By operation.
    pub(crate) values: [u64; 4],
    /// See [`operation`].
    pub(crate) operation: u32,
    /// By operation.
    pub(crate) kind: u32,
}

impl Layer {
    /// Numbers of processes leave the highest bits free.
    #[inline(always)]
    const fn key(self, thread: Thread) -> u64 {
        thread.0 | (self as u64) << 63
    }
}

/// Whether this call is one within another of the same layer. Counts those that are.
#[inline(always)]
pub(crate) fn is_inside(entry: &Entry, layer: Layer) -> bool {
    let Some(outer) = IN_FLIGHT.get_ptr(layer.key(entry.thread)) else { return false };
    // SAFETY: a live map value that only this thread writes.
    let (frame, began_in) = unsafe { ((*outer).frame, (*outer).epoch) };
    let is_inside = frame > entry.registers.frame() && began_in == epoch();
    if is_inside {
        bump(Counter::Nested);
    }
    is_inside
}

/// Follows a call to its return. Not one within another: see [`is_inside`].
#[inline(always)]
pub(crate) fn begin(
    entry: &Entry,
    layer: Layer,
    operation: u32,
    kind: u32,
    values: [u64; 4],
) -> bool {
    if is_inside(entry, layer) {
        return false;
    }
    let pending = Pending {
        frame: entry.registers.frame(),
        began_ns: monotonic_ns(),
        epoch: epoch(),
        values,
        operation,
        kind,
    };
    if IN_FLIGHT.insert(layer.key(entry.thread), pending, u64::from(BPF_ANY)).is_err() {
        bump(Counter::Untimed);
        // What it takes is not told, so that what the process has is not known any more.
        let takes = matches!(
            operation,
            operation::ALLOCATE | operation::ALLOCATE_PITCH | operation::REGISTER
        );
        if takes && let Some(sums) = entry.thread.process() {
            add!(sums, lost, 1);
        }
    }
    true
}

/// Returns the call that returns, unless it is one within another.
#[inline(always)]
pub(crate) fn end(registers: &Registers, layer: Layer) -> Option<(Thread, Pending)> {
    let thread = Thread::current();
    let Some(pending) = IN_FLIGHT.get_ptr(layer.key(thread)) else {
        bump(Counter::Unmatched);
        return None;
    };
    // SAFETY: a live map value that only this thread writes.
    let pending = unsafe { *pending };
    if pending.frame != registers.returned_frame() {
        return None;
    }
    let _ = IN_FLIGHT.remove(layer.key(thread));
    Some((thread, pending))
}

/// Notes a call and forgets it: what one costs that is followed to its return. The agent, whose
/// thread this is, makes none itself.
#[inline(always)]
pub(crate) fn rehearse() {
    let began_ns = monotonic_ns();
    let pending =
        Pending { frame: 0, began_ns, epoch: epoch(), values: [0; 4], operation: 0, kind: 0 };
    let key = Layer::Driver.key(Thread::current());
    let _ = IN_FLIGHT.insert(key, pending, u64::from(BPF_ANY));
    let _ = IN_FLIGHT.remove(key);
}

impl Pending {
    /// For how long the call did not return, nanoseconds, when it returned at `now`.
    #[inline(always)]
    pub(crate) const fn took_ns(&self, now: u64) -> u64 {
        now.saturating_sub(self.began_ns)
    }
}

impl Entry {
    #[inline(always)]
    pub(crate) fn wait(&self, kind: u32) {
        self.time(operation::WAIT, kind);
    }

    #[inline(always)]
    pub(crate) fn load_module(&self) {
        self.time(operation::LOAD_MODULE, 0);
    }

    #[inline(always)]
    fn time(&self, operation: u32, kind: u32) {
        begin(self, Layer::Driver, operation, kind, [0; 4]);
    }

    /// Counts a copy whose bytes are argument `N`.
    #[inline(always)]
    pub(crate) fn copy<const N: usize>(&self, kind: u32) {
        self.copy_of(|registers| Copy { kind, bytes: registers.argument::<N>(), count: 1 });
    }

    /// As [`Self::copy`], and follows it to its return.
    #[inline(always)]
    pub(crate) fn copy_and_wait<const N: usize>(&self, kind: u32) {
        self.copy_and_wait_of(|registers| Copy {
            kind,
            bytes: registers.argument::<N>(),
            count: 1,
        });
    }

    /// Counts a copy that `of` finds out about.
    #[inline(always)]
    pub(crate) fn copy_of(&self, of: impl FnOnce(Registers) -> Copy) {
        if !is_inside(self, Layer::Driver) {
            self.count_copy(&of(self.registers));
        }
    }

    /// As [`Self::copy_of`], and follows it to its return.
    #[inline(always)]
    pub(crate) fn copy_and_wait_of(&self, of: impl FnOnce(Registers) -> Copy) {
        let copy = of(self.registers);
        if begin(self, Layer::Driver, operation::COPY, copy.kind, [0; 4]) {
            self.count_copy(&copy);
        }
    }

    #[inline(always)]
    fn count_copy(&self, copy: &Copy) {
        let Some(sums) = self.thread.process() else { return };
        // The verifier does not know a kind that the call tells.
        if (copy.kind as usize) < COPY_KINDS {
            add!(sums, copies[copy.kind; 8].count, copy.count);
            add!(sums, copies[copy.kind; 8].bytes, copy.bytes);
        }
    }
}

/// The programs' number of the present epoch: see [`orb8_common::gpu::Control`].
#[inline(always)]
fn epoch() -> u64 {
    match CONTROL.get_ptr(0) {
        // SAFETY: the only entry of the array.
        Some(control) => unsafe { (&raw const (*control).epoch).read_volatile() },
        None => 0,
    }
}
