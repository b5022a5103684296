//! Streams, events and graphs.

use std::ffi::{c_int, c_uint, c_ulonglong};

use super::driver::driver;
use super::error::{answer, give};
use super::shared::abi::Out;
use super::shared::library::MISSING;

pub(super) extern "C" fn create(out: Out<usize>) -> c_int {
    create_with_priority(out, 0, 0)
}

pub(super) extern "C" fn create_with_flags(out: Out<usize>, flags: c_uint) -> c_int {
    create_with_priority(out, flags, 0)
}

pub(super) extern "C" fn create_with_priority(
    out: Out<usize>,
    flags: c_uint,
    priority: c_int,
) -> c_int {
    answer(|| {
        let mut stream = 0;
        driver::<false>()?.create_stream(&mut stream, flags, priority)?;
        give(out, stream)
    })
}

pub(super) extern "C" fn destroy(stream: usize) -> c_int {
    answer(|| driver::<false>()?.destroy_stream(stream))
}

pub(super) extern "C" fn synchronize<const OWN_STREAM: bool>(stream: usize) -> c_int {
    answer(|| driver::<OWN_STREAM>()?.synchronize_stream(stream))
}

pub(super) extern "C" fn query<const OWN_STREAM: bool>(stream: usize) -> c_int {
    answer(|| driver::<OWN_STREAM>()?.query_stream(stream))
}

pub(super) extern "C" fn wait_event<const OWN_STREAM: bool>(
    stream: usize,
    event: usize,
    flags: c_uint,
) -> c_int {
    answer(|| driver::<OWN_STREAM>()?.wait_event(stream, event, flags))
}

pub(super) extern "C" fn synchronize_device() -> c_int {
    answer(|| driver::<false>()?.synchronize())
}

pub(super) extern "C" fn create_event(out: Out<usize>) -> c_int {
    create_event_with_flags(out, 0)
}

pub(super) extern "C" fn create_event_with_flags(out: Out<usize>, flags: c_uint) -> c_int {
    answer(|| {
        let mut event = 0;
        driver::<false>()?.create_event(&mut event, flags)?;
        give(out, event)
    })
}

pub(super) extern "C" fn destroy_event(event: usize) -> c_int {
    answer(|| driver::<false>()?.destroy_event(event))
}

pub(super) extern "C" fn record<const OWN_STREAM: bool>(event: usize, stream: usize) -> c_int {
    answer(|| driver::<OWN_STREAM>()?.record(event, stream))
}

pub(super) extern "C" fn synchronize_event(event: usize) -> c_int {
    answer(|| driver::<false>()?.synchronize_event(event))
}

pub(super) extern "C" fn query_event(event: usize) -> c_int {
    answer(|| driver::<false>()?.query_event(event))
}

pub(super) extern "C" fn elapsed(out: Out<f32>, start: usize, end: usize) -> c_int {
    answer(|| {
        let mut time = 0.0;
        driver::<false>()?.elapsed(&mut time, start, end)?;
        give(out, time)
    })
}

pub(super) extern "C" fn begin_capture<const OWN_STREAM: bool>(
    stream: usize,
    mode: c_uint,
) -> c_int {
    answer(|| driver::<OWN_STREAM>()?.begin_capture(stream, mode))
}

pub(super) extern "C" fn end_capture<const OWN_STREAM: bool>(
    stream: usize,
    out: Out<usize>,
) -> c_int {
    answer(|| {
        let mut graph = 0;
        driver::<OWN_STREAM>()?.end_capture(stream, &mut graph)?;
        give(out, graph)
    })
}

/// `cudaGraphInstantiate` since CUDA 12.
pub(super) extern "C" fn instantiate(out: Out<usize>, graph: usize, flags: c_ulonglong) -> c_int {
    answer(|| {
        let mut executable = 0;
        let driver = driver::<false>()?;
        match driver.instantiate(&mut executable, graph, flags) {
            Err(MISSING) => driver.instantiate_old(&mut executable, graph, 0, 0, 0)?,
            made => made?,
        }
        give(out, executable)
    })
}

pub(super) extern "C" fn destroy_graph(graph: usize) -> c_int {
    answer(|| driver::<false>()?.destroy_graph(graph))
}

pub(super) extern "C" fn destroy_executable(executable: usize) -> c_int {
    answer(|| driver::<false>()?.destroy_executable(executable))
}

pub(super) extern "C" fn launch_graph<const OWN_STREAM: bool>(
    executable: usize,
    stream: usize,
) -> c_int {
    answer(|| driver::<OWN_STREAM>()?.launch_graph(executable, stream))
}
