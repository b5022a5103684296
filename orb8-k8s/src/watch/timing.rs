//! How long a watch waits for what.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The first wait is one to two seconds, so that a restarted server meets its clients one by one; a
/// minute without a server costs at most half a minute more.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// A server that lists but does not let watch would send everything again with each try.
const RELIST: Duration = Duration::from_secs(600);
/// A server that is overloaded says seconds; what says an hour would keep names away for one.
const RETRY_AFTER: Duration = Duration::from_secs(300);
/// Longer than a connection takes to fail that works only at first.
const LASTING: Duration = Duration::from_secs(10);
/// Below what proxies allow (300 s), and spread so that agents which started together do not return
/// together.
const SERVER_TIMEOUT: (Duration, Duration) = (Duration::from_secs(240), Duration::from_secs(260));
/// A server ends its watches within a second or two, and a busy one within a few.
const GRACE: Duration = Duration::from_secs(10);
/// Bookmarks come about each minute; two of them may be late.
const QUIET: Duration = Duration::from_secs(150);
/// The first bytes of a whole list of a busy server take seconds.
const ANSWER: Duration = Duration::from_secs(30);
/// A resource appears when the server is replaced by a newer one.
const SKIPPED: Duration = Duration::from_secs(600);

/// The times of a watch; tests take shorter ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Least and most wait before another try; each is random between its half and its whole.
    pub backoff: (Duration, Duration),
    /// Most wait before another list, where lists lead to no watch that lasts.
    pub relist: Duration,
    /// Most that a server is left alone because it asks for that.
    pub retry_after: Duration,
    /// A watch that was up for so long starts again with the least wait.
    pub lasting: Duration,
    /// After which the server is asked to end a watch, between the two, in whole seconds.
    pub server_timeout: (Duration, Duration),
    /// A watch that the server did not end that long after its time is dead.
    pub grace: Duration,
    /// Silence after which a watch is dead, where the server sends bookmarks.
    pub quiet: Duration,
    /// For the head of an answer, or the next object of a list.
    pub answer: Duration,
    /// Before a resource that the server does not have is asked for again.
    pub skipped: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            backoff: BACKOFF,
            relist: RELIST,
            retry_after: RETRY_AFTER,
            lasting: LASTING,
            server_timeout: SERVER_TIMEOUT,
            grace: GRACE,
            quiet: QUIET,
            answer: ANSWER,
            skipped: SKIPPED,
        }
    }
}

impl Timing {
    /// What to ask the server for, in seconds.
    pub(super) fn server_timeout(&self, random: u64) -> u32 {
        let (least, most) = self.server_timeout;
        let spread = most.saturating_sub(least).as_secs() + 1;
        u32::try_from(least.as_secs().max(1) + random % spread).unwrap_or(u32::MAX)
    }

    /// How long to leave a server alone that asks for that: all agents are told the same, and are
    /// not to return together.
    pub(super) fn left_alone(&self, wanted: Duration, random: u64) -> Duration {
        let least = wanted.min(self.retry_after);
        least + (least / 2).mul_f64(fraction(random))
    }
}

/// Waits that double, each random in its upper half.
#[derive(Debug)]
pub(super) struct Backoff {
    bounds: (Duration, Duration),
    next: Duration,
}

impl Backoff {
    pub(super) fn new(bounds: (Duration, Duration)) -> Self {
        Self { bounds, next: bounds.0 }
    }

    /// The next wait; `random` decides how long it is.
    pub(super) fn wait(&mut self, random: u64) -> Duration {
        let (_, most) = self.bounds;
        let whole = self.next.min(most);
        self.next = (whole * 2).min(most);
        let half = whole / 2;
        half + half.mul_f64(fraction(random))
    }

    /// Starts again with the least wait.
    pub(super) fn reset(&mut self) {
        self.next = self.bounds.0;
    }
}

/// A number that differs between agents and calls; that is all jitter needs.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// From 0 to 1.
fn fraction(random: u64) -> f64 {
    (random % 1024) as f64 / 1023.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_between_their_bounds_and_start_again() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(Timing::default().backoff);
        let longest: Vec<_> = (0..6).map(|_| backoff.wait(1023).as_secs()).collect();
        assert_eq!(longest, [2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.wait(0), 15 * second);
        backoff.reset();
        assert_eq!(backoff.wait(0), second);
        for draw in 0..2000 {
            let wait = backoff.wait(draw);
            assert!((second..=30 * second).contains(&wait), "{wait:?}");
        }
    }

    #[test]
    fn the_servers_timeout_is_spread_and_never_zero() {
        let timing = Timing::default();
        let asked: Vec<_> = (0..40).map(|random| timing.server_timeout(random)).collect();
        assert!(asked.iter().all(|seconds| (240..=260).contains(seconds)));
        assert!(asked.contains(&240) && asked.contains(&260));
        let zero = Duration::ZERO;
        assert_eq!(Timing { server_timeout: (zero, zero), ..timing }.server_timeout(7), 1);
    }

    #[test]
    fn a_server_is_left_alone_as_it_asks_but_not_for_an_hour() {
        let timing = Timing::default();
        let alone = |seconds, random| timing.left_alone(Duration::from_secs(seconds), random);
        assert_eq!(alone(20, 0).as_secs(), 20);
        assert_eq!(alone(20, 1023).as_secs(), 30);
        assert_eq!(alone(3600, 0).as_secs(), 300);
        assert_eq!(alone(u64::MAX, 1023).as_secs(), 450);
    }

    #[test]
    fn random_numbers_differ() {
        assert!((0..10).map(|_| random()).any(|number| number != random()));
    }
}
