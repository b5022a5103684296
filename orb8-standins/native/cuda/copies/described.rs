//! Copies of planes and blocks, which a structure describes.

use std::ffi::c_uint;

use super::super::error::{Error, INVALID_VALUE, answer};
use super::super::graph::Graph;
use super::super::shared::abi::In;
use super::super::shared::counts::{PEER, TO_DEVICE, TO_HOST, UNIFIED, WITHIN};
use super::super::state::{COUNTS, driver};
use super::super::stream;

/// `CUmemorytype`: where one end of a described copy is.
const HOST: c_uint = 1;
const ON_DEVICE: c_uint = 2;
const ARRAY: c_uint = 3;

/// `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(in super::super) struct Plane {
    from: PlaneEnd,
    to: PlaneEnd,
    width: usize,
    height: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct PlaneEnd {
    x: usize,
    y: usize,
    kind: c_uint,
    host: u64,
    device: u64,
    array: usize,
    pitch: usize,
}

/// `CUDA_MEMCPY3D`, and the same with contexts (`CUDA_MEMCPY3D_PEER`): both have the same layout.
#[repr(C)]
#[derive(Clone, Copy)]
pub(in super::super) struct Block {
    from: BlockEnd,
    to: BlockEnd,
    width: usize,
    height: usize,
    depth: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct BlockEnd {
    x: usize,
    y: usize,
    z: usize,
    lod: usize,
    kind: c_uint,
    host: u64,
    device: u64,
    array: usize,
    context: usize,
    pitch: usize,
    height: usize,
}

/// Tells a described copy's ends by their kinds. Rows need not lie one after the other, so that only
/// where an end begins is looked at.
fn described(kinds: [c_uint; 2]) -> Result<usize, Error> {
    let is_host = |kind: c_uint| match kind {
        HOST => Ok(Some(true)),
        ON_DEVICE | ARRAY => Ok(Some(false)),
        4 => Ok(None),
        _ => Err(INVALID_VALUE),
    };
    Ok(match (is_host(kinds[0])?, is_host(kinds[1])?) {
        (Some(true), Some(false)) => TO_DEVICE,
        (Some(false), Some(true)) => TO_HOST,
        (Some(false), Some(false)) => WITHIN,
        _ => UNIFIED,
    })
}

fn copy_described<const OWN_STREAM: bool>(
    kind: Result<usize, Error>,
    bytes: u64,
    stream: usize,
) -> Result<(), Error> {
    let kind = kind?;
    COUNTS.copied(kind, bytes);
    let stream = stream::find::<OWN_STREAM>(stream)?;
    if !stream.capture(Graph::add_other) {
        stream.work(driver()?.copy_time(bytes));
    }
    Ok(())
}

pub(in super::super) extern "C" fn plane<const OWN_STREAM: bool>(plane: In<Plane>) -> c_uint {
    let code = plane_async::<OWN_STREAM>(plane, 0);
    if code == 0 { stream::finish::<OWN_STREAM>() } else { code }
}

pub(in super::super) extern "C" fn plane_async<const OWN_STREAM: bool>(
    plane: In<Plane>,
    stream: usize,
) -> c_uint {
    answer(|| {
        let plane = plane.get().ok_or(INVALID_VALUE)?;
        let kind = described([plane.from.kind, plane.to.kind]);
        copy_described::<OWN_STREAM>(kind, (plane.width * plane.height) as u64, stream)
    })
}

pub(in super::super) extern "C" fn block<const OWN_STREAM: bool>(block: In<Block>) -> c_uint {
    let code = block_async::<OWN_STREAM>(block, 0);
    if code == 0 { stream::finish::<OWN_STREAM>() } else { code }
}

pub(in super::super) extern "C" fn block_async<const OWN_STREAM: bool>(
    block: In<Block>,
    stream: usize,
) -> c_uint {
    answer(|| {
        let block = block.get().ok_or(INVALID_VALUE)?;
        let kind = described([block.from.kind, block.to.kind]);
        let bytes = block.width * block.height * block.depth;
        copy_described::<OWN_STREAM>(kind, bytes as u64, stream)
    })
}

pub(in super::super) extern "C" fn block_peer<const OWN_STREAM: bool>(block: In<Block>) -> c_uint {
    let code = block_peer_async::<OWN_STREAM>(block, 0);
    if code == 0 { stream::finish::<OWN_STREAM>() } else { code }
}

pub(in super::super) extern "C" fn block_peer_async<const OWN_STREAM: bool>(
    block: In<Block>,
    stream: usize,
) -> c_uint {
    answer(|| {
        let block = block.get().ok_or(INVALID_VALUE)?;
        let bytes = block.width * block.height * block.depth;
        copy_described::<OWN_STREAM>(Ok(PEER), bytes as u64, stream)
    })
}
