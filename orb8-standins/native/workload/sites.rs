//! Places that take memory, some frames deep, each of which is told by its name.

use std::hint::black_box;

use super::gpu::{Failure, Gpu, Memory};
use super::shared::counts::DEVICE;

/// Where memory is taken and never given back.
#[inline(never)]
pub(crate) fn remember_batch(gpu: &Gpu<'_>, bytes: u64) -> Result<Option<Memory>, Failure> {
    let memory = append_to_history(gpu, black_box(bytes))?;
    Ok(black_box(memory))
}

#[inline(never)]
fn append_to_history(gpu: &Gpu<'_>, bytes: u64) -> Result<Option<Memory>, Failure> {
    let memory = clone_tensor(gpu, black_box(bytes))?;
    Ok(black_box(memory))
}

#[inline(never)]
fn clone_tensor(gpu: &Gpu<'_>, bytes: u64) -> Result<Option<Memory>, Failure> {
    let memory = gpu.alloc(DEVICE, black_box(bytes))?;
    Ok(black_box(memory))
}

/// Where memory is taken for a moment.
#[inline(never)]
pub(crate) fn use_scratch(gpu: &Gpu<'_>, bytes: u64) -> Result<(), Failure> {
    if let Some(memory) = black_box(gpu.alloc(DEVICE, black_box(bytes))?) {
        gpu.free(memory)?;
    }
    Ok(())
}

/// Where memory is taken once and kept for as long as the program works.
#[inline(never)]
pub(crate) fn load_weights(gpu: &Gpu<'_>, bytes: u64) -> Result<Option<Memory>, Failure> {
    let memory = gpu.alloc(DEVICE, black_box(bytes))?;
    Ok(black_box(memory))
}
