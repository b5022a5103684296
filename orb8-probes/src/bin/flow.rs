//! The `flow` object: who talks to whom, counted in the kernel.
//!
//! ```text
//! cgroup_skb ─▶ sockets (storage of busy connected ones) ─┐
//!           └─▶ count: slots ─(taken)─▶ FLOWS_ ───────────┼─▶ agent
//! tc ─▶ interfaces ─▶ count           └─(full)─▶ EVENTS ──┘
//!                                         └─(full)─▶ COUNTERS: lost
//! ```
//! This file has the maps, what the loader sets, and the programs; each module is one of the boxes.
#![no_std]
#![no_main]

#[path = "flow/count.rs"]
mod count;
#[path = "flow/interfaces.rs"]
mod interfaces;
#[path = "flow/moments.rs"]
mod moments;
#[path = "flow/sockets.rs"]
mod sockets;

use crate::interfaces::{FragmentKey, Ports, interface_hook};
use crate::sockets::{close, socket_hook, sockets};
use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, SkStorage};
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::{btf_map, cgroup_skb, cgroup_sock, classifier};
use aya_ebpf::programs::{SkBuffContext, SockContext, TcContext};
use orb8_common::flow::{
    Control, Counter, DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey, FlowStats, Moment, Slot,
    SocketBody, SocketRecord,
};
use orb8_probes::kernel::{monotonic_ns, ticks};

/// Slots of a generation, less one: a mask, as their number is a power of two.
#[unsafe(no_mangle)]
static SLOT_MASK: Global<u32> = Global::new(16383);
/// Makes the hash of slots differ from agent to agent, so that nobody can aim at one.
#[unsafe(no_mangle)]
static SEED: Global<u64> = Global::new(0);
/// Entries after which the agent is asked to drain at once; set by the loader with the size.
#[unsafe(no_mangle)]
static HIGH_WATER: Global<u64> = Global::new(u64::MAX);
/// 1 where the storage iterator works, so that connected sockets may count in their storage.
#[unsafe(no_mangle)]
static SOCKET_STORAGE: Global<u8> = Global::new(0);
/// 1 on kernels whose storage helper does not take the packet's socket as it is (before 5.12).
#[unsafe(no_mangle)]
static FULL_SOCKET: Global<u8> = Global::new(0);
/// Where the socket hook runs too: the cgroup that it is attached to. The interface hook then leaves
/// it what sockets below that cgroup send. 0 where the interface hook runs alone.
#[unsafe(no_mangle)]
static SOCKET_HOOK_CGROUP: Global<u64> = Global::new(0);
/// How deep below the root of the hierarchy that cgroup is.
#[unsafe(no_mangle)]
static SOCKET_HOOK_LEVEL: Global<u32> = Global::new(0);

// The sizes of the tables and the ring are set at load.
#[btf_map]
static FLOWS_0: HashMap<FlowKey, FlowStats, 65536> = HashMap::new();
#[btf_map]
static FLOWS_1: HashMap<FlowKey, FlowStats, 65536> = HashMap::new();
#[btf_map]
static SLOTS_0: Array<Slot, 16384, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static SLOTS_1: Array<Slot, 16384, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static CLOSED: HashMap<u64, SocketBody, 65536> = HashMap::new();
#[btf_map]
static SOCKETS: SkStorage<SocketRecord> = SkStorage::new();
#[btf_map]
static FRAGMENTS: LruHashMap<FragmentKey, Ports, 4096> = LruHashMap::new();
#[btf_map]
static EVENTS: RingBuf<Moment, 1048576> = RingBuf::new();
#[btf_map]
static CONTROL: Array<Control, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static COUNTERS: PerCpuArray<[u64; Counter::COUNT], 1> = PerCpuArray::new();

// ---- socket hook ---------------------------------------------------------------------------------
// int cgroup_skb(struct __sk_buff *skb): 1 lets the packet pass. `data` is the IP header.

/// Counts what local sockets receive.
#[cgroup_skb(ingress)]
pub fn flow_socket_ingress(ctx: SkBuffContext) -> i32 {
    socket_hook(ctx.skb.skb, DIRECTION_INGRESS);
    1
}

/// Counts what local sockets send.
#[cgroup_skb(egress)]
pub fn flow_socket_egress(ctx: SkBuffContext) -> i32 {
    socket_hook(ctx.skb.skb, DIRECTION_EGRESS);
    1
}

/// Takes the counters of a socket that is closed.
///
/// `int cgroup_sock(struct bpf_sock *sk)` at `inet_release`: 1 is what it has to return.
#[cgroup_sock(sock_release)]
pub fn flow_socket_release(ctx: SockContext) -> i32 {
    // SAFETY: the context is the socket; without storage the helper returns null.
    let stored =
        unsafe { bpf_sk_storage_get(sockets(), ctx.sock.cast(), core::ptr::null_mut(), 0) }
            .cast::<SocketRecord>();
    if !stored.is_null() {
        close(stored);
    }
    1
}

// ---- clock ---------------------------------------------------------------------------------------

/// Tells the agent what a tick is. Never attached: the agent runs it by `BPF_PROG_TEST_RUN`.
#[classifier]
pub fn flow_clock(_: TcContext) -> i32 {
    if let Some(control) = CONTROL.get_ptr_mut(0) {
        // SAFETY: the only entry of the array; the agent has one thread that runs this.
        unsafe {
            (*control).clock_tick = ticks();
            (*control).clock_ns = monotonic_ns();
        }
    }
    NEXT
}

// ---- interface hook ------------------------------------------------------------------------------
// int classifier(struct __sk_buff *skb): -1 (TCX_NEXT, TC_ACT_UNSPEC) leaves the packet to the next
// program. `data` is the link header.

const NEXT: i32 = -1;

/// Counts what comes in through an Ethernet device.
#[classifier]
pub fn flow_tc_ingress(ctx: TcContext) -> i32 {
    interface_hook(ctx.skb.skb, DIRECTION_INGRESS, true);
    NEXT
}

/// Counts what leaves through an Ethernet device.
#[classifier]
pub fn flow_tc_egress(ctx: TcContext) -> i32 {
    interface_hook(ctx.skb.skb, DIRECTION_EGRESS, true);
    NEXT
}

/// Counts what comes in through a device without link headers.
#[classifier]
pub fn flow_tc_l3_ingress(ctx: TcContext) -> i32 {
    interface_hook(ctx.skb.skb, DIRECTION_INGRESS, false);
    NEXT
}

/// Counts what leaves through a device without link headers.
#[classifier]
pub fn flow_tc_l3_egress(ctx: TcContext) -> i32 {
    interface_hook(ctx.skb.skb, DIRECTION_EGRESS, false);
    NEXT
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // Unreachable: the verifier refuses a program that could get here.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
