//! The socket hook: whose a packet is, and counting in the sockets' own storage.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    ops::ControlFlow,
    time::Duration,
};

use orb8_agent::ebpf::FlowOptions;
use orb8_common::{
    flow::{DIRECTION_EGRESS, DIRECTION_INGRESS, PROMOTE_PACKETS},
    packet::protocol,
};

use super::support::{
    Lab,
    cgroup::Cgroup,
    engine::{DEFAULTS, Engine, STORAGE},
    netns::{CLIENT4, Counted, Netns, SERVER4, SERVER4_OTHER, VERSIONS},
    reference::Reference,
    roles::{ANSWER, Player},
    scaled,
    seen::{assert_same_at_both_ends, socket_flow},
    skip,
    traffic::{Udp, tcp_transfer, udp_echo},
};

const SIZE: usize = 100;
const UDP4: u64 = 28;

/// A client and a server of two owners: each end's flows bear that end's cgroup.
fn owners(server_namespace: impl Fn(&Lab) -> &Netns, client: IpAddr, server: IpAddr) {
    let lab = Lab::new();
    let [server_owner, client_owner] = ["server", "client"].map(|name| lab.cgroup.child(name));
    let reference = Reference::on_sockets(&lab.cgroup.open());
    let mut engine = Engine::on_sockets(&lab.cgroup, &DEFAULTS);
    let role = format!("tcp-server {server}");
    let mut serving = Player::start(server_namespace(&lab), Some(&server_owner), &role);
    let server = SocketAddr::new(server, serving.hear());
    let role = format!("tcp-client {server}");
    let mut asking = Player::start(&lab.pair.client, Some(&client_owner), &role);
    let client = SocketAddr::new(client, asking.hear());
    asking.finish();
    serving.finish();
    engine.settle(&reference);

    let counted = |owner: &Cgroup, direction, source, destination| {
        let key = socket_flow(owner.id(), direction, protocol::TCP, source, destination);
        let flow = engine.seen.flow(&key);
        assert_eq!(flow.cgroup_id, owner.id());
        flow
    };
    for (owner, peer, source, destination, least) in [
        (&client_owner, &server_owner, client, server, 30_000),
        (&server_owner, &client_owner, server, client, ANSWER as u64),
    ] {
        let sent = counted(owner, DIRECTION_EGRESS, source, destination);
        let received = counted(peer, DIRECTION_INGRESS, source, destination);
        assert_same_at_both_ends(sent, received);
        assert!(sent.counted.bytes > least, "{sent:?}");
    }
    let tcp = engine.seen.flows.keys().filter(|key| key.protocol == protocol::TCP).count();
    assert_eq!(tcp, 4, "{:#?}", engine.seen.flows);
}

#[test]
fn owners_of_both_ends_over_loopback() {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    owners(|lab| &lab.pair.client, loopback, loopback);
}

#[test]
fn owners_of_both_ends_over_veth() {
    for (client, server) in VERSIONS {
        owners(|lab| &lab.pair.server, client, server);
    }
}

/// An engine with storage, or why there is none.
fn with_storage(lab: &Lab, options: &FlowOptions) -> Option<Engine> {
    let engine = Engine::on_sockets(&lab.cgroup, options);
    if !engine.object.socket_storage() {
        skip(STORAGE, "the kernel counts connected sockets in the flow table");
        return None;
    }
    Some(engine)
}

#[test]
fn busy_connected_sockets_get_a_record() {
    let lab = Lab::new();
    let Some(mut engine) = with_storage(&lab, &DEFAULTS) else { return };
    let records = |engine: &mut Engine| {
        engine.read();
        engine.seen.sockets.len()
    };
    // The echo server's sockets are not connected, nor busy enough are these clients.
    udp_echo(&lab.pair, (CLIENT4, SERVER4), Udp::Connected, PROMOTE_PACKETS - 1, SIZE);
    udp_echo(&lab.pair, (CLIENT4, SERVER4), Udp::Unconnected, 5 * PROMOTE_PACKETS, SIZE);
    assert_eq!(records(&mut engine), 0);
    let count = 5 * PROMOTE_PACKETS;
    let ends = udp_echo(&lab.pair, (CLIENT4, SERVER4), Udp::Connected, count, SIZE);
    assert_eq!(records(&mut engine), 1);
    for (direction, source, destination) in [
        (DIRECTION_EGRESS, ends.client, ends.server),
        (DIRECTION_INGRESS, ends.server, ends.client),
    ] {
        let key = socket_flow(lab.cgroup.id(), direction, protocol::UDP, source, destination);
        let expected = Counted::new(count, count * (SIZE as u64 + UDP4));
        assert_eq!(engine.seen.flow(&key).counted, expected);
    }
    tcp_transfer(&lab.pair, (CLIENT4, SERVER4), 1_000_000, 0);
    let both_ends = |engine: &mut Engine| (records(engine) == 3).then_some(());
    super::support::eventually("records of both ends", || both_ends(&mut engine));
}

/// Sends until a drain, sends more, closes: the last packets count too.
#[test]
fn closing_a_busy_socket_loses_nothing() {
    let lab = Lab::new();
    let Some(mut engine) = with_storage(&lab, &DEFAULTS) else { return };
    let sink = lab.pair.server.run(|| UdpSocket::bind((SERVER4, 0))).expect("a sink");
    let server = sink.local_addr().expect("its address");
    let mut sent = 0;
    for round in 0..scaled(200) {
        let packets = PROMOTE_PACKETS + round % 40;
        lab.pair.client.run(|| {
            let socket = connected(server);
            for packet in 0..packets {
                socket.send(&[0; SIZE]).expect("sending");
                if round % 3 == 0 && packet == packets / 2 {
                    engine.read();
                }
            }
        });
        if round % 7 == 0 {
            engine.read();
        }
        sent += packets;
    }
    engine.read();
    let counted = engine.seen.sum(|key| key.destination_port == server.port());
    // At its sender, and at the sink.
    assert_eq!(counted.packets, 2 * sent);
    assert_eq!(counted.bytes, 2 * sent * (SIZE as u64 + UDP4));
}

fn connected(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((CLIENT4, 0)).expect("a client socket");
    socket.connect(server).expect("connecting");
    socket
}

fn send(socket: &UdpSocket, count: u64) {
    for _ in 0..count {
        assert_eq!(socket.send(&[0; SIZE]).expect("sending"), SIZE);
    }
}

/// Sockets that are closed while others send to them and they themselves send.
#[test]
fn sockets_closing_under_load() {
    let lab = Lab::new();
    let reference = Reference::on_sockets(&lab.cgroup.open());
    let Some(mut engine) = with_storage(&lab, &DEFAULTS) else { return };
    let before = engine.missing(&reference);
    let rounds = scaled(400);
    let pairs: Vec<_> = (0..3)
        .map(|pair| {
            lab.pair
                .client
                .spawn(move || (0..rounds).for_each(|round| close_under_load(pair + round)))
        })
        .collect();
    let going_on = || pairs.iter().any(|pair| !pair.is_finished());
    engine.read_while(Duration::from_millis(1), going_on);
    for pair in pairs {
        pair.join().expect("a pair");
    }
    assert_eq!(engine.missing(&reference), before);
    assert_eq!(engine.counters().lost(), Counted::default());
    assert!(!engine.seen.sockets.is_empty(), "no socket had a record of its own");
}

/// Two sockets connected to each other, one closed while the other sends.
fn close_under_load(round: u64) {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let [left, right] = [(), ()].map(|()| UdpSocket::bind((loopback, 0)).expect("a socket"));
    left.connect(right.local_addr().expect("its address")).expect("connecting");
    right.connect(left.local_addr().expect("its address")).expect("connecting");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                // Refused once the other end is closed.
                let _ = left.send(&[0; SIZE]);
            }
        });
        for _ in 0..10 + round % 50 {
            let _ = right.send(&[0; SIZE]);
        }
        drop(right);
    });
}

#[test]
fn a_full_table_of_closed_sockets_overflows_into_the_ring() {
    let lab = Lab::new();
    let options = FlowOptions { table_size: 2048, ..DEFAULTS };
    let Some(mut engine) = with_storage(&lab, &options) else { return };
    let sink = lab.pair.server.run(|| UdpSocket::bind((SERVER4, 0))).expect("a sink");
    let server = sink.local_addr().expect("its address");
    // Fewer flows than the flow table holds, more sockets than the table of closed ones.
    let (sockets, packets) = (900, 2 * PROMOTE_PACKETS);
    lab.pair.client.run(|| {
        for _ in 0..sockets {
            let socket = connected(server);
            send(&socket, packets);
        }
    });
    engine.read();
    assert!(engine.seen.closed_by_ring > 0, "the table of closed sockets was not full");
    let counted = engine.seen.sum(|key| key.direction == DIRECTION_EGRESS);
    assert!(counted.packets >= sockets * packets);
    let counted = engine.seen.sum(|key| key.destination_port == server.port());
    assert_eq!(counted.packets, 2 * sockets * packets);
    assert_eq!(counted.bytes, 2 * sockets * packets * (SIZE as u64 + UDP4));
    assert_eq!(engine.counters().lost(), Counted::default());
}

/// The same totals, whether sockets have records or not.
#[test]
fn without_storage() {
    let lab = Lab::new();
    let reference = Reference::on_sockets(&lab.cgroup.open());
    let mut engine =
        Engine::on_sockets(&lab.cgroup, &FlowOptions { socket_storage: false, ..DEFAULTS });
    assert!(!engine.object.socket_storage());
    let before = engine.missing(&reference);
    for addresses in VERSIONS {
        let ends = udp_echo(&lab.pair, addresses, Udp::Connected, 100, SIZE);
        tcp_transfer(&lab.pair, addresses, 1_000_000, 100_000);
        engine.settle(&reference);
        let key =
            socket_flow(lab.cgroup.id(), DIRECTION_EGRESS, protocol::UDP, ends.client, ends.server);
        assert_eq!(engine.seen.flow(&key).counted.packets, 100);
    }
    assert_eq!(engine.missing(&reference), before);
    assert!(engine.seen.sockets.is_empty());
}

/// A record is for one 5-tuple: what a socket sends elsewhere is of other flows.
#[test]
fn addresses_that_are_not_the_connected_one() {
    let lab = Lab::new();
    let mut engine = Engine::on_sockets(&lab.cgroup, &DEFAULTS);
    let sinks = lab.pair.server.run(|| {
        [SERVER4, SERVER4_OTHER].map(|address| UdpSocket::bind((address, 0)).expect("a sink"))
    });
    let [server, other] = sinks.each_ref().map(|sink| sink.local_addr().expect("its address"));
    let client = lab.pair.client.run(|| {
        let socket = connected(server);
        send(&socket, 20);
        for _ in 0..5 {
            socket.send_to(&[0; SIZE], other).expect("sending elsewhere");
        }
        send(&socket, 1);
        socket.connect(other).expect("connecting elsewhere");
        send(&socket, 30);
        socket.connect(server).expect("connecting back");
        send(&socket, 2);
        engine.read();
        send(&socket, 4);
        socket.local_addr().expect("its address")
    });
    for (destination, count) in [(server, 27), (other, 35)] {
        for direction in [DIRECTION_EGRESS, DIRECTION_INGRESS] {
            let key = socket_flow(lab.cgroup.id(), direction, protocol::UDP, client, destination);
            let flow = engine.eventually("every packet", |seen| match seen.flows.get(&key) {
                Some(flow) if flow.counted.packets >= count => ControlFlow::Break(*flow),
                _ => ControlFlow::Continue(()),
            });
            assert_eq!(flow.counted, Counted::new(count, count * (SIZE as u64 + UDP4)), "{key:?}");
        }
    }
}
