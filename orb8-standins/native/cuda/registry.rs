//! Handles: what the driver made and the program names by a number.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::error::{Error, INVALID_HANDLE};

/// Things of one kind by their handles.
pub(super) struct Registry<T> {
    next: AtomicUsize,
    things: RwLock<HashMap<usize, Arc<T>>>,
}

impl<T> Registry<T> {
    /// Makes an empty one; of two with different kinds, neither knows the other's handles.
    pub(super) fn new(kind: usize) -> Self {
        // Looks like an address of the heap, and is none.
        let next = 0x5500_0000_0000 + (kind << 36);
        Self { next: AtomicUsize::new(next), things: RwLock::default() }
    }

    pub(super) fn add(&self, thing: T) -> (usize, Arc<T>) {
        let handle = self.next.fetch_add(0x40, Ordering::Relaxed);
        let thing = Arc::new(thing);
        let mut things = self.things.write().unwrap_or_else(PoisonError::into_inner);
        things.insert(handle, Arc::clone(&thing));
        (handle, thing)
    }

    pub(super) fn get(&self, handle: usize) -> Result<Arc<T>, Error> {
        let things = self.things.read().unwrap_or_else(PoisonError::into_inner);
        things.get(&handle).cloned().ok_or(INVALID_HANDLE)
    }

    pub(super) fn remove(&self, handle: usize) -> Result<Arc<T>, Error> {
        let mut things = self.things.write().unwrap_or_else(PoisonError::into_inner);
        things.remove(&handle).ok_or(INVALID_HANDLE)
    }

    /// Removes those that are no longer wanted.
    pub(super) fn retain(&self, wanted: impl Fn(&T) -> bool) {
        let mut things = self.things.write().unwrap_or_else(PoisonError::into_inner);
        things.retain(|_, thing| wanted(thing));
    }

    /// Returns those that are looked for.
    pub(super) fn all(&self, wanted: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let things = self.things.read().unwrap_or_else(PoisonError::into_inner);
        things.values().filter(|thing| wanted(thing)).cloned().collect()
    }
}
