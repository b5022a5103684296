use std::cell::RefCell;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, symlink};

use orb8_k8s::index::{IndexWriter, Source};
use orb8_k8s::wire::{EndpointSliceObject, NodeObject, PodObject, ServiceObject};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::conntrack::Tracking;
use crate::identity::ResolverConfig;

const TCP: u8 = 6;

const WEB: &str = "00000000-0000-4000-8000-000000000001";
const DB: &str = "00000000-0000-4000-8000-000000000002";
const PROXY: &str = "00000000-0000-4000-8000-000000000003";
const EXPORTER: &str = "00000000-0000-4000-8000-000000000004";
/// The API server does not tell of this one.
const UNTOLD: &str = "00000000-0000-4000-8000-000000000005";

/// This node is `here`: 10.0.0.1, and 10.1.0.1 on its bridge. Its pods are 10.1.0.0/24, those of
/// `there` are 10.2.0.0/24, and Services are 10.9.0.0/24.
struct World {
    enrich: Enricher,
    writer: IndexWriter,
    sockets: Known,
    cgroups: TempDir,
    files: TempDir,
    now: Instant,
}

/// Protocol, own end, other end, cgroup.
#[derive(Default)]
struct Known(Vec<(u8, SocketEnd, SocketEnd, u64)>);

impl Sockets for Known {
    fn visit(&self, protocol: u8, end: SocketEnd, other: SocketEnd, visit: &mut dyn FnMut(u64)) {
        let found =
            self.0.iter().filter(|known| (known.0, known.1, known.2) == (protocol, end, other));
        found.for_each(|(.., cgroup_id)| visit(*cgroup_id));
    }
}

thread_local! {
    /// Directions of connections, each with its opposite.
    static TRACKED: RefCell<Vec<(Tuple, Tuple)>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
struct Tracked;

impl Tracking for Tracked {
    fn opposite_of(&mut self, tuple: &Tuple) -> io::Result<Option<Tuple>> {
        let find = |all: &Vec<(Tuple, Tuple)>| {
            let mut both = all.iter().flat_map(|(one, other)| [(one, other), (other, one)]);
            both.find(|(asked, _)| *asked == tuple).map(|(_, opposite)| *opposite)
        };
        Ok(TRACKED.with_borrow(find))
    }
}

impl World {
    fn new() -> Self {
        let [cgroups, files] = [(), ()].map(|()| tempfile::tempdir().unwrap());
        let config = ResolverConfig {
            cgroup_root: Some(cgroups.path().to_owned()),
            files: files.path().to_owned(),
        };
        let addresses = LocalAddresses::default();
        addresses.set(["10.0.0.1", "10.1.0.1", "fd00::1"].map(|ip| ip.parse().unwrap()));
        let mut enrich = Enricher::new(Resolver::new(config), addresses, "here");
        let (index, writer) = Index::new();
        enrich.set_kubernetes(index);
        enrich.set_translations(Translations::new(|| Ok(Box::new(Tracked))));
        TRACKED.take();
        let mut world =
            Self { enrich, writer, sockets: Known::default(), cgroups, files, now: Instant::now() };
        world.fill();
        world
    }

    fn fill(&mut self) {
        for source in [Source::LocalPods, Source::RemotePods, Source::Services, Source::Nodes] {
            self.writer.begin(source);
            self.writer.finish(source);
        }
        for (name, ip) in [("here", "10.0.0.1"), ("there", "10.0.0.2")] {
            let node = json!({"metadata": {"name": name, "uid": name},
                "status": {"addresses": [{"type": "InternalIP", "address": ip}]}});
            self.writer.apply(Source::Nodes, parse::<NodeObject>(node));
        }
        for (uid, name, ip) in [(WEB, "web", "10.1.0.10"), (DB, "db", "10.1.0.11")] {
            self.writer.apply(Source::LocalPods, pod(uid, name, "here", &[ip], false));
        }
        for (uid, name) in [(PROXY, "proxy"), (EXPORTER, "exporter")] {
            self.writer.apply(Source::LocalPods, pod(uid, name, "here", &["10.0.0.1"], true));
        }
        self.writer.apply(Source::RemotePods, pod("cache", "cache", "there", &["10.2.0.5"], false));
        let service = json!({"metadata": {"namespace": "ns", "name": "web", "uid": "web-service"},
            "spec": {"clusterIP": "10.9.0.10", "type": "NodePort",
                     "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}});
        self.writer.apply(Source::Services, parse::<ServiceObject>(service));
    }

    /// Makes a container's cgroup, and returns its id.
    fn container(&self, uid: &str, container: char) -> u64 {
        let id = container.to_string().repeat(64);
        let path = self.cgroups.path().join(format!("kubepods/pod{uid}/{id}"));
        fs::create_dir_all(&path).unwrap();
        fs::metadata(path).unwrap().ino()
    }

    /// Makes one whose process is in the agent's network namespace.
    fn container_of_node(&self, uid: &str, pid: &str) -> u64 {
        let id = self.container(uid, 'e');
        let path = self.cgroups.path().join(format!("kubepods/pod{uid}/{}", "e".repeat(64)));
        fs::write(path.join("cgroup.procs"), format!("{pid}\n")).unwrap();
        for process in ["self", pid] {
            let namespaces = self.files.path().join("proc").join(process).join("ns");
            fs::create_dir_all(&namespaces).unwrap();
            // There for the agent itself from the second time on.
            let _ = symlink("net:[1]", namespaces.join("net"));
        }
        id
    }

    /// Makes the cgroup of something that is no pod's.
    fn service_of_node(&self, name: &str) -> u64 {
        let path = self.cgroups.path().join("system.slice").join(name);
        fs::create_dir_all(&path).unwrap();
        fs::metadata(path).unwrap().ino()
    }

    /// Removes a container's cgroup, and has that known.
    fn remove(&mut self, uid: &str, container: char) {
        let id = container.to_string().repeat(64);
        fs::remove_dir(self.cgroups.path().join(format!("kubepods/pod{uid}/{id}"))).unwrap();
        // What is not known has all cgroups walked.
        self.now += Duration::from_secs(40);
        self.enrich.owner(u64::MAX, self.now);
    }

    fn socket(&mut self, own: &str, other: &str, cgroup_id: u64) {
        self.sockets.0.push((TCP, end(own), end(other), cgroup_id));
    }

    /// Who is at an end that talks to another one, which is not of this node.
    fn at(&mut self, own: &str, other: &str) -> String {
        self.beside(own, other, None)
    }

    /// Who is at an end that talks to a socket of a cgroup.
    fn beside(&mut self, own: &str, other: &str, cgroup_id: Option<u64>) -> String {
        self.told(own, other, cgroup_id, None)
    }

    fn told(
        &mut self,
        own: &str,
        other: &str,
        cgroup_id: Option<u64>,
        role: Option<Role>,
    ) -> String {
        let local = cgroup_id.and_then(|id| self.enrich.owner(id, self.now));
        let (end, other) = (end(own), end(other));
        let seen = Seen { end, other, beside: local.as_deref(), role, ..seen() };
        read(&self.enrich.party(&seen, &self.sockets, self.now))
    }
}

/// Ports are yet to be given.
fn seen<'a>() -> Seen<'a> {
    Seen {
        end: SocketEnd::default(),
        other: SocketEnd::default(),
        protocol: TCP,
        began: UnixNanos(unix_ns()),
        beside: None,
        role: None,
    }
}

fn unix_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}

fn parse<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

fn pod(uid: &str, name: &str, node: &str, ips: &[&str], host_network: bool) -> PodObject {
    let ips: Vec<_> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    parse(json!({
        "metadata": {"namespace": "ns", "name": name, "uid": uid},
        "spec": {"nodeName": node, "hostNetwork": host_network},
        "status": {"phase": "Running", "podIPs": ips},
    }))
}

fn end(text: &str) -> SocketEnd {
    let address: SocketAddr = text.parse().unwrap();
    let addr = match address.ip() {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    };
    SocketEnd { addr, port: address.port() }
}

/// Has a connection tracked: what the client sends, and what the server sends back.
fn track(sent: [&str; 2], answer: [&str; 2]) {
    let tuple = |[source, destination]: [&str; 2]| Tuple {
        source: end(source),
        destination: end(destination),
        protocol: TCP,
    };
    TRACKED.with_borrow_mut(|all| all.push((tuple(sent), tuple(answer))));
}

/// `cgroup:pod`, `ip:pod`, `node:name`, `svc:name > …`, with `at` for an address behind.
fn read(party: &Party) -> String {
    match party {
        Party::Unknown => "-".into(),
        Party::Workload(workload) => {
            format!("cgroup:{}", workload.pod.as_deref().unwrap_or(&workload.cgroup_path))
        }
        Party::Pod(pod) => format!("ip:{}", pod.name),
        Party::Node(node) => format!("node:{}", node.name),
        Party::Front(front) => {
            let address = match &front.address {
                Address::Service(service) => format!("svc:{}", service.service.name),
                Address::Node(node) => format!("node:{}", node.name),
                Address::Own => "own".into(),
            };
            let behind = front.behind.as_ref().map(|Behind { at, party }| {
                let at = at.map(|at| format!(" at {}:{}", ip_of(at.addr), at.port));
                format!(" > {}{}", read(party), at.unwrap_or_default())
            });
            address + &behind.unwrap_or_default()
        }
    }
}

#[test]
fn a_socket_goes_before_an_address() {
    let mut world = World::new();
    let web = world.container(WEB, 'a');
    let [proxy, exporter] =
        [(PROXY, "7"), (EXPORTER, "8")].map(|(uid, pid)| world.container_of_node(uid, pid));
    let (own, other) = ("10.1.0.10:8080", "10.1.0.11:40000");
    assert_eq!(world.at(own, other), "ip:web");
    world.socket(own, other, web);
    assert_eq!(world.at(own, other), "cgroup:web");
    assert_eq!(world.at(own, "10.1.0.11:40001"), "ip:web", "another connection's");
    assert_eq!(world.at("10.2.0.5:6379", other), "ip:cache");
    assert_eq!(world.at("10.0.0.2:22", other), "node:there");
    assert_eq!(world.at("192.0.2.1:443", other), "-");
    // Who answers there answers to everyone, but for a moment after another one did.
    world.enrich.listens(TCP, end("10.0.0.1:9100"), exporter, world.now);
    assert_eq!(world.at("10.0.0.1:9100", other), "cgroup:exporter");
    assert_eq!(world.at("10.0.0.1:9101", other), "node:here", "nobody knows which of its pods");
    world.enrich.listens(TCP, end("10.0.0.1:9100"), proxy, world.now);
    assert_eq!(world.at("10.0.0.1:9100", other), "node:here");
}

/// A server that answers in one network says nothing of the same address in another.
#[test]
fn who_answers_at_an_address_has_to_have_it() {
    let mut world = World::new();
    let (web, db) = (world.container(WEB, 'a'), world.container(DB, 'b'));
    let stranger = world.service_of_node("docker-1");
    for at in ["192.0.2.7:8000", "10.1.0.11:8000", "10.0.0.1:8000", "[fe80::1]:8000"] {
        world.enrich.listens(TCP, end(at), stranger, world.now);
    }
    assert_eq!(world.at("192.0.2.7:8000", "192.0.2.1:40000"), "-");
    assert_eq!(world.at("[fe80::1]:8000", "[fe80::2]:40000"), "-");
    assert_eq!(world.at("10.1.0.11:8000", "10.1.0.10:40000"), "ip:db");
    assert_eq!(
        world.at("10.0.0.1:8000", "10.1.0.10:40000"),
        "node:here",
        "it is in another network"
    );
    world.enrich.listens(TCP, end("10.1.0.11:8001"), db, world.now);
    world.enrich.listens(TCP, end("10.1.0.10:8001"), db, world.now);
    assert_eq!(world.at("10.1.0.11:8001", "10.1.0.10:40000"), "cgroup:db");
    assert_eq!(world.at("10.1.0.10:8001", "10.1.0.11:40000"), "ip:web");
    world.enrich.listens(TCP, end("10.1.0.10:8002"), web, world.now);
    world.remove(WEB, 'a');
    assert_eq!(world.at("10.1.0.10:8002", "10.1.0.11:40000"), "ip:web", "it is gone");
}

#[test]
fn another_networks_socket_does_not_have_a_pods_address() {
    let mut world = World::new();
    let (web, newcomer) = (world.container(WEB, 'a'), world.container(UNTOLD, 'f'));
    let stranger = world.service_of_node("docker-1");
    let (own, other) = ("10.1.0.11:7946", "10.1.0.10:7946");
    for owner in [web, stranger] {
        world.socket(own, other, owner);
        assert_eq!(world.at(own, other), "ip:db");
        world.sockets.0.clear();
    }
    world.socket(own, other, newcomer);
    let told = world.at(own, other);
    assert!(told.starts_with("cgroup:"), "it may have the address of a pod that is gone: {told}");
}

#[test]
fn nobody_has_an_address_of_many() {
    let mut world = World::new();
    let web = world.container(WEB, 'a');
    for (own, other) in [
        ("224.0.0.251:5353", "10.1.0.11:5353"),
        ("255.255.255.255:67", "0.0.0.0:68"),
        ("0.0.0.0:68", "255.255.255.255:67"),
        ("[ff02::fb]:5353", "[fe80::1]:5353"),
        ("[fe80::1]:8000", "[fe80::2]:40000"),
    ] {
        world.socket(own, other, web);
        assert_eq!(world.at(own, other), "-", "{own}");
    }
    assert_eq!(world.beside("[fe80::1]:8000", "[fe80::2]:40000", Some(web)), "cgroup:web");
}

/// What the kernel sends itself counts as the root's, in whichever network.
#[test]
fn the_roots_sockets_are_nobodys() {
    let mut world = World::new();
    let db = world.container(DB, 'b');
    let root = fs::metadata(world.cgroups.path()).unwrap().ino();
    assert!(world.enrich.owner(root, world.now).unwrap().is_root());
    let (own, other) = ("10.1.0.11:8000", "10.1.0.10:40000");
    world.socket(own, other, root);
    world.enrich.listens(TCP, end("10.0.0.1:22"), root, world.now);
    assert_eq!(world.at(own, other), "ip:db");
    assert_eq!(world.at("10.0.0.1:22", other), "node:here");
    world.socket(own, other, db);
    assert_eq!(world.at(own, other), "cgroup:db");
}

#[test]
fn who_is_gone_is_told_only_where_nobody_came_after() {
    let mut world = World::new();
    let (gone, new) = (world.container(DB, 'b'), world.container(DB, 'c'));
    let (own, other) = ("10.1.0.11:8000", "10.1.0.10:40000");
    world.socket(own, other, gone);
    assert_eq!(world.at(own, other), "cgroup:db");
    world.remove(DB, 'b');
    let who = |world: &mut World| {
        let seen = Seen { end: end(own), other: end(other), ..seen() };
        let party = world.enrich.party(&seen, &world.sockets, world.now);
        party.workload().map(|workload| workload.cgroup_id)
    };
    assert_eq!(who(&mut world), Some(gone));
    world.socket(own, other, new);
    assert_eq!(who(&mut world), Some(new));
    world.sockets.0.reverse();
    assert_eq!(who(&mut world), Some(new));
}

/// Where ports are given out of a wide range, a client may have any.
#[test]
fn only_what_is_asked_is_a_services_port() {
    let mut world = World::new();
    let balanced = json!({"metadata": {"namespace": "ns", "name": "lb", "uid": "lb-service"},
        "spec": {"clusterIP": "10.9.0.20", "type": "LoadBalancer", "ports": [{"port": 443}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.50"}]}}});
    world.writer.apply(Source::Services, parse::<ServiceObject>(balanced));
    let high = "10.1.0.10:50051";
    for (at, service, node) in
        [("10.0.0.2:30080", "svc:web", "node:there"), ("192.0.2.50:443", "svc:lb", "-")]
    {
        assert_eq!(world.told(at, high, None, Some(Role::Asked)), service);
        assert_eq!(world.told(at, high, None, Some(Role::Asks)), node);
        assert_eq!(world.told(at, "10.1.0.10:80", None, Some(Role::Asked)), service);
    }
    assert_eq!(world.told("10.9.0.10:80", high, None, None), "svc:web");
}

#[test]
fn two_sockets_with_the_same_ends_are_neither() {
    let mut world = World::new();
    let (web, db) = (world.container(WEB, 'a'), world.container(DB, 'b'));
    let (own, other) = ("10.1.0.10:8080", "10.1.0.11:40000");
    world.socket(own, other, web);
    world.socket(own, other, web);
    assert_eq!(world.at(own, other), "cgroup:web", "told by a flow and by a connection");
    world.socket(own, other, db);
    assert_eq!(world.at(own, other), "ip:web");
}

#[test]
fn a_loopback_address_is_only_its_own_pods() {
    let mut world = World::new();
    let (web, helper, db) =
        (world.container(WEB, 'a'), world.container(WEB, 'c'), world.container(DB, 'b'));
    let (server, client) = ("127.0.0.1:9000", "127.0.0.1:40000");
    world.socket(server, client, helper);
    world.socket(server, client, db);
    assert_eq!(world.beside(server, client, Some(web)), "cgroup:web");
    assert_eq!(world.beside(server, client, Some(db)), "cgroup:db");
    let elsewhere = world.container(PROXY, 'd');
    assert_eq!(world.beside(server, client, Some(elsewhere)), "-");
    assert_eq!(world.at(server, client), "-", "nobody knows beside whom");
}

#[test]
fn the_nodes_loopback_device_is_of_all_that_are_on_its_network() {
    let mut world = World::new();
    let [proxy, exporter] =
        [(PROXY, "7"), (EXPORTER, "8")].map(|(uid, pid)| world.container_of_node(uid, pid));
    let web = world.container(WEB, 'a');
    world.socket("[::1]:9100", "[::1]:40000", exporter);
    assert_eq!(world.beside("[::1]:9100", "[::1]:40000", Some(proxy)), "cgroup:exporter");
    assert_eq!(world.beside("[::1]:9100", "[::1]:40000", Some(web)), "-");
}

#[test]
fn a_service_has_somebody_behind_it() {
    let mut world = World::new();
    let (web, db) = (world.container(WEB, 'a'), world.container(DB, 'b'));
    let (client, service) = ("10.1.0.11:40000", "10.9.0.10:80");
    assert_eq!(world.beside(service, client, Some(db)), "svc:web", "nothing is tracked");
    let (client, backend) = ("10.1.0.11:40001", "10.1.0.10:8080");
    track([client, service], [backend, client]);
    assert_eq!(world.beside(service, client, Some(db)), "svc:web > ip:web at 10.1.0.10:8080");
    world.socket(backend, client, web);
    assert_eq!(world.beside(service, client, Some(db)), "svc:web > cgroup:web at 10.1.0.10:8080");
    let remote = ("10.1.0.11:40002", "10.2.0.5:8080");
    track([remote.0, service], [remote.1, remote.0]);
    assert_eq!(world.at(service, remote.0), "svc:web > ip:cache at 10.2.0.5:8080");
    let outside = ("10.1.0.11:40003", "192.0.2.1:8080");
    track([outside.0, service], [outside.1, outside.0]);
    assert_eq!(world.at(service, outside.0), "svc:web > - at 192.0.2.1:8080");
    // A node's address is a Service's on its node port only.
    let port = ("10.1.0.11:40004", "10.0.0.1:30080");
    track([port.0, port.1], [backend, port.0]);
    world.socket(backend, port.0, web);
    assert_eq!(world.at(port.1, port.0), "svc:web > cgroup:web at 10.1.0.10:8080");
    assert_eq!(world.at("10.0.0.2:30080", "10.1.0.11:40005"), "svc:web");
    assert_eq!(world.at("10.0.0.1:30081", "10.1.0.11:40005"), "node:here");
}

/// Its socket talks to the Service, and the backend's does not know of that.
#[test]
fn a_services_client_is_found_by_what_its_socket_says() {
    let mut world = World::new();
    let (db, web) = (world.container(DB, 'b'), world.container(WEB, 'a'));
    let newcomer = world.container("no-such-pod", 'f');
    let (client, service, backend) = ("10.1.0.11:40000", "10.9.0.10:80", "10.1.0.10:8080");
    track([client, service], [backend, client]);
    assert_eq!(world.beside(client, backend, Some(web)), "ip:db");
    world.socket(client, service, db);
    assert_eq!(world.beside(client, backend, Some(web)), "cgroup:db");
    // A pod that the API server has not told of, as long as something answers at the other end.
    let unknown = "10.1.0.99:40000";
    track([unknown, service], [backend, unknown]);
    world.socket(unknown, service, newcomer);
    assert_eq!(world.beside(unknown, backend, Some(web)), "-");
    world.enrich.listens(TCP, end(backend), web, world.now);
    assert!(world.beside(unknown, backend, Some(web)).starts_with("cgroup:"));
}

#[test]
fn behind_the_nodes_address_is_who_it_stands_for() {
    let mut world = World::new();
    let (web, db) = (world.container(WEB, 'a'), world.container(DB, 'b'));
    let (client, service) = ("10.1.0.11:40000", "10.9.0.10:80");
    let (masked, backend) = ("10.1.0.1:40000", "10.1.0.10:8080");
    assert_eq!(world.beside("10.1.0.1:39999", backend, Some(web)), "node:here", "not tracked");
    track([client, service], [backend, masked]);
    assert_eq!(world.beside(masked, backend, Some(web)), "node:here > ip:db at 10.1.0.11:40000");
    world.socket(client, service, db);
    assert_eq!(
        world.beside(masked, backend, Some(web)),
        "node:here > cgroup:db at 10.1.0.11:40000"
    );
    // The client's view of the same connection.
    world.socket(backend, masked, web);
    assert_eq!(world.beside(service, client, Some(db)), "svc:web > cgroup:web at 10.1.0.10:8080");
    // From another node, through a node port.
    track(["10.0.0.2:40001", "10.0.0.1:30080"], [backend, "10.1.0.1:40001"]);
    let told = world.beside("10.1.0.1:40001", backend, Some(web));
    assert_eq!(told, "node:here > node:there at 10.0.0.2:40001");
    assert_eq!(
        world.at("10.0.0.2:40000", backend),
        "node:there",
        "another node translates by itself"
    );
    // A pod that talks to itself.
    track(["10.1.0.10:40002", service], [backend, "10.1.0.1:40002"]);
    world.socket("10.1.0.10:40002", service, web);
    let told = world.beside("10.1.0.1:40002", backend, Some(web));
    assert_eq!(told, "node:here > cgroup:web at 10.1.0.10:40002");
}

/// What a process of the node's network sends is seen when it is translated.
#[test]
fn a_process_of_the_node_asked_for_a_service() {
    let mut world = World::new();
    let (proxy, web) = (world.container_of_node(PROXY, "7"), world.container(WEB, 'a'));
    let (client, service) = ("10.0.0.1:40000", "10.9.0.10:80");
    let (masked, backend) = ("10.1.0.1:40000", "10.1.0.10:8080");
    track([client, service], [backend, masked]);
    world.socket(masked, backend, proxy);
    assert_eq!(world.beside(backend, masked, Some(proxy)), "svc:web > ip:web");
    world.socket(backend, masked, web);
    assert_eq!(world.beside(backend, masked, Some(proxy)), "svc:web > cgroup:web");
    assert_eq!(world.beside(masked, backend, Some(web)), "cgroup:proxy");
    // One that asked for nothing but the pod.
    let direct = "10.1.0.1:40001";
    track([direct, backend], [backend, direct]);
    assert_eq!(world.beside(backend, direct, Some(proxy)), "ip:web");
}

#[test]
fn a_services_endpoint_that_is_no_pod_is_the_service() {
    let mut world = World::new();
    let service = json!({"metadata": {"namespace": "ns", "name": "api", "uid": "api-service"},
        "spec": {"clusterIP": "10.9.0.1", "ports": [{"name": "https", "port": 443}]}});
    let slice = json!({
        "metadata": {"namespace": "ns", "name": "api-1", "uid": "api-slice",
                     "labels": {"kubernetes.io/service-name": "api"}},
        "addressType": "IPv4", "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["192.0.2.7"]}]});
    world.writer.apply(Source::Services, parse::<ServiceObject>(service));
    world.writer.apply(Source::EndpointSlices, parse::<EndpointSliceObject>(slice));
    assert_eq!(world.at("192.0.2.7:6443", "10.1.0.11:40000"), "svc:api");
    assert_eq!(world.at("192.0.2.7:22", "10.1.0.11:40000"), "-");
    assert_eq!(world.at("192.0.2.7:6443", "10.1.0.11:443"), "-", "it asks");
}

#[test]
fn a_client_that_has_a_node_port_is_no_service() {
    let mut world = World::new();
    let (web, db) = (world.container(WEB, 'a'), world.container(DB, 'b'));
    let proxy = world.container_of_node(PROXY, "7");
    let (port, backend) = ("10.0.0.1:30080", "10.1.0.10:8080");
    assert_eq!(world.at(port, "10.1.0.11:40000"), "svc:web");
    assert_eq!(world.beside(port, backend, Some(web)), "node:here");
    assert_eq!(world.at("10.0.0.2:30080", backend), "node:there");
    let (client, service) = ("10.1.0.11:40001", "10.9.0.10:80");
    track([client, service], ["10.1.0.10:8081", port]);
    let told = world.beside(port, "10.1.0.10:8081", Some(web));
    assert_eq!(told, "node:here > ip:db at 10.1.0.11:40001");
    let (asker, server) = ("10.1.0.11:40002", "10.0.0.1:9100");
    track([asker, server], [server, port]);
    assert_eq!(world.beside(asker, server, Some(proxy)), "ip:db", "it asked for nothing");
    // A server may have a higher port, where it is known to answer.
    let high = "10.1.0.10:50051";
    assert_eq!(world.beside(port, high, Some(web)), "svc:web");
    world.enrich.listens(TCP, end(high), web, world.now);
    assert_eq!(world.beside(port, high, Some(web)), "node:here");
    world.enrich.listens(TCP, end(port), db, world.now);
    assert!(world.at(port, "10.1.0.12:1024").starts_with("svc:web"), "what answers there is asked");
}

#[test]
fn without_the_kubernetes_api_sockets_still_tell() {
    let mut world = World::new();
    world.enrich.kubernetes = None;
    let web = world.container(WEB, 'a');
    world.socket("10.1.0.10:8080", "10.1.0.11:40000", web);
    assert!(world.at("10.1.0.10:8080", "10.1.0.11:40000").starts_with("cgroup:"));
    assert_eq!(world.at("10.2.0.5:6379", "10.1.0.11:40000"), "-");
    assert_eq!(world.at("10.0.0.1:22", "10.1.0.11:40000"), "-");
    track(["10.1.0.11:40001", "10.9.0.10:80"], ["10.1.0.10:8080", "10.1.0.1:40001"]);
    world.socket("10.1.0.11:40001", "10.9.0.10:80", web);
    let told = world.at("10.1.0.1:40001", "10.1.0.10:8080");
    assert!(told.starts_with("own > cgroup:"), "{told}");
}
