//! The `dns` object: messages of the DNS ports, copied for user space to parse.
//!
//! ```text
//! cgroup_skb ─┐
//!             ├─▶ glance ──(other ports)──▶ nothing
//! tc ─────────┘      └─▶ capture ─▶ EVENTS
//!                           └─(full)─▶ COUNTERS: lost
//! ```
//! Every packet of the node passes here, and next to none of them is DNS: `glance` is what they pay
//! for.
#![no_std]
#![no_main]

#[path = "dns/capture.rs"]
mod capture;
#[path = "dns/glance.rs"]
mod glance;

use crate::capture::{Hook, capture};
use crate::glance::{asks, frame_passes_by, packet_passes_by};
use aya_ebpf::Global;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::btf_maps::{PerCpuArray, RingBuf};
use aya_ebpf::macros::{btf_map, cgroup_skb, classifier};
use aya_ebpf::programs::{SkBuffContext, TcContext};
use orb8_common::dns::{CAPTURE_SIZES, Counter, DnsRecord, MAX_PORTS};
use orb8_common::flow::{DIRECTION_EGRESS, DIRECTION_INGRESS};
use orb8_probes::skb::Skb;

/// The DNS ports, in network order: that is how packets have them.
#[unsafe(no_mangle)]
static PORTS: Global<[u16; MAX_PORTS]> = Global::new([53_u16.to_be(), 0, 0, 0, 0, 0, 0, 0]);
/// How many of them there are: the verifier drops the comparisons with the others.
#[unsafe(no_mangle)]
static PORT_COUNT: Global<u32> = Global::new(1);
/// Where the socket hook runs too: the cgroup that it is attached to. The interface hook then leaves
/// it what sockets below that cgroup send. 0 where the interface hook runs alone.
#[unsafe(no_mangle)]
static SOCKET_HOOK_CGROUP: Global<u64> = Global::new(0);
/// How deep below the root of the hierarchy that cgroup is.
#[unsafe(no_mangle)]
static SOCKET_HOOK_LEVEL: Global<u32> = Global::new(0);

// The size of the ring is set at load.
#[btf_map]
static EVENTS: RingBuf<DnsRecord<{ CAPTURE_SIZES[0] }>, 1048576> = RingBuf::new();
#[btf_map]
static COUNTERS: PerCpuArray<[u64; Counter::COUNT], 1> = PerCpuArray::new();

// ---- socket hook ---------------------------------------------------------------------------------
// int cgroup_skb(struct __sk_buff *skb): 1 lets the packet pass. `data` is the IP header.

/// Captures what local sockets receive.
#[cgroup_skb(ingress)]
pub fn dns_socket_ingress(ctx: SkBuffContext) -> i32 {
    see_packet(ctx.skb.skb, DIRECTION_INGRESS, Hook::Socket);
    1
}

/// Captures what local sockets send.
#[cgroup_skb(egress)]
pub fn dns_socket_egress(ctx: SkBuffContext) -> i32 {
    // SAFETY: the kernel passed it.
    let skb = unsafe { Skb::new(ctx.skb.skb) };
    if !packet_passes_by(&skb.direct(), 0) || asks(skb) {
        capture(ctx.skb.skb, DIRECTION_EGRESS, Hook::Socket);
    }
    1
}

// ---- interface hook ------------------------------------------------------------------------------
// int classifier(struct __sk_buff *skb): -1 (TCX_NEXT, TC_ACT_UNSPEC) leaves the packet to the next
// program. `data` is the link header.

const NEXT: i32 = -1;

/// Captures what comes in through an Ethernet device.
#[classifier]
pub fn dns_tc_ingress(ctx: TcContext) -> i32 {
    see_frame(ctx.skb.skb, DIRECTION_INGRESS);
    NEXT
}

/// Captures what leaves through an Ethernet device.
#[classifier]
pub fn dns_tc_egress(ctx: TcContext) -> i32 {
    see_frame(ctx.skb.skb, DIRECTION_EGRESS);
    NEXT
}

/// Captures what comes in through a device without link headers.
#[classifier]
pub fn dns_tc_l3_ingress(ctx: TcContext) -> i32 {
    see_packet(ctx.skb.skb, DIRECTION_INGRESS, Hook::RawInterface);
    NEXT
}

/// Captures what leaves through a device without link headers.
#[classifier]
pub fn dns_tc_l3_egress(ctx: TcContext) -> i32 {
    see_packet(ctx.skb.skb, DIRECTION_EGRESS, Hook::RawInterface);
    NEXT
}

#[inline(always)]
fn see_packet(context: *mut __sk_buff, direction: u8, hook: Hook) {
    // SAFETY: the kernel passed it.
    let skb = unsafe { Skb::new(context) };
    if !packet_passes_by(&skb.direct(), 0) {
        capture(context, direction, hook);
    }
}

#[inline(always)]
fn see_frame(context: *mut __sk_buff, direction: u8) {
    // SAFETY: the kernel passed it.
    let skb = unsafe { Skb::new(context) };
    if !frame_passes_by(&skb.direct()) {
        capture(context, direction, Hook::EthernetInterface);
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
