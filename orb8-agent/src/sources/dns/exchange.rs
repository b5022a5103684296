//! Queries and their responses → exchanges.
//!
//! ```text
//! query ──▶ table ──(response: same id, transport and question; same ends or socket)──▶ Answered
//!             ├──(nothing in time)──▶ Timeout ──(a response after all)──▶ Answered, late
//!             │     ▲                └──(the same query again)──▶ waits again
//!             └──(full)──▶ evicted, counted         response ──(no query)──▶ Unasked
//! ```

use std::{hash::BuildHasher, time::Duration};

use orb8_common::{
    dns::DnsPacket,
    flow::{DIRECTION_EGRESS, HOOK_SOCKET},
};

use super::{
    message::Message,
    table::{Key, State, Table, Waiting},
};
use crate::{
    clock::Clock,
    event::{
        DnsExchange, DnsOutcome, DnsQuestion, DnsResponse, DnsSide, Event, Payload, SocketEnd,
    },
};

/// What is set for the matching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matching {
    /// How long a query waits.
    pub timeout: Duration,
    /// Both hooks run, so that a message may be seen by each.
    pub both_hooks: bool,
    /// When the source began: monotonic clock, nanoseconds. Queries from before are not known.
    pub started_ns: u64,
}

/// A message, and the packet that it came with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sighting<'a> {
    /// Who sent it to whom, when, and where it was seen.
    pub(super) packet: &'a DnsPacket,
    /// Its length: not the packet's where a stream carries it.
    pub(super) bytes: u32,
}

impl Sighting<'_> {
    const fn source(&self) -> SocketEnd {
        SocketEnd { addr: self.packet.source_addr, port: self.packet.source_port }
    }

    const fn destination(&self) -> SocketEnd {
        SocketEnd { addr: self.packet.destination_addr, port: self.packet.destination_port }
    }

    const fn is_egress(&self) -> bool {
        self.packet.direction == DIRECTION_EGRESS
    }

    /// Client and server.
    const fn ends(&self, is_response: bool) -> (SocketEnd, SocketEnd) {
        if is_response {
            (self.destination(), self.source())
        } else {
            (self.source(), self.destination())
        }
    }

    fn side(&self, is_response: bool) -> DnsSide {
        if self.packet.hook != HOOK_SOCKET {
            DnsSide::Transit
        } else if self.is_egress() == is_response {
            DnsSide::Server
        } else {
            DnsSide::Client
        }
    }

    fn key(&self, message: &Message, question: u64) -> Key {
        let is_response = message.response.is_some();
        let (client, server) = self.ends(is_response);
        let side = self.side(is_response);
        Key {
            client,
            server,
            id: message.id,
            transport: self.packet.protocol,
            opcode: message.opcode,
            side,
            passage: (side == DnsSide::Transit)
                .then(|| (self.packet.ifindex, self.is_egress() != is_response)),
            question,
        }
    }
}

/// The queries that wait, and what is told of them.
pub(super) struct Exchanges {
    table: Table,
    /// Of questions.
    hasher: foldhash::fast::RandomState,
    clock: Clock,
    both_hooks: bool,
    timeout_ns: u64,
    /// Before this, a response without a query may have one that was not seen.
    trusted_ns: u64,
}

impl Exchanges {
    /// Knows no query yet.
    pub(super) fn new(matching: &Matching, clock: Clock) -> Self {
        let Matching { timeout, both_hooks, started_ns } = *matching;
        let timeout_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        Self {
            table: Table::new(timeout_ns),
            hasher: foldhash::fast::RandomState::default(),
            clock,
            both_hooks,
            timeout_ns,
            trusted_ns: started_ns.saturating_add(timeout_ns),
        }
    }

    /// Queries that made room for others before it was known what became of them.
    pub(super) const fn evicted(&self) -> u64 {
        self.table.evicted()
    }

    /// How many queries are remembered.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is.
    pub(super) fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// Whether a timeout may have to be told.
    pub(super) fn is_waiting(&self) -> bool {
        self.table.is_waiting()
    }

    /// Messages were lost: for a while, a response without a query may be the answer to one of them.
    pub(super) fn distrust(&mut self, now_ns: u64) {
        self.trusted_ns = self.trusted_ns.max(now_ns.saturating_add(self.timeout_ns));
    }

    /// Takes the difference between the clocks anew.
    pub(super) fn sync_clock(&mut self) {
        self.clock.sync();
    }

    /// Takes in a message.
    pub(super) fn take(
        &mut self,
        sighting: &Sighting<'_>,
        message: Message,
        batch: &mut Vec<Event>,
    ) {
        self.expire(sighting.packet.time_ns, batch);
        let hash = message.question.as_ref().map_or(0, |question| self.hasher.hash_one(question));
        let key = sighting.key(&message, hash);
        let Message { question, response, .. } = message;
        let asked = match response {
            None => self.table.contains(&key).then_some(key),
            Some(_) => self.table.asked(&key, question.as_ref(), sighting.packet.cookie),
        };
        if key.side == DnsSide::Transit {
            if asked.is_none() && self.is_seen_elsewhere(&key, question.as_ref()) {
                return;
            }
        } else if self.both_hooks {
            self.supersede(&key, question.as_ref());
        }
        match (response, asked) {
            (None, _) => self.ask(sighting, key, question),
            (Some(response), Some(asked)) => self.answer(sighting, &key, &asked, response, batch),
            (Some(response), None) => self.unasked(sighting, &key, question, response, batch),
        }
    }

    /// Tells of the queries that waited too long, and forgets those that did for much longer.
    pub(super) fn expire(&mut self, now_ns: u64, batch: &mut Vec<Event>) {
        while let Some((key, at_ns)) = self.table.time_out(now_ns) {
            let Some(waiting) = self.table.get(&key) else { continue };
            let exchange = exchange_of(&key, waiting, &self.clock);
            let latency_ns = at_ns.saturating_sub(waiting.asked_ns);
            waiting.told_retries = Some(waiting.retries);
            self.tell(at_ns, DnsExchange { latency_ns, ..exchange }, batch);
        }
        self.table.forget(now_ns);
    }

    /// Tells of a message that does not parse.
    pub(super) fn malformed(&self, sighting: &Sighting<'_>, id: u16, is_response: bool) -> Event {
        let packet = sighting.packet;
        let (client, server) = sighting.ends(is_response);
        let time = self.clock.unix(packet.time_ns);
        let exchange = DnsExchange {
            client,
            server,
            transport: packet.protocol,
            side: sighting.side(is_response),
            cgroup_id: packet.cgroup_id,
            cookie: packet.cookie,
            ifindex: packet.ifindex,
            id,
            question: None,
            outcome: DnsOutcome::Malformed,
            response: None,
            asked: (!is_response).then_some(time),
            latency_ns: 0,
            retries: 0,
            told_retries: None,
            query_bytes: if is_response { 0 } else { sighting.bytes },
        };
        Event { time, subject: None, payload: Payload::Dns(Box::new(exchange)) }
    }

    fn ask(&mut self, sighting: &Sighting<'_>, key: Key, question: Option<DnsQuestion>) {
        let again = self.table.get(&key).filter(|waiting| {
            waiting.question == question && !matches!(waiting.state, State::Answered(_))
        });
        if let Some(waiting) = again {
            waiting.retries = waiting.retries.saturating_add(1);
            waiting.ifindex = sighting.packet.ifindex;
            if waiting.state == State::TimedOut {
                self.table.wait_again(&key, sighting.packet.time_ns);
            }
            return;
        }
        self.table.insert(key, Waiting::new(sighting.packet, question, sighting.bytes));
    }

    fn answer(
        &mut self,
        sighting: &Sighting<'_>,
        key: &Key,
        asked: &Key,
        mut response: DnsResponse,
        batch: &mut Vec<Event>,
    ) {
        let time_ns = sighting.packet.time_ns;
        let Some(waiting) = self.table.get(asked) else { return };
        if let State::Answered(others) = waiting.state {
            // To a repetition of the query. What else comes is nobody's answer.
            waiting.state = State::Answered(others.saturating_sub(1));
            if others <= 1 {
                self.table.remove(asked);
            }
            return;
        }
        response.late = waiting.told_retries.is_some();
        // What a socket receives has the ends that its program knows.
        let ends = if key.side == DnsSide::Client { key } else { asked };
        let exchange = exchange_of(ends, waiting, &self.clock);
        let retries = waiting.retries;
        let exchange = DnsExchange {
            outcome: DnsOutcome::Answered,
            latency_ns: time_ns.saturating_sub(waiting.asked_ns),
            cgroup_id: or_else(waiting.cgroup_id, sighting.packet.cgroup_id),
            cookie: or_else(waiting.cookie, sighting.packet.cookie),
            response: Some(response),
            ..exchange
        };
        if retries > 0 {
            waiting.state = State::Answered(retries);
        } else {
            self.table.remove(asked);
        }
        self.tell(time_ns, exchange, batch);
    }

    fn unasked(
        &self,
        sighting: &Sighting<'_>,
        key: &Key,
        question: Option<DnsQuestion>,
        response: DnsResponse,
        batch: &mut Vec<Event>,
    ) {
        let time_ns = sighting.packet.time_ns;
        // The interface hook leaves local sockets' queries to the socket hook, so it has not seen
        // those that their responses answer.
        let is_others = self.both_hooks && key.side == DnsSide::Transit;
        if time_ns < self.trusted_ns || is_others {
            return;
        }
        let waiting = Waiting::new(sighting.packet, question, 0);
        let exchange = DnsExchange {
            outcome: DnsOutcome::Unasked,
            response: Some(response),
            asked: None,
            ..exchange_of(key, &waiting, &self.clock)
        };
        self.tell(time_ns, exchange, batch);
    }

    fn tell(&self, time_ns: u64, exchange: DnsExchange, batch: &mut Vec<Event>) {
        let time = self.clock.unix(time_ns);
        batch.push(Event { time, subject: None, payload: Payload::Dns(Box::new(exchange)) });
    }

    /// Whether an interface's sight of a message is not the one that is told: that is the socket
    /// hook's where it has one, else that of the first interface that the query passed.
    fn is_seen_elsewhere(&self, key: &Key, question: Option<&DnsQuestion>) -> bool {
        self.table.with_id(key).any(|(other, waiting)| {
            let is_same_server = other.server == key.server || other.side != DnsSide::Transit;
            is_same_server && is_related(key, other) && waiting.is_about(question)
        })
    }

    /// Forgets what an interface saw of a message, since a socket sees it too.
    fn supersede(&mut self, key: &Key, question: Option<&DnsQuestion>) {
        let others = self.table.with_id(key).filter(|(other, waiting)| {
            other.side == DnsSide::Transit && is_related(key, other) && waiting.is_about(question)
        });
        for other in others.map(|(other, _)| *other).collect::<Vec<_>>() {
            self.table.remove(&other);
        }
    }
}

/// Whether two sights may be of the same message. Address translation gives a Service's query another
/// server on its way.
fn is_related(one: &Key, other: &Key) -> bool {
    one.client == other.client && (one.transport, one.opcode) == (other.transport, other.opcode)
}

const fn or_else(value: u64, other: u64) -> u64 {
    if value != 0 { value } else { other }
}

/// What is known of a query, as a timeout tells it.
fn exchange_of(key: &Key, waiting: &Waiting, clock: &Clock) -> DnsExchange {
    DnsExchange {
        client: key.client,
        server: key.server,
        transport: key.transport,
        side: key.side,
        cgroup_id: waiting.cgroup_id,
        cookie: waiting.cookie,
        ifindex: waiting.ifindex,
        id: key.id,
        question: waiting.question.clone(),
        outcome: DnsOutcome::Timeout,
        response: None,
        asked: Some(clock.unix(waiting.asked_ns)),
        latency_ns: 0,
        retries: waiting.retries,
        told_retries: waiting.told_retries,
        query_bytes: waiting.query_bytes,
    }
}

#[cfg(test)]
mod tests;
