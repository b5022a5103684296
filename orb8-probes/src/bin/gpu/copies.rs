//! How much a call copies, and from where to where.

use orb8_common::gpu::{
    COPY_DEVICE_TO_DEVICE, COPY_DEVICE_TO_HOST, COPY_HOST_TO_DEVICE, COPY_PEER, COPY_UNIFIED,
    Counter,
};
use orb8_probes::kernel::{read_user, try_read_user};

use crate::process::bump;
use crate::registers::Registers;

/// What a call copies.
pub(crate) struct Copy {
    pub(crate) kind: u32,
    pub(crate) bytes: u64,
    pub(crate) count: u64,
}

/// `CUmemorytype`: host. Devices and arrays, which are theirs, are the next two.
const MEMORY_HOST: u32 = 1;
const MEMORY_DEVICE: u32 = 2;
const MEMORY_ARRAY: u32 = 3;

/// Offsets in `CUDA_MEMCPY2D`, with 8-byte addresses and sizes.
mod rectangle {
    pub(super) const SOURCE_TYPE: u64 = 16;
    pub(super) const DESTINATION_TYPE: u64 = 72;
    pub(super) const WIDTH: u64 = 112;
}

/// Offsets in `CUDA_MEMCPY3D`; `CUDA_MEMCPY3D_PEER` has the sizes at the same place.
mod cuboid {
    pub(super) const SOURCE_TYPE: u64 = 32;
    pub(super) const DESTINATION_TYPE: u64 = 120;
    pub(super) const WIDTH: u64 = 176;
}

/// Sizes of a batch that are read at one time, and how often.
const CHUNK: usize = 8;
const CHUNKS: u64 = 64;

#[inline(always)]
pub(crate) fn of_rectangle(registers: Registers) -> Copy {
    let parameters = registers.argument::<0>();
    let kind = kind(
        read_user(parameters + rectangle::SOURCE_TYPE),
        read_user(parameters + rectangle::DESTINATION_TYPE),
    );
    let [width, height]: [u64; 2] = read_user(parameters + rectangle::WIDTH);
    Copy { kind, bytes: width.wrapping_mul(height), count: 1 }
}

#[inline(always)]
pub(crate) fn of_box(registers: Registers) -> Copy {
    let parameters = registers.argument::<0>();
    let kind = kind(
        read_user(parameters + cuboid::SOURCE_TYPE),
        read_user(parameters + cuboid::DESTINATION_TYPE),
    );
    Copy { kind, bytes: volume(parameters), count: 1 }
}

#[inline(always)]
pub(crate) fn of_box_to_peer(registers: Registers) -> Copy {
    Copy { kind: COPY_PEER, bytes: volume(registers.argument::<0>()), count: 1 }
}

#[inline(always)]
fn volume(parameters: u64) -> u64 {
    let [width, height, depth]: [u64; 3] = read_user(parameters + cuboid::WIDTH);
    width.wrapping_mul(height).wrapping_mul(depth)
}

#[inline(always)]
fn kind(source: u32, destination: u32) -> u32 {
    let on_device = |kind| kind == MEMORY_DEVICE || kind == MEMORY_ARRAY;
    if source == MEMORY_HOST && on_device(destination) {
        COPY_HOST_TO_DEVICE
    } else if on_device(source) && destination == MEMORY_HOST {
        COPY_DEVICE_TO_HOST
    } else if on_device(source) && on_device(destination) {
        COPY_DEVICE_TO_DEVICE
    } else {
        COPY_UNIFIED
    }
}

/// Adds up the sizes of a batch. Of a very long one it adds up the first, and counts that it did.
#[inline(always)]
pub(crate) fn of_batch(registers: Registers) -> Copy {
    let (sizes, count) = (registers.argument::<2>(), registers.argument::<3>());
    let mut bytes = 0;
    let mut chunk = 0;
    while chunk < CHUNKS {
        let first = chunk * CHUNK as u64;
        if first >= count {
            break;
        }
        bytes += sum(sizes + first * 8, count - first);
        chunk += 1;
    }
    if count > CHUNKS * CHUNK as u64 {
        bump(Counter::Partial);
    }
    Copy { kind: COPY_UNIFIED, bytes, count }
}

/// Adds up the first sizes from an address, at most [`CHUNK`].
#[inline(always)]
fn sum(sizes: u64, count: u64) -> u64 {
    let whole: Option<[u64; CHUNK]> = try_read_user(sizes);
    let mut bytes = 0;
    for index in 0..CHUNK {
        if (index as u64) < count {
            // At the end of a page, what is behind the array may not be there.
            bytes += match &whole {
                Some(sizes) => sizes[index],
                None => read_user(sizes + 8 * index as u64),
            };
        }
    }
    bytes
}
