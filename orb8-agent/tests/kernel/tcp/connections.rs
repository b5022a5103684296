//! Connections from their handshake to their end.

use std::{
    net::Shutdown,
    time::{Duration, Instant},
};

use orb8_agent::config::Config;
use orb8_proto::v1::{
    LocalEnd, LostSource, ResetBy, TcpConnection, TcpEvent, TcpEventKind, TcpRole, TcpState,
};

use super::config;
use crate::kernel::support::{
    Lab, PATIENCE,
    agent::{Agent, in_runtime},
    dns::end,
    netns::{SERVER4, VERSIONS},
    skip,
    tcp::{Connection, has_port, health, is, reset_at_end},
    traffic::read_all,
};

const BOTH: [TcpRole; 2] = [TcpRole::Client, TcpRole::Server];

/// Payload to the server and back.
const UP: usize = 300_000;
const DOWN: usize = 70_001;

/// How an orderly end comes about.
#[derive(Clone, Copy, Debug)]
enum End {
    ClientFirst,
    ServerFirst,
    /// The client says that it has no more to send, and still receives.
    HalfClosed,
}

fn end_by(mut connection: Connection, how: End) {
    match how {
        End::ClientFirst => {
            drop(connection.client);
            read_all(&mut connection.server).expect("the end");
        }
        End::ServerFirst => {
            drop(connection.server);
            read_all(&mut connection.client).expect("the end");
        }
        End::HalfClosed => {
            connection.client.shutdown(Shutdown::Write).expect("half an end");
            read_all(&mut connection.server).expect("the end");
            std::io::Write::write_all(&mut connection.server, &[0; 1000]).expect("sending");
            drop(connection.server);
            assert_eq!(read_all(&mut connection.client).expect("the rest"), 1000);
        }
    }
}

#[test]
fn opened_used_and_closed() {
    let lab = Lab::new();
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_tcp(&[]).await;
        for (client, server) in VERSIONS {
            for how in [End::ClientFirst, End::ServerFirst, End::HalfClosed] {
                let mut connection = Connection::open(&lab.pair, server);
                let port = connection.client_port();
                let listens = connection.listener.local_addr().expect("its address");
                connection.carry(UP, DOWN);
                let pause = Duration::from_millis(50);
                std::thread::sleep(pause);
                end_by(connection, how);
                let opened = [TcpEventKind::Connect, TcpEventKind::Accept];
                for (role, kind) in BOTH.into_iter().zip(opened) {
                    let opened = watch.one("its begin", is(port, kind, role)).await;
                    assert_eq!(end(opened.source.as_ref()), (client, port).into());
                    assert_eq!(end(opened.destination.as_ref()), listens);
                    assert_eq!(opened.state(), TcpState::Established, "{opened:#?}");
                    let local = match role {
                        TcpRole::Client => LocalEnd::Source,
                        _ => LocalEnd::Destination,
                    };
                    assert_eq!(opened.local_end(), local, "{opened:#?}");
                    assert_eq!(opened.cgroup_id, lab.cgroup.id(), "{opened:#?}");
                    let took = health(&opened).handshake_ns.expect("a handshake");
                    assert!((1..1_000_000_000).contains(&took), "{took} ns");
                    let closed = is(port, TcpEventKind::Close, role);
                    let closed = watch.one("its end", closed).await;
                    assert_eq!((closed.state(), closed.errno), (TcpState::Close, 0), "{closed:#?}");
                    let found = health(&closed);
                    let more = if matches!(how, End::HalfClosed) { 1000 } else { 0 };
                    let (up, down) = (UP as u64, DOWN as u64 + more);
                    let carried = if role == TcpRole::Client { (up, down) } else { (down, up) };
                    assert_eq!(
                        (found.bytes_sent, found.bytes_received),
                        carried,
                        "{how:?} {role:?}"
                    );
                    assert_eq!(found.handshake_ns, Some(took), "{closed:#?}");
                    let duration = Duration::from_nanos(found.closed_ns - found.opened_ns);
                    assert!(duration >= pause, "{duration:?}");
                    assert!(closed.time_ns > opened.time_ns, "{closed:#?}");
                    assert!(found.rtt_ns.is_some() && found.rtt_samples > 0, "{closed:#?}");
                }
                let resets = watch.seen.iter().filter(|event| event.kind() == TcpEventKind::Reset);
                assert_eq!(resets.filter(|event| has_port(event, port)).count(), 0);
            }
        }
        agent.stop().await;
    });
}

/// Each connection is told once at each end, however many there are.
#[test]
fn many_connections() {
    let lab = Lab::new();
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_tcp(&[]).await;
        let mut ports = Vec::new();
        for _ in 0..200 {
            let connection = Connection::open(&lab.pair, SERVER4);
            ports.push(connection.client_port());
            end_by(connection, End::ClientFirst);
        }
        ports.sort_unstable();
        ports.dedup();
        let of_ours = |event: &TcpEvent| ports.iter().any(|port| has_port(event, *port));
        watch.several(800, "four events of each", of_ours).await;
        watch.rest(Duration::from_millis(200)).await;
        for kind in [TcpEventKind::Connect, TcpEventKind::Accept] {
            let told = watch.seen.iter().filter(|event| event.kind() == kind && of_ours(event));
            assert_eq!(told.count(), 200, "{kind:?}");
        }
        let closed = watch.seen.iter().filter(|event| event.kind() == TcpEventKind::Close);
        assert_eq!(closed.filter(|event| of_ours(event)).count(), 400);
        let totals = agent.connections().await.totals.expect("totals");
        assert_eq!((totals.lost_events, totals.untracked), (0, 0), "{totals:?}");
        agent.stop().await;
    });
}

#[test]
fn a_reset_in_the_middle() {
    let lab = Lab::new();
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_tcp(&[]).await;
        for (_, server) in VERSIONS {
            let mut connection = Connection::open(&lab.pair, server);
            let port = connection.client_port();
            connection.carry(1000, 1000);
            reset_at_end(&connection.client);
            drop(connection.client);
            assert!(read_all(&mut connection.server).is_err(), "a reset is no end");
            let by = |by: ResetBy| {
                move |event: &TcpEvent| {
                    event.kind() == TcpEventKind::Reset
                        && has_port(event, port)
                        && event.reset_by() == by
                }
            };
            let sent = watch.one("the reset that is sent", by(ResetBy::Local)).await;
            let received = watch.one("the reset that is received", by(ResetBy::Remote)).await;
            assert_eq!((sent.role(), received.role()), (TcpRole::Client, TcpRole::Server));
            let closed = is(port, TcpEventKind::Close, TcpRole::Server);
            let closed = watch.one("the server's end", closed).await;
            assert_eq!(closed.errno_name, "ECONNRESET", "{closed:#?}");
            assert_eq!(health(&closed).bytes_received, 1000);
            watch.one("the client's end", is(port, TcpEventKind::Close, TcpRole::Client)).await;
        }
        agent.stop().await;
    });
}

/// Changes of state are told to who asks for them, and to nobody else.
#[test]
fn states() {
    let lab = Lab::new();
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut others = agent.watch_tcp(&[]).await;
        let mut watch = agent.watch_tcp(&[TcpEventKind::State]).await;
        // The kernel is asked for them with the next drain.
        agent.drain().await;
        let connection = Connection::open(&lab.pair, SERVER4);
        let port = connection.client_port();
        end_by(connection, End::ClientFirst);
        for (role, states) in [
            (TcpRole::Client, [TcpState::Established, TcpState::FinWait1, TcpState::FinWait2]),
            (TcpRole::Server, [TcpState::Established, TcpState::CloseWait, TcpState::LastAck]),
        ] {
            for state in states {
                let is = |event: &TcpEvent| {
                    event.role() == role && has_port(event, port) && event.state() == state
                };
                let told = watch.one("a state", is).await;
                assert_ne!(told.old_state(), state, "{told:#?}");
            }
        }
        others.one("its end", is(port, TcpEventKind::Close, TcpRole::Server)).await;
        let is_state = |event: &TcpEvent| event.kind() == TcpEventKind::State;
        assert!(!others.seen.iter().any(is_state), "{:#?}", others.seen);
        assert!(watch.seen.iter().all(is_state), "{:#?}", watch.seen);
        agent.stop().await;
    });
}

/// What was there before the agent has figures, and its end is told.
#[test]
fn connections_older_than_the_agent() {
    let lab = Lab::new();
    let mut open: Vec<Connection> =
        VERSIONS.iter().map(|(_, server)| Connection::open(&lab.pair, *server)).collect();
    open.iter_mut().for_each(|connection| connection.carry(UP, DOWN));
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_tcp(&[]).await;
        for mut connection in open {
            let port = connection.client_port();
            connection.carry(1000, 1000);
            let has_figures = are_known(&mut agent, port).await;
            end_by(connection, End::ServerFirst);
            let is_end =
                |event: &TcpEvent| event.kind() == TcpEventKind::Close && has_port(event, port);
            let ends = watch.several(2, "both ends", is_end).await;
            for closed in &ends {
                let found = health(closed);
                let mut carried = [found.bytes_sent, found.bytes_received];
                carried.sort_unstable();
                assert_eq!(carried, [DOWN as u64 + 1000, UP as u64 + 1000], "{closed:#?}");
                assert_eq!(found.opened_ns, 0, "{closed:#?}");
                if has_figures {
                    assert!(found.rtt_ns.is_some(), "{closed:#?}");
                }
            }
        }
        agent.stop().await;
    });
}

/// Waits for the figures of both ends; `false` where this kernel cannot be asked for old sockets.
async fn are_known(agent: &mut Agent, port: u16) -> bool {
    if let Some(reason) = agent.lack("tcp", "older than the agent").await {
        skip("old sockets", &reason);
        return false;
    }
    let start = Instant::now();
    loop {
        agent.drain().await;
        let connections = agent.connections().await.connections;
        let is_ours = |known: &&TcpConnection| {
            let ends = [&known.source, &known.destination];
            ends.into_iter().any(|this| end(this.as_ref()).port() == port)
                && known.health.as_ref().is_some_and(|health| health.rtt_ns.is_some())
        };
        if connections.iter().filter(is_ours).count() == 2 {
            return true;
        }
        assert!(start.elapsed() < PATIENCE, "{connections:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What was never used has no payload, and its ends are told all the same.
#[test]
fn an_idle_connection() {
    let lab = Lab::new();
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_tcp(&[]).await;
        let connection = Connection::open(&lab.pair, SERVER4);
        let port = connection.client_port();
        end_by(connection, End::ClientFirst);
        for role in BOTH {
            let closed = watch.one("its end", is(port, TcpEventKind::Close, role)).await;
            let found = health(&closed);
            assert_eq!((found.bytes_sent, found.bytes_received, found.retransmits), (0, 0, 0));
        }
        agent.stop().await;
    });
}

/// A ring that is too small loses by count, and says so to who listens.
#[test]
fn a_ring_that_is_too_small() {
    let lab = Lab::new();
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let ring_buffer_size = page.expect("a limit").expect("a page size") as u32;
    let config = Config { ring_buffer_size, ..config(&lab.cgroup) };
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config).await;
        let mut watch = agent.watch_tcp(&[]).await;
        let connections: Vec<Connection> =
            (0..200).map(|_| Connection::open(&lab.pair, SERVER4)).collect();
        // All at once: the reader rests between two reads.
        drop(connections);
        agent.drain().await;
        let lost = agent.connections().await.totals.expect("totals").lost_events;
        assert!(lost > 0, "nothing was lost");
        watch.rest(Duration::from_millis(200)).await;
        assert!(
            watch.lost.iter().all(|lost| lost.source() == LostSource::Ring),
            "{:?}",
            watch.lost
        );
        let told: u64 = watch.lost.iter().map(|lost| lost.events).sum();
        // Something else may happen on this machine.
        let now = agent.connections().await.totals.expect("totals").lost_events;
        assert!((lost..=now).contains(&told), "{lost} {told} {now}");
        agent.stop().await;
    });
}
