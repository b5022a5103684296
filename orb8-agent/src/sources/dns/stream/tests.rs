use orb8_common::{
    flow::{DIRECTION_EGRESS, DIRECTION_INGRESS},
    packet::{TCP_ACK, protocol},
};
use proptest::prelude::*;

use super::super::samples::*;
use super::*;

/// A stream under test: segments in, messages out.
struct Wire {
    streams: Streams,
    initial: u32,
    messages: Vec<Vec<u8>>,
    lengths: Vec<u32>,
}

impl Wire {
    fn new(initial: u32) -> Self {
        let (streams, messages) = (Streams::default(), Vec::new());
        Self { streams, initial, messages, lengths: Vec::new() }
    }

    /// Begins, with a SYN.
    fn begin(mut self) -> Self {
        self.send(0, &[], 0, TCP_SYN);
        self
    }

    /// Sends a segment that lies `offset` bytes into the stream, and of which all was captured.
    fn segment(&mut self, offset: u32, bytes: &[u8]) {
        self.send(offset, bytes, bytes.len() as u32, TCP_ACK);
    }

    fn send(&mut self, offset: u32, captured: &[u8], length: u32, tcp_flags: u8) {
        let packet = DnsPacket {
            sequence: self.initial.wrapping_add(offset),
            length,
            captured: captured.len() as u16,
            protocol: protocol::TCP,
            tcp_flags,
            ..asking(1)
        };
        let Self { streams, messages, lengths, .. } = self;
        streams.take(&packet, captured, |captured, length| {
            messages.push(captured.to_vec());
            lengths.push(length);
        });
    }
}

fn two() -> [Vec<u8>; 2] {
    [query(1, "one.example", A), edns_query(2, "two.example", A)]
}

#[test]
fn messages_and_segments_need_not_agree() {
    let messages = two();
    let stream = messages.each_ref().map(|message| framed(message)).concat();
    // Each cut into two at every byte, the prefix included, and all byte by byte.
    for cut in 0..=stream.len() {
        let mut wire = Wire::new(u32::MAX - 20).begin();
        wire.segment(0, &stream[..cut]);
        wire.segment(cut as u32, &stream[cut..]);
        assert_eq!(wire.messages, messages, "cut at {cut}");
    }
    let mut wire = Wire::new(77).begin();
    for (offset, byte) in stream.iter().enumerate() {
        wire.segment(offset as u32, &[*byte]);
    }
    assert_eq!(wire.messages, messages);
    assert_eq!(wire.streams.unread(), 0);
}

#[test]
fn what_comes_again_is_taken_once() {
    let [first, second] = two().map(|message| framed(&message));
    let stream = [&first[..], &second].concat();
    let mut wire = Wire::new(5).begin();
    wire.segment(0, &first);
    wire.segment(0, &first);
    // Again, with more behind it.
    wire.segment(10, &stream[10..]);
    wire.segment(first.len() as u32, &second);
    assert_eq!(wire.messages, two());
    assert_eq!(wire.streams.unread(), 0);
}

#[test]
fn what_comes_early_waits() {
    let [first, second] = two().map(|message| framed(&message));
    let stream = [&first[..], &second].concat();
    let mut wire = Wire::new(u32::MAX).begin();
    wire.segment(20, &stream[20..40]);
    wire.segment(40, &stream[40..]);
    assert!(wire.messages.is_empty());
    wire.segment(0, &stream[..20]);
    assert_eq!(wire.messages, two());
}

#[test]
fn a_stream_that_lost_a_part_finds_its_way_again() {
    let [first, second] = two();
    let lost = framed(&first).len() as u32;
    let mut wire = Wire::new(9).begin();
    let mut offset = lost;
    for _ in 0..=MAX_EARLY {
        wire.segment(offset, &framed(&second));
        offset += framed(&second).len() as u32;
    }
    assert_eq!(
        wire.messages,
        std::slice::from_ref(&second),
        "the last begins where a message can begin"
    );
    assert_eq!(wire.streams.unread(), MAX_EARLY as u64);
    wire.segment(offset, &framed(&first));
    assert_eq!(wire.messages, [second, first]);
}

#[test]
fn a_stream_is_joined_in_its_middle() {
    let [first, second] = two();
    let mut wire = Wire::new(1000);
    let tail = &framed(&first)[9..];
    wire.segment(0, tail);
    assert_eq!((wire.messages.len(), wire.streams.unread()), (0, 1));
    wire.segment(tail.len() as u32, &framed(&second));
    assert_eq!(wire.messages, [second]);
}

#[test]
fn what_was_not_captured_is_passed_over() {
    let large = [edns_query(3, "large.example", A), vec![0; 5000]].concat();
    let next = query(4, "next.example", A);
    let framed_large = framed(&large);
    let whole = framed_large.len() as u32;
    // Captured are the first 2,048 bytes of each segment; the message ends with its last.
    let mut wire = Wire::new(0).begin();
    wire.send(0, &framed_large[..KEPT], 4000, TCP_ACK);
    wire.send(4000, &framed_large[4000..], whole - 4000, TCP_ACK);
    wire.segment(whole, &framed(&next));
    assert_eq!(wire.messages, [large[..KEPT - 2].to_vec(), next.clone()]);
    assert_eq!(wire.lengths, [large.len() as u32, next.len() as u32]);

    // Here the next message begins in what was not captured.
    let mut wire = Wire::new(0).begin();
    let stream = [framed_large, framed(&next)].concat();
    wire.send(0, &stream[..KEPT], stream.len() as u32, TCP_ACK);
    assert_eq!(wire.lengths, [large.len() as u32]);
    assert_eq!(wire.streams.unread(), 1);
    wire.segment(stream.len() as u32, &framed(&next));
    assert_eq!(wire.messages.last(), Some(&next));
}

#[test]
fn a_length_that_no_message_has_is_told_and_ends_the_reading() {
    let mut wire = Wire::new(0).begin();
    wire.segment(0, &[0; 100]);
    assert_eq!((&wire.messages[..], &wire.lengths[..]), (&[vec![]][..], &[0][..]));
    assert_eq!(wire.streams.unread(), 1);
}

#[test]
fn a_new_connection_with_the_same_ports_begins_anew() {
    let [first, second] = two();
    let mut wire = Wire::new(100).begin();
    wire.segment(0, &framed(&first)[..20]);
    wire.initial = 0x8000_0000;
    wire.send(0, &[], 0, TCP_SYN);
    wire.segment(0, &framed(&second));
    // Also where its SYN was not seen.
    wire.initial = 3;
    wire.segment(0, &framed(&first));
    assert_eq!(wire.messages, [second, first]);
}

#[test]
fn a_connection_that_ended_is_not_taken_for_another() {
    let [first, _] = two();
    let mut wire = Wire::new(100).begin();
    wire.send(0, &framed(&first), framed(&first).len() as u32, TCP_FIN | TCP_ACK);
    wire.segment(0, &framed(&first));
    assert_eq!(wire.messages, [first]);
    wire.streams.forget_idle(asking(1).time_ns + LINGER_NS);
    assert!(wire.streams.is_empty());
    let mut wire = Wire::new(100).begin();
    wire.send(0, &[], 0, TCP_RST);
    assert!(wire.streams.is_empty());
}

#[test]
fn streams_are_bounded_and_the_silent_ones_go() {
    let mut streams = Streams::default();
    let mut packets = 0_u64;
    let mut open = |streams: &mut Streams, port, direction| {
        packets += 1;
        let packet = DnsPacket {
            source_port: port,
            direction,
            protocol: protocol::TCP,
            tcp_flags: TCP_SYN,
            ..asking(packets)
        };
        streams.take(&packet, &[], |_, _| {});
    };
    for port in 0..3000 {
        open(&mut streams, port, DIRECTION_EGRESS);
        open(&mut streams, port, DIRECTION_INGRESS);
    }
    assert_eq!(streams.len(), MAX_STREAMS);
    streams.forget_idle(IDLE_NS);
    assert_eq!(streams.len(), MAX_STREAMS, "none was silent for so long");
    streams.forget_idle(u64::MAX);
    assert!(streams.is_empty());
}

proptest! {
    #[test]
    fn any_order_within_reach_gives_every_message(
        initial: u32,
        sizes in prop::collection::vec(1_usize..60, 1..6),
        swaps in prop::collection::vec(0_usize..3, 0..6),
    ) {
        let messages: Vec<Vec<u8>> =
            (0..4).map(|id| query(id, "some.example", A)).collect();
        let stream: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
        let mut segments = Vec::new();
        let mut offset = 0;
        for size in sizes.iter().cycle() {
            let end = stream.len().min(offset + size);
            segments.push((offset, end));
            offset = end;
            if offset == stream.len() {
                break;
            }
        }
        for (index, swap) in swaps.iter().enumerate() {
            let other = index + swap;
            if other < segments.len() {
                segments.swap(index, other);
            }
        }
        let mut wire = Wire::new(initial).begin();
        for (start, end) in segments {
            wire.segment(start as u32, &stream[start..end]);
        }
        if wire.streams.unread() == 0 {
            prop_assert_eq!(wire.messages, messages);
        }
    }

    #[test]
    fn any_segments_are_survived(
        segments in prop::collection::vec(
            (any::<u32>(), prop::collection::vec(any::<u8>(), 0..64), 0_u32..100_000, any::<u8>()),
            0..40,
        ),
    ) {
        let mut wire = Wire::new(0);
        for (offset, captured, beyond, flags) in segments {
            let length = captured.len() as u32 + beyond;
            wire.send(offset % 300, &captured, length, flags);
        }
        for message in wire.messages {
            prop_assert!(message.len() <= KEPT);
        }
    }
}
