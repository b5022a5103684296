//! TCP connections with a local end: bounded, and nothing that was counted leaves the totals.
//!
//! ```text
//! first sample ──▶ open ──FAIL, CLOSE──▶ closed ──a minute, or no room──▶ gone
//! ```
//! A full table takes no more connections: the figures of one that is refused are counted when it
//! closes, so the totals miss nothing. A closed connection makes room first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use orb8_proto::filter::End;

use super::{Flow, Label};
use crate::event::{SocketEnd, TcpKind, TcpRole, TcpSample, UnixNanos};
use crate::identity::Workload;

mod connection;
mod query;
mod totals;

pub use connection::{Connection, RttFigures, TcpHealth};
pub use query::{ConnectionView, TcpPage, TcpQuery, TcpSort};
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

/// By how much the times of a flow and of its connection may differ: two of the kernel's longest
/// ticks.
const TICKS_NS: u64 = 20_000_000;

/// States of connections that have a socket of their own and more to come: ESTABLISHED, SYN_SENT,
/// FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING.
const LIVE_STATES: [u8; 7] = [1, 2, 4, 5, 8, 9, 11];

/// See the [module](self).
#[derive(Debug)]
pub struct ConnectionTable {
    connections: HashMap<Id, Connection, foldhash::fast::RandomState>,
    /// The latest connection between two ends.
    by_ends: HashMap<Ends, Id, foldhash::fast::RandomState>,
    /// Oldest first.
    closed: VecDeque<(Id, Instant)>,
    limit: usize,
    next_id: u64,
    swept: Option<Instant>,
    totals: TcpTotals,
}

/// A socket cookie; or, for a socket without, a number of our own above all cookies.
type Id = u64;

/// Cookies count up from zero.
const OWN_IDS: Id = 1 << 63;

/// The local end, then the other one.
type Ends = [SocketEnd; 2];

/// Whose a sample is.
#[derive(Clone, Debug, Default)]
pub struct ConnectionOwner {
    /// The owner of the local end.
    pub subject: Option<Arc<Workload>>,
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

/// The connection that a sample is of.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The connection.
    pub connection: &'a Connection,
    /// Whether the sample's `remote` is the local end: of a packet, that is where it goes.
    pub is_reversed: bool,
}

impl ConnectionTable {
    /// Makes an empty table.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            connections: HashMap::default(),
            by_ends: HashMap::default(),
            closed: VecDeque::new(),
            limit,
            next_id: OWN_IDS,
            swept: None,
            totals: TcpTotals::default(),
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
        if sample.of_packet || sample.role == TcpRole::Listener {
            self.totals.count_resent(sample);
            return self.find(sample).map(|found| Known::of(found.connection));
        }
        let Some(id) = self.known(sample).or_else(|| self.insert(sample, now)) else {
            return self.refuse(time, sample, owner, now);
        };
        let Self { connections, totals, closed, .. } = self;
        let connection = connections.get_mut(&id)?;
        let was_open = connection.health().closed.is_none();
        let added = connection.absorb(time, sample, now);
        totals.add(&added);
        connection.belong_to(owner);
        let known = Known::of(connection);
        if was_open && known.health.closed.is_some() {
            closed.push_back((id, now));
            self.trim_closed();
        }
        Some(known)
    }

    /// Finds the connection of a sample; of a packet, either end may be the local one.
    #[must_use]
    pub fn find(&self, sample: &TcpSample) -> Option<Found<'_>> {
        let (local, remote) = (sample.local, sample.remote);
        if sample.cookie != 0
            && let Some(connection) = self.connections.get(&sample.cookie)
        {
            let is_reversed = sample.of_packet && connection.local == remote && local != remote;
            return Some(Found { connection, is_reversed });
        }
        let at = |ends: Ends, is_reversed| {
            let connection = self.connections.get(self.by_ends.get(&ends)?)?;
            let is_known = sample.netns != 0 && connection.netns != 0;
            let is_other = is_known && sample.netns != connection.netns;
            (!is_other).then_some(Found { connection, is_reversed })
        };
        let reverse = || at([remote, local], true).filter(|_| sample.of_packet);
        at([local, remote], false).or_else(reverse)
    }

    /// Returns what is known of the connection that a flow is one direction of.
    #[must_use]
    pub fn health_of(&self, flow: &Flow) -> Option<Arc<TcpHealth>> {
        if self.connections.is_empty() || flow.key.protocol != super::TCP {
            return None;
        }
        let by_cookie = || self.connections.get(&flow.cookie).filter(|_| flow.cookie != 0);
        let connection = by_cookie().or_else(|| self.by_flow_ends(flow))?;
        Some(Arc::clone(connection.health()))
    }

    /// Forgets what closed a while ago.
    pub fn expire(&mut self, now: Instant) {
        while let Some((id, closed)) = self.closed.front().copied() {
            if now.saturating_duration_since(closed) < KEEP_CLOSED {
                break;
            }
            self.closed.pop_front();
            self.remove(id);
        }
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

    fn by_flow_ends(&self, flow: &Flow) -> Option<&Connection> {
        let key = &flow.key;
        let source = SocketEnd { addr: key.source_addr, port: key.source_port };
        let destination = SocketEnd { addr: key.destination_addr, port: key.destination_port };
        let at = |ends: Ends| {
            let connection = self.connections.get(self.by_ends.get(&ends)?)?;
            let is_gone = |closed: UnixNanos| closed.0 + TICKS_NS < flow.first.0;
            let is_later = |opened: UnixNanos| opened.0 > flow.last.0 + TICKS_NS;
            let health = connection.health();
            let is_other =
                health.closed.is_some_and(is_gone) || health.opened.is_some_and(is_later);
            (!is_other).then_some(connection)
        };
        match flow.local_end() {
            Some(End::Source) => at([source, destination]),
            Some(End::Destination) => at([destination, source]),
            None => at([source, destination]).or_else(|| at([destination, source])),
        }
    }

    fn known(&self, sample: &TcpSample) -> Option<Id> {
        match sample.cookie {
            0 => {
                let id = self.by_ends.get(&[sample.local, sample.remote]).copied()?;
                self.is_same(id, sample).then_some(id)
            }
            cookie => self.connections.contains_key(&cookie).then_some(cookie),
        }
    }

    /// Adds the connection of a sample that tells of one, where there is room.
    fn insert(&mut self, sample: &TcpSample, now: Instant) -> Option<Id> {
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
        self.connections.insert(id, Connection::new(sample, now));
        self.by_ends.insert([sample.local, sample.remote], id);
        Some(id)
    }

    /// Whether a sample without a cookie is of this connection, and not of a later one.
    fn is_same(&self, id: Id, sample: &TcpSample) -> bool {
        let opens = matches!(
            sample.kind,
            TcpKind::Connect { .. } | TcpKind::Accept { .. } | TcpKind::Fail { .. }
        );
        self.connections.get(&id).is_some_and(|connection| {
            let is_open = connection.health().closed.is_none();
            connection.netns == sample.netns && (is_open || !opens)
        })
    }

    /// Counts a sample of a connection that is not in the table.
    fn refuse(
        &mut self,
        time: UnixNanos,
        sample: &TcpSample,
        owner: ConnectionOwner,
        now: Instant,
    ) -> Option<Known> {
        let mut unknown = Connection::new(sample, now);
        let added = unknown.absorb(time, sample, now);
        unknown.belong_to(owner);
        match sample.kind {
            TcpKind::Connect { .. } | TcpKind::Accept { .. } | TcpKind::Fail { .. } => {
                self.totals.untracked += 1;
            }
            // Its last figures, which nobody has counted yet.
            TcpKind::Close { .. } => self.totals.add(&added),
            TcpKind::Retransmit { .. } if !tells_of_connection(sample) => {
                self.totals.count_resent(sample);
            }
            _ => {}
        }
        tells_of_connection(sample).then(|| Known::of(&unknown))
    }

    fn make_room(&mut self, now: Instant) -> bool {
        if let Some((id, _)) = self.closed.pop_front() {
            self.remove(id);
            return true;
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
        forgotten.iter().for_each(|id| self.remove(*id));
        !forgotten.is_empty()
    }

    fn trim_closed(&mut self) {
        while self.closed.len() > (self.limit / CLOSED_PART).max(1) {
            if let Some((id, _)) = self.closed.pop_front() {
                self.remove(id);
            }
        }
    }

    fn remove(&mut self, id: Id) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        let ends = [connection.local, connection.remote];
        if self.by_ends.get(&ends) == Some(&id) {
            self.by_ends.remove(&ends);
        }
    }
}

/// Whether a sample is of a connection, and not of a listener's half-open one or of what is left of
/// one.
fn tells_of_connection(sample: &TcpSample) -> bool {
    match sample.kind {
        TcpKind::Progress
        | TcpKind::Connect { .. }
        | TcpKind::Accept { .. }
        | TcpKind::Fail { .. }
        | TcpKind::Close { .. } => true,
        TcpKind::State | TcpKind::Retransmit { .. } => LIVE_STATES.contains(&sample.state),
        TcpKind::Reset { .. } | TcpKind::Drop { .. } | TcpKind::Overflow { .. } => false,
    }
}

#[cfg(test)]
mod tests;
