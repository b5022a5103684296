//! The `tcp` object: how connections fare.
//!
//! ```text
//! sock_ops ────▶ SOCKETS (storage: handshake, round-trip times) ──(iterator)──▶ agent
//!     └──(opened, closed)──▶ EVENTS ──▶ agent
//! tracepoints ─▶ EVENTS: resets, retransmits, drops, sockets that sock_ops does not follow
//! ```
//! This file has the maps, what the loader sets, and the programs; each module is one of the boxes.
//! Nothing here runs per packet, but for the callback that comes with a round-trip time sample.
#![no_std]
#![no_main]

#[path = "tcp/drops.rs"]
mod drops;
#[path = "tcp/iterators.rs"]
mod iterators;
#[path = "tcp/moments.rs"]
mod moments;
#[path = "tcp/operations.rs"]
mod operations;
#[path = "tcp/packet.rs"]
mod packet;
#[path = "tcp/socket.rs"]
mod socket;
#[path = "tcp/tracepoints.rs"]
mod tracepoints;

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, LruHashMap, PerCpuArray, RingBuf, SkStorage};
use aya_ebpf::macros::{btf_map, raw_tracepoint, sock_ops};
use aya_ebpf::programs::{RawTracePointContext, SockOpsContext};
use orb8_common::tcp::{
    Control, Counter, DROP_REASONS, Drops, LISTENERS, Offsets, TcpMoment, TcpSocket,
};

use crate::moments::Reset;

/// Where members are in this kernel's structures.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = zerocopy::transmute!([0_u32; size_of::<Offsets>() / 4]);
/// Reasons of `enum skb_drop_reason` that are not told, a bit for each: they are no loss, or say
/// nothing.
#[unsafe(no_mangle)]
static IGNORED: [u64; DROP_REASONS / 64] = [u64::MAX; DROP_REASONS / 64];
/// 1 where `kfree_skb` says which socket the packet was for (6.11).
#[unsafe(no_mangle)]
static DROP_HAS_SOCKET: Global<u8> = Global::new(0);
/// 1 where `tcp_send_reset` says why (6.11).
#[unsafe(no_mangle)]
static RESET_HAS_REASON: Global<u8> = Global::new(0);
/// 1 where `tcp_retransmit_skb` says what became of the attempt (6.15).
#[unsafe(no_mangle)]
static RETRANSMIT_HAS_ERROR: Global<u8> = Global::new(0);

// The size of the ring is set at load.
#[btf_map]
static SOCKETS: SkStorage<TcpSocket> = SkStorage::new();
#[btf_map]
static EVENTS: RingBuf<TcpMoment, 1048576> = RingBuf::new();
#[btf_map]
static CONTROL: Array<Control, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static DROPS: PerCpuArray<Drops, 1> = PerCpuArray::new();
#[btf_map]
static LISTENER_DROPS: LruHashMap<u64, u64, LISTENERS> = LruHashMap::new();
#[btf_map]
static COUNTERS: PerCpuArray<[u64; Counter::COUNT], 1> = PerCpuArray::new();

/// Follows a connection from its handshake to its end.
///
/// `int sock_ops(struct bpf_sock_ops *skops)`: 1 is what it returns.
#[sock_ops]
pub fn tcp_operations(ctx: SockOpsContext) -> u32 {
    operations::handle(&ctx);
    1
}

/// `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
#[raw_tracepoint]
pub fn tcp_set_state(ctx: RawTracePointContext) -> i32 {
    tracepoints::set_state(ctx.arg(0), ctx.arg::<u64>(1) as u8, ctx.arg::<u64>(2) as u8);
    0
}

/// `tcp_retransmit_skb(const struct sock *sk, const struct sk_buff *skb, int err)`; until 6.15 without
/// the error, and then not called where there was one.
#[raw_tracepoint]
pub fn tcp_retransmit(ctx: RawTracePointContext) -> i32 {
    let error = if RETRANSMIT_HAS_ERROR.load() != 0 { ctx.arg::<u64>(2) as i32 } else { 0 };
    if !tracepoints::was_put_off(error) {
        tracepoints::retransmit(ctx.arg(0), ctx.arg(1));
    }
    0
}

/// `tcp_retransmit_synack(const struct sock *sk, const struct request_sock *req)`
#[raw_tracepoint]
pub fn tcp_retransmit_synack(ctx: RawTracePointContext) -> i32 {
    tracepoints::retransmit_synack(ctx.arg(0), ctx.arg(1));
    0
}

/// `tcp_send_reset(const struct sock *sk, const struct sk_buff *skb, const enum sk_rst_reason reason)`;
/// until 6.10 without the reason. Either pointer may be null.
#[raw_tracepoint]
pub fn tcp_send_reset(ctx: RawTracePointContext) -> i32 {
    let reason = if RESET_HAS_REASON.load() != 0 { ctx.arg::<u64>(2) as u32 } else { 0 };
    tracepoints::reset(Reset::Sent, ctx.arg(0), ctx.arg(1), reason);
    0
}

/// `tcp_receive_reset(struct sock *sk)`
#[raw_tracepoint]
pub fn tcp_receive_reset(ctx: RawTracePointContext) -> i32 {
    tracepoints::reset(Reset::Received, ctx.arg(0), 0, 0);
    0
}

/// `kfree_skb(struct sk_buff *skb, void *location, enum skb_drop_reason reason, struct sock *rx_sk)`;
/// from 5.17 with the reason, from 6.11 with the socket.
#[raw_tracepoint]
pub fn tcp_drop(ctx: RawTracePointContext) -> i32 {
    let reason = ctx.arg::<u64>(2) as u32;
    let socket: u64 = if DROP_HAS_SOCKET.load() != 0 { ctx.arg(3) } else { 0 };
    drops::count_for_listener(socket);
    if !drops::is_ignored(reason) {
        drops::drop(ctx.arg(0), ctx.arg(1), reason, socket);
    }
    0
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // Unreachable: the verifier refuses a program that could get here.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
