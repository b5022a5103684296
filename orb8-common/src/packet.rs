//! Packet parsing, once for the programs and the tests.
//!
//! The parser is generic over [`Packet`], so that the programs run it on live packets (first by
//! direct access, then through a helper where the headers are not in the linear part) and the
//! tests and fuzzers run the same code on bytes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::flow::FlowKey;

/// IP protocol numbers that the parser knows ports for, and extension headers that it walks.
pub mod protocol {
    #![expect(missing_docs, reason = "the names are IANA's")]
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const NO_NEXT_HEADER: u8 = 59;
    pub const DESTINATION_OPTIONS: u8 = 60;
    pub const SCTP: u8 = 132;
    pub const MOBILITY: u8 = 135;
    pub const HIP: u8 = 139;
    pub const SHIM6: u8 = 140;
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
/// Before 802.1ad was a standard, this marked the outer tag.
const ETHERTYPE_QINQ_OLD: u16 = 0x9100;
const VLAN_ID_MASK: u16 = 0x0fff;

/// Extension headers walked before the rest is taken for an unknown protocol. Linux itself sends
/// at most five; the bound is what keeps the program provable.
const MAX_EXTENSION_HEADERS: usize = 8;

/// TCP's FIN flag.
pub const TCP_FIN: u8 = 0x01;
/// TCP's SYN flag.
pub const TCP_SYN: u8 = 0x02;
/// TCP's RST flag.
pub const TCP_RST: u8 = 0x04;
/// TCP's ACK flag.
pub const TCP_ACK: u8 = 0x10;

/// The bytes of one packet.
pub trait Packet {
    /// Returns a copy of the header at `offset` bytes, `None` when the packet ends before it does.
    fn load<T: FromBytes>(&self, offset: u32) -> Option<T>;
}

/// A slice is a packet: what the tests and fuzzers use.
impl Packet for [u8] {
    fn load<T: FromBytes>(&self, offset: u32) -> Option<T> {
        let bytes = self.get(offset as usize..)?;
        T::read_from_prefix(bytes).ok().map(|(header, _)| header)
    }
}

/// Why a packet gave no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFlow {
    /// Not IP: ARP, LLDP, MPLS, …
    NotIp,
    /// An IP header that is cut short or contradicts itself.
    Malformed,
}

/// Where the IP header starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Bytes of link header, tags included.
    pub header_len: u32,
    /// Outermost VLAN id, 0 without a tag.
    pub vlan: u16,
    /// Innermost VLAN id where there are two tags, 0 otherwise.
    pub inner_vlan: u16,
}

impl Link {
    /// A device without a link header (tun, WireGuard, IP tunnels), and the socket hook.
    pub const NONE: Self = Self { header_len: 0, vlan: 0, inner_vlan: 0 };
}

/// What the headers behind the addresses told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// IP protocol number: the last header's that was reached.
    pub protocol: u8,
    /// Host order; the type for ICMP and ICMPv6, 0 where there is none.
    pub source_port: u16,
    /// Host order; the code for ICMP and ICMPv6, 0 where there is none.
    pub destination_port: u16,
    /// TCP flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// IP datagram length as the header says, header included; 0 where it does not (jumbograms).
    pub ip_len: u32,
    /// The packet ends before its transport header does: the ports are 0.
    pub truncated: bool,
    /// Whether this is all of a datagram.
    pub part: Part,
    /// Identification, which the fragments of a datagram share; 0 for a whole one.
    pub datagram_id: u32,
    /// Where the transport header starts; 0 where it was not reached.
    pub offset: u32,
}

/// What a packet is of its IP datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// Its first fragment, which has the ports.
    First,
    /// Another fragment.
    Later,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct EthernetHeader {
    addresses: [u16; 6],
    ethertype: u16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct VlanTag {
    control: u16,
    ethertype: u16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ipv4Header {
    version_ihl: u8,
    tos: u8,
    total_len: u16,
    id: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    checksum: u16,
    source: u32,
    destination: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ipv6Header {
    version_class_flow: u32,
    payload_len: u16,
    next_header: u8,
    hop_limit: u8,
    source: [u32; 4],
    destination: [u32; 4],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ExtensionHeader {
    next_header: u8,
    /// In units that depend on the header.
    len: u8,
    /// Fragment offset and the more-fragments bit, in a fragment header.
    fragment: u16,
    /// Identification, in a fragment header.
    id: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Ports {
    source: u16,
    destination: u16,
}

/// The first 16 bytes, so that the read is made of whole words.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct TcpHeader {
    ports: Ports,
    sequence: u32,
    acknowledgement: u32,
    data_offset: u8,
    flags: u8,
    window: u16,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct IcmpHeader {
    kind: u8,
    code: u8,
    checksum: u16,
}

/// Reads an Ethernet header and up to two VLAN tags.
///
/// `offloaded_vlan` is the id of a tag that the device took off the packet, which then is the
/// outer one.
///
/// # Errors
/// [`NoFlow::NotIp`] for other ether types, [`NoFlow::Malformed`] for a frame that ends in its
/// link header.
#[inline(always)]
pub fn parse_ethernet<P: Packet + ?Sized>(
    packet: &P,
    offloaded_vlan: Option<u16>,
) -> Result<Link, NoFlow> {
    let ethernet: EthernetHeader = packet.load(0).ok_or(NoFlow::Malformed)?;
    let mut link = Link { header_len: 14, ..Link::NONE };
    let mut tags = 0;
    if let Some(id) = offloaded_vlan {
        link.vlan = id & VLAN_ID_MASK;
        tags = 1;
    }
    let mut ethertype = u16::from_be(ethernet.ethertype);
    for _ in 0..2 {
        if !matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_QINQ | ETHERTYPE_QINQ_OLD) {
            break;
        }
        let tag: VlanTag = packet.load(link.header_len).ok_or(NoFlow::Malformed)?;
        let id = u16::from_be(tag.control) & VLAN_ID_MASK;
        if tags == 0 {
            link.vlan = id;
        } else {
            link.inner_vlan = id;
        }
        tags += 1;
        link.header_len += 4;
        ethertype = u16::from_be(tag.ethertype);
    }
    match ethertype {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => Ok(link),
        _ => Err(NoFlow::NotIp),
    }
}

/// Where a packet is seen: the part of its key that the packet does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// `FlowKey::direction`.
    pub direction: u8,
    /// `FlowKey::hook`.
    pub hook: u8,
    /// `FlowKey::ifindex`.
    pub ifindex: u32,
    /// `FlowKey::cgroup_id`.
    pub cgroup_id: u64,
}

/// Reads the IP header at `link.header_len` and what follows it, and makes the packet's key.
///
/// `write` is given the key when, and only when, the result is `Ok`; a program writes it to where it
/// is used from, since copying it would cost more than parsing.
///
/// A transport header that is cut short leaves the ports 0: the packet belongs to its addresses'
/// flow all the same.
///
/// # Errors
/// [`NoFlow::Malformed`] when there is no whole IP header, [`NoFlow::NotIp`] when its version is
/// neither 4 nor 6.
#[inline(always)]
pub fn parse_ip<P: Packet + ?Sized, W: FnOnce(FlowKey)>(
    packet: &P,
    link: Link,
    place: Place,
    write: W,
) -> Result<Transport, NoFlow> {
    let first: u32 = packet.load(link.header_len).ok_or(NoFlow::Malformed)?;
    match u32::from_be(first) >> 28 {
        4 => parse_ipv4(packet, link, place, write),
        6 => parse_ipv6(packet, link, place, write),
        _ => Err(NoFlow::NotIp),
    }
}

#[inline(always)]
fn parse_ipv4<P: Packet + ?Sized, W: FnOnce(FlowKey)>(
    packet: &P,
    link: Link,
    place: Place,
    write: W,
) -> Result<Transport, NoFlow> {
    let ip: Ipv4Header = packet.load(link.header_len).ok_or(NoFlow::Malformed)?;
    let header_len = u32::from(ip.version_ihl & 0x0f) * 4;
    if header_len < 20 {
        return Err(NoFlow::Malformed);
    }
    let mut transport = Transport {
        protocol: ip.protocol,
        ip_len: u32::from(u16::from_be(ip.total_len)),
        ..Transport::default()
    };
    let fragment = u16::from_be(ip.fragment);
    if fragment & 0x3fff != 0 {
        transport.part = if fragment & 0x1fff == 0 { Part::First } else { Part::Later };
        transport.datagram_id = u32::from(u16::from_be(ip.id));
    }
    if transport.part != Part::Later {
        parse_transport(packet, link.header_len + header_len, &mut transport);
    }
    let addresses = [v4_mapped(ip.source), v4_mapped(ip.destination)];
    write(new_key(addresses, link, place, &transport));
    Ok(transport)
}

#[inline(always)]
fn parse_ipv6<P: Packet + ?Sized, W: FnOnce(FlowKey)>(
    packet: &P,
    link: Link,
    place: Place,
    write: W,
) -> Result<Transport, NoFlow> {
    let ip: Ipv6Header = packet.load(link.header_len).ok_or(NoFlow::Malformed)?;
    let payload_len = u32::from(u16::from_be(ip.payload_len));
    let mut transport = Transport {
        protocol: ip.next_header,
        ip_len: if payload_len == 0 { 0 } else { payload_len + 40 },
        ..Transport::default()
    };
    walk_extensions(packet, link.header_len + 40, &mut transport);
    let addresses = [zerocopy::transmute!(ip.source), zerocopy::transmute!(ip.destination)];
    write(new_key(addresses, link, place, &transport));
    Ok(transport)
}

#[inline(always)]
fn walk_extensions<P: Packet + ?Sized>(packet: &P, mut offset: u32, transport: &mut Transport) {
    for _ in 0..MAX_EXTENSION_HEADERS {
        let header = transport.protocol;
        if !is_extension(header) {
            break;
        }
        let Some(extension) = packet.load::<ExtensionHeader>(offset) else {
            transport.truncated = true;
            return;
        };
        transport.protocol = extension.next_header;
        if header == protocol::FRAGMENT {
            let first = u16::from_be(extension.fragment) & 0xfff8 == 0;
            transport.part = if first { Part::First } else { Part::Later };
            transport.datagram_id = u32::from_be(extension.id);
            offset += 8;
            if !first {
                return;
            }
        } else if header == protocol::AUTHENTICATION {
            offset += (u32::from(extension.len) + 2) * 4;
        } else {
            offset += (u32::from(extension.len) + 1) * 8;
        }
    }
    parse_transport(packet, offset, transport);
}

/// Makes the key out of seven whole words: field by field the compiler would clear parts of it by
/// a call to `memset`, which costs more than the rest of the parser.
#[inline(always)]
fn new_key(
    [source, destination]: [[u64; 2]; 2],
    link: Link,
    place: Place,
    transport: &Transport,
) -> FlowKey {
    let ports = u64::from(transport.source_port)
        | u64::from(transport.destination_port) << 16
        | u64::from(place.ifindex) << 32;
    let tail = u64::from(transport.protocol)
        | u64::from(place.direction) << 8
        | u64::from(place.hook) << 16
        | u64::from(link.vlan) << 32
        | u64::from(link.inner_vlan) << 48;
    zerocopy::transmute!([
        source[0],
        source[1],
        destination[0],
        destination[1],
        ports,
        place.cgroup_id,
        tail
    ])
}

// The words above are put together for a little-endian machine, as the objects are.
const _: () = assert!(cfg!(target_endian = "little"), "orb8 runs on little-endian machines");

/// Whether an IPv6 header of this kind is one to walk over.
#[inline(always)]
#[must_use]
pub const fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HIP
            | protocol::SHIM6
    )
}

#[inline(always)]
fn parse_transport<P: Packet + ?Sized>(packet: &P, offset: u32, transport: &mut Transport) {
    transport.offset = offset;
    match transport.protocol {
        protocol::TCP => {
            let Some(tcp) = packet.load::<TcpHeader>(offset) else {
                transport.truncated = true;
                return;
            };
            transport.source_port = u16::from_be(tcp.ports.source);
            transport.destination_port = u16::from_be(tcp.ports.destination);
            transport.tcp_flags = tcp.flags;
        }
        protocol::UDP | protocol::SCTP => {
            let Some(ports) = packet.load::<Ports>(offset) else {
                transport.truncated = true;
                return;
            };
            transport.source_port = u16::from_be(ports.source);
            transport.destination_port = u16::from_be(ports.destination);
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let Some(icmp) = packet.load::<IcmpHeader>(offset) else {
                transport.truncated = true;
                return;
            };
            transport.source_port = u16::from(icmp.kind);
            transport.destination_port = u16::from(icmp.code);
        }
        _ => {}
    }
}

/// Maps an IPv4 address in network order into IPv6.
#[inline(always)]
fn v4_mapped(address: u32) -> [u64; 2] {
    [0, zerocopy::transmute!([0xffff_u32.to_be(), address])]
}

#[cfg(test)]
mod tests;
