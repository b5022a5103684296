//! Asking for connections.

use std::net::IpAddr;

use orb8_proto::filter::{End, FlowFields, TcpFields, TcpMatcher};
use orb8_proto::v1;

use super::{Connection, ConnectionTable};
use crate::event::{SocketEnd, TcpRole, UnixNanos};
use crate::identity::Party;
use crate::store::Label;
use crate::store::fields::{ip_of, owner_fields, state_of};

/// What connections are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcpSort {
    /// Segments sent again.
    #[default]
    Retransmits,
    /// The smoothed round-trip time.
    Rtt,
    /// How long the handshake took.
    Handshake,
    /// Payload, both ways.
    Bytes,
    /// When it was opened.
    Opened,
}

/// Which connections, and in what order.
#[derive(Clone, Debug, Default)]
pub struct TcpQuery {
    /// Which.
    pub matcher: TcpMatcher,
    /// Whether the agent's own traffic is wanted too.
    pub include_self_traffic: bool,
    /// Order.
    pub sort: TcpSort,
    /// Smallest first.
    pub ascending: bool,
    /// How many.
    pub limit: usize,
}

/// An answer.
#[derive(Debug, Default)]
pub struct TcpPage {
    /// As many as asked for.
    pub rows: Vec<Connection>,
    /// Connections that matched.
    pub total: u64,
}

impl ConnectionTable {
    /// Returns the connections that a query asks for.
    #[must_use]
    pub fn query(&self, query: &TcpQuery) -> TcpPage {
        let is_wanted = |connection: &&Connection| {
            (query.include_self_traffic || !connection.self_traffic)
                && query.matcher.matches(&ConnectionView(connection))
        };
        let mut found: Vec<&Connection> = self.connections.values().filter(is_wanted).collect();
        let total = found.len() as u64;
        // The ends break ties, so that the same question gets the same answer.
        let key = |connection: &&Connection| {
            let value = value(connection, query.sort);
            let by_value = if query.ascending { value } else { u64::MAX - value };
            let Connection { local, remote, cookie, .. } = connection;
            (by_value, local.addr, local.port, remote.addr, remote.port, *cookie)
        };
        if query.limit < found.len() {
            if query.limit > 0 {
                found.select_nth_unstable_by_key(query.limit - 1, key);
            }
            found.truncate(query.limit);
        }
        found.sort_unstable_by_key(key);
        TcpPage { rows: found.into_iter().map(Connection::without_figures).collect(), total }
    }
}

fn value(connection: &Connection, sort: TcpSort) -> u64 {
    let health = connection.health();
    match sort {
        TcpSort::Retransmits => health.retransmits.into(),
        TcpSort::Rtt => health.srtt_ns.unwrap_or(0),
        TcpSort::Handshake => health.handshake_ns.unwrap_or(0),
        TcpSort::Bytes => health.bytes_sent.saturating_add(health.bytes_received),
        TcpSort::Opened => health.opened.unwrap_or(UnixNanos(0)).0,
    }
}

/// A connection as filters see it: who opened it is the source, where that is known, else the local
/// end.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionView<'a>(pub &'a Connection);

impl<'a> ConnectionView<'a> {
    /// Returns which end is the local one.
    #[must_use]
    pub fn local(&self) -> End {
        match self.0.health().role {
            TcpRole::Server => End::Destination,
            TcpRole::Client | TcpRole::Unknown | TcpRole::Listener => End::Source,
        }
    }

    /// Returns one end.
    #[must_use]
    pub fn end(&self, end: End) -> SocketEnd {
        if end == self.local() { self.0.local } else { self.0.remote }
    }

    /// Returns the name of one end.
    #[must_use]
    pub fn label(&self, end: End) -> Option<&'a Label> {
        self.0.label.as_deref().filter(|_| end != self.local())
    }

    /// Returns who is at one end.
    #[must_use]
    pub fn party(&self, end: End) -> Option<&'a Party> {
        Some(if end == self.local() { &self.0.subject } else { &self.0.peer })
    }
}

impl FlowFields for ConnectionView<'_> {
    fn ip(&self, end: End) -> Option<IpAddr> {
        Some(ip_of(self.end(end).addr))
    }

    fn port(&self, end: End) -> Option<u16> {
        Some(self.end(end).port)
    }

    owner_fields! {}

    fn protocol(&self) -> v1::Protocol {
        v1::Protocol::Tcp
    }

    fn direction(&self) -> v1::Direction {
        orb8_proto::tcp::direction(Some(self.local()))
    }

    fn interface(&self) -> Option<&str> {
        None
    }
}

impl TcpFields for ConnectionView<'_> {
    fn kind(&self) -> Option<v1::TcpEventKind> {
        None
    }

    fn state(&self) -> v1::TcpState {
        state_of(self.0.health().state)
    }

    fn reason(&self) -> Option<&str> {
        None
    }

    fn latency_ns(&self) -> Option<u64> {
        self.0.health().latency_ns()
    }
}
