//! What only an interface shows: tags, fragments, frames that are not what they should be.

use std::ops::ControlFlow;

use orb8_common::{
    flow::{Counter, DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey, KEY_FRAGMENT},
    packet::{TCP_ACK, TCP_SYN, protocol},
};

use super::support::{
    Lab,
    engine::{DEFAULTS, Engine},
    eventually,
    frames::{
        self, IPV4, IPV6, Ipv4, PacketSocket, QINQ, VLAN, ethernet, flow4, flow6, ipv6, ports, udp4,
    },
    netns::{Counted, VERSIONS, VETH},
    scaled,
    seen::interface_flow,
    traffic::{Udp, udp_echo},
};

/// A packet socket, and engines where its frames leave and where they arrive.
struct Wire {
    sender: PacketSocket,
    /// Engine, direction at its interface, and the interface.
    ends: [(Engine, u8, u32); 2],
    lab: Lab,
}

impl Wire {
    fn new() -> Self {
        let lab = Lab::new();
        let client = Engine::on_interface(&lab.pair.client, VETH, &DEFAULTS);
        let server = Engine::on_interface(&lab.pair.server, VETH, &DEFAULTS);
        let ends = [
            (client, DIRECTION_EGRESS, lab.pair.client.index(VETH)),
            (server, DIRECTION_INGRESS, lab.pair.server.index(VETH)),
        ];
        Self { sender: PacketSocket::open(&lab.pair.client, VETH), ends, lab }
    }

    /// Waits until both ends counted that flow, and compares.
    fn expect(&mut self, key: FlowKey, expected: Counted) {
        for (engine, direction, ifindex) in &mut self.ends {
            let key = FlowKey { direction: *direction, ifindex: *ifindex, ..key };
            let counted = engine.eventually(&format!("{expected:?} of {key:?}"), |seen| match seen
                .flows
                .get(&key)
            {
                Some(flow) if flow.counted.packets >= expected.packets => {
                    ControlFlow::Break(flow.counted)
                }
                _ => ControlFlow::Continue(()),
            });
            assert_eq!(counted, expected, "{key:?}");
        }
    }

    /// What each end's interface counted and its engine did not.
    fn unaccounted(&mut self) -> [Counted; 2] {
        let [(client, ..), (server, ..)] = &mut self.ends;
        let pair = &self.lab.pair;
        [client.unaccounted(&pair.client, VETH), server.unaccounted(&pair.server, VETH)]
    }

    /// Waits until both ends' counters of what is in no flow come to this, and compares.
    fn expect_counters(&mut self, [packets, bytes]: [Counter; 2], expected: Counted) {
        for (engine, ..) in &mut self.ends {
            let counted = eventually(&format!("{expected:?} of {packets:?}"), || {
                let counted = engine.counters().pair(packets, bytes);
                (counted.packets >= expected.packets).then_some(counted)
            });
            assert_eq!(counted, expected, "{packets:?}");
        }
    }
}

fn frame(tags: &[(u16, u16)], packet: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(tags, if packet[0] >> 4 == 6 { IPV6 } else { IPV4 });
    frame.extend(packet);
    frame
}

#[test]
fn vlan_tags() {
    /// Before 802.1ad, the outer tag's type.
    const QINQ_OLD: u16 = 0x9100;
    let mut wire = Wire::new();
    let size = 200;
    /// Tags from the outermost (kind, id), then the ids that the key has to have.
    type Tagged<'a> = (&'a [(u16, u16)], u16, u16);
    let tagged: [Tagged; 4] = [
        (&[(VLAN, 5)], 5, 0),
        (&[(QINQ, 7), (VLAN, 6)], 7, 6),
        (&[(QINQ_OLD, 9), (VLAN, 8)], 9, 8),
        // The upper bits are priority.
        (&[(VLAN, 0xe00a), (VLAN, 0x100b)], 10, 11),
    ];
    for (tags, vlan, inner_vlan) in tagged {
        wire.sender.send(&frame(tags, &udp4().packet(&ports(1000, 2000, size))));
        wire.sender.send(&frame(tags, &ipv6(protocol::UDP, &ports(1000, 2000, size))));
        let key = FlowKey { vlan, inner_vlan, ..flow4(protocol::UDP, 1000, 2000) };
        wire.expect(key, Counted::new(1, 28 + size as u64));
        let key = FlowKey { vlan, inner_vlan, ..flow6(protocol::UDP, 1000, 2000) };
        wire.expect(key, Counted::new(1, 48 + size as u64));
    }
}

#[test]
fn headers_between_addresses_and_ports() {
    let mut wire = Wire::new();
    // Router alert, then the end of options.
    let options = vec![148, 4, 0, 0, 0, 0, 0, 0];
    let packet = Ipv4 { options, ..udp4() }.packet(&ports(1, 2, 100));
    wire.sender.send(&frame(&[], &packet));
    wire.expect(flow4(protocol::UDP, 1, 2), Counted::new(1, 136));

    // Hop-by-hop options, routing, destination options; TCP behind them.
    let mut payload = vec![protocol::ROUTING, 0, 1, 4, 0, 0, 0, 0];
    payload.extend([protocol::DESTINATION_OPTIONS, 0, 4, 0, 0, 0, 0, 0]);
    payload.extend([protocol::TCP, 1, 1, 12]);
    payload.extend([0; 12]);
    payload.extend(frames::tcp(3, 4, TCP_SYN | TCP_ACK, 50));
    let packet = ipv6(protocol::HOP_BY_HOP, &payload);
    wire.sender.send(&frame(&[], &packet));
    wire.expect(flow6(protocol::TCP, 3, 4), Counted::new(1, packet.len() as u64));

    let packet = Ipv4 { protocol: protocol::SCTP, ..Ipv4::default() }.packet(&ports(5, 6, 60));
    wire.sender.send(&frame(&[], &packet));
    wire.expect(flow4(protocol::SCTP, 5, 6), Counted::new(1, 88));
    wire.sender.send(&frame(&[], &ipv6(protocol::SCTP, &ports(5, 6, 60))));
    wire.expect(flow6(protocol::SCTP, 5, 6), Counted::new(1, 108));

    // A protocol without ports is a flow of its addresses.
    const GRE: u8 = 47;
    let packet = Ipv4 { protocol: GRE, ..Ipv4::default() }.packet(&[0; 80]);
    wire.sender.send(&frame(&[], &packet));
    wire.expect(flow4(GRE, 0, 0), Counted::new(1, 100));

    for (engine, direction, ifindex) in &wire.ends {
        let key = flow6(protocol::TCP, 3, 4);
        let flow = engine.seen.flow(&FlowKey { direction: *direction, ifindex: *ifindex, ..key });
        assert_eq!(flow.tcp_flags, TCP_SYN | TCP_ACK);
    }
}

#[test]
fn headers_outside_the_linear_part() {
    let mut wire = Wire::new();
    for namespace in [&wire.lab.pair.client, &wire.lab.pair.server] {
        namespace.ip(&format!("link set {VETH} mtu 9000"));
    }
    // Large enough that the kernel does not make it one piece.
    let size = 6000;
    wire.sender.send_linear(&frame(&[], &udp4().packet(&ports(10, 20, size))), 14);
    wire.expect(flow4(protocol::UDP, 10, 20), Counted::new(1, 28 + size as u64));
    let packet = ipv6(protocol::TCP, &frames::tcp(30, 40, TCP_SYN, size));
    wire.sender.send_linear(&frame(&[(VLAN, 3)], &packet), 18 + 40);
    let key = FlowKey { vlan: 3, ..flow6(protocol::TCP, 30, 40) };
    wire.expect(key, Counted::new(1, 60 + size as u64));
}

#[test]
fn fragments_of_a_datagram_are_one_flow() {
    let mut wire = Wire::new();
    for addresses in VERSIONS {
        let ends = udp_echo(&wire.lab.pair, addresses, Udp::Unconnected, 5, 4000);
        // Three fragments, each with headers of its own.
        let headers = if ends.server.is_ipv4() { 20 } else { 48 };
        let expected = Counted::new(15, 5 * (4008 + 3 * headers));
        let key = interface_flow(0, 0, protocol::UDP, ends.client, ends.server);
        wire.expect(key, expected);
        for (engine, direction, ifindex) in &mut wire.ends {
            let direction = 1 - *direction;
            let key = FlowKey { source_addr: key.destination_addr, ..key };
            let key = FlowKey {
                destination_addr: interface_flow(0, 0, 0, ends.client, ends.client).source_addr,
                source_port: ends.server.port(),
                destination_port: ends.client.port(),
                direction,
                ifindex: *ifindex,
                ..key
            };
            engine.read();
            assert_eq!(engine.seen.flow(&key).counted, expected, "the answers");
        }
    }
    for (engine, ..) in &wire.ends {
        let orphans = engine.seen.sum(|key| key.flags & KEY_FRAGMENT != 0);
        assert_eq!(orphans, Counted::default());
    }
}

#[test]
fn a_fragment_whose_first_is_unknown() {
    let mut wire = Wire::new();
    let last = Ipv4 { id: 77, fragment: 185, ..udp4() }.packet(&[0; 100]);
    wire.sender.send(&frame(&[], &last));
    let orphan = FlowKey { flags: KEY_FRAGMENT, ..flow4(protocol::UDP, 0, 0) };
    wire.expect(orphan, Counted::new(1, 120));

    // The same datagram's first fragment comes late; what follows it is known.
    let first = Ipv4 { id: 77, fragment: 0x2000, ..udp4() }.packet(&ports(1, 2, 64));
    wire.sender.send(&frame(&[], &first));
    wire.sender.send(&frame(&[], &last));
    wire.expect(flow4(protocol::UDP, 1, 2), Counted::new(2, 92 + 120));

    // Another datagram's is not.
    let other = Ipv4 { id: 78, fragment: 185, ..udp4() }.packet(&[0; 100]);
    wire.sender.send(&frame(&[], &other));
    wire.expect(orphan, Counted::new(2, 240));

    let mut fragment = vec![protocol::UDP, 0];
    fragment.extend(1480_u16.to_be_bytes());
    fragment.extend(99_u32.to_be_bytes());
    fragment.extend([0; 90]);
    wire.sender.send(&frame(&[], &ipv6(protocol::FRAGMENT, &fragment)));
    let orphan = FlowKey { flags: KEY_FRAGMENT, ..flow6(protocol::UDP, 0, 0) };
    wire.expect(orphan, Counted::new(1, 138));
}

#[test]
fn padding_is_not_counted() {
    let mut wire = Wire::new();
    for tags in [&[][..], &[(VLAN, 4)][..]] {
        let mut short = frame(tags, &udp4().packet(&ports(1, 2, 1)));
        short.resize(60 + tags.len() * 4, 0);
        wire.sender.send(&short);
        let vlan = if tags.is_empty() { 0 } else { 4 };
        wire.expect(FlowKey { vlan, ..flow4(protocol::UDP, 1, 2) }, Counted::new(1, 29));
    }
}

#[test]
fn what_is_not_ip_is_told_from_flows() {
    const ARP: u16 = 0x0806;
    const LLDP: u16 = 0x88cc;
    let mut wire = Wire::new();
    let mut bytes = 0;
    for (ethertype, size) in [(ARP, 46), (LLDP, 300), (0x1234, 1500)] {
        let mut frame = ethernet(&[], ethertype);
        frame.resize(14 + size, 7);
        wire.sender.send(&frame);
        bytes += size as u64;
    }
    // An IP ethertype does not make it IP.
    let mut frame = ethernet(&[], IPV4);
    frame.resize(14 + 200, 0x70);
    wire.sender.send(&frame);
    let other = [Counter::OtherPackets, Counter::OtherBytes];
    wire.expect_counters(other, Counted::new(4, bytes + 200));
    for (engine, ..) in &mut wire.ends {
        engine.read();
        // The namespaces themselves may still report what multicast groups they are in.
        let counted = engine.seen.sum(|key| key.protocol != protocol::ICMPV6);
        assert_eq!(counted, Counted::default(), "{:?}", engine.seen.flows);
    }
}

#[test]
fn malformed_packets_are_counted() {
    let mut wire = Wire::new();
    let whole = udp4().packet(&ports(1, 2, 100));
    let mut short_header = whole.clone();
    short_header[0] = 0x44;
    let malformed = [
        whole[..10].to_vec(),
        whole[..19].to_vec(),
        short_header,
        ipv6(protocol::UDP, &[0; 10])[..39].to_vec(),
    ];
    let mut expected = Counted::default();
    for packet in &malformed {
        wire.sender.send(&frame(&[], packet));
        expected += Counted::new(1, packet.len() as u64);
    }
    // Bytes behind the link header, where there are hardly any.
    wire.sender.send(&frame(&[], &[0x45]));
    wire.sender.send(&frame(&[], &[0x60, 0, 0]));
    expected += Counted::new(2, 4);
    wire.expect_counters([Counter::MalformedPackets, Counter::MalformedBytes], expected);

    // Addresses, but no whole transport header: a flow without ports.
    let cut = Ipv4 { protocol: protocol::TCP, ..Ipv4::default() };
    let cut = cut.packet(&frames::tcp(1, 2, TCP_SYN, 0)[..12]);
    // Long enough not to be taken for padding.
    wire.sender.send(&frame(&[], &cut));
    wire.expect(flow4(protocol::TCP, 0, 0), Counted::new(1, 32));
}

/// Whatever comes, every byte is accounted for and nothing breaks.
#[test]
fn garbage() {
    let mut wire = Wire::new();
    let before = wire.unaccounted();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let types = [IPV4, IPV6, VLAN, QINQ];
    let mut tagged = 0;
    for _ in 0..scaled(2000) {
        let ethertype = types[next() as usize % types.len()];
        tagged += u64::from(matches!(ethertype, VLAN | QINQ));
        let mut frame = ethernet(&[], ethertype);
        // Longer than what could be padded, so that every byte counts.
        let size = 60 + next() as usize % 200;
        frame.extend((0..size).map(|_| next() as u8));
        // Half of them get far into the parser.
        match (ethertype, next() % 2) {
            (IPV4, 0) => frame[14] = 0x45 + (next() % 11) as u8,
            (IPV6, 0) => frame[14] = 0x60,
            // Tags would make the link header longer.
            (VLAN | QINQ, _) => frame[16..18].copy_from_slice(&[0x12, 0x34]),
            _ => {}
        }
        wire.sender.send(&frame);
    }
    let [client, mut server] = before;
    // Where it arrives, the kernel has taken the tag off.
    server.bytes += 4 * tagged;
    assert_eq!(wire.unaccounted(), [client, server]);
}
