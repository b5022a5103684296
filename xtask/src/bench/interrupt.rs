//! Ctrl-C ends a run in order: what it made is removed, and what it changed is put back.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Turns SIGINT and SIGTERM into an error of the next [`pause`]. Call it before threads start.
pub(crate) fn watch() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    thread::spawn(move || {
        while signals.wait().is_ok() {
            INTERRUPTED.store(true, Relaxed);
        }
    });
    Ok(())
}

/// Sleeps, unless the run is to end.
pub(crate) fn pause(time: Duration) -> Result<()> {
    const STEP: Duration = Duration::from_millis(50);
    let end = Instant::now() + time;
    loop {
        if INTERRUPTED.load(Relaxed) {
            bail!("interrupted");
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(STEP));
    }
}
