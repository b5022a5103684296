//! What a thread that asks the driver is waiting for, for who watches it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::call::Call;

/// What one thread is doing. It writes, and who waits for it reads.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    device: Option<u32>,
    call: Option<(Call, Instant)>,
    left_with: Option<Waiting>,
}

/// A call that has not returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Number of the device; `None` where it is about none.
    pub(super) device: Option<u32>,
    /// What is asked.
    pub(super) call: Call,
    /// Since when.
    pub(super) since: Instant,
}

impl Waiting {
    /// Says so.
    pub(super) fn tell(&self, now: Instant) -> String {
        let waited = now.saturating_duration_since(self.since);
        let waited = if waited < Duration::from_secs(2) {
            format!("{} ms", waited.as_millis())
        } else {
            format!("{} s", waited.as_secs())
        };
        format!("{} has not returned for {waited}: the driver hangs", self.call.name())
    }
}

impl Progress {
    /// Notes which device is asked from now on.
    pub(super) fn turn_to(&self, device: Option<u32>) {
        self.state().device = device;
    }

    /// Returns which device is asked.
    pub(super) fn device(&self) -> Option<u32> {
        self.state().device
    }

    /// Notes that a call begins.
    pub(super) fn enter(&self, call: Call) {
        self.state().call = Some((call, Instant::now()));
    }

    /// Notes that it returned, and says whether this thread is still the one that asks.
    pub(super) fn leave(&self) -> bool {
        let mut state = self.state();
        state.call = None;
        state.left_with.is_none()
    }

    /// Returns what it waits for.
    pub(super) fn waiting(&self) -> Option<Waiting> {
        let State { device, call, .. } = *self.state();
        call.map(|(call, since)| Waiting { device, call, since })
    }

    /// Leaves the thread behind, if it has waited for one call about a device since then.
    pub(super) fn leave_behind(&self, waiting: Waiting) -> bool {
        let mut state = self.state();
        let still = state.device == waiting.device
            && state.call.is_some_and(|(_, since)| since == waiting.since);
        if still {
            state.left_with = Some(waiting);
        }
        still
    }

    /// Whether it was left behind.
    pub(super) fn was_left(&self) -> bool {
        self.left_with().is_some()
    }

    /// Returns what it waited for when it was left behind.
    pub(super) fn left_with(&self) -> Option<Waiting> {
        self.state().left_with
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_returned_in_the_meantime_is_not_left() {
        let progress = Progress::default();
        progress.turn_to(Some(3));
        progress.enter(Call::Power);
        let waiting = progress.waiting().unwrap();
        assert_eq!((waiting.device, waiting.call), (Some(3), Call::Power));
        assert!(progress.leave());
        assert!(!progress.leave_behind(waiting), "it returned");
        progress.enter(Call::Power);
        assert!(!progress.leave_behind(waiting), "another call");
        let waiting = progress.waiting().unwrap();
        assert!(progress.leave_behind(waiting));
        assert!(!progress.leave(), "it is told when it returns");
        assert!(progress.was_left());
    }

    #[test]
    fn how_long_is_said_in_what_a_person_reads() {
        let since = Instant::now();
        let waiting = Waiting { device: Some(0), call: Call::Temperature, since };
        assert_eq!(
            waiting.tell(since + Duration::from_millis(450)),
            "nvmlDeviceGetTemperature has not returned for 450 ms: the driver hangs"
        );
        assert!(waiting.tell(since + Duration::from_secs(75)).contains("for 75 s"));
    }
}
