//! DNS packets into exchanges: anyone on the network chooses these bytes.
//!
//! An input is a row of packets: six bytes that say where each is seen (see [`Seen`]), and as many
//! bytes of payload as the last two of them say.

use std::cmp::Ordering;
use std::time::Duration;

use orb8_agent::clock::{Clock, Reading};
use orb8_agent::event::{DnsAnswer, DnsData, DnsExchange, DnsOutcome, Event, Payload};
use orb8_agent::sources::dns::{
    Converter, MAX_ANSWERS, MAX_STREAMS, MAX_WAITING, Matching, Message,
};
use orb8_common::dns::{CAPTURE_SIZES, DnsPacket};
use orb8_common::packet::{TCP_SYN, protocol};
use zerocopy::IntoBytes;

// Bits of the first byte.
const TCP: u8 = 1;
const FROM_SERVER: u8 = 2;
const EGRESS: u8 = 4;
const ON_INTERFACE: u8 = 8;
/// More was sent than captured.
const LONGER: u8 = 16;
/// The payload is a whole record.
const RAW: u8 = 128;

/// Longest name, each of its bytes written as `\DDD`.
const MAX_NAME: usize = 255 * 4;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Where a packet is seen, as an input says it.
struct Seen {
    what: u8,
    tcp_flags: u8,
    /// Where its segment begins, from where the last one of its direction ended.
    gap: i8,
    /// Tenths of a second since the last packet.
    later: u8,
}

/// Converts any packets, with and without a second hook.
pub fn run(data: &[u8]) {
    // Also as a message by itself: the other way to it is long.
    if let Ok(message) = Message::parse(data, data.len() as u32) {
        let answers = message.response.iter().flat_map(|response| &response.answers);
        check_names(message.question.iter().map(|question| &*question.name), answers);
    }
    for both_hooks in [false, true] {
        let mut wire = Wire::new(both_hooks);
        let mut rest = data;
        while let [what, tcp_flags, gap, later, low, high, tail @ ..] = rest {
            let length = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
            let (payload, tail) = tail.split_at(length);
            rest = tail;
            let gap = i8::from_le_bytes([*gap]);
            wire.see(&Seen { what: *what, tcp_flags: *tcp_flags, gap, later: *later }, payload);
        }
        wire.end();
    }
}

struct Wire {
    converter: Converter,
    time_ns: u64,
    /// Where each direction's stream ended.
    sequences: [u32; 2],
    packets: u64,
    bytes: u64,
    told: u64,
}

impl Wire {
    fn new(both_hooks: bool) -> Self {
        let matching = Matching { timeout: TIMEOUT, both_hooks, started_ns: 0 };
        let clock = Clock::with_source(|| Reading { monotonic_ns: 0, unix_ns: 0 });
        Self {
            converter: Converter::new(&matching, vec![53], clock),
            time_ns: 0,
            sequences: [u32::MAX; 2],
            packets: 0,
            bytes: 0,
            told: 0,
        }
    }

    fn see(&mut self, seen: &Seen, payload: &[u8]) {
        self.time_ns += u64::from(seen.later) * 100_000_000;
        let captured = &payload[..payload.len().min(CAPTURE_SIZES[2])];
        let record = if seen.what & RAW != 0 {
            payload.to_vec()
        } else {
            [self.packet(seen, captured, payload.len()).as_bytes(), captured].concat()
        };
        self.packets += 1;
        self.bytes += record.len() as u64;
        let mut batch = Vec::new();
        self.converter.record(&record, &mut batch);
        self.converter.expire(self.time_ns, &mut batch);
        self.check(batch);
    }

    fn packet(&mut self, seen: &Seen, captured: &[u8], length: usize) -> DnsPacket {
        let is_from_server = seen.what & FROM_SERVER != 0;
        let length = length as u32 + if seen.what & LONGER != 0 { 3000 } else { 0 };
        let next = &mut self.sequences[usize::from(is_from_server)];
        let sequence = next.wrapping_add_signed(seen.gap.into());
        *next = sequence.wrapping_add(length);
        let (client, server) = (([1; 16], 40_000), ([2; 16], 53));
        let (source, destination) =
            if is_from_server { (server, client) } else { (client, server) };
        DnsPacket {
            source_addr: source.0,
            destination_addr: destination.0,
            time_ns: self.time_ns,
            cgroup_id: 7,
            cookie: 5,
            source_port: source.1,
            destination_port: destination.1,
            sequence,
            length,
            captured: captured.len() as u16,
            protocol: if seen.what & TCP != 0 { protocol::TCP } else { protocol::UDP },
            direction: u8::from(seen.what & EGRESS != 0),
            ifindex: 2,
            hook: u8::from(seen.what & ON_INTERFACE != 0),
            tcp_flags: seen.tcp_flags,
            reserved: [0; 2],
        }
    }

    fn check(&mut self, batch: Vec<Event>) {
        for event in batch {
            let Payload::Dns(exchange) = event.payload else { panic!("{event:?}") };
            self.told += 1;
            check_exchange(&exchange);
        }
        let (waiting, streams) = self.converter.held();
        assert!(waiting <= MAX_WAITING && streams <= MAX_STREAMS, "{waiting}, {streams}");
        // A message has two bytes of length at least, and is told twice where its answer is late.
        assert!(self.told <= 2 * self.bytes, "{} told of {} bytes", self.told, self.bytes);
        let unread = self.converter.unread() + self.converter.undecodable();
        assert!(unread <= 2 * self.packets, "{unread} unread of {} packets", self.packets);
    }

    fn end(&mut self) {
        let mut batch = Vec::new();
        self.converter.expire(u64::MAX, &mut batch);
        self.check(batch);
        assert!(!self.converter.is_waiting() && self.converter.is_idle());
    }
}

fn check_exchange(exchange: &DnsExchange) {
    let DnsExchange {
        outcome, response, asked, question, latency_ns, retries, told_retries, ..
    } = exchange;
    let answers = response.iter().flat_map(|response| &response.answers);
    check_names(question.iter().map(|question| &*question.name), answers);
    let late = response.as_ref().is_some_and(|response| response.late);
    match outcome {
        DnsOutcome::Answered => {
            assert!(response.is_some() && asked.is_some(), "{exchange:?}");
            assert_eq!(late, *latency_ns >= TIMEOUT.as_nanos() as u64, "{exchange:?}");
            assert_eq!(late, told_retries.is_some(), "{exchange:?}");
        }
        DnsOutcome::Timeout => {
            assert!(response.is_none() && asked.is_some(), "{exchange:?}");
            // What was sent again after its timeout waited longer.
            let is_first = told_retries.is_none();
            let waited = latency_ns.cmp(&(TIMEOUT.as_nanos() as u64));
            assert_eq!(waited, if is_first { Ordering::Equal } else { Ordering::Greater });
            assert!(is_first || *retries > told_retries.unwrap_or(0), "{exchange:?}");
        }
        DnsOutcome::Unasked => {
            assert!(response.is_some() && asked.is_none() && !late, "{exchange:?}");
            assert_eq!((*latency_ns, *retries), (0, 0));
        }
        DnsOutcome::Malformed => {
            assert!(response.is_none() && question.is_none(), "{exchange:?}");
        }
    }
}

fn check_names<'a>(
    question: impl Iterator<Item = &'a str>,
    answers: impl Iterator<Item = &'a DnsAnswer>,
) {
    let check = |name: &str| {
        assert!(!name.is_empty() && name.len() <= MAX_NAME, "{name:?}");
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
        assert_eq!(name, name.to_ascii_lowercase());
    };
    question.for_each(check);
    let mut count = 0;
    for DnsAnswer { name, data, .. } in answers {
        count += 1;
        check(name);
        if let DnsData::Name(name) = data {
            check(name);
        }
    }
    assert!(count <= MAX_ANSWERS, "{count} answers");
}

/// Queries and answers of every kind, over both transports and at both hooks.
pub fn seeds() -> Vec<Vec<u8>> {
    let asked = message(&[7, 0x0120, 1, 0, 0, 0], &[]);
    let mut with_options = message(&[7, 0x0120, 1, 0, 0, 1], &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    let address = [0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1];
    let alias = [0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'x', 0xc0, 16];
    let answered = message(&[7, 0x8180, 1, 2, 0, 0], &[&alias[..], &address].concat());
    let missing = message(&[7, 0x8183, 1, 0, 0, 0], &[]);
    let looping = message(&[7, 0x8180, 1, 1, 0, 0], &[0xc0, 33, 0, 1]);
    let many = message(&[7, 0x8380, 1, 300, 0, 0], &address.repeat(150));
    let stream = [framed(&asked), framed(&with_options)].concat();
    let (first, second) = stream.split_at(20);
    let both = |what| {
        [packet(what | EGRESS, 0, 0, &asked), packet(what | FROM_SERVER, 0, 1, &answered)].concat()
    };
    let connection = [
        packet(TCP | EGRESS, TCP_SYN, 1, &[]),
        packet(TCP | EGRESS, 0x18, 0, first),
        packet(TCP | EGRESS, 0x18, 0, second),
        packet(TCP | FROM_SERVER, 0x12, 1, &[]),
        packet(TCP | FROM_SERVER, 0x18, 1, &framed(&answered)),
        packet(TCP | FROM_SERVER, 0x11, 0, &[]),
    ]
    .concat();
    let late = [
        packet(EGRESS, 0, 60, &asked),
        packet(EGRESS, 0, 10, &asked),
        packet(FROM_SERVER, 0, 60, &missing),
        packet(FROM_SERVER, 0, 1, &answered),
    ]
    .concat();
    let seen_twice =
        [both(0), both(ON_INTERFACE), both(ON_INTERFACE | EGRESS), packet(0, 0, 0, &asked)]
            .concat();
    with_options.truncate(30);
    vec![
        both(0),
        seen_twice,
        [late.clone(), late].concat(),
        [connection.clone(), connection].concat(),
        packet(LONGER | FROM_SERVER, 0, 70, &many),
        packet(FROM_SERVER, 0, 70, &looping),
        packet(EGRESS, 0, 0, &with_options),
        packet(RAW, 0, 0, &[1; 208]),
        asked,
        many,
    ]
}

fn message(header: &[u16; 6], records: &[u8]) -> Vec<u8> {
    let header: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
    [&header, &b"\x03wWw\x07example\x03com\x00\x00\x01\x00\x01"[..], records].concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

fn packet(what: u8, tcp_flags: u8, later: u8, payload: &[u8]) -> Vec<u8> {
    let [low, high] = (payload.len() as u16).to_le_bytes();
    [&[what, tcp_flags, 0, later, low, high], payload].concat()
}
