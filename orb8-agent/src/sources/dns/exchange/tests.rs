use orb8_common::{
    flow::{DIRECTION_EGRESS, DIRECTION_INGRESS},
    packet::protocol,
};

use super::super::{samples::*, table::MAX_WAITING};
use super::*;
use crate::{clock::Reading, event::UnixNanos};

const TIMEOUT_MS: u64 = 5_000;

/// The matching under test: packets in, exchanges out.
struct Place {
    exchanges: Exchanges,
    events: Vec<Event>,
}

impl Place {
    fn new(both_hooks: bool) -> Self {
        let timeout = Duration::from_millis(TIMEOUT_MS);
        let matching = Matching { timeout, both_hooks, started_ns: 0 };
        let clock = Clock::with_source(|| Reading { monotonic_ns: 0, unix_ns: 0 });
        Self { exchanges: Exchanges::new(&matching, clock), events: Vec::new() }
    }

    fn see(&mut self, packet: DnsPacket, message: &[u8]) -> &mut Self {
        let bytes = message.len() as u32;
        let parsed = Message::parse(message, bytes).unwrap();
        self.exchanges.take(&Sighting { packet: &packet, bytes }, parsed, &mut self.events);
        self
    }

    fn wait_until(&mut self, time_ms: u64) -> &mut Self {
        self.exchanges.expire(time_ms * 1_000_000, &mut self.events);
        self
    }

    fn told(&mut self) -> Vec<DnsExchange> {
        let exchange = |event: Event| match event.payload {
            Payload::Dns(exchange) => *exchange,
            payload => panic!("{payload:?}"),
        };
        self.events.drain(..).map(exchange).collect()
    }

    fn told_one(&mut self) -> DnsExchange {
        let mut told = self.told();
        assert_eq!(told.len(), 1, "{told:#?}");
        told.remove(0)
    }
}

const NAME: &str = "www.example.com";

fn asked() -> Vec<u8> {
    query(7, NAME, A)
}

fn answered() -> Vec<u8> {
    response(7, NAME, A, &[address(1)])
}

const MS: u64 = 1_000_000;

#[test]
fn a_response_is_told_with_its_query() {
    let mut place = Place::new(false);
    let query = edns_query(7, "WWW.example.COM", A);
    let exchange = place.see(asking(10_000), &query).see(answering(10_025), &answered()).told_one();
    assert_eq!(exchange.outcome, DnsOutcome::Answered);
    assert_eq!(exchange.side, DnsSide::Client);
    assert_eq!((exchange.client.port, exchange.server.port), (40_000, 53));
    assert_eq!((exchange.latency_ns, exchange.retries), (25 * MS, 0));
    assert_eq!(exchange.asked, Some(UnixNanos(10_000 * MS)));
    assert_eq!((exchange.cgroup_id, exchange.cookie, exchange.ifindex), (7, 9, 2));
    assert_eq!(exchange.query_bytes as usize, query.len());
    assert_eq!(&*exchange.question.unwrap().name, NAME);
    let response = exchange.response.unwrap();
    assert!(!response.late);
    assert_eq!(response.answers.len(), 1);
    assert!(place.exchanges.is_empty());
}

#[test]
fn the_side_is_where_the_packet_was_seen() {
    let side = |asked: DnsPacket, answered: DnsPacket| {
        Place::new(false)
            .see(asked, &self::asked())
            .see(answered, &self::answered())
            .told_one()
            .side
    };
    assert_eq!(side(asking(1), answering(2)), DnsSide::Client);
    let received = packet(CLIENT, SERVER, DIRECTION_INGRESS, 1);
    let sent = packet(SERVER, CLIENT, DIRECTION_EGRESS, 2);
    assert_eq!(side(received, sent), DnsSide::Server);
    assert_eq!(side(on_interface(received), on_interface(sent)), DnsSide::Transit);
    assert_eq!(side(on_interface(asking(1)), on_interface(answering(2))), DnsSide::Transit);
}

#[test]
fn both_ends_on_one_machine_are_two_exchanges() {
    let mut place = Place::new(false);
    place
        .see(asking(1), &asked())
        .see(packet(CLIENT, SERVER, DIRECTION_INGRESS, 1), &asked())
        .see(packet(SERVER, CLIENT, DIRECTION_EGRESS, 3), &answered())
        .see(answering(4), &answered());
    let told: Vec<_> = place.told().iter().map(|told| (told.side, told.latency_ns)).collect();
    assert_eq!(told, [(DnsSide::Server, 2 * MS), (DnsSide::Client, 3 * MS)]);
}

#[test]
fn a_query_without_an_answer_is_told_once() {
    let mut place = Place::new(false);
    place.see(asking(1000), &asked()).wait_until(5_999);
    assert!(place.told().is_empty());
    let exchange = place.wait_until(6_050).wait_until(7_000).told_one();
    assert_eq!(exchange.outcome, DnsOutcome::Timeout);
    assert_eq!(exchange.latency_ns, TIMEOUT_MS * MS);
    assert_eq!(exchange.response, None);
    place.wait_until(40_000);
    assert!(place.exchanges.is_empty() && place.told().is_empty());
}

#[test]
fn a_late_answer_is_told_too() {
    let mut place = Place::new(false);
    place.see(asking(1000), &asked()).wait_until(7_000).told_one();
    let exchange = place.see(answering(9_000), &answered()).told_one();
    assert_eq!((exchange.outcome, exchange.latency_ns), (DnsOutcome::Answered, 8_000 * MS));
    assert!(exchange.response.unwrap().late);
    // Before anyone looked at the clock, the same comes out.
    let mut place = Place::new(false);
    let told = place.see(asking(1000), &asked()).see(answering(9_000), &answered()).told();
    assert_eq!((told[0].outcome, told[0].latency_ns), (DnsOutcome::Timeout, 5_000 * MS));
    assert!(told[1].response.as_ref().unwrap().late);
    // Half a minute later nobody knows the query.
    place.see(asking(10_000), &asked()).wait_until(45_001).told();
    let exchange = place.see(answering(45_002), &answered()).told_one();
    assert_eq!(exchange.outcome, DnsOutcome::Unasked);
}

#[test]
fn retries_count_from_the_first() {
    let mut place = Place::new(false);
    let exchange = place
        .see(asking(1000), &asked())
        .see(asking(2000), &asked())
        .see(asking(3000), &asked())
        .see(answering(3_010), &answered())
        .told_one();
    assert_eq!((exchange.retries, exchange.latency_ns), (2, 2_010 * MS));
    // The server may answer every repetition; one response more than that is nobody's.
    place.see(answering(5_900), &answered()).see(answering(5_901), &answered());
    assert!(place.told().is_empty());
    let exchange = place.see(answering(5_902), &answered()).told_one();
    assert_eq!(exchange.outcome, DnsOutcome::Unasked);
}

#[test]
fn a_repetition_after_the_timeout_is_one_too() {
    let mut place = Place::new(false);
    let told = place
        .see(asking(1000), &asked())
        .see(asking(6_001), &asked())
        .see(answering(6_020), &answered())
        .told();
    assert_eq!(told.len(), 2);
    assert_eq!((told[0].outcome, told[0].retries), (DnsOutcome::Timeout, 0));
    assert_eq!((told[1].outcome, told[1].retries), (DnsOutcome::Answered, 1));
    assert!(told[1].response.as_ref().unwrap().late);
    let told_retries: Vec<_> = told.iter().map(|told| told.told_retries).collect();
    assert_eq!(told_retries, [None, Some(0)]);
}

#[test]
fn a_repetition_after_the_timeout_waits_again() {
    let mut place = Place::new(false);
    place.see(asking(1000), &asked()).see(asking(2000), &asked()).wait_until(6_000).told_one();
    place.see(asking(6_010), &asked()).wait_until(11_009);
    assert!(place.exchanges.is_waiting() && place.told().is_empty());
    let exchange = place.wait_until(11_010).told_one();
    assert_eq!(exchange.outcome, DnsOutcome::Timeout);
    assert_eq!((exchange.retries, exchange.told_retries), (2, Some(1)));
    assert_eq!(exchange.latency_ns, 10_010 * MS);
    // The first deadline for late answers, 36 s after the query, is not this one's.
    let exchange = place
        .see(asking(12_000), &asked())
        .wait_until(16_999)
        .see(answering(16_999), &answered())
        .told_one();
    assert_eq!((exchange.outcome, exchange.retries), (DnsOutcome::Answered, 3));
    assert_eq!(exchange.told_retries, Some(2));
    assert!(exchange.response.unwrap().late);
    place.wait_until(50_000);
    assert!(place.exchanges.is_empty() && !place.exchanges.is_waiting());
}

/// A Service's address, as programs know it.
const SERVICE: (u8, u16) = (9, 53);

/// The node's address, as a Service's backend is asked from.
const NODE: (u8, u16) = (4, 61_000);

#[test]
fn a_translated_query_is_told_with_the_ends_that_its_program_knows() {
    let mut place = Place::new(false);
    let sent = packet(NODE, SERVER, DIRECTION_EGRESS, 6_000);
    let received = packet(SERVICE, CLIENT, DIRECTION_INGRESS, 6_003);
    let exchange = place.see(sent, &asked()).see(received, &answered()).told_one();
    assert_eq!((exchange.outcome, exchange.latency_ns), (DnsOutcome::Answered, 3 * MS));
    assert_eq!((exchange.client.port, exchange.client.addr), (CLIENT.1, [CLIENT.0; 16]));
    assert_eq!((exchange.server.port, exchange.server.addr), (SERVICE.1, [SERVICE.0; 16]));
    // Both repetitions are answered.
    let told = place
        .see(sent, &asked())
        .see(sent, &asked())
        .see(received, &answered())
        .see(received, &answered())
        .told();
    assert_eq!((told.len(), told[0].retries), (1, 1));
    assert!(place.exchanges.is_empty());
}

#[test]
fn a_translated_response_is_told_with_the_ends_of_its_query() {
    let mut place = Place::new(false);
    // One socket, two clients with one id and question.
    let other: (u8, u16) = (3, 40_000);
    for client in [CLIENT, other] {
        place.see(packet(client, SERVER, DIRECTION_INGRESS, 6_000), &asked());
    }
    for (client, ms) in [(other, 1), (CLIENT, 2)] {
        let sent = packet(SERVICE, client, DIRECTION_EGRESS, 6_000 + ms);
        let exchange = place.see(sent, &answered()).told_one();
        assert_eq!((exchange.outcome, exchange.side), (DnsOutcome::Answered, DnsSide::Server));
        assert_eq!(exchange.latency_ns, ms * MS);
        assert_eq!(exchange.client.addr, [client.0; 16]);
        assert_eq!(exchange.server.addr, [SERVER.0; 16]);
    }
    let stranger = packet(SERVICE, (5, 40_000), DIRECTION_EGRESS, 6_003);
    let exchange = place.see(stranger, &answered()).told_one();
    assert_eq!(exchange.outcome, DnsOutcome::Unasked);
}

#[test]
fn untranslated_ends_go_before_the_socket() {
    let mut place = Place::new(false);
    // One query to several servers at once, from one socket.
    for server in [SERVER, (3, 53)] {
        place.see(packet(CLIENT, server, DIRECTION_EGRESS, 6_000), &asked());
    }
    for (server, ms) in [((3, 53), 1), (SERVER, 2)] {
        let exchange = place
            .see(packet(server, CLIENT, DIRECTION_INGRESS, 6_000 + ms), &answered())
            .told_one();
        assert_eq!((exchange.server.addr, exchange.latency_ns), ([server.0; 16], ms * MS));
    }
    assert!(place.exchanges.is_empty());
}

fn other_socket(packet: DnsPacket) -> DnsPacket {
    DnsPacket { cookie: 10, ..packet }
}

#[test]
fn what_does_not_match_is_no_answer() {
    let others = [
        (answering(6_001), response(8, NAME, A, &[])),
        (answering(6_001), response(7, "www.example.org", A, &[])),
        (answering(6_001), response(7, NAME, 28, &[])),
        (other_socket(packet((3, 53), CLIENT, DIRECTION_INGRESS, 6_001)), answered()),
        (other_socket(packet(SERVER, (1, 40_001), DIRECTION_INGRESS, 6_001)), answered()),
        (DnsPacket { cookie: 0, ..packet((3, 53), CLIENT, DIRECTION_INGRESS, 6_001) }, answered()),
        (packet((3, 53), CLIENT, DIRECTION_INGRESS, 6_001), response(7, NAME, 28, &[])),
        (packet((3, 53), CLIENT, DIRECTION_EGRESS, 6_001), answered()),
        (DnsPacket { protocol: protocol::TCP, ..answering(6_001) }, answered()),
    ];
    for (packet, spoofed) in others {
        let mut place = Place::new(false);
        let exchange = place.see(asking(6_000), &asked()).see(packet, &spoofed).told_one();
        assert_eq!(exchange.outcome, DnsOutcome::Unasked, "{packet:?}");
        assert_eq!((exchange.asked, exchange.latency_ns), (None, 0));
        assert!(exchange.response.is_some());
        // The query waits on.
        let exchange = place.see(answering(6_010), &answered()).told_one();
        assert_eq!((exchange.outcome, exchange.latency_ns), (DnsOutcome::Answered, 10 * MS));
    }
}

#[test]
fn a_response_without_a_question_is_an_answer() {
    let mut place = Place::new(false);
    let refused = words([7, 0x8005, 0, 0, 0, 0]);
    let exchange = place.see(asking(1), &asked()).see(answering(2), &refused).told_one();
    assert_eq!(exchange.outcome, DnsOutcome::Answered);
    assert_eq!(&*exchange.question.unwrap().name, NAME);
}

#[test]
fn notifications_match_as_queries_do() {
    let with_opcode = |mut message: Vec<u8>| {
        message[2] |= 4 << 3;
        message
    };
    let mut place = Place::new(false);
    let exchange = place
        .see(asking(6_000), &with_opcode(asked()))
        .see(answering(6_001), &with_opcode(answered()))
        .told_one();
    assert_eq!(exchange.outcome, DnsOutcome::Answered);
    let exchange = place
        .see(asking(6_002), &with_opcode(asked()))
        .see(answering(6_003), &answered())
        .told_one();
    assert_eq!(exchange.outcome, DnsOutcome::Unasked);
}

#[test]
fn answers_to_what_was_asked_before_are_not_unasked() {
    let mut place = Place::new(false);
    place.see(answering(4_999), &answered());
    assert!(place.told().is_empty());
    assert_eq!(place.see(answering(5_000), &answered()).told_one().outcome, DnsOutcome::Unasked);
    place.exchanges.distrust(6_000 * MS);
    place.see(answering(10_999), &answered());
    assert!(place.told().is_empty());
}

#[test]
fn an_id_that_is_used_again_is_another_query() {
    let mut place = Place::new(false);
    let other = query(7, "other.example", A);
    // Both wait, as those for A and AAAA may.
    place.see(asking(1), &asked()).see(asking(2), &other);
    assert_eq!((place.exchanges.len(), place.exchanges.evicted()), (2, 0));
    let exchange = place.see(answering(3), &response(7, "other.example", A, &[])).told_one();
    assert_eq!(exchange.latency_ns, MS);
    let exchange = place.see(answering(4), &answered()).told_one();
    assert_eq!((exchange.outcome, exchange.latency_ns), (DnsOutcome::Answered, 3 * MS));
    // The same again after its answer is no repetition.
    let exchange =
        place.see(asking(8), &other).see(answering(9), &response(7, "other.example", A, &[]));
    assert_eq!(exchange.told_one().retries, 0);
}

#[test]
fn the_table_is_bounded_and_the_oldest_go() {
    let mut place = Place::new(true);
    let from = |number: u64| {
        let port = number as u16;
        packet((1 + (number >> 16) as u8, port), SERVER, DIRECTION_EGRESS, 1 + number / 1000)
    };
    let many = 30_000;
    for number in 0..many {
        place.see(from(number), &asked());
    }
    assert_eq!(place.exchanges.len(), MAX_WAITING);
    assert_eq!(place.exchanges.evicted(), many - MAX_WAITING as u64);
    place.wait_until(10_000);
    assert_eq!(place.told().len(), MAX_WAITING);
    // Those whose timeout was told make room first, and nothing is lost with them.
    let evicted = place.exchanges.evicted();
    for number in 0..10 {
        let late = DnsPacket { time_ns: 10_000 * MS, ..from(number + 100_000) };
        place.see(late, &asked());
    }
    assert_eq!((place.exchanges.len(), place.exchanges.evicted()), (MAX_WAITING, evicted));
}

#[test]
fn answered_queries_leave_nothing_behind() {
    let mut place = Place::new(true);
    for number in 0..30_000_u64 {
        let port = number as u16;
        let client = (1, port);
        place.see(packet(client, SERVER, DIRECTION_EGRESS, number / 100), &asked());
        place.see(packet(SERVER, client, DIRECTION_INGRESS, number / 100), &answered());
    }
    assert_eq!(place.told().len(), 30_000);
    assert!(place.exchanges.is_empty());
    place.wait_until(1 << 30);
    assert!(!place.exchanges.is_waiting());
}

#[test]
fn what_both_hooks_see_is_told_by_the_socket_hook() {
    // A local server behind an interface: the query passes the interface first.
    let mut place = Place::new(true);
    let received = packet(CLIENT, SERVER, DIRECTION_INGRESS, 1);
    let exchange = place
        .see(on_interface(received), &asked())
        .see(received, &asked())
        .see(packet(SERVER, CLIENT, DIRECTION_EGRESS, 2), &answered())
        .told_one();
    assert_eq!(exchange.side, DnsSide::Server);
    assert!(place.exchanges.is_empty(), "the interface's sight of it is gone");

    // A local client: the response passes the interface first, and what a socket sent is left to the
    // socket hook, or is seen on the interface after it.
    for with_query in [false, true] {
        let mut place = Place::new(true);
        place.see(asking(6_000), &asked());
        if with_query {
            place.see(on_interface(asking(6_000)), &asked());
        }
        place.see(on_interface(answering(6_001)), &answered()).see(answering(6_002), &answered());
        let exchange = place.told_one();
        assert_eq!((exchange.side, exchange.latency_ns), (DnsSide::Client, 2 * MS));
        assert!(place.exchanges.is_empty());
    }
}

#[test]
fn address_translation_does_not_make_two_of_one() {
    let mut place = Place::new(true);
    // The node's interface sees the Service's address, the server's socket its own.
    let service = packet(CLIENT, (9, 53), DIRECTION_INGRESS, 6_000);
    place
        .see(on_interface(service), &asked())
        .see(packet(CLIENT, SERVER, DIRECTION_INGRESS, 6_000), &asked())
        .see(packet(SERVER, CLIENT, DIRECTION_EGRESS, 6_001), &answered())
        .wait_until(20_000);
    assert_eq!(place.told_one().side, DnsSide::Server);
    // The client asks the Service, and the backend's response comes in.
    place
        .see(packet(CLIENT, (9, 53), DIRECTION_EGRESS, 30_000), &asked())
        .see(on_interface(answering(30_001)), &answered())
        .see(packet((9, 53), CLIENT, DIRECTION_INGRESS, 30_002), &answered());
    assert_eq!(place.told_one().side, DnsSide::Client);
}

#[test]
fn what_only_the_interface_sees_is_told_by_it() {
    let mut place = Place::new(true);
    let through = |packet| DnsPacket { ifindex: 5, ..on_interface(packet) };
    // Another query with the same id, that has nothing in common with it.
    place.see(packet((4, 1), (5, 53), DIRECTION_EGRESS, 5_999), &asked());
    let exchange =
        place.see(through(asking(6_000)), &asked()).see(through(answering(6_004)), &answered());
    let exchange = exchange.told_one();
    assert_eq!((exchange.side, exchange.latency_ns), (DnsSide::Transit, 4 * MS));
    assert_eq!(exchange.ifindex, 5);
}

#[test]
fn a_query_is_told_where_it_passed_first() {
    let seen = |packet: DnsPacket, ifindex, direction| DnsPacket {
        ifindex,
        direction,
        ..on_interface(packet)
    };
    // In by a veth, out by the uplink; on loopback, or through a router with one leg, out and in by
    // the same device.
    for (device, other) in [(5, 2), (1, 1)] {
        let mut place = Place::new(false);
        place
            .see(seen(asking(1), device, DIRECTION_INGRESS), &asked())
            .see(seen(asking(2), other, DIRECTION_EGRESS), &asked())
            .see(seen(asking(3), device, DIRECTION_INGRESS), &asked())
            .see(seen(asking(3), other, DIRECTION_EGRESS), &asked())
            .see(seen(answering(6_005), other, DIRECTION_INGRESS), &answered())
            .see(seen(answering(6_006), device, DIRECTION_EGRESS), &answered());
        let told = place.told();
        let told: Vec<_> = told.iter().map(|told| (told.ifindex, told.retries)).collect();
        assert_eq!(told, [(device, 1), (device, 1)], "a timeout, and a late answer");
    }
    // Another client with the same id and question is another query.
    let mut place = Place::new(false);
    let other = packet((3, 40_000), SERVER, DIRECTION_INGRESS, 1);
    place.see(on_interface(asking(1)), &asked()).see(on_interface(other), &asked());
    assert_eq!(place.exchanges.len(), 2);
}

#[test]
fn malformed_messages_have_the_ends_that_they_claim() {
    let place = Place::new(false);
    let packet = asking(3);
    let sighting = Sighting { packet: &packet, bytes: 4 };
    for (is_response, client) in [(false, 40_000), (true, 53)] {
        let event = place.exchanges.malformed(&sighting, 7, is_response);
        let Payload::Dns(exchange) = event.payload else { panic!("{event:?}") };
        assert_eq!((exchange.outcome, exchange.id), (DnsOutcome::Malformed, 7));
        assert_eq!(exchange.client.port, client);
    }
}
