//! What happens to TCP connections, as the `tcp` source tells it.

use std::sync::Arc;

use orb8_common::tcp::RTT_BUCKETS;
use orb8_proto::filter::End;

use super::{SocketEnd, UnixNanos};

/// Something about one connection, listener or packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSample {
    /// What happened.
    pub kind: TcpKind,
    /// The local end; of a packet ([`Self::of_packet`]): its source.
    pub local: SocketEnd,
    /// The other end; of a packet: its destination.
    pub remote: SocketEnd,
    /// The ends are those of a packet, whose local end is not known.
    pub of_packet: bool,
    /// Of a packet: which of its ends is this node's socket, where the kernel named one.
    pub local_end: Option<End>,
    /// cgroup v2 id of the socket, 0 where none is known.
    pub cgroup_id: u64,
    /// Socket cookie, 0 where none is known.
    pub cookie: u64,
    /// Inode of the network namespace, 0 where it is not known.
    pub netns: u32,
    /// Interface, 0 where none is known.
    pub ifindex: u32,
    /// Who opened the connection.
    pub role: TcpRole,
    /// As the kernel numbers states; 0 where none is known.
    pub state: u8,
    /// The state before, where this tells of a change; else 0.
    pub old_state: u8,
    /// The kernel's smoothed round-trip time, nanoseconds, where it is known.
    pub srtt_ns: Option<u64>,
    /// Everything known so far: with [`TcpKind::Progress`] and [`TcpKind::Close`] of sockets that
    /// the agent follows.
    pub figures: Option<Box<TcpFigures>>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpKind {
    /// Nothing but that the figures moved. Not told to subscribers.
    Progress,
    /// A local `connect(2)` succeeded.
    Connect {
        /// SYN to SYN-ACK; `None` where it was not seen.
        handshake_ns: Option<u64>,
    },
    /// A local listener has a new connection.
    Accept {
        /// SYN-ACK to ACK; `None` where it was not seen.
        handshake_ns: Option<u64>,
    },
    /// A local `connect(2)` failed.
    Fail {
        /// As in errno.h; 0 where the caller gave up.
        errno: u16,
    },
    /// The connection ended.
    Close {
        /// As in errno.h; 0 for an orderly end.
        errno: u16,
    },
    /// The state changed.
    State,
    /// Segments were sent again.
    Retransmit {
        /// How many.
        segments: u32,
        /// The socket's count, now.
        total: u32,
    },
    /// A RST.
    Reset {
        /// Who sent it.
        by: ResetBy,
        /// The kernel's reason, where it tells.
        reason: Option<Reason>,
    },
    /// The kernel dropped a packet.
    Drop {
        /// Why.
        reason: Reason,
        /// The function that dropped it, where its name is known.
        location: Option<Arc<str>>,
        /// Packets that this stands for, itself included.
        weight: u32,
        /// TCP flags of the packet.
        tcp_flags: u8,
        /// IP bytes of the packet.
        bytes: u32,
    },
    /// A listener dropped connections since its queue was full.
    Overflow {
        /// Connections since the last event.
        overflows: u32,
        /// Connections that wait to be accepted.
        queue: u32,
        /// How many may wait.
        limit: u32,
    },
}

/// A reason of the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The kernel's number.
    pub id: u32,
    /// The kernel's name.
    pub name: Arc<str>,
}

/// Who sent a RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResetBy {
    /// This node's kernel.
    Local,
    /// The other end.
    Remote,
}

/// Who opened a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TcpRole {
    /// Not known: the connection is older than the agent.
    #[default]
    Unknown,
    /// The local end.
    Client,
    /// The other end.
    Server,
    /// Nobody: it listens.
    Listener,
}

/// A connection's figures, all since it was opened (or since the agent first saw it).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpFigures {
    /// `connect(2)`, or the end of the handshake for a server; `None` where that was not seen.
    pub opened: Option<UnixNanos>,
    /// How long the handshake took; `None` where that was not seen.
    pub handshake_ns: Option<u64>,
    /// The samples of the round-trip time below: sum, microseconds.
    pub rtt_sum_us: u64,
    /// How many.
    pub rtt_samples: u32,
    /// The smallest, microseconds; 0 without samples.
    pub rtt_min_us: u32,
    /// The largest, microseconds.
    pub rtt_max_us: u32,
    /// By size: see [`RTT_BUCKETS`].
    pub rtt: [u32; RTT_BUCKETS],
    /// Segments sent again.
    pub retransmits: u32,
    /// Payload bytes sent and acknowledged.
    pub bytes_sent: u64,
    /// Payload bytes received in order.
    pub bytes_received: u64,
}
