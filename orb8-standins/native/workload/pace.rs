//! When steps begin, and when there are no more.

use std::thread;
use std::time::{Duration, Instant};

use super::options::{Options, Work};

/// Steps a second of a program that does nothing.
const IDLE_RATE: f64 = 10.0;

/// The steps of one thread.
pub(crate) struct Pace {
    start: Instant,
    done: u64,
    steps: u64,
    lasts: Option<Duration>,
    rate: Option<f64>,
    warm_up: Duration,
    /// When the warm-up ended, and the steps until then.
    warm: Option<(Instant, u64)>,
}

impl Pace {
    pub(crate) fn new(options: &Options) -> Self {
        let idle = (options.work == Work::Hold).then_some(IDLE_RATE);
        Self {
            start: Instant::now(),
            done: 0,
            steps: options.steps(),
            // Ranks end together, so that none waits for one that is gone.
            lasts: options.lasts.filter(|_| options.ranks == 0),
            rate: options.rate.or(idle),
            warm_up: options.warm_up,
            warm: None,
        }
    }

    /// Returns the next step's number when it is time for it; `None` after the last.
    pub(crate) fn next(&mut self) -> Option<u64> {
        if let Some(rate) = self.rate {
            let due = Duration::try_from_secs_f64(self.done as f64 / rate).unwrap_or_default();
            thread::sleep(due.saturating_sub(self.start.elapsed()));
        }
        let elapsed = self.start.elapsed();
        if self.warm.is_none() && elapsed >= self.warm_up {
            self.warm = Some((self.start + elapsed, self.done));
        }
        let is_over = self.lasts.is_some_and(|lasts| elapsed >= lasts);
        if self.done >= self.steps || is_over {
            return None;
        }
        self.done += 1;
        Some(self.done - 1)
    }

    /// Returns the steps a second since the warm-up; 0 where it did not end.
    pub(crate) fn measured(&self) -> f64 {
        self.warm.map_or(0.0, |(since, before)| {
            (self.done - before) as f64 / since.elapsed().as_secs_f64().max(f64::MIN_POSITIVE)
        })
    }

    /// Returns how many steps began.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }
}

/// Waits for a line on standard input, or its end.
pub(crate) fn wait_for_line() {
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Waits until standard input is closed: who started this is gone, too.
pub(crate) fn wait_for_end() {
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}
