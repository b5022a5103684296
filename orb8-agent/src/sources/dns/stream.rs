//! DNS over TCP: segments → messages.
//!
//! A message has its length in front, two bytes, and neither respects segments. Streams are kept
//! per direction and place, so each is what one socket sends; segments may come twice, early, or
//! with their end left out of the capture.

use orb8_common::{
    dns::{CAPTURE_SIZES, DnsPacket},
    packet::{TCP_FIN, TCP_RST, TCP_SYN},
};

use super::message::{HEADER, Message};
use crate::event::SocketEnd;

/// Streams that are kept: with all they may hold, 10 MiB.
pub const MAX_STREAMS: usize = 1024;

/// Segments that a stream holds until those in front of them come.
const MAX_EARLY: usize = 4;

/// Bytes kept of a message, as of a datagram.
const KEPT: usize = CAPTURE_SIZES[2];

/// A stream that was silent for longer is forgotten: servers close idle connections sooner.
const IDLE_NS: u64 = 120_000_000_000;

/// A stream that ended is remembered for the segments that come again.
const LINGER_NS: u64 = 5_000_000_000;

/// No window is larger: a sequence number that is further back belongs to another connection.
const MAX_BEHIND: u32 = 1 << 30;

/// One direction of one connection, at one place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: SocketEnd,
    destination: SocketEnd,
    hook: u8,
    direction: u8,
    ifindex: u32,
}

/// The streams that are known.
#[derive(Default)]
pub(super) struct Streams {
    streams: hashbrown::HashMap<Key, Stream, foldhash::fast::RandomState>,
    unread: u64,
}

impl Streams {
    /// Takes in a segment, and hands each message that it ends to `tell`: what was captured of it,
    /// and its length.
    pub(super) fn take(
        &mut self,
        packet: &DnsPacket,
        captured: &[u8],
        tell: impl FnMut(&[u8], u32),
    ) {
        let key = key_of(packet);
        let has = |flag| packet.tcp_flags & flag != 0;
        if has(TCP_RST) {
            self.streams.remove(&key);
            return;
        }
        if has(TCP_SYN) {
            self.make_room(&key, packet.time_ns);
            self.streams.insert(key, Stream::new(packet.sequence, true));
        } else if packet.length > 0 && !self.streams.contains_key(&key) {
            self.make_room(&key, packet.time_ns);
            self.streams.insert(key, Stream::new(packet.sequence, false));
        }
        let Some(stream) = self.streams.get_mut(&key) else { return };
        stream.used_ns = packet.time_ns;
        if packet.length > 0 {
            let segment = Segment { sequence: packet.sequence, length: packet.length };
            self.unread += stream.take(segment, captured, tell);
        }
        if has(TCP_FIN) {
            stream.has_ended = true;
        }
    }

    /// Segments whose messages could not be read, since start.
    pub(super) const fn unread(&self) -> u64 {
        self.unread
    }

    /// How many streams are known.
    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether none is known.
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Forgets streams that were silent for long.
    pub(super) fn forget_idle(&mut self, now_ns: u64) {
        self.streams.retain(|_, stream| stream.expires_ns() > now_ns);
    }

    fn make_room(&mut self, key: &Key, now_ns: u64) {
        if self.streams.len() < MAX_STREAMS || self.streams.contains_key(key) {
            return;
        }
        self.forget_idle(now_ns);
        if self.streams.len() < MAX_STREAMS {
            return;
        }
        let oldest = self.streams.iter().min_by_key(|(_, stream)| stream.expires_ns());
        if let Some(oldest) = oldest.map(|(key, _)| *key) {
            self.streams.remove(&oldest);
        }
    }
}

const fn key_of(packet: &DnsPacket) -> Key {
    Key {
        source: SocketEnd { addr: packet.source_addr, port: packet.source_port },
        destination: SocketEnd { addr: packet.destination_addr, port: packet.destination_port },
        hook: packet.hook,
        direction: packet.direction,
        ifindex: packet.ifindex,
    }
}

/// Where a segment belongs.
#[derive(Clone, Copy)]
struct Segment {
    sequence: u32,
    length: u32,
}

/// A segment that came before those in front of it.
struct Early {
    segment: Segment,
    captured: Box<[u8]>,
}

struct Stream {
    /// The sequence number that comes next.
    next: u32,
    /// Whether it is known where messages begin.
    in_sync: bool,
    /// The length in front of the message that comes now, as far as it is known.
    prefix: [u8; 2],
    prefix_len: usize,
    /// Bytes of the message that came so far.
    seen: u32,
    /// The first of them; fewer than came where the capture left some out.
    kept: Vec<u8>,
    early: Vec<Early>,
    used_ns: u64,
    /// A FIN was seen.
    has_ended: bool,
}

/// What became of a segment.
#[derive(PartialEq, Eq)]
enum Fate {
    Read,
    /// Where the next message begins is not known any more.
    OutOfSync,
}

impl Stream {
    const fn new(next: u32, begins: bool) -> Self {
        Self {
            next,
            in_sync: begins,
            prefix: [0; 2],
            prefix_len: 0,
            seen: 0,
            kept: Vec::new(),
            early: Vec::new(),
            used_ns: 0,
            has_ended: false,
        }
    }

    const fn expires_ns(&self) -> u64 {
        self.used_ns.saturating_add(if self.has_ended { LINGER_NS } else { IDLE_NS })
    }

    /// Takes in a segment, and those that waited for it. Returns how many could not be read.
    fn take(&mut self, segment: Segment, captured: &[u8], mut tell: impl FnMut(&[u8], u32)) -> u64 {
        let ahead = segment.sequence.wrapping_sub(self.next);
        let is_ahead = ahead != 0 && ahead < MAX_BEHIND;
        if self.in_sync && is_ahead && self.early.len() < MAX_EARLY {
            self.early.push(Early { segment, captured: captured.into() });
            return 0;
        }
        let is_another = !is_ahead && ahead.wrapping_neg() >= MAX_BEHIND;
        let mut unread = 0;
        if self.in_sync && (is_ahead || is_another) {
            // What is missing will not come any more.
            unread += self.early.len() as u64;
            *self = Self { used_ns: self.used_ns, ..Self::new(segment.sequence, false) };
        }
        unread += self.take_next(segment, captured, &mut tell);
        while let Some(index) = self.early.iter().position(|early| self.is_due(early.segment)) {
            let Early { segment, captured } = self.early.swap_remove(index);
            unread += self.take_next(segment, &captured, &mut tell);
        }
        unread
    }

    fn is_due(&self, segment: Segment) -> bool {
        !self.in_sync || segment.sequence.wrapping_sub(self.next).cast_signed() <= 0
    }

    /// Takes in a segment that begins where the last one ended, or before. Returns 1 when it cannot
    /// be read.
    fn take_next(
        &mut self,
        segment: Segment,
        captured: &[u8],
        tell: &mut impl FnMut(&[u8], u32),
    ) -> u64 {
        if !self.in_sync {
            if !is_start(captured) {
                return 1;
            }
            *self = Self {
                used_ns: self.used_ns,
                early: std::mem::take(&mut self.early),
                ..Self::new(segment.sequence, true)
            };
        }
        let again = self.next.wrapping_sub(segment.sequence);
        if again >= segment.length {
            return 0;
        }
        let captured = captured.get(again as usize..).unwrap_or_default();
        self.next = segment.sequence.wrapping_add(segment.length);
        if self.consume(captured, segment.length - again, tell) == Fate::Read {
            return 0;
        }
        self.in_sync = false;
        1
    }

    /// Cuts `length` bytes of the stream, of which the first were captured, into messages.
    fn consume(&mut self, captured: &[u8], length: u32, tell: &mut impl FnMut(&[u8], u32)) -> Fate {
        let mut at = 0;
        while at < length {
            if self.prefix_len < self.prefix.len() {
                let Some(&byte) = captured.get(at as usize) else { return Fate::OutOfSync };
                self.prefix[self.prefix_len] = byte;
                self.prefix_len += 1;
                at += 1;
                continue;
            }
            let wanted = u32::from(u16::from_be_bytes(self.prefix));
            if (wanted as usize) < HEADER {
                tell(&[], 0);
                return Fate::OutOfSync;
            }
            let here = (wanted - self.seen).min(length - at);
            let piece = captured.get(at as usize..).unwrap_or_default();
            self.keep(&piece[..piece.len().min(here as usize)]);
            self.seen += here;
            at += here;
            if self.seen == wanted {
                tell(&self.kept, wanted);
                self.begin_message();
            }
        }
        Fate::Read
    }

    /// Keeps the bytes that come next of a message, unless some in front of them are missing.
    fn keep(&mut self, piece: &[u8]) {
        let room = KEPT - self.kept.len();
        if self.kept.len() == self.seen as usize {
            self.kept.extend_from_slice(&piece[..piece.len().min(room)]);
        }
    }

    fn begin_message(&mut self) {
        self.prefix_len = 0;
        self.seen = 0;
        // Most streams wait after a message, and then need no memory.
        self.kept = Vec::new();
    }
}

/// Whether a segment of a stream that was not seen from its beginning looks like one that a message
/// begins in.
fn is_start(captured: &[u8]) -> bool {
    captured.split_first_chunk().is_some_and(|(prefix, message)| {
        usize::from(u16::from_be_bytes(*prefix)) >= HEADER && Message::is_plausible(message)
    })
}

#[cfg(test)]
mod tests;
