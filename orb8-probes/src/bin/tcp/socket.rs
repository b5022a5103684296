//! The kernel's own `struct sock` and what hangs off it, read by address: programs of every kind that
//! this object has may do that, where each has other helpers.

use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use core::ffi::c_void;
use orb8_common::tcp::{ROLE_CLIENT, ROLE_UNKNOWN, TcpSocket};
use orb8_probes::kernel::read_kernel;

/// An offset, which the verifier knows as a constant: the loader has written it by then.
macro_rules! offset {
    ($member:ident) => {
        $crate::socket::load(&$crate::OFFSETS.$member)
    };
}
pub(crate) use offset;

#[inline(always)]
pub(crate) fn load(offset: &u32) -> u64 {
    // SAFETY: a reference; volatile, since the loader writes what it refers to.
    u64::from(unsafe { core::ptr::from_ref(offset).read_volatile() })
}

/// States in which the other end may have acknowledged a FIN.
const STATE_FIN_WAIT2: u8 = 5;
const STATE_LAST_ACK: u8 = 9;
const STATE_CLOSING: u8 = 11;

/// States of the smaller kin of `struct sock`.
pub(crate) const STATE_TIME_WAIT: u8 = 6;
pub(crate) const STATE_NEW_SYN_RECV: u8 = 12;

/// The flag (`enum sock_flags`) that a FIN sets when it is received.
const SOCK_DONE: u64 = 1;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// The address of a `struct sock`, or of one of its smaller kin (`request_sock`,
/// `inet_timewait_sock`), which begin like it.
#[derive(Clone, Copy)]
pub(crate) struct Sock(pub(crate) u64);

/// Both ends of a connection.
pub(crate) struct Ends {
    pub(crate) local_addr: [u8; 16],
    pub(crate) remote_addr: [u8; 16],
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
}

impl Sock {
    #[inline(always)]
    pub(crate) fn is_null(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    pub(crate) fn state(self) -> u8 {
        read_kernel(self.0 + offset!(state))
    }

    /// Whether it is a `struct sock` and not one of the smaller kin, and of TCP.
    #[inline(always)]
    pub(crate) fn is_whole(self) -> bool {
        if self.is_null() {
            return false;
        }
        let state = self.state();
        state != STATE_TIME_WAIT && state != STATE_NEW_SYN_RECV && self.is_internet()
    }

    #[inline(always)]
    pub(crate) fn family(self) -> u16 {
        read_kernel(self.0 + offset!(family))
    }

    #[inline(always)]
    pub(crate) fn is_internet(self) -> bool {
        let family = self.family();
        family == AF_INET || family == AF_INET6
    }

    /// IP protocol number. Not for the smaller kin.
    #[inline(always)]
    pub(crate) fn protocol(self) -> u8 {
        read_kernel::<u16>(self.0 + offset!(protocol)) as u8
    }

    /// 0 where nobody has asked for it yet.
    #[inline(always)]
    pub(crate) fn cookie(self) -> u64 {
        read_kernel(self.0 + offset!(cookie))
    }

    /// Inode of the network namespace.
    #[inline(always)]
    pub(crate) fn netns(self) -> u32 {
        let net: u64 = read_kernel(self.0 + offset!(net));
        read_kernel(net + offset!(net_inum))
    }

    /// cgroup v2 id, 0 where the socket has none. Not for the smaller kin.
    #[inline(always)]
    pub(crate) fn cgroup_id(self) -> u64 {
        let cgroup: u64 = read_kernel(self.0 + offset!(cgroup));
        // Until 5.14 a word with its lowest bit set is a class id of cgroup v1.
        if cgroup == 0 || cgroup & 1 != 0 {
            return 0;
        }
        let node: u64 = read_kernel(cgroup + offset!(cgroup_kn));
        read_kernel(node + offset!(kn_id))
    }

    #[inline(always)]
    pub(crate) fn error(self) -> u32 {
        read_kernel(self.0 + offset!(err))
    }

    /// The smoothed round-trip time, microseconds.
    #[inline(always)]
    pub(crate) fn srtt_us(self) -> u32 {
        read_kernel::<u32>(self.0 + offset!(srtt)) >> 3
    }

    #[inline(always)]
    pub(crate) fn retransmits(self) -> u32 {
        read_kernel(self.0 + offset!(total_retrans))
    }

    /// Payload bytes that were acknowledged: what was sent, each once, and what a filter of this node
    /// dropped on its way is not among them. The kernel counts SYN and FIN as one each; `state` is the
    /// one before a close.
    #[inline(always)]
    pub(crate) fn bytes_sent(self, role: u8, state: u8) -> u64 {
        let acknowledged: u64 = read_kernel(self.0 + offset!(bytes_acked));
        let is_orderly = self.error() == 0;
        let has_fin = state == STATE_FIN_WAIT2
            || is_orderly && (state == STATE_CLOSING || state == STATE_LAST_ACK);
        let others = u64::from(role == ROLE_CLIENT) + u64::from(has_fin);
        let payload = acknowledged.saturating_sub(others);
        if role != ROLE_UNKNOWN {
            return payload;
        }
        // Nobody knows whether it sent a SYN; what it sent for the first time has none.
        let sent: u64 = read_kernel(self.0 + offset!(bytes_sent));
        let again: u64 = read_kernel(self.0 + offset!(bytes_retrans));
        if sent - again < payload { sent - again } else { payload }
    }

    /// Payload bytes. The kernel counts the other end's FIN as one.
    #[inline(always)]
    pub(crate) fn bytes_received(self) -> u64 {
        // In this order: a FIN that comes in between is in the bytes then, and not in the flags.
        let flags: u64 = read_kernel(self.0 + offset!(flags));
        let bytes: u64 = read_kernel(self.0 + offset!(bytes_received));
        bytes.saturating_sub(flags >> SOCK_DONE & 1)
    }

    /// Which `sock_ops` callbacks the socket has.
    #[inline(always)]
    pub(crate) fn callbacks(self) -> u8 {
        read_kernel(self.0 + offset!(callbacks))
    }

    /// A socket that closes gives its port back before it says so, and the smaller kin have only the one
    /// that is given back.
    #[inline(always)]
    fn local_port(self) -> u16 {
        let port: u16 = read_kernel(self.0 + offset!(num));
        if port != 0 {
            return port;
        }
        read_kernel::<u16>(self.0 + offset!(sport)).swap_bytes()
    }

    /// Writes both ends to where they belong, without a copy on the stack.
    #[inline(always)]
    pub(crate) fn write_ends(self, ends: &mut Ends) {
        if self.family() == AF_INET6 {
            ends.local_addr = read_kernel(self.0 + offset!(v6_rcv_saddr));
            ends.remote_addr = read_kernel(self.0 + offset!(v6_daddr));
        } else {
            ends.local_addr = mapped(read_kernel(self.0 + offset!(rcv_saddr)));
            ends.remote_addr = mapped(read_kernel(self.0 + offset!(daddr)));
        }
        ends.local_port = self.local_port();
        ends.remote_port = read_kernel::<u16>(self.0 + offset!(dport)).swap_bytes();
    }

    #[inline(always)]
    pub(crate) fn ends(self) -> Ends {
        let mut ends =
            Ends { local_addr: [0; 16], remote_addr: [0; 16], local_port: 0, remote_port: 0 };
        self.write_ends(&mut ends);
        ends
    }
}

/// An IPv4 address, in network order as it lies in memory, as IPv6.
#[inline(always)]
pub(crate) fn mapped(address: u32) -> [u8; 16] {
    zerocopy::transmute!([0, 0, 0xffff_0000_u32, address])
}

/// Copies what the kernel counts into a record. `state` is the one before a close.
///
/// # Safety
/// `record` points to a record that only this program writes these fields of.
#[inline(always)]
pub(crate) unsafe fn fill(sock: Sock, state: u8, record: *mut TcpSocket) {
    // SAFETY: the caller vouches for the pointer.
    unsafe {
        (*record).srtt_us = sock.srtt_us();
        (*record).bytes_sent = sock.bytes_sent((*record).role, state);
        (*record).bytes_received = sock.bytes_received();
        (*record).retransmits = sock.retransmits();
        (*record).error = sock.error();
        if offset!(drops) != 0 {
            (*record).drops = read_kernel(sock.0 + offset!(drops));
        }
        (*record).queue = read_kernel(sock.0 + offset!(ack_backlog));
        (*record).queue_limit = read_kernel(sock.0 + offset!(max_ack_backlog));
    }
}

/// Writes who a socket is into its record.
///
/// # Safety
/// As [`fill`].
#[inline(always)]
pub(crate) unsafe fn identify(sock: Sock, cookie: u64, record: *mut TcpSocket) {
    let ends = sock.ends();
    // SAFETY: the caller vouches for the pointer.
    unsafe {
        (*record).local_addr = ends.local_addr;
        (*record).remote_addr = ends.remote_addr;
        (*record).local_port = ends.local_port;
        (*record).remote_port = ends.remote_port;
        (*record).netns = sock.netns();
        (*record).cookie = cookie;
        (*record).cgroup_id = sock.cgroup_id();
    }
}

/// The socket cookie of a program's context or socket.
///
/// # Safety
/// `context` is what the program type's helper takes.
#[inline(always)]
pub(crate) unsafe fn cookie_of(context: *mut c_void) -> u64 {
    // SAFETY: the caller vouches for it.
    unsafe { bpf_get_socket_cookie(context) }
}
