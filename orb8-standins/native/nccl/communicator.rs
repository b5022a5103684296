//! Communicators.

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::collectives;
use super::driver::{self, Mapped};
use super::error::{
    Error, INVALID_ARGUMENT, INVALID_USAGE, REMOTE, SYSTEM, UNHANDLED_CUDA, answer, give,
};
use super::meeting::{Meeting, RANKS, id_within};
use super::shared::abi::{In, Out};

/// What a communicator takes of its device, bytes.
const BUFFERS: usize = 4 << 20;
/// `NCCL_SPLIT_NOCOLOR`: a rank that is in none of the parts.
const NO_COLOR: c_int = -1;

/// `ncclUniqueId`, which is passed by value: on the stack of x86-64.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct UniqueId([u8; 128]);

/// A rank's part of a communicator. Its address is its handle.
pub(super) struct Communicator {
    pub(super) meeting: Meeting,
    id: UniqueId,
    /// How many times this rank split it.
    splits: AtomicU32,
    ranks: c_int,
    rank: c_int,
    device: c_int,
    buffers: Mapped,
}

impl Communicator {
    /// Takes what a rank needs of its device, once all ranks have met.
    fn new(meeting: Meeting, id: UniqueId, ranks: c_int, rank: c_int) -> Result<Self, Error> {
        driver::kernel()?;
        let (device, buffers) = (driver::device()?, driver::allocate(BUFFERS)?);
        Ok(Self { meeting, id, splits: AtomicU32::new(0), ranks, rank, device, buffers })
    }

    /// Whether it has this rank.
    pub(super) fn has(&self, rank: c_int) -> bool {
        (0..self.ranks).contains(&rank)
    }
}

type Communicators = HashMap<usize, Arc<Communicator>>;

static COMMUNICATORS: Mutex<Option<Communicators>> = Mutex::new(None);

fn communicators() -> MutexGuard<'static, Option<Communicators>> {
    COMMUNICATORS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a communicator by its handle.
pub(super) fn find(handle: usize) -> Result<Arc<Communicator>, Error> {
    communicators()
        .as_ref()
        .and_then(|communicators| communicators.get(&handle).cloned())
        .ok_or(INVALID_ARGUMENT)
}

fn remove(handle: usize) -> Result<Arc<Communicator>, Error> {
    communicators()
        .as_mut()
        .and_then(|communicators| communicators.remove(&handle))
        .ok_or(INVALID_ARGUMENT)
}

fn new_id() -> Result<UniqueId, Error> {
    let mut id = [0; 128];
    // The real one has an address and a random number, and zeros behind.
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut id[..28]))
        .map_err(|_| SYSTEM)?;
    Ok(UniqueId(id))
}

fn keep(communicator: Communicator) -> usize {
    let communicator = Arc::new(communicator);
    let handle = Arc::as_ptr(&communicator) as usize;
    communicators().get_or_insert_default().insert(handle, communicator);
    handle
}

pub(super) extern "C" fn unique_id(out: Out<UniqueId>) -> c_int {
    answer(|| give(out, new_id()?))
}

pub(super) extern "C" fn init(out: Out<usize>, ranks: c_int, id: UniqueId, rank: c_int) -> c_int {
    answer(|| {
        let in_range = (1..=RANKS as c_int).contains(&ranks) && (0..ranks).contains(&rank);
        if out.is_null() || !in_range {
            return Err(INVALID_ARGUMENT);
        }
        if !driver::has_context() {
            return Err(UNHANDLED_CUDA);
        }
        let meeting = Meeting::join(&id.0, ranks as usize, rank as usize)?;
        give(out, keep(Communicator::new(meeting, id, ranks, rank)?))
    })
}

/// `ncclCommSplit`: ranks of one colour become a communicator, in the order of their keys and then of
/// their numbers in the whole. Outside of a group: it waits for the others.
pub(super) extern "C" fn split(
    whole: usize,
    color: c_int,
    key: c_int,
    out: Out<usize>,
    _config: In<c_void>,
) -> c_int {
    answer(|| {
        let whole = find(whole)?;
        if out.is_null() || color < NO_COLOR {
            return Err(INVALID_ARGUMENT);
        }
        if collectives::is_in_group() {
            return Err(INVALID_USAGE);
        }
        let number = whole.splits.fetch_add(1, Relaxed);
        let id = id_within(&whole.id.0, number, NO_COLOR);
        let (ranks, rank) = (whole.ranks as usize, whole.rank as usize);
        let said = Meeting::join_saying(pack(color, key), &id, ranks, rank)?.said();
        if color == NO_COLOR {
            return give(out, 0);
        }
        let places = said.map(unpack).zip(0..).filter(|((other, _), _)| *other == color);
        let mut places = Vec::from_iter(places.map(|((_, key), rank)| (key, rank)));
        places.sort_unstable();
        let rank = places.iter().position(|place| *place == (key, whole.rank)).ok_or(SYSTEM)?;
        let id = id_within(&whole.id.0, number, color);
        let meeting = Meeting::join(&id, places.len(), rank)?;
        let (ranks, rank) = (places.len() as c_int, rank as c_int);
        let join = || Communicator::new(meeting, UniqueId(id), ranks, rank);
        give(out, keep(driver::on_device(whole.device, join)?))
    })
}

const fn pack(color: c_int, key: c_int) -> u64 {
    (color.cast_unsigned() as u64) << 32 | key.cast_unsigned() as u64
}

const fn unpack(said: u64) -> (c_int, c_int) {
    (((said >> 32) as u32).cast_signed(), (said as u32).cast_signed())
}

/// `ncclCommInitAll`: this thread becomes all ranks, each on a device of its own.
pub(super) extern "C" fn init_all(out: Out<usize>, ranks: c_int, devices: In<c_int>) -> c_int {
    answer(|| {
        if out.is_null() || !(1..=RANKS as c_int).contains(&ranks) {
            return Err(INVALID_ARGUMENT);
        }
        let device = |rank: c_int| devices.at(rank as usize).unwrap_or(rank);
        let twice = |rank: c_int| (0..rank).any(|other| device(other) == device(rank));
        if (0..ranks).any(twice) {
            return Err(INVALID_ARGUMENT);
        }
        let id = new_id()?;
        let meetings = Meeting::alone(&id.0, ranks as usize)?;
        for (rank, meeting) in (0..ranks).zip(meetings) {
            let join = || Ok(keep(Communicator::new(meeting, id, ranks, rank)?));
            let handle = driver::on_device(device(rank), join)?;
            out.put_at(rank as usize, handle);
        }
        Ok(())
    })
}

/// `ncclCommInitRankConfig`: the configuration is not looked at.
pub(super) extern "C" fn init_with_config(
    out: Out<usize>,
    ranks: c_int,
    id: UniqueId,
    rank: c_int,
    _config: In<c_void>,
) -> c_int {
    init(out, ranks, id, rank)
}

pub(super) extern "C" fn destroy(handle: usize) -> c_int {
    answer(|| driver::free(&remove(handle)?.buffers))
}

/// `ncclCommFinalize`: what was asked for goes on by itself.
pub(super) extern "C" fn finalize(handle: usize) -> c_int {
    answer(|| find(handle).map(|_| ()))
}

pub(super) extern "C" fn abort(handle: usize) -> c_int {
    answer(|| {
        let communicator = remove(handle)?;
        communicator.meeting.give_up();
        driver::free(&communicator.buffers)
    })
}

pub(super) extern "C" fn async_error(handle: usize, out: Out<c_int>) -> c_int {
    answer(|| {
        let is_given_up = find(handle)?.meeting.is_given_up();
        give(out, if is_given_up { REMOTE.0 } else { 0 })
    })
}

pub(super) extern "C" fn count(handle: usize, out: Out<c_int>) -> c_int {
    answer(|| give(out, find(handle)?.ranks))
}

pub(super) extern "C" fn rank(handle: usize, out: Out<c_int>) -> c_int {
    answer(|| give(out, find(handle)?.rank))
}

pub(super) extern "C" fn device(handle: usize, out: Out<c_int>) -> c_int {
    answer(|| give(out, find(handle)?.device))
}

pub(super) extern "C" fn last_error(_handle: usize) -> *const c_char {
    c"".as_ptr()
}
