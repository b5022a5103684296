//! Sums, losses, and the names that flows get.

use std::{
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use orb8_agent::config::Config;
use orb8_proto::v1::{DnsSide, DnsSummary, EventKind, Flow, LostSource, StreamEventsRequest};

use super::config;
use crate::kernel::support::{
    Lab, PATIENCE,
    agent::{Agent, in_runtime},
    dns::{A, ask, client, dig, end, is_client, query, resolver},
    eventually,
    name_server::NameServer,
    netns::{CLIENT4, SERVER4, VERSIONS},
    program::has_programs,
    reference::Reference,
    scaled,
    traffic::{Udp, tcp_server, tcp_transfer, udp_echo},
};

fn rcodes(row: &DnsSummary) -> Vec<(&str, u64)> {
    row.rcodes.iter().map(|count| (count.name.as_str(), count.count)).collect()
}

#[test]
fn summaries_are_what_was_asked() {
    let lab = Lab::new();
    let server = NameServer::start(&lab.pair.server, (SERVER4, 53).into());
    let asked =
        [("one.test", 30), ("rcode-3.test", 20), ("rcode-2.test", 10), ("after-20.test", 5)];
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let socket = client(&lab.pair.client, CLIENT4, server.address);
        let mut id = 0;
        for (name, count) in asked {
            for _ in 0..count {
                id += 1;
                ask(&socket, &query(id, name, A));
            }
        }
        agent.drain().await;
        let response = agent.dns().await;
        assert_eq!(response.total_matched, 8, "{response:#?}");
        for ((name, count), rcode) in
            asked.into_iter().zip(["NOERROR", "NXDOMAIN", "SERVFAIL", "NOERROR"])
        {
            for side in [DnsSide::Client, DnsSide::Server] {
                let is = |row: &&DnsSummary| row.name == name && row.side() == side;
                let row = response.summaries.iter().find(is).expect("a row");
                assert_eq!((row.queries, row.responses, row.timeouts), (count, count, 0));
                assert_eq!(rcodes(row), [(rcode, count)]);
                assert_eq!(row.types.len(), 1, "{row:?}");
                let latency = row.latency.as_ref().expect("latencies");
                assert_eq!(latency.counts.iter().sum::<u64>(), count, "{row:?}");
                let ordered = [latency.min, latency.p50, latency.p90, latency.p99, latency.max];
                assert!(ordered.is_sorted(), "{row:?}");
                if name == "after-20.test" {
                    assert!(latency.min >= 20_000_000, "{row:?}");
                    assert!(latency.sum >= count * latency.min, "{row:?}");
                }
            }
        }
        let totals = response.totals.expect("totals");
        assert_eq!((totals.queries, totals.responses), (130, 130), "{totals:?}");
        assert_eq!((totals.lost_messages, totals.evicted, totals.malformed), (0, 0, 0));
        agent.stop().await;
    });
}

/// Queries a second.
const RATE: u32 = 4000;

/// Thousands of queries a second, each seen at both ends, and none is lost.
#[test]
fn many_queries() {
    let lab = Lab::new();
    let server = NameServer::start(&lab.pair.server, (SERVER4, 53).into());
    let count = scaled(20_000);
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let socket = client(&lab.pair.client, CLIENT4, server.address);
        let start = Instant::now();
        for id in 0..count {
            // No faster: this is about a rate, not about who gets the processor.
            let due = start + id as u32 * Duration::from_secs(1) / RATE;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            ask(&socket, &query(id as u16, "one.test", A));
        }
        println!("{:.0} queries a second", count as f64 / start.elapsed().as_secs_f64());
        agent.drain().await;
        let totals = agent.dns().await.totals.expect("totals");
        assert_eq!((totals.queries, totals.responses), (2 * count, 2 * count), "{totals:?}");
        assert_eq!((totals.lost_messages, totals.unasked, totals.timeouts), (0, 0, 0));
        agent.stop().await;
    });
}

/// A ring that is too small loses by count, and says so to who listens.
#[test]
fn a_ring_that_is_too_small() {
    let lab = Lab::new();
    let server = NameServer::start(&lab.pair.server, (SERVER4, 53).into());
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let ring_buffer_size = page.expect("a limit").expect("a page size") as u32;
    let config = Config { ring_buffer_size, ..config(&lab.cgroup) };
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config).await;
        let mut watch = agent.watch_dns().await;
        let socket = client(&lab.pair.client, CLIENT4, server.address);
        let question = query(1, "never.test", A);
        for _ in 0..5000 {
            // As fast as it goes: the reader rests between two reads.
            let _ = socket.send(&question);
        }
        agent.drain().await;
        let totals = agent.dns().await.totals.expect("totals");
        assert!(totals.lost_messages > 0, "{totals:?}");
        let ring = agent.status().await.rings.into_iter().find(|ring| ring.probe == "dns");
        let ring = ring.expect("the ring's row");
        assert_eq!(ring.drops, totals.lost_messages, "{ring:?}");
        watch.rest(Duration::from_millis(100)).await;
        assert!(
            watch.lost.iter().all(|lost| lost.source() == LostSource::Ring),
            "{:?}",
            watch.lost
        );
        let told: u64 = watch.lost.iter().map(|lost| lost.events).sum();
        assert_eq!(told, totals.lost_messages, "{:?}", watch.lost);
        agent.stop().await;
    });
}

fn remote_name(flow: &Flow, remote: SocketAddr) -> Option<&str> {
    [&flow.source, &flow.destination]
        .into_iter()
        .find(|endpoint| end(endpoint.as_ref()) == remote)
        .and_then(|endpoint| Some(endpoint.as_ref()?.dns.as_ref()?.name.as_str()))
}

/// Who asks for a name and connects to what it got: the flow's other end has that name, from its
/// first event on.
#[test]
fn names_of_flows() {
    let lab = Lab::new();
    if !has_programs(&["dig", "dnsmasq"]) {
        return;
    }
    let _resolver = resolver(&lab.pair.server, None);
    in_runtime(&lab.pair.client, async || {
        for (_, address) in VERSIONS {
            let mut agent = Agent::start(config(&lab.cgroup)).await;
            let mut dns = agent.watch_dns().await;
            let kinds = vec![EventKind::FlowNew.into()];
            let request = StreamEventsRequest { kinds, ..StreamEventsRequest::default() };
            let stream = agent.client.stream_events(request).await;
            let mut stream = stream.expect("a stream").into_inner();
            let (port, server) = tcp_server(&lab.pair.server, address, 1, 10);
            let remote = SocketAddr::new(address, port);
            let kind = if address.is_ipv4() { "A" } else { "AAAA" };
            // The name that was asked for, not what it is an alias of.
            dig(&lab.pair.client, address, &format!("alias.orb8.test {kind}"));
            lab.pair.client.run(|| drop(TcpStream::connect(remote).expect("connecting")));
            server.join().expect("the server");
            let new = async {
                loop {
                    let event = stream.message().await.expect("an event").expect("it goes on");
                    let flow = event.flow.expect("a flow");
                    if flow.destination.as_ref().is_some_and(|end| end.port == u32::from(port)) {
                        return flow;
                    }
                }
            };
            let new = tokio::time::timeout(PATIENCE, new).await.expect("a new flow");
            assert_eq!(remote_name(&new, remote), Some("alias.orb8.test"), "{new:#?}");
            let answered = dns.one("the answer", is_client).await;
            let label = new.destination.as_ref().and_then(|end| end.dns.as_ref()).expect("a name");
            assert_eq!((label.learned_ns, label.ttl_seconds), (answered.time_ns, 120));
            let ours = |flow: &Flow| {
                [&flow.source, &flow.destination]
                    .into_iter()
                    .any(|this| end(this.as_ref()) == remote)
            };
            let flows = agent.flows_with(8, ours).await;
            // The client's two directions; the server's other end is the client, whom nobody named.
            let named = flows.iter().filter(|flow| remote_name(flow, remote).is_some());
            assert!(named.count() >= 2, "{flows:#?}");
            agent.stop().await;
        }
    });
}

/// With every signal on, flows still come to what was sent.
#[test]
fn flows_are_counted_beside_names() {
    let lab = Lab::new();
    let server = NameServer::start(&lab.pair.server, (SERVER4, 53).into());
    let reference = Reference::on_sockets(&lab.cgroup.open());
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config(&lab.cgroup)).await;
        let before = missing(&mut agent, &reference).await;
        let socket = client(&lab.pair.client, CLIENT4, server.address);
        for id in 0..500 {
            ask(&socket, &query(id, "one.test", A));
        }
        for addresses in VERSIONS {
            udp_echo(&lab.pair, addresses, Udp::Connected, 500, 700);
            tcp_transfer(&lab.pair, addresses, 1_000_000, 1_000_000);
        }
        assert_eq!(missing(&mut agent, &reference).await, before);
        let accounting = agent.flows().await.accounting.expect("the accounting");
        assert_eq!((accounting.lost_packets, accounting.lost_moments), (0, 0));
        agent.stop().await;
    });
}

/// What the reference counted and the agent did not: the same before and after some traffic.
async fn missing(agent: &mut Agent, reference: &Reference) -> [i128; 2] {
    eventually("rest", || {
        let before = reference.total();
        std::thread::sleep(Duration::from_millis(60));
        (reference.total() == before).then_some(())
    });
    agent.drain().await;
    let accounting = agent.flows().await.accounting.expect("the accounting");
    let total = reference.total();
    [
        i128::from(total.packets) - i128::from(accounting.counted_packets),
        i128::from(total.bytes) - i128::from(accounting.counted_bytes),
    ]
}
