//! Figures: those that the kernel has itself, of the same socket at the same moment.

use std::{collections::HashMap, time::Duration};

use orb8_proto::v1::{Flow, TcpEvent, TcpEventKind, TcpHealth, TcpRole};

use super::config;
use crate::kernel::support::{
    Lab,
    agent::{Agent, in_runtime},
    dns::end,
    netns::{Netns, SERVER4, SERVER6, VERSIONS, VETH},
    program::has_programs,
    scaled, skip,
    tcp::{
        Connection, Filter, carry, counter, figures, filter, has_port, health, is, remove_filter,
        socket_figures,
    },
};

/// A number of `ss`; 0 where it says nothing, as it does of zeroes.
fn number(figures: &HashMap<String, String>, name: &str) -> u64 {
    figures.get(name).map_or(0, |value| value.parse().expect("a number"))
}

/// Checks the figures of one end of a quiet connection.
async fn compare(
    agent: &mut Agent,
    namespace: &Netns,
    local_port: u16,
    client: u16,
    role: TcpRole,
) {
    let kernel = socket_figures(namespace, local_port);
    let again = number(&kernel, "bytes_retrans");
    let sent = number(&kernel, "bytes_sent") - again;
    let received = number(&kernel, "bytes_received");
    // Not the first look: what is told may be a moment old.
    let is_there =
        |health: &TcpHealth| (health.bytes_sent, health.bytes_received) == (sent, received);
    let told = figures(agent, client, role, is_there).await;
    let retransmits = kernel
        .get("retrans")
        .map_or("0", |value| value.split_once('/').expect("those in flight and all").1);
    assert_eq!(told.retransmits.to_string(), retransmits, "{kernel:?}");
    // Milliseconds with three digits, and the variance behind it.
    let rtt: f64 = kernel["rtt"].split('/').next().expect("a time").parse().expect("a number");
    let rtt_us = told.rtt_ns.expect("a round-trip time") as f64 / 1000.0;
    assert!((rtt * 1000.0 - rtt_us).abs() <= 1.0, "{rtt_us} µs: {kernel:?}");
    let [min, mean, p99, max] =
        [told.rtt_min_ns, told.rtt_mean_ns, told.rtt_p99_ns, told.rtt_max_ns]
            .map(|figure| figure.expect("a figure"));
    assert!(min <= mean && mean <= max && min <= p99 && p99 <= max, "{told:#?}");
    assert!(told.rtt_samples > 0, "{told:#?}");
}

#[test]
fn what_ss_says() {
    let lab = Lab::new();
    if !has_programs(&["ss"]) {
        return;
    }
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        for (_, server) in VERSIONS {
            let mut connection = Connection::open(&lab.pair, server);
            let client = connection.client_port();
            let listens = connection.listener.local_addr().expect("its address").port();
            for _ in 0..3 {
                connection.carry(200_000, 50_000);
                // The last acknowledgement.
                std::thread::sleep(Duration::from_millis(100));
                let [near, far] = [&lab.pair.client, &lab.pair.server];
                compare(&mut agent, near, client, client, TcpRole::Client).await;
                compare(&mut agent, far, listens, client, TcpRole::Server).await;
            }
        }
        agent.stop().await;
    });
}

/// What the kernel counted in a namespace as sent again, SYN-ACKs left out.
fn sent_again(namespace: &Netns) -> u64 {
    counter(namespace, "TcpRetransSegs") - counter(namespace, "TcpExtTCPSynRetrans")
}

#[test]
fn segments_sent_again() {
    let lab = Lab::new();
    if !has_programs(&["ss"]) {
        return;
    }
    let size = scaled(3_000_000) as usize;
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_tcp(&[]).await;
        for (_, server) in VERSIONS {
            let before = sent_again(&lab.pair.client);
            let Connection { mut client, server, listener } = Connection::open(&lab.pair, server);
            let mut server = server;
            let port = client.local_addr().expect("its address").port();
            // By chance, and so that all that is in flight is lost.
            filter(&server, Filter::AllButOneOf(20));
            carry(&mut client, &mut server, size);
            filter(&server, Filter::Nothing);
            std::thread::scope(|scope| {
                scope.spawn(|| carry(&mut client, &mut server.try_clone().expect("one"), 5000));
                std::thread::sleep(Duration::from_millis(700));
                remove_filter(&server);
            });
            std::thread::sleep(Duration::from_millis(100));
            compare(&mut agent, &lab.pair.client, port, port, TcpRole::Client).await;
            let counted = sent_again(&lab.pair.client) - before;
            assert!(counted >= 3, "{counted} segments were sent again");
            drop((client, server, listener));
            let closed = watch.one("its end", is(port, TcpEventKind::Close, TcpRole::Client)).await;
            assert_eq!(health(&closed).retransmits, counted, "{closed:#?}");
            assert_eq!(health(&closed).bytes_sent, size as u64 + 5000, "{closed:#?}");
            let again = |event: &&TcpEvent| {
                event.kind() == TcpEventKind::Retransmit && has_port(event, port)
            };
            let told: u64 =
                watch.seen.iter().filter(again).map(|event| u64::from(event.segments)).sum();
            assert_eq!(told, counted, "told as it happened");
            assert!(watch.seen.iter().filter(again).all(|event| {
                end(event.source.as_ref()).port() == port && event.cgroup_id == lab.cgroup.id()
            }));
        }
        agent.stop().await;
    });
}

/// Where the kernel can delay packets, round-trip times are that long.
#[test]
fn a_long_way() {
    let lab = Lab::new();
    let delay = Duration::from_millis(40);
    let arguments = format!("qdisc add dev {VETH} root netem delay {}ms", delay.as_millis());
    if let Err(reason) = lab.pair.client.command("tc", &arguments) {
        return skip("netem", reason.trim());
    }
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_tcp(&[]).await;
        for (_, server) in VERSIONS {
            let mut connection = Connection::open(&lab.pair, server);
            let port = connection.client_port();
            (0..20).for_each(|_| connection.carry(100, 100));
            drop((connection.client, connection.server));
            let closed = watch.one("its end", is(port, TcpEventKind::Close, TcpRole::Client)).await;
            let found = health(&closed);
            let least = delay.as_nanos() as u64;
            let times = [
                found.handshake_ns,
                found.rtt_ns,
                found.rtt_min_ns,
                found.rtt_mean_ns,
                found.rtt_p99_ns,
                found.rtt_max_ns,
            ];
            for time in times {
                let time = time.expect("a time");
                // Microseconds are rounded down.
                assert!(time + 1000 >= least, "{found:#?}");
            }
            let [min, mean, p99, max] =
                [found.rtt_min_ns, found.rtt_mean_ns, found.rtt_p99_ns, found.rtt_max_ns];
            assert!(min <= mean && mean <= max && min <= p99 && p99 <= max, "{found:#?}");
            assert!(found.rtt_samples >= 10, "{found:#?}");
            assert!(min < Some(3 * least), "{found:#?}");
        }
        agent.stop().await;
    });
}

/// A flow's row has the figures of the connection that it is one direction of.
#[test]
fn flows_have_them() {
    let lab = Lab::new();
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        for server in [SERVER4, SERVER6] {
            let mut connection = Connection::open(&lab.pair, server);
            let port = connection.client_port();
            filter(&connection.server, Filter::Nothing);
            std::thread::scope(|scope| {
                let Connection { client, server, .. } = &mut connection;
                let mut other = server.try_clone().expect("another descriptor");
                scope.spawn(move || carry(client, &mut other, 3000));
                std::thread::sleep(Duration::from_millis(500));
                remove_filter(server);
            });
            connection.carry(100_000, 100_000);
            let wanted = |health: &TcpHealth| health.bytes_received == 100_000;
            let told = figures(&mut agent, port, TcpRole::Client, wanted).await;
            assert!(told.retransmits > 0, "{told:#?}");
            let ours = |flow: &Flow| {
                [&flow.source, &flow.destination]
                    .into_iter()
                    .any(|this| end(this.as_ref()).port() == port)
            };
            let flows = agent.flows_with(100, ours).await;
            assert_eq!(flows.len(), 4, "two directions at two ends: {flows:#?}");
            for flow in flows {
                let found = flow.tcp.as_ref().unwrap_or_else(|| panic!("no figures: {flow:#?}"));
                assert_eq!(found.state, told.state, "{flow:#?}");
                assert!(found.rtt_ns.is_some(), "{flow:#?}");
                if found.role() == TcpRole::Client {
                    assert_eq!(found.retransmits, told.retransmits, "{flow:#?}");
                }
            }
        }
        agent.stop().await;
    });
}
