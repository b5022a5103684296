//! The socket hook: sockets with a record of their own, and the rest by key.

use crate::count::{Owner, Seen, count, mark_fragment, parse, see_flags};
use crate::moments::{bump, count_malformed, press, tell_end};
use crate::{CLOSED, CONTROL, EVENTS, FULL_SOCKET, HIGH_WATER, SOCKET_STORAGE, SOCKETS};
use aya_ebpf::bindings::{__sk_buff, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, seq_file};
use aya_ebpf::helpers::generated::{bpf_seq_write, bpf_sk_fullsock, bpf_sk_storage_get};
use core::ffi::c_void;
use core::mem::MaybeUninit;
use orb8_common::flow::{
    CLOSED_PART, ClosedSocket, Counter, DIRECTION_EGRESS, FlowKey, HOOK_SOCKET, PROMOTE_PACKETS,
    SocketBody, SocketCounters, SocketRecord,
};
use orb8_common::packet::{Link, Packet, Place, TCP_FIN, TCP_RST, protocol};
use orb8_probes::kernel::{atomic_add, ticks};
use orb8_probes::skb::Skb;

#[inline(always)]
pub(crate) fn socket_hook(context: *mut __sk_buff, direction: u8) {
    // SAFETY: the kernel passed it.
    let skb = unsafe { Skb::new(context) };
    let mut stored = core::ptr::null_mut();
    if SOCKET_STORAGE.load() != 0 && is_connected(skb.socket()) {
        stored = stored_socket(skb.socket(), core::ptr::null_mut(), 0);
        if !stored.is_null() && count_stored(skb, stored, direction) {
            return;
        }
    }
    count_by_socket_key(skb, direction, stored.is_null());
}

/// Only such a socket can have a record: looking for one costs a call.
#[inline(always)]
pub(crate) fn is_connected(socket: *mut bpf_sock) -> bool {
    // SAFETY: null is checked first.
    !socket.is_null() && unsafe { (*socket).dst_port } != 0
}

/// Counts towards the packet's 5-tuple, and gives a busy connected socket a record of its own.
#[inline(always)]
pub(crate) fn count_by_socket_key(skb: Skb, direction: u8, may_promote: bool) {
    let cgroup_id = skb.cgroup_id();
    let place = Place { direction, hook: HOOK_SOCKET, ifindex: 0, cgroup_id };
    let mut key = MaybeUninit::uninit();
    let transport = match parse(skb, Link::NONE, place, &mut key) {
        Ok(transport) => transport,
        Err(_) => return count_malformed(skb.len(), skb.segments()),
    };
    // SAFETY: `parse` succeeded.
    let key = unsafe { key.assume_init_mut() };
    mark_fragment(key, &transport);
    let seen =
        Seen { skb, packets: skb.segments(), bytes: skb.len(), tcp_flags: transport.tcp_flags };
    let in_generation = count(&seen, key);
    if may_promote && in_generation >= PROMOTE_PACKETS && SOCKET_STORAGE.load() != 0 {
        promote(skb, key);
    }
}

/// Makes the storage of a connected socket. Its counters start with the next packet.
///
/// A record must not be made after its socket's release has run, or nobody would collect it. A
/// sender holds its file, so on egress that cannot be; on ingress TCP's closing FIN or RST, which
/// comes after, collects it.
#[inline(never)]
pub(crate) fn promote(skb: Skb, key: &FlowKey) -> u64 {
    let egress = key.direction == DIRECTION_EGRESS;
    match key.protocol {
        protocol::TCP => {}
        protocol::UDP if egress => {}
        _ => return 0,
    }
    let socket = full_socket(skb.socket());
    // SAFETY: null is checked first. UDP sockets are "established" while they are connected.
    if socket.is_null() || unsafe { (*socket).state } != TCP_ESTABLISHED {
        return 0;
    }
    let (local_addr, remote_addr, local_port, remote_port) = if egress {
        (key.source_addr, key.destination_addr, key.source_port, key.destination_port)
    } else {
        (key.destination_addr, key.source_addr, key.destination_port, key.source_port)
    };
    let now = ticks();
    let counters =
        SocketCounters { packets: 0, bytes: 0, first_tick: now, last_tick: now, tcp_flags: 0 };
    let mut record = SocketRecord {
        released: 0,
        body: SocketBody {
            local_addr,
            remote_addr,
            local_port,
            remote_port,
            ifindex: skb.ifindex(),
            cgroup_id: key.cgroup_id,
            cookie: skb.socket_cookie(),
            egress: counters,
            ingress: counters,
            protocol: key.protocol,
            ip_version: if is_v4(&key.source_addr) { 4 } else { 6 },
            reserved: 0,
            reserved_too: 0,
            reported_packets: 0,
            reported_bytes: 0,
        },
    };
    // Refused when the socket's option memory is used up: then the hash goes on counting.
    stored_socket(socket, &raw mut record, BPF_SK_STORAGE_GET_F_CREATE.into());
    0
}

pub(crate) const TCP_ESTABLISHED: u32 = 1;

#[inline(always)]
pub(crate) fn is_v4(address: &[u8; 16]) -> bool {
    let words: [u32; 4] = zerocopy::transmute!(*address);
    words[0] == 0 && words[1] == 0 && words[2] == 0xffff_u32.to_be()
}

#[inline(always)]
pub(crate) fn sockets() -> *mut c_void {
    (&raw const SOCKETS).cast_mut().cast()
}

#[inline(always)]
pub(crate) fn full_socket(socket: *mut bpf_sock) -> *mut bpf_sock {
    if socket.is_null() {
        return socket;
    }
    // SAFETY: the helper takes a socket and returns it, or null.
    unsafe { bpf_sk_fullsock(socket) }
}

#[inline(always)]
pub(crate) fn stored_socket(
    socket: *mut bpf_sock,
    initial: *mut SocketRecord,
    flags: u64,
) -> *mut SocketRecord {
    let socket = if FULL_SOCKET.load() != 0 { full_socket(socket) } else { socket };
    if socket.is_null() {
        return core::ptr::null_mut();
    }
    // SAFETY: `initial` is null or a whole record, and the value's type is the map's.
    unsafe { bpf_sk_storage_get(sockets(), socket.cast(), initial.cast(), flags) }.cast()
}

/// Counts a packet in its socket's storage. False when it is not this socket's 5-tuple (a listener
/// answering, an address given to `sendto`) or the socket was closed.
#[inline(always)]
pub(crate) fn count_stored(skb: Skb, stored: *mut SocketRecord, direction: u8) -> bool {
    // SAFETY: the map value stays while the program runs, and its 5-tuple never changes. Counters
    // are added to atomically.
    unsafe {
        let body = &raw mut (*stored).body;
        if released(stored) {
            return false;
        }
        let Some(tcp_flags) = matching_flags(skb, &*body, direction) else { return false };
        let egress = direction == DIRECTION_EGRESS;
        let counters = if egress { &raw mut (*body).egress } else { &raw mut (*body).ingress };
        atomic_add(&raw mut (*counters).packets, u64::from(skb.segments()));
        atomic_add(&raw mut (*counters).bytes, u64::from(skb.len()));
        (*counters).last_tick = ticks();
        let flags = see_flags(&raw mut (*counters).tcp_flags, tcp_flags);
        if tcp_flags & (TCP_FIN | TCP_RST) != 0 {
            tell_stored_end(skb, &*body, direction, tcp_flags, flags);
            // A socket that was promoted late has no other to collect its record.
            if egress || tcp_flags & TCP_RST != 0 {
                close(stored);
                return true;
            }
        }
        // Closed while this packet was counted: what was published may lack it.
        if released(stored) {
            publish(stored);
        }
    }
    true
}

#[inline(always)]
pub(crate) fn released(stored: *const SocketRecord) -> bool {
    // SAFETY: a live map value.
    unsafe { (&raw const (*stored).released).read_volatile() != 0 }
}

/// The TCP flags of a packet of this socket's 5-tuple, `None` for any other.
#[inline(always)]
pub(crate) fn matching_flags(skb: Skb, body: &SocketBody, direction: u8) -> Option<u8> {
    let packet = skb.direct();
    let (source, destination, source_port, destination_port) = if direction == DIRECTION_EGRESS {
        (&body.local_addr, &body.remote_addr, body.local_port, body.remote_port)
    } else {
        (&body.remote_addr, &body.local_addr, body.remote_port, body.local_port)
    };
    let source: [u32; 4] = zerocopy::transmute!(*source);
    let destination: [u32; 4] = zerocopy::transmute!(*destination);
    let ports: u32 = zerocopy::transmute!([source_port.to_be(), destination_port.to_be()]);
    if body.ip_version == 4 {
        // 20 bytes of IP header without options, then ports.
        let words: [u32; 6] = packet.load(0)?;
        let [version_ihl, ..] = words[0].to_le_bytes();
        let [_, protocol, ..] = words[2].to_le_bytes();
        if version_ihl != 0x45
            || protocol != body.protocol
            || words[3] != source[3]
            || words[4] != destination[3]
            || words[5] != ports
        {
            return None;
        }
        flags_at(&packet, 20, body.protocol)
    } else {
        // 40 bytes of IP header without extensions, then ports.
        let words: [u32; 11] = packet.load(0)?;
        let [_, _, next_header, _] = words[1].to_le_bytes();
        if words[0].to_le_bytes()[0] >> 4 != 6
            || next_header != body.protocol
            || differs([words[2], words[3], words[4], words[5]], source)
            || differs([words[6], words[7], words[8], words[9]], destination)
            || words[10] != ports
        {
            return None;
        }
        flags_at(&packet, 40, body.protocol)
    }
}

#[inline(always)]
pub(crate) fn differs(one: [u32; 4], other: [u32; 4]) -> bool {
    (one[0] ^ other[0]) | (one[1] ^ other[1]) | (one[2] ^ other[2]) | (one[3] ^ other[3]) != 0
}

#[inline(always)]
pub(crate) fn flags_at<P: Packet>(packet: &P, offset: u32, protocol: u8) -> Option<u8> {
    if protocol == protocol::TCP { packet.load(offset + 13) } else { Some(0) }
}

/// Tells of a FIN or RST on a socket with a record.
#[inline(never)]
pub(crate) fn tell_stored_end(
    skb: Skb,
    body: &SocketBody,
    direction: u8,
    tcp_flags: u8,
    flags_before: u64,
) -> u64 {
    let egress = direction == DIRECTION_EGRESS;
    let (source_addr, destination_addr, source_port, destination_port) = if egress {
        (body.local_addr, body.remote_addr, body.local_port, body.remote_port)
    } else {
        (body.remote_addr, body.local_addr, body.remote_port, body.local_port)
    };
    let key = FlowKey {
        source_addr,
        destination_addr,
        source_port,
        destination_port,
        ifindex: 0,
        cgroup_id: body.cgroup_id,
        protocol: body.protocol,
        direction,
        hook: HOOK_SOCKET,
        flags: 0,
        vlan: 0,
        inner_vlan: 0,
    };
    let seen = Seen { skb, packets: 0, bytes: 0, tcp_flags };
    let owner = Owner { cgroup_id: body.cgroup_id, cookie: body.cookie };
    tell_end(&seen, &key, flags_before, owner);
    0
}

/// Ends the counting in a socket's storage and hands the record to the agent.
#[inline(never)]
pub(crate) fn close(stored: *mut SocketRecord) -> u64 {
    if !released(stored) {
        // SAFETY: a live map value. The addition is also the barrier between the mark and the
        // counters: a packet either sees the mark after it added, and publishes, or is in what is
        // published here. (arm64's addition without fetch orders less: there, a packet on another
        // CPU in the very nanoseconds of the close can be missed.)
        unsafe { atomic_add(&raw mut (*stored).released, 1) };
        publish(stored);
    }
    0
}

/// Times that a record is published again because it grew meanwhile. Each needs one more packet in
/// the nanoseconds of a close, and whoever counted that packet publishes as well.
pub(crate) const PUBLISH_TRIES: u32 = 4;

/// Hands a closed socket's totals to the agent. Totals only grow and the agent takes differences by
/// cookie, so doing it twice does no harm; the last one to do it has seen every packet.
#[inline(never)]
pub(crate) fn publish(stored: *mut SocketRecord) -> u64 {
    // SAFETY: a live map value, which the kernel copies; reading again makes up for the copy not
    // being atomic.
    let body = unsafe { &(*stored).body };
    for _ in 0..PUBLISH_TRIES {
        let before = counted_bytes(body);
        if CLOSED.insert(body.cookie, body, 0).is_err() {
            return publish_by_ring(body);
        }
        if counted_bytes(body) == before {
            break;
        }
    }
    if let Some(control) = CONTROL.get_ptr_mut(0) {
        // SAFETY: the only entry of the array.
        let closed = unsafe {
            atomic_add(&raw mut (*control).closed, 1);
            (&raw const (*control).closed).read_volatile()
        };
        if closed >= HIGH_WATER.load() / CLOSED_PART {
            press(control);
        }
    }
    0
}

/// Every packet changes it.
#[inline(always)]
pub(crate) fn counted_bytes(body: &SocketBody) -> u64 {
    // SAFETY: references; volatile, since packets on other CPUs add to them.
    let (egress, ingress) = unsafe {
        (
            (&raw const body.egress.bytes).read_volatile(),
            (&raw const body.ingress.bytes).read_volatile(),
        )
    };
    egress.wrapping_add(ingress)
}

/// The table of closed sockets is full: the ring, else what was not reported yet is lost.
#[inline(never)]
pub(crate) fn publish_by_ring(body: &SocketBody) -> u64 {
    if EVENTS.output_untyped::<ClosedSocket>(body, 0).is_ok() {
        return 0;
    }
    let packets = body.egress.packets + body.ingress.packets;
    let bytes = body.egress.bytes + body.ingress.bytes;
    bump(Counter::LostPackets, packets - body.reported_packets);
    bump(Counter::LostBytes, bytes - body.reported_bytes);
    0
}

// ---- storage iterator ----------------------------------------------------------------------------
// struct bpf_iter__bpf_sk_storage_map { meta, map, sk, value }, struct bpf_iter_meta { seq, … }

#[repr(C)]
pub(crate) struct IterMeta {
    pub(crate) seq: *mut seq_file,
}

#[repr(C)]
pub(crate) struct IterContext {
    pub(crate) meta: *const IterMeta,
    pub(crate) map: *const c_void,
    pub(crate) sk: *const c_void,
    pub(crate) value: *mut SocketRecord,
}

/// Writes the record of each socket that moved since it was last written.
///
/// aya-ebpf has no macro for iterators: the section name is what makes it one.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
extern "C" fn flow_sockets(ctx: *const IterContext) -> i32 {
    // SAFETY: the context is the kernel's; `value` is null after the last socket only.
    unsafe {
        let stored = (*ctx).value;
        if stored.is_null() || released(stored) {
            return 0;
        }
        let body = &raw mut (*stored).body;
        let packets = (*body).egress.packets + (*body).ingress.packets;
        if packets == (*body).reported_packets {
            return 0;
        }
        let bytes = (*body).egress.bytes + (*body).ingress.bytes;
        let length = size_of::<SocketRecord>() as u32;
        // Full: the kernel shows this socket again with the next read.
        if bpf_seq_write((*(*ctx).meta).seq, stored.cast(), length) == 0 {
            (*body).reported_packets = packets;
            (*body).reported_bytes = bytes;
        }
    }
    0
}
