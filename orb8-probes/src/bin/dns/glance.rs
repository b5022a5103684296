//! The first look at a packet: whether it is none of DNS's business, by direct access alone.

use crate::{PORT_COUNT, PORTS};
use orb8_common::dns::MAX_PORTS;
use orb8_common::packet::{Packet, is_extension, protocol};
use orb8_probes::skb::{Direct, Skb};

const ETHERNET_LEN: u32 = 14;
// As a little-endian machine reads them.
const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();
const ETHERTYPE_VLAN: u16 = 0x8100_u16.to_be();
const ETHERTYPE_QINQ: u16 = 0x88a8_u16.to_be();
const ETHERTYPE_QINQ_OLD: u16 = 0x9100_u16.to_be();
/// Offset and more-fragments bit, in the second word of an IPv4 header.
const FRAGMENT_MASK: u32 = 0x3fff_u32.to_be();

/// Whether a frame is certainly no DNS. Tags and headers outside the linear part are left to those
/// who look closer.
#[inline(always)]
pub(crate) fn frame_passes_by(packet: &Direct) -> bool {
    let Some(ethernet) = packet.load::<[u16; 7]>(0) else { return false };
    match ethernet[6] {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => packet_passes_by(packet, ETHERNET_LEN),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ | ETHERTYPE_QINQ_OLD => false,
        _ => true,
    }
}

/// Whether the IP packet at `header` is certainly no DNS. Options, extension headers, fragments and
/// headers outside the linear part are left to those who look closer.
#[inline(always)]
pub(crate) fn packet_passes_by(packet: &Direct, header: u32) -> bool {
    // 20 bytes of IPv4 header without options, then ports; or the first part of an IPv6 header.
    let Some(ip) = packet.load::<[u32; 6]>(header) else { return false };
    let [version_ihl, ..] = ip[0].to_le_bytes();
    match version_ihl >> 4 {
        4 => {
            let [_, protocol, ..] = ip[2].to_le_bytes();
            if !has_ports(protocol) {
                return true;
            }
            version_ihl == 0x45 && ip[1] & FRAGMENT_MASK == 0 && !is_dns(ip[5])
        }
        6 => {
            let [_, _, next_header, _] = ip[1].to_le_bytes();
            if !has_ports(next_header) {
                return !is_extension(next_header);
            }
            packet.load::<u32>(header + 40).is_some_and(|ports| !is_dns(ports))
        }
        _ => true,
    }
}

/// Whether a socket asks a server, whatever its packets say: a resolver on another port that is reached
/// through address translation, as Docker's, has no DNS port on the wire.
#[inline(always)]
pub(crate) fn asks(packet: Skb) -> bool {
    let port = u32::from(packet.connected_port());
    is_dns(port | port << 16)
}

#[inline(always)]
const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, protocol::UDP | protocol::TCP)
}

/// Whether either port is one of DNS's. `ports` is what the header has.
#[inline(always)]
pub(crate) fn is_dns(ports: u32) -> bool {
    let (source, destination) = (ports as u16, (ports >> 16) as u16);
    let known = (&raw const PORTS).cast::<u16>();
    let count = PORT_COUNT.load() as usize;
    let is_one = |index: usize| {
        index < count && {
            // SAFETY: the index is below the array's length. One element at a time: the verifier
            // knows its value, and no copy of the array is made.
            let port = unsafe { known.add(index).read_volatile() };
            source == port || destination == port
        }
    };
    // No loop: of these, the verifier leaves those in that there are ports for.
    const { assert!(MAX_PORTS == 8) };
    is_one(0)
        || is_one(1)
        || is_one(2)
        || is_one(3)
        || is_one(4)
        || is_one(5)
        || is_one(6)
        || is_one(7)
}
