//! Streams.

use std::cell::RefCell;
use std::ffi::{c_int, c_uint};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::context::{self, Context};
use super::error::{
    Error, ILLEGAL_STATE, INVALID_HANDLE, INVALID_VALUE, NOT_READY, STREAM_CAPTURE_UNSUPPORTED,
    answer, give,
};
use super::graph::Graph;
use super::shared::abi::Out;
use super::shared::counts::STREAM;
use super::state::{COUNTS, driver, now};
use super::timeline::{Comparison, Condition, Mark, Timeline};

/// `CU_STREAM_LEGACY` and `CU_STREAM_PER_THREAD`.
const LEGACY: usize = 1;
const PER_THREAD: usize = 2;

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_micros(50);

/// Below this the thread spins: the kernel would wake it later than that.
const SPIN: u64 = 60_000;

/// A stream of a context.
pub(super) struct Stream {
    pub(super) context: u64,
    id: u64,
    flags: c_uint,
    priority: c_int,
    timeline: Mutex<Timeline>,
    is_capturing: AtomicBool,
    capture: Mutex<Option<Graph>>,
}

thread_local! {
    /// This thread's default streams, by context and handle.
    static OWN: RefCell<Vec<(u64, OwnStream)>> = const { RefCell::new(Vec::new()) };
}

/// A thread's default stream, which ends with it.
struct OwnStream(usize, Arc<Stream>);

impl Drop for OwnStream {
    fn drop(&mut self) {
        if let Ok(driver) = driver() {
            let _ = driver.streams.remove(self.0);
        }
    }
}

impl Stream {
    pub(super) fn new(context: u64, flags: c_uint, priority: c_int) -> Self {
        static IDS: AtomicU64 = AtomicU64::new(1);
        Self {
            context,
            id: IDS.fetch_add(1, Ordering::Relaxed),
            flags,
            priority,
            timeline: Mutex::default(),
            is_capturing: AtomicBool::new(false),
            capture: Mutex::default(),
        }
    }

    pub(super) fn timeline(&self) -> MutexGuard<'_, Timeline> {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when a place in its work is reached, unless somebody else looks at it right now.
    pub(super) fn try_reached(&self, mark: Mark) -> Option<u64> {
        self.timeline.try_lock().ok()?.reached(mark)
    }

    /// Adds work.
    pub(super) fn work(&self, ns: u64) {
        if ns > 0 {
            self.timeline().work(ns);
        }
    }

    /// Adds a condition, and waits while there are too many.
    pub(super) fn hold(&self, condition: Condition) {
        loop {
            let mut timeline = self.timeline();
            if !timeline.is_full() {
                timeline.hold(condition);
                return;
            }
            drop(timeline);
            thread::sleep(LOOK);
        }
    }

    /// Waits for a place in its work.
    pub(super) fn wait(&self, mark: Mark) {
        loop {
            let reached = self.timeline().reached(mark);
            if let Some(time) = reached {
                return sleep_until(time);
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits for all work that it has now; what it captures cannot be waited for.
    pub(super) fn finish(&self) -> Result<(), Error> {
        if self.is_capturing.load(Ordering::Relaxed) {
            return Err(STREAM_CAPTURE_UNSUPPORTED);
        }
        let mark = self.timeline().mark();
        self.wait(mark);
        Ok(())
    }

    /// Puts a node into the graph that it captures; `false` where it does not capture.
    pub(super) fn capture(&self, node: impl FnOnce(&mut Graph)) -> bool {
        if !self.is_capturing.load(Ordering::Relaxed) {
            return false;
        }
        let mut capture = self.capture.lock().unwrap_or_else(PoisonError::into_inner);
        capture.as_mut().map(node).is_some()
    }
}

/// Waits for the default stream, as calls do that return when their copy is done.
pub(super) fn finish<const OWN_STREAM: bool>() -> c_uint {
    answer(|| find::<OWN_STREAM>(0)?.finish())
}

fn sleep_until(time: u64) {
    loop {
        let left = time.saturating_sub(now());
        if left == 0 {
            return;
        }
        if left > SPIN {
            thread::sleep(Duration::from_nanos(left - SPIN));
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Returns the stream of a handle, which 0 is not: then it is the context's or the thread's own.
pub(super) fn find<const OWN_STREAM: bool>(handle: usize) -> Result<Arc<Stream>, Error> {
    let context = context::current()?;
    match handle {
        0 if OWN_STREAM => own(&context),
        0 | LEGACY => Ok(Arc::clone(&context.stream)),
        PER_THREAD => own(&context),
        _ => driver()?.streams.get(handle),
    }
}

fn own(context: &Context) -> Result<Arc<Stream>, Error> {
    let driver = driver()?;
    OWN.with_borrow_mut(|streams| {
        if let Some((_, own)) = streams.iter().find(|(id, _)| *id == context.id) {
            return Ok(Arc::clone(&own.1));
        }
        let (handle, stream) = driver.streams.add(Stream::new(context.id, 0, 0));
        streams.push((context.id, OwnStream(handle, Arc::clone(&stream))));
        Ok(stream)
    })
}

pub(super) extern "C" fn create(out: Out<usize>, flags: c_uint) -> c_uint {
    create_with_priority(out, flags, 0)
}

pub(super) extern "C" fn create_with_priority(
    out: Out<usize>,
    flags: c_uint,
    priority: c_int,
) -> c_uint {
    answer(|| {
        let context = context::current()?;
        if flags > 1 || out.is_null() {
            return Err(INVALID_VALUE);
        }
        let stream = Stream::new(context.id, flags, priority.clamp(-5, 0));
        give(out, driver()?.streams.add(stream).0)
    })
}

pub(super) extern "C" fn destroy(stream: usize) -> c_uint {
    answer(|| driver()?.streams.remove(stream).map(|_| ()))
}

pub(super) extern "C" fn synchronize<const OWN_STREAM: bool>(stream: usize) -> c_uint {
    let start = Instant::now();
    let code = answer(|| find::<OWN_STREAM>(stream)?.finish());
    COUNTS.waited(STREAM, start.elapsed());
    code
}

pub(super) extern "C" fn query<const OWN_STREAM: bool>(stream: usize) -> c_uint {
    answer(|| {
        let stream = find::<OWN_STREAM>(stream)?;
        let mut timeline = stream.timeline();
        let mark = timeline.mark();
        let is_done = timeline.reached(mark).is_some_and(|time| time <= now());
        if is_done { Ok(()) } else { Err(NOT_READY) }
    })
}

pub(super) extern "C" fn wait_event<const OWN_STREAM: bool>(
    stream: usize,
    event: usize,
    _flags: c_uint,
) -> c_uint {
    answer(|| {
        let stream = find::<OWN_STREAM>(stream)?;
        let event = driver()?.events.get(event)?;
        if let Some((other, mark)) = event.place()
            && !Arc::ptr_eq(&other, &stream)
        {
            stream.hold(Condition::Mark(other, mark));
        }
        Ok(())
    })
}

pub(super) extern "C" fn wait_value32<const OWN_STREAM: bool>(
    stream: usize,
    address: u64,
    value: u32,
    flags: c_uint,
) -> c_uint {
    answer(|| hold_for_value::<OWN_STREAM>(stream, address, false, value.into(), flags))
}

pub(super) extern "C" fn wait_value64<const OWN_STREAM: bool>(
    stream: usize,
    address: u64,
    value: u64,
    flags: c_uint,
) -> c_uint {
    answer(|| hold_for_value::<OWN_STREAM>(stream, address, true, value, flags))
}

fn hold_for_value<const OWN_STREAM: bool>(
    stream: usize,
    address: u64,
    is_wide: bool,
    wanted: u64,
    flags: c_uint,
) -> Result<(), Error> {
    let stream = find::<OWN_STREAM>(stream)?;
    let size = if is_wide { 8 } else { 4 };
    let address = usize::try_from(address).map_err(|_| INVALID_VALUE)?;
    // Only the machine's memory has contents here.
    if address == 0 || address % size != 0 || driver()?.memory().is_device(address as u64) {
        return Err(INVALID_VALUE);
    }
    let comparison = Comparison::from_flags(flags);
    stream.hold(Condition::Value { address, is_wide, wanted, comparison });
    Ok(())
}

pub(super) extern "C" fn begin_capture<const OWN_STREAM: bool>(
    stream: usize,
    mode: c_uint,
) -> c_uint {
    answer(|| {
        if mode > 2 {
            return Err(INVALID_VALUE);
        }
        // The context's own stream cannot be captured, as with the real driver.
        if !OWN_STREAM && matches!(stream, 0 | LEGACY) {
            return Err(STREAM_CAPTURE_UNSUPPORTED);
        }
        let stream = find::<OWN_STREAM>(stream)?;
        let mut capture = stream.capture.lock().unwrap_or_else(PoisonError::into_inner);
        if capture.is_some() {
            return Err(ILLEGAL_STATE);
        }
        *capture = Some(Graph::default());
        stream.is_capturing.store(true, Ordering::Relaxed);
        Ok(())
    })
}

pub(super) extern "C" fn begin_capture_old<const OWN_STREAM: bool>(stream: usize) -> c_uint {
    begin_capture::<OWN_STREAM>(stream, 0)
}

pub(super) extern "C" fn end_capture<const OWN_STREAM: bool>(
    stream: usize,
    out: Out<usize>,
) -> c_uint {
    answer(|| {
        let stream = find::<OWN_STREAM>(stream)?;
        stream.is_capturing.store(false, Ordering::Relaxed);
        let graph = stream.capture.lock().unwrap_or_else(PoisonError::into_inner).take();
        let graph = graph.ok_or(super::error::STREAM_CAPTURE_INVALIDATED)?;
        give(out, driver()?.graphs.add(graph).0)
    })
}

pub(super) extern "C" fn is_capturing<const OWN_STREAM: bool>(
    stream: usize,
    out: Out<c_uint>,
) -> c_uint {
    answer(|| {
        let stream = find::<OWN_STREAM>(stream)?;
        give(out, stream.is_capturing.load(Ordering::Relaxed).into())
    })
}

pub(super) extern "C" fn flags<const OWN_STREAM: bool>(stream: usize, out: Out<c_uint>) -> c_uint {
    answer(|| give(out, find::<OWN_STREAM>(stream)?.flags))
}

pub(super) extern "C" fn priority<const OWN_STREAM: bool>(
    stream: usize,
    out: Out<c_int>,
) -> c_uint {
    answer(|| give(out, find::<OWN_STREAM>(stream)?.priority))
}

pub(super) extern "C" fn id<const OWN_STREAM: bool>(stream: usize, out: Out<u64>) -> c_uint {
    answer(|| give(out, find::<OWN_STREAM>(stream)?.id))
}

pub(super) extern "C" fn context_of<const OWN_STREAM: bool>(
    stream: usize,
    out: Out<usize>,
) -> c_uint {
    answer(|| {
        let stream = find::<OWN_STREAM>(stream)?;
        let contexts = driver()?.contexts.all(|context| context.id == stream.context);
        give(out, contexts.first().ok_or(INVALID_HANDLE)?.handle())
    })
}
