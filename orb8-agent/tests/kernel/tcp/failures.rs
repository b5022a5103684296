//! Connections that never come about, and listeners that are too slow.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::OwnedFd,
    time::Duration,
};

use orb8_proto::v1::{LocalEnd, ResetBy, TcpEvent, TcpEventKind, TcpRole, TcpState};

use super::config;
use crate::kernel::support::{
    Lab,
    agent::{Agent, in_runtime},
    dns::end,
    engine::btf,
    eventually,
    netns::{SERVER4, SERVER6, VERSIONS},
    skip,
    tcp::{Filter, begin_to_connect, counter, filter, has_port, health, listener, set},
};

/// A port that nobody listens on: bound, so that nobody else takes it.
fn closed_port(lab: &Lab, server: IpAddr) -> (u16, std::net::UdpSocket) {
    let holder = lab.pair.server.run(|| std::net::UdpSocket::bind((server, 0)));
    let holder = holder.expect("a socket");
    (holder.local_addr().expect("its address").port(), holder)
}

/// Whether this kernel tells of resets that no socket sends: that came with the reasons.
fn tells_resets_without_socket() -> bool {
    let kind = aya_obj::btf::BtfKind::Enum;
    let tells = btf().is_some_and(|btf| btf.id_by_type_name_kind("sk_rst_reason", kind).is_ok());
    if !tells {
        skip("resets without a socket", "this kernel tells of those that sockets send");
    }
    tells
}

fn is_failure(port: u16) -> impl Fn(&TcpEvent) -> bool {
    move |event| event.kind() == TcpEventKind::Fail && has_port(event, port)
}

#[test]
fn nobody_listens() {
    let lab = Lab::new();
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_tcp(&[]).await;
        for (client, server) in VERSIONS {
            let (port, _holder) = closed_port(&lab, server);
            let address = SocketAddr::new(server, port);
            let refused = lab.pair.client.run(|| TcpStream::connect(address));
            assert_eq!(refused.map(drop).map_err(|e| e.kind()), Err(ErrorKind::ConnectionRefused));
            let failed = watch.one("the failure", is_failure(port)).await;
            assert_eq!(failed.errno_name, "ECONNREFUSED", "{failed:#?}");
            assert_eq!((failed.role(), failed.old_state()), (TcpRole::Client, TcpState::SynSent));
            assert_eq!(end(failed.source.as_ref()).ip(), client);
            assert_eq!(end(failed.destination.as_ref()), address);
            assert_eq!(failed.local_end(), LocalEnd::Source);
            assert_eq!(failed.cgroup_id, lab.cgroup.id());
            // The client's kernel got a RST, which the server's sent for a socket that there is not.
            let told = if tells_resets_without_socket() { 2 } else { 1 };
            for by in [ResetBy::Remote, ResetBy::Local].into_iter().take(told) {
                let is = |event: &TcpEvent| {
                    event.kind() == TcpEventKind::Reset
                        && event.reset_by() == by
                        && has_port(event, port)
                };
                let reset = watch.one("a reset", is).await;
                let source = end(failed.source.as_ref());
                let ends = [&reset.source, &reset.destination].map(|this| end(this.as_ref()));
                assert!(ends.contains(&source) && ends.contains(&address), "{reset:#?}");
            }
            let told = watch.seen.iter().filter(|event| has_port(event, port));
            let told: Vec<_> = told.map(TcpEvent::kind).collect();
            assert!(!told.contains(&TcpEventKind::Close), "{told:?}: it was never open");
        }
        agent.stop().await;
    });
}

/// SYNs that get no answer are sent again, until the kernel gives up.
#[test]
fn nobody_answers() {
    let lab = Lab::new();
    set(&lab.pair.client, "ipv4/tcp_syn_retries", "1");
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_tcp(&[]).await;
        for (_, server) in VERSIONS {
            let before = counter(&lab.pair.client, "TcpRetransSegs");
            let listener = listener(&lab.pair.server, server, 16);
            filter(&listener, Filter::Nothing);
            let address = listener.local_addr().expect("its address");
            let timed_out = lab.pair.client.run(|| TcpStream::connect(address));
            assert_eq!(timed_out.map(drop).map_err(|e| e.kind()), Err(ErrorKind::TimedOut));
            // Newer kernels try once more than they are told.
            let counted = counter(&lab.pair.client, "TcpRetransSegs") - before;
            assert!((1..=2).contains(&counted), "{counted} SYNs again");
            let failed = watch.one("the failure", is_failure(address.port())).await;
            assert_eq!(failed.errno_name, "ETIMEDOUT", "{failed:#?}");
            assert_eq!(health(&failed).retransmits, counted, "{failed:#?}");
            let is_again = |event: &TcpEvent| {
                event.kind() == TcpEventKind::Retransmit && has_port(event, address.port())
            };
            let again = watch.several(counted as usize, "SYNs again", is_again).await;
            for event in again {
                assert_eq!((event.segments, event.state()), (1, TcpState::SynSent), "{event:#?}");
            }
        }
        agent.stop().await;
    });
}

/// A router that says that there is no way.
#[test]
fn no_way_there() {
    let lab = Lab::new();
    set(&lab.pair.server, "ipv4/ip_forward", "1");
    lab.pair.server.ip("route add unreachable 10.99.0.0/16");
    lab.pair.client.ip(&format!("route add 10.99.0.0/16 via {SERVER4}"));
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_tcp(&[]).await;
        let result = lab.pair.client.run(|| TcpStream::connect("10.99.0.1:7777"));
        assert_eq!(result.map(drop).map_err(|e| e.kind()), Err(ErrorKind::HostUnreachable));
        let failed = watch.one("the failure", is_failure(7777)).await;
        assert_eq!(failed.errno_name, "EHOSTUNREACH", "{failed:#?}");
        agent.stop().await;
    });
}

/// Who gives up before it is known gets no errno.
#[test]
fn who_gives_up() {
    let lab = Lab::new();
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_tcp(&[]).await;
        let listener = listener(&lab.pair.server, SERVER4, 16);
        filter(&listener, Filter::Nothing);
        let address = listener.local_addr().expect("its address");
        drop(begin_to_connect(&lab.pair.client, address));
        let failed = watch.one("the failure", is_failure(address.port())).await;
        assert_eq!((failed.errno, failed.errno_name.as_str()), (0, ""), "{failed:#?}");
        agent.stop().await;
    });
}

/// More connections than a listener has room for, and it accepts none.
#[test]
fn a_full_listener() {
    let lab = Lab::new();
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_tcp(&[]).await;
        for server in [SERVER4, SERVER6] {
            let namespace = &lab.pair.server;
            let before = counter(namespace, "TcpExtListenDrops");
            let overflows_before = counter(namespace, "TcpExtListenOverflows");
            let listener = listener(namespace, server, 1);
            let address = listener.local_addr().expect("its address");
            let connections: Vec<OwnedFd> =
                (0..20).map(|_| begin_to_connect(&lab.pair.client, address)).collect();
            // The kernel sends SYNs again for a while.
            std::thread::sleep(Duration::from_millis(1500));
            drop(connections);
            let dropped = eventually("an end of the SYNs", || {
                let count = counter(namespace, "TcpExtListenDrops");
                std::thread::sleep(Duration::from_millis(300));
                (counter(namespace, "TcpExtListenDrops") == count).then_some(count - before)
            });
            assert!(dropped >= 15, "{dropped} dropped");
            let overflows = counter(namespace, "TcpExtListenOverflows") - overflows_before;
            assert_eq!(overflows, dropped, "for no other reason");
            agent.drain().await;
            let port = address.port();
            let is_overflow =
                |event: &&TcpEvent| event.kind() == TcpEventKind::Overflow && has_port(event, port);
            let told = watch
                .until("as many as the kernel counts", |seen| {
                    let told: Vec<_> = seen.iter().filter(is_overflow).cloned().collect();
                    let sum: u64 = told.iter().map(|event| event.overflows).sum();
                    (sum >= dropped).then_some(told)
                })
                .await;
            assert_eq!(told.iter().map(|event| event.overflows).sum::<u64>(), dropped);
            for event in told {
                assert_eq!(event.role(), TcpRole::Listener, "{event:#?}");
                // One more than was asked for fits.
                assert_eq!((event.queue, event.queue_limit), (2, 1), "{event:#?}");
                assert!(event.source.is_none(), "{event:#?}");
                assert_eq!(end(event.destination.as_ref()), address);
                assert_eq!(event.cgroup_id, lab.cgroup.id());
            }
        }
        agent.stop().await;
    });
}
