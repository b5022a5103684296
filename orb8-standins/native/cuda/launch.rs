//! Launches of kernels.

use std::ffi::{c_uint, c_void};
use std::sync::atomic::Ordering::Relaxed;

use super::error::{Error, INVALID_VALUE, answer};
use super::graph::Graph;
use super::shared::abi::In;
use super::state::{COUNTS, driver};
use super::stream;

/// Threads that a block may have.
const BLOCK: u64 = 1_024;

/// Launches a kernel on a grid of blocks.
fn start<const OWN_STREAM: bool>(
    function: usize,
    grid: [c_uint; 3],
    block: [c_uint; 3],
    stream: usize,
) -> Result<(), Error> {
    COUNTS.launched();
    let driver = driver()?;
    driver.functions.get(function)?;
    let threads: u64 = block.iter().copied().map(u64::from).product();
    if grid.contains(&0) || threads == 0 || threads > BLOCK {
        return Err(INVALID_VALUE);
    }
    let stream = stream::find::<OWN_STREAM>(stream)?;
    if stream.capture(|graph| graph.add_kernel(function)) {
        COUNTS.captured.fetch_add(1, Relaxed);
    } else {
        stream.work(driver.kernel_time());
    }
    Ok(())
}

pub(super) extern "C" fn kernel<const OWN_STREAM: bool>(
    function: usize,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    _shared_memory: c_uint,
    stream: usize,
    _parameters: In<c_void>,
    _extra: In<c_void>,
) -> c_uint {
    let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
    answer(|| start::<OWN_STREAM>(function, grid, block, stream))
}

pub(super) extern "C" fn cooperative<const OWN_STREAM: bool>(
    function: usize,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    _shared_memory: c_uint,
    stream: usize,
    _parameters: In<c_void>,
) -> c_uint {
    let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
    answer(|| start::<OWN_STREAM>(function, grid, block, stream))
}

/// `CUlaunchConfig`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Config {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared_memory: c_uint,
    stream: usize,
    attributes: usize,
    attribute_count: c_uint,
}

pub(super) extern "C" fn configured<const OWN_STREAM: bool>(
    config: In<Config>,
    function: usize,
    _parameters: In<c_void>,
    _extra: In<c_void>,
) -> c_uint {
    answer(|| {
        let Some(config) = config.get() else {
            COUNTS.launched();
            return Err(INVALID_VALUE);
        };
        start::<OWN_STREAM>(function, config.grid, config.block, config.stream)
    })
}

/// `cuGraphLaunch(executable, stream)`.
pub(super) extern "C" fn graph<const OWN_STREAM: bool>(executable: usize, stream: usize) -> c_uint {
    COUNTS.launched_graph();
    answer(|| {
        let driver = driver()?;
        let executable = driver.executables.get(executable)?;
        let stream = stream::find::<OWN_STREAM>(stream)?;
        if !stream.capture(Graph::add_other) {
            stream.work(driver.kernel_time() * executable.kernels);
        }
        Ok(())
    })
}
