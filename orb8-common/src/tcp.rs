//! The `tcp` signal's kernel records.
//!
//! | record | where | what it tells |
//! |---|---|---|
//! | [`TcpSocket`] | `SOCKETS` (socket storage), read by an iterator | a socket's figures so far |
//! | [`TcpSocket`] | `EVENTS` (ring) | the same, final: the socket closed |
//! | [`TcpMoment`] | `EVENTS` (ring) | one thing that happened |
//!
//! The two ring records are told apart by their length.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Buckets of a round-trip time histogram: bucket `i` counts values of `[2^(i-1), 2^i)`
/// microseconds, the first what is below 1, the last what is above 16 s.
pub const RTT_BUCKETS: usize = 26;

/// Who opened the connection is not known: it is older than the agent: `role` of a [`TcpSocket`].
pub const ROLE_UNKNOWN: u8 = 0;
/// The local end connected.
pub const ROLE_CLIENT: u8 = 1;
/// The local end accepted.
pub const ROLE_SERVER: u8 = 2;
/// A listener.
pub const ROLE_LISTENER: u8 = 3;

/// States as the kernel numbers them: `state` of a [`TcpSocket`].
pub const STATE_ESTABLISHED: u8 = 1;
/// See [`STATE_ESTABLISHED`].
pub const STATE_SYN_SENT: u8 = 2;
/// See [`STATE_ESTABLISHED`].
pub const STATE_SYN_RECV: u8 = 3;
/// See [`STATE_ESTABLISHED`].
pub const STATE_CLOSE: u8 = 7;
/// See [`STATE_ESTABLISHED`].
pub const STATE_LISTEN: u8 = 10;

/// What is known of one TCP socket. 320 bytes.
///
/// `sock_ops` programs write the first part under the socket's lock; the second is copied from the
/// kernel's own socket when the record is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TcpSocket {
    /// Network order; IPv4 as `::ffff:a.b.c.d`.
    pub local_addr: [u8; 16],
    /// Network order; IPv4 as `::ffff:a.b.c.d`.
    pub remote_addr: [u8; 16],
    /// Host order.
    pub local_port: u16,
    /// Host order.
    pub remote_port: u16,
    /// Inode of the network namespace.
    pub netns: u32,
    /// Socket cookie.
    pub cookie: u64,
    /// cgroup v2 id of the socket.
    pub cgroup_id: u64,
    /// When this record was handed over: monotonic clock, nanoseconds.
    pub time_ns: u64,
    /// `connect(2)`, or the end of the handshake for a server: monotonic clock, nanoseconds. 0 for
    /// a socket that is older than the agent.
    pub opened_ns: u64,
    /// Time that the handshake took, nanoseconds; 0 where it was not seen.
    pub handshake_ns: u64,
    /// Sum of the samples, microseconds.
    pub rtt_sum_us: u64,
    /// How many samples there were.
    pub rtt_samples: u32,
    /// The smallest sample, microseconds; 0 without samples.
    pub rtt_min_us: u32,
    /// The largest sample, microseconds.
    pub rtt_max_us: u32,
    /// The kernel's smoothed round-trip time, microseconds; 0 before the first sample.
    pub srtt_us: u32,
    /// Samples by size: see [`RTT_BUCKETS`].
    pub rtt: [u32; RTT_BUCKETS],
    /// Payload bytes that the other end acknowledged.
    pub bytes_sent: u64,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Segments sent again.
    pub retransmits: u32,
    /// Listener: connections that it dropped. Otherwise: packets that the socket dropped.
    pub drops: u32,
    /// Listener: connections that wait to be accepted.
    pub queue: u32,
    /// Listener: how many may wait.
    pub queue_limit: u32,
    /// The kernel's pending error of the socket, as in errno.h.
    pub error: u32,
    /// See [`STATE_ESTABLISHED`].
    pub state: u8,
    /// The state before, where the record tells of a change.
    pub old_state: u8,
    /// One of the `ROLE_` constants.
    pub role: u8,
    /// Not 0 for a socket whose samples do not come from callbacks: it is older than the agent.
    pub adopted: u8,
    /// What the iterator compares to tell whether the socket moved since it was last handed over.
    pub told: u64,
    /// The kernel's address of the socket, of no use to anyone else.
    pub address: u64,
}

/// `kind` of a [`TcpMoment`]: the handshake of a client ended well. `value` is its nanoseconds.
pub const MOMENT_CONNECT: u8 = 1;
/// The handshake of a server ended well. `value` is its nanoseconds.
pub const MOMENT_ACCEPT: u8 = 2;
/// The state changed, and not to CLOSE: from `old_state` to `state`.
pub const MOMENT_STATE: u8 = 3;
/// A socket without a [`TcpSocket`] closed: `old_state` tells from where, `error` why, `value` is the
/// payload sent and `other_value` the payload received, `total` the segments sent again.
pub const MOMENT_CLOSE: u8 = 4;
/// Segments were sent again: `reason` of them, and `total` is the socket's count, now.
pub const MOMENT_RETRANSMIT: u8 = 5;
/// A RST was sent. `reason` is the kernel's, 0 where it tells none.
pub const MOMENT_RESET_SENT: u8 = 6;
/// A RST was received.
pub const MOMENT_RESET_RECEIVED: u8 = 7;
/// A packet was dropped: `reason` why, `value` by which instruction, `total` how many it stands for.
pub const MOMENT_DROP: u8 = 8;
/// A SYN-ACK was sent again, for a connection that has no socket yet: the owner is the listener's.
pub const MOMENT_RETRANSMIT_SYNACK: u8 = 9;

/// The addresses are those of a packet, source as `local_` and destination as `remote_`: `flags` of a
/// [`TcpMoment`].
pub const MOMENT_OF_PACKET: u8 = 1;
/// The packet's source is the socket that the record tells of.
pub const MOMENT_LOCAL_IS_SOURCE: u8 = 2;
/// The packet's destination is the socket that the record tells of.
pub const MOMENT_LOCAL_IS_DESTINATION: u8 = 4;

/// One thing that happened. 112 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TcpMoment {
    /// Network order; IPv4 as `::ffff:a.b.c.d`. See [`MOMENT_OF_PACKET`].
    pub local_addr: [u8; 16],
    /// Network order; IPv4 as `::ffff:a.b.c.d`.
    pub remote_addr: [u8; 16],
    /// Host order.
    pub local_port: u16,
    /// Host order.
    pub remote_port: u16,
    /// Inode of the network namespace, 0 where it is not known.
    pub netns: u32,
    /// Socket cookie, 0 where there is none.
    pub cookie: u64,
    /// cgroup v2 id of the socket, 0 where none is known.
    pub cgroup_id: u64,
    /// Monotonic clock, nanoseconds.
    pub time_ns: u64,
    /// By kind.
    pub value: u64,
    /// By kind.
    pub other_value: u64,
    /// By kind.
    pub total: u32,
    /// By kind.
    pub reason: u32,
    /// The kernel's pending error of the socket, as in errno.h.
    pub error: u32,
    /// IP bytes of the packet, 0 without one.
    pub bytes: u32,
    /// The kernel's smoothed round-trip time, microseconds, 0 where none is known.
    pub srtt_us: u32,
    /// Interface of the packet, 0 without one.
    pub ifindex: u32,
    /// One of the `MOMENT_` constants.
    pub kind: u8,
    /// [`MOMENT_OF_PACKET`] or 0.
    pub flags: u8,
    /// See [`STATE_ESTABLISHED`]; 0 where none is known.
    pub state: u8,
    /// The state before, where the record tells of a change.
    pub old_state: u8,
    /// One of the `ROLE_` constants.
    pub role: u8,
    /// TCP flags of the packet, 0 without one.
    pub tcp_flags: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// Reasons that are counted on their own; what a subsystem adds is counted with the last one.
pub const DROP_REASONS: usize = 512;

/// Index into the `COUNTERS` entry, an array per CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Ring records that found no room.
    Lost = 0,
    /// Sockets for which there was no storage.
    Untracked = 1,
    /// RSTs sent.
    ResetsSent = 2,
    /// RSTs received.
    ResetsReceived = 3,
}

impl Counter {
    /// Length of the array.
    pub const COUNT: usize = 4;
}

/// Where the members that the programs read are in this kernel's structures, bytes: looked up in the
/// kernel's own types when the object is loaded. 0 for a member that this kernel has not.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Offsets {
    /// `sock_common.skc_family`, u16.
    pub family: u32,
    /// `sock_common.skc_num`, u16, host order.
    pub num: u32,
    /// `sock_common.skc_dport`, u16, network order.
    pub dport: u32,
    /// `sock_common.skc_rcv_saddr`, 4 bytes.
    pub rcv_saddr: u32,
    /// `sock_common.skc_daddr`, 4 bytes.
    pub daddr: u32,
    /// `sock_common.skc_v6_rcv_saddr`, 16 bytes.
    pub v6_rcv_saddr: u32,
    /// `sock_common.skc_v6_daddr`, 16 bytes.
    pub v6_daddr: u32,
    /// `sock_common.skc_state`, u8.
    pub state: u32,
    /// `sock_common.skc_flags`, a word of bits.
    pub flags: u32,
    /// `sock_common.skc_cookie`, u64.
    pub cookie: u32,
    /// `sock_common.skc_net`, a pointer to `net`.
    pub net: u32,
    /// `net.ns.inum`, u32.
    pub net_inum: u32,
    /// `inet_sock.inet_sport`, u16, network order: still there when `skc_num` is gone.
    pub sport: u32,
    /// `sock.sk_protocol`, u16.
    pub protocol: u32,
    /// `sock.sk_cgrp_data`, whose first word is a pointer to `cgroup`, or a tagged value.
    pub cgroup: u32,
    /// `cgroup.kn`, a pointer to `kernfs_node`.
    pub cgroup_kn: u32,
    /// `kernfs_node.id`, u64.
    pub kn_id: u32,
    /// `sock.sk_err`, i32.
    pub err: u32,
    /// `sock.sk_drops`, i32.
    pub drops: u32,
    /// `sock.sk_ack_backlog`, u32.
    pub ack_backlog: u32,
    /// `sock.sk_max_ack_backlog`, u32.
    pub max_ack_backlog: u32,
    /// `tcp_sock.srtt_us`, u32, in eighths.
    pub srtt: u32,
    /// `tcp_sock.rack.rtt_us`, u32.
    pub rack_rtt: u32,
    /// `tcp_sock.total_retrans`, u32.
    pub total_retrans: u32,
    /// `tcp_sock.bytes_acked`, u64.
    pub bytes_acked: u32,
    /// `tcp_sock.bytes_sent`, u64.
    pub bytes_sent: u32,
    /// `tcp_sock.bytes_retrans`, u64.
    pub bytes_retrans: u32,
    /// `tcp_sock.bytes_received`, u64.
    pub bytes_received: u32,
    /// `tcp_sock.bpf_sock_ops_cb_flags`, u8.
    pub callbacks: u32,
    /// `sk_buff.sk`, a pointer to `sock`.
    pub skb_sk: u32,
    /// `sk_buff.head`, a pointer.
    pub skb_head: u32,
    /// `sk_buff.len`, u32.
    pub skb_len: u32,
    /// `sk_buff.dev`, a pointer to `net_device`.
    pub skb_dev: u32,
    /// `net_device.nd_net.net`, a pointer to `net`.
    pub dev_net: u32,
    /// `sk_buff.protocol`, u16, network order.
    pub skb_protocol: u32,
    /// `sk_buff.network_header`, u16, from `head`.
    pub skb_network_header: u32,
    /// `sk_buff.skb_iif`, i32.
    pub skb_iif: u32,
    /// `tcp_skb_cb.tcp_gso_segs` in `sk_buff.cb`, u16.
    pub skb_segments: u32,
    /// `socket.sk`, a pointer to `sock`.
    pub socket_sk: u32,
}

/// What the agent tells the programs, the only entry of the `CONTROL` array.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Control {
    /// Not 0 while somebody wants [`MOMENT_STATE`].
    pub states: u32,
    /// Not 0 while the iterator is to hand over every socket, whether it moved or not.
    pub everything: u32,
}

/// Listeners whose drops for other reasons than a full queue are remembered.
pub const LISTENERS: usize = 4096;

/// Drops that one CPU tells in one tick; the next one stands for the rest too.
pub const DROPS_PER_TICK: u64 = 32;

/// What one CPU counted of dropped packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Drops {
    /// Packets by reason: see [`DROP_REASONS`].
    pub packets: [u64; DROP_REASONS],
    /// Those of them that moments told.
    pub told: [u64; DROP_REASONS],
    /// The tick that `in_tick` is of.
    pub tick: u64,
    /// Moments sent in it.
    pub in_tick: u64,
}
