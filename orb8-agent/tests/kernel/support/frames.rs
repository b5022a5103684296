//! Frames put together by hand, and a packet socket that sends them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket},
};

use orb8_common::{flow::FlowKey, packet::protocol};

use super::{netns::Netns, seen::interface_flow};

/// Sends whole frames through an interface, unread by the network stack.
pub(crate) struct PacketSocket {
    socket: OwnedFd,
    address: LinkAddr,
}

impl PacketSocket {
    pub(crate) fn open(namespace: &Netns, interface: &str) -> Self {
        namespace.run(|| {
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
                .expect("a packet socket: run as root");
            let mut addresses = getifaddrs().expect("the interfaces");
            let found = addresses.find_map(|found| {
                let address = *found.address?.as_link_addr()?;
                (found.interface_name == interface).then_some(address)
            });
            Self { socket, address: found.expect("the interface's link address") }
        })
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        let sent = sendto(self.socket.as_raw_fd(), frame, &self.address, MsgFlags::empty());
        assert_eq!(sent.expect("sending a frame"), frame.len());
    }

    /// Sends a frame of more than a page, with only `linear` bytes in the buffer's linear part.
    pub(crate) fn send_linear(&self, frame: &[u8], linear: u16) {
        // struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset.
        let mut with_header = vec![0; 10];
        with_header[2..4].copy_from_slice(&linear.to_le_bytes());
        with_header.extend(frame);
        self.expect_header(true);
        self.send(&with_header);
        self.expect_header(false);
    }

    fn expect_header(&self, on: bool) {
        let on = libc::c_int::from(on);
        // SAFETY: the option's value is an integer, which outlives the call.
        let status = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_VNET_HDR,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        assert_eq!(status, 0, "PACKET_VNET_HDR: {}", std::io::Error::last_os_error());
    }
}

pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;
pub(crate) const VLAN: u16 = 0x8100;
pub(crate) const QINQ: u16 = 0x88a8;

/// An Ethernet header to everyone, from nobody, with VLAN tags from the outermost on.
pub(crate) fn ethernet(tags: &[(u16, u16)], ethertype: u16) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 9]);
    for (kind, id) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(id.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// Addresses that no interface has, so that nothing answers.
pub(crate) const SOURCE4: [u8; 4] = [198, 51, 100, 1];
pub(crate) const DESTINATION4: [u8; 4] = [198, 51, 100, 2];
pub(crate) const SOURCE6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub(crate) const DESTINATION6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

/// What the fields of an IPv4 header are where a test says nothing else.
#[derive(Clone, Default)]
pub(crate) struct Ipv4 {
    pub(crate) protocol: u8,
    /// A multiple of four bytes.
    pub(crate) options: Vec<u8>,
    pub(crate) id: u16,
    /// Flags and offset, as in the header.
    pub(crate) fragment: u16,
}

impl Ipv4 {
    pub(crate) fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let header_len = 20 + self.options.len();
        let mut packet = vec![0x40 | (header_len / 4) as u8, 0];
        packet.extend(((header_len + payload.len()) as u16).to_be_bytes());
        packet.extend(self.id.to_be_bytes());
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([64, self.protocol, 0, 0]);
        packet.extend(SOURCE4);
        packet.extend(DESTINATION4);
        packet.extend(&self.options);
        let checksum = checksum(&packet);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet.extend(payload);
        packet
    }
}

/// A UDP packet's header.
pub(crate) const fn udp4() -> Ipv4 {
    Ipv4 { protocol: protocol::UDP, options: Vec::new(), id: 0, fragment: 0 }
}

/// An IPv6 packet whose first header behind IPv6's is `next`.
pub(crate) fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(SOURCE6);
    packet.extend(DESTINATION6);
    packet.extend(payload);
    packet
}

/// The flow of crafted IPv4 packets, but for place and direction.
pub(crate) fn flow4(protocol: u8, source_port: u16, destination_port: u16) -> FlowKey {
    let source = SocketAddr::new(Ipv4Addr::from(SOURCE4).into(), source_port);
    let destination = SocketAddr::new(Ipv4Addr::from(DESTINATION4).into(), destination_port);
    interface_flow(0, 0, protocol, source, destination)
}

/// The flow of crafted IPv6 packets, but for place and direction.
pub(crate) fn flow6(protocol: u8, source_port: u16, destination_port: u16) -> FlowKey {
    let source = SocketAddr::new(SOURCE6.into(), source_port);
    let destination = SocketAddr::new(DESTINATION6.into(), destination_port);
    interface_flow(0, 0, protocol, source, destination)
}

/// The start of a UDP or SCTP packet and `size` bytes of whatever.
pub(crate) fn ports(source: u16, destination: u16, size: usize) -> Vec<u8> {
    let mut packet = Vec::with_capacity(8 + size);
    packet.extend(source.to_be_bytes());
    packet.extend(destination.to_be_bytes());
    packet.extend(((8 + size) as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.resize(8 + size, 0x5a);
    packet
}

/// A TCP header without options and `size` bytes of data.
pub(crate) fn tcp(source: u16, destination: u16, flags: u8, size: usize) -> Vec<u8> {
    let mut packet = Vec::with_capacity(20 + size);
    packet.extend(source.to_be_bytes());
    packet.extend(destination.to_be_bytes());
    packet.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    packet.resize(20 + size, 0x5a);
    packet
}

/// The Internet's checksum.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |&b| b.into()));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
