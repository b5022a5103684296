//! Names that DNS answers gave to addresses, by who asked.
//!
//! The same address has many names (a load balancer, a CDN), so a name is good only for flows of
//! the one who looked it up, and only as long as the answer was.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use orb8_proto::filter::End;

use super::Flow;
use crate::event::{DnsAnswer, DnsData, DnsExchange, DnsOutcome, DnsSide, UnixNanos};

/// Addresses that are remembered: about 5 MiB when full, and up to 20 MiB where each has the longest
/// name there is.
const MAX_NAMES: usize = 16_384;

/// Clients use an address for a while after its time is over: a connection pool, a slow start.
const GRACE_NS: u64 = 60 * SECOND;

/// No answer is believed for longer: some have a TTL of years.
const MAX_TTL_NS: u64 = 86_400 * SECOND;

/// A flow's first packet has the coarse clock's time, up to two of its longest ticks early.
const TICKS_NS: u64 = 20_000_000;

/// The type of a record that gives a name another.
const CNAME: u16 = 5;

const SECOND: u64 = 1_000_000_000;

/// A name that a DNS answer gave an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// As it was asked for.
    pub name: Arc<str>,
    /// The address. Network order; IPv4 as `::ffff:a.b.c.d`.
    pub addr: [u8; 16],
    /// When the answer came.
    pub learned: UnixNanos,
    /// Seconds.
    pub ttl: u32,
}

/// Names of addresses, by who asked for them: bounded, and each for its time.
#[derive(Debug)]
pub struct NameTable {
    entries: HashMap<Key, Entry, foldhash::fast::RandomState>,
    /// The same, by when they expire.
    order: BTreeSet<(UnixNanos, Key)>,
    limit: usize,
    evicted: u64,
}

/// Who asked. One without a cgroup is told by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Scope {
    Cgroup(u64),
    Address([u8; 16]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    scope: Scope,
    addr: [u8; 16],
}

#[derive(Debug)]
struct Entry {
    label: Arc<Label>,
    /// Since when answers have given the address this name without a break.
    since: UnixNanos,
    expires: UnixNanos,
}

impl Default for NameTable {
    fn default() -> Self {
        Self::new(MAX_NAMES)
    }
}

impl NameTable {
    fn new(limit: usize) -> Self {
        Self { entries: HashMap::default(), order: BTreeSet::new(), limit, evicted: 0 }
    }

    /// Learns from an exchange. An address belongs to the name that was asked for, however many
    /// aliases led there.
    pub fn learn(&mut self, time: UnixNanos, exchange: &DnsExchange) {
        let scope = match (exchange.side, exchange.cgroup_id) {
            (DnsSide::Server, _) => return,
            // Whose cgroup an interface tells depends on the packet.
            (DnsSide::Transit, _) | (DnsSide::Client, 0) => Scope::Address(exchange.client.addr),
            (DnsSide::Client, id) => Scope::Cgroup(id),
        };
        let (DnsOutcome::Answered, Some(question), Some(response)) =
            (exchange.outcome, &exchange.question, &exchange.response)
        else {
            return;
        };
        for answer in &response.answers {
            if let DnsData::Address(addr) = answer.data
                && is_reached(&question.name, &answer.name, &response.answers)
            {
                let addr = mapped(addr);
                let name = Arc::clone(&question.name);
                let label = Label { name, addr, learned: time, ttl: answer.ttl };
                self.insert(Key { scope, addr }, label);
            }
        }
    }

    /// Returns the name by which a flow's client found the other end.
    #[must_use]
    pub fn label(&self, flow: &Flow) -> Option<Arc<Label>> {
        if self.entries.is_empty() {
            return None;
        }
        let local = flow.local_end();
        // Where no end is known to be local, either may have asked.
        let clients = End::BOTH.into_iter().filter(|end| local.is_none_or(|local| local == *end));
        clients.into_iter().find_map(|client| {
            let (own, other) = (address(flow, client), address(flow, client.other()));
            self.label_of(flow.cgroup_id, own, other, flow.first)
        })
    }

    /// Returns the name by which a client, told by its cgroup (0 where it is not known) or its
    /// address, found another address for what it began then.
    #[must_use]
    pub fn label_of(
        &self,
        cgroup_id: u64,
        client: [u8; 16],
        addr: [u8; 16],
        began: UnixNanos,
    ) -> Option<Arc<Label>> {
        let by_cgroup = (cgroup_id != 0).then_some(Scope::Cgroup(cgroup_id));
        let mut scopes = by_cgroup.into_iter().chain([Scope::Address(client)]);
        scopes.find_map(|scope| self.find(Key { scope, addr }, began))
    }

    /// Forgets what is over.
    pub fn expire(&mut self, now: UnixNanos) {
        while let Some((expires, key)) = self.order.first().copied() {
            if expires >= now {
                break;
            }
            self.remove(key, expires);
        }
    }

    /// Returns how many addresses have a name.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no address has a name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns how many names were forgotten early for want of room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn find(&self, key: Key, first: UnixNanos) -> Option<Arc<Label>> {
        let entry = self.entries.get(&key)?;
        let is_good = first.0 + TICKS_NS >= entry.since.0 && first <= entry.expires;
        is_good.then(|| Arc::clone(&entry.label))
    }

    fn insert(&mut self, key: Key, label: Label) {
        let ttl = (u64::from(label.ttl) * SECOND).min(MAX_TTL_NS);
        let mut expires = UnixNanos(label.learned.0.saturating_add(ttl + GRACE_NS));
        let mut since = label.learned;
        if let Some(old) = self.entries.get(&key) {
            if old.label.name == label.name && label.learned <= old.expires {
                since = since.min(old.since);
                expires = expires.max(old.expires);
            }
            self.remove(key, old.expires);
        }
        if self.entries.len() >= self.limit
            && let Some((first, oldest)) = self.order.first().copied()
        {
            self.evicted += 1;
            self.remove(oldest, first);
        }
        self.order.insert((expires, key));
        self.entries.insert(key, Entry { label: Arc::new(label), since, expires });
    }

    fn remove(&mut self, key: Key, expires: UnixNanos) {
        self.order.remove(&(expires, key));
        self.entries.remove(&key);
    }
}

/// Whether a name is the one that was asked for, or one that it is an alias of: an answer may bring
/// addresses of other names too, which say nothing about this one.
fn is_reached(asked: &Arc<str>, name: &Arc<str>, answers: &[DnsAnswer]) -> bool {
    let alias = |of: &Arc<str>| {
        answers.iter().find_map(|answer| match &answer.data {
            DnsData::Name(target) if answer.kind == CNAME && answer.name == *of => Some(target),
            _ => None,
        })
    };
    // A chain is no longer than the records that it has; one that leads back to itself ends here.
    std::iter::successors(Some(asked), |name| alias(name))
        .take(answers.len() + 1)
        .any(|reached| reached == name)
}

fn address(flow: &Flow, end: End) -> [u8; 16] {
    match end {
        End::Source => flow.key.source_addr,
        End::Destination => flow.key.destination_addr,
    }
}

/// An address as records have it.
fn mapped(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests;
