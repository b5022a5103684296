//! Whose label set is whose, without a look at names: parties are told by where they are in memory.

use std::sync::Arc;

use hashbrown::HashMap;
use orb8_proto::filter::End;

use super::sets::SetRef;
use crate::identity::{Address, Ends, Party};

/// An end that is nobody's, and an address that stands for others without an object of its own.
const NOBODY: usize = 0;
const OWN_ADDRESS: usize = 1;

/// Two owners, and whose side is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    source: [usize; 2],
    destination: [usize; 2],
    local: Option<End>,
}

/// What is known of a [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) set: SetRef,
    /// The end whose label set it is.
    pub(super) end: Option<End>,
}

/// Remembers what was asked for in the last interval or two.
#[derive(Debug, Default)]
pub(super) struct KnownOwners {
    recent: Map,
    old: Map,
}

/// The parties are kept, so that no other one comes to be where they are.
type Map = HashMap<Key, (Known, Ends), foldhash::fast::RandomState>;

impl Key {
    /// Without a look at the other end, unless labels tell of it or it may be the local one.
    pub(super) fn new(ends: &Ends, local: Option<End>, has_peer: bool) -> Self {
        let of = |end: End| match local {
            Some(local) if local != end && !has_peer => [NOBODY; 2],
            _ => place(ends.get(end)),
        };
        Self { source: of(End::Source), destination: of(End::Destination), local }
    }
}

/// Returns where a party is in memory: an address that stands for others, and who is there.
fn place(party: &Party) -> [usize; 2] {
    match party {
        Party::Unknown => [NOBODY; 2],
        Party::Workload(owner) => [NOBODY, Arc::as_ptr(owner).addr()],
        Party::Pod(pod) => [NOBODY, Arc::as_ptr(pod).addr()],
        Party::Node(node) => [NOBODY, Arc::as_ptr(node).addr()],
        Party::Front(front) => {
            let address = match &front.address {
                Address::Service(service) => Arc::as_ptr(service).addr(),
                Address::Node(node) => Arc::as_ptr(node).addr(),
                Address::Own => OWN_ADDRESS,
            };
            let behind = front.behind.as_ref();
            [address, behind.map_or(NOBODY, |behind| place(&behind.party)[1])]
        }
    }
}

impl KnownOwners {
    pub(super) fn get(&mut self, key: &Key) -> Option<Known> {
        if let Some((known, _)) = self.recent.get(key) {
            return Some(*known);
        }
        let (known, ends) = self.old.remove(key)?;
        self.recent.insert(*key, (known, ends));
        Some(known)
    }

    /// Remembers. Where there are too many, those go that were not asked for lately.
    pub(super) fn insert(&mut self, key: Key, known: Known, ends: Ends, limit: usize) {
        if self.recent.len() >= limit {
            self.begin_interval();
        }
        self.recent.insert(key, (known, ends));
    }

    /// Forgets what was not asked for since the last interval began.
    pub(super) fn begin_interval(&mut self) {
        self.old = std::mem::take(&mut self.recent);
    }

    /// Forgets those of a label set.
    pub(super) fn forget(&mut self, set: SetRef) {
        for map in [&mut self.recent, &mut self.old] {
            map.retain(|_, (known, _)| known.set != set);
        }
    }
}
