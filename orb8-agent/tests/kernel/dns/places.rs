//! Where exchanges are seen, and whose they are.

use std::{net::IpAddr, time::Duration};

use orb8_agent::{
    config::{AttachStrategy, Config},
    sources::dns::DnsConfig,
};
use orb8_proto::v1::{DnsExchange, DnsOutcome, DnsSide, Hook, Runtime};

use super::config;
use crate::kernel::support::{
    Lab,
    agent::{self, Agent, in_runtime},
    cgroup::Cgroup,
    dns::{A, ask, client, end, query},
    name_server::NameServer,
    netns::{CLIENT4, SERVER4, VERSIONS, VETH},
    roles::Player,
};

const POD: &str = "3f2b7c1e-9d4a-4c55-8e0b-1a2b3c4d5e6f";
const CONTAINER: &str = "7f3c1a9be2d84460a5c1f0e9d8b7a695847362514f3e2d1c0b9a8f7e6d5c4b3a";

/// Outermost last, so that each is removed before the one that it is in.
fn container(lab: &Lab) -> [Cgroup; 4] {
    let pods = lab.cgroup.child("kubepods");
    let class = pods.child("burstable");
    let pod = class.child(&format!("pod{POD}"));
    let container = pod.child(&format!("crio-{CONTAINER}"));
    [container, pod, class, pods]
}

/// Each end's view bears that end's owner, and the client's the server's.
#[test]
fn owners() {
    let lab = Lab::new();
    let container = container(&lab);
    let server_owner = lab.cgroup.child("server");
    for (_, server) in VERSIONS {
        let mut serving =
            Player::start(&lab.pair.server, Some(&server_owner), &format!("name-server {server}"));
        let port: u16 = serving.hear();
        in_runtime(&lab.pair.client, async || {
            let mut agent = Agent::start(config(&lab.cgroup)).await;
            let mut watch = agent.watch_dns().await;
            let role = format!("dns-client {}", std::net::SocketAddr::new(server, port));
            let side = |side: DnsSide| move |told: &DnsExchange| told.side() == side;
            let mut asked = None;
            // The very first may be read before the server's socket is heard of.
            for _ in 0..2 {
                watch.seen.clear();
                Player::start(&lab.pair.client, Some(&container[0]), &role).finish();
                let told = watch.one("the client's view", side(DnsSide::Client)).await;
                let server = asked.insert(told).server.as_ref().expect("a server");
                if server.workload.is_some() {
                    break;
                }
            }
            let asked = asked.expect("an exchange");
            assert_eq!(asked.cgroup_id, container[0].id());
            let owner = asked.client.expect("a client").workload.expect("its owner");
            assert_eq!((owner.pod_uid.as_str(), owner.container_id.as_str()), (POD, CONTAINER));
            assert_eq!(owner.runtime(), Runtime::Crio);
            let answers = asked.server.expect("a server").workload.expect("its owner");
            assert!(answers.cgroup_path.ends_with("/server"), "{answers:?}");
            let answered = watch.one("the server's view", side(DnsSide::Server)).await;
            assert_eq!(answered.cgroup_id, server_owner.id());
            // It answered before the client's socket told that it had asked, perhaps.
            if let Some(asks) = answered.client.expect("a client").workload {
                assert_eq!(asks.container_id, CONTAINER, "{asks:?}");
            }
            let owner = answered.server.expect("a server").workload.expect("its owner");
            assert!(owner.cgroup_path.ends_with("/server"), "{owner:?}");
            agent.stop().await;
        });
    }
}

#[test]
fn other_ports() {
    let lab = Lab::new();
    let servers =
        [53, 5353, 9953].map(|port| NameServer::start(&lab.pair.server, (SERVER4, port).into()));
    let config = config(&lab.cgroup);
    let dns = DnsConfig { ports: vec![9953, 5353], ..config.dns };
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(Config { dns, ..config }).await;
        let mut watch = agent.watch_dns().await;
        for (id, server) in (1..).zip(&servers) {
            ask(&client(&lab.pair.client, CLIENT4, server.address), &query(id, "a.test", A));
        }
        watch.several(4, "both sides of two", |_| true).await;
        watch.rest(Duration::from_millis(100)).await;
        let mut ids: Vec<_> = watch.seen.iter().map(|told| told.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [2, 2, 3, 3], "{:#?}", watch.seen);
        agent.stop().await;
    });
}

/// A node-local cache, and a pod of the host's network that asks it: no interface is crossed.
#[test]
fn a_cache_on_a_link_local_address() {
    let lab = Lab::new();
    let cache: IpAddr = [169, 254, 20, 10].into();
    lab.pair.client.ip(&format!("addr add {cache}/32 dev lo"));
    let server = NameServer::start(&lab.pair.client, (cache, 53).into());
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_dns().await;
        ask(&client(&lab.pair.client, cache, server.address), &query(1, "a.test", A));
        let told = watch.several(2, "both sides", |_| true).await;
        for (told, side) in told.iter().zip([DnsSide::Server, DnsSide::Client]) {
            assert_eq!((told.side(), told.hook()), (side, Hook::Socket), "{told:#?}");
            assert_eq!(end(told.server.as_ref()), server.address);
        }
        agent.stop().await;
    });
}

/// Without the socket hook exchanges are seen on interfaces, with no owner.
#[test]
fn on_interfaces() {
    let lab = Lab::new();
    for (from, server) in VERSIONS {
        let server = NameServer::start(&lab.pair.server, (server, 53).into());
        in_runtime(&lab.pair.client, async || {
            let mut agent = Agent::start(agent::config(AttachStrategy::Tc, None)).await;
            let mut watch = agent.watch_dns().await;
            let socket = client(&lab.pair.client, from, server.address);
            ask(&socket, &query(1, "after-20.test", A));
            let told = watch.one("the exchange", |_| true).await;
            assert_eq!((told.side(), told.hook()), (DnsSide::Transit, Hook::Interface));
            assert_eq!(told.outcome(), DnsOutcome::Answered, "{told:#?}");
            assert_eq!(told.interface.as_ref().expect("an interface").name, VETH);
            assert_eq!(end(told.client.as_ref()), socket.local_addr().expect("an address"));
            assert!(told.latency_ns >= 20_000_000, "{told:#?}");
            agent.stop().await;
        });
    }
}

/// With both hooks a local socket's exchange is told at the socket, and nowhere else.
#[test]
fn both_hooks_tell_once() {
    let lab = Lab::new();
    let server = NameServer::start(&lab.pair.server, (SERVER4, 53).into());
    in_runtime(&lab.pair.client, async || {
        let config = agent::config(AttachStrategy::Both, Some(&lab.cgroup));
        let mut agent = Agent::start(config).await;
        let mut watch = agent.watch_dns().await;
        let socket = client(&lab.pair.client, CLIENT4, server.address);
        for id in 1..=20 {
            ask(&socket, &query(id, "a.test", A));
        }
        watch.several(40, "both sides of all", |_| true).await;
        watch.rest(Duration::from_millis(300)).await;
        assert_eq!(watch.seen.len(), 40, "{:#?}", watch.seen);
        assert!(watch.seen.iter().all(|told| told.hook() == Hook::Socket), "{:#?}", watch.seen);
        let totals = agent.dns().await.totals.expect("totals");
        assert_eq!((totals.queries, totals.unasked), (40, 0), "{totals:?}");
        agent.stop().await;
    });
}
