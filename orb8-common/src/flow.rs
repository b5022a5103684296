//! The `flow` signal's kernel records.
//!
//! Two hooks write the same layout. The *socket hook* (`cgroup_skb`) sees each packet once per
//! local endpoint and knows its owner; the *interface hook* (tc) sees what crosses an interface.
//!
//! | record | map | meaning of its counters |
//! |---|---|---|
//! | [`FlowKey`] → [`FlowStats`] | `FLOWS_0`, `FLOWS_1` (hash, two generations) | what was added since the generation became active |
//! | [`Slot`] | `SLOTS_0`, `SLOTS_1` (arrays, two generations) | the same, without a hash lookup |
//! | [`SocketRecord`] | `SOCKETS` (socket storage) | totals since the record was made |
//! | [`SocketBody`] | `CLOSED` (hash, by cookie) | the same, final |
//! | [`Moment`] | `EVENTS` (ring) | one packet, or none for a moment that only tells |
//!
//! Times in tables are *ticks* (the kernel's jiffies, 1 to 10 ms apart): reading them is a load,
//! where even the coarse clock is a call that costs more than the counting. [`Control`] carries
//! what converts them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Packet counted towards a local socket's owner or an interface: `direction` of a [`FlowKey`].
pub const DIRECTION_INGRESS: u8 = 0;
/// Packet sent by a local socket, or leaving through an interface.
pub const DIRECTION_EGRESS: u8 = 1;

/// Record of the socket hook (`cgroup_skb`): `hook` of a [`FlowKey`].
pub const HOOK_SOCKET: u8 = 0;
/// Record of the interface hook (tc).
pub const HOOK_INTERFACE: u8 = 1;

/// The packet is a fragment whose first fragment was not seen: no ports are known.
pub const KEY_FRAGMENT: u8 = 1;

/// Packets a flow must have had in one generation before its socket gets a record of its own.
/// Short connections stay below it and so never pay for the allocation.
pub const PROMOTE_PACKETS: u64 = 8;

/// The table of closed sockets has this part of a flow table's entries: only sockets that were busy
/// get there.
pub const CLOSED_PART: u64 = 4;

/// What a flow is: one direction of one 5-tuple, at one observation point. 56 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowKey {
    /// Network order; IPv4 as `::ffff:a.b.c.d`.
    pub source_addr: [u8; 16],
    /// Network order; IPv4 as `::ffff:a.b.c.d`.
    pub destination_addr: [u8; 16],
    /// Host order. ICMP and ICMPv6 put the type here and the code in `destination_port`.
    pub source_port: u16,
    /// Host order.
    pub destination_port: u16,
    /// Interface of the interface hook; 0 at the socket hook.
    pub ifindex: u32,
    /// cgroup v2 id of the owning socket at the socket hook; 0 at the interface hook.
    pub cgroup_id: u64,
    /// IP protocol number.
    pub protocol: u8,
    /// [`DIRECTION_INGRESS`] or [`DIRECTION_EGRESS`].
    pub direction: u8,
    /// [`HOOK_SOCKET`] or [`HOOK_INTERFACE`].
    pub hook: u8,
    /// [`KEY_FRAGMENT`] or 0.
    pub flags: u8,
    /// Outermost VLAN id, 0 without a tag.
    pub vlan: u16,
    /// Innermost VLAN id of a QinQ frame, 0 otherwise.
    pub inner_vlan: u16,
}

/// What was counted for a [`FlowKey`]. 64 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FlowStats {
    /// Packets as on the wire: a GSO packet counts each of its segments.
    pub packets: u64,
    /// IP bytes: from the IP header to the end of the packet, link header left out.
    pub bytes: u64,
    /// First packet, in ticks.
    pub first_tick: u64,
    /// Last packet, in ticks.
    pub last_tick: u64,
    /// cgroup v2 id of the first packet's socket, 0 where none is known.
    pub cgroup_id: u64,
    /// TCP flags seen, spread so that two CPUs never write the same byte: byte `i` is 0 or `1 << i`.
    pub tcp_flags: u64,
    /// Socket cookie of the packet that made the record, 0 where there is none.
    pub cookie: u64,
    /// Interface as last seen.
    pub ifindex: u32,
    /// Packets that tried to claim the record's [`Slot`]; 0 in a table.
    pub claims: u32,
}

impl FlowStats {
    /// Folds [`Self::tcp_flags`] back into the header's byte.
    #[must_use]
    pub const fn tcp_flags(&self) -> u8 {
        fold_tcp_flags(self.tcp_flags)
    }
}

/// Spreads the TCP flags byte over eight bytes: byte `i` holds bit `i`.
#[inline(always)]
#[must_use]
pub const fn spread_tcp_flags(flags: u8) -> u64 {
    (flags as u64).wrapping_mul(0x0101_0101_0101_0101) & 0x8040_2010_0804_0201
}

/// Undoes [`spread_tcp_flags`].
#[must_use]
pub const fn fold_tcp_flags(spread: u64) -> u8 {
    let bytes = spread.to_le_bytes();
    let mut folded = 0;
    let mut i = 0;
    while i < 8 {
        folded |= bytes[i];
        i += 1;
    }
    folded
}

/// A flow in front of the tables: an array entry that the programs find and compare without a call,
/// where a hash lookup costs two. 128 bytes.
///
/// The first packet that claims a slot keeps it until the agent drains the generation; whatever
/// else falls to the same slot goes to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Slot {
    /// The key's hash once the slot has its key, 0 before.
    pub tag: u64,
    /// What was counted.
    pub stats: FlowStats,
    /// The flow.
    pub key: FlowKey,
}

/// The flow table has this many entries for each slot.
pub const TABLE_PART: u32 = 4;

/// One direction of a [`SocketRecord`]. 40 bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SocketCounters {
    /// Packets as on the wire, since the record was made.
    pub packets: u64,
    /// IP bytes, since the record was made.
    pub bytes: u64,
    /// When the record was made, in ticks.
    pub first_tick: u64,
    /// Last packet, in ticks.
    pub last_tick: u64,
    /// TCP flags seen, spread as in [`FlowStats`].
    pub tcp_flags: u64,
}

/// What a connected socket's storage holds. 168 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketRecord {
    /// Not 0 once the socket was closed: its later packets go to the hash.
    pub released: u64,
    /// The socket's 5-tuple and counters.
    pub body: SocketBody,
}

/// A connected socket's 5-tuple and its own counters. 160 bytes.
///
/// Counters only grow, so the agent takes differences by cookie, and a record that is read twice
/// is counted once. The order is that of cache lines: the kernel puts a value 8 bytes behind the
/// start of one, so what is compared is in the first and each direction's counters in one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketBody {
    /// The local end, network order.
    pub local_addr: [u8; 16],
    /// The remote end, network order.
    pub remote_addr: [u8; 16],
    /// Host order.
    pub local_port: u16,
    /// Host order.
    pub remote_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// IP version of the packets, 4 or 6.
    pub ip_version: u8,
    /// Zero.
    pub reserved: u16,
    /// Socket cookie.
    pub cookie: u64,
    /// Local to remote.
    pub egress: SocketCounters,
    /// cgroup v2 id of the socket.
    pub cgroup_id: u64,
    /// Packets of both directions that the iterator has handed to the agent.
    pub reported_packets: u64,
    /// Bytes of both directions that the iterator has handed to the agent.
    pub reported_bytes: u64,
    /// Remote to local.
    pub ingress: SocketCounters,
    /// Interface of the packet that made the record.
    pub ifindex: u32,
    /// Zero.
    pub reserved_too: u32,
}

/// A flow that was not in the active generation: `kind` of a [`Moment`].
pub const MOMENT_NEW: u8 = 1;
/// The first FIN of a direction.
pub const MOMENT_FIN: u8 = 2;
/// A RST.
pub const MOMENT_RST: u8 = 3;
/// A packet that found the flow table full; its counts are in `packets` and `bytes`.
pub const MOMENT_OVERFLOW: u8 = 4;

/// The ring record that says: a table passed its high-water mark, drain now. Told from the others
/// by its length.
pub const PRESSURE: u64 = 0x6f72_6238;

/// What the ring carries. 96 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Moment {
    /// The flow.
    pub key: FlowKey,
    /// Monotonic clock, nanoseconds: what latency is measured from.
    pub time_ns: u64,
    /// cgroup v2 id of the packet's socket, 0 where none is known.
    pub cgroup_id: u64,
    /// Socket cookie, 0 where there is none.
    pub cookie: u64,
    /// IP bytes of the packet.
    pub bytes: u32,
    /// Wire packets.
    pub packets: u32,
    /// Interface.
    pub ifindex: u32,
    /// One of the `MOMENT_` constants.
    pub kind: u8,
    /// TCP flags of the packet.
    pub tcp_flags: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// A ring record of a socket that closed when the `CLOSED` table was full. It is told from a
/// [`Moment`] by its length.
pub type ClosedSocket = SocketBody;

/// What the agent and the programs tell each other, the only entry of the `CONTROL` array.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Control {
    /// Index of the `FLOWS_` table that the programs write; the agent flips it.
    pub generation: u32,
    /// Set when a [`MOMENT_PRESSURE`] was sent for the active generation; the agent clears it.
    pub pressed: u32,
    /// Entries that the programs added to each table since the agent emptied it.
    pub inserted: [u64; 2],
    /// Slots that the programs claimed of each generation since the agent emptied it.
    pub claimed: [u64; 2],
    /// Entries that the programs added to `CLOSED` since the agent emptied it.
    pub closed: u64,
    /// A moment in ticks, written when the agent runs the clock program …
    pub clock_tick: u64,
    /// … and the same moment on the monotonic clock, nanoseconds.
    pub clock_ns: u64,
}

/// Index into the `COUNTERS` entry, an array per CPU: each counts what no flow record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Packets that neither table nor ring had room for.
    LostPackets = 0,
    /// Their IP bytes.
    LostBytes = 1,
    /// Moments that the ring had no room for (their packets are counted all the same).
    LostMoments = 2,
    /// Frames that are not IP (ARP, LLDP, …), interface hook only.
    OtherPackets = 3,
    /// Their bytes behind the link header.
    OtherBytes = 4,
    /// IP packets whose header does not parse.
    MalformedPackets = 5,
    /// Their IP bytes.
    MalformedBytes = 6,
    /// Packets that went through the ring because the table was full.
    OverflowPackets = 7,
    /// Packets that the interface hook left to the socket hook (`both` only).
    OwnedPackets = 8,
    /// Their IP bytes.
    OwnedBytes = 9,
}

impl Counter {
    /// Length of the array.
    pub const COUNT: usize = 10;
}
