//! Events: places in a stream's work.

use std::ffi::c_uint;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::context;
use super::error::{Error, INVALID_HANDLE, INVALID_VALUE, NOT_READY, answer, give};
use super::shared::abi::Out;
use super::shared::counts::EVENT;
use super::state::{COUNTS, driver, now};
use super::stream::{self, Stream};
use super::timeline::Mark;

/// `CU_EVENT_DISABLE_TIMING`.
const NO_TIMING: c_uint = 2;

/// An event, and where it was recorded last.
pub(super) struct Event {
    flags: c_uint,
    place: Mutex<Option<(Arc<Stream>, Mark)>>,
}

impl Event {
    /// Returns where it was recorded last.
    pub(super) fn place(&self) -> Option<(Arc<Stream>, Mark)> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns when it happened or will happen; an event that was never recorded has happened.
    fn time(&self) -> Option<u64> {
        match self.place() {
            Some((stream, mark)) => stream.timeline().reached(mark),
            None => Some(0),
        }
    }
}

pub(super) extern "C" fn create(out: Out<usize>, flags: c_uint) -> c_uint {
    answer(|| {
        context::current()?;
        if flags > 7 || out.is_null() {
            return Err(INVALID_VALUE);
        }
        let event = Event { flags, place: Mutex::default() };
        give(out, driver()?.events.add(event).0)
    })
}

pub(super) extern "C" fn destroy(event: usize) -> c_uint {
    answer(|| driver()?.events.remove(event).map(|_| ()))
}

pub(super) extern "C" fn record<const OWN_STREAM: bool>(event: usize, stream: usize) -> c_uint {
    record_with_flags::<OWN_STREAM>(event, stream, 0)
}

pub(super) extern "C" fn record_with_flags<const OWN_STREAM: bool>(
    event: usize,
    stream: usize,
    _flags: c_uint,
) -> c_uint {
    answer(|| {
        let event = driver()?.events.get(event)?;
        let stream = stream::find::<OWN_STREAM>(stream)?;
        let mut timeline = stream.timeline();
        // A place without work before it is now.
        timeline.work(0);
        let mark = timeline.mark();
        drop(timeline);
        *event.place.lock().unwrap_or_else(PoisonError::into_inner) = Some((stream, mark));
        Ok(())
    })
}

pub(super) extern "C" fn synchronize(event: usize) -> c_uint {
    let start = Instant::now();
    let code = answer(|| {
        if let Some((stream, mark)) = driver()?.events.get(event)?.place() {
            stream.wait(mark);
        }
        Ok(())
    });
    COUNTS.waited(EVENT, start.elapsed());
    code
}

pub(super) extern "C" fn query(event: usize) -> c_uint {
    answer(|| {
        let time = driver()?.events.get(event)?.time();
        if time.is_some_and(|time| time <= now()) { Ok(()) } else { Err(NOT_READY) }
    })
}

pub(super) extern "C" fn elapsed(out: Out<f32>, start: usize, end: usize) -> c_uint {
    answer(|| {
        let (start, end) = (time_of(start)?, time_of(end)?);
        give(out, (end as f64 - start as f64) as f32 / 1e6)
    })
}

/// Returns when an event happened, of one that keeps the time.
fn time_of(event: usize) -> Result<u64, Error> {
    let event = driver()?.events.get(event)?;
    if event.flags & NO_TIMING != 0 || event.place().is_none() {
        return Err(INVALID_HANDLE);
    }
    event.time().filter(|time| *time <= now()).ok_or(NOT_READY)
}
