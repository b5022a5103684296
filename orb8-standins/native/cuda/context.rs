//! Contexts, and which one a thread uses.

use std::cell::RefCell;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::error::{Error, INVALID_CONTEXT, INVALID_VALUE, answer, give};
use super::shared::abi::{In, Out};
use super::shared::counts::CONTEXT;
use super::state::{COUNTS, driver};
use super::stream::Stream;

/// A program's state on one device.
pub(super) struct Context {
    pub(super) id: u64,
    pub(super) device: c_int,
    /// The default stream.
    pub(super) stream: Arc<Stream>,
    flags: c_uint,
    handle: OnceLock<usize>,
}

thread_local! {
    /// Handles; the last is the one that the thread uses, 0 for none.
    static STACK: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

impl Context {
    /// Makes one and returns its handle.
    pub(super) fn create(device: c_int, flags: c_uint) -> Result<usize, Error> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let driver = driver()?;
        driver.device(device)?;
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let (_, stream) = driver.streams.add(Stream::new(id, 0, 0));
        let context = Self { id, device, stream, flags, handle: OnceLock::new() };
        let (handle, context) = driver.contexts.add(context);
        let _ = context.handle.set(handle);
        Ok(handle)
    }

    pub(super) fn handle(&self) -> usize {
        self.handle.get().copied().unwrap_or(0)
    }
}

/// Returns the context that this thread uses.
pub(super) fn current() -> Result<Arc<Context>, Error> {
    let driver = driver()?;
    let handle = STACK.with_borrow(|stack| stack.last().copied()).unwrap_or(0);
    driver.contexts.get(handle).map_err(|_| INVALID_CONTEXT)
}

/// Ends a context, with its streams and memory.
pub(super) fn end(handle: usize) -> Result<(), Error> {
    let driver = driver()?;
    let context = driver.contexts.remove(handle).map_err(|_| INVALID_CONTEXT)?;
    driver.streams.retain(|stream| stream.context != context.id);
    driver.memory().forget(driver, context.id);
    Ok(())
}

/// Waits for all streams of a context.
fn finish(context: &Context) -> Result<(), Error> {
    let streams = driver()?.streams.all(|stream| stream.context == context.id);
    streams.iter().try_for_each(|stream| stream.finish())
}

pub(super) extern "C" fn create(out: Out<usize>, flags: c_uint, device: c_int) -> c_uint {
    answer(|| {
        let handle = Context::create(device, flags)?;
        STACK.with_borrow_mut(|stack| stack.push(handle));
        give(out, handle)
    })
}

/// `cuCtxCreate_v3`: with parameters for a part of the device, which are not looked at.
pub(super) extern "C" fn create_with_affinity(
    out: Out<usize>,
    _parameters: In<c_void>,
    _number: c_int,
    flags: c_uint,
    device: c_int,
) -> c_uint {
    create(out, flags, device)
}

/// `cuCtxCreate_v4`.
pub(super) extern "C" fn create_with_parameters(
    out: Out<usize>,
    _parameters: In<c_void>,
    flags: c_uint,
    device: c_int,
) -> c_uint {
    create(out, flags, device)
}

pub(super) extern "C" fn destroy(handle: usize) -> c_uint {
    answer(|| {
        end(handle)?;
        STACK.with_borrow_mut(|stack| {
            stack.pop_if(|top| *top == handle);
        });
        Ok(())
    })
}

pub(super) extern "C" fn set_current(handle: usize) -> c_uint {
    answer(|| {
        if handle != 0 {
            driver()?.contexts.get(handle).map_err(|_| INVALID_CONTEXT)?;
        }
        STACK.with_borrow_mut(|stack| {
            stack.pop();
            stack.push(handle);
        });
        Ok(())
    })
}

pub(super) extern "C" fn get_current(out: Out<usize>) -> c_uint {
    answer(|| {
        driver()?;
        give(out, STACK.with_borrow(|stack| stack.last().copied()).unwrap_or(0))
    })
}

pub(super) extern "C" fn push(handle: usize) -> c_uint {
    answer(|| {
        driver()?.contexts.get(handle).map_err(|_| INVALID_CONTEXT)?;
        STACK.with_borrow_mut(|stack| stack.push(handle));
        Ok(())
    })
}

pub(super) extern "C" fn pop(out: Out<usize>) -> c_uint {
    answer(|| {
        let handle = STACK.with_borrow_mut(Vec::pop).ok_or(INVALID_CONTEXT)?;
        if out.is_null() { Ok(()) } else { give(out, handle) }
    })
}

pub(super) extern "C" fn device(out: Out<c_int>) -> c_uint {
    answer(|| give(out, current()?.device))
}

/// `cuCtxGetDevice_v2`.
pub(super) extern "C" fn device_of(out: Out<c_int>, handle: usize) -> c_uint {
    answer(|| give(out, of(handle)?.device))
}

pub(super) extern "C" fn flags(out: Out<c_uint>) -> c_uint {
    answer(|| give(out, current()?.flags))
}

pub(super) extern "C" fn api_version(handle: usize, out: Out<c_uint>) -> c_uint {
    answer(|| {
        of(handle)?;
        give(out, 3_020)
    })
}

pub(super) extern "C" fn synchronize() -> c_uint {
    synchronize_of(0)
}

/// `cuCtxSynchronize_v2`.
pub(super) extern "C" fn synchronize_of(handle: usize) -> c_uint {
    let start = Instant::now();
    let code = answer(|| finish(&*of(handle)?));
    COUNTS.waited(CONTEXT, start.elapsed());
    code
}

pub(super) extern "C" fn enable_peer_access(handle: usize, flags: c_uint) -> c_uint {
    answer(|| {
        let peer = of(handle)?;
        if flags != 0 || peer.device == current()?.device { Err(INVALID_VALUE) } else { Ok(()) }
    })
}

/// Returns a context by its handle, and this thread's for 0.
fn of(handle: usize) -> Result<Arc<Context>, Error> {
    if handle == 0 {
        return current();
    }
    driver()?.contexts.get(handle).map_err(|_| INVALID_CONTEXT)
}
