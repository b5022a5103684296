//! Each protocol over each IP version, both directions, both hooks: packets and bytes to the last.

use std::{net::SocketAddr, ops::ControlFlow};

use orb8_common::{
    flow::{DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey},
    packet::{TCP_ACK, TCP_FIN, TCP_SYN, protocol},
};

use super::support::{
    Lab,
    engine::{DEFAULTS, Engine, TCX, has},
    netns::{Counted, VERSIONS, VETH},
    reference::Reference,
    scaled,
    seen::{Flow, assert_same_at_both_ends, interface_flow, monotonic_ns, socket_flow},
    traffic::{Ends, Udp, echo_types, headers, ping, tcp_transfer, udp_echo},
};

/// A payload that no other traffic has, above what padding reaches.
const SIZE: usize = 333;

/// Waits for a flow to have that many packets, and checks the rest of it.
fn expect(engine: &mut Engine, key: FlowKey, expected: Counted, started_ns: u64) -> Flow {
    let flow =
        engine.eventually(&format!("{expected:?} of {key:?}"), |seen| match seen.flows.get(&key) {
            Some(flow) if flow.counted.packets >= expected.packets => ControlFlow::Break(*flow),
            _ => ControlFlow::Continue(()),
        });
    assert_eq!(flow.counted, expected, "{key:?}");
    // Ticks are up to 10 ms apart, and on a virtual machine that has to wait for a processor they
    // lag until it gets one.
    const LAG_NS: u64 = 250_000_000;
    let now = monotonic_ns();
    assert!(flow.first_ns <= flow.last_ns, "{flow:?}");
    assert!(flow.first_ns + LAG_NS >= started_ns, "{flow:?} started at {started_ns}");
    assert!(flow.last_ns <= now, "{flow:?} at {now}");
    flow
}

#[test]
fn udp_at_the_socket_hook() {
    let lab = Lab::new();
    let mut engine = Engine::on_sockets(&lab.cgroup, &DEFAULTS);
    let count = scaled(50);
    for how in [Udp::Connected, Udp::Unconnected] {
        for addresses in VERSIONS {
            let started = monotonic_ns();
            let Ends { client, server } = udp_echo(&lab.pair, addresses, how, count, SIZE);
            let bytes = count * (SIZE as u64 + headers(server.ip()));
            for (source, destination) in [(client, server), (server, client)] {
                for direction in [DIRECTION_EGRESS, DIRECTION_INGRESS] {
                    let key =
                        socket_flow(lab.cgroup.id(), direction, protocol::UDP, source, destination);
                    let flow = expect(&mut engine, key, Counted::new(count, bytes), started);
                    assert_eq!(flow.cgroup_id, lab.cgroup.id());
                    assert_ne!(flow.cookie, 0, "{key:?}");
                }
            }
        }
    }
}

#[test]
fn udp_at_the_interface_hook() {
    let lab = Lab::new();
    let mut engine = Engine::on_interface(&lab.pair.client, VETH, &DEFAULTS);
    let index = lab.pair.client.index(VETH);
    let count = scaled(50);
    for addresses in VERSIONS {
        let started = monotonic_ns();
        let Ends { client, server } = udp_echo(&lab.pair, addresses, Udp::Connected, count, SIZE);
        let bytes = count * (SIZE as u64 + headers(server.ip()));
        for (direction, source, destination) in
            [(DIRECTION_EGRESS, client, server), (DIRECTION_INGRESS, server, client)]
        {
            let key = interface_flow(index, direction, protocol::UDP, source, destination);
            let flow = expect(&mut engine, key, Counted::new(count, bytes), started);
            // The sender's socket is still known where its packet arrives.
            assert_eq!(flow.cgroup_id, lab.cgroup.id(), "{key:?}");
        }
    }
    assert_eq!(engine.counters().lost(), Counted::default());
}

#[test]
fn icmp_echo_at_the_socket_hook() {
    let lab = Lab::new();
    let mut engine = Engine::on_sockets(&lab.cgroup, &DEFAULTS);
    for (client, server) in VERSIONS {
        let started = monotonic_ns();
        ping(&lab.pair, (client, server), 20, SIZE);
        let bytes = 20 * (SIZE as u64 + headers(server));
        let (request, reply) = echo_types(server);
        // The server's kernel answers: only the client has a socket.
        for (direction, kind, source, destination) in [
            (DIRECTION_EGRESS, request, client, server),
            (DIRECTION_INGRESS, reply, server, client),
        ] {
            let key = socket_flow(
                lab.cgroup.id(),
                direction,
                icmp(server),
                SocketAddr::new(source, kind.into()),
                SocketAddr::new(destination, 0),
            );
            expect(&mut engine, key, Counted::new(20, bytes), started);
        }
    }
}

#[test]
fn icmp_echo_at_the_interface_hook() {
    let lab = Lab::new();
    let mut engine = Engine::on_interface(&lab.pair.server, VETH, &DEFAULTS);
    let index = lab.pair.server.index(VETH);
    for (client, server) in VERSIONS {
        let started = monotonic_ns();
        ping(&lab.pair, (client, server), 20, SIZE);
        let bytes = 20 * (SIZE as u64 + headers(server));
        let (request, reply) = echo_types(server);
        for (direction, kind, source, destination) in [
            (DIRECTION_INGRESS, request, client, server),
            (DIRECTION_EGRESS, reply, server, client),
        ] {
            let key = interface_flow(
                index,
                direction,
                icmp(server),
                SocketAddr::new(source, kind.into()),
                SocketAddr::new(destination, 0),
            );
            expect(&mut engine, key, Counted::new(20, bytes), started);
        }
    }
}

const fn icmp(address: std::net::IpAddr) -> u8 {
    if address.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 }
}

#[test]
fn tcp_at_the_socket_hook() {
    let lab = Lab::new();
    let reference = Reference::on_sockets(&lab.cgroup.open());
    let mut engine = Engine::on_sockets(&lab.cgroup, &DEFAULTS);
    let before = engine.missing(&reference);
    for addresses in VERSIONS {
        let started = monotonic_ns();
        let Ends { client, server } = tcp_transfer(&lab.pair, addresses, 40_000, 30_000);
        assert_eq!(engine.missing(&reference), before, "{addresses:?}");
        for (source, destination) in [(client, server), (server, client)] {
            // Client and server are of one cgroup, so each packet is in two flows.
            let [sent, received] = [DIRECTION_EGRESS, DIRECTION_INGRESS].map(|direction| {
                let key =
                    socket_flow(lab.cgroup.id(), direction, protocol::TCP, source, destination);
                expect_tcp(&mut engine, key, started)
            });
            let by_listener = source == server && server.is_ipv6();
            assert!(sent.tcp_flags & TCP_SYN != 0 || by_listener, "{sent:?}");
            assert_eq!(received.tcp_flags & TCP_SYN, TCP_SYN, "{received:?}");
            assert_same_at_both_ends(&sent, &received);
        }
    }
}

/// Checks a settled flow of a connection that carried tens of thousands of bytes and was closed.
fn expect_tcp(engine: &mut Engine, key: FlowKey, started_ns: u64) -> Flow {
    let counted = engine.seen.flow(&key).counted;
    let flow = expect(engine, key, counted, started_ns);
    assert_eq!(flow.tcp_flags & (TCP_FIN | TCP_ACK), TCP_FIN | TCP_ACK, "{flow:?}");
    assert!(counted.bytes > 30_000 && counted.packets > 15, "{counted:?}");
    flow
}

#[test]
fn tcp_at_the_interface_hook() {
    let lab = Lab::new();
    let namespace = &lab.pair.client;
    let reference = Reference::on_interface(namespace, VETH, has(TCX));
    let mut engine = Engine::on_interface(namespace, VETH, &DEFAULTS);
    let index = namespace.index(VETH);
    let before = engine.missing(&reference).packets;
    for addresses in VERSIONS {
        let (sent, received) = (reference.egress(), reference.ingress());
        let started = monotonic_ns();
        let Ends { client, server } = tcp_transfer(&lab.pair, addresses, 40_000, 30_000);
        assert_eq!(engine.missing(&reference).packets, before, "{addresses:?}");
        for (direction, source, destination, all) in [
            (DIRECTION_EGRESS, client, server, reference.egress() - sent),
            (DIRECTION_INGRESS, server, client, reference.ingress() - received),
        ] {
            let key = interface_flow(index, direction, protocol::TCP, source, destination);
            let Flow { counted, tcp_flags, .. } = expect_tcp(&mut engine, key, started);
            assert_eq!(tcp_flags & TCP_SYN, TCP_SYN);
            // A few questions for addresses are the rest.
            let rest = all.packets - counted.packets;
            assert!(rest <= 8, "{counted:?} of {all:?}");
        }
    }
}
