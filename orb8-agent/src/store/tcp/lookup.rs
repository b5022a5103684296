//! Finding the connection of something else.

use std::sync::Arc;

use orb8_proto::filter::End;

use super::ends::Ends;
use super::{Connection, ConnectionTable, Id, TcpHealth};
use crate::event::{SocketEnd, TcpRole, TcpSample, UnixNanos};
use crate::store::{Flow, TCP, ip_of};

/// By how much the times of a flow and of its connection may differ: two of the kernel's longest
/// ticks.
const TICKS_NS: u64 = 20_000_000;

/// The connection that a sample is of.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The connection.
    pub connection: &'a Connection,
    /// Whether the sample's `remote` is the local end: of a packet, that is where it goes.
    pub is_reversed: bool,
}

impl ConnectionTable {
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
        let found = |id: Id, is_reversed| {
            let connection = self.connections.get(&id)?;
            // With two cookies they are two sockets.
            let is_other = sample.cookie != 0 && connection.cookie != 0;
            (!is_other).then_some(Found { connection, is_reversed })
        };
        let mut ways = ways(sample);
        if sample.netns != 0 {
            return ways.find_map(|(ends, is_reversed)| {
                found(self.by_ends.get(&ends, sample.netns)?, is_reversed)
            });
        }
        // Loopback is everybody's, and other addresses may be several namespaces'.
        if is_loopback(local) && is_loopback(remote) {
            return None;
        }
        let mut all = ways.flat_map(|(ends, is_reversed)| {
            self.by_ends.all(&ends).filter_map(move |id| found(id, is_reversed))
        });
        all.next().filter(|_| all.next().is_none())
    }

    /// Returns what is known of the connection that a flow is one direction of.
    #[must_use]
    pub fn health_of(&self, flow: &Flow) -> Option<Arc<TcpHealth>> {
        if self.connections.is_empty() || flow.key.protocol != TCP {
            return None;
        }
        let by_cookie = || self.connections.get(&flow.cookie).filter(|_| flow.cookie != 0);
        let connection = by_cookie().or_else(|| self.by_flow_ends(flow))?;
        Some(Arc::clone(connection.health()))
    }

    /// Returns which end of a flow opened its connection, where that is known.
    #[must_use]
    pub fn asking(&self, flow: &Flow) -> Option<End> {
        let local = flow.local_end()?;
        match self.health_of(flow)?.role {
            TcpRole::Client => Some(local),
            TcpRole::Server => Some(local.other()),
            TcpRole::Unknown | TcpRole::Listener => None,
        }
    }

    fn by_flow_ends(&self, flow: &Flow) -> Option<&Connection> {
        let key = &flow.key;
        let source = SocketEnd { addr: key.source_addr, port: key.source_port };
        let destination = SocketEnd { addr: key.destination_addr, port: key.destination_port };
        let at = |ends: Ends| {
            let all = self.by_ends.all(&ends).filter_map(|id| self.connections.get(&id));
            let mut all = all.filter(|connection| may_be_of(flow, connection));
            // Of several namespaces' there is no telling which.
            all.next().filter(|_| all.next().is_none())
        };
        match flow.local_end() {
            Some(End::Source) => at([source, destination]),
            Some(End::Destination) => at([destination, source]),
            None => at([source, destination]).or_else(|| at([destination, source])),
        }
    }
}

/// The ends of the connections that a sample may be of, local first, and whether they are reversed.
fn ways(sample: &TcpSample) -> impl Iterator<Item = (Ends, bool)> + use<> {
    let TcpSample { local, remote, of_packet, local_end, .. } = *sample;
    let forth = local_end != Some(End::Destination);
    let back = of_packet && local_end != Some(End::Source) && (local != remote || !forth);
    let forth = forth.then_some(([local, remote], false));
    forth.into_iter().chain(back.then_some(([remote, local], true)))
}

/// Whether the times and the owners of a flow and of a connection between its ends agree.
fn may_be_of(flow: &Flow, connection: &Connection) -> bool {
    let is_gone = |closed: UnixNanos| closed.0 + TICKS_NS < flow.first.0;
    let is_later = |opened: UnixNanos| opened.0 > flow.last.0 + TICKS_NS;
    let health = connection.health();
    let is_known = flow.cgroup_id != 0 && connection.cgroup_id != 0;
    let is_others = is_known && flow.cgroup_id != connection.cgroup_id;
    !health.closed.is_some_and(is_gone) && !health.opened.is_some_and(is_later) && !is_others
}

fn is_loopback(end: SocketEnd) -> bool {
    ip_of(end.addr).is_loopback()
}
