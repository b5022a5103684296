//! Slots for flows, each in the list of its state.

use std::ops::{Index, IndexMut};

use super::Flow;
use super::sockets::Place;
use crate::event::UnixNanos;

/// No slot.
const NONE: u32 = u32::MAX;

/// Slots added at least when there are none left.
const GROWTH: usize = 1024;

/// What a slot's flow is at, which is the list that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    Live = 0,
    /// Closed, and its last counts are still in the kernel.
    Closing = 1,
    /// Told.
    Ended = 2,
    /// No flow.
    Free = 3,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) flow: Flow,
    /// Milliseconds since the store's start.
    pub(super) touched: u64,
    pub(super) closed_at: UnixNanos,
    pub(super) closed_in: u32,
    /// Whether the counts of the packet that closed it are in.
    pub(super) is_drained: bool,
    pub(super) state: State,
    pub(super) place: Place,
    previous: u32,
    next: u32,
}

impl Slot {
    pub(super) fn new(flow: Flow, touched: u64) -> Self {
        Self {
            flow,
            touched,
            closed_at: UnixNanos(0),
            closed_in: 0,
            is_drained: false,
            state: State::Free,
            place: Place::default(),
            previous: NONE,
            next: NONE,
        }
    }
}

/// Oldest to newest.
#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
}

/// Slots by number. A number is valid from `insert` to `remove`.
#[derive(Debug)]
pub(super) struct Slab {
    slots: Vec<Slot>,
    lists: [List; 4],
}

impl Default for Slab {
    fn default() -> Self {
        Self { slots: Vec::new(), lists: [List { head: NONE, tail: NONE }; 4] }
    }
}

impl Slab {
    /// Puts a flow at the end of the live list.
    pub(super) fn insert(&mut self, slot: Slot) -> u32 {
        let at = match self.oldest(State::Free) {
            Some(at) => {
                self.unlink(at);
                self[at] = slot;
                at
            }
            None => {
                if self.slots.len() == self.slots.capacity() {
                    // Doubling would waste half of a large store.
                    self.slots.reserve_exact(GROWTH.max(self.slots.len() / 4));
                }
                self.slots.push(slot);
                // The store is bounded by a u32.
                self.slots.len() as u32 - 1
            }
        };
        self.link(at, State::Live);
        at
    }

    /// Takes a flow out.
    pub(super) fn remove(&mut self, at: u32) -> Flow {
        self.move_to(at, State::Free);
        let slot = &mut self[at];
        // What is shared must not outlive its flows in a free slot.
        let ends = std::mem::take(&mut slot.flow.ends);
        let label = slot.flow.label.take();
        Flow { ends, label, ..slot.flow.clone() }
    }

    /// Puts a slot at the end of a state's list.
    pub(super) fn move_to(&mut self, at: u32, state: State) {
        self.unlink(at);
        self.link(at, state);
    }

    /// Returns the slot that is longest in the state.
    pub(super) fn oldest(&self, state: State) -> Option<u32> {
        some(self.lists[state as usize].head)
    }

    /// Returns the next slot of the same list.
    pub(super) fn after(&self, at: u32) -> Option<u32> {
        some(self[at].next)
    }

    /// Returns every flow.
    pub(super) fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.slots.iter().filter(|slot| slot.state != State::Free).map(|slot| &slot.flow)
    }

    /// Returns every flow, to change who is at its ends.
    pub(super) fn flows_mut(&mut self) -> impl Iterator<Item = &mut Flow> {
        let slots = self.slots.iter_mut().filter(|slot| slot.state != State::Free);
        slots.map(|slot| &mut slot.flow)
    }

    /// Returns the flows of some slots, and whether there are more slots behind them.
    pub(super) fn piece(
        &mut self,
        from: u32,
        slots: u32,
    ) -> (impl Iterator<Item = &mut Flow>, bool) {
        let from = (from as usize).min(self.slots.len());
        let to = from.saturating_add(slots as usize).min(self.slots.len());
        let has_more = to < self.slots.len();
        let slots = self.slots[from..to].iter_mut().filter(|slot| slot.state != State::Free);
        (slots.map(|slot| &mut slot.flow), has_more)
    }

    fn unlink(&mut self, at: u32) {
        let Slot { previous, next, state, .. } = self[at];
        match some(previous) {
            Some(previous) => self[previous].next = next,
            None => self.lists[state as usize].head = next,
        }
        match some(next) {
            Some(next) => self[next].previous = previous,
            None => self.lists[state as usize].tail = previous,
        }
    }

    fn link(&mut self, at: u32, state: State) {
        let tail = std::mem::replace(&mut self.lists[state as usize].tail, at);
        match some(tail) {
            Some(tail) => self[tail].next = at,
            None => self.lists[state as usize].head = at,
        }
        let slot = &mut self[at];
        slot.state = state;
        slot.previous = tail;
        slot.next = NONE;
    }
}

impl Index<u32> for Slab {
    type Output = Slot;

    fn index(&self, at: u32) -> &Slot {
        &self.slots[at as usize]
    }
}

impl IndexMut<u32> for Slab {
    fn index_mut(&mut self, at: u32) -> &mut Slot {
        &mut self.slots[at as usize]
    }
}

fn some(at: u32) -> Option<u32> {
    (at != NONE).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a flow may cost, with its share of both indexes and of a quarter's growth: 31 MiB for
    /// 100,000 flows.
    const BUDGET: usize = 325;

    #[test]
    fn a_flow_fits_its_budget() {
        // Each index: 4 bytes and a control byte, at a load of 7/16 at worst.
        let index = 5 * 16 / 7 + 1;
        let flow = size_of::<Slot>() * 5 / 4 + 2 * index;
        assert!(flow <= BUDGET, "{flow} bytes: a slot is {}", size_of::<Slot>());
    }
}
