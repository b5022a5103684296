use super::*;
use crate::event::{
    DnsExchange, DnsOutcome, DnsQuestion, DnsSide, ResetBy, SocketEnd, TcpKind, TcpRole, TcpSample,
};
use crate::store::dns::DnsQuery;
use crate::store::tcp::TcpQuery;

fn sample(kind: TcpKind, cgroup_id: u64) -> TcpSample {
    TcpSample {
        kind,
        local: SocketEnd { addr: mapped(1), port: 40_000 },
        remote: SocketEnd { addr: mapped(2), port: 80 },
        of_packet: false,
        local_end: None,
        cgroup_id,
        cookie: 7,
        netns: 0,
        ifindex: 0,
        role: TcpRole::Client,
        state: 0,
        old_state: 0,
        srtt_ns: None,
        figures: None,
    }
}

fn timeout(cgroup_id: u64) -> DnsExchange {
    DnsExchange {
        client: SocketEnd::default(),
        server: SocketEnd::default(),
        transport: 17,
        side: DnsSide::Client,
        cgroup_id,
        cookie: 0,
        ifindex: 0,
        id: 1,
        question: Some(DnsQuestion { name: "a".into(), kind: 1, class: 1 }),
        outcome: DnsOutcome::Timeout,
        response: None,
        asked: Some(UnixNanos(1)),
        latency_ns: 5,
        retries: 0,
        told_retries: None,
        query_bytes: 30,
    }
}

fn ingest(bench: &mut Bench, payload: Payload) {
    let event = Event { time: UnixNanos(9), subject: None, payload };
    let now = bench.now();
    bench.pipeline.ingest_at(&mut vec![event], now);
}

#[test]
fn the_rst_of_a_closed_port_is_no_connection() {
    let mut bench = Bench::new();
    let reset = || TcpKind::Reset { by: ResetBy::Local, reason: None };
    let packet = TcpSample { of_packet: true, cookie: 0, ..sample(reset(), 0) };
    for sample in [packet, sample(reset(), 5)] {
        ingest(&mut bench, Payload::Tcp(Box::new(sample)));
    }
    let page = bench.pipeline.query_tcp(&TcpQuery { limit: 9, ..TcpQuery::default() });
    assert_eq!((page.total, bench.pipeline.totals().connections), (0, 0));
    assert_eq!(bench.pipeline.tcp_totals().resets_sent, 2);
}

#[test]
fn an_owner_that_was_not_known_is_looked_for_again_by_who_asks() {
    let cgroups = tempfile::tempdir().unwrap();
    let mut bench = Bench::with(|config| config.cgroup_root = Some(cgroups.path().to_owned()));
    // Long ago for who asks.
    bench.start -= Duration::from_secs(30);
    ingest(&mut bench, Payload::Dns(Box::new(timeout(u64::MAX))));
    let path = cgroups.path().join("system.slice/sshd.service");
    fs::create_dir_all(&path).unwrap();
    let id = fs::metadata(&path).unwrap().ino();
    // The last walk was just now.
    ingest(&mut bench, Payload::Dns(Box::new(timeout(id))));
    ingest(&mut bench, Payload::Tcp(Box::new(sample(TcpKind::Fail { errno: 111 }, id))));
    assert_eq!(bench.pipeline.totals().workloads, 0);
    let page = bench.pipeline.query_tcp(&TcpQuery { limit: 9, ..TcpQuery::default() });
    let unit = |owner: Option<&crate::identity::Workload>| owner?.unit.clone();
    assert_eq!(unit(page.rows[0].subject.workload()).as_deref(), Some("sshd.service"));
    let page = bench.pipeline.query_dns(&DnsQuery { limit: 9, ..DnsQuery::default() });
    let mut units: Vec<_> = page.rows.iter().map(|row| unit(row.workload.as_deref())).collect();
    units.sort();
    assert_eq!(units, [None, Some("sshd.service".into())]);
}
