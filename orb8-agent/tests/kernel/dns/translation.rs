//! Servers that are asked at another address than their own, as a Service's are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use orb8_proto::v1::{DnsExchange, DnsOutcome, DnsSide, Protocol};

use super::config;
use crate::kernel::support::{
    Lab,
    agent::{Agent, in_runtime},
    dns::{A, ask, client, end, query, read_message, write_message},
    name_server::NameServer,
    netns::{CLIENT4, Netns, SERVER4},
    nft::translate,
};

/// An address that no machine has.
const SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));

fn is(id: u16, side: DnsSide) -> impl Fn(&DnsExchange) -> bool {
    move |told| told.id == u32::from(id) && told.side() == side
}

/// Asks by UDP, with and without a connection, and by TCP. Returns the ends of the client's sockets, by
/// the ids of the queries.
fn ask_thrice(namespace: &Netns, server: SocketAddr) -> [(u16, Protocol, SocketAddr); 3] {
    let connected = client(namespace, CLIENT4, server);
    ask(&connected, &query(1, "after-5.test", A));
    let free = namespace.run(|| std::net::UdpSocket::bind((CLIENT4, 0)).expect("a socket"));
    free.set_read_timeout(Some(crate::kernel::support::PATIENCE)).expect("a timeout");
    free.send_to(&query(2, "after-5.test", A), server).expect("asking");
    let (_, from) = free.recv_from(&mut [0; 512]).expect("an answer");
    assert_eq!(from, server);
    let mut stream = namespace.run(|| TcpStream::connect(server)).expect("connecting");
    write_message(&mut stream, &query(3, "after-5.test", A));
    read_message(&mut stream).expect("an answer");
    [
        (1, Protocol::Udp, connected.local_addr().expect("an address")),
        (2, Protocol::Udp, free.local_addr().expect("an address")),
        (3, Protocol::Tcp, stream.local_addr().expect("an address")),
    ]
}

fn assert_answered(told: &DnsExchange, protocol: Protocol, client: SocketAddr, server: SocketAddr) {
    assert_eq!((told.outcome(), told.protocol()), (DnsOutcome::Answered, protocol), "{told:#?}");
    let ends = (end(told.client.as_ref()), end(told.server.as_ref()));
    assert_eq!(ends, (client, server), "{told:#?}");
    assert!(told.latency_ns >= 5_000_000, "{told:#?}");
}

/// What a process of the host asks leaves it with the backend's address, and with another of its own.
#[test]
fn queries_to_a_service_address() {
    let lab = Lab::new();
    let rules = [
        "add chain ip t out { type nat hook output priority -100; }",
        "add rule ip t out ip daddr 10.96.0.10 dnat to 10.88.0.2",
        "add chain ip t post { type nat hook postrouting priority 100; }",
        "add rule ip t post ip daddr 10.88.0.2 udp dport 53 masquerade to :50000-50999 random",
        "add rule ip t post ip daddr 10.88.0.2 tcp dport 53 masquerade to :50000-50999 random",
    ];
    if translate(&lab.pair.client, &rules).is_none() {
        return;
    }
    lab.pair.client.ip("route add 10.96.0.0/16 via 10.88.0.2");
    let server = NameServer::start(&lab.pair.server, (SERVER4, 53).into());
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_dns().await;
        for (id, protocol, own) in ask_thrice(&lab.pair.client, (SERVICE, 53).into()) {
            let told = watch.one("the client's view", is(id, DnsSide::Client)).await;
            assert_answered(&told, protocol, own, (SERVICE, 53).into());
            // The server does not know better.
            let told = watch.one("the server's view", is(id, DnsSide::Server)).await;
            let masked = end(told.client.as_ref());
            assert!(
                masked.ip() == CLIENT4 && (50_000..51_000).contains(&masked.port()),
                "{told:?}"
            );
            assert_answered(&told, protocol, masked, server.address);
        }
        let totals = agent.dns().await.totals.expect("totals");
        assert_eq!((totals.queries, totals.unasked, totals.timeouts), (6, 0, 0), "{totals:?}");
        agent.stop().await;
    });
}

/// What comes to a server of this machine has its own address when the server gets it, and the
/// Service's in the answer as it leaves.
#[test]
fn a_server_behind_a_service_address() {
    let lab = Lab::new();
    let rules = [
        "add chain ip t pre { type nat hook prerouting priority -100; }",
        "add rule ip t pre ip daddr 10.96.0.10 dnat to 10.88.0.2",
    ];
    if translate(&lab.pair.server, &rules).is_none() {
        return;
    }
    lab.pair.client.ip("route add 10.96.0.0/16 via 10.88.0.2");
    let server = NameServer::start(&lab.pair.server, (SERVER4, 53).into());
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_dns().await;
        for (id, protocol, own) in ask_thrice(&lab.pair.client, (SERVICE, 53).into()) {
            let told = watch.one("the server's view", is(id, DnsSide::Server)).await;
            assert_answered(&told, protocol, own, server.address);
            let told = watch.one("the client's view", is(id, DnsSide::Client)).await;
            assert_answered(&told, protocol, own, (SERVICE, 53).into());
        }
        let totals = agent.dns().await.totals.expect("totals");
        assert_eq!((totals.queries, totals.unasked, totals.timeouts), (6, 0, 0), "{totals:?}");
        agent.stop().await;
    });
}

/// As Docker's resolver: no packet that is sent to it has a DNS port, but a connected socket does.
#[test]
fn a_server_on_another_port_than_is_asked() {
    let lab = Lab::new();
    let rules = [
        "add chain ip t out { type nat hook output priority -100; }",
        "add rule ip t out ip daddr 10.96.0.10 udp dport 53 dnat to 10.88.0.2:41053",
        "add rule ip t out ip daddr 10.96.0.10 tcp dport 53 dnat to 10.88.0.2:41053",
    ];
    if translate(&lab.pair.client, &rules).is_none() {
        return;
    }
    lab.pair.client.ip("route add 10.96.0.0/16 via 10.88.0.2");
    let _server = NameServer::start(&lab.pair.server, (SERVER4, 41_053).into());
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_dns().await;
        for (id, protocol, own) in ask_thrice(&lab.pair.client, (SERVICE, 53).into()) {
            // A socket without a connection does not say whom it asks.
            if id != 2 {
                let told = watch.one("the client's view", is(id, DnsSide::Client)).await;
                assert_answered(&told, protocol, own, (SERVICE, 53).into());
            }
        }
        let totals = agent.dns().await.totals.expect("totals");
        assert_eq!((totals.queries, totals.timeouts), (2, 0), "{totals:?}");
        agent.stop().await;
    });
}
