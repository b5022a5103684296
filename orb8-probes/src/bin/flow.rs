//! The `flow` object: who talks to whom, counted in the kernel.
//!
//! ```text
//! cgroup_skb ─▶ socket storage (connected sockets) ─┐
//!           └─▶ FLOWS_0 / FLOWS_1 ──────────────────┼─▶ agent
//! tc ────────▶ FLOWS_0 / FLOWS_1 ──(full)──▶ EVENTS ┘
//!                                    └(full)──▶ COUNTERS: lost
//! ```
#![no_std]
#![no_main]

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::{
    Global,
    bindings::{
        __sk_buff, BPF_F_MMAPABLE, BPF_NOEXIST, BPF_RB_FORCE_WAKEUP, BPF_SK_STORAGE_GET_F_CREATE,
        bpf_sock, seq_file,
    },
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, SkStorage},
    helpers::generated::{bpf_seq_write, bpf_sk_fullsock, bpf_sk_storage_get},
    macros::{btf_map, cgroup_skb, cgroup_sock, classifier},
    programs::{SkBuffContext, SockContext, TcContext},
};
use orb8_common::{
    flow::{
        CLOSED_PART, ClosedSocket, Control, Counter, DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey,
        FlowStats, HOOK_INTERFACE, HOOK_SOCKET, KEY_FRAGMENT, MOMENT_FIN, MOMENT_NEW,
        MOMENT_OVERFLOW, MOMENT_RST, Moment, PRESSURE, PROMOTE_PACKETS, Slot, SocketBody,
        SocketCounters, SocketRecord, spread_tcp_flags,
    },
    packet::{
        Link, NoFlow, Packet, Part, Place, TCP_FIN, TCP_RST, Transport, parse_ethernet, parse_ip,
        protocol,
    },
};
use orb8_probes::{
    kernel::{atomic_add, atomic_increment, monotonic_ns, ticks},
    skb::Skb,
};

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

/// What the fragments of a datagram share.
#[repr(C)]
struct FragmentKey {
    source_addr: [u8; 16],
    destination_addr: [u8; 16],
    id: u32,
    ifindex: u32,
    vlan: u16,
    inner_vlan: u16,
    protocol: u32,
}

/// What only the first fragment has.
#[repr(C)]
struct Ports {
    source: u16,
    destination: u16,
}

/// One packet, and what it adds.
struct Seen {
    skb: Skb,
    /// Wire packets.
    packets: u32,
    /// IP bytes.
    bytes: u32,
    tcp_flags: u8,
}

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

#[inline(always)]
fn socket_hook(context: *mut __sk_buff, direction: u8) {
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
fn is_connected(socket: *mut bpf_sock) -> bool {
    // SAFETY: null is checked first.
    !socket.is_null() && unsafe { (*socket).dst_port } != 0
}

/// Counts towards the packet's 5-tuple, and gives a busy connected socket a record of its own.
#[inline(always)]
fn count_by_socket_key(skb: Skb, direction: u8, may_promote: bool) {
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
fn promote(skb: Skb, key: &FlowKey) -> u64 {
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

const TCP_ESTABLISHED: u32 = 1;

#[inline(always)]
fn is_v4(address: &[u8; 16]) -> bool {
    let words: [u32; 4] = zerocopy::transmute!(*address);
    words[0] == 0 && words[1] == 0 && words[2] == 0xffff_u32.to_be()
}

#[inline(always)]
fn sockets() -> *mut c_void {
    (&raw const SOCKETS).cast_mut().cast()
}

#[inline(always)]
fn full_socket(socket: *mut bpf_sock) -> *mut bpf_sock {
    if socket.is_null() {
        return socket;
    }
    // SAFETY: the helper takes a socket and returns it, or null.
    unsafe { bpf_sk_fullsock(socket) }
}

#[inline(always)]
fn stored_socket(
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
fn count_stored(skb: Skb, stored: *mut SocketRecord, direction: u8) -> bool {
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
fn released(stored: *const SocketRecord) -> bool {
    // SAFETY: a live map value.
    unsafe { (&raw const (*stored).released).read_volatile() != 0 }
}

/// The TCP flags of a packet of this socket's 5-tuple, `None` for any other.
#[inline(always)]
fn matching_flags(skb: Skb, body: &SocketBody, direction: u8) -> Option<u8> {
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
fn differs(one: [u32; 4], other: [u32; 4]) -> bool {
    (one[0] ^ other[0]) | (one[1] ^ other[1]) | (one[2] ^ other[2]) | (one[3] ^ other[3]) != 0
}

#[inline(always)]
fn flags_at<P: Packet>(packet: &P, offset: u32, protocol: u8) -> Option<u8> {
    if protocol == protocol::TCP { packet.load(offset + 13) } else { Some(0) }
}

/// Tells of a FIN or RST on a socket with a record.
#[inline(never)]
fn tell_stored_end(
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
fn close(stored: *mut SocketRecord) -> u64 {
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
const PUBLISH_TRIES: u32 = 4;

/// Hands a closed socket's totals to the agent. Totals only grow and the agent takes differences by
/// cookie, so doing it twice does no harm; the last one to do it has seen every packet.
#[inline(never)]
fn publish(stored: *mut SocketRecord) -> u64 {
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
fn counted_bytes(body: &SocketBody) -> u64 {
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
fn publish_by_ring(body: &SocketBody) -> u64 {
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
struct IterMeta {
    seq: *mut seq_file,
}

#[repr(C)]
struct IterContext {
    meta: *const IterMeta,
    map: *const c_void,
    sk: *const c_void,
    value: *mut SocketRecord,
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

#[inline(always)]
fn interface_hook(context: *mut __sk_buff, direction: u8, ethernet: bool) {
    // SAFETY: the kernel passed it.
    let skb = unsafe { Skb::new(context) };
    let link = if ethernet {
        match parse_link(skb) {
            Ok(link) => link,
            Err(_) => return count_other(skb, 14),
        }
    } else {
        Link::NONE
    };
    let place = Place { direction, hook: HOOK_INTERFACE, ifindex: skb.ifindex(), cgroup_id: 0 };
    let mut key = MaybeUninit::uninit();
    let transport = match parse(skb, link, place, &mut key) {
        Ok(transport) => transport,
        Err(NoFlow::NotIp) => return count_other(skb, link.header_len),
        Err(NoFlow::Malformed) => {
            return count_malformed(skb.len() - link.header_len, skb.segments());
        }
    };
    // SAFETY: `parse` succeeded.
    let key = unsafe { key.assume_init_mut() };
    if transport.part != Part::Whole {
        find_ports(key, &transport);
    }
    let seen = Seen {
        skb,
        packets: skb.segments(),
        bytes: ip_bytes(skb, link, &transport),
        tcp_flags: transport.tcp_flags,
    };
    if is_left(skb) {
        bump(Counter::OwnedPackets, u64::from(seen.packets));
        bump(Counter::OwnedBytes, u64::from(seen.bytes));
        return;
    }
    count(&seen, key);
}

/// Whether the socket hook counts the packet.
#[inline(always)]
fn is_left(skb: Skb) -> bool {
    let cgroup = SOCKET_HOOK_CGROUP.load();
    cgroup != 0
        && skb.ancestor_cgroup_id(SOCKET_HOOK_LEVEL.load()) == cgroup
        && is_inet(skb.socket())
}

/// Only these sockets' packets pass the socket hook: what a packet socket sends does not.
#[inline(always)]
fn is_inet(socket: *mut bpf_sock) -> bool {
    const AF_INET: u32 = 2;
    const AF_INET6: u32 = 10;
    // SAFETY: null is checked first.
    !socket.is_null() && matches!(unsafe { (*socket).family }, AF_INET | AF_INET6)
}

#[inline(always)]
fn parse_link(skb: Skb) -> Result<Link, NoFlow> {
    let vlan = skb.offloaded_vlan();
    match parse_ethernet(&skb.direct(), vlan) {
        Err(NoFlow::Malformed) => parse_ethernet(&skb.loaded(), vlan),
        parsed => parsed,
    }
}

/// IP bytes of a frame: all behind the link header, but for what pads a short frame.
#[inline(always)]
fn ip_bytes(skb: Skb, link: Link, transport: &Transport) -> u32 {
    // The shortest frame, with one tag: only up to here can there be padding.
    const SHORTEST: u32 = 64;
    let bytes = skb.len() - link.header_len;
    if skb.len() <= SHORTEST && transport.ip_len >= 20 && transport.ip_len < bytes {
        transport.ip_len
    } else {
        bytes
    }
}

/// Remembers the ports of a first fragment, and gives them to the others.
#[inline(always)]
fn find_ports(key: &mut FlowKey, transport: &Transport) {
    let datagram = FragmentKey {
        source_addr: key.source_addr,
        destination_addr: key.destination_addr,
        id: transport.datagram_id,
        ifindex: key.ifindex,
        vlan: key.vlan,
        inner_vlan: key.inner_vlan,
        protocol: u32::from(key.protocol),
    };
    if transport.part == Part::First {
        let ports = Ports { source: key.source_port, destination: key.destination_port };
        // An LRU insertion does not fail for want of room.
        let _ = FRAGMENTS.insert(datagram, ports, 0);
    // SAFETY: read at once; a fragment of a datagram that was evicted has no entry.
    } else if let Some(ports) = unsafe { FRAGMENTS.get(datagram) } {
        key.source_port = ports.source;
        key.destination_port = ports.destination;
    } else {
        key.flags = KEY_FRAGMENT;
    }
}

// ---- both hooks ----------------------------------------------------------------------------------

/// Parses by direct access, and through the helper where that meets the end of the linear part.
/// `key` is written when the result is `Ok`.
#[inline(always)]
fn parse(
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
fn mark_fragment(key: &mut FlowKey, transport: &Transport) {
    if transport.part == Part::Later {
        key.flags = KEY_FRAGMENT;
    }
}

/// Counts a packet towards `key`. Returns the flow's packets in this generation.
#[inline(always)]
fn count(seen: &Seen, key: &FlowKey) -> u64 {
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
const SLOT_WAYS: u32 = 2;

/// Compares word by word: field by field the compiler would call `memcmp`.
#[inline(always)]
fn is_same(one: &FlowKey, other: &FlowKey) -> bool {
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
fn tag_of(key: &FlowKey) -> u64 {
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
fn claim(seen: &Seen, key: &FlowKey, slot: *mut Slot, tag: u64) -> bool {
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
struct Owner {
    /// cgroup v2 id of the packet's socket, 0 without one.
    cgroup_id: u64,
    /// Socket cookie, 0 without one.
    cookie: u64,
}

impl Owner {
    #[inline(always)]
    fn ask(seen: &Seen, key: &FlowKey) -> Self {
        let is_known = key.hook == HOOK_SOCKET;
        Self {
            cgroup_id: if is_known { key.cgroup_id } else { seen.skb.cgroup_id() },
            cookie: seen.skb.socket_cookie(),
        }
    }
}

/// Tells of a flow that was not in the generation.
#[inline(always)]
fn tell_new(seen: &Seen, key: &FlowKey, owner: Owner) {
    tell(seen, key, MOMENT_NEW, owner);
    if seen.tcp_flags & (TCP_FIN | TCP_RST) != 0 {
        tell_end(seen, key, 0, owner);
    }
}

/// Makes the flow's entry, or adds to the one that another CPU made, or overflows.
#[inline(never)]
fn count_new(seen: &Seen, key: &FlowKey, control: *mut Control, generation: u32) -> u64 {
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
fn add(stats: *mut FlowStats, seen: &Seen, key: &FlowKey) -> u64 {
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
unsafe fn see_flags(seen: *mut u64, tcp_flags: u8) -> u64 {
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

/// Tells of a direction's first FIN, and of every RST.
#[inline(always)]
fn tell_end(seen: &Seen, key: &FlowKey, flags_before: u64, owner: Owner) {
    if seen.tcp_flags & TCP_RST != 0 {
        tell(seen, key, MOMENT_RST, owner);
    } else if flags_before & spread_tcp_flags(TCP_FIN) == 0 {
        tell(seen, key, MOMENT_FIN, owner);
    }
}

#[inline(always)]
fn tell(seen: &Seen, key: &FlowKey, kind: u8, owner: Owner) {
    if !record(seen, key, kind, owner.cgroup_id, owner.cookie) {
        bump(Counter::LostMoments, 1);
    }
}

/// Sends a packet that the full table has no room for through the ring, else counts it as lost.
#[inline(always)]
fn overflow(seen: &Seen, key: &FlowKey, owner: Owner) -> u64 {
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
fn press(control: *mut Control) -> u64 {
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
fn record(seen: &Seen, key: &FlowKey, kind: u8, cgroup_id: u64, cookie: u64) -> bool {
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
fn count_malformed(bytes: u32, packets: u32) {
    bump(Counter::MalformedPackets, u64::from(packets));
    bump(Counter::MalformedBytes, u64::from(bytes));
}

#[inline(always)]
fn count_other(skb: Skb, link_header: u32) {
    bump(Counter::OtherPackets, u64::from(skb.segments()));
    bump(Counter::OtherBytes, u64::from(skb.len().saturating_sub(link_header)));
}

/// Softirqs interrupt programs that run in process context, so even a CPU's own counter needs an
/// atomic addition.
#[inline(always)]
fn bump(counter: Counter, value: u64) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: a live map value, and the index is a constant below its length.
        unsafe { atomic_add(counters.cast::<u64>().add(counter as usize), value) };
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
