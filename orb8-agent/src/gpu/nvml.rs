//! NVIDIA's devices, by the driver's management library (NVML).
//!
//! ```text
//! read ──wanted──▶ session (a thread) ──▶ library ─▶ driver
//!   ▲                 │ reader per device: facts, fields, sampling, health, gpm, mig, processes
//!   └── shared ◀──────┘
//!         ▲────────── xids (a thread that waits for events)
//! ```
//! One thread asks the driver. Each call can hang, so it is made where others see it (`progress`):
//! the thread that waits too long for one device is left behind with it, and another one asks the
//! other devices, a few times at most. When the call returns, the device is taken up again. Nobody
//! ever waits longer than [`Patience`] says for a reading, and what is known by then is told.
//!
//! The library is closed and opened anew when the driver goes away or all devices are lost, with a
//! pause between, and not before every thread is out of it.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::{error, warn};

use crate::clock::Clock;
use crate::event::UnixNanos;

use super::config::GpuConfig;
use super::device::SourceKind;
use super::reading::Reading;
use super::source::{Source, SourceError, Unread};
use progress::{Progress, Waiting};
use shared::{MOST_LEFT, Shared};

mod call;
mod facts;
mod fields;
mod gpm;
mod health;
mod library;
mod mig;
mod processes;
mod progress;
#[expect(unsafe_code, reason = "GPU FFI")]
mod raw;
mod reader;
mod sampling;
mod session;
mod shared;
mod slots;
mod xids;

#[cfg(test)]
mod tests;

/// For how long is waited.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For a reading.
    reading: Duration,
    /// For a call: after that it hangs.
    call: Duration,
}

/// Well below a second, which is the shortest interval. The slowest call that is made measures for
/// 20 ms.
const PATIENCE: Patience =
    Patience { reading: Duration::from_millis(800), call: Duration::from_millis(400) };

/// NVIDIA's devices, by the driver's management library.
#[derive(Debug)]
pub struct NvmlSource {
    config: Arc<GpuConfig>,
    shared: Arc<Shared>,
    asking: Option<Asking>,
    patience: Patience,
}

/// The thread that asks.
#[derive(Debug)]
struct Asking {
    progress: Arc<Progress>,
    thread: JoinHandle<()>,
}

impl NvmlSource {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(config: &GpuConfig) -> Self {
        let config = Arc::new(config.clone());
        Self { config, shared: Arc::default(), asking: None, patience: PATIENCE }
    }

    /// Returns the thread that asks, after it was started where there is none.
    fn asking(&mut self) -> Result<Arc<Progress>, SourceError> {
        if let Some(asking) = &self.asking
            && !asking.progress.was_left()
        {
            if !asking.thread.is_finished() {
                return Ok(Arc::clone(&asking.progress));
            }
            error!("the thread that asks NVIDIA's driver ended by itself; another one is started");
        }
        let progress = Arc::new(Progress::default());
        let (shared, config) = (Arc::clone(&self.shared), Arc::clone(&self.config));
        let seen = Arc::clone(&progress);
        let thread = spawn("orb8-nvml", move || {
            session::run(&shared, &seen, &config);
            if let Some(waited_for) = seen.left_with() {
                shared.come_back(Some(waited_for));
            }
            shared.done.notify_one();
        })?;
        self.asking = Some(Asking { progress: Arc::clone(&progress), thread });
        Ok(progress)
    }

    /// Sees to it that events are waited for. A thread that does not come back from that is left too.
    fn watch(&self) -> Result<(), SourceError> {
        let mut state = self.shared.state();
        let is_overdue = state.watched.is_none_or(|seen| seen.elapsed() >= xids::OVERDUE);
        if state.watch.is_none() || !is_overdue {
            return Ok(());
        }
        if state.watched.is_some() {
            if state.left >= MOST_LEFT {
                return Ok(());
            }
            state.left += 1;
            // Two never wait for one set.
            state.watch = None;
            state.rewatch = true;
            warn!("the driver hangs where XID events are waited for: another thread does");
        }
        state.watcher += 1;
        state.watched = Some(Instant::now());
        let number = state.watcher;
        drop(state);
        let shared = Arc::clone(&self.shared);
        spawn("orb8-nvml-xid", move || xids::run(&shared, number))?;
        Ok(())
    }

    /// Leaves the thread behind where it waits too long for one device.
    fn leave_behind(&self, progress: &Progress, now: Instant) -> bool {
        let Some(waiting) = progress.waiting() else { return false };
        let Some(index) = waiting.device else { return false };
        now.saturating_duration_since(waiting.since) >= self.patience.call
            && self.shared.leave_behind(progress, index, waiting)
    }

    async fn wait(&mut self) -> Result<Option<Waiting>, SourceError> {
        let Patience { reading, call } = self.patience;
        let end = Instant::now() + reading;
        let round = self.shared.request();
        loop {
            let progress = self.asking()?;
            let now = Instant::now();
            if self.shared.state().finished >= round {
                return Ok(None);
            }
            if now >= end {
                return Ok(progress.waiting());
            }
            if self.leave_behind(&progress, now) {
                continue;
            }
            let due = progress.waiting().map_or(now + call, |waiting| waiting.since + call);
            // One that may not be left behind is waited for like any other.
            let due = if due <= now { end } else { due.min(end) };
            let done = self.shared.done.notified();
            let _ = tokio::time::timeout(due.saturating_duration_since(now), done).await;
        }
    }
}

impl Source for NvmlSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Nvml
    }

    async fn read(&mut self) -> Result<Reading, SourceError> {
        let waiting = self.wait().await?;
        self.watch()?;
        // A reading that was late is told once more; after that the device did not answer.
        let fresh = self.config.interval * 2 + Duration::from_secs(1);
        self.shared.reading(Instant::now(), fresh, waiting)
    }

    fn invalid(&self) -> u64 {
        self.shared.state().invalid
    }

    fn unread(&self) -> Unread {
        self.shared.state().unread.clone()
    }
}

impl Drop for NvmlSource {
    fn drop(&mut self) {
        // The threads end by themselves: one that hangs cannot be waited for.
        self.shared.state().is_closed = true;
        self.shared.wake.notify_all();
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, SourceError> {
    thread::Builder::new().name(name.into()).spawn(run).map_err(|error| {
        SourceError::Failed(format!("no thread could be started ({error}): see ulimit -u"))
    })
}

/// Returns the present time.
fn unix_now() -> UnixNanos {
    Clock::system().now()
}
