//! The ring: moments, packets that found the table full, and calls for a drain; and the counters of
//! what no record carries.

use crate::count::{Owner, Seen};
use crate::{COUNTERS, EVENTS};
use aya_ebpf::bindings::BPF_RB_FORCE_WAKEUP;
use orb8_common::flow::{
    Control, Counter, FlowKey, MOMENT_FIN, MOMENT_OVERFLOW, MOMENT_RST, Moment, PRESSURE,
    spread_tcp_flags,
};
use orb8_common::packet::{TCP_FIN, TCP_RST};
use orb8_probes::kernel::{atomic_add, monotonic_ns};
use orb8_probes::skb::Skb;

/// Tells of a direction's first FIN, and of every RST.
#[inline(always)]
pub(crate) fn tell_end(seen: &Seen, key: &FlowKey, flags_before: u64, owner: Owner) {
    if seen.tcp_flags & TCP_RST != 0 {
        tell(seen, key, MOMENT_RST, owner);
    } else if flags_before & spread_tcp_flags(TCP_FIN) == 0 {
        tell(seen, key, MOMENT_FIN, owner);
    }
}

#[inline(always)]
pub(crate) fn tell(seen: &Seen, key: &FlowKey, kind: u8, owner: Owner) {
    if !record(seen, key, kind, owner.cgroup_id, owner.cookie) {
        bump(Counter::LostMoments, 1);
    }
}

/// Sends a packet that the full table has no room for through the ring, else counts it as lost.
#[inline(always)]
pub(crate) fn overflow(seen: &Seen, key: &FlowKey, owner: Owner) -> u64 {
    if record(seen, key, MOMENT_OVERFLOW, owner.cgroup_id, owner.cookie) {
        bump(Counter::OverflowPackets, u64::from(seen.packets));
    } else {
        bump(Counter::LostPackets, u64::from(seen.packets));
        bump(Counter::LostBytes, u64::from(seen.bytes));
    }
    0
}

/// Asks for a drain, once a generation.
#[inline(never)]
pub(crate) fn press(control: *mut Control) -> u64 {
    // SAFETY: the only entry of the array. Two CPUs may both ask; the second drain finds little.
    unsafe {
        if (*control).pressed != 0 {
            return 0;
        }
        // A ring that has no room for it is asked again with the next entry.
        if EVENTS.output_untyped::<u64>(PRESSURE, u64::from(BPF_RB_FORCE_WAKEUP)).is_ok() {
            (*control).pressed = 1;
        }
    }
    0
}

/// Puts a moment into the ring. Without flags the kernel wakes the reader only when it had read
/// everything, and the reader rests between reads, so wake-ups are bounded by its rests.
#[inline(never)]
pub(crate) fn record(seen: &Seen, key: &FlowKey, kind: u8, cgroup_id: u64, cookie: u64) -> bool {
    let Some(mut entry) = EVENTS.reserve(0) else { return false };
    entry.write(Moment {
        key: *key,
        time_ns: monotonic_ns(),
        cgroup_id,
        cookie,
        bytes: seen.bytes,
        packets: seen.packets,
        ifindex: seen.skb.ifindex(),
        kind,
        tcp_flags: seen.tcp_flags,
        reserved: [0; 2],
    });
    entry.submit(0);
    true
}

#[inline(always)]
pub(crate) fn count_malformed(bytes: u32, packets: u32) {
    bump(Counter::MalformedPackets, u64::from(packets));
    bump(Counter::MalformedBytes, u64::from(bytes));
}

#[inline(always)]
pub(crate) fn count_other(skb: Skb, link_header: u32) {
    bump(Counter::OtherPackets, u64::from(skb.segments()));
    bump(Counter::OtherBytes, u64::from(skb.len().saturating_sub(link_header)));
}

/// Softirqs interrupt programs that run in process context, so even a CPU's own counter needs an
/// atomic addition.
#[inline(always)]
pub(crate) fn bump(counter: Counter, value: u64) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: a live map value, and the index is a constant below its length.
        unsafe { atomic_add(counters.cast::<u64>().add(counter as usize), value) };
    }
}
