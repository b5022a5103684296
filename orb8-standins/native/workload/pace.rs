//! When steps begin, and when there are no more.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
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
        }
    }

    /// Returns the next step's number when it is time for it; `None` after the last.
    pub(crate) fn next(&mut self) -> Option<u64> {
        if let Some(rate) = self.rate {
            let due = Duration::try_from_secs_f64(self.done as f64 / rate).unwrap_or_default();
            thread::sleep(due.saturating_sub(self.start.elapsed()));
        }
        let is_over = self.lasts.is_some_and(|lasts| self.start.elapsed() >= lasts);
        if self.done >= self.steps || is_over {
            return None;
        }
        self.done += 1;
        Some(self.done - 1)
    }

    /// Returns how many steps began.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }
}

/// How far all threads are.
#[derive(Default)]
pub(crate) struct Progress {
    steps: AtomicU64,
    is_over: AtomicBool,
}

impl Progress {
    /// Counts a step that was done.
    pub(crate) fn step(&self) {
        self.steps.fetch_add(1, Relaxed);
    }

    /// Has [`Progress::tell`] end when its thread is woken next.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Relaxed);
    }

    /// Says every so often how many steps were done, and after how long.
    pub(crate) fn tell(&self, each: Duration, say: impl Fn(&str)) {
        let start = Instant::now();
        loop {
            thread::park_timeout(each);
            if self.is_over.load(Relaxed) {
                return;
            }
            let (seconds, steps) = (start.elapsed().as_secs_f64(), self.steps.load(Relaxed));
            say(&format!("{{\"seconds\":{seconds:.6},\"steps\":{steps}}}"));
        }
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
