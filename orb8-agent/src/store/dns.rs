//! DNS by owner and name: bounded, and nothing that was counted leaves the sums.
//!
//! ```text
//! exchange ──▶ row of (owner, side, name)
//!                └─ no room ──▶ `other` of (owner, side) ── no room ──▶ `other` of (side)
//! ```
//! An owner is a workload: a pod's container that was started again is the same. Until it is known,
//! it is a cgroup, and its rows move when it becomes known.
//!
//! An owner has at most a quarter of the rows, so that one that asks for random names does not push
//! everybody out. When the table is full, rows of an hour ago are added to `other` and make room.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};

use super::Histogram;
use crate::event::{DnsExchange, DnsOutcome, DnsSide, UnixNanos};
use crate::identity::Workload;

mod owner;
mod query;

use owner::Owner;
pub use query::{DnsPage, DnsQuery, DnsSort, SummaryView};

/// Rows by default: some 4 MiB when full.
const MAX_ROWS: usize = 4_096;

/// Part of the rows that one owner may have.
const OWNER_PART: usize = 4;

/// Query types that a row tells apart.
const MAX_TYPES: usize = 8;

/// Response codes that a row tells apart: more than there are.
const MAX_RCODES: usize = 32;

/// A row that nothing was added to for so long may make room.
const OLD: Duration = Duration::from_secs(3_600);

/// A full table looks for old rows no more often.
const SWEEP: Duration = Duration::from_secs(60);

/// Where exchanges are seen.
const SIDES: [DnsSide; 3] = [DnsSide::Client, DnsSide::Server, DnsSide::Transit];

/// All exchanges of one owner for one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSummary {
    /// The owner of the local end.
    pub workload: Option<Arc<Workload>>,
    /// Where they were seen.
    pub side: DnsSide,
    /// `None` for what had no row of its own.
    pub name: Option<Arc<str>>,
    /// What was counted.
    pub counts: DnsCounts,
    /// The first exchange.
    pub first: UnixNanos,
    /// The last one.
    pub last: UnixNanos,
    touched: Instant,
}

/// What exchanges add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsCounts {
    /// Queries, each once however often it was sent.
    pub queries: u64,
    /// Responses to them.
    pub responses: u64,
    /// Queries without an answer in time; it may have come later.
    pub timeouts: u64,
    /// Times that a query was sent again.
    pub retries: u64,
    /// Responses with TC.
    pub truncated: u64,
    /// Responses by code, in the order of their first sight.
    pub rcodes: Vec<(u16, u64)>,
    /// Queries by type, in the order of their first sight; what does not fit is in `queries` only.
    pub types: Vec<(u16, u64)>,
    /// Of answered queries.
    pub latency: Histogram,
}

/// Everything since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsTotals {
    /// Sum over the rows.
    pub queries: u64,
    /// Sum over the rows.
    pub responses: u64,
    /// Sum over the rows.
    pub timeouts: u64,
    /// Responses that nobody asked for: in no row.
    pub unasked: u64,
    /// Messages that do not parse: in no row.
    pub malformed: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub struct DnsStore {
    rows: HashMap<Key, DnsSummary, foldhash::fast::RandomState>,
    /// Rows with a name, by owner.
    owned: HashMap<Owner, usize, foldhash::fast::RandomState>,
    limit: usize,
    swept: Option<Instant>,
    totals: DnsTotals,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    owner: Owner,
    side: DnsSide,
    /// `None` for `other`.
    name: Option<Arc<str>>,
}

impl Default for DnsStore {
    fn default() -> Self {
        Self::new(MAX_ROWS)
    }
}

impl DnsStore {
    fn new(limit: usize) -> Self {
        Self {
            rows: HashMap::default(),
            owned: HashMap::default(),
            limit,
            swept: None,
            totals: DnsTotals::default(),
        }
    }

    /// Adds an exchange.
    pub fn apply(
        &mut self,
        time: UnixNanos,
        exchange: &DnsExchange,
        owner: Option<&Arc<Workload>>,
        now: Instant,
    ) {
        let added = match exchange.outcome {
            DnsOutcome::Unasked => return self.totals.unasked += 1,
            DnsOutcome::Malformed => return self.totals.malformed += 1,
            DnsOutcome::Answered | DnsOutcome::Timeout => Added::of(exchange),
        };
        self.totals.queries += u64::from(added.is_query);
        self.totals.responses += u64::from(exchange.response.is_some());
        self.totals.timeouts += u64::from(added.is_timeout);
        if let Some(owner) = owner {
            self.adopt(exchange.cgroup_id, owner, now);
        }
        let name = exchange.question.as_ref().map(|question| Arc::clone(&question.name));
        let owner = Owner::of(exchange.cgroup_id, owner);
        let workload = owner.workload().cloned();
        let key = self.place(Key { owner, side: exchange.side, name }, now);
        // Everybody's row is nobody's. The latest instance is the one to show.
        let workload = workload.filter(|_| key.owner != Owner::Everybody);
        let row = self.row(key, time, now);
        row.workload = workload.or(row.workload.take());
        row.first = row.first.min(time);
        row.last = row.last.max(time);
        row.touched = now;
        row.counts.add(exchange, added);
    }

    /// Looks again for the owners that were not known, by cgroup.
    pub fn find_owners(
        &mut self,
        mut owner_of: impl FnMut(u64) -> Option<Arc<Workload>>,
        now: Instant,
    ) {
        let unknown: HashSet<u64> = self.rows.keys().filter_map(|key| key.owner.cgroup()).collect();
        for cgroup_id in unknown {
            if let Some(owner) = owner_of(cgroup_id) {
                self.adopt(cgroup_id, &owner, now);
            }
        }
    }

    /// Returns every summary.
    pub fn rows(&self) -> impl Iterator<Item = &DnsSummary> {
        self.rows.values()
    }

    /// Returns everything since start.
    #[must_use]
    pub fn totals(&self) -> DnsTotals {
        self.totals
    }

    /// Returns the key of the row to which a key's counts go: its own, as long as there is room.
    fn place(&mut self, key: Key, now: Instant) -> Key {
        if self.rows.contains_key(&key) {
            return key;
        }
        if self.rows.len() >= self.limit {
            self.make_room(now);
        }
        let is_full = self.rows.len() >= self.limit;
        let owned = self.owned.get(&key.owner).copied().unwrap_or(0);
        if key.name.is_some() && !is_full && owned < self.limit / OWNER_PART {
            *self.owned.entry(key.owner.clone()).or_default() += 1;
            return key;
        }
        let other = key.other();
        match is_full && !self.rows.contains_key(&other) {
            true => other.everybody(),
            false => other,
        }
    }

    /// Moves the rows of a cgroup to its owner, which was not known when they were made.
    fn adopt(&mut self, cgroup_id: u64, owner: &Arc<Workload>, now: Instant) {
        let cgroup = Owner::Cgroup(cgroup_id);
        if !self.has_rows(&cgroup) {
            return;
        }
        let rows: Vec<(Key, DnsSummary)> =
            self.rows.extract_if(|key, _| key.owner == cgroup).collect();
        self.owned.remove(&cgroup);
        for (key, row) in rows {
            let to = self.place(Key { owner: Owner::Workload(Arc::clone(owner)), ..key }, now);
            self.merge(to, DnsSummary { workload: Some(Arc::clone(owner)), ..row });
        }
    }

    fn has_rows(&self, owner: &Owner) -> bool {
        let other = |side| Key { owner: owner.clone(), side, name: None };
        self.owned.contains_key(owner)
            || SIDES.iter().any(|side| self.rows.contains_key(&other(*side)))
    }

    fn row(&mut self, key: Key, time: UnixNanos, now: Instant) -> &mut DnsSummary {
        let (side, name) = (key.side, key.name.clone());
        self.rows.entry(key).or_insert_with(|| DnsSummary {
            workload: None,
            side,
            name,
            counts: DnsCounts::default(),
            first: time,
            last: time,
            touched: now,
        })
    }

    /// Adds old rows to their owner's `other`, and old ones of those to everybody's.
    fn make_room(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        for is_named in [true, false] {
            let is_old = |key: &Key, row: &DnsSummary| {
                key.name.is_some() == is_named
                    && key.owner != Owner::Everybody
                    && now.saturating_duration_since(row.touched) >= OLD
            };
            let old: Vec<(Key, DnsSummary)> =
                self.rows.extract_if(|key, row| is_old(key, row)).collect();
            for (key, row) in old {
                self.fold(&key, row);
            }
        }
    }

    fn fold(&mut self, key: &Key, row: DnsSummary) {
        let other = match key.name {
            Some(_) => key.other(),
            None => key.everybody(),
        };
        if key.name.is_some()
            && let Some(owned) = self.owned.get_mut(&key.owner)
        {
            *owned -= 1;
            if *owned == 0 {
                self.owned.remove(&key.owner);
            }
        }
        self.merge(other, row);
    }

    fn merge(&mut self, key: Key, row: DnsSummary) {
        let is_owned = key.owner != Owner::Everybody;
        let into = self.row(key, row.first, row.touched);
        into.workload = into.workload.take().or(row.workload).filter(|_| is_owned);
        into.first = into.first.min(row.first);
        into.last = into.last.max(row.last);
        into.touched = into.touched.max(row.touched);
        into.counts.merge(row.counts);
    }
}

impl Key {
    fn other(&self) -> Self {
        Self { owner: self.owner.clone(), side: self.side, name: None }
    }

    fn everybody(&self) -> Self {
        Self { owner: Owner::Everybody, side: self.side, name: None }
    }
}

/// What an exchange counts as. After a timeout, which was counted, a late answer or another timeout of
/// the same query may come.
#[derive(Clone, Copy, Debug)]
struct Added {
    is_query: bool,
    is_timeout: bool,
    retries: u32,
}

impl Added {
    fn of(exchange: &DnsExchange) -> Self {
        let counted = exchange.told_retries;
        Self {
            is_query: counted.is_none(),
            is_timeout: exchange.outcome == DnsOutcome::Timeout,
            retries: exchange.retries.saturating_sub(counted.unwrap_or(0)),
        }
    }
}

impl DnsCounts {
    /// Returns how many responses told of an error.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.rcodes.iter().filter(|(rcode, _)| *rcode != 0).map(|(_, count)| count).sum()
    }

    fn add(&mut self, exchange: &DnsExchange, added: Added) {
        self.timeouts += u64::from(added.is_timeout);
        self.retries += u64::from(added.retries);
        if added.is_query {
            self.queries += 1;
            if let Some(question) = &exchange.question {
                tally(&mut self.types, question.kind, 1, MAX_TYPES);
            }
        }
        if let Some(response) = &exchange.response {
            self.responses += 1;
            self.truncated += u64::from(response.truncated);
            tally(&mut self.rcodes, response.rcode, 1, MAX_RCODES);
            self.latency.record(exchange.latency_ns);
        }
    }

    fn merge(&mut self, other: Self) {
        // Exhaustive: what is counted is kept.
        let Self { queries, responses, timeouts, retries, truncated, rcodes, types, latency } =
            other;
        self.queries += queries;
        self.responses += responses;
        self.timeouts += timeouts;
        self.retries += retries;
        self.truncated += truncated;
        for (rcode, count) in rcodes {
            tally(&mut self.rcodes, rcode, count, MAX_RCODES);
        }
        for (kind, count) in types {
            tally(&mut self.types, kind, count, MAX_TYPES);
        }
        self.latency.merge(&latency);
    }
}

/// Adds to the count of a number, as long as there is room for it.
fn tally(counts: &mut Vec<(u16, u64)>, number: u16, added: u64, limit: usize) {
    match counts.iter().position(|(of, _)| *of == number) {
        Some(at) => counts[at].1 += added,
        None if counts.len() < limit => counts.push((number, added)),
        None => {}
    }
}

#[cfg(test)]
mod tests;
