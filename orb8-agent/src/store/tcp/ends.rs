//! Which connections have which ends.

use hashbrown::HashMap;

use super::{Connection, Id};
use crate::event::SocketEnd;

/// The local end, then the other one.
pub(super) type Ends = [SocketEnd; 2];

/// The latest connection between two ends in each network namespace: those have addresses in common.
#[derive(Debug, Default)]
pub(super) struct EndsIndex {
    latest: HashMap<Ends, Vec<Place>, foldhash::fast::RandomState>,
}

/// A network namespace, and the connection in it.
type Place = (u32, Id);

impl EndsIndex {
    /// Returns the connection between two ends in a network namespace.
    pub(super) fn get(&self, ends: &Ends, netns: u32) -> Option<Id> {
        let places = self.latest.get(ends)?;
        places.iter().find(|place| place.0 == netns).map(|place| place.1)
    }

    /// Returns the connections between two ends, each in another network namespace.
    pub(super) fn all(&self, ends: &Ends) -> impl Iterator<Item = Id> + use<'_> {
        self.latest.get(ends).into_iter().flatten().map(|place| place.1)
    }

    /// Adds a connection, in place of an earlier one.
    pub(super) fn insert(&mut self, connection: &Connection, id: Id) {
        let place = (connection.netns, id);
        let Some(places) = self.latest.get_mut(&ends_of(connection)) else {
            self.latest.insert(ends_of(connection), vec![place]);
            return;
        };
        match places.iter_mut().find(|known| known.0 == place.0) {
            Some(known) => *known = place,
            None => places.push(place),
        }
    }

    /// Removes a connection, unless a later one has its place.
    pub(super) fn remove(&mut self, connection: &Connection, id: Id) {
        let ends = ends_of(connection);
        let Some(places) = self.latest.get_mut(&ends) else {
            return;
        };
        places.retain(|place| *place != (connection.netns, id));
        if places.is_empty() {
            self.latest.remove(&ends);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.latest.values().map(Vec::len).sum()
    }
}

fn ends_of(connection: &Connection) -> Ends {
    [connection.local, connection.remote]
}
