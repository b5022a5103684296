//! The `gpu` object's kernel records: calls to CUDA's driver library and to NCCL.
//!
//! | record | where | what it tells |
//! |---|---|---|
//! | [`Process`] | `PROCESSES` (hash by process) | sums of everything that happens often |
//! | [`Collectives`] | `COLLECTIVES` (hash by [`CollectivesKey`]) | a communicator's calls of one kind |
//! | [`Call`] | `EVENTS` (ring) | memory taken or given back, a module that took long |
//! | [`CommunicatorCall`] | `EVENTS` (ring) | a communicator that begins or ends |
//! | [`Stack`] | `EVENTS` (ring) | the frames of a place that asks for memory, before its first [`Call`] |
//! | [`Seen`] | `EVENTS` (ring) | the first call of a process |
//!
//! Processes and threads bear the numbers of the first PID namespace: the agent has to run there
//! (`hostPID`) to know them by its own `/proc`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Processes whose calls are counted at one time.
pub const PROCESSES: usize = 1024;
/// Kinds of collectives of communicators of processes that are counted at one time.
pub const COLLECTIVES: usize = 4096;
/// Threads that are in a timed call at one time.
pub const CALLS_IN_FLIGHT: usize = 8192;
/// Stacks that the programs remember to have told.
pub const STACKS: usize = 4096;
/// Frames of a stack, at most.
pub const FRAMES: usize = 24;
/// Entries over which a process's threads are spread, by their number.
pub const THREAD_SLOTS: usize = 16;
/// A module whose call returns sooner has no record; its time is counted all the same.
pub const MODULE_RECORD_NS: u64 = 1_000_000;

/// `kind` of an allocation, and index of [`Process::allocations`]: `cuMemAlloc`, `cuMemAllocPitch`.
pub const ALLOCATION_DEVICE: u32 = 0;
/// `cuMemAllocAsync`, `cuMemAllocFromPoolAsync`.
pub const ALLOCATION_POOL: u32 = 1;
/// `cuMemCreate`.
pub const ALLOCATION_PHYSICAL: u32 = 2;
/// `cuMemAllocManaged`.
pub const ALLOCATION_MANAGED: u32 = 3;
/// `cuMemHostAlloc`, `cuMemAllocHost`, `cuMemHostRegister`.
pub const ALLOCATION_PINNED: u32 = 4;
/// How many kinds there are.
pub const ALLOCATION_KINDS: usize = 5;

/// Index of [`Process::copies`].
pub const COPY_HOST_TO_DEVICE: u32 = 0;
/// See [`COPY_HOST_TO_DEVICE`].
pub const COPY_DEVICE_TO_HOST: u32 = 1;
/// See [`COPY_HOST_TO_DEVICE`].
pub const COPY_DEVICE_TO_DEVICE: u32 = 2;
/// See [`COPY_HOST_TO_DEVICE`].
pub const COPY_PEER: u32 = 3;
/// The call does not say from where to where.
pub const COPY_UNIFIED: u32 = 4;
/// How many kinds there are.
pub const COPY_KINDS: usize = 5;

/// Index of [`Process::waits`]: `cuStreamSynchronize`.
pub const WAIT_STREAM: u32 = 0;
/// `cuEventSynchronize`.
pub const WAIT_EVENT: u32 = 1;
/// `cuCtxSynchronize`.
pub const WAIT_CONTEXT: u32 = 2;
/// How many kinds there are.
pub const WAIT_KINDS: usize = 3;

/// `kind` of a [`CollectivesKey`].
pub const COLLECTIVE_ALL_REDUCE: u32 = 0;
/// See [`COLLECTIVE_ALL_REDUCE`].
pub const COLLECTIVE_REDUCE_SCATTER: u32 = 1;
/// See [`COLLECTIVE_ALL_REDUCE`].
pub const COLLECTIVE_ALL_GATHER: u32 = 2;
/// See [`COLLECTIVE_ALL_REDUCE`].
pub const COLLECTIVE_ALL_TO_ALL: u32 = 3;
/// See [`COLLECTIVE_ALL_REDUCE`].
pub const COLLECTIVE_BROADCAST: u32 = 4;
/// See [`COLLECTIVE_ALL_REDUCE`].
pub const COLLECTIVE_REDUCE: u32 = 5;
/// See [`COLLECTIVE_ALL_REDUCE`].
pub const COLLECTIVE_SEND: u32 = 6;
/// See [`COLLECTIVE_ALL_REDUCE`].
pub const COLLECTIVE_RECV: u32 = 7;
/// How many kinds there are.
pub const COLLECTIVE_KINDS: usize = 8;

/// Calls of one kind that were timed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Calls {
    /// Calls that returned.
    pub count: u64,
    /// For how long they did not return, nanoseconds.
    pub time_ns: u64,
    /// The longest. Of two that return at the same time on two CPUs, either.
    pub longest_ns: u64,
}

/// Copies of one kind.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Copies {
    /// Calls, when they begin.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
    /// For how long calls did not return, of those that wait for the copy, nanoseconds.
    pub waited_ns: u64,
}

/// Allocations of one kind.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Allocations {
    /// Calls that succeeded.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Calls that give back, by the call and not by what was taken: `cuMemFree` is of the kind
    /// [`ALLOCATION_DEVICE`], whatever it gives back.
    pub freed: u64,
    /// Calls that failed.
    pub failed: u64,
}

/// What one process did since its first call. 552 bytes. Sums never go back, but begin anew when the
/// agent forgets the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Process {
    /// cgroup v2 id of the thread that made the first call.
    pub cgroup_id: u64,
    /// The first call: monotonic clock, nanoseconds.
    pub first_ns: u64,
    /// Kernels that were launched.
    pub launches: u64,
    /// Graphs that were launched.
    pub graph_launches: u64,
    /// By kind: see [`COPY_HOST_TO_DEVICE`].
    pub copies: [Copies; COPY_KINDS],
    /// By kind: see [`WAIT_STREAM`].
    pub waits: [Calls; WAIT_KINDS],
    /// Modules that were loaded.
    pub modules: Calls,
    /// By kind: see [`ALLOCATION_DEVICE`].
    pub allocations: [Allocations; ALLOCATION_KINDS],
    /// Records of its memory that the ring had no room for: what it has now cannot be told any more.
    pub lost: u64,
    /// Collectives for which there was no entry.
    pub uncounted_collectives: u64,
    /// Calls and returns that hit a probe, by the thread's number: the largest is that of the busiest
    /// thread, or of some that share an entry.
    pub threads: [u64; THREAD_SLOTS],
}

/// Key of the `COLLECTIVES` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CollectivesKey {
    /// The communicator's address in the process.
    pub communicator: u64,
    /// Process.
    pub tgid: u32,
    /// See [`COLLECTIVE_ALL_REDUCE`].
    pub kind: u32,
}

/// A communicator's calls of one kind.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Collectives {
    /// Calls.
    pub count: u64,
    /// Elements by the size of their type, as the call has them: what a rank gets of a
    /// reduce-scatter, what it gives to one rank in an all-to-all.
    pub bytes: u64,
    /// Calls with a type that is not known: not in `bytes`.
    pub unsized_count: u64,
    /// The last call: monotonic clock, nanoseconds.
    pub last_ns: u64,
}

/// `what` of a [`Call`]: memory was taken.
pub const CALL_ALLOCATED: u32 = 1;
/// Memory was asked for and not given: `result` says why.
pub const CALL_REFUSED: u32 = 2;
/// Memory is given back: the call begins, so that it comes before whoever is given the address next.
pub const CALL_FREED: u32 = 3;
/// A module was loaded, in [`MODULE_RECORD_NS`] or longer.
pub const CALL_MODULE: u32 = 4;
/// `what` of a [`CommunicatorCall`]: the process begins to join a communicator.
pub const CALL_JOINING: u32 = 5;
/// It joined, or failed to: see `result`.
pub const CALL_JOINED: u32 = 6;
/// The communicator is given up.
pub const CALL_ABORTED: u32 = 7;
/// The communicator is ended.
pub const CALL_DESTROYED: u32 = 8;
/// `what` of a [`Stack`].
pub const STACK: u32 = 9;
/// `what` of a [`Seen`].
pub const SEEN: u32 = 10;

/// A call that takes memory or gives it back, or loads a module. 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Call {
    /// One of [`CALL_ALLOCATED`] to [`CALL_MODULE`].
    pub what: u32,
    /// Process.
    pub tgid: u32,
    /// When it returned; of [`CALL_FREED`], when it began. Monotonic clock, nanoseconds.
    pub time_ns: u64,
    /// The memory's address, or handle ([`ALLOCATION_PHYSICAL`]).
    pub pointer: u64,
    /// Bytes; 0 of [`CALL_FREED`].
    pub bytes: u64,
    /// [`Stack::id`]; 0 where there is none.
    pub stack: u64,
    /// For how long it did not return, nanoseconds; 0 of [`CALL_FREED`].
    pub took_ns: u64,
    /// `CUresult`, 0 for success.
    pub result: u32,
    /// Thread.
    pub tid: u32,
    /// See [`ALLOCATION_DEVICE`]; of [`CALL_FREED`], see [`Allocations::freed`].
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
}

/// A call that makes or ends a communicator. 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CommunicatorCall {
    /// One of [`CALL_JOINING`] to [`CALL_DESTROYED`].
    pub what: u32,
    /// Process.
    pub tgid: u32,
    /// When it began; of [`CALL_JOINED`], when it returned. Monotonic clock, nanoseconds.
    pub time_ns: u64,
    /// The communicator's address; 0 of [`CALL_JOINING`].
    pub communicator: u64,
    /// [`communicator_hash`] of its unique id; 0 where the call has none.
    pub hash: u64,
    /// The address of the communicator that it is split off; 0 for none.
    pub parent: u64,
    /// For how long it did not return, nanoseconds; of [`CALL_JOINED`] only.
    pub took_ns: u64,
    /// The process's number; of a split, the key that the numbers are ordered by.
    pub rank: u32,
    /// How many processes there are; of a split, its colour.
    pub ranks: u32,
    /// `ncclResult_t`, 0 for success.
    pub result: u32,
    /// Thread.
    pub tid: u32,
}

/// Frames of a place that asks for memory, told before the first [`Call`] from there. 216 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stack {
    /// [`STACK`].
    pub what: u32,
    /// Process.
    pub tgid: u32,
    /// What tells it from the process's other stacks, never 0.
    pub id: u64,
    /// How many frames there are.
    pub count: u32,
    /// Zero.
    pub reserved: u32,
    /// Addresses in the process, innermost first: where the call returns to, then what its callers'
    /// frame pointers tell.
    pub frames: [u64; FRAMES],
}

/// The first call of a process. 40 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Seen {
    /// [`SEEN`].
    pub what: u32,
    /// Process.
    pub tgid: u32,
    /// Monotonic clock, nanoseconds.
    pub time_ns: u64,
    /// cgroup v2 id of the thread that made the call.
    pub cgroup_id: u64,
    /// The thread's name, ended by a NUL byte where it is shorter.
    pub name: [u8; 16],
}

/// What the ring carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// See [`Call`].
    Call(Call),
    /// See [`CommunicatorCall`].
    Communicator(CommunicatorCall),
    /// See [`Stack`].
    Stack(Stack),
    /// See [`Seen`].
    Seen(Seen),
}

impl Record {
    /// Decodes a ring record. `None` where the bytes are no such record.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (what, _) = u32::read_from_prefix(bytes).ok()?;
        match what {
            CALL_ALLOCATED..=CALL_MODULE => {
                let call = Call::read_from_bytes(bytes).ok()?;
                ((call.kind as usize) < ALLOCATION_KINDS).then_some(Self::Call(call))
            }
            CALL_JOINING..=CALL_DESTROYED => {
                CommunicatorCall::read_from_bytes(bytes).ok().map(Self::Communicator)
            }
            STACK => {
                let stack = Stack::read_from_bytes(bytes).ok()?;
                (stack.count as usize <= FRAMES).then_some(Self::Stack(stack))
            }
            SEEN => Seen::read_from_bytes(bytes).ok().map(Self::Seen),
            _ => None,
        }
    }
}

/// What the agent tells the programs, the only entry of the `CONTROL` array.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Control {
    /// Changed whenever a probe at a return was taken away: calls that began before may never be seen
    /// to return, and nothing counts as inside them any more.
    pub epoch: u64,
}

/// Index into the `COUNTERS` entry, an array per CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Records that the ring had no room for.
    Lost = 0,
    /// Calls of processes for which there was no entry.
    Untracked = 1,
    /// Calls that were not followed to their return, since too many were on their way.
    Untimed = 2,
    /// Collectives for which there was no entry.
    Uncounted = 3,
    /// Calls within a call that was counted at the same layer: left out.
    Nested = 4,
    /// Returns of calls that were not seen to begin.
    Unmatched = 5,
    /// Batches of copies that are too long: only the first of their sizes are added up.
    Partial = 6,
    /// Times that memory was told of.
    MemoryTold = 7,
    /// What telling of it took, nanoseconds: a stack is walked and a record is written, which is
    /// dearer than the trap.
    MemoryToldNs = 8,
}

impl Counter {
    /// Length of the array.
    pub const COUNT: usize = 9;
}

/// Returns the cookie of a place where the program that stands for all of them is to do what `program`
/// does.
#[must_use]
pub const fn hook_cookie(program: &str) -> u32 {
    let name = program.as_bytes();
    let mut hash = 0x811c_9dc5_u32;
    let mut index = 0;
    while index < name.len() {
        hash = (hash ^ name[index] as u32).wrapping_mul(0x0100_0193);
        index += 1;
    }
    hash
}

/// Words of an `ncclUniqueId`.
pub const UNIQUE_ID_WORDS: usize = 16;

/// Returns what a communicator is known by on all its nodes, from its `ncclUniqueId`. Never 0.
///
/// It is NCCL's own number for it: RAS tells it, and NCCL logs it as `commId`. That is DJB2a over the
/// bytes, as C's `char`, which is signed on x86-64 and not on arm64.
#[must_use]
#[inline(always)]
pub const fn communicator_hash(id: &[u64; UNIQUE_ID_WORDS], is_char_signed: bool) -> u64 {
    let mut hash = 5381_u64;
    let mut index = 0;
    while index < UNIQUE_ID_WORDS * 8 {
        let byte = (id[index / 8] >> (index % 8 * 8)) as u8;
        let byte = if is_char_signed { byte as i8 as u64 } else { byte as u64 };
        hash = hash.wrapping_mul(33) ^ byte;
        index += 1;
    }
    hash | (hash == 0) as u64
}

/// Returns [`Stack::id`] of a stack. Frames past the last one are 0.
#[must_use]
#[inline(always)]
pub const fn stack_id(frames: &[u64; FRAMES]) -> u64 {
    hash(frames, FRAMES)
}

/// FNV-1a over words, with a shift after each so that high bits reach low ones.
#[inline(always)]
const fn hash<const N: usize>(words: &[u64; N], count: usize) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut index = 0;
    while index < count && index < N {
        hash = (hash ^ words[index]).wrapping_mul(0x0000_0100_0000_01b3);
        hash ^= hash >> 29;
        index += 1;
    }
    hash | (hash == 0) as u64
}

/// Returns the bytes of one element of an `ncclDataType_t`; 0 for one that is not known.
#[must_use]
#[inline(always)]
pub const fn datatype_size(datatype: u32) -> u64 {
    // A digit for each, from the last: i8 u8 i32 u32 i64 u64 f16 f32 f64 bf16 fp8e4m3 fp8e5m2.
    const SIZES: u64 = 0x1128_4288_4411;
    if datatype < 12 { SIZES >> (datatype * 4) & 0xf } else { 0 }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn records_are_told_apart_and_checked() {
        let call = Call {
            what: CALL_REFUSED,
            tgid: 7,
            time_ns: 1,
            pointer: 0,
            bytes: 1 << 40,
            stack: 0,
            took_ns: 5,
            result: 2,
            tid: 8,
            kind: ALLOCATION_PINNED,
            reserved: 0,
        };
        assert_eq!(Record::read(call.as_bytes()), Some(Record::Call(call)));
        assert_eq!(Record::read(&call.as_bytes()[..63]), None);
        let wrong = Call { kind: 5, ..call };
        assert_eq!(Record::read(wrong.as_bytes()), None, "a kind that is not known");
        let stack =
            Stack { what: STACK, tgid: 7, id: 1, count: 24, reserved: 0, frames: [3; FRAMES] };
        assert_eq!(Record::read(stack.as_bytes()), Some(Record::Stack(stack)));
        let wrong = Stack { count: 25, ..stack };
        assert_eq!(Record::read(wrong.as_bytes()), None, "more frames than there is room for");
        let wrong = Seen { what: 11, tgid: 7, time_ns: 1, cgroup_id: 2, name: [0; 16] };
        assert_eq!(Record::read(wrong.as_bytes()), None, "a record that is not known");
        assert_eq!(Record::read(&[]), None);
    }

    #[test]
    fn sizes_are_as_documented() {
        let sizes = [size_of::<Call>(), size_of::<CommunicatorCall>(), size_of::<Stack>()];
        assert_eq!(sizes, [64, 64, 216]);
        assert_eq!((size_of::<Seen>(), size_of::<Process>()), (40, 552));
    }

    #[test]
    fn datatypes_have_nccls_sizes() {
        let sizes: std::vec::Vec<_> = (0..13).map(datatype_size).collect();
        assert_eq!(sizes, [1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1, 0]);
        assert_eq!(datatype_size(u32::MAX), 0);
    }

    #[test]
    fn each_word_changes_a_hash() {
        let id = [0_u64; UNIQUE_ID_WORDS];
        let hash = communicator_hash(&id, true);
        for word in 0..UNIQUE_ID_WORDS {
            for bit in 0..64 {
                let mut other = id;
                other[word] ^= 1 << bit;
                assert_ne!(communicator_hash(&other, true), hash);
            }
        }
    }

    #[test]
    fn communicators_have_nccls_own_hash() {
        let words = |bytes: [u8; 128]| {
            let mut words = [0; UNIQUE_ID_WORDS];
            for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
                *word = u64::from_le_bytes(bytes.try_into().unwrap());
            }
            words
        };
        // By `getHash` of NCCL's sources.
        assert_eq!(communicator_hash(&[1; UNIQUE_ID_WORDS], true), 0x3206_a6d5_d4b8_dd05);
        let high = words(core::array::from_fn(|i| 0x80 + i as u8));
        assert_eq!(communicator_hash(&high, true), 0x3758_fa77_0a67_3905);
        assert_eq!(communicator_hash(&high, false), 0xfd6f_0908_449b_3105);
    }
}
