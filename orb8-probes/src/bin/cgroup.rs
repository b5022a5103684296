//! The `cgroup` object: cgroups of the v2 hierarchy as they come and go, so that nobody has to look
//! for them.
//!
//! ```text
//! cgroup_mkdir ─┬─(other hierarchies)─▶ nothing
//! cgroup_rmdir ─┴─▶ EVENTS ─(full)─▶ COUNTERS: lost
//! ```
#![no_std]
#![no_main]

use aya_ebpf::Global;
use aya_ebpf::btf_maps::{PerCpuArray, RingBuf};
use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use aya_ebpf::macros::{btf_map, raw_tracepoint};
use aya_ebpf::programs::RawTracePointContext;
use orb8_common::cgroup::{
    CgroupChange, CgroupRecord, Counter, MADE, Offsets, PATH_SIZES, REMOVED,
};
use orb8_probes::kernel::{atomic_add, read_kernel};

/// Where members are in this kernel's structures.
#[unsafe(no_mangle)]
static OFFSETS: Global<Offsets> =
    Global::new(Offsets { root: 0, hierarchy_id: 0, kn: 0, kn_id: 0 });

// The size of the ring is set at load.
#[btf_map]
static EVENTS: RingBuf<CgroupRecord<{ PATH_SIZES[0] }>, 131072> = RingBuf::new();
#[btf_map]
static COUNTERS: PerCpuArray<[u64; Counter::COUNT], 1> = PerCpuArray::new();

/// Tells of a cgroup that is there now.
///
/// `cgroup_mkdir(struct cgroup *cgrp, const char *path)`: the path from the hierarchy's root, which
/// the kernel cuts off after 1023 bytes.
#[raw_tracepoint]
pub fn cgroup_made(ctx: RawTracePointContext) -> i32 {
    if let Some(id) = id_of(ctx.arg(0)) {
        made(id, ctx.arg(1));
    }
    0
}

/// Tells of a cgroup that is no more.
///
/// `cgroup_rmdir(struct cgroup *cgrp, const char *path)`
#[raw_tracepoint]
pub fn cgroup_removed(ctx: RawTracePointContext) -> i32 {
    if let Some(id) = id_of(ctx.arg(0)) {
        let Some(mut entry) = EVENTS.reserve_untyped::<CgroupChange>(0) else {
            lost();
            return 0;
        };
        entry.write(CgroupChange { id, kind: REMOVED, path_length: 0 });
        entry.submit(0);
    }
    0
}

/// The cgroup's id; `None` where it is of a v1 hierarchy, which has numbers of its own.
#[inline(always)]
fn id_of(cgroup: u64) -> Option<u64> {
    const V2: u32 = 0;
    let offsets = OFFSETS.load();
    let root: u64 = read_kernel(cgroup + u64::from(offsets.root));
    let hierarchy: u32 = read_kernel(root + u64::from(offsets.hierarchy_id));
    if hierarchy != V2 {
        return None;
    }
    let node: u64 = read_kernel(cgroup + u64::from(offsets.kn));
    Some(read_kernel(node + u64::from(offsets.kn_id)))
}

/// What became of an attempt to tell.
enum Told {
    Yes,
    /// The record has no room for the path.
    TooLong,
    Lost,
}

#[inline(always)]
fn made(id: u64, path: u64) {
    let mut told = tell::<{ PATH_SIZES[0] }>(id, path, false);
    if let Told::TooLong = told {
        told = tell::<{ PATH_SIZES[1] }>(id, path, true);
    }
    if let Told::Lost = told {
        lost();
    }
}

/// Puts a record into the ring whose path has room for `N` bytes. One that is too long even for the
/// `last` attempt is told without it.
#[inline(always)]
fn tell<const N: usize>(id: u64, path: u64, last: bool) -> Told {
    let Some(mut entry) = EVENTS.reserve_untyped::<CgroupRecord<N>>(0) else { return Told::Lost };
    let record = entry.as_mut_ptr();
    // SAFETY: the record is reserved, and at most its `N` bytes are written behind the header.
    unsafe {
        let room = (&raw mut (*record).path).cast();
        let copied = bpf_probe_read_kernel_str(room, N as u32, path as *const _);
        let is_cut = copied >= N as i64;
        if is_cut && !last {
            entry.discard(0);
            return Told::TooLong;
        }
        // The NUL byte counts as copied. Where nothing could be, the number is negative.
        let path_length = if is_cut || copied < 1 { 0 } else { copied as u32 - 1 };
        (&raw mut (*record).change).write(CgroupChange { id, kind: MADE, path_length });
    }
    entry.submit(0);
    Told::Yes
}

#[inline(always)]
fn lost() {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: a live map value, and the index is a constant below its length.
        unsafe { atomic_add(counters.cast::<u64>().add(Counter::Lost as usize), 1) };
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // Unreachable: the verifier refuses a program that could get here.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
