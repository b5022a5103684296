//! What a scrape costs with as many pods as there may be.

use nix::time::{ClockId, clock_gettime};

use super::*;
use crate::metrics::Format;

/// Pods, each with flows, DNS and TCP.
const PODS: u64 = 5_000;

/// Debug builds are some twenty times slower, and this machine may be busy.
const BOUND: Duration = Duration::from_secs(20);

/// Of this thread's own time: what else the machine does is no fault of a piece's.
const PIECE: Duration = Duration::from_millis(100);

fn own_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn busy() -> Bench {
    let mut bench = Bench::new("namespace,pod", 10_000);
    for id in 0..PODS {
        let owner = owner(id + 1, &format!("deployment-{}-{id}", id / 10));
        let egress = ends(owner.clone(), Party::Unknown);
        let ingress = ends(Party::Unknown, owner.clone());
        for protocol in [TCP, UDP] {
            let mut out = flow_with(egress.clone(), |key| key.protocol = protocol);
            bench.count(&mut out, 10, 1000 + id);
            let into = |key: &mut FlowKey| {
                (key.protocol, key.direction) = (protocol, DIRECTION_INGRESS);
            };
            bench.count(&mut flow_with(ingress.clone(), into), 10, 1000);
        }
        let at = bench.at();
        let answered = exchange(DnsOutcome::Answered, Some(0));
        bench.traffic.count_dns(&answered, &egress, &bench.world, at);
        bench.tcp(
            &owner,
            TcpKind::Connect { handshake_ns: Some(1_000_000 + id) },
            OfConnection::default(),
        );
        let mut counts = [0; RTT_BUCKETS];
        (counts[8], counts[10]) = (3, 1);
        let round_trips = Some(RoundTrips { counts: &counts, sum_us: 1_500 });
        bench.tcp(&owner, TcpKind::Progress, OfConnection { resent: 1, round_trips });
    }
    bench
}

#[test]
fn thousands_of_pods_are_scraped_in_time() {
    let bench = busy();
    assert_eq!(bench.traffic.totals().sets, PODS);
    let (mut longest, mut from, mut told) = (Duration::ZERO, Some(0), Vec::new());
    while let Some(at) = from {
        let locked = own_time();
        let piece = bench.traffic.copy(at, crate::metrics::CHUNK);
        longest = longest.max(own_time() - locked);
        told.extend(piece.0);
        from = piece.1;
    }
    assert_eq!(told.len() as u64, PODS);
    let made = Instant::now();
    let families: Vec<_> = families(&told).collect();
    let samples: usize = families.iter().map(|family| family.samples.len()).sum();
    println!("{samples} samples in {:?}, {longest:?} locked at most", made.elapsed());
    for format in Format::ALL {
        let started = Instant::now();
        let page = format.encode(families.clone());
        let took = started.elapsed();
        println!("{format:?}: {} KiB in {took:?}", page.len() >> 10);
        assert!(took < BOUND && !page.is_empty());
    }
    assert!(longest < PIECE, "{longest:?}");
    let (mut bench, swept) = (bench, own_time());
    bench.pass(1);
    println!("who is gone: {:?}", own_time() - swept);
}
