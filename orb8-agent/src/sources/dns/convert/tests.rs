use std::time::Duration;

use orb8_common::{
    flow::DIRECTION_EGRESS,
    packet::{TCP_ACK, TCP_SYN},
};
use zerocopy::IntoBytes;

use super::{super::samples::*, *};
use crate::{
    clock::Reading,
    event::{DnsExchange, DnsOutcome, Payload},
};

fn converter() -> Converter {
    let timeout = Duration::from_secs(5);
    let matching = Matching { timeout, both_hooks: false, started_ns: 0 };
    let clock = Clock::with_source(|| Reading { monotonic_ns: 0, unix_ns: 0 });
    Converter::new(&matching, vec![53], clock)
}

/// A record of a packet that carries `payload`, of which `captured` bytes were captured.
fn record(packet: DnsPacket, payload: &[u8], captured: usize) -> Vec<u8> {
    let length = payload.len() as u32;
    let packet = DnsPacket { length, captured: captured as u16, ..packet };
    // What lies behind the captured bytes is not theirs.
    [packet.as_bytes(), &payload[..captured], &[0xee; 9]].concat()
}

fn told(converter: &mut Converter, packet: DnsPacket, payload: &[u8]) -> Vec<DnsExchange> {
    let mut batch = Vec::new();
    converter.record(&record(packet, payload, payload.len()), &mut batch);
    let exchange = |event: Event| match event.payload {
        Payload::Dns(exchange) => *exchange,
        payload => panic!("{payload:?}"),
    };
    batch.into_iter().map(exchange).collect()
}

#[test]
fn datagrams_and_streams_become_exchanges() {
    let mut converter = converter();
    let (asked, answered) = (query(3, "a.example", A), response(3, "a.example", A, &[address(9)]));
    assert!(told(&mut converter, asking(1), &asked).is_empty());
    let exchange = told(&mut converter, answering(2), &answered).remove(0);
    assert_eq!((exchange.transport, exchange.latency_ns), (protocol::UDP, 1_000_000));

    let segment = |packet, sequence, tcp_flags| DnsPacket {
        protocol: protocol::TCP,
        sequence,
        tcp_flags,
        ..packet
    };
    assert!(told(&mut converter, segment(asking(3), 10, TCP_SYN), &[]).is_empty());
    assert!(told(&mut converter, segment(answering(4), 77, TCP_SYN | TCP_ACK), &[]).is_empty());
    let (asked, answered) = (framed(&asked), framed(&answered));
    assert!(told(&mut converter, segment(asking(5), 10, TCP_ACK), &asked[..1]).is_empty());
    assert!(told(&mut converter, segment(asking(6), 11, TCP_ACK), &asked[1..]).is_empty());
    assert!(told(&mut converter, segment(answering(7), 77, TCP_ACK), &answered[..20]).is_empty());
    let exchange = told(&mut converter, segment(answering(9), 97, TCP_ACK), &answered[20..]);
    assert_eq!((exchange[0].transport, exchange[0].latency_ns), (protocol::TCP, 3_000_000));
    assert_eq!(
        exchange[0].query_bytes as usize,
        asked.len() - 2,
        "the length is not the message's"
    );
    assert_eq!(converter.held(), (0, 2));
    converter.expire(u64::MAX, &mut Vec::new());
    assert!(converter.is_idle());
}

#[test]
fn what_cannot_be_read_is_counted() {
    let mut converter = converter();
    let mut batch = Vec::new();
    let asked = query(3, "a.example", A);
    converter.record(b"short", &mut batch);
    converter.record(&record(DnsPacket { protocol: 132, ..asking(1) }, &asked, 5), &mut batch);
    assert_eq!(converter.undecodable(), 2);
    converter.record(&record(asking(1), &asked, 0), &mut batch);
    converter.record(&record(asking(1), &asked, 14), &mut batch);
    assert_eq!((converter.unread(), converter.malformed()), (2, 0));
    assert!(batch.is_empty());
}

#[test]
fn malformed_messages_are_told_with_what_they_have() {
    let mut converter = converter();
    let mut malformed = |packet: DnsPacket, bytes: &[u8]| {
        let exchange = told(&mut converter, packet, bytes).remove(0);
        assert_eq!(exchange.outcome, DnsOutcome::Malformed);
        (exchange.id, exchange.client.port)
    };
    assert_eq!(malformed(asking(1), &[1, 2, 3]), (0x102, 40_000));
    assert_eq!(malformed(answering(1), &[1, 2, 0x83]), (0x102, 40_000));
    // What it says of itself is no more to be believed than the rest.
    assert_eq!(malformed(asking(1), &[0xff; 600]), (0xffff, 40_000));
    assert_eq!(malformed(answering(1), &[0; 3]), (0, 40_000));
    // Between servers only it can tell.
    let between = packet(SERVER, (3, 53), DIRECTION_EGRESS, 1);
    assert_eq!(malformed(between, &[0xff; 600]), (0xffff, 53));
    // A response that goes to a server.
    assert_eq!(malformed(asking(1), &response(5, "a.example", A, &[])), (5, 40_000));
    // Too short for the bit that tells: the port does.
    assert_eq!(malformed(asking(1), &[1]), (0, 40_000));
    assert_eq!(malformed(answering(1), &[1]), (0, 40_000));
    assert_eq!(converter.malformed(), 8);
}
