//! Kernel records → [`Event`]s.

use orb8_common::{
    dns::{DnsPacket, NOTHING_CAPTURED},
    packet::protocol,
};

use super::{
    exchange::{Exchanges, Matching, Sighting},
    message::{Message, NoMessage},
    stream::Streams,
};
use crate::{clock::Clock, event::Event};

/// Turns records into messages and messages into exchanges.
pub struct Converter {
    exchanges: Exchanges,
    streams: Streams,
    ports: Vec<u16>,
    malformed: u64,
    unread: u64,
    undecodable: u64,
}

impl Converter {
    /// Knows nothing yet. `ports` are the servers': they tell a query from a response where the
    /// message does not, or cannot be believed.
    #[must_use]
    pub fn new(matching: &Matching, ports: Vec<u16>, clock: Clock) -> Self {
        Self {
            exchanges: Exchanges::new(matching, clock),
            streams: Streams::default(),
            ports,
            malformed: 0,
            unread: 0,
            undecodable: 0,
        }
    }

    /// Converts a ring record.
    pub fn record(&mut self, record: &[u8], batch: &mut Vec<Event>) {
        let Some((packet, captured)) = DnsPacket::read(record) else {
            self.undecodable += 1;
            return;
        };
        match packet.protocol {
            protocol::UDP if packet.captured == NOTHING_CAPTURED => self.unread += 1,
            protocol::UDP => self.message(&packet, captured, packet.length, batch),
            protocol::TCP => {
                let mut streams = std::mem::take(&mut self.streams);
                streams.take(&packet, captured, |captured, length| {
                    self.message(&packet, captured, length, batch);
                });
                self.streams = streams;
            }
            _ => self.undecodable += 1,
        }
    }

    fn message(
        &mut self,
        packet: &DnsPacket,
        captured: &[u8],
        length: u32,
        batch: &mut Vec<Event>,
    ) {
        let sighting = Sighting { packet, bytes: length };
        match Message::parse(captured, length) {
            Ok(message)
                if message.response.is_some() && self.server_sent(packet) == Some(false) =>
            {
                self.tell_malformed(&sighting, captured, batch);
            }
            Ok(message) => self.exchanges.take(&sighting, message, batch),
            Err(NoMessage::CutShort) => self.unread += 1,
            Err(NoMessage::Malformed) => self.tell_malformed(&sighting, captured, batch),
        }
    }

    fn tell_malformed(&mut self, sighting: &Sighting<'_>, captured: &[u8], batch: &mut Vec<Event>) {
        self.malformed += 1;
        let id = captured.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
        let says_so = captured.get(2).is_some_and(|flags| flags & QR != 0);
        let is_response = self.server_sent(sighting.packet).unwrap_or(says_so);
        batch.push(self.exchanges.malformed(sighting, id, is_response));
    }

    /// Whether a server's port sent a packet to one that is none, or the other way round; `None` where
    /// the ports do not tell.
    fn server_sent(&self, packet: &DnsPacket) -> Option<bool> {
        let [source, destination] =
            [packet.source_port, packet.destination_port].map(|port| self.ports.contains(&port));
        (source != destination).then_some(source)
    }

    /// Tells of the queries that waited too long, and forgets what is old.
    pub fn expire(&mut self, now_ns: u64, batch: &mut Vec<Event>) {
        self.exchanges.expire(now_ns, batch);
        self.streams.forget_idle(now_ns);
    }

    /// Takes the difference between the clocks anew.
    pub fn sync_clock(&mut self) {
        self.exchanges.sync_clock();
    }

    /// Messages were lost: what answers them has no query.
    pub fn distrust(&mut self, now_ns: u64) {
        self.exchanges.distrust(now_ns);
    }

    /// Whether a timeout may have to be told.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.exchanges.is_waiting()
    }

    /// Whether anything is remembered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.exchanges.is_empty() && self.streams.is_empty()
    }

    /// Queries and streams that are remembered.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (self.exchanges.len(), self.streams.len())
    }

    /// Queries that made room for others before it was known what became of them, since start.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.exchanges.evicted()
    }

    /// Messages that do not parse, since start.
    #[must_use]
    pub const fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Packets whose messages could not be read, since start.
    #[must_use]
    pub const fn unread(&self) -> u64 {
        self.unread + self.streams.unread()
    }

    /// Records that were not what they should be, since start.
    #[must_use]
    pub const fn undecodable(&self) -> u64 {
        self.undecodable
    }
}

/// The bit of a header's third byte that a response has.
const QR: u8 = 0x80;

#[cfg(test)]
mod tests;
