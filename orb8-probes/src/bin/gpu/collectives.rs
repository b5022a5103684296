//! NCCL: collectives by communicator, and communicators as they begin and end.

use aya_ebpf::bindings::BPF_NOEXIST;
use orb8_common::gpu::{
    CALL_JOINED, CALL_JOINING, Collectives, CollectivesKey, CommunicatorCall, Counter,
    UNIQUE_ID_WORDS, communicator_hash, datatype_size,
};
use orb8_probes::kernel::{atomic_add, monotonic_ns, read_user, try_read_user};

use crate::calls::{Layer, Pending, begin, is_inside, operation};
use crate::process::{Thread, add, bump, tell};
use crate::registers::{Registers, is_arm64};
use crate::{COLLECTIVE_COUNTS, Entry};

/// Communicators of one `ncclCommInitAll` that are told: devices of a machine.
const MAX_ALL: u64 = 16;

impl Entry {
    /// Counts a collective. The numbers are those of its arguments: how many elements, of which type,
    /// in which communicator.
    #[inline(always)]
    pub(crate) fn collective<const COUNT: usize, const TYPE: usize, const COMMUNICATOR: usize>(
        &self,
        kind: u32,
    ) {
        if !is_inside(self, Layer::Nccl) {
            self.count_collective::<COUNT, TYPE, COMMUNICATOR>(kind);
        }
    }

    /// As [`Self::collective`], for one that calls another: that is no call of its own then.
    #[inline(always)]
    pub(crate) fn collective_around<
        const COUNT: usize,
        const TYPE: usize,
        const COMMUNICATOR: usize,
    >(
        &self,
        kind: u32,
    ) {
        if begin(self, Layer::Nccl, operation::SURROUND, 0, [0; 4]) {
            self.count_collective::<COUNT, TYPE, COMMUNICATOR>(kind);
        }
    }

    #[inline(always)]
    fn count_collective<const COUNT: usize, const TYPE: usize, const COMMUNICATOR: usize>(
        &self,
        kind: u32,
    ) {
        let Some(sums) = self.thread.process() else { return };
        let key = CollectivesKey {
            communicator: self.registers.argument::<COMMUNICATOR>(),
            tgid: self.thread.tgid(),
            kind,
        };
        let Some(collectives) = entry(&key) else {
            bump(Counter::Uncounted);
            add!(sums, uncounted_collectives, 1);
            return;
        };
        let size = datatype_size(self.registers.argument::<TYPE>() as u32);
        let bytes = size.wrapping_mul(self.registers.argument::<COUNT>());
        // SAFETY: a live map value.
        unsafe {
            atomic_add(&raw mut (*collectives).count, 1);
            atomic_add(&raw mut (*collectives).bytes, bytes);
            if size == 0 {
                atomic_add(&raw mut (*collectives).unsized_count, 1);
            }
            (&raw mut (*collectives).last_ns).write_volatile(monotonic_ns());
        }
    }

    /// The unique id is passed by value, between the number of processes and the own number.
    #[inline(always)]
    pub(crate) fn join_by_value(&self) {
        let rank = self.registers.argument_after_structure::<3, 2>();
        self.join(self.registers.structure::<2>(), rank, self.registers.argument::<1>());
    }

    /// The unique ids are an array, of which the first is the root's.
    #[inline(always)]
    pub(crate) fn join_by_first(&self) {
        let rank = self.registers.argument::<2>();
        self.join(self.registers.argument::<4>(), rank, self.registers.argument::<1>());
    }

    #[inline(always)]
    fn join(&self, id: u64, rank: u64, ranks: u64) {
        let id: Option<[u64; UNIQUE_ID_WORDS]> = try_read_user(id);
        // C's `char` is signed on one machine and not on the other.
        let hash = id.map_or(0, |id| communicator_hash(&id, !is_arm64()));
        self.begin_to_join(self.registers.argument::<0>(), hash, pack(rank, ranks), 0);
    }

    #[inline(always)]
    pub(crate) fn split(&self) {
        let (color, key) = (self.registers.argument::<1>(), self.registers.argument::<2>());
        let parent = self.registers.argument::<0>();
        self.begin_to_join(self.registers.argument::<3>(), 0, pack(key, color), parent);
    }

    /// `out` is where the communicator is written.
    #[inline(always)]
    fn begin_to_join(&self, out: u64, hash: u64, place: u64, parent: u64) {
        if !begin(self, Layer::Nccl, operation::JOIN, 0, [out, hash, place, parent]) {
            return;
        }
        if self.thread.process().is_some() {
            let mut call = call(self.thread, CALL_JOINING, monotonic_ns());
            (call.hash, call.parent) = (hash, parent);
            (call.rank, call.ranks) = unpack(place);
            tell(call);
        }
    }

    #[inline(always)]
    pub(crate) fn join_all(&self) {
        let values = [self.registers.argument::<0>(), self.registers.argument::<1>(), 0, 0];
        begin(self, Layer::Nccl, operation::JOIN_ALL, 0, values);
    }

    #[inline(always)]
    pub(crate) fn leave(&self, what: u32) {
        if is_inside(self, Layer::Nccl) || self.thread.process().is_none() {
            return;
        }
        let mut call = call(self.thread, what, monotonic_ns());
        call.communicator = self.registers.argument::<0>();
        tell(call);
    }
}

/// Takes in a call to NCCL that returned.
#[inline(always)]
pub(crate) fn finish(registers: &Registers, thread: Thread, pending: &Pending) {
    let now = monotonic_ns();
    let [out, second, place, parent] = pending.values;
    match pending.operation {
        operation::JOIN => {
            let mut call = joined(registers, thread, pending, now);
            call.communicator = read_user(out);
            (call.hash, call.parent) = (second, parent);
            (call.rank, call.ranks) = unpack(place);
            tell(call);
        }
        operation::JOIN_ALL => {
            // Nobody outside of the process is in them, so any number will do.
            let hash = pending.began_ns ^ thread.0.rotate_left(32) | 1;
            let ranks = second as u32;
            let mut rank = 0;
            while rank < MAX_ALL && (rank as u32) < ranks {
                let mut call = joined(registers, thread, pending, now);
                call.communicator = read_user(out + 8 * rank);
                (call.hash, call.rank, call.ranks) = (hash, rank as u32, ranks);
                tell(call);
                rank += 1;
            }
        }
        _ => {}
    }
}

#[inline(always)]
fn joined(registers: &Registers, thread: Thread, pending: &Pending, now: u64) -> CommunicatorCall {
    let mut call = call(thread, CALL_JOINED, now);
    call.took_ns = pending.took_ns(now);
    call.result = registers.result();
    call
}

#[inline(always)]
fn call(thread: Thread, what: u32, time_ns: u64) -> CommunicatorCall {
    CommunicatorCall {
        what,
        tgid: thread.tgid(),
        time_ns,
        communicator: 0,
        hash: 0,
        parent: 0,
        took_ns: 0,
        rank: 0,
        ranks: 0,
        result: 0,
        tid: thread.tid(),
    }
}

#[inline(always)]
fn entry(key: &CollectivesKey) -> Option<*mut Collectives> {
    if let Some(entry) = COLLECTIVE_COUNTS.get_ptr_mut(key) {
        return Some(entry);
    }
    let nothing = Collectives { count: 0, bytes: 0, unsized_count: 0, last_ns: 0 };
    // Another thread may have been first.
    let _ = COLLECTIVE_COUNTS.insert(key, nothing, u64::from(BPF_NOEXIST));
    COLLECTIVE_COUNTS.get_ptr_mut(key)
}

#[inline(always)]
const fn pack(rank: u64, ranks: u64) -> u64 {
    rank << 32 | ranks & 0xffff_ffff
}

#[inline(always)]
const fn unpack(place: u64) -> (u32, u32) {
    ((place >> 32) as u32, place as u32)
}
