//! A `struct __sk_buff`, as the socket hook and the interface hook are given it.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{
        bpf_get_socket_cookie, bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id, bpf_skb_load_bytes,
    },
};
use orb8_common::packet::Packet;
use zerocopy::FromBytes;

/// A packet under a program.
#[derive(Clone, Copy)]
pub struct Skb(*mut __sk_buff);

impl Skb {
    /// Wraps the program's context.
    ///
    /// # Safety
    /// `context` is the context that the kernel passed to the running program.
    #[inline(always)]
    pub const unsafe fn new(context: *mut __sk_buff) -> Self {
        Self(context)
    }

    /// Bytes of the packet: from the IP header at the socket hook, from the link header at the
    /// interface hook.
    #[inline(always)]
    #[expect(clippy::len_without_is_empty, reason = "no packet is empty")]
    pub fn len(self) -> u32 {
        // SAFETY: the context is live while the program runs; so are the other fields below.
        unsafe { (*self.0).len }
    }

    /// Interface that the packet came in through or leaves through.
    #[inline(always)]
    pub fn ifindex(self) -> u32 {
        // SAFETY: as in `len`.
        unsafe { (*self.0).ifindex }
    }

    /// Id of a VLAN tag that the device took off the packet.
    #[inline(always)]
    pub fn offloaded_vlan(self) -> Option<u16> {
        // SAFETY: as in `len`.
        unsafe { ((*self.0).vlan_present != 0).then_some((*self.0).vlan_tci as u16) }
    }

    /// Packets that this one is or was on the wire.
    #[inline(always)]
    pub fn segments(self) -> u32 {
        // SAFETY: as in `len`.
        let (segments, size) = unsafe { ((*self.0).gso_segs, (*self.0).gso_size) };
        if segments != 0 {
            segments
        } else if size != 0 {
            // A guest's offload request: it says how long the segments are, not how many.
            self.len().div_ceil(size)
        } else {
            1
        }
    }

    /// Payload bytes of each segment but the last, where there are several.
    #[inline(always)]
    pub fn segment_size(self) -> u32 {
        // SAFETY: as in `len`.
        unsafe { (*self.0).gso_size }
    }

    /// cgroup v2 id of the packet's socket, 0 without one.
    #[inline(always)]
    pub fn cgroup_id(self) -> u64 {
        // SAFETY: the helper takes the program's own context.
        unsafe { bpf_skb_cgroup_id(self.0) }
    }

    /// cgroup v2 id of the ancestor of the packet's socket that is `level` below the root, 0 without
    /// one.
    #[inline(always)]
    pub fn ancestor_cgroup_id(self, level: u32) -> u64 {
        // SAFETY: the helper takes the program's own context.
        unsafe { bpf_skb_ancestor_cgroup_id(self.0, level as i32) }
    }

    /// Cookie of the packet's socket, 0 without one.
    #[inline(always)]
    pub fn socket_cookie(self) -> u64 {
        // SAFETY: the helper takes the program's own context.
        unsafe { bpf_get_socket_cookie(self.0.cast()) }
    }

    /// The packet's socket, null without one.
    #[inline(always)]
    pub fn socket(self) -> *mut bpf_sock {
        // SAFETY: as in `len`; the field is a pointer in a union of one.
        unsafe { (*self.0).__bindgen_anon_2.sk }
    }

    /// The port that the packet's socket is connected to, in network order; 0 where it is not.
    #[inline(always)]
    pub fn connected_port(self) -> u16 {
        let socket = self.socket();
        if socket.is_null() {
            return 0;
        }
        // SAFETY: not null.
        unsafe { (*socket).dst_port }
    }

    /// Whether the packet passed or will pass a socket hook that is attached to `cgroup`, which is
    /// `level` below the root; 0 stands for no such hook.
    #[inline(always)]
    pub fn passes_socket_hook(self, cgroup: u64, level: u32) -> bool {
        cgroup != 0 && self.ancestor_cgroup_id(level) == cgroup && is_inet(self.socket())
    }

    /// The linear part, for direct access.
    #[inline(always)]
    pub fn direct(self) -> Direct {
        // SAFETY: as in `len`. The kernel rewrites both loads to whole pointers.
        unsafe { Direct { start: (*self.0).data as usize, end: (*self.0).data_end as usize } }
    }

    /// The whole packet, through a helper.
    #[inline(always)]
    pub const fn loaded(self) -> Loaded {
        Loaded(self)
    }
}

/// Only these sockets' packets pass the socket hook: what a packet socket sends does not.
#[inline(always)]
fn is_inet(socket: *mut bpf_sock) -> bool {
    const AF_INET: u32 = 2;
    const AF_INET6: u32 = 10;
    // SAFETY: null is checked first.
    !socket.is_null() && matches!(unsafe { (*socket).family }, AF_INET | AF_INET6)
}

/// The linear part of a packet: cheap, but headers may lie outside it.
#[derive(Clone, Copy)]
pub struct Direct {
    start: usize,
    end: usize,
}

impl Packet for Direct {
    #[inline(always)]
    fn load<T: FromBytes>(&self, offset: u32) -> Option<T> {
        let header = self.start + offset as usize;
        if header + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: the bytes lie in the packet, as the verifier proves from the comparison. Every
        // architecture that the JIT serves takes unaligned words.
        Some(unsafe { (header as *const T).read() })
    }
}

/// A packet read through `bpf_skb_load_bytes`, wherever its bytes lie.
#[derive(Clone, Copy)]
pub struct Loaded(Skb);

impl Packet for Loaded {
    #[inline(always)]
    fn load<T: FromBytes>(&self, offset: u32) -> Option<T> {
        let mut header = MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes exactly `size_of::<T>()` bytes, or zeroes them and fails.
        let status = unsafe {
            bpf_skb_load_bytes(
                self.0.0.cast(),
                offset,
                header.as_mut_ptr().cast(),
                size_of::<T>() as u32,
            )
        };
        // SAFETY: written above, and every bit pattern is a `T`.
        (status == 0).then(|| unsafe { header.assume_init() })
    }
}
