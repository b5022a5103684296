extern crate std;

use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;

const PLACE: Place = Place { direction: 1, hook: 1, ifindex: 7, cgroup_id: 9 };
const V4: [u8; 8] = [10, 0, 0, 1, 10, 0, 0, 2];

fn parse_at(packet: &[u8], link: Link) -> Result<(FlowKey, Transport), NoFlow> {
    let mut key = None;
    let transport = parse_ip(packet, link, PLACE, |made| key = Some(made))?;
    Ok((key.expect("a key comes with success"), transport))
}

fn parse(packet: &[u8]) -> Result<(FlowKey, Transport), NoFlow> {
    parse_at(packet, Link::NONE)
}

/// An IPv4 packet with `options` bytes of options.
fn ipv4(protocol: u8, options: usize, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options;
    let total = (header_len + payload.len()) as u16;
    let mut packet = vec![0x40 | (header_len / 4) as u8, 0];
    packet.extend(total.to_be_bytes());
    packet.extend(0x1234_u16.to_be_bytes());
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(V4);
    packet.extend(vec![1; options]);
    packet.extend(payload);
    packet
}

fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend([0xfd; 16]);
    packet.extend([0xfe; 16]);
    packet.extend(payload);
    packet
}

fn tcp(flags: u8) -> Vec<u8> {
    let mut header = vec![0; 20];
    header[..4].copy_from_slice(&[0x1f, 0x90, 0x30, 0x39]);
    header[12] = 0x50;
    header[13] = flags;
    header
}

fn udp() -> Vec<u8> {
    vec![0, 53, 0x30, 0x39, 0, 8, 0, 0]
}

fn ports(key: &FlowKey) -> (u16, u16) {
    (key.source_port, key.destination_port)
}

#[test]
fn tcp_over_ipv4() {
    let (key, transport) = parse(&ipv4(protocol::TCP, 0, 0, &tcp(TCP_SYN | TCP_ACK))).unwrap();
    assert_eq!(key.source_addr, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]);
    assert_eq!(key.destination_addr[12..], [10, 0, 0, 2]);
    assert_eq!(ports(&key), (8080, 12345));
    assert_eq!((key.protocol, key.direction, key.hook, key.flags), (6, 1, 1, 0));
    assert_eq!((key.ifindex, key.cgroup_id, key.vlan, key.inner_vlan), (7, 9, 0, 0));
    assert_eq!(transport.tcp_flags, TCP_SYN | TCP_ACK);
    assert_eq!(transport.ip_len, 40);
    assert!(!transport.truncated);
}

#[test]
fn options_move_the_transport_header() {
    for options in [4, 20, 40] {
        let (key, transport) = parse(&ipv4(protocol::UDP, options, 0, &udp())).unwrap();
        assert_eq!(transport.offset as usize, 20 + options);
        assert_eq!(ports(&key), (53, 12345), "{options} bytes of options");
    }
}

#[test]
fn icmp_has_type_and_code_for_ports() {
    let (key, _) = parse(&ipv4(protocol::ICMP, 0, 0, &[8, 3, 0, 0])).unwrap();
    assert_eq!(ports(&key), (8, 3));
    let (key, _) = parse(&ipv6(protocol::ICMPV6, &[128, 0, 0, 0])).unwrap();
    assert_eq!(ports(&key), (128, 0));
}

#[test]
fn sctp_has_ports() {
    let (key, _) = parse(&ipv6(protocol::SCTP, &udp())).unwrap();
    assert_eq!((key.protocol, ports(&key)), (132, (53, 12345)));
}

#[test]
fn every_extension_header_is_walked() {
    let mut payload = Vec::new();
    // Each names the next; lengths are in units of eight bytes, the authentication header's in four.
    payload.extend([protocol::DESTINATION_OPTIONS, 1]);
    payload.extend([0; 14]);
    payload.extend([protocol::ROUTING, 0]);
    payload.extend([0; 6]);
    payload.extend([protocol::AUTHENTICATION, 0]);
    payload.extend([0; 6]);
    payload.extend([protocol::TCP, 1]);
    payload.extend([0; 10]);
    payload.extend(tcp(TCP_FIN));
    let (key, transport) = parse(&ipv6(protocol::HOP_BY_HOP, &payload)).unwrap();
    assert_eq!((key.protocol, ports(&key)), (6, (8080, 12345)));
    assert_eq!(transport.tcp_flags, TCP_FIN);
    assert_eq!(key.source_addr, [0xfd; 16]);
}

#[test]
fn more_extension_headers_than_the_bound_end_without_ports() {
    let mut payload = Vec::new();
    for _ in 0..12 {
        payload.extend([protocol::DESTINATION_OPTIONS, 0]);
        payload.extend([0; 6]);
    }
    let (key, _) = parse(&ipv6(protocol::DESTINATION_OPTIONS, &payload)).unwrap();
    assert_eq!((key.protocol, ports(&key)), (protocol::DESTINATION_OPTIONS, (0, 0)));
}

#[test]
fn only_first_fragments_have_ports() {
    let (key, transport) = parse(&ipv4(protocol::UDP, 0, 0x2000, &udp())).unwrap();
    assert_eq!(ports(&key), (53, 12345));
    assert_eq!((transport.part, transport.datagram_id), (Part::First, 0x1234));
    let (key, transport) = parse(&ipv4(protocol::UDP, 0, 0x2001, &udp())).unwrap();
    assert_eq!((key.protocol, ports(&key)), (17, (0, 0)));
    assert_eq!((transport.part, transport.datagram_id), (Part::Later, 0x1234));
    // "Don't fragment" is no fragment.
    assert_eq!(parse(&ipv4(protocol::UDP, 0, 0x4000, &udp())).unwrap().1.part, Part::Whole);
}

#[test]
fn ipv6_fragments() {
    let fragment = |offset: u16| {
        let mut payload = vec![protocol::UDP, 0];
        payload.extend(offset.to_be_bytes());
        payload.extend(0xdead_beef_u32.to_be_bytes());
        payload.extend(udp());
        ipv6(protocol::FRAGMENT, &payload)
    };
    let (key, transport) = parse(&fragment(1)).unwrap();
    assert_eq!(ports(&key), (53, 12345));
    assert_eq!((transport.part, transport.datagram_id), (Part::First, 0xdead_beef));
    let (key, transport) = parse(&fragment(8)).unwrap();
    assert_eq!((key.protocol, ports(&key)), (17, (0, 0)));
    assert_eq!((transport.part, transport.datagram_id), (Part::Later, 0xdead_beef));
}

#[test]
fn what_is_no_ip_header_is_refused() {
    assert_eq!(parse(&[]), Err(NoFlow::Malformed));
    assert_eq!(parse(&ipv4(protocol::UDP, 0, 0, &[])[..19]), Err(NoFlow::Malformed));
    assert_eq!(parse(&ipv6(protocol::UDP, &[])[..39]), Err(NoFlow::Malformed));
    let mut short_header = ipv4(protocol::UDP, 0, 0, &udp());
    short_header[0] = 0x44;
    assert_eq!(parse(&short_header), Err(NoFlow::Malformed));
    let mut version_7 = ipv4(protocol::UDP, 0, 0, &udp());
    version_7[0] = 0x75;
    assert_eq!(parse(&version_7), Err(NoFlow::NotIp));
}

#[test]
fn a_cut_transport_header_leaves_the_addresses() {
    let packet = ipv4(protocol::TCP, 0, 0, &tcp(0));
    let (key, transport) = parse(&packet[..30]).unwrap();
    assert!(transport.truncated);
    assert_eq!((key.protocol, ports(&key)), (6, (0, 0)));
    assert_eq!(key.destination_addr[12..], [10, 0, 0, 2]);
}

fn frame(tags: &[(u16, u16)], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xaa; 12];
    for (kind, id) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(id.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(packet);
    frame
}

#[test]
fn vlan_and_qinq() {
    let packet = ipv4(protocol::UDP, 0, 0, &udp());
    let ids = |frame: &[u8], offloaded| {
        let link = parse_ethernet(frame, offloaded).unwrap();
        let (key, _) = parse_at(frame, link).unwrap();
        assert_eq!(ports(&key), (53, 12345));
        (link.header_len, key.vlan, key.inner_vlan)
    };
    assert_eq!(ids(&frame(&[], 0x0800, &packet), None), (14, 0, 0));
    assert_eq!(ids(&frame(&[(0x8100, 0x6064)], 0x0800, &packet), None), (18, 100, 0));
    let qinq = frame(&[(0x88a8, 200), (0x8100, 100)], 0x0800, &packet);
    assert_eq!(ids(&qinq, None), (22, 200, 100));
    // The device took the outer tag off.
    assert_eq!(ids(&frame(&[], 0x0800, &packet), Some(0x6064)), (14, 100, 0));
    assert_eq!(ids(&frame(&[(0x8100, 100)], 0x0800, &packet), Some(200)), (18, 200, 100));
}

#[test]
fn other_frames_are_not_ip() {
    assert_eq!(parse_ethernet(&frame(&[], 0x0806, &[0; 28])[..], None), Err(NoFlow::NotIp));
    assert_eq!(parse_ethernet(&[0; 13][..], None), Err(NoFlow::Malformed));
    let cut = frame(&[(0x8100, 1)], 0x0800, &[]);
    assert_eq!(parse_ethernet(&cut[..15], None), Err(NoFlow::Malformed));
    let three_tags = frame(&[(0x8100, 1); 3], 0x0800, &[]);
    assert_eq!(parse_ethernet(&three_tags[..], None), Err(NoFlow::NotIp));
}

proptest! {
    /// Any bytes: no panic, and what comes out was in the packet.
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), vlan: Option<u16>) {
        if let Ok(link) = parse_ethernet(&bytes[..], vlan) {
            prop_assert!(link.header_len as usize <= bytes.len());
            let _ = parse_at(&bytes, link);
        }
        if let Ok((key, transport)) = parse(&bytes) {
            prop_assert_eq!(key.protocol, transport.protocol);
            prop_assert_eq!((key.ifindex, key.cgroup_id), (7, 9));
        }
    }

    /// A packet cut anywhere either gives the same addresses or nothing.
    #[test]
    fn cutting_changes_no_address(cut in 0_usize..100, options in 0_usize..10, flags: u8) {
        let packet = ipv4(protocol::TCP, options * 4, 0, &tcp(flags));
        let (whole, _) = parse(&packet).unwrap();
        if let Ok((key, transport)) = parse(&packet[..cut.min(packet.len())]) {
            prop_assert_eq!(key.source_addr, whole.source_addr);
            prop_assert!(transport.truncated || ports(&key) == ports(&whole));
        }
    }

    /// Spreading loses nothing.
    #[test]
    fn flags_fold_back(flags: u8, more: u8) {
        use crate::flow::{fold_tcp_flags, spread_tcp_flags};
        prop_assert_eq!(fold_tcp_flags(spread_tcp_flags(flags)), flags);
        let both = spread_tcp_flags(flags) | spread_tcp_flags(more);
        prop_assert_eq!(fold_tcp_flags(both), flags | more);
    }
}
