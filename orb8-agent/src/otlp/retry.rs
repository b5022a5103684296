//! When to ask again, as OTLP's specification has it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Wait after a first failure, and the longest one.
const BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A collector that asks to be left alone for longer is asked again after this.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It may succeed later.
    Retry {
        /// Why it failed.
        reason: String,
        /// How long the collector asks to be left alone.
        after: Option<Duration>,
    },
    /// It never will.
    Refused {
        /// Why.
        reason: String,
    },
}

impl Failure {
    /// It may succeed later.
    pub(super) fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }

    /// It never will.
    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }

    /// Returns why.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Retry { reason, .. } | Self::Refused { reason } => reason,
        }
    }
}

/// Waits that double, each random in its upper half: all agents lose a collector at once, and are not
/// to return together.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    random: fn() -> u64,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self::with_random(random)
    }

    fn with_random(random: fn() -> u64) -> Self {
        Self { next: BOUNDS.0, random }
    }

    /// Returns the next wait: what the collector asks for and something more, or else ours.
    pub(super) fn wait(&mut self, asked: Option<Duration>) -> Duration {
        let fraction = ((self.random)() % 1024) as f64 / 1023.0;
        let whole = self.next;
        self.next = (whole * 2).min(BOUNDS.1);
        match asked {
            Some(asked) => {
                let asked = asked.min(LONGEST_ASKED);
                asked + (asked / 4).mul_f64(fraction)
            }
            None => whole / 2 + (whole / 2).mul_f64(fraction),
        }
    }
}

/// A number that differs between agents and calls; that is all jitter needs.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute() {
        let mut longest = Backoff::with_random(|| 1023);
        let waits: Vec<_> = (0..7).map(|_| longest.wait(None).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        let mut shortest = Backoff::with_random(|| 0);
        assert_eq!(shortest.wait(None), BOUNDS.0 / 2);
        let mut real = Backoff::new();
        let waits: Vec<_> = (0..20).map(|_| real.wait(None)).collect();
        assert!(waits[6..].iter().any(|wait| *wait != waits[6]), "no jitter: {waits:?}");
        assert!(waits.iter().all(|wait| (BOUNDS.0 / 2..=BOUNDS.1).contains(wait)), "{waits:?}");
    }

    #[test]
    fn a_collector_is_left_alone_at_least_as_it_asks_but_not_for_an_hour() {
        let mut backoff = Backoff::new();
        for _ in 0..100 {
            let wait = backoff.wait(Some(Duration::from_secs(8)));
            assert!((8.0..=10.0).contains(&wait.as_secs_f64()), "{wait:?}");
        }
        assert!(backoff.wait(Some(Duration::from_secs(3_600))) <= LONGEST_ASKED * 5 / 4);
        assert_eq!(backoff.wait(Some(Duration::ZERO)), Duration::ZERO);
    }
}
