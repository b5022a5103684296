//! Flows of local sockets by their 5-tuple, so that a flow is found from its other end.
//!
//! A table has the latest flow of each 5-tuple and direction; the others with the same one, of other
//! cgroups, are behind it in a list through the slab. So it costs nothing that everybody's loopback
//! has the same addresses.

use std::hash::{BuildHasher, Hasher};

use hashbrown::HashTable;
use orb8_common::flow::{FlowKey, HOOK_SOCKET};
use orb8_common::packet::protocol;
use zerocopy::IntoBytes;

use super::slab::Slab;

/// Bytes of a key that are its addresses and ports.
const FIVE_TUPLE: usize = std::mem::offset_of!(FlowKey, ifindex);

/// Flows of one 5-tuple that are visited at most: more are of more cgroups than can be told apart.
const MAX_VISITED: usize = 256;

/// A place in the list of a 5-tuple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    previous: Option<Number>,
    next: Option<Number>,
}

/// A slot's number plus one, so that an absent one takes no room.
type Number = std::num::NonZeroU32;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct SocketIndex {
    latest: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
}

impl SocketIndex {
    /// Adds a flow that the slab has.
    pub(super) fn insert(&mut self, slab: &mut Slab, at: u32) {
        let key = slab[at].flow.key;
        if !is_of_socket(&key) {
            return;
        }
        let hash = hash(&self.hasher, &key);
        let Some(latest) = self.latest.find_mut(hash, |other| is_beside(slab, *other, &key)) else {
            slab[at].place = Place::default();
            let hasher = &self.hasher;
            self.latest.insert_unique(hash, at, |at| self::hash(hasher, &slab[*at].flow.key));
            return;
        };
        slab[*latest].place.previous = number(at);
        slab[at].place = Place { previous: None, next: number(*latest) };
        *latest = at;
    }

    /// Removes a flow that the slab still has.
    pub(super) fn remove(&mut self, slab: &mut Slab, at: u32) {
        let key = slab[at].flow.key;
        if !is_of_socket(&key) {
            return;
        }
        let Place { previous, next } = std::mem::take(&mut slab[at].place);
        if let Some(next) = next {
            slab[slot(next)].place.previous = previous;
        }
        if let Some(previous) = previous {
            slab[slot(previous)].place.next = next;
            return;
        }
        let hash = hash(&self.hasher, &key);
        let Ok(mut entry) = self.latest.find_entry(hash, |other| *other == at) else { return };
        match next {
            Some(next) => *entry.get_mut() = slot(next),
            None => drop(entry.remove()),
        }
    }

    /// Visits the cgroups of the flows with a key's 5-tuple and direction.
    pub(super) fn visit(&self, slab: &Slab, key: &FlowKey, visit: &mut impl FnMut(u64)) {
        let hash = hash(&self.hasher, key);
        let latest = self.latest.find(hash, |other| is_beside(slab, *other, key)).copied();
        let all = std::iter::successors(latest, |at| slab[*at].place.next.map(slot));
        all.take(MAX_VISITED).for_each(|at| visit(slab[at].flow.key.cgroup_id));
    }
}

/// Whether the flow is one of a known socket, which ports tell from others.
const fn is_of_socket(key: &FlowKey) -> bool {
    key.hook == HOOK_SOCKET
        && key.cgroup_id != 0
        && matches!(key.protocol, protocol::TCP | protocol::UDP | protocol::SCTP)
}

/// Whether a flow has the same packets as a key's, as far as they tell.
fn is_beside(slab: &Slab, at: u32, key: &FlowKey) -> bool {
    let other = &slab[at].flow.key;
    other.as_bytes()[..FIVE_TUPLE] == key.as_bytes()[..FIVE_TUPLE]
        && (other.protocol, other.direction) == (key.protocol, key.direction)
}

fn hash(hasher: &foldhash::fast::RandomState, key: &FlowKey) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(&key.as_bytes()[..FIVE_TUPLE]);
    hasher.write_u16(u16::from_ne_bytes([key.protocol, key.direction]));
    hasher.finish()
}

fn number(at: u32) -> Option<Number> {
    Number::new(at + 1)
}

const fn slot(number: Number) -> u32 {
    number.get() - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{FlowSample, SampleKind, UnixNanos};
    use crate::store::Flow;
    use crate::store::slab::Slot;

    fn key(cgroup_id: u64, port: u16, direction: u8) -> FlowKey {
        let end = |port| crate::event::SocketEnd { addr: [1; 16], port };
        let tuple = crate::store::flow::five_tuple(protocol::TCP, end(port), end(80));
        FlowKey { cgroup_id, direction, ..tuple }
    }

    fn insert(index: &mut SocketIndex, slab: &mut Slab, key: FlowKey) -> u32 {
        let sample = FlowSample {
            key,
            kind: SampleKind::New,
            cgroup_id: key.cgroup_id,
            cookie: 0,
            ifindex: 0,
            packets: 0,
            bytes: 0,
            first: UnixNanos(0),
            last: UnixNanos(0),
            tcp_flags: 0,
        };
        let at = slab.insert(Slot::new(Flow::new(&sample), 0));
        index.insert(slab, at);
        at
    }

    fn found(index: &SocketIndex, slab: &Slab, port: u16, direction: u8) -> Vec<u64> {
        let mut found = Vec::new();
        index.visit(slab, &key(0, port, direction), &mut |cgroup_id| found.push(cgroup_id));
        found.sort_unstable();
        found
    }

    #[test]
    fn flows_are_found_by_what_their_packets_say() {
        let (mut index, mut slab) = (SocketIndex::default(), Slab::default());
        let of = |cgroup, port, direction| key(cgroup, port, direction);
        let first = insert(&mut index, &mut slab, of(1, 5000, 0));
        let second = insert(&mut index, &mut slab, of(2, 5000, 0));
        let third = insert(&mut index, &mut slab, of(3, 5000, 0));
        insert(&mut index, &mut slab, of(4, 5000, 1));
        insert(&mut index, &mut slab, of(5, 5001, 0));
        insert(&mut index, &mut slab, of(0, 5000, 0));
        assert_eq!(found(&index, &slab, 5000, 0), [1, 2, 3]);
        assert_eq!(found(&index, &slab, 5000, 1), [4]);
        assert_eq!(found(&index, &slab, 5001, 0), [5]);
        let mut remove = |index: &mut SocketIndex, at| {
            index.remove(&mut slab, at);
            slab.remove(at);
            found(index, &slab, 5000, 0)
        };
        assert_eq!(remove(&mut index, second), [1, 3], "between two");
        assert_eq!(remove(&mut index, third), [1], "the latest");
        assert_eq!(remove(&mut index, first), [0_u64; 0], "the last");
        assert_eq!(index.latest.len(), 2);
    }

    #[test]
    fn many_with_one_5_tuple_cost_no_more_than_others() {
        let (mut index, mut slab) = (SocketIndex::default(), Slab::default());
        let all: Vec<u32> =
            (1..=20_000).map(|cgroup| insert(&mut index, &mut slab, key(cgroup, 1, 0))).collect();
        assert_eq!(index.latest.len(), 1);
        assert_eq!(found(&index, &slab, 1, 0).len(), MAX_VISITED);
        for at in all {
            index.remove(&mut slab, at);
            slab.remove(at);
        }
        assert!(index.latest.is_empty());
    }
}
