//! Which signals run, what is missing where the kernel has less, and what is left behind.

use std::collections::BTreeSet;

use orb8_agent::{
    config::{AttachStrategy, Config, SignalSelection},
    embedded::Embedded,
    error::AgentError,
    event::Signal,
};
use orb8_proto::v1::{GetStatusResponse, SourceState, TcpEventKind};

use super::config;
use crate::kernel::support::{
    Lab,
    agent::{self, Agent, in_runtime},
    dns::{A, ask, client, query},
    eventually,
    name_server::NameServer,
    netns::{CLIENT4, SERVER4, VERSIONS},
    objects::{alive, held},
    tcp::{Connection, has_port},
    traffic::tcp_transfer,
};

/// The states of the network's signals: whether there are accelerators is the machine's own affair.
fn states(status: &GetStatusResponse) -> Vec<(&str, SourceState)> {
    let network = status.sources.iter().filter(|source| source.name != Signal::Gpu.name());
    network.map(|source| (source.name.as_str(), source.state())).collect()
}

#[test]
fn every_signal_runs() {
    let lab = Lab::new();
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let status = agent.status().await;
        let mut found = states(&status);
        found.sort_unstable();
        let all = ["dns", "flow", "tcp"].map(|name| (name, SourceState::Running));
        assert_eq!(found, all, "{status:#?}");
        let rings: BTreeSet<_> = status.rings.iter().map(|ring| ring.probe.as_str()).collect();
        // The flows' has the name that dashboards have always used; `cgroup` is no signal's.
        assert_eq!(rings, BTreeSet::from(["cgroup", "dns", "network", "tcp"]));
        agent.stop().await;
    });
}

#[test]
fn only_what_was_asked_for() {
    let lab = Lab::new();
    let server = NameServer::start(&lab.pair.server, (SERVER4, 53).into());
    // Accelerators have no traffic.
    let network = [Signal::Flow, Signal::Dns, Signal::Tcp];
    for signal in network {
        let signals = SignalSelection::Only(vec![signal]);
        let config = Config { signals, ..config(&lab.cgroup) };
        in_runtime(&lab.pair.client, async || {
            let mut agent = Agent::start(config).await;
            let status = agent.status().await;
            assert_eq!(states(&status), [(signal.name(), SourceState::Running)]);
            ask(&client(&lab.pair.client, CLIENT4, server.address), &query(1, "a.test", A));
            tcp_transfer(&lab.pair, VERSIONS[0], 1000, 1000);
            agent.drain().await;
            let flows = agent.flows().await.flows.len();
            let dns = agent.dns().await.totals.expect("totals").queries;
            let connects = agent.connections().await.totals.expect("totals").connects;
            assert_eq!(
                [flows > 0, dns > 0, connects > 0],
                network.map(|other| other == signal),
                "{}: {flows} flows, {dns} queries, {connects} connects",
                signal.name()
            );
            agent.stop().await;
        });
    }
}

/// Without a cgroup to attach to, tracepoints still tell of connections.
#[test]
fn without_the_socket_hook() {
    let lab = Lab::new();
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(agent::config(AttachStrategy::Auto, None)).await;
        let status = agent.status().await;
        let tcp = status.sources.iter().find(|source| source.name == "tcp").expect("a row");
        assert_eq!(tcp.state(), SourceState::Running, "{tcp:?}");
        assert!(tcp.reason.contains("round-trip times"), "{tcp:?}");
        assert!(states(&status).iter().all(|(_, state)| *state == SourceState::Running));
        let mut watch = agent.watch_tcp(&[]).await;
        for (_, server) in VERSIONS {
            let mut connection = Connection::open(&lab.pair, server);
            let port = connection.client_port();
            connection.carry(1000, 2000);
            drop((connection.client, connection.server));
            for kind in [TcpEventKind::Connect, TcpEventKind::Accept] {
                watch.one("its begin", |event| event.kind() == kind && has_port(event, port)).await;
            }
            let is_end = |event: &orb8_proto::v1::TcpEvent| {
                event.kind() == TcpEventKind::Close && has_port(event, port)
            };
            for closed in watch.several(2, "both ends", is_end).await {
                let health = closed.health.as_ref().expect("figures");
                let mut carried = [health.bytes_sent, health.bytes_received];
                carried.sort_unstable();
                assert_eq!(carried, [1000, 2000], "{closed:#?}");
                assert_eq!(closed.cgroup_id, lab.cgroup.id(), "{closed:#?}");
            }
        }
        agent.stop().await;
    });
}

/// What was asked for by name and cannot be had ends the agent; what was not, is skipped.
#[test]
fn a_signal_that_cannot_run() {
    let lab = Lab::new();
    let nowhere = Some("/nonexistent".into());
    let broken = Config { cgroup_root: nowhere, ..config(&lab.cgroup) };
    in_runtime(&lab.pair.client, async || {
        let signals = SignalSelection::Only(vec![Signal::Dns, Signal::Tcp]);
        let asked = Config { signals, ..broken.clone() };
        match Embedded::start(asked).await.map(|_| ()) {
            Err(AgentError::NothingToRun { reasons }) => {
                assert!(reasons.iter().any(|reason| reason.starts_with("dns: ")), "{reasons:?}");
            }
            other => panic!("{other:?}"),
        }
        let mut agent = Agent::start(broken).await;
        let status = agent.status().await;
        let mut found = states(&status);
        found.sort_unstable();
        let expected = [
            ("dns", SourceState::Skipped),
            ("flow", SourceState::Skipped),
            ("tcp", SourceState::Running),
        ];
        assert_eq!(found, expected, "{status:#?}");
        agent.stop().await;
    });
}

#[test]
fn nothing_is_left_behind() {
    let lab = Lab::new();
    let before = held();
    let mut ours = BTreeSet::new();
    for attach in [AttachStrategy::Cgroup, AttachStrategy::Both] {
        in_runtime(&lab.pair.client, async || {
            let agent = Agent::start(agent::config(attach, Some(&lab.cgroup))).await;
            ours.extend(held().difference(&before));
            tcp_transfer(&lab.pair, VERSIONS[0], 1000, 1000);
            agent.stop().await;
        });
    }
    let kinds: BTreeSet<_> = ours.iter().map(|(kind, _)| *kind).collect();
    assert!(kinds.contains("prog_id") && kinds.contains("map_id"), "{ours:?}");
    // The kernel frees what is unused a little later.
    let left = || alive().intersection(&ours).copied().collect::<Vec<_>>();
    eventually("an end of all that was loaded", || left().is_empty().then_some(()));
}
