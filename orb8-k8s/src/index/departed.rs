//! What is gone but still asked for.

use std::collections::VecDeque;

use super::tables::Address;
use crate::object::Text;

/// Events arrive within seconds, a query of recent flows looks back minutes; and no longer than
/// this is an address's former owner kept.
pub(super) const RETENTION_NS: u64 = 600_000_000_000;

/// More is forgotten early, the oldest first: with the pods that they keep alive, about 16 MiB.
const MAX_DEPARTED: usize = 32_768;

/// Something that a reader may still ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    /// A pod, by uid.
    Pod(Text),
    /// A container, by id.
    Container(Box<str>),
    /// An address's ended versions.
    Address(Address),
}

/// What is gone, in the order of its going.
#[derive(Debug, Default)]
pub(super) struct Departed(VecDeque<(u64, Thing)>);

impl Departed {
    pub(super) fn push(&mut self, now: u64, thing: Thing) {
        self.0.push_back((now, thing));
    }

    /// Returns the next thing to forget, and when it went.
    pub(super) fn pop(&mut self, now: u64) -> Option<(u64, Thing)> {
        let (at, _) = self.0.front()?;
        let is_due = now.saturating_sub(*at) >= RETENTION_NS || self.0.len() > MAX_DEPARTED;
        if is_due { self.0.pop_front() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_by_time_and_number() {
        let mut departed = Departed::default();
        let thing = |n: usize| Thing::Pod(n.to_string().into());
        for n in 0..MAX_DEPARTED {
            departed.push(5, thing(n));
        }
        assert_eq!(departed.pop(5 + RETENTION_NS - 1), None);
        departed.push(6, thing(MAX_DEPARTED));
        assert_eq!(departed.pop(6), Some((5, thing(0))));
        assert_eq!(departed.pop(6), None);
        assert_eq!(departed.pop(5 + RETENTION_NS), Some((5, thing(1))));
    }
}
