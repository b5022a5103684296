//! A real resolver, and `dig` to ask it: what `dig` says must be what is told.

use std::{net::IpAddr, time::Duration};

use orb8_proto::v1::{DnsOutcome, DnsSide, Protocol};

use super::config;
use crate::kernel::support::{
    Lab,
    agent::{Agent, in_runtime},
    dns::{WEB4, WEB6, addresses, dig, end, is_client, resolver, targets},
    name_server::NameServer,
    netns::{SERVER4, SERVER6, VERSIONS},
    program::has_programs,
    slack,
};

/// What `dig` and `dnsmasq` need.
const PROGRAMS: [&str; 2] = ["dig", "dnsmasq"];

/// A question, and what comes back.
struct Case {
    arguments: &'static str,
    name: &'static str,
    kind: &'static str,
    rcode: &'static str,
    addresses: &'static [IpAddr],
    targets: &'static [&'static str],
}

const NOTHING: Case =
    Case { arguments: "", name: "", kind: "A", rcode: "NOERROR", addresses: &[], targets: &[] };

const WEB: Case =
    Case { arguments: "web.orb8.test", name: "web.orb8.test", addresses: &[WEB4], ..NOTHING };

const CASES: &[Case] = &[
    WEB,
    Case { arguments: "+noedns web.orb8.test", ..WEB },
    Case { arguments: "+edns=0 +bufsize=4096 +dnssec web.orb8.test", ..WEB },
    Case { arguments: "+nocookie +nsid +subnet=192.0.2.0/24 web.orb8.test", ..WEB },
    // 0x20: a resolver may mix the case of what it asks.
    Case { arguments: "wEb.ORb8.tESt", ..WEB },
    Case { arguments: "web.orb8.test AAAA", kind: "AAAA", addresses: &[WEB6], ..WEB },
    Case {
        arguments: "alias.orb8.test",
        name: "alias.orb8.test",
        targets: &["middle.orb8.test", "web.orb8.test"],
        ..WEB
    },
    Case {
        arguments: "xn--bcher-kva.orb8.test",
        name: "xn--bcher-kva.orb8.test",
        addresses: &[IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 20))],
        ..NOTHING
    },
    Case { arguments: "absent.orb8.test", name: "absent.orb8.test", rcode: "NXDOMAIN", ..NOTHING },
    // The resolver has nobody to ask.
    Case { arguments: "example.com", name: "example.com", rcode: "REFUSED", ..NOTHING },
    Case { arguments: "web.orb8.test TYPE65280", kind: "TYPE65280", addresses: &[], ..WEB },
];

#[test]
fn what_dig_asks_and_gets() {
    let lab = Lab::new();
    if !has_programs(&PROGRAMS) {
        return;
    }
    let _resolver = resolver(&lab.pair.server, None);
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_dns().await;
        for (client, server) in VERSIONS {
            for (transport, flag) in [(Protocol::Udp, "+notcp"), (Protocol::Tcp, "+tcp")] {
                for case in CASES {
                    watch.seen.clear();
                    let arguments = format!("{flag} {}", case.arguments);
                    let dug = dig(&lab.pair.client, server, &arguments);
                    assert_eq!(dug.status, case.rcode, "{arguments}: {}", dug.text);
                    // Both ends are sockets of this machine: each has its own view.
                    for side in [DnsSide::Client, DnsSide::Server] {
                        let told = watch.one(&arguments, |told| told.side() == side).await;
                        assert_eq!(told.outcome(), DnsOutcome::Answered, "{told:#?}");
                        assert_eq!(told.name, case.name, "{arguments}");
                        assert_eq!(told.query_type_name, case.kind, "{arguments}");
                        assert_eq!(told.rcode_name, case.rcode, "{arguments}");
                        assert_eq!(addresses(&told), case.addresses, "{arguments}");
                        assert_eq!(targets(&told), case.targets, "{arguments}");
                        assert_eq!(told.protocol(), transport);
                        assert_eq!(end(told.client.as_ref()).ip(), client);
                        assert_eq!(end(told.server.as_ref()), (server, 53).into());
                        assert_eq!((told.retries, told.truncated, told.late), (0, false, false));
                        assert_eq!(told.cgroup_id, lab.cgroup.id());
                        let size = format!("rcvd: {}", told.response_bytes);
                        assert!(dug.text.contains(&size), "{size}: {}", dug.text);
                        let id = format!("id: {}", told.id);
                        assert!(dug.text.contains(&id), "{id}: {}", dug.text);
                        let latency = Duration::from_nanos(told.latency_ns);
                        assert!(latency < dug.time + TICK, "{latency:?}: {dug:?}");
                    }
                }
            }
        }
        agent.stop().await;
    });
}

/// What `dig` shows unless it is asked for more.
const TICK: Duration = Duration::from_millis(1);

#[test]
fn a_name_of_255_bytes() {
    let lab = Lab::new();
    if !has_programs(&PROGRAMS) {
        return;
    }
    let _resolver = resolver(&lab.pair.server, None);
    let label = "x".repeat(63);
    let rest = "y".repeat(61 - ".orb8.test".len());
    let name = format!("{label}.{label}.{label}.{rest}.orb8.test");
    assert_eq!(name.len(), 253, "without the length of the first label and of the root");
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_dns().await;
        let dug = dig(&lab.pair.client, SERVER4, &name);
        let told = watch.one("the long name", is_client).await;
        assert_eq!((told.name, told.rcode_name), (name, dug.status));
        agent.stop().await;
    });
}

#[test]
fn a_truncated_answer_and_the_same_question_over_tcp() {
    let lab = Lab::new();
    if !has_programs(&PROGRAMS) {
        return;
    }
    let _resolver = resolver(&lab.pair.server, None);
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_dns().await;
        dig(&lab.pair.client, SERVER6, "+bufsize=512 big.orb8.test TXT");
        let told = watch.several(2, "two answers", is_client).await;
        assert_eq!((told[0].protocol(), told[0].truncated), (Protocol::Udp, true), "{told:#?}");
        assert_eq!((told[1].protocol(), told[1].truncated), (Protocol::Tcp, false), "{told:#?}");
        assert_eq!(told[1].answer_count, 8, "{told:#?}");
        assert!(told[1].response_bytes > 8 * 250, "{told:#?}");
        agent.stop().await;
    });
}

/// Both measure from the query's way out to the answer's arrival.
#[test]
fn latency_is_what_dig_says() {
    let lab = Lab::new();
    if !has_programs(&PROGRAMS[..1]) {
        return;
    }
    let _server = NameServer::start(&lab.pair.server, (SERVER4, 53).into());
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_dns().await;
        for (delay, name) in [(20, "after-20.test"), (50, "after-50.test")] {
            let mut furthest = Vec::new();
            for _ in 0..10 {
                watch.seen.clear();
                let dug = dig(&lab.pair.client, SERVER4, name);
                for side in [DnsSide::Client, DnsSide::Server] {
                    let told = watch.one(name, |told| told.side() == side).await;
                    let latency = Duration::from_nanos(told.latency_ns);
                    assert!(latency >= Duration::from_millis(delay), "{latency:?}: {dug:?}");
                    assert!(latency < dug.time + TICK, "{latency:?}: {dug:?}");
                    if side == DnsSide::Client {
                        furthest.push(dug.time.saturating_sub(latency));
                    }
                }
            }
            // `dig` may be kept from reading its answer for a while, but not every time.
            let nearest = furthest.iter().min().expect("ten answers");
            assert!(*nearest <= slack(TICK), "{furthest:?}");
        }
        agent.stop().await;
    });
}
