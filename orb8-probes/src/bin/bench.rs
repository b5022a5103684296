//! Programs for benchmarks and kernel tests only: what the agent's objects are compared with.
//!
//! `bench_empty_*` do nothing, `bench_ring_*` send an event per packet as many agents do, and
//! `bench_count_*` are the reference that accounting is checked against: they read no header.
#![no_std]
#![no_main]

use aya_ebpf::{
    Global,
    bindings::{
        __sk_buff, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
        BPF_SOCK_OPS_RTT_CB_FLAG, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB,
        BPF_SOCK_OPS_TCP_LISTEN_CB,
    },
    btf_maps::{PerCpuArray, RingBuf},
    helpers::generated::bpf_sock_ops_cb_flags_set,
    macros::{btf_map, cgroup_skb, classifier, sock_ops},
    programs::{SkBuffContext, SockOpsContext, TcContext},
};
use orb8_probes::{
    kernel::{atomic_add, monotonic_ns},
    skb::Skb,
};

/// Packets and bytes by direction: ingress at 0 and 1, egress at 2 and 3.
#[btf_map]
static COUNTS: PerCpuArray<[u64; 4], 1> = PerCpuArray::new();
#[btf_map]
static PACKETS: RingBuf<PacketEvent, 1048576> = RingBuf::new();

/// 0 for the default wake-up of the ring's reader with every event, else `BPF_RB_NO_WAKEUP`.
#[unsafe(no_mangle)]
static WAKEUP_FLAGS: Global<u64> = Global::new(0);

/// As large as the events of the design that is compared with.
#[repr(C)]
struct PacketEvent {
    time_ns: u64,
    words: [u64; 5],
}

const PASS: i32 = 1;
const NEXT: i32 = -1;

#[cgroup_skb(ingress)]
pub fn bench_empty_socket_ingress(_: SkBuffContext) -> i32 {
    PASS
}

#[cgroup_skb(egress)]
pub fn bench_empty_socket_egress(_: SkBuffContext) -> i32 {
    PASS
}

#[classifier]
pub fn bench_empty_tc_ingress(_: TcContext) -> i32 {
    NEXT
}

#[classifier]
pub fn bench_empty_tc_egress(_: TcContext) -> i32 {
    NEXT
}

/// Does nothing as often as `tcp_operations` runs: it asks for the same callbacks of the same sockets.
#[sock_ops]
pub fn bench_empty_operations(ctx: SockOpsContext) -> u32 {
    let op = ctx.op();
    if op == BPF_SOCK_OPS_TCP_CONNECT_CB
        || op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB
        || op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB
        || op == BPF_SOCK_OPS_TCP_LISTEN_CB
    {
        let wanted = BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RTT_CB_FLAG;
        // SAFETY: the program's own context.
        unsafe { bpf_sock_ops_cb_flags_set(ctx.ops, wanted as i32) };
    }
    PASS as u32
}

#[classifier]
pub fn bench_ring_tc_ingress(ctx: TcContext) -> i32 {
    send(ctx.skb.skb);
    NEXT
}

#[classifier]
pub fn bench_ring_tc_egress(ctx: TcContext) -> i32 {
    send(ctx.skb.skb);
    NEXT
}

#[cgroup_skb(ingress)]
pub fn bench_count_socket_ingress(ctx: SkBuffContext) -> i32 {
    count(ctx.skb.skb, 0);
    PASS
}

#[cgroup_skb(egress)]
pub fn bench_count_socket_egress(ctx: SkBuffContext) -> i32 {
    count(ctx.skb.skb, 2);
    PASS
}

#[classifier]
pub fn bench_count_tc_ingress(ctx: TcContext) -> i32 {
    count(ctx.skb.skb, 0);
    NEXT
}

#[classifier]
pub fn bench_count_tc_egress(ctx: TcContext) -> i32 {
    count(ctx.skb.skb, 2);
    NEXT
}

#[inline(always)]
fn count(context: *mut __sk_buff, first: usize) {
    // SAFETY: the kernel passed it.
    let skb = unsafe { Skb::new(context) };
    if let Some(counts) = COUNTS.get_ptr_mut(0) {
        // SAFETY: a live map value of four words.
        unsafe {
            atomic_add(counts.cast::<u64>().add(first), u64::from(skb.segments()));
            atomic_add(counts.cast::<u64>().add(first + 1), u64::from(skb.len()));
        }
    }
}

#[inline(always)]
fn send(context: *mut __sk_buff) {
    // SAFETY: the kernel passed it.
    let skb = unsafe { Skb::new(context) };
    if let Some(mut entry) = PACKETS.reserve(0) {
        let words = [u64::from(skb.len()), u64::from(skb.ifindex()), 0, 0, 0];
        entry.write(PacketEvent { time_ns: monotonic_ns(), words });
        entry.submit(WAKEUP_FLAGS.load());
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
