//! The packet parser, at both hooks: anyone on the network chooses these bytes.
//!
//! An input's first byte says where the packet is seen, the rest is the packet.

use orb8_common::flow::{FlowKey, HOOK_INTERFACE, HOOK_SOCKET};
use orb8_common::packet::{Link, NoFlow, Part, Place, parse_ethernet, parse_ip};

const ETHERNET: u8 = 1;
const OFFLOADED_VLAN: u8 = 2;

/// `::ffff:0:0/96`
const V4_MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// Parses any packet.
pub fn run(data: &[u8]) {
    let Some((&mode, packet)) = data.split_first() else {
        return;
    };
    let ethernet = mode & ETHERNET != 0;
    let link = if ethernet {
        let offloaded = (mode & OFFLOADED_VLAN != 0).then_some(100);
        match parse_ethernet(packet, offloaded) {
            Ok(link) => link,
            Err(NoFlow::Malformed) => return assert!(packet.len() < 22, "a whole link header"),
            Err(NoFlow::NotIp) => return,
        }
    } else {
        Link::NONE
    };
    assert!(link.header_len as usize <= packet.len(), "{link:?}");
    assert!(link.vlan < 4096 && link.inner_vlan < 4096, "{link:?}");
    parse(packet, link, if ethernet { HOOK_INTERFACE } else { HOOK_SOCKET });
}

fn parse(packet: &[u8], link: Link, hook: u8) {
    let place = Place { direction: 1, hook, ifindex: 7, cgroup_id: 11 };
    let mut key = None;
    let Ok(transport) = parse_ip(packet, link, place, |made| key = Some(made)) else {
        assert_eq!(key, None, "a key without success");
        return;
    };
    let key: FlowKey = key.expect("a key comes with success");
    assert_eq!((key.protocol, key.hook, key.direction), (transport.protocol, hook, 1));
    assert_eq!((key.ifindex, key.cgroup_id), (7, 11));
    assert_eq!((key.vlan, key.inner_vlan), (link.vlan, link.inner_vlan));
    let ports = (key.source_port, key.destination_port);
    assert_eq!(ports, (transport.source_port, transport.destination_port));
    if transport.truncated || transport.part == Part::Later {
        assert_eq!(ports, (0, 0), "ports out of nowhere: {transport:?}");
    }
    if packet[link.header_len as usize] >> 4 == 4 {
        let mapped = |address: [u8; 16]| address.starts_with(&V4_MAPPED);
        assert!(mapped(key.source_addr) && mapped(key.destination_addr), "{key:?}");
    }
}

/// Packets of every kind that the parser knows, each as a frame and as a datagram.
pub fn seeds() -> Vec<Vec<u8>> {
    let tcp = [&[0x9c, 0x40, 0x1f, 0x90][..], &[0; 8], &[0x50, 0x12], &[0; 6]].concat();
    let udp = [0x9c, 0x40, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];
    let echo = [8, 0, 0, 0, 0, 1, 0, 1];
    let options = ipv4(0x46, 17, 0, &[&[1, 1, 1, 0], &udp[..]].concat());
    let datagrams = [
        ipv4(0x45, 6, 0, &tcp),
        ipv4(0x45, 17, 0, &udp),
        ipv4(0x45, 1, 0, &echo),
        ipv4(0x45, 132, 0, &udp),
        ipv4(0x45, 47, 0, &[]),
        ipv4(0x45, 17, 0x2000, &udp),
        ipv4(0x45, 17, 0x00b9, &udp),
        options,
        ipv6(6, &tcp),
        ipv6(17, &udp),
        ipv6(58, &echo),
        ipv6(0, &[&[60, 0, 1, 4, 0, 0, 0, 0], &[17, 0, 1, 4, 0, 0, 0, 0], &udp[..]].concat()),
        ipv6(44, &[&[17, 0, 0, 1, 0, 0, 0, 9], &udp[..]].concat()),
        ipv6(44, &[&[17, 0, 1, 0, 0, 0, 0, 9], &udp[..]].concat()),
        ipv6(51, &[&[6, 4, 0, 0][..], &[0; 20], &tcp].concat()),
        ipv6(43, &[&[43, 0, 4, 0, 0, 0, 0, 0].repeat(9), &udp[..]].concat()),
    ];
    datagrams.iter().flat_map(|datagram| frames(datagram)).collect()
}

/// The datagram alone, and behind each kind of link header.
fn frames(datagram: &[u8]) -> [Vec<u8>; 4] {
    let ether_type: [u8; 2] = if datagram[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
    let tagged =
        |mode: u8, tags: &[u8]| [&[mode][..], &[0x02; 12], tags, &ether_type, datagram].concat();
    [
        [&[0][..], datagram].concat(),
        tagged(ETHERNET, &[]),
        tagged(ETHERNET | OFFLOADED_VLAN, &[0x81, 0x00, 0, 5]),
        tagged(ETHERNET, &[0x88, 0xa8, 0, 5, 0x81, 0x00, 0, 6]),
    ]
}

fn ipv4(version_ihl: u8, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let total_len = (20 + payload.len()) as u16;
    [
        &[version_ihl, 0][..],
        &total_len.to_be_bytes(),
        &[0, 7],
        &fragment.to_be_bytes(),
        &[64, protocol, 0, 0, 10, 1, 0, 9, 10, 2, 0, 7],
        payload,
    ]
    .concat()
}

fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let payload_len = (payload.len() as u16).to_be_bytes();
    let link = [&[0x60, 0, 0, 0][..], &payload_len, &[next_header, 64]].concat();
    [&link[..], &[0xfd; 16], &[0xfe; 16], payload].concat()
}
