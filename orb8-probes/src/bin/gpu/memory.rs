//! Memory that a process takes and gives back, and where it asks for it.

use aya_ebpf::bindings::{BPF_ANY, BPF_F_USER_STACK};
use aya_ebpf::helpers::generated::bpf_get_stack;
use orb8_common::gpu::{
    ALLOCATION_DEVICE, ALLOCATION_KINDS, ALLOCATION_PINNED, CALL_ALLOCATED, CALL_FREED,
    CALL_MODULE, CALL_REFUSED, COPY_KINDS, Call, Calls, Counter, FRAMES, MODULE_RECORD_NS, STACK,
    Stack, WAIT_KINDS, stack_id,
};
use orb8_probes::kernel::{index, monotonic_ns, read_user};

use crate::calls::{Layer, Pending, begin, is_inside, operation};
use crate::process::{CastEntry, Sums, Thread, add, bump, count, tell};
use crate::registers::Registers;
use crate::{EVENTS, Entry, STACKS_TOLD};

impl Entry {
    /// The first argument is where the pointer is written, the second how many bytes are asked for.
    #[inline(always)]
    pub(crate) fn allocate(&self, kind: u32) {
        let values = [self.registers.argument::<0>(), self.registers.argument::<1>(), 0, 0];
        begin(self, Layer::Driver, operation::ALLOCATE, kind, values);
    }

    #[inline(always)]
    pub(crate) fn allocate_pitch(&self) {
        let values = [
            self.registers.argument::<0>(),
            self.registers.argument::<2>(),
            self.registers.argument::<1>(),
            self.registers.argument::<3>(),
        ];
        begin(self, Layer::Driver, operation::ALLOCATE_PITCH, ALLOCATION_DEVICE, values);
    }

    #[inline(always)]
    pub(crate) fn register(&self) {
        let values = [self.registers.argument::<0>(), self.registers.argument::<1>(), 0, 0];
        begin(self, Layer::Driver, operation::REGISTER, ALLOCATION_PINNED, values);
    }

    /// Told when it begins: once it returned, another thread may have been given the same address.
    #[inline(always)]
    pub(crate) fn free(&self, kind: u32) {
        let pointer = self.registers.argument::<0>();
        // Allowed, and does nothing.
        if pointer == 0 || is_inside(self, Layer::Driver) {
            return;
        }
        let Some(sums) = self.thread.process() else { return };
        add!(sums, allocations[kind; 8].freed, 1);
        let call = Call {
            what: CALL_FREED,
            tgid: self.thread.tgid(),
            time_ns: monotonic_ns(),
            pointer,
            bytes: 0,
            stack: 0,
            took_ns: 0,
            result: 0,
            tid: self.thread.tid(),
            kind,
            reserved: 0,
        };
        tell_of_memory(sums, call);
    }
}

/// Takes in a call to the driver library that returned.
#[inline(always)]
pub(crate) fn finish(registers: &Registers, thread: Thread, pending: &Pending) {
    let Some(sums) = thread.process() else { return };
    let now = monotonic_ns();
    let took_ns = pending.took_ns(now);
    let kind = pending.kind;
    match pending.operation {
        operation::WAIT if (kind as usize) < WAIT_KINDS => {
            // SAFETY: a field of a live map value, and an index below the array's length.
            unsafe {
                let waits = (&raw mut (*sums.0).waits).cast::<Calls>();
                Sums::add_call(waits.add(index::<4>(kind)), took_ns);
            }
        }
        operation::COPY if (kind as usize) < COPY_KINDS => {
            add!(sums, copies[kind; 8].waited_ns, took_ns);
        }
        operation::LOAD_MODULE => {
            // SAFETY: a field of a live map value.
            unsafe { Sums::add_call(&raw mut (*sums.0).modules, took_ns) };
            if took_ns >= MODULE_RECORD_NS {
                tell(call(registers, thread, pending, CALL_MODULE, now));
            }
        }
        _ if (kind as usize) < ALLOCATION_KINDS => {
            finish_allocation(registers, thread, sums, pending, now)
        }
        _ => {}
    }
}

/// What a record of a call that returned has in any case.
#[inline(always)]
fn call(registers: &Registers, thread: Thread, pending: &Pending, what: u32, now: u64) -> Call {
    Call {
        what,
        tgid: thread.tgid(),
        time_ns: now,
        pointer: 0,
        bytes: 0,
        stack: 0,
        took_ns: pending.took_ns(now),
        result: registers.result(),
        tid: thread.tid(),
        kind: if what == CALL_MODULE { 0 } else { pending.kind },
        reserved: 0,
    }
}

#[inline(always)]
fn finish_allocation(
    registers: &Registers,
    thread: Thread,
    sums: Sums,
    pending: &Pending,
    now: u64,
) {
    let kind = pending.kind;
    let [first, size, pitch, rows] = pending.values;
    let is_refused = registers.result() != 0;
    let what = if is_refused { CALL_REFUSED } else { CALL_ALLOCATED };
    let mut call = call(registers, thread, pending, what, now);
    call.bytes = size;
    if pending.operation == operation::ALLOCATE_PITCH {
        // The width that was asked for where the driver has not said what it made of it.
        call.bytes = rows * if is_refused { size } else { read_user::<u64>(pitch) };
    }
    call.stack = stack(registers, thread, sums);
    if is_refused {
        add!(sums, allocations[kind; 8].failed, 1);
    } else {
        let is_known = pending.operation == operation::REGISTER;
        call.pointer = if is_known { first } else { read_user(first) };
        add!(sums, allocations[kind; 8].count, 1);
        add!(sums, allocations[kind; 8].bytes, call.bytes);
    }
    tell_of_memory(sums, call);
}

#[inline(always)]
fn tell_of_memory(sums: Sums, call: Call) {
    let began_ns = call.time_ns;
    if !tell(call) {
        add!(sums, lost, 1);
    }
    bump(Counter::MemoryTold);
    count(Counter::MemoryToldNs, monotonic_ns().saturating_sub(began_ns));
}

/// Returns the id of the caller's stack, which is told when it is new; 0 where it cannot be told.
///
/// Here, at the return, the caller's frame pointer is in place: at a call's beginning the frame of the
/// caller itself would be missing.
#[inline(always)]
fn stack(registers: &Registers, thread: Thread, sums: Sums) -> u64 {
    let mut frames = [0_u64; FRAMES];
    let size = size_of_val(&frames) as u32;
    let flags = u64::from(BPF_F_USER_STACK);
    // SAFETY: the helper writes at most so many bytes.
    let bytes =
        unsafe { bpf_get_stack(registers.context(), frames.as_mut_ptr().cast(), size, flags) };
    if bytes <= 0 {
        return 0;
    }
    let id = stack_id(&frames);
    // SAFETY: a live map value. With the time, a process that takes over a number has stacks of its own.
    let process = unsafe { (&raw const (*sums.0).first_ns).read_volatile() };
    let key = (id ^ u64::from(thread.tgid()) << 32).wrapping_add(process);
    if STACKS_TOLD.get_ptr(key).is_none() {
        let count = bytes as u32 / size_of::<u64>() as u32;
        // One that had no room is told with the next call from there.
        if tell_stack(thread, id, count, &frames) {
            let _ = STACKS_TOLD.insert(key, 1, u64::from(BPF_ANY));
        }
    }
    id
}

/// As [`tell`], without a second copy of the frames on the program's stack.
#[inline(always)]
fn tell_stack(thread: Thread, id: u64, count: u32, frames: &[u64; FRAMES]) -> bool {
    let Some(mut entry) = EVENTS.reserve_untyped::<Stack>(0) else {
        bump(Counter::Lost);
        return false;
    };
    let stack = entry.as_mut_ptr();
    // SAFETY: the ring's own memory, which is written whole.
    unsafe {
        (&raw mut (*stack).what).write(STACK);
        (&raw mut (*stack).tgid).write(thread.tgid());
        (&raw mut (*stack).id).write(id);
        (&raw mut (*stack).count).write(count);
        (&raw mut (*stack).reserved).write(0);
        (&raw mut (*stack).frames).write(*frames);
    }
    entry.submit(0);
    true
}
