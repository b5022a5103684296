//! Memory: every address that was given and not taken back.

mod host;
mod info;

pub(super) use host::{
    alloc_host, free_host_memory, host_alloc, host_device_pointer, host_flags, register_host,
    unregister_host,
};
pub(super) use info::{address_range, info, pointer_attribute};

use host::{free_host, take_host};

use std::alloc::Layout;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{c_int, c_uint, c_void};

use super::context;
use super::error::{Error, INVALID_VALUE, NOT_SUPPORTED, OUT_OF_MEMORY, answer, give};
use super::shared::abi::{In, Out};
use super::shared::counts::{DEVICE, MANAGED, PINNED, POOL};
use super::state::{COUNTS, Driver, driver};
use super::stream;

/// Where devices' addresses begin: where no program has anything.
const BASE: u64 = 0x10_0000_0000;

/// What addresses are a multiple of.
const ALIGNMENT: u64 = 512;

/// What reserved addresses and physical memory are a multiple of.
pub(super) const GRANULARITY: u64 = 2 << 20;

/// Rows of pitched memory are a multiple of this.
const PITCH: u64 = 512;

/// What was given, by its first address.
#[derive(Default)]
pub(super) struct Memory {
    allocations: BTreeMap<u64, Allocation>,
    /// Addresses that were taken back, by their length: they are given again first, as drivers do.
    spare: HashMap<u64, Vec<u64>>,
    /// Above all addresses that were ever given, less [`BASE`].
    top: u64,
}

/// One piece of memory.
pub(super) struct Allocation {
    pub(super) bytes: u64,
    kind: Kind,
    context: u64,
}

/// What it is.
pub(super) enum Kind {
    /// Of a device, of this kind.
    Device { device: c_int, kind: usize },
    /// The machine's, that is also a device's.
    Managed { device: c_int, layout: Layout },
    /// The machine's.
    Pinned { layout: Layout, flags: c_uint },
    /// The program's own, which was registered.
    Registered,
    /// Addresses without memory, of the reservation that begins there.
    Reserved { reservation: u64 },
    /// Physical memory that is seen at addresses of a reservation.
    Mapped { handle: usize, reservation: u64 },
}

impl Memory {
    /// Returns addresses that nothing else has.
    pub(super) fn addresses(&mut self, bytes: u64, alignment: u64) -> Option<u64> {
        let length = bytes.checked_next_multiple_of(alignment)?;
        let spare = self.spare.get_mut(&length).and_then(|spare| {
            let index = spare.iter().rposition(|address| address % alignment == 0)?;
            Some(spare.swap_remove(index))
        });
        if spare.is_some() {
            return spare;
        }
        let start = self.top.checked_next_multiple_of(alignment)?;
        self.top = start.checked_add(length)?;
        BASE.checked_add(start)
    }

    pub(super) fn spare(&mut self, address: u64, bytes: u64, alignment: u64) {
        self.spare.entry(bytes.next_multiple_of(alignment)).or_default().push(address);
    }

    pub(super) fn insert(&mut self, address: u64, bytes: u64, kind: Kind, context: u64) {
        self.allocations.insert(address, Allocation { bytes, kind, context });
    }

    /// Removes what begins at an address, if it is wanted.
    pub(super) fn remove(
        &mut self,
        address: u64,
        wanted: impl Fn(&Kind) -> bool,
    ) -> Option<Allocation> {
        let found = self.allocations.get(&address)?;
        wanted(&found.kind).then(|| self.allocations.remove(&address)).flatten()
    }

    /// Returns what an address is in, with where that begins.
    pub(super) fn find(&self, address: u64) -> Option<(u64, &Allocation)> {
        let (start, found) = self.allocations.range(..=address).next_back()?;
        (address - start < found.bytes.max(1)).then_some((*start, found))
    }

    /// Whether an address is one of a device's that can be read and written, to the end.
    pub(super) fn holds(&self, address: u64, bytes: u64) -> bool {
        let Some((start, found)) = self.find(address) else { return false };
        let is_memory = !matches!(found.kind, Kind::Reserved { .. });
        is_memory && address - start + bytes <= found.bytes
    }

    /// Whether it is an address that only devices know.
    pub(super) fn is_device(&self, address: u64) -> bool {
        (BASE..BASE + self.top).contains(&address)
    }

    /// Gives back what was a context's.
    pub(super) fn forget(&mut self, driver: &Driver, context: u64) {
        let is_its = |_: &u64, allocation: &mut Allocation| allocation.context == context;
        let gone: Vec<_> = self.allocations.extract_if(.., is_its).collect();
        for (address, allocation) in gone {
            self.give_back(driver, address, &allocation);
        }
    }

    /// Gives back what an allocation had, which is no longer in the table.
    fn give_back(&mut self, driver: &Driver, address: u64, allocation: &Allocation) {
        match allocation.kind {
            Kind::Device { device, .. } => {
                give_to_device(driver, device, allocation.bytes);
                self.spare(address, allocation.bytes, ALIGNMENT);
            }
            Kind::Managed { device, layout } => {
                give_to_device(driver, device, allocation.bytes);
                free_host(address, layout);
            }
            Kind::Pinned { layout, .. } => free_host(address, layout),
            Kind::Reserved { .. } => self.spare(address, allocation.bytes, GRANULARITY),
            Kind::Registered | Kind::Mapped { .. } => {}
        }
    }
}

impl Allocation {
    /// Returns the handle of the physical memory that is mapped here, and the reservation.
    pub(super) fn mapped(&self) -> Option<(usize, u64)> {
        let Kind::Mapped { handle, reservation } = self.kind else { return None };
        Some((handle, reservation))
    }

    /// Returns the reservation that the addresses are of, of those without memory.
    pub(super) fn reserved(&self) -> Option<u64> {
        let Kind::Reserved { reservation } = self.kind else { return None };
        Some(reservation)
    }
}

fn give_to_device(driver: &Driver, device: c_int, bytes: u64) {
    if let Ok(device) = driver.device(device) {
        device.give_back(bytes);
    }
}

/// Makes an allocation and counts it, or its failure.
fn allocate(
    out: Out<u64>,
    bytes: u64,
    kind: usize,
    make: impl FnOnce(&Driver) -> Result<u64, Error>,
) -> c_uint {
    let code = answer(|| {
        if out.is_null() || bytes == 0 {
            return Err(INVALID_VALUE);
        }
        give(out, make(driver()?)?)
    });
    if code == 0 {
        COUNTS.allocated(kind, bytes);
    } else {
        COUNTS.failed_allocation();
    }
    code
}

fn take_device(driver: &Driver, bytes: u64, kind: usize) -> Result<u64, Error> {
    let context = context::current()?;
    let device = driver.device(context.device)?;
    device.take(bytes)?;
    let mut memory = driver.memory();
    let Some(address) = memory.addresses(bytes, ALIGNMENT) else {
        device.give_back(bytes);
        return Err(OUT_OF_MEMORY);
    };
    let kind = Kind::Device { device: context.device, kind };
    memory.insert(address, bytes, kind, context.id);
    Ok(address)
}

pub(super) extern "C" fn alloc(out: Out<u64>, bytes: usize) -> c_uint {
    allocate(out, bytes as u64, DEVICE, |driver| take_device(driver, bytes as u64, DEVICE))
}

pub(super) extern "C" fn alloc_async<const OWN_STREAM: bool>(
    out: Out<u64>,
    bytes: usize,
    stream: usize,
) -> c_uint {
    allocate(out, bytes as u64, POOL, |driver| {
        stream::find::<OWN_STREAM>(stream)?;
        take_device(driver, bytes as u64, POOL)
    })
}

pub(super) extern "C" fn alloc_from_pool<const OWN_STREAM: bool>(
    out: Out<u64>,
    bytes: usize,
    pool: usize,
    stream: usize,
) -> c_uint {
    allocate(out, bytes as u64, POOL, |driver| {
        stream::find::<OWN_STREAM>(stream)?;
        if pool == 0 {
            return Err(INVALID_VALUE);
        }
        take_device(driver, bytes as u64, POOL)
    })
}

pub(super) extern "C" fn alloc_managed(out: Out<u64>, bytes: usize, flags: c_uint) -> c_uint {
    allocate(out, bytes as u64, MANAGED, |driver| {
        let context = context::current()?;
        if !matches!(flags, 1 | 2) {
            return Err(INVALID_VALUE);
        }
        let bytes = bytes as u64;
        driver.device(context.device)?.take(bytes)?;
        let taken = take_host(bytes).inspect_err(|_| give_to_device(driver, context.device, bytes));
        let (address, layout) = taken?;
        let kind = Kind::Managed { device: context.device, layout };
        driver.memory().insert(address, bytes, kind, context.id);
        Ok(address)
    })
}

pub(super) extern "C" fn alloc_pitch(
    out: Out<u64>,
    pitch_out: Out<usize>,
    width: usize,
    height: usize,
    element: c_uint,
) -> c_uint {
    let pitch = (width as u64).checked_next_multiple_of(PITCH).unwrap_or(0);
    let bytes = pitch.checked_mul(height as u64).unwrap_or(0);
    allocate(out, bytes, DEVICE, |driver| {
        if !matches!(element, 4 | 8 | 16) {
            return Err(INVALID_VALUE);
        }
        give(pitch_out, usize::try_from(pitch).map_err(|_| INVALID_VALUE)?)?;
        take_device(driver, bytes, DEVICE)
    })
}

/// Takes back what begins at an address and counts it, or the refusal.
fn take_back(address: u64, error: Error, wanted: impl Fn(&Kind) -> bool) -> Result<(), Error> {
    let driver = driver()?;
    context::current()?;
    let mut memory = driver.memory();
    let Some(allocation) = memory.remove(address, wanted) else {
        COUNTS.refused_free();
        return Err(error);
    };
    let kind = match allocation.kind {
        Kind::Device { kind, .. } => kind,
        Kind::Managed { .. } => MANAGED,
        _ => PINNED,
    };
    COUNTS.freed(kind, allocation.bytes);
    memory.give_back(driver, address, &allocation);
    Ok(())
}

fn is_device_memory(kind: &Kind) -> bool {
    matches!(kind, Kind::Device { .. } | Kind::Managed { .. })
}

pub(super) extern "C" fn free(address: u64) -> c_uint {
    answer(|| take_back(address, INVALID_VALUE, is_device_memory))
}

pub(super) extern "C" fn free_async<const OWN_STREAM: bool>(address: u64, stream: usize) -> c_uint {
    answer(|| {
        stream::find::<OWN_STREAM>(stream)?;
        take_back(address, INVALID_VALUE, |kind| matches!(kind, Kind::Device { .. }))
    })
}

/// What the first version of the interface had with addresses of 32 bits: no memory is there.
pub(super) extern "C" fn obsolete() -> c_uint {
    answer(|| driver().and(Err(NOT_SUPPORTED)))
}

/// `cuMemPoolCreate`: all memory of a device is one pool.
pub(super) extern "C" fn create_pool(out: Out<usize>, properties: In<c_void>) -> c_uint {
    answer(|| {
        if properties.address() == 0 {
            return Err(INVALID_VALUE);
        }
        driver()?;
        give(out, 0x1000)
    })
}

/// What changes nothing here: settings of pools, hints, access rights.
pub(super) extern "C" fn accepted() -> c_uint {
    answer(|| driver().map(|_| ()))
}
