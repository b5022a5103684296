//! Queries that wait for their answer, and until when.

use std::collections::VecDeque;

use orb8_common::dns::DnsPacket;

use crate::event::{DnsQuestion, DnsSide, SocketEnd};

/// Queries that are remembered: some 12 MiB, and up to 30 MiB where all ask for the longest names. With
/// answers after 30 ms, those of 500,000 a second.
pub const MAX_WAITING: usize = 16_384;

/// Queries with one id that are looked through for those that were seen with other ends.
const MAX_RELATED: usize = 64;

/// How long after its timeout an answer is still known to be one.
const LATE_NS: u64 = 30_000_000_000;

/// What tells which response belongs to which query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) client: SocketEnd,
    pub(super) server: SocketEnd,
    pub(super) id: u16,
    pub(super) transport: u8,
    pub(super) opcode: u8,
    pub(super) side: DnsSide,
    /// On an interface: which one, and whether queries leave through it. A router with one leg has
    /// each query twice.
    pub(super) passage: Option<(u32, bool)>,
    /// A hash of it, 0 without one: a client may use an id for several at once.
    pub(super) question: u64,
}

impl Key {
    const fn bucket(&self) -> (u16, u8) {
        (self.id, self.transport)
    }

    /// Whether a query with this key may be what a response with another answers, where translation
    /// changed ends of one of them. A server's socket has many clients, whose address does not change.
    fn is_translation_of(&self, response: &Self) -> bool {
        self.side == response.side
            && self.opcode == response.opcode
            && match self.side {
                DnsSide::Client => true,
                DnsSide::Server => self.client == response.client,
                DnsSide::Transit => false,
            }
    }
}

/// A query whose answer did not come, or not long ago.
pub(super) struct Waiting {
    pub(super) asked_ns: u64,
    pub(super) question: Option<DnsQuestion>,
    pub(super) query_bytes: u32,
    pub(super) retries: u32,
    /// How many of them the last timeout told of.
    pub(super) told_retries: Option<u32>,
    pub(super) cgroup_id: u64,
    pub(super) cookie: u64,
    pub(super) ifindex: u32,
    pub(super) state: State,
    /// Tells it from an earlier query with the same key, and its deadline from earlier ones.
    serial: u64,
}

/// What became of a query so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing.
    Waiting,
    /// A timeout was told.
    TimedOut,
    /// It was answered, and so many of its repetitions may be answered too.
    Answered(u32),
}

impl Waiting {
    /// A query that came with `packet`.
    pub(super) const fn new(
        packet: &DnsPacket,
        question: Option<DnsQuestion>,
        query_bytes: u32,
    ) -> Self {
        Self {
            asked_ns: packet.time_ns,
            question,
            query_bytes,
            retries: 0,
            told_retries: None,
            cgroup_id: packet.cgroup_id,
            cookie: packet.cookie,
            ifindex: packet.ifindex,
            state: State::Waiting,
            serial: 0,
        }
    }

    /// Whether a message with this question belongs to the query. Some answers come without a question.
    pub(super) fn is_about(&self, question: Option<&DnsQuestion>) -> bool {
        match (&self.question, question) {
            (Some(asked), Some(question)) => asked == question,
            _ => true,
        }
    }

    /// Whether the query passed this socket, and asked the same.
    fn is_of_socket(&self, cookie: u64, question: Option<&DnsQuestion>) -> bool {
        cookie != 0
            && cookie == self.cookie
            && question.is_some()
            && self.question.as_ref() == question
    }
}

struct Deadline {
    at_ns: u64,
    key: Key,
    serial: u64,
}

/// The queries by key, and by when their time is over. Both queues are in order, since each adds a
/// fixed time to when a query was sent.
pub(super) struct Table {
    queries: Queries,
    /// The same, for messages whose ends are others than the query's. The newest of each id, few enough
    /// to look through.
    by_id: ById,
    timeouts: VecDeque<Deadline>,
    ends: VecDeque<Deadline>,
    timeout_ns: u64,
    serial: u64,
    evicted: u64,
}

type Queries = hashbrown::HashMap<Key, Waiting, foldhash::fast::RandomState>;
/// By id and transport.
type ById = hashbrown::HashMap<(u16, u8), Vec<Key>, foldhash::fast::RandomState>;

impl Table {
    pub(super) fn new(timeout_ns: u64) -> Self {
        Self {
            queries: Queries::default(),
            by_id: ById::default(),
            timeouts: VecDeque::new(),
            ends: VecDeque::new(),
            timeout_ns,
            serial: 0,
            evicted: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queries.len()
    }

    /// Whether a timeout may have to be told.
    pub(super) fn is_waiting(&self) -> bool {
        !self.timeouts.is_empty()
    }

    /// Queries that made room for others before it was known what became of them.
    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(super) fn get(&mut self, key: &Key) -> Option<&mut Waiting> {
        self.queries.get_mut(key)
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.queries.contains_key(key)
    }

    /// Returns the queries with a message's id and transport, whatever their ends.
    pub(super) fn with_id(&self, key: &Key) -> impl Iterator<Item = (&Key, &Waiting)> {
        let keys = self.by_id.get(&key.bucket());
        keys.into_iter().flatten().filter_map(|key| self.queries.get_key_value(key))
    }

    /// Returns the key of the query that a response answers. Where address translation gave one of
    /// them other ends, the socket tells: programs see what is sent as it leaves the machine, and what
    /// is received as the socket gets it.
    pub(super) fn asked(
        &self,
        key: &Key,
        question: Option<&DnsQuestion>,
        cookie: u64,
    ) -> Option<Key> {
        if self.queries.get(key).is_some_and(|waiting| waiting.is_about(question)) {
            return Some(*key);
        }
        let same_ends = self.with_id(key).find(|(other, waiting)| {
            Key { question: other.question, ..*key } == **other && waiting.is_about(question)
        });
        let same_socket = || {
            let of_socket = self.with_id(key).filter(|(other, waiting)| {
                other.is_translation_of(key) && waiting.is_of_socket(cookie, question)
            });
            of_socket.min_by_key(|(_, waiting)| matches!(waiting.state, State::Answered(_)))
        };
        same_ends.or_else(same_socket).map(|(asked, _)| *asked)
    }

    /// Remembers a query. Where there are too many, the oldest makes room.
    pub(super) fn insert(&mut self, key: Key, mut waiting: Waiting) {
        self.displace(&key);
        if self.queries.len() >= MAX_WAITING {
            self.evict();
        }
        waiting.serial = self.begin_to_wait(key, waiting.asked_ns);
        self.queries.insert(key, waiting);
        // Most ids are of one query.
        let keys = self.by_id.entry(key.bucket()).or_insert_with(|| Vec::with_capacity(1));
        if keys.len() >= MAX_RELATED {
            keys.remove(0);
        }
        keys.push(key);
    }

    /// A query whose timeout was told was sent again: it waits as long as the first time.
    pub(super) fn wait_again(&mut self, key: &Key, now_ns: u64) {
        let serial = self.begin_to_wait(*key, now_ns);
        if let Some(waiting) = self.queries.get_mut(key) {
            waiting.state = State::Waiting;
            waiting.serial = serial;
        }
    }

    /// Sets a deadline, and returns the serial number that it is good for.
    fn begin_to_wait(&mut self, key: Key, now_ns: u64) -> u64 {
        self.serial += 1;
        let at_ns = now_ns.saturating_add(self.timeout_ns);
        push(&mut self.timeouts, Deadline { at_ns, key, serial: self.serial }, &self.queries);
        self.serial
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Waiting> {
        let removed = self.queries.remove(key)?;
        if let Some(keys) = self.by_id.get_mut(&key.bucket()) {
            keys.retain(|other| other != key);
            if keys.is_empty() {
                self.by_id.remove(&key.bucket());
            }
        }
        Some(removed)
    }

    /// Removes a query of which it will not be known what became.
    fn displace(&mut self, key: &Key) {
        if self.remove(key).is_some_and(|waiting| waiting.state == State::Waiting) {
            self.evicted += 1;
        }
    }

    /// Removes the oldest, first of those whose timeout was told.
    fn evict(&mut self) {
        while let Some(oldest) = self.ends.pop_front().or_else(|| self.timeouts.pop_front()) {
            if is_current(&self.queries, &oldest) {
                return self.displace(&oldest.key);
            }
        }
    }

    /// Marks the next query whose timeout is over, and returns it with the moment at which it was.
    pub(super) fn time_out(&mut self, now_ns: u64) -> Option<(Key, u64)> {
        while self.timeouts.front().is_some_and(|deadline| deadline.at_ns <= now_ns) {
            let Deadline { at_ns, key, serial } = self.timeouts.pop_front()?;
            let current = self.queries.get_mut(&key).filter(|waiting| waiting.serial == serial);
            let Some(waiting) = current else { continue };
            if waiting.state == State::Waiting {
                waiting.state = State::TimedOut;
                let end = Deadline { at_ns: at_ns.saturating_add(LATE_NS), key, serial };
                push(&mut self.ends, end, &self.queries);
                return Some((key, at_ns));
            }
            self.remove(&key);
        }
        None
    }

    /// Forgets queries whose answer, if it came now, nobody would wait for.
    pub(super) fn forget(&mut self, now_ns: u64) {
        while self.ends.front().is_some_and(|deadline| deadline.at_ns <= now_ns) {
            let Some(deadline) = self.ends.pop_front() else { return };
            if is_current(&self.queries, &deadline) {
                self.remove(&deadline.key);
            }
        }
    }
}

fn is_current(queries: &Queries, deadline: &Deadline) -> bool {
    queries.get(&deadline.key).is_some_and(|waiting| waiting.serial == deadline.serial)
}

/// Adds to a queue, and clears it of what was answered when that has become most of it.
fn push(queue: &mut VecDeque<Deadline>, deadline: Deadline, queries: &Queries) {
    const SLACK: usize = 1024;
    if queue.len() > 2 * queries.len() + SLACK {
        queue.retain(|deadline| is_current(queries, deadline));
    }
    queue.push_back(deadline);
}
