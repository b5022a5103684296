use std::net::{Ipv4Addr, Ipv6Addr};

use orb8_common::flow::{
    DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey, HOOK_INTERFACE, HOOK_SOCKET,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::event::{DnsAnswer, DnsQuestion, DnsResponse, FlowSample, SampleKind, SocketEnd};

const CLIENT: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const POD: u64 = 5;

fn at(second: u64) -> UnixNanos {
    UnixNanos(second * SECOND)
}

fn alias(name: &str, target: &str) -> DnsAnswer {
    DnsAnswer { name: name.into(), kind: CNAME, ttl: 30, data: DnsData::Name(target.into()) }
}

/// `POD` asks for a name, and gets `addrs` by way of two others.
fn exchange(name: &str, addrs: &[IpAddr], ttl: u32) -> DnsExchange {
    let answer = |addr: &IpAddr| DnsAnswer {
        name: "edge.cdn.example".into(),
        kind: if addr.is_ipv4() { 1 } else { 28 },
        ttl,
        data: DnsData::Address(*addr),
    };
    let aliases =
        [alias("middle.cdn.example", "edge.cdn.example"), alias(name, "middle.cdn.example")];
    DnsExchange {
        client: SocketEnd { addr: CLIENT, port: 40_000 },
        server: SocketEnd::default(),
        transport: 17,
        side: DnsSide::Client,
        cgroup_id: POD,
        cookie: 0,
        ifindex: 0,
        id: 1,
        question: Some(DnsQuestion { name: name.into(), kind: 1, class: 1 }),
        outcome: DnsOutcome::Answered,
        response: Some(DnsResponse {
            answers: aliases.into_iter().chain(addrs.iter().map(answer)).collect(),
            ..DnsResponse::default()
        }),
        asked: Some(at(1)),
        latency_ns: 1,
        retries: 0,
        told_retries: None,
        query_bytes: 30,
    }
}

/// A flow out of `POD` to the server, or back.
fn flow(first: UnixNanos) -> Flow {
    let key = FlowKey {
        source_addr: CLIENT,
        destination_addr: mapped(SERVER.into()),
        source_port: 50_000,
        destination_port: 443,
        ifindex: 0,
        cgroup_id: POD,
        protocol: 6,
        direction: DIRECTION_EGRESS,
        hook: HOOK_SOCKET,
        flags: 0,
        vlan: 0,
        inner_vlan: 0,
    };
    let sample = FlowSample {
        key,
        kind: SampleKind::New,
        cgroup_id: POD,
        cookie: 0,
        ifindex: 0,
        packets: 0,
        bytes: 0,
        first,
        last: first,
        tcp_flags: 0,
    };
    let mut flow = Flow::new(&sample);
    flow.cgroup_id = POD;
    flow
}

fn reply(first: UnixNanos) -> Flow {
    let mut flow = flow(first);
    let key = &mut flow.key;
    std::mem::swap(&mut key.source_addr, &mut key.destination_addr);
    std::mem::swap(&mut key.source_port, &mut key.destination_port);
    key.direction = DIRECTION_INGRESS;
    flow
}

fn table(exchange: &DnsExchange) -> NameTable {
    let mut names = NameTable::default();
    names.learn(at(100), exchange);
    names
}

fn name(names: &NameTable, flow: &Flow) -> Option<String> {
    names.label(flow).map(|label| label.name.to_string())
}

#[test]
fn both_directions_get_the_name_that_was_asked_for() {
    let names = table(&exchange("api.example.com", &[SERVER.into()], 30));
    for mut flow in [flow(at(101)), reply(at(101))] {
        flow.label = names.label(&flow);
        let remote = flow.local_end().unwrap().other();
        let label = flow.label(remote).unwrap();
        assert_eq!((&*label.name, label.ttl, label.learned), ("api.example.com", 30, at(100)));
        assert_eq!(flow.label(remote.other()), None);
    }
}

#[test]
fn a_name_is_good_from_its_answer_until_a_minute_after_its_time() {
    let names = table(&exchange("a", &[SERVER.into()], 30));
    let known = |first| names.label(&flow(first)).is_some();
    assert!(!known(at(99)), "older than the answer");
    assert!(known(UnixNanos(100 * SECOND - TICKS_NS)), "as the coarse clock has it");
    assert!(known(at(100)) && known(at(190)));
    assert!(!known(at(191)));
}

#[test]
fn the_latest_name_wins_and_the_same_again_lasts() {
    let mut names = table(&exchange("a", &[SERVER.into()], 5));
    names.learn(at(120), &exchange("a", &[SERVER.into()], 5));
    assert_eq!(name(&names, &flow(at(110))).as_deref(), Some("a"), "it had the name all along");
    names.learn(at(130), &exchange("b", &[SERVER.into()], 5));
    assert_eq!(name(&names, &flow(at(131))).as_deref(), Some("b"));
    assert_eq!(name(&names, &flow(at(110))), None, "it had another name then");
    assert_eq!(names.len(), 1);
}

#[test]
fn names_are_for_the_one_who_asked() {
    let names = table(&exchange("a", &[SERVER.into()], 30));
    let mut other = flow(at(101));
    (other.cgroup_id, other.key.cgroup_id) = (6, 6);
    assert_eq!(names.label(&other), None);
}

#[test]
fn without_a_cgroup_the_address_tells_who_asked() {
    let unknown = DnsExchange { cgroup_id: 0, ..exchange("a", &[SERVER.into()], 30) };
    let transit = DnsExchange { side: DnsSide::Transit, ..exchange("a", &[SERVER.into()], 30) };
    for names in [table(&unknown), table(&transit)] {
        assert!(names.label(&flow(at(101))).is_some(), "the same address asks and connects");
        for mut flow in [flow(at(101)), reply(at(101))] {
            flow.key.hook = HOOK_INTERFACE;
            (flow.cgroup_id, flow.key.cgroup_id) = (0, 0);
            flow.label = names.label(&flow);
            let labels = End::BOTH.map(|end| flow.label(end).is_some());
            assert_eq!(labels.iter().filter(|is_known| **is_known).count(), 1);
        }
    }
}

#[test]
fn only_answers_that_a_client_got_teach() {
    let good = exchange("a", &[SERVER.into()], 30);
    let server = DnsExchange { side: DnsSide::Server, ..good.clone() };
    let forged = DnsExchange { outcome: DnsOutcome::Unasked, ..good };
    for exchange in [server, forged] {
        assert!(table(&exchange).is_empty());
    }
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    assert_eq!(table(&exchange("a", &[SERVER.into(), v6], 30)).len(), 2);
}

#[test]
fn addresses_of_other_names_teach_nothing() {
    let with_answers = |change: fn(&mut Vec<DnsAnswer>)| {
        let mut exchange = exchange("a", &[SERVER.into()], 30);
        change(&mut exchange.response.as_mut().unwrap().answers);
        table(&exchange)
    };
    assert_eq!(with_answers(|_| {}).len(), 1);
    let others: [fn(&mut Vec<DnsAnswer>); 4] = [
        |answers| answers[2].name = "bank.example".into(),
        |answers| drop(answers.remove(0)),
        // Only an alias leads on.
        |answers| answers[0].kind = 12,
        // A loop ends.
        |answers| answers[0].data = DnsData::Name("a".into()),
    ];
    for change in others {
        assert!(with_answers(change).is_empty());
    }
    let own = with_answers(|answers| {
        answers.drain(..2);
        answers[0].name = "a".into();
    });
    assert_eq!(own.len(), 1);
}

#[test]
fn what_is_over_goes() {
    let mut names = table(&exchange("a", &[SERVER.into()], 30));
    names.expire(at(190));
    assert_eq!(names.len(), 1);
    names.expire(at(191));
    assert!(names.is_empty() && names.order.is_empty());
}

#[test]
fn a_name_of_years_is_good_for_a_day() {
    let mut names = table(&exchange("a", &[SERVER.into()], u32::MAX));
    names.expire(at(100 + 86_400 + 61));
    assert!(names.is_empty());
}

proptest! {
    #[test]
    fn the_table_is_bounded_and_the_first_to_expire_goes(
        steps in vec((0_u8..12, 0_u32..100, 0_u64..100), 1..60),
    ) {
        let mut names = NameTable::new(4);
        let mut last = None;
        for (host, ttl, second) in steps {
            let addr = IpAddr::from(Ipv4Addr::new(10, 1, 0, host));
            let known: Vec<UnixNanos> = names.order.iter().map(|(expires, _)| *expires).collect();
            let (evicted, is_known) =
                (names.evicted(), names.entries.keys().any(|key| key.addr == mapped(addr)));
            names.learn(at(second), &exchange("a", &[addr], ttl));
            prop_assert!(names.len() <= 4 && names.order.len() == names.len());
            for (expires, key) in &names.order {
                prop_assert_eq!(names.entries[key].expires, *expires);
            }
            if names.evicted() > evicted {
                prop_assert!(!is_known && known.len() == 4);
                prop_assert!(names.order.iter().filter(|(at, _)| *at == known[0]).count()
                    < 1 + known.iter().filter(|at| **at == known[0]).count());
            }
            last = Some(addr);
        }
        prop_assert!(names.entries.keys().any(|key| Some(mapped(last.unwrap())) == Some(key.addr)));
    }
}
