//! Nothing is lost silently: counted and lost come to what there was, to the byte, however fast it
//! comes and however small the tables are. All the while the tables are drained.

use std::{
    net::{SocketAddr, UdpSocket},
    thread::JoinHandle,
    time::Duration,
};

use orb8_agent::ebpf::FlowOptions;
use orb8_common::{
    flow::{Counter, DIRECTION_EGRESS, FlowKey},
    packet::protocol,
};

use super::support::{
    Lab,
    engine::{DEFAULTS, Engine, TCX, has},
    netns::{CLIENT4, CLIENT6, Counted, SERVER4, SERVER6, VERSIONS, VETH},
    reference::Reference,
    scaled, scaled_time,
    traffic::{Flood, flood, headers, tcp_request, tcp_server, tcp_transfer},
};

/// Payload of floods, bytes.
const SIZE: usize = 64;

/// How long floods last.
const TIME: Duration = Duration::from_secs(2);

/// Two threads that send until the time is over.
fn two_floods(lab: &Lab, flows: u16, connected: bool) -> Vec<JoinHandle<u64>> {
    [(CLIENT4, SERVER4), (CLIENT6, SERVER6)]
        .map(|(client, server)| {
            let flood_of = Flood { client, server, flows, connected, size: SIZE };
            let time = scaled_time(TIME);
            lab.pair.client.spawn(move || flood(flood_of, time))
        })
        .into()
}

/// Drains until the threads are done. Returns what they sent.
fn drain_until_done(engine: &mut Engine, floods: Vec<JoinHandle<u64>>) -> u64 {
    engine.read_while(Duration::from_millis(1), || floods.iter().any(|flood| !flood.is_finished()));
    floods.into_iter().map(|flood| flood.join().expect("a flood")).sum()
}

fn is_flood(key: &FlowKey) -> bool {
    key.protocol == protocol::UDP && key.direction == DIRECTION_EGRESS
}

#[test]
fn everything_that_leaves_an_interface() {
    let lab = Lab::new();
    let namespace = &lab.pair.client;
    let mut engine = Engine::on_interface(namespace, VETH, &DEFAULTS);
    let before = engine.unaccounted(namespace, VETH);
    let dropped_before = namespace.interface_counters(VETH).dropped_when_sending;
    let sent = drain_until_done(&mut engine, two_floods(&lab, 4096, false));
    assert_eq!(engine.seen.sum(is_flood).packets, sent);
    assert_eq!(engine.counters().lost(), Counted::default());
    assert_eq!(engine.counters().of(Counter::OverflowPackets), 0);
    let counters = engine.at_rest(namespace, VETH);
    let seen = (counters.sent + counters.received).packets;
    // What the peer had no room for went through the hook, and is not in the interface's bytes.
    let dropped = counters.dropped_when_sending - dropped_before;
    assert_eq!(engine.accounted().packets + before.packets, seen + dropped);
    if dropped == 0 {
        assert_eq!(engine.unaccounted(namespace, VETH), before);
    }
}

#[test]
fn everything_that_enters_an_interface() {
    let lab = Lab::new();
    let namespace = &lab.pair.server;
    let mut engine = Engine::on_interface(namespace, VETH, &DEFAULTS);
    let before = engine.unaccounted(namespace, VETH);
    let sent = drain_until_done(&mut engine, two_floods(&lab, 4096, false));
    assert!(sent > scaled(10_000), "{sent} packets are no load");
    assert_eq!(engine.unaccounted(namespace, VETH), before);
    assert_eq!(engine.counters().lost(), Counted::default());
    assert_eq!(engine.counters().of(Counter::OverflowPackets), 0);
}

/// More flows than the table holds, and a ring that is full in no time.
#[test]
fn full_tables_lose_by_count() {
    let lab = Lab::new();
    let namespace = &lab.pair.server;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let page = page.expect("a limit").expect("a page size");
    let options = FlowOptions { table_size: 1024, ring_size: page as u32, ..DEFAULTS };
    let mut engine = Engine::on_interface(namespace, VETH, &options);
    let before = engine.unaccounted(namespace, VETH);
    let floods = two_floods(&lab, 8192, false);
    drain_until_done(&mut engine, floods);
    let counters = engine.counters();
    assert!(engine.seen.overflowed > 0, "nothing overflowed");
    assert_eq!(counters.of(Counter::OverflowPackets), engine.seen.overflowed);
    assert!(counters.lost().packets > 0, "nothing was lost");
    assert!(counters.of(Counter::LostMoments) > 0, "no moment was lost");
    assert!(engine.seen.pressed > 0, "nobody asked for a drain");
    assert_eq!(engine.unaccounted(namespace, VETH), before);
}

#[test]
fn many_flows_of_one_socket() {
    let lab = Lab::new();
    let reference = Reference::on_sockets(&lab.cgroup.open());
    let mut engine = Engine::on_sockets(&lab.cgroup, &DEFAULTS);
    let before = engine.missing(&reference);
    let sent = drain_until_done(&mut engine, two_floods(&lab, 4096, false));
    assert_eq!(engine.missing(&reference), before);
    assert_eq!(engine.seen.sum(is_flood).packets, sent);
    assert_eq!(engine.counters().lost(), Counted::default());
}

#[test]
fn full_tables_at_the_socket_hook() {
    let lab = Lab::new();
    let reference = Reference::on_sockets(&lab.cgroup.open());
    let options = FlowOptions { table_size: 1024, ring_size: 65536, ..DEFAULTS };
    let mut engine = Engine::on_sockets(&lab.cgroup, &options);
    let before = engine.missing(&reference);
    drain_until_done(&mut engine, two_floods(&lab, 8192, false));
    assert!(engine.seen.overflowed > 0, "nothing overflowed");
    assert!(engine.counters().lost().packets > 0, "nothing was lost");
    assert_eq!(engine.missing(&reference), before);
}

#[test]
fn connected_udp_sockets() {
    let lab = Lab::new();
    let sink = lab.pair.server.run(|| VERSIONS.map(|(_, server)| UdpSocket::bind((server, 9))));
    let reference = Reference::on_sockets(&lab.cgroup.open());
    let mut engine = Engine::on_sockets(&lab.cgroup, &DEFAULTS);
    let before = engine.missing(&reference);
    let sent = drain_until_done(&mut engine, two_floods(&lab, 64, true));
    assert_eq!(engine.missing(&reference), before);
    let counted = engine.seen.sum(is_flood);
    assert_eq!(counted.packets, sent);
    assert_eq!(engine.counters().lost(), Counted::default());
    if engine.object.socket_storage() {
        // Not all of them, where a machine is too slow to send enough between two drains.
        assert!(!engine.seen.sockets.is_empty(), "no socket had a record of its own");
    }
    for socket in sink {
        drop(socket.expect("a sink"));
    }
}

#[test]
fn bulk_tcp_at_the_socket_hook() {
    let lab = Lab::new();
    let reference = Reference::on_sockets(&lab.cgroup.open());
    let mut engine = Engine::on_sockets(&lab.cgroup, &DEFAULTS);
    let before = engine.missing(&reference);
    let size = scaled(100_000_000);
    std::thread::scope(|scope| {
        let transfers: Vec<_> = VERSIONS
            .map(|addresses| {
                let pair = &lab.pair;
                scope.spawn(move || tcp_transfer(pair, addresses, size, 1_000_000))
            })
            .into();
        let going_on = || transfers.iter().any(|transfer| !transfer.is_finished());
        engine.read_while(Duration::from_millis(1), going_on);
    });
    assert_eq!(engine.missing(&reference), before);
    assert_eq!(engine.counters().lost(), Counted::default());
    assert!(engine.seen.total().bytes > 4 * size, "both ends of both transfers");
}

/// A GSO packet is many wire packets.
#[test]
fn bulk_tcp_at_the_interface_hook() {
    let lab = Lab::new();
    let namespace = &lab.pair.client;
    let reference = Reference::on_interface(namespace, VETH, has(TCX));
    let mut engine = Engine::on_interface(namespace, VETH, &DEFAULTS);
    let size = scaled(100_000_000);
    for (client, server) in VERSIONS {
        let before = engine.missing(&reference);
        let interface_before = namespace.interface_counters(VETH);
        let (wire_before, seen_before) = (reference.egress(), engine.seen.total());
        tcp_transfer(&lab.pair, (client, server), size, 0);
        // The reference counts packets as the engine does, and link headers too.
        assert_eq!(engine.missing(&reference).packets, before.packets);
        let interface = namespace.interface_counters(VETH);

        let frames = (interface.sent - interface_before.sent).packets;
        let wire = (reference.egress() - wire_before).packets;
        assert!(wire > 2 * frames, "no GSO: {wire} packets in {frames} frames");
        let payload = 1500 - headers(server) - 24;
        assert!(wire >= size / (payload + 12), "{wire} packets carry {size} bytes");
        assert!(wire <= size / payload * 11 / 10 + 100, "{wire} packets carry {size} bytes");

        let counted = engine.seen.total() - seen_before;
        let all = interface.sent + interface.received
            - (interface_before.sent + interface_before.received);
        let in_no_flow = all.without_ethernet().bytes - counted.bytes;
        // ARP; everything else is a flow.
        assert!(in_no_flow <= 4 * 28, "{in_no_flow} bytes are in no flow");
    }
}

/// Connections too short for a record of their own, and others that get one just before they end.
#[test]
fn short_tcp_connections() {
    let lab = Lab::new();
    let reference = Reference::on_sockets(&lab.cgroup.open());
    let mut engine = Engine::on_sockets(&lab.cgroup, &DEFAULTS);
    let before = engine.missing(&reference);
    let connections = scaled(400);
    let clients: Vec<_> = [(SERVER4, 100), (SERVER6, 20_000), (SERVER4, 40_000)]
        .into_iter()
        .map(|(address, size)| {
            let (port, server) =
                tcp_server(&lab.pair.server, address, connections, size as usize / 2);
            let to = SocketAddr::new(address, port);
            lab.pair.client.spawn(move || {
                for _ in 0..connections {
                    tcp_request(to, size);
                }
                server.join().expect("the server")
            })
        })
        .collect();
    let carried = drain_until_done(&mut engine, clients);
    assert_eq!(carried, connections * (100 + 20_000 + 40_000));
    assert_eq!(engine.missing(&reference), before);
    assert_eq!(engine.counters().lost(), Counted::default());
    if engine.object.socket_storage() {
        assert!(!engine.seen.sockets.is_empty(), "no socket had a record of its own");
    }
}
