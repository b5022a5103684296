//! A TCP segment in a `struct sk_buff`, read by address.

use crate::socket::{mapped, offset};
use orb8_probes::kernel::read_kernel;

/// EtherTypes, as a little-endian load sees them.
const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();
const TCP: u8 = 6;
/// `network_header` of a packet that has none.
const NOWHERE: u16 = u16::MAX;

/// What a dropped or answered packet was. All zero for one that is not TCP, or whose header is not
/// where it should be.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) source_addr: [u8; 16],
    pub(crate) destination_addr: [u8; 16],
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) tcp_flags: u8,
    pub(crate) bytes: u32,
    pub(crate) is_tcp: bool,
}

/// Whether a packet is worth a closer look: IP, with a network header.
#[inline(always)]
pub(crate) fn network_header(skb: u64) -> u64 {
    let protocol: u16 = read_kernel(skb + offset!(skb_protocol));
    if protocol != IPV4 && protocol != IPV6 {
        return 0;
    }
    let header: u16 = read_kernel(skb + offset!(skb_network_header));
    if header == NOWHERE {
        return 0;
    }
    let head: u64 = read_kernel(skb + offset!(skb_head));
    head + u64::from(header)
}

/// Inodes of namespaces begin here (`PROC_DYNAMIC_FIRST`).
const FIRST_INODE: u32 = 0xf000_0000;

/// The network namespace that a packet is in; 0 where that cannot be told: a packet in a tree has
/// something else in place of its device.
#[inline(always)]
pub(crate) fn netns_of(skb: u64) -> u32 {
    let device: u64 = read_kernel(skb + offset!(skb_dev));
    if device == 0 {
        return 0;
    }
    let net: u64 = read_kernel(device + offset!(dev_net));
    let inode: u32 = read_kernel(net + offset!(net_inum));
    if inode >= FIRST_INODE { inode } else { 0 }
}

impl Segment {
    #[inline(always)]
    pub(crate) fn of(skb: u64) -> Self {
        let mut segment = Self {
            source_addr: [0; 16],
            destination_addr: [0; 16],
            source_port: 0,
            destination_port: 0,
            tcp_flags: 0,
            bytes: 0,
            is_tcp: false,
        };
        let ip = network_header(skb);
        if ip == 0 {
            return segment;
        }
        let version_length: u8 = read_kernel(ip);
        let transport = match version_length >> 4 {
            4 => segment.read_ipv4(ip, version_length),
            6 => segment.read_ipv6(ip),
            _ => 0,
        };
        if transport != 0 {
            segment.read_tcp(transport);
        }
        // A packet that is too large for its header to say.
        if segment.is_tcp && segment.bytes == 0 {
            segment.bytes = read_kernel(skb + offset!(skb_len));
        }
        segment
    }

    /// Returns where the transport header is, 0 for none of TCP.
    #[inline(always)]
    fn read_ipv4(&mut self, ip: u64, version_length: u8) -> u64 {
        let protocol: u8 = read_kernel(ip + 9);
        let fragment: u16 = read_kernel(ip + 6);
        if protocol != TCP || fragment.swap_bytes() & 0x1fff != 0 {
            return 0;
        }
        self.source_addr = mapped(read_kernel(ip + 12));
        self.destination_addr = mapped(read_kernel(ip + 16));
        self.bytes = u32::from(read_kernel::<u16>(ip + 2).swap_bytes());
        ip + u64::from(version_length & 0xf) * 4
    }

    /// Packets with extension headers are not looked into.
    #[inline(always)]
    fn read_ipv6(&mut self, ip: u64) -> u64 {
        let protocol: u8 = read_kernel(ip + 6);
        if protocol != TCP {
            return 0;
        }
        self.source_addr = read_kernel(ip + 8);
        self.destination_addr = read_kernel(ip + 24);
        let payload = u32::from(read_kernel::<u16>(ip + 4).swap_bytes());
        self.bytes = if payload == 0 { 0 } else { payload + 40 };
        ip + 40
    }

    #[inline(always)]
    fn read_tcp(&mut self, tcp: u64) {
        self.source_port = read_kernel::<u16>(tcp).swap_bytes();
        self.destination_port = read_kernel::<u16>(tcp + 2).swap_bytes();
        self.tcp_flags = read_kernel(tcp + 13);
        self.is_tcp = true;
    }
}
