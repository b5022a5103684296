//! How many events come in a second.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::error::AgentError;
use crate::pipeline::{SharedPipeline, lock};

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(5);

/// What a rate is over, in looks: a minute.
const LOOKS: usize = 12;

/// Totals of the last minute. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(super) struct Rate(Arc<Mutex<VecDeque<(Instant, u64)>>>);

impl Rate {
    /// Looks now and then, until `shutdown` is cancelled.
    pub(super) async fn follow(
        self,
        pipeline: SharedPipeline,
        shutdown: CancellationToken,
    ) -> Result<(), AgentError> {
        let mut look = tokio::time::interval(LOOK);
        while shutdown.run_until_cancelled(look.tick()).await.is_some() {
            let sent = lock(&pipeline).kept().sent;
            self.note(Instant::now(), sent);
        }
        Ok(())
    }

    fn note(&self, now: Instant, total: u64) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.push_back((now, total));
        if looks.len() > LOOKS {
            looks.pop_front();
        }
    }

    /// Returns the rate of what there is in all now, a second; 0 before there is any.
    pub(super) fn of(&self, now: Instant, total: u64) -> f64 {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((then, before)) = looks.front() else { return 0.0 };
        let seconds = now.saturating_duration_since(*then).as_secs_f64();
        // Too short a time says nothing.
        if seconds < 0.1 { 0.0 } else { total.saturating_sub(*before) as f64 / seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_over_a_minute_at_most() {
        let (rate, start) = (Rate::default(), Instant::now());
        assert!(rate.of(start, 7).abs() < f64::EPSILON);
        for look in 0..100u32 {
            rate.note(start + LOOK * look, u64::from(look) * 50);
        }
        // It went up by 10 a second, and then by 1,000 at once.
        let now = start + LOOK * 99;
        let expected = (11.0 * 50.0 + 1_000.0) / 55.0;
        assert!((rate.of(now, 99 * 50 + 1_000) - expected).abs() < 1e-6);
        assert_eq!(rate.0.lock().unwrap().len(), LOOKS);
        assert!(rate.of(start, 0).abs() < f64::EPSILON, "time that goes back");
    }
}
