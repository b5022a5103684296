//! Queries and what becomes of them: answered, late, never, by somebody else.

use std::time::Duration;

use orb8_agent::{config::Config, sources::dns::DnsConfig};
use orb8_proto::v1::{DnsExchange, DnsOutcome, DnsSide};

use super::config;
use crate::kernel::support::{
    Lab,
    agent::{Agent, in_runtime},
    dns::{A, addresses, ask, client, is_client, query, receive},
    name_server::NameServer,
    netns::{CLIENT4, SERVER4, VERSIONS},
};

/// How long a query may go unanswered.
const PATIENT: Duration = Duration::from_millis(300);

fn impatient(lab: &Lab) -> Config {
    let config = config(&lab.cgroup);
    Config { dns: DnsConfig { timeout: PATIENT, ..config.dns.clone() }, ..config }
}

fn latency(told: &DnsExchange) -> Duration {
    Duration::from_nanos(told.latency_ns)
}

/// An id of each query, so that it can be told from others.
fn is(id: u16, side: DnsSide) -> impl Fn(&DnsExchange) -> bool {
    move |told| told.id == u32::from(id) && told.side() == side
}

#[test]
fn no_answer_and_a_late_one() {
    let lab = Lab::new();
    for (from, server) in VERSIONS {
        let server = NameServer::start(&lab.pair.server, (server, 53).into());
        in_runtime(&lab.pair.client, async || {
            let mut agent = Agent::start(impatient(&lab)).await;
            let mut watch = agent.watch_dns().await;
            let socket = client(&lab.pair.client, from, server.address);
            socket.send(&query(1, "never.test", A)).expect("asking");
            for side in [DnsSide::Client, DnsSide::Server] {
                let told = watch.one("a timeout", is(1, side)).await;
                assert_eq!(told.outcome(), DnsOutcome::Timeout, "{told:#?}");
                assert_eq!((told.rcode, told.retries), (None, 0), "{told:#?}");
                // It is looked for now and then.
                let waited = latency(&told);
                assert!(waited >= PATIENT && waited < 4 * PATIENT, "{waited:?}");
            }
            ask(&socket, &query(2, "after-700.test", A));
            for side in [DnsSide::Client, DnsSide::Server] {
                let told = watch.several(2, "a timeout and the answer", is(2, side)).await;
                assert_eq!(told[0].outcome(), DnsOutcome::Timeout, "{told:#?}");
                assert_eq!(told[1].outcome(), DnsOutcome::Answered, "{told:#?}");
                assert!(told[1].late && latency(&told[1]) >= 2 * PATIENT, "{told:#?}");
                assert_eq!(addresses(&told[1]).len(), 1, "{told:#?}");
            }
            agent.stop().await;
        });
    }
}

#[test]
fn the_same_question_again() {
    let lab = Lab::new();
    let server = NameServer::start(&lab.pair.server, (SERVER4, 53).into());
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_dns().await;
        let socket = client(&lab.pair.client, CLIENT4, server.address);
        let question = query(7, "after-200.test", A);
        for _ in 0..2 {
            socket.send(&question).expect("asking");
            std::thread::sleep(Duration::from_millis(50));
        }
        ask(&socket, &question);
        let told = watch.one("the answer", is(7, DnsSide::Client)).await;
        assert_eq!((told.outcome(), told.retries), (DnsOutcome::Answered, 2), "{told:#?}");
        // From the first time that it was asked.
        assert!(latency(&told) >= Duration::from_millis(200), "{told:#?}");
        agent.stop().await;
    });
}

/// Resolvers send a query again as long after the first as we wait: each has its own timeout.
#[test]
fn the_same_question_again_after_its_timeout() {
    let lab = Lab::new();
    let server = NameServer::start(&lab.pair.server, (SERVER4, 53).into());
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(impatient(&lab)).await;
        let mut watch = agent.watch_dns().await;
        let socket = client(&lab.pair.client, CLIENT4, server.address);
        let question = query(7, "never.test", A);
        for round in 1..=3 {
            socket.send(&question).expect("asking");
            for side in [DnsSide::Client, DnsSide::Server] {
                let told = watch.one("a timeout", is(7, side)).await;
                assert_eq!((told.outcome(), told.retries), (DnsOutcome::Timeout, round - 1));
                assert!(latency(&told) >= round * PATIENT, "{told:#?}");
            }
            watch.seen.clear();
        }
        for row in agent.dns().await.summaries {
            assert_eq!((row.queries, row.timeouts, row.retries), (1, 3, 2), "{row:#?}");
        }
        agent.stop().await;
    });
}

/// What somebody else sends in the server's name is no answer, and the true one still is.
#[test]
fn forged_answers() {
    let lab = Lab::new();
    let server = NameServer::start(&lab.pair.server, (SERVER4, 53).into());
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(impatient(&lab)).await;
        let mut watch = agent.watch_dns().await;
        // What was asked before the start may be answered until then.
        tokio::time::sleep(2 * PATIENT).await;
        let socket = client(&lab.pair.client, CLIENT4, server.address);
        ask(&socket, &query(0x1234, "forged.test", A));
        (0..2).for_each(|_| drop(receive(&socket)));
        let told = watch.several(3, "three answers", is_client).await;
        let ids: Vec<_> = told.iter().map(|told| (told.id, told.outcome())).collect();
        let expected = [
            (0x1234 ^ 0x5555, DnsOutcome::Unasked),
            (0x1234, DnsOutcome::Unasked),
            (0x1234, DnsOutcome::Answered),
        ];
        assert_eq!(ids, expected, "{told:#?}");
        assert_eq!((told[2].name.as_str(), told[2].answer_count), ("forged.test", 1));
        let totals = agent.dns().await.totals.expect("totals");
        // Each is seen at both sockets.
        assert_eq!((totals.unasked, totals.timeouts), (4, 0), "{totals:?}");
        agent.stop().await;
    });
}

#[test]
fn every_response_code() {
    let lab = Lab::new();
    let server = NameServer::start(&lab.pair.server, (SERVER4, 53).into());
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let mut watch = agent.watch_dns().await;
        let socket = client(&lab.pair.client, CLIENT4, server.address);
        let names = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN"];
        for (rcode, name) in (0..).zip(names) {
            ask(&socket, &query(rcode, &format!("rcode-{rcode}.test"), A));
            let told = watch.one(name, is(rcode, DnsSide::Client)).await;
            assert_eq!((told.rcode, told.rcode_name.as_str()), (Some(rcode.into()), name));
            assert_eq!(told.answer_count, 0);
        }
        agent.stop().await;
    });
}
