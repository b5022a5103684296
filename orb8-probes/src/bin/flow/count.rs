//! Counting towards a key: slots, then the table, then the ring.

use crate::moments::{overflow, press, tell, tell_end};
use crate::{CONTROL, FLOWS_0, FLOWS_1, HIGH_WATER, SEED, SLOT_MASK, SLOTS_0, SLOTS_1};
use aya_ebpf::bindings::BPF_NOEXIST;
use core::mem::MaybeUninit;
use orb8_common::flow::{
    Control, FlowKey, FlowStats, HOOK_SOCKET, KEY_FRAGMENT, MOMENT_NEW, Slot, spread_tcp_flags,
};
use orb8_common::packet::{Link, NoFlow, Part, Place, TCP_FIN, TCP_RST, Transport, parse_ip};
use orb8_probes::kernel::{atomic_add, atomic_increment, ticks};
use orb8_probes::skb::Skb;

/// One packet, and what it adds.
pub(crate) struct Seen {
    pub(crate) skb: Skb,
    /// Wire packets.
    pub(crate) packets: u32,
    /// IP bytes.
    pub(crate) bytes: u32,
    pub(crate) tcp_flags: u8,
}

// ---- both hooks ----------------------------------------------------------------------------------

/// Parses by direct access, and through the helper where that meets the end of the linear part.
/// `key` is written when the result is `Ok`.
#[inline(always)]
pub(crate) fn parse(
    skb: Skb,
    link: Link,
    place: Place,
    key: &mut MaybeUninit<FlowKey>,
) -> Result<Transport, NoFlow> {
    let direct = parse_ip(&skb.direct(), link, place, |made| {
        key.write(made);
    });
    match direct {
        Ok(transport) if !transport.truncated => Ok(transport),
        Err(NoFlow::NotIp) => Err(NoFlow::NotIp),
        _ => parse_ip(&skb.loaded(), link, place, |made| {
            key.write(made);
        }),
    }
}

/// A fragment at the socket hook: a raw socket's own, since the stack fragments later.
#[inline(always)]
pub(crate) fn mark_fragment(key: &mut FlowKey, transport: &Transport) {
    if transport.part == Part::Later {
        key.flags = KEY_FRAGMENT;
    }
}

/// Counts a packet towards `key`. Returns the flow's packets in this generation.
#[inline(always)]
pub(crate) fn count(seen: &Seen, key: &FlowKey) -> u64 {
    let Some(control) = CONTROL.get_ptr_mut(0) else { return 0 };
    // SAFETY: the only entry of the array, read once: the agent waits out the programs that still
    // hold the old value before it drains the old table.
    let generation = unsafe { (&raw const (*control).generation).read_volatile() };
    let tag = tag_of(key);
    for way in 0..SLOT_WAYS {
        let index = (tag as u32 ^ way) & SLOT_MASK.load();
        let slot =
            if generation == 0 { SLOTS_0.get_ptr_mut(index) } else { SLOTS_1.get_ptr_mut(index) };
        let Some(slot) = slot else { break };
        // SAFETY: a live map value. A slot keeps its key while programs can write it, and the tag
        // is written after the key: a key that is seen half-written does not match its tag.
        unsafe {
            let seen_tag = (&raw const (*slot).tag).read_volatile();
            if seen_tag == tag && is_same(&(*slot).key, key) {
                return add(&raw mut (*slot).stats, seen, key);
            }
            if seen_tag == 0 && claim(seen, key, slot, tag) {
                atomic_add(&raw mut (*control).claimed[generation as usize & 1], 1);
                return u64::from(seen.packets);
            }
        }
    }
    let known = if generation == 0 { FLOWS_0.get_ptr_mut(key) } else { FLOWS_1.get_ptr_mut(key) };
    match known {
        Some(stats) => add(stats, seen, key),
        None => count_new(seen, key, control, generation),
    }
}

/// Slots that a flow may have, side by side: with half of all slots taken, one in seven flows finds
/// both taken and goes to the table.
pub(crate) const SLOT_WAYS: u32 = 2;

/// Compares word by word: field by field the compiler would call `memcmp`.
#[inline(always)]
pub(crate) fn is_same(one: &FlowKey, other: &FlowKey) -> bool {
    let one: &[u64; 7] = zerocopy::transmute_ref!(one);
    let other: &[u64; 7] = zerocopy::transmute_ref!(other);
    let mut difference = 0;
    for word in 0..7 {
        difference |= one[word] ^ other[word];
    }
    difference == 0
}

/// Hashes a key: independent products of its words, mixed. Never 0.
#[inline(always)]
pub(crate) fn tag_of(key: &FlowKey) -> u64 {
    let words: &[u64; 7] = zerocopy::transmute_ref!(key);
    let hash = (words[0] ^ SEED.load())
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(words[1].wrapping_mul(0xbf58_476d_1ce4_e5b9))
        .wrapping_add(words[2].wrapping_mul(0x94d0_49bb_1331_11eb))
        .wrapping_add(words[3].wrapping_mul(0xd6e8_feb8_6659_fd93))
        .wrapping_add(words[4].wrapping_mul(0xff51_afd7_ed55_8ccd))
        .wrapping_add(words[5].wrapping_mul(0xc4ce_b9fe_1a85_ec53))
        .wrapping_add(words[6].wrapping_mul(0xa076_1d64_78bd_642f));
    let mixed = (hash ^ hash >> 32).wrapping_mul(0xe703_7ed1_a0b4_28db);
    (mixed ^ mixed >> 29) | 1 << 63
}

/// Takes an empty slot for a flow. False when another packet was there before.
///
/// Without compare-and-swap (5.12): of the packets that add to `claims`, the one that then reads 1
/// was first and alone so far, and any later one reads more. If two read 2 the slot stays empty
/// until the generation is drained, and both flows go to the table. Counters are added to, never
/// set, since another CPU may add as soon as the tag is seen.
#[inline(never)]
pub(crate) fn claim(seen: &Seen, key: &FlowKey, slot: *mut Slot, tag: u64) -> bool {
    // SAFETY: a live map value.
    unsafe {
        let stats = &raw mut (*slot).stats;
        if (&raw const (*stats).claims).read_volatile() != 0 {
            return false;
        }
        atomic_increment(&raw mut (*stats).claims);
        if (&raw const (*stats).claims).read_volatile() != 1 {
            return false;
        }
        let now = ticks();
        let owner = Owner::ask(seen, key);
        (&raw mut (*slot).key).write_volatile(*key);
        (*stats).first_tick = now;
        (*stats).last_tick = now;
        (*stats).cgroup_id = owner.cgroup_id;
        (*stats).cookie = owner.cookie;
        (*stats).ifindex = seen.skb.ifindex();
        see_flags(&raw mut (*stats).tcp_flags, seen.tcp_flags);
        atomic_add(&raw mut (*stats).packets, u64::from(seen.packets));
        atomic_add(&raw mut (*stats).bytes, u64::from(seen.bytes));
        (&raw mut (*slot).tag).write_volatile(tag);
        tell_new(seen, key, owner);
    }
    true
}

/// Whose a flow is. Each part is a call to ask for, so it is asked once for a record.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    /// cgroup v2 id of the packet's socket, 0 without one.
    pub(crate) cgroup_id: u64,
    /// Socket cookie, 0 without one.
    pub(crate) cookie: u64,
}

impl Owner {
    #[inline(always)]
    pub(crate) fn ask(seen: &Seen, key: &FlowKey) -> Self {
        let is_known = key.hook == HOOK_SOCKET;
        Self {
            cgroup_id: if is_known { key.cgroup_id } else { seen.skb.cgroup_id() },
            cookie: seen.skb.socket_cookie(),
        }
    }
}

/// Tells of a flow that was not in the generation.
#[inline(always)]
pub(crate) fn tell_new(seen: &Seen, key: &FlowKey, owner: Owner) {
    tell(seen, key, MOMENT_NEW, owner);
    if seen.tcp_flags & (TCP_FIN | TCP_RST) != 0 {
        tell_end(seen, key, 0, owner);
    }
}

/// Makes the flow's entry, or adds to the one that another CPU made, or overflows.
#[inline(never)]
pub(crate) fn count_new(seen: &Seen, key: &FlowKey, control: *mut Control, generation: u32) -> u64 {
    let now = ticks();
    let owner = Owner::ask(seen, key);
    let stats = FlowStats {
        packets: u64::from(seen.packets),
        bytes: u64::from(seen.bytes),
        first_tick: now,
        last_tick: now,
        cgroup_id: owner.cgroup_id,
        tcp_flags: spread_tcp_flags(seen.tcp_flags),
        cookie: owner.cookie,
        ifindex: seen.skb.ifindex(),
        claims: 0,
    };
    let (flows, index) = if generation == 0 { (&FLOWS_0, 0) } else { (&FLOWS_1, 1) };
    if flows.insert(key, stats, BPF_NOEXIST.into()).is_ok() {
        // SAFETY: the only entry of the array.
        let inserted = unsafe {
            let inserted = &raw mut (*control).inserted[index];
            atomic_add(inserted, 1);
            inserted.read_volatile()
        };
        if inserted >= HIGH_WATER.load() {
            press(control);
        }
        tell_new(seen, key, owner);
        return u64::from(seen.packets);
    }
    // Another CPU was first, or the table is full.
    match flows.get_ptr_mut(key) {
        Some(stats) => add(stats, seen, key),
        None => overflow(seen, key, owner),
    }
}

#[inline(always)]
pub(crate) fn add(stats: *mut FlowStats, seen: &Seen, key: &FlowKey) -> u64 {
    // SAFETY: the map value stays allocated while the program runs; preallocated tables reuse an
    // entry only after the agent deleted it, which it does in the table that programs left.
    unsafe {
        atomic_add(&raw mut (*stats).packets, u64::from(seen.packets));
        atomic_add(&raw mut (*stats).bytes, u64::from(seen.bytes));
        (*stats).last_tick = ticks();
        let flags = see_flags(&raw mut (*stats).tcp_flags, seen.tcp_flags);
        if seen.tcp_flags & (TCP_FIN | TCP_RST) != 0 {
            let owner = Owner { cgroup_id: (*stats).cgroup_id, cookie: (*stats).cookie };
            tell_end(seen, key, flags, owner);
        }
        (*stats).packets
    }
}

/// Adds a packet's TCP flags to a flow's. Returns those that it had, spread. Each flag has a byte
/// of its own, so CPUs that add different flags cannot undo one another.
///
/// # Safety
/// `seen` is the field of a live map value.
#[inline(always)]
pub(crate) unsafe fn see_flags(seen: *mut u64, tcp_flags: u8) -> u64 {
    // SAFETY: the field is eight bytes.
    unsafe {
        let before = seen.read_volatile();
        let missing = spread_tcp_flags(tcp_flags) & !before;
        if missing != 0 {
            for bit in 0..8 {
                if missing >> (bit * 8) & 0xff != 0 {
                    seen.cast::<u8>().add(bit).write_volatile(1 << bit);
                }
            }
        }
        before
    }
}
