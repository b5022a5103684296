//! Packets that the kernel drops, and its reason.

use std::{collections::BTreeSet, time::Duration};

use orb8_proto::v1::{TcpEvent, TcpEventKind};

use super::config;
use crate::kernel::support::{
    Lab,
    agent::{Agent, in_runtime},
    dns::end,
    netns::{CLIENT4, Netns, SERVER4, VERSIONS},
    program::has_programs,
    skip,
    tcp::{Filter, begin_to_connect, filter, has_port, listener, tracepoint_format},
};

const DROP: TcpEventKind = TcpEventKind::Drop;

/// Whether the kernel gives reasons.
async fn tells_drops(agent: &mut Agent) -> bool {
    let lack = agent.lack("tcp", "dropped packets").await;
    if let Some(reason) = &lack {
        skip("drop reasons", reason);
    }
    lack.is_none()
}

fn is_drop(port: u16) -> impl Fn(&TcpEvent) -> bool {
    move |event| event.kind() == DROP && has_port(event, port)
}

/// The names that the kernel prints.
fn kernel_names() -> BTreeSet<String> {
    let format = tracepoint_format("skb", "kfree_skb");
    let names = format.split('"').filter(|part| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    });
    names.map(str::to_owned).collect()
}

fn nft(namespace: &Netns, rule: &str) -> Result<(), String> {
    namespace.command("nft", rule).map(drop)
}

#[test]
fn a_port_that_nobody_has() {
    let lab = Lab::new();
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        if !tells_drops(&mut agent).await {
            return agent.stop().await;
        }
        let mut watch = agent.watch_tcp(&[DROP]).await;
        for (port, (client, server)) in (7001..).zip(VERSIONS) {
            drop(begin_to_connect(&lab.pair.client, (server, port).into()));
            let dropped = watch.one("the SYN", is_drop(port)).await;
            assert_eq!(dropped.reason, "NO_SOCKET", "{dropped:#?}");
            assert_eq!(end(dropped.source.as_ref()).ip(), client);
            assert_eq!(end(dropped.destination.as_ref()), (server, port).into());
            // A SYN, and perhaps what asks for ECN.
            assert_eq!(dropped.tcp_flags & 0b11_1111, 2, "{dropped:#?}");
            assert!((40..=120).contains(&dropped.bytes), "{dropped:#?}");
            assert_eq!(dropped.weight, 1, "{dropped:#?}");
            let names = kernel_names();
            assert!(names.is_empty() || names.contains(&dropped.reason), "{names:?}");
        }
        agent.stop().await;
    });
}

#[test]
fn by_a_socket_filter() {
    let lab = Lab::new();
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        if !tells_drops(&mut agent).await {
            return agent.stop().await;
        }
        let mut watch = agent.watch_tcp(&[DROP]).await;
        for (_, server) in VERSIONS {
            let listener = listener(&lab.pair.server, server, 16);
            filter(&listener, Filter::Nothing);
            let address = listener.local_addr().expect("its address");
            drop(begin_to_connect(&lab.pair.client, address));
            let dropped = watch.one("the SYN", is_drop(address.port())).await;
            assert_eq!(dropped.reason, "SOCKET_FILTER", "{dropped:#?}");
        }
        agent.stop().await;
    });
}

#[test]
fn by_a_firewall() {
    let lab = Lab::new();
    if !has_programs(&["nft"]) {
        return;
    }
    let rules = [
        "add table inet t",
        "add chain inet t c { type filter hook input priority 0; }",
        "add rule inet t c tcp dport 7100-7199 counter drop",
    ];
    for rule in rules {
        if let Err(reason) = nft(&lab.pair.server, rule) {
            return skip("nftables", reason.trim());
        }
    }
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        if !tells_drops(&mut agent).await {
            return agent.stop().await;
        }
        let mut watch = agent.watch_tcp(&[DROP]).await;
        let before = dropped_by_firewall(&mut agent).await;
        for (port, (client, server)) in (7100..).zip(VERSIONS) {
            drop(begin_to_connect(&lab.pair.client, (server, port).into()));
            let dropped = watch.one("the SYN", is_drop(port)).await;
            assert_eq!(dropped.reason, "NETFILTER_DROP", "{dropped:#?}");
            assert_eq!(end(dropped.source.as_ref()).ip(), client);
            assert_eq!(end(dropped.destination.as_ref()), (server, port).into());
        }
        // More than are told one by one: each one stands for those that were not.
        let flood: Vec<_> =
            (0..300).map(|_| begin_to_connect(&lab.pair.client, (SERVER4, 7150).into())).collect();
        std::thread::sleep(Duration::from_millis(100));
        // What follows in another tick tells of the rest of its CPU.
        drop(flood);
        agent.drain().await;
        let counted = dropped_by_firewall(&mut agent).await - before;
        let chain = lab.pair.server.command("nft", "list chain inet t c").expect("the counter");
        let packets = chain.split_once("packets ").and_then(|(_, rest)| rest.split(' ').next());
        let packets: u64 = packets.expect("a counter").parse().expect("a number");
        assert!(packets >= 302, "{chain}");
        assert_eq!(counted, packets, "the totals have all of them: {chain}");
        watch.rest(Duration::from_millis(100)).await;
        let told = watch.seen.iter().filter(|event| event.reason == "NETFILTER_DROP");
        let told: u64 = told.map(|event| event.weight).sum();
        assert!(told <= packets && told >= 3, "{told} told of {packets}");
        let from: BTreeSet<_> = watch
            .seen
            .iter()
            .filter(|event| has_port(event, 7150))
            .map(|event| end(event.source.as_ref()).ip())
            .collect();
        assert_eq!(from, BTreeSet::from([CLIENT4]));
        agent.stop().await;
    });
}

async fn dropped_by_firewall(agent: &mut Agent) -> u64 {
    let totals = agent.connections().await.totals.expect("totals");
    let row = totals.drops.iter().find(|count| count.reason == "NETFILTER_DROP");
    row.map_or(0, |count| count.packets)
}
