//! TCP connections with a local end: bounded, and nothing that was counted leaves the totals.
//!
//! ```text
//! first sample ──▶ open ──FAIL, CLOSE──▶ closed ──a minute, or no room──▶ gone
//!                   ▲                      │
//!                   └─the socket connects again, as another connection
//! ```
//! A full table takes no more connections: the figures of one that is refused are counted when it
//! closes, so the totals miss nothing. A closed connection makes room first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use orb8_common::tcp::STATE_CLOSE;

use super::Label;
use crate::event::{SocketEnd, TcpKind, TcpRole, TcpSample, UnixNanos};
use crate::identity::{Party, Workload};
use crate::metrics::traffic::OfConnection;

mod connection;
mod ends;
mod lookup;
mod query;
mod totals;

use connection::RttAdded;
pub use connection::{Connection, RttFigures, TcpHealth};
use ends::EndsIndex;
pub use lookup::Found;
pub use query::{ConnectionView, TcpPage, TcpQuery, TcpSort};
use totals::Added;
pub use totals::{DropCount, TcpTotals};

/// A closed connection can be asked for this long, and its flows show it.
const KEEP_CLOSED: Duration = Duration::from_secs(60);

/// Part of the table that closed connections may have: at tens of thousands of short connections a
/// second there is no keeping them for a minute.
const CLOSED_PART: usize = 4;

/// An open connection of which nothing was heard for so long makes room: the record of its close was
/// lost, most likely.
const FORGOTTEN: Duration = Duration::from_secs(3_600);

/// A full table looks for forgotten connections no more often.
const SWEEP: Duration = Duration::from_secs(60);

/// States of connections that have a socket of their own and more to come: ESTABLISHED, SYN_SENT,
/// FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING.
const LIVE_STATES: [u8; 7] = [1, 2, 4, 5, 8, 9, 11];

/// See the [module](self).
#[derive(Debug)]
pub struct ConnectionTable {
    connections: HashMap<Id, Connection, foldhash::fast::RandomState>,
    by_ends: EndsIndex,
    /// Oldest first. What was queued at another time is open again, or a later connection.
    closed: VecDeque<(Id, Instant)>,
    limit: usize,
    next_id: u64,
    swept: Option<Instant>,
    totals: TcpTotals,
    /// What the last sample told of its connection.
    added: Added,
}

/// A socket cookie; or, for a socket without, a number of our own above all cookies.
type Id = u64;

/// Cookies count up from zero.
const OWN_IDS: Id = 1 << 63;

/// Whose a sample is.
#[derive(Clone, Debug, Default)]
pub struct ConnectionOwner {
    /// The owner of the local end.
    pub subject: Party,
    /// Who is at the other end.
    pub peer: Party,
    /// [`Enricher::epoch`](crate::enrich) of the look at who that is.
    pub looked: u32,
    /// The name by which it found the other end.
    pub label: Option<Arc<Label>>,
    /// Whether it is the agent's own API traffic.
    pub self_traffic: bool,
}

/// What events of a connection carry of it.
#[derive(Clone, Debug)]
pub struct Known {
    /// What is known of its health.
    pub health: Arc<TcpHealth>,
    /// The name by which its owner found the other end.
    pub label: Option<Arc<Label>>,
}

impl Known {
    fn of(connection: &Connection) -> Self {
        Self { health: Arc::clone(connection.health()), label: connection.label.clone() }
    }
}

impl ConnectionTable {
    /// Makes an empty table.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            connections: HashMap::default(),
            by_ends: EndsIndex::default(),
            closed: VecDeque::new(),
            limit,
            next_id: OWN_IDS,
            swept: None,
            totals: TcpTotals::default(),
            added: Added::default(),
        }
    }

    /// Adds a sample, and returns what is known of its connection now.
    pub fn apply(
        &mut self,
        time: UnixNanos,
        sample: &TcpSample,
        owner: ConnectionOwner,
        now: Instant,
    ) -> Option<Known> {
        self.totals.count(sample);
        self.added = Added::default();
        if sample.of_packet || sample.role == TcpRole::Listener {
            self.add(Added::resent_by(sample));
            return self.find(sample).map(|found| Known::of(found.connection));
        }
        let id = self.known(time, sample).or_else(|| self.insert(time, sample, now));
        let Some(id) = id else {
            return self.refuse(time, sample, owner, now);
        };
        let connection = self.connections.get_mut(&id)?;
        let added = connection.absorb(time, sample, now);
        self.added = added;
        self.totals.add(&self.added);
        connection.belong_to(owner);
        let known = Known::of(connection);
        if connection.is_open() {
            connection.queued = None;
        } else if connection.queued.is_none() {
            connection.queued = Some(now);
            self.closed.push_back((id, now));
            self.trim_closed();
        }
        Some(known)
    }

    /// Looks again for the owners that were not known, by cgroup.
    pub fn find_owners(&mut self, mut owner_of: impl FnMut(u64) -> Option<Arc<Workload>>) {
        for Connection { subject, peer, cgroup_id, .. } in self.connections.values_mut() {
            if *subject == Party::Unknown {
                *subject = owner_of(*cgroup_id).into();
            }
            let mut find = |workload: &Workload| owner_of(workload.cgroup_id);
            subject.rename(&mut find);
            peer.rename(&mut find);
        }
    }

    /// Visits the cgroup of each connection's socket that is at `end` and talks to `other`.
    pub fn visit_sockets(&self, end: SocketEnd, other: SocketEnd, mut visit: impl FnMut(u64)) {
        let connections =
            self.by_ends.all(&[end, other]).filter_map(|id| self.connections.get(&id));
        connections.filter(|known| known.cgroup_id != 0).for_each(|known| visit(known.cgroup_id));
    }

    /// Forgets what closed a while ago.
    pub fn expire(&mut self, now: Instant) {
        while let Some((id, closed)) = self.closed.front().copied() {
            if now.saturating_duration_since(closed) < KEEP_CLOSED {
                break;
            }
            self.closed.pop_front();
            self.remove_closed(id, closed);
        }
    }

    /// Closes what was open before a time and whose socket is not live: the record of its close was
    /// lost. `live` must know every socket that was live then.
    pub fn close_missing(&mut self, live: &impl Fn(u64) -> bool, before: UnixNanos, now: Instant) {
        let Self { connections, closed, .. } = self;
        for (id, connection) in connections {
            let cookie = connection.cookie;
            if cookie != 0 && connection.was_open(before) && !live(cookie) {
                connection.presume_closed(before);
                connection.queued = Some(now);
                closed.push_back((*id, now));
            }
        }
        self.trim_closed();
    }

    /// Returns every connection.
    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.connections.values()
    }

    /// Returns how many connections there are, those closed a moment ago included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is no connection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Returns everything since start.
    #[must_use]
    pub fn totals(&self) -> &TcpTotals {
        &self.totals
    }

    /// Returns what the last sample added to the totals that only its connection tells.
    pub(crate) fn added(&self) -> OfConnection<'_> {
        let round_trips = self.added.rtt.as_ref().map(RttAdded::round_trips);
        OfConnection { resent: self.added.resent, round_trips }
    }

    fn add(&mut self, added: Added) {
        self.totals.add(&added);
        self.added = added;
    }

    /// Returns the connection of a sample. One that a later connection of its socket follows goes.
    fn known(&mut self, time: UnixNanos, sample: &TcpSample) -> Option<Id> {
        let cookie = sample.cookie;
        let is_there = cookie != 0 && self.connections.contains_key(&cookie);
        let by_ends = || self.by_ends.get(&[sample.local, sample.remote], sample.netns);
        let id = is_there.then_some(cookie).or_else(by_ends)?;
        let connection = self.connections.get(&id)?;
        let is_later = connection.is_before(time, sample);
        if cookie == 0 {
            return (!is_later).then_some(id);
        }
        if !is_there {
            let is_it = connection.cookie == 0 && connection.is_open() && !is_later;
            return is_it.then(|| self.learn_cookie(id, cookie)).flatten();
        }
        if is_later {
            self.remove(id);
        }
        (!is_later).then_some(id)
    }

    /// Takes the cookie of a connection's socket, which was first told of without.
    fn learn_cookie(&mut self, id: Id, cookie: u64) -> Option<Id> {
        let mut connection = self.remove(id)?;
        connection.cookie = cookie;
        self.by_ends.insert(&connection, cookie);
        self.connections.insert(cookie, connection);
        Some(cookie)
    }

    /// Adds the connection of a sample that tells of one, where there is room.
    fn insert(&mut self, time: UnixNanos, sample: &TcpSample, now: Instant) -> Option<Id> {
        if !tells_of_connection(sample) {
            return None;
        }
        if self.connections.len() >= self.limit && !self.make_room(now) {
            return None;
        }
        let id = match sample.cookie {
            0 => {
                self.next_id += 1;
                self.next_id
            }
            cookie => cookie,
        };
        let connection = Connection::new(time, sample, now);
        self.by_ends.insert(&connection, id);
        self.connections.insert(id, connection);
        Some(id)
    }

    /// Counts a sample of a connection that is not in the table.
    fn refuse(
        &mut self,
        time: UnixNanos,
        sample: &TcpSample,
        owner: ConnectionOwner,
        now: Instant,
    ) -> Option<Known> {
        let mut unknown = Connection::new(time, sample, now);
        let added = unknown.absorb(time, sample, now);
        unknown.belong_to(owner);
        match sample.kind {
            TcpKind::Connect { .. } | TcpKind::Accept { .. } | TcpKind::Fail { .. } => {
                self.totals.untracked += 1;
            }
            // Its last figures, which nobody has counted yet.
            TcpKind::Close { .. } => self.add(added),
            TcpKind::Retransmit { .. } if !tells_of_connection(sample) => {
                self.add(Added::resent_by(sample));
            }
            _ => {}
        }
        tells_of_connection(sample).then(|| Known::of(&unknown))
    }

    fn make_room(&mut self, now: Instant) -> bool {
        while let Some((id, closed)) = self.closed.pop_front() {
            if self.remove_closed(id, closed) {
                return true;
            }
        }
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < SWEEP) {
            return false;
        }
        self.swept = Some(now);
        let is_forgotten = |connection: &Connection| {
            now.saturating_duration_since(connection.touched()) >= FORGOTTEN
        };
        let forgotten: Vec<Id> = self
            .connections
            .iter()
            .filter(|(_, connection)| is_forgotten(connection))
            .map(|(id, _)| *id)
            .collect();
        let removed = forgotten.into_iter().filter_map(|id| self.remove(id)).count();
        removed > 0
    }

    fn trim_closed(&mut self) {
        while self.closed.len() > (self.limit / CLOSED_PART).max(1) {
            if let Some((id, closed)) = self.closed.pop_front() {
                self.remove_closed(id, closed);
            }
        }
    }

    /// Removes what closed then, and not what is open since or closed again.
    fn remove_closed(&mut self, id: Id, closed: Instant) -> bool {
        let queued = self.connections.get(&id).and_then(|connection| connection.queued);
        queued == Some(closed) && self.remove(id).is_some()
    }

    fn remove(&mut self, id: Id) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        self.by_ends.remove(&connection, id);
        Some(connection)
    }
}

/// Whether a sample is of a connection, and not of a listener's half-open one or of what is left of
/// one.
fn tells_of_connection(sample: &TcpSample) -> bool {
    match sample.kind {
        // Of one that closed and is gone from the table there is nothing more to tell.
        TcpKind::Progress => sample.state != STATE_CLOSE,
        TcpKind::Connect { .. }
        | TcpKind::Accept { .. }
        | TcpKind::Fail { .. }
        | TcpKind::Close { .. } => true,
        TcpKind::State | TcpKind::Retransmit { .. } => LIVE_STATES.contains(&sample.state),
        TcpKind::Reset { .. } | TcpKind::Drop { .. } | TcpKind::Overflow { .. } => false,
    }
}

#[cfg(test)]
mod tests;
