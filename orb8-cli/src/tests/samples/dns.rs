//! DNS: answered, refused, late, never, and what makes no sense.

use orb8_proto::v1::dns_answer::Data;
use orb8_proto::v1::stream_dns_response::Event;
use orb8_proto::v1::{
    DnsAnswer, DnsExchange, DnsOutcome, DnsRcodeCount, DnsSide, DnsSummary, DnsTotals,
    DnsTypeCount, Endpoint, Histogram, Hook, Interface, LostSource, Protocol, StreamDnsResponse,
    Workload,
};

use super::{NOON, SECOND, endpoint, lost, pod};

const MS: u64 = 1_000_000;

fn exchange(client: Endpoint, name: &str, query_type: (u32, &str)) -> DnsExchange {
    DnsExchange {
        time_ns: NOON,
        client: Some(client),
        server: Some(endpoint("10.96.0.10", 53, None)),
        protocol: Protocol::Udp.into(),
        side: DnsSide::Client.into(),
        hook: Hook::Socket.into(),
        interface: Some(Interface { index: 2, name: "eth0".into() }),
        id: 4711,
        name: name.into(),
        query_type: query_type.0,
        query_type_name: query_type.1.into(),
        query_class: 1,
        outcome: DnsOutcome::Answered.into(),
        rcode: Some(0),
        rcode_name: "NOERROR".into(),
        latency_ns: 1_234_567,
        recursion_available: true,
        query_time_ns: NOON - 1_234_567,
        query_bytes: 48,
        response_bytes: 120,
        cgroup_id: 815,
        socket_cookie: 4242,
        node_name: "worker-1".into(),
        ..DnsExchange::default()
    }
}

fn trainer() -> Endpoint {
    endpoint("10.244.1.12", 40_123, pod("ml", "llama-trainer-0"))
}

fn unit(name: &str) -> Option<Workload> {
    Some(Workload { unit: name.into(), ..Workload::default() })
}

fn answer(name: &str, record: (u32, &str), data: Data) -> DnsAnswer {
    DnsAnswer {
        name: name.into(),
        r#type: record.0,
        type_name: record.1.into(),
        ttl_seconds: 300,
        data: Some(data),
    }
}

const A: (u32, &str) = (1, "A");

/// A chain, with more records than the agent keeps.
fn answered() -> DnsExchange {
    DnsExchange {
        answers: vec![
            answer("models.example.com", (5, "CNAME"), Data::Target("edge.example.net".into())),
            answer("edge.example.net", A, Data::Ip(vec![93, 184, 216, 34])),
            answer("edge.example.net", A, Data::Ip(vec![93, 184, 216, 35])),
        ],
        answer_count: 5,
        ..exchange(trainer(), "models.example.com", A)
    }
}

/// What a search domain makes, slow at that.
fn nxdomain() -> DnsExchange {
    DnsExchange {
        rcode: Some(3),
        rcode_name: "NXDOMAIN".into(),
        authoritative: true,
        latency_ns: 123 * MS,
        ..exchange(trainer(), "models.example.com.ml.svc.cluster.local", (28, "AAAA"))
    }
}

fn timeout() -> DnsExchange {
    DnsExchange {
        outcome: DnsOutcome::Timeout.into(),
        rcode: None,
        rcode_name: String::new(),
        latency_ns: 5 * SECOND,
        retries: 2,
        recursion_available: false,
        response_bytes: 0,
        ..exchange(endpoint("192.168.100.23", 50_001, unit("ssh.service")), "db.internal", A)
    }
}

/// The answer that came after all, over TCP, seen at the server.
fn late() -> DnsExchange {
    DnsExchange {
        rcode: Some(2),
        rcode_name: "SERVFAIL".into(),
        latency_ns: 7 * SECOND,
        late: true,
        side: DnsSide::Server.into(),
        protocol: Protocol::Tcp.into(),
        server: Some(endpoint("10.244.1.3", 5353, pod("kube-system", "coredns-7d4f"))),
        ..exchange(endpoint("2001:db8:1234:5678:9abc:def0:1234:5678", 40_123, None), ".", (2, "NS"))
    }
}

fn unasked() -> DnsExchange {
    DnsExchange {
        outcome: DnsOutcome::Unasked.into(),
        query_time_ns: 0,
        latency_ns: 0,
        query_bytes: 0,
        ..exchange(trainer(), "forged.example", A)
    }
}

fn malformed() -> DnsExchange {
    DnsExchange {
        outcome: DnsOutcome::Malformed.into(),
        hook: Hook::Interface.into(),
        side: DnsSide::Transit.into(),
        rcode: None,
        rcode_name: String::new(),
        query_time_ns: 0,
        latency_ns: 0,
        id: 0,
        query_class: 0,
        recursion_available: false,
        cgroup_id: 0,
        socket_cookie: 0,
        ..exchange(endpoint("10.244.1.12", 40_123, None), "", (0, ""))
    }
}

fn lost_in_ring() -> StreamDnsResponse {
    StreamDnsResponse { event: lost(LostSource::Ring).lost.map(Event::Lost) }
}

pub(in crate::tests) fn exchanges() -> Vec<StreamDnsResponse> {
    let told = |exchange| StreamDnsResponse { event: Some(Event::Exchange(exchange)) };
    let mut messages = vec![told(answered()), told(nxdomain()), told(timeout())];
    messages.extend([lost_in_ring(), told(late()), told(unasked()), told(malformed())]);
    messages
}

fn summary(workload: Option<Workload>, name: &str, responses: [(u32, &str, u64); 2]) -> DnsSummary {
    let rcode = |(rcode, name, count): (u32, &str, u64)| DnsRcodeCount {
        rcode,
        name: name.to_owned(),
        count,
    };
    let count = responses.iter().map(|(_, _, count)| count).sum();
    DnsSummary {
        workload,
        side: DnsSide::Client.into(),
        name: name.into(),
        queries: count,
        responses: count,
        rcodes: responses.into_iter().filter(|(_, _, count)| *count > 0).map(rcode).collect(),
        latency: Some(Histogram {
            counts: vec![0, count],
            shift: 20,
            sum: count * MS,
            min: MS / 2,
            max: 123 * MS,
            p50: MS,
            p90: 4 * MS,
            p99: 87 * MS,
        }),
        first_seen_ns: NOON - 3600 * SECOND,
        last_seen_ns: NOON,
        types: vec![
            DnsTypeCount { query_type: 1, name: "A".into(), count },
            DnsTypeCount { query_type: 28, name: "AAAA".into(), count: 1 },
        ],
        ..DnsSummary::default()
    }
}

pub(crate) fn summaries() -> Vec<DnsSummary> {
    let search = "models.example.com.ml.svc.cluster.local";
    vec![
        summary(
            pod("ml", "llama-trainer-0"),
            "models.example.com",
            [(0, "NOERROR", 123_456), (3, "NXDOMAIN", 12)],
        ),
        summary(
            pod("ml", "llama-trainer-0"),
            search,
            [(3, "NXDOMAIN", 40_000), (2, "SERVFAIL", 17)],
        ),
        DnsSummary {
            timeouts: 8,
            retries: 16,
            queries: 8,
            latency: Some(Histogram::default()),
            ..summary(unit("ssh.service"), "db.internal", [(0, "NOERROR", 0), (3, "NXDOMAIN", 0)])
        },
        DnsSummary { other: true, ..summary(None, "", [(0, "NOERROR", 500), (5, "REFUSED", 0)]) },
    ]
}

pub(crate) fn totals() -> DnsTotals {
    DnsTotals {
        queries: 164_001,
        responses: 163_985,
        timeouts: 8,
        unasked: 1,
        malformed: 2,
        lost_messages: 17,
        evicted: 0,
    }
}
