//! Packets that the kernel dropped and says why.

use crate::moments::{own, tell_empty};
use crate::packet::{Segment, netns_of, network_header};
use crate::socket::{Sock, offset};
use crate::{DROPS, IGNORED, LISTENER_DROPS};
use orb8_common::tcp::{
    DROP_REASONS, DROPS_PER_TICK, Drops, MOMENT_DROP, MOMENT_LOCAL_IS_DESTINATION,
    MOMENT_LOCAL_IS_SOURCE, MOMENT_OF_PACKET, STATE_LISTEN,
};
use orb8_probes::kernel::{atomic_add, read_kernel, ticks};

/// Whether a reason is none that is told.
#[inline(always)]
pub(crate) fn is_ignored(reason: u32) -> bool {
    let (word, bit) = (reason as usize / 64, reason % 64);
    // SAFETY: the index is bounded; volatile, since the loader writes it.
    word < DROP_REASONS / 64
        && unsafe { (&raw const IGNORED[word]).read_volatile() } >> bit & 1 != 0
}

#[inline(always)]
pub(crate) fn drop(skb: u64, location: u64, reason: u32, receiver: u64) {
    // Most of what is freed is no IP packet, or not TCP.
    if network_header(skb) == 0 {
        return;
    }
    let segment = Segment::of(skb);
    if !segment.is_tcp {
        return;
    }
    let Some(drops) = DROPS.get_ptr_mut(0) else { return };
    let weight = count(drops, reason);
    if weight == 0 {
        return;
    }
    let sender: u64 = read_kernel(skb + offset!(skb_sk));
    let sock = Sock(if receiver != 0 { receiver } else { sender });
    tell_empty(MOMENT_DROP, |moment| {
        moment.local_addr = segment.source_addr;
        moment.remote_addr = segment.destination_addr;
        moment.local_port = segment.source_port;
        moment.remote_port = segment.destination_port;
        moment.tcp_flags = segment.tcp_flags;
        moment.bytes = segment.bytes;
        moment.ifindex = read_kernel(skb + offset!(skb_iif));
        moment.flags = MOMENT_OF_PACKET;
        moment.netns = netns_of(skb);
        moment.reason = reason;
        moment.value = location;
        moment.total = weight;
        if sock.is_whole() {
            own(sock, moment);
            moment.state = sock.state();
            moment.flags = MOMENT_OF_PACKET | local_end(sock, &segment);
        }
    });
}

/// Which end of a segment a socket is. A listener may have any address.
#[inline(always)]
fn local_end(sock: Sock, segment: &Segment) -> u8 {
    let ends = sock.ends();
    let local: [u64; 2] = zerocopy::transmute!(ends.local_addr);
    let source: [u64; 2] = zerocopy::transmute!(segment.source_addr);
    let is_source = (local[0] ^ source[0]) | (local[1] ^ source[1]) == 0;
    if ends.local_port == segment.source_port && is_source {
        MOMENT_LOCAL_IS_SOURCE
    } else if ends.local_port == segment.destination_port {
        MOMENT_LOCAL_IS_DESTINATION
    } else {
        0
    }
}

/// Remembers a packet that a listener dropped and the kernel says why: the rest of its drops are
/// connections that found a queue full.
#[inline(always)]
pub(crate) fn count_for_listener(receiver: u64) {
    let sock = Sock(receiver);
    if sock.is_null() || sock.state() != STATE_LISTEN || !sock.is_internet() {
        return;
    }
    let cookie = sock.cookie();
    match LISTENER_DROPS.get_ptr_mut(cookie) {
        // SAFETY: a live map value.
        Some(drops) => unsafe { atomic_add(drops, 1) },
        // One that is not remembered has its drops told as if the queue was full.
        None => {
            let _ = LISTENER_DROPS.insert(cookie, 1_u64, 0);
        }
    }
}

/// Counts a drop. Returns how many the moment that tells of it stands for, 0 to send none: this CPU
/// has sent its share of this tick.
#[inline(always)]
fn count(drops: *mut Drops, reason: u32) -> u32 {
    let last = DROP_REASONS - 1;
    let index = if (reason as usize) < last { reason as usize } else { last };
    // SAFETY: this CPU's entry. A softirq that drops in between may count twice or not at all in
    // `told`; `packets` is added to atomically.
    unsafe {
        let packets = &raw mut (*drops).packets[index];
        atomic_add(packets, 1);
        let now = ticks();
        if (*drops).tick != now {
            (*drops).tick = now;
            (*drops).in_tick = 0;
        }
        if (*drops).in_tick >= DROPS_PER_TICK {
            return 0;
        }
        (*drops).in_tick += 1;
        let packets = packets.read_volatile();
        let told = &raw mut (*drops).told[index];
        let untold = packets - *told;
        *told = packets;
        untold as u32
    }
}
