//! What stands behind translated addresses, asked of the kernel: a node that forwards for two pods.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    path::Path,
    time::Instant,
};

use caps::{CapSet, Capability};
use orb8_agent::{
    conntrack::{Conntrack, ConntrackError, Translations, Tuple, Wanted},
    event::SocketEnd,
};
use orb8_common::packet::protocol;

use super::support::{PATIENCE, netns::Netns, nft::translate, skip, tcp::set, turn};

/// A client and a server, and the node between them.
struct Node {
    host: Netns,
    client: Netns,
    server: Netns,
}

/// By IP version: the client's address, the Service's, the server's.
const VERSIONS: [[&str; 3]; 2] =
    [["10.244.1.2", "10.96.0.10", "10.244.2.2"], ["fd44:1::2", "fd96::10", "fd44:2::2"]];

/// The Service's port, and the server's.
const PORTS: [u16; 2] = [80, 8080];

/// What leaves for the Service goes to the server.
const SERVICE: [&str; 6] = [
    "add chain ip t pre { type nat hook prerouting priority -100; }",
    "add rule ip t pre ip daddr 10.96.0.10 tcp dport 80 dnat to 10.244.2.2:8080",
    "add rule ip t pre ip daddr 10.96.0.10 udp dport 80 dnat to 10.244.2.2:8080",
    "add chain ip6 t pre { type nat hook prerouting priority -100; }",
    "add rule ip6 t pre ip6 daddr fd96::10 tcp dport 80 dnat to [fd44:2::2]:8080",
    "add rule ip6 t pre ip6 daddr fd96::10 udp dport 80 dnat to [fd44:2::2]:8080",
];

/// What the server sees comes from the node.
const MASQUERADE: [&str; 4] = [
    "add chain ip t post { type nat hook postrouting priority 100; }",
    "add rule ip t post oifname pod2 masquerade",
    "add chain ip6 t post { type nat hook postrouting priority 100; }",
    "add rule ip6 t post oifname pod2 masquerade",
];

impl Node {
    fn new() -> Self {
        let node = Self { host: Netns::new(), client: Netns::new(), server: Netns::new() };
        for (number, pod) in [(1, &node.client), (2, &node.server)] {
            let outer = format!("pod{number}");
            let ends = [(&node.host, outer.as_str(), 1), (pod, "eth0", 2)];
            let link = |last| format!("02:00:00:00:0{number}:0{last}");
            node.host.link([&outer, &link(1)], pod, ["eth0", &link(2)]);
            for (namespace, interface, last) in ends {
                let other = 3 - last;
                let addresses =
                    |last| [format!("10.244.{number}.{last}"), format!("fd44:{number}::{last}")];
                namespace.ip(&format!("link set {interface} addrgenmode none"));
                namespace.ip(&format!("link set {interface} up"));
                let [v4, v6] = addresses(last);
                namespace.ip(&format!("addr add {v4}/24 dev {interface}"));
                namespace.ip(&format!("addr add {v6}/64 dev {interface} nodad"));
                // Known from the start: packets that wait for an answer may be dropped.
                for neighbour in addresses(other) {
                    namespace.ip(&format!(
                        "neigh add {neighbour} lladdr {} dev {interface}",
                        link(other)
                    ));
                }
            }
            pod.ip(&format!("route add default via 10.244.{number}.1"));
            pod.ip(&format!("route add default via fd44:{number}::1"));
        }
        set(&node.host, "ipv4/ip_forward", "1");
        set(&node.host, "ipv6/conf/all/forwarding", "1");
        node
    }
}

/// A connection to the Service: both ends as the client sees them, and as the server does.
struct Connection {
    client: Tuple,
    server: Tuple,
    /// Still there, so that it stays tracked.
    _open: [OwnedFd; 2],
}

fn tuple(protocol: u8, source: SocketAddr, destination: SocketAddr) -> Tuple {
    Tuple { source: end(source), destination: end(destination), protocol }
}

fn end(address: SocketAddr) -> SocketEnd {
    let addr = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketEnd { addr: addr.octets(), port: address.port() }
}

fn address(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), port)
}

fn connect_tcp(node: &Node, service: SocketAddr, server: SocketAddr) -> io::Result<Connection> {
    let listener = node.server.run(|| TcpListener::bind(server))?;
    let client = node.client.run(|| TcpStream::connect_timeout(&service, PATIENCE))?;
    let (accepted, peer) = listener.accept()?;
    Ok(Connection {
        client: tuple(protocol::TCP, client.local_addr()?, service),
        server: tuple(protocol::TCP, peer, server),
        _open: [client.into(), accepted.into()],
    })
}

fn connect_udp(node: &Node, service: SocketAddr, server: SocketAddr) -> io::Result<Connection> {
    let serving = node.server.run(|| UdpSocket::bind(server))?;
    let client = node.client.run(|| {
        let any = if service.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(service)?;
        io::Result::Ok(socket)
    })?;
    for socket in [&serving, &client] {
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    client.send(b"hello")?;
    let (_, peer) = serving.recv_from(&mut [0; 16])?;
    serving.send_to(b"yes", peer)?;
    client.recv(&mut [0; 16])?;
    Ok(Connection {
        client: tuple(protocol::UDP, client.local_addr()?, service),
        server: tuple(protocol::UDP, peer, server),
        _open: [client.into(), serving.into()],
    })
}

/// A connection of each protocol over each IP version.
fn connections(node: &Node) -> Vec<Connection> {
    let [service_port, server_port] = PORTS;
    let of = |[_, service, server]: [&str; 3]| {
        let (service, server) = (address(service, service_port), address(server, server_port));
        let tcp = connect_tcp(node, service, server).expect("a TCP connection");
        [tcp, connect_udp(node, service, server).expect("an exchange by UDP")]
    };
    VERSIONS.into_iter().flat_map(of).collect()
}

fn wanted(tuple: &Tuple) -> Wanted {
    Wanted { tuple: *tuple, ..Wanted::default() }
}

fn reversed(tuple: &Tuple) -> Tuple {
    Tuple { source: tuple.destination, destination: tuple.source, protocol: tuple.protocol }
}

#[test]
fn the_backend_behind_a_service_is_found() {
    let _turn = turn();
    let node = Node::new();
    if translate(&node.host, &SERVICE).is_none() {
        return;
    }
    let connections = connections(&node);
    node.host.run(|| {
        let mut conntrack = Conntrack::open().expect("connection tracking");
        for Connection { client, server, .. } in &connections {
            assert_eq!(client.source, server.source, "nothing masquerades here");
            let opposite = conntrack.opposite_of(client).expect("an answer");
            assert_eq!(opposite, Some(reversed(server)), "{client:?}");
            // The server's packets are the connection's other direction.
            let opposite = conntrack.opposite_of(&reversed(server)).expect("an answer");
            assert_eq!(opposite, Some(*client), "{server:?}");
            // Nobody sent packets from these ends.
            assert_eq!(conntrack.opposite_of(server).expect("an answer"), None);
            let icmp = Tuple { protocol: protocol::ICMP, ..*client };
            assert_eq!(conntrack.opposite_of(&icmp).expect("an answer"), None);
        }
        let mut translations = Translations::start(Instant::now());
        for Connection { client, server, .. } in &connections {
            let behind =
                translations.opposite(&wanted(client), Instant::now()).map(|back| back.source);
            assert_eq!(behind, Some(server.destination), "{client:?}");
        }
        assert_eq!(translations.problem(), None);
    });
}

#[test]
fn the_client_behind_the_nodes_address_is_found() {
    let _turn = turn();
    let node = Node::new();
    if translate(&node.host, &[&SERVICE[..], &MASQUERADE[..]].concat()).is_none() {
        return;
    }
    let connections = connections(&node);
    node.host.run(|| {
        let mut translations = Translations::start(Instant::now());
        for Connection { client, server, .. } in &connections {
            let node_address = if server.source.addr[..12] == end(address("0.0.0.0", 0)).addr[..12]
            {
                "10.244.2.1"
            } else {
                "fd44:2::1"
            };
            assert_eq!(server.source.addr, end(address(node_address, 0)).addr, "{server:?}");
            let mut behind = |tuple: &Tuple| {
                translations.opposite(&wanted(tuple), Instant::now()).map(|back| back.source)
            };
            assert_eq!(behind(&reversed(server)), Some(client.source), "{server:?}");
            assert_eq!(behind(client), Some(server.destination), "{client:?}");
        }
    });
}

#[test]
fn what_is_not_translated_is_nobody_elses() {
    let _turn = turn();
    let node = Node::new();
    if translate(&node.host, &SERVICE).is_none() {
        return;
    }
    let [_, server_port] = PORTS;
    for [_, _, server] in VERSIONS {
        let server = address(server, server_port);
        let connection = connect_tcp(&node, server, server).expect("a TCP connection");
        node.host.run(|| {
            let mut conntrack = Conntrack::open().expect("connection tracking");
            let opposite = conntrack.opposite_of(&connection.client).expect("an answer");
            assert_eq!(opposite, Some(reversed(&connection.client)), "tracked as it is");
            let mut translations = Translations::start(Instant::now());
            assert_eq!(translations.opposite(&wanted(&connection.client), Instant::now()), None);
        });
        // Another namespace tracks connections of its own.
        node.client.run(|| {
            let mut conntrack = Conntrack::open().expect("connection tracking");
            assert_eq!(conntrack.opposite_of(&connection.client).expect("an answer"), None);
        });
    }
}

#[test]
fn who_may_not_ask_is_told_what_to_do() {
    let _turn = turn();
    let node = Node::new();
    if translate(&node.host, &SERVICE).is_none() {
        return;
    }
    node.host.run(|| {
        // Of this thread alone.
        caps::drop(None, CapSet::Effective, Capability::CAP_NET_ADMIN).expect("fewer capabilities");
        let refused = Conntrack::open().expect_err("no answer");
        assert!(matches!(refused, ConntrackError::NotPermitted(_)), "{refused:?}");
        assert!(refused.to_string().contains("CAP_NET_ADMIN"), "{refused}");
        let mut translations = Translations::start(Instant::now());
        let problem = translations.problem().expect("the reason").to_owned();
        assert!(problem.contains("CAP_NET_ADMIN"), "{problem}");
        let any = tuple(protocol::TCP, address("10.0.0.1", 1), address("10.0.0.2", 2));
        assert_eq!(translations.opposite(&wanted(&any), Instant::now()), None);
    });
}

#[test]
fn asking_loads_no_module() {
    const TRACKED: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
    let _turn = turn();
    if Path::new(TRACKED).exists() {
        return skip("kernel without connection tracking", "nf_conntrack is loaded already");
    }
    let refused = Conntrack::open().expect_err("nobody to ask");
    assert!(matches!(refused, ConntrackError::Absent), "{refused:?}");
    assert!(!Path::new(TRACKED).exists());
}
