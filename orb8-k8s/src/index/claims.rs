//! Values that several objects claim under one key.

use std::hash::Hash;

use hashbrown::HashMap;

use crate::object::Text;

/// An object's claim.
pub(super) struct Claim<V> {
    /// The object's uid.
    pub(super) by: Text,
    /// When that object was made, in nanoseconds of unix time.
    pub(super) created: u64,
    pub(super) value: V,
}

/// All claims; who looks up a key ranks them, so that their order of arrival does not matter.
pub(super) struct Claims<K, V>(HashMap<K, Vec<Claim<V>>, foldhash::fast::RandomState>);

impl<K, V> Default for Claims<K, V> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Eq + Hash, V> Claims<K, V> {
    pub(super) fn of(&self, key: &K) -> &[Claim<V>] {
        self.0.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds a claim, in place of the same object's earlier one.
    pub(super) fn set(&mut self, key: K, claim: Claim<V>) {
        let claims = self.0.entry(key).or_insert_with(|| Vec::with_capacity(1));
        match claims.iter_mut().find(|known| known.by == claim.by) {
            Some(known) => *known = claim,
            None => claims.push(claim),
        }
    }

    pub(super) fn remove(&mut self, key: &K, by: &str) {
        let Some(claims) = self.0.get_mut(key) else {
            return;
        };
        claims.retain(|claim| &*claim.by != by);
        if claims.is_empty() {
            self.0.remove(key);
        }
    }
}
