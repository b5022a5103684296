//! Copies and fills. Contents are not kept: what counts is that addresses are known, how many bytes
//! go where, and how long it takes.

mod described;

pub(super) use described::{block, block_async, block_peer, block_peer_async, plane, plane_async};

use std::ffi::{c_int, c_uint, c_void};
use std::time::Instant;

use super::context;
use super::error::{Error, INVALID_VALUE, answer};
use super::graph::Graph;
use super::shared::abi::In;
use super::shared::counts::{PEER, TO_DEVICE, TO_HOST, UNIFIED, WITHIN};
use super::state::{COUNTS, driver};
use super::stream;

/// Where a copy is from or to.
#[derive(Clone, Copy)]
enum End {
    Host(u64),
    Device(u64),
    /// An array, whose handle is not looked at, or an address of either kind.
    Any(u64),
}

/// Does a copy on a stream, of that many bytes.
fn copy<const OWN_STREAM: bool>(
    kind: usize,
    ends: [End; 2],
    bytes: u64,
    stream: usize,
) -> Result<(), Error> {
    COUNTS.copied(kind, bytes);
    let driver = driver()?;
    let stream = stream::find::<OWN_STREAM>(stream)?;
    if bytes > 0 {
        let memory = driver.memory();
        for end in ends {
            let is_known = match end {
                End::Host(address) => address != 0 && !memory.is_device(address),
                End::Device(address) => memory.holds(address, bytes),
                End::Any(address) => {
                    address != 0 && (!memory.is_device(address) || memory.holds(address, bytes))
                }
            };
            if !is_known {
                return Err(INVALID_VALUE);
            }
        }
    }
    if !stream.capture(Graph::add_other) {
        stream.work(driver.copy_time(bytes));
    }
    Ok(())
}

/// Does a copy and waits for it.
fn copy_now<const OWN_STREAM: bool>(kind: usize, ends: [End; 2], bytes: u64) -> c_uint {
    let start = Instant::now();
    let code = answer(|| {
        copy::<OWN_STREAM>(kind, ends, bytes, 0)?;
        stream::find::<OWN_STREAM>(0)?.finish()
    });
    COUNTS.waited_for_copy(kind, start.elapsed());
    code
}

fn copy_later<const OWN_STREAM: bool>(
    kind: usize,
    ends: [End; 2],
    bytes: u64,
    stream: usize,
) -> c_uint {
    answer(|| copy::<OWN_STREAM>(kind, ends, bytes, stream))
}

/// Functions `(to, from, bytes)` and `(to, from, bytes, stream)`, a row for each kind.
macro_rules! plain {
    ($($now:ident, $later:ident: $kind:expr, $to:ident, $from:ident;)*) => {$(
        pub(super) extern "C" fn $now<const OWN_STREAM: bool>(
            to: u64,
            from: u64,
            bytes: usize,
        ) -> c_uint {
            copy_now::<OWN_STREAM>($kind, [End::$to(to), End::$from(from)], bytes as u64)
        }

        pub(super) extern "C" fn $later<const OWN_STREAM: bool>(
            to: u64,
            from: u64,
            bytes: usize,
            stream: usize,
        ) -> c_uint {
            let ends = [End::$to(to), End::$from(from)];
            copy_later::<OWN_STREAM>($kind, ends, bytes as u64, stream)
        }
    )*};
}

plain! {
    to_device, to_device_async: TO_DEVICE, Device, Host;
    to_host, to_host_async: TO_HOST, Host, Device;
    within, within_async: WITHIN, Device, Device;
    unified, unified_async: UNIFIED, Any, Any;
}

pub(super) extern "C" fn peer<const OWN_STREAM: bool>(
    to: u64,
    to_context: usize,
    from: u64,
    from_context: usize,
    bytes: usize,
) -> c_uint {
    let _ = (to_context, from_context);
    copy_now::<OWN_STREAM>(PEER, [End::Device(to), End::Device(from)], bytes as u64)
}

pub(super) extern "C" fn peer_async<const OWN_STREAM: bool>(
    to: u64,
    to_context: usize,
    from: u64,
    from_context: usize,
    bytes: usize,
    stream: usize,
) -> c_uint {
    let _ = (to_context, from_context);
    let ends = [End::Device(to), End::Device(from)];
    copy_later::<OWN_STREAM>(PEER, ends, bytes as u64, stream)
}

/// `cuMemcpyAtoH(to, array, offset, bytes)` and its like: the array comes second.
pub(super) extern "C" fn array_to_host<const OWN_STREAM: bool>(
    to: u64,
    array: usize,
    _offset: usize,
    bytes: usize,
) -> c_uint {
    copy_now::<OWN_STREAM>(TO_HOST, [End::Host(to), End::Any(array as u64)], bytes as u64)
}

pub(super) extern "C" fn array_to_host_async<const OWN_STREAM: bool>(
    to: u64,
    array: usize,
    _offset: usize,
    bytes: usize,
    stream: usize,
) -> c_uint {
    let ends = [End::Host(to), End::Any(array as u64)];
    copy_later::<OWN_STREAM>(TO_HOST, ends, bytes as u64, stream)
}

pub(super) extern "C" fn array_to_device<const OWN_STREAM: bool>(
    to: u64,
    array: usize,
    _offset: usize,
    bytes: usize,
) -> c_uint {
    copy_now::<OWN_STREAM>(WITHIN, [End::Device(to), End::Any(array as u64)], bytes as u64)
}

/// `cuMemcpyHtoA(array, offset, from, bytes)` and its like: the array comes first.
pub(super) extern "C" fn host_to_array<const OWN_STREAM: bool>(
    array: usize,
    _offset: usize,
    from: u64,
    bytes: usize,
) -> c_uint {
    copy_now::<OWN_STREAM>(TO_DEVICE, [End::Any(array as u64), End::Host(from)], bytes as u64)
}

pub(super) extern "C" fn host_to_array_async<const OWN_STREAM: bool>(
    array: usize,
    _offset: usize,
    from: u64,
    bytes: usize,
    stream: usize,
) -> c_uint {
    let ends = [End::Any(array as u64), End::Host(from)];
    copy_later::<OWN_STREAM>(TO_DEVICE, ends, bytes as u64, stream)
}

pub(super) extern "C" fn device_to_array<const OWN_STREAM: bool>(
    array: usize,
    _offset: usize,
    from: u64,
    bytes: usize,
) -> c_uint {
    copy_now::<OWN_STREAM>(WITHIN, [End::Any(array as u64), End::Device(from)], bytes as u64)
}

pub(super) extern "C" fn array_to_array<const OWN_STREAM: bool>(
    to: usize,
    _to_offset: usize,
    from: usize,
    _from_offset: usize,
    bytes: usize,
) -> c_uint {
    let ends = [End::Any(to as u64), End::Any(from as u64)];
    copy_now::<OWN_STREAM>(WITHIN, ends, bytes as u64)
}

/// `cuMemcpyBatchAsync(to, from, bytes, count, attributes, indices, attribute count, failed, stream)`.
pub(super) extern "C" fn batch<const OWN_STREAM: bool>(
    to: In<u64>,
    from: In<u64>,
    bytes: In<usize>,
    count: usize,
    _attributes: In<c_void>,
    _indices: In<usize>,
    _attribute_count: usize,
    _failed: In<usize>,
    stream: usize,
) -> c_uint {
    batch_of::<OWN_STREAM>(to, from, bytes, count, stream)
}

/// `cuMemcpyBatchAsync_v2`: the same without `failed`.
pub(super) extern "C" fn batch_v2<const OWN_STREAM: bool>(
    to: In<u64>,
    from: In<u64>,
    bytes: In<usize>,
    count: usize,
    _attributes: In<c_void>,
    _indices: In<usize>,
    _attribute_count: usize,
    stream: usize,
) -> c_uint {
    batch_of::<OWN_STREAM>(to, from, bytes, count, stream)
}

fn batch_of<const OWN_STREAM: bool>(
    to: In<u64>,
    from: In<u64>,
    bytes: In<usize>,
    count: usize,
    stream: usize,
) -> c_uint {
    answer(|| {
        if count == 0 || stream == 0 {
            return Err(INVALID_VALUE);
        }
        for index in 0..count {
            let (Some(to), Some(from), Some(bytes)) =
                (to.at(index), from.at(index), bytes.at(index))
            else {
                return Err(INVALID_VALUE);
            };
            copy::<OWN_STREAM>(UNIFIED, [End::Any(to), End::Any(from)], bytes as u64, stream)?;
        }
        Ok(())
    })
}

/// `cuMemsetD8_v2(to, value, number)` and the wider ones: `WIDTH` bytes for each.
pub(super) extern "C" fn fill<const OWN_STREAM: bool, const WIDTH: u64>(
    to: u64,
    value: c_uint,
    number: usize,
) -> c_uint {
    fill_async::<OWN_STREAM, WIDTH>(to, value, number, 0)
}

pub(super) extern "C" fn fill_async<const OWN_STREAM: bool, const WIDTH: u64>(
    to: u64,
    _value: c_uint,
    number: usize,
    stream: usize,
) -> c_uint {
    answer(|| {
        let bytes = WIDTH * number as u64;
        if bytes > 0 && !driver()?.memory().holds(to, bytes) {
            return Err(INVALID_VALUE);
        }
        let stream = stream::find::<OWN_STREAM>(stream)?;
        stream.capture(Graph::add_other);
        Ok(())
    })
}

/// `cuMemPrefetchAsync(address, bytes, device, stream)`.
pub(super) extern "C" fn prefetch<const OWN_STREAM: bool>(
    address: u64,
    bytes: usize,
    _device: c_int,
    stream: usize,
) -> c_uint {
    answer(|| {
        context::current()?;
        stream::find::<OWN_STREAM>(stream)?;
        if driver()?.memory().holds(address, bytes as u64) { Ok(()) } else { Err(INVALID_VALUE) }
    })
}
