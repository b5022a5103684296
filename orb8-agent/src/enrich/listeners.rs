//! Which cgroup answers at which address of this node.

use std::time::{Duration, Instant};

use hashbrown::HashMap;

use crate::event::SocketEnd;

/// Addresses with a port that something on one node answers at: more than there are.
const MAX_LISTENERS: usize = 16_384;

/// Whoever answered there so long ago may be somebody else now.
const KEEP: Duration = Duration::from_secs(300);

/// After another cgroup took the place, both may still have connections: for so long it tells
/// nothing.
const DISPUTED: Duration = Duration::from_secs(10);

/// Where there is no room, what is old is looked for no more often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Listeners {
    swept: Option<Instant>,
    known: HashMap<(u8, SocketEnd), Listener, foldhash::fast::RandomState>,
}

#[derive(Clone, Copy, Debug)]
struct Listener {
    cgroup_id: u64,
    seen: Instant,
    /// When it took the place of another.
    taken: Option<Instant>,
}

impl Listeners {
    /// Remembers what answered at an address now.
    pub(super) fn learn(&mut self, protocol: u8, at: SocketEnd, cgroup_id: u64, now: Instant) {
        if let Some(known) = self.known.get_mut(&(protocol, at)) {
            known.seen = now;
            if known.cgroup_id != cgroup_id {
                *known = Listener { cgroup_id, seen: now, taken: Some(now) };
            }
            return;
        }
        let is_recent = |swept| now.saturating_duration_since(swept) < SWEEP_INTERVAL;
        if self.known.len() >= MAX_LISTENERS && !self.swept.is_some_and(is_recent) {
            self.swept = Some(now);
            self.known.retain(|_, known| now.saturating_duration_since(known.seen) < KEEP);
        }
        if self.known.len() < MAX_LISTENERS {
            self.known.insert((protocol, at), Listener { cgroup_id, seen: now, taken: None });
        }
    }

    /// Returns what answers at an address, where that is one cgroup.
    pub(super) fn at(&self, protocol: u8, at: SocketEnd, now: Instant) -> Option<u64> {
        let age = |since: Instant| now.saturating_duration_since(since);
        let known = self.known.get(&(protocol, at)).filter(|known| age(known.seen) < KEEP)?;
        known.taken.is_none_or(|taken| age(taken) >= DISPUTED).then_some(known.cgroup_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(port: u16) -> SocketEnd {
        SocketEnd { addr: [7; 16], port }
    }

    #[test]
    fn who_answered_last_answers_unless_two_just_did() {
        let mut listeners = Listeners::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        listeners.learn(6, end(80), 1, start);
        assert_eq!(listeners.at(6, end(80), start), Some(1));
        assert_eq!(listeners.at(17, end(80), start), None, "another protocol");
        assert_eq!(listeners.at(6, end(81), start), None, "another port");
        listeners.learn(6, end(80), 2, after(1));
        assert_eq!(listeners.at(6, end(80), after(2)), None, "disputed");
        listeners.learn(6, end(80), 2, after(12));
        assert_eq!(listeners.at(6, end(80), after(12)), Some(2));
        assert_eq!(listeners.at(6, end(80), after(1_000)), None, "too long ago");
    }

    #[test]
    fn there_are_no_more_than_the_bound() {
        let mut listeners = Listeners::default();
        let start = Instant::now();
        let at = |number: usize| {
            let mut addr = [0; 16];
            addr[..8].copy_from_slice(&number.to_ne_bytes());
            SocketEnd { addr, port: 1 }
        };
        (0..=MAX_LISTENERS).for_each(|number| listeners.learn(6, at(number), 1, start));
        assert_eq!(listeners.known.len(), MAX_LISTENERS);
        let later = start + KEEP;
        // All of them are looked at once a second, whatever comes.
        listeners.swept = Some(later);
        listeners.learn(6, at(MAX_LISTENERS), 1, later);
        assert_eq!(listeners.at(6, at(MAX_LISTENERS), later), None);
        let later = later + SWEEP_INTERVAL;
        listeners.learn(6, at(MAX_LISTENERS), 1, later);
        assert_eq!(listeners.at(6, at(MAX_LISTENERS), later), Some(1));
        assert_eq!(listeners.known.len(), 1, "what is old made room");
    }
}
