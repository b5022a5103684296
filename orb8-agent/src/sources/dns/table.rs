//! Queries that wait for their answer, and until when.

use std::collections::VecDeque;

use orb8_common::dns::DnsPacket;

use crate::event::{DnsQuestion, DnsSide, SocketEnd};

/// Queries that are remembered: 4 MiB. With answers after 30 ms, those of 500,000 a second.
pub const MAX_WAITING: usize = 16_384;

/// Queries with one id that are looked through for those that are seen at several places.
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
}

/// A query whose answer did not come, or not long ago.
pub(super) struct Waiting {
    pub(super) asked_ns: u64,
    pub(super) question: Option<DnsQuestion>,
    pub(super) query_bytes: u32,
    pub(super) retries: u32,
    pub(super) cgroup_id: u64,
    pub(super) cookie: u64,
    pub(super) ifindex: u32,
    pub(super) state: State,
    /// Tells it from an earlier query with the same key.
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
            cgroup_id: packet.cgroup_id,
            cookie: packet.cookie,
            ifindex: packet.ifindex,
            state: State::Waiting,
            serial: 0,
        }
    }
}

struct Deadline {
    at_ns: u64,
    key: Key,
    serial: u64,
}

/// The queries by key, and by when their time is over. Both queues are in order, since each adds a
/// fixed time to when a query was asked.
pub(super) struct Table {
    queries: Queries,
    /// Those that may be seen elsewhere too, where they have another key. The newest of each id, few
    /// enough to look through.
    by_id: ById,
    both_hooks: bool,
    timeouts: VecDeque<Deadline>,
    ends: VecDeque<Deadline>,
    timeout_ns: u64,
    serial: u64,
    evicted: u64,
}

type Queries = hashbrown::HashMap<Key, Waiting, foldhash::fast::RandomState>;
type ById = hashbrown::HashMap<u16, Vec<Key>, foldhash::fast::RandomState>;

impl Table {
    pub(super) fn new(timeout_ns: u64, both_hooks: bool) -> Self {
        Self {
            queries: Queries::default(),
            by_id: ById::default(),
            both_hooks,
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

    /// Returns the queries with an id that may be seen elsewhere too: those on interfaces, and where
    /// both hooks run those at sockets.
    pub(super) fn with_id(&self, id: u16) -> impl Iterator<Item = (&Key, &Waiting)> {
        let keys = self.by_id.get(&id);
        keys.into_iter().flatten().filter_map(|key| self.queries.get_key_value(key))
    }

    /// Remembers a query. Where there are too many, the oldest makes room.
    pub(super) fn insert(&mut self, key: Key, mut waiting: Waiting) {
        self.displace(&key);
        if self.queries.len() >= MAX_WAITING {
            self.evict();
        }
        self.serial += 1;
        waiting.serial = self.serial;
        let at_ns = waiting.asked_ns.saturating_add(self.timeout_ns);
        push(&mut self.timeouts, Deadline { at_ns, key, serial: self.serial }, &self.queries);
        self.queries.insert(key, waiting);
        if self.both_hooks || key.side == DnsSide::Transit {
            let keys = self.by_id.entry(key.id).or_default();
            if keys.len() >= MAX_RELATED {
                keys.remove(0);
            }
            keys.push(key);
        }
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Waiting> {
        let removed = self.queries.remove(key)?;
        if let Some(keys) = self.by_id.get_mut(&key.id) {
            keys.retain(|other| other != key);
            if keys.is_empty() {
                self.by_id.remove(&key.id);
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
