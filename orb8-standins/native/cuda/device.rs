//! Devices: what they are and how much of their memory is taken.

use std::ffi::{c_char, c_int, c_uint};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::context::{self, Context};
use super::error::{Error, INVALID_DEVICE, INVALID_VALUE, OUT_OF_MEMORY, answer, give};
use super::shared::abi::{In, Out};
use super::state::driver;

/// What all devices are called.
const NAME: &str = "NVIDIA H100 80GB HBM3";

/// `CUdevice_attribute` numbers with their values; every other one that there is has 0.
const ATTRIBUTES: [(c_int, c_int); 26] = [
    (1, 1_024),         // threads in a block
    (2, 1_024),         // x
    (3, 1_024),         // y
    (4, 64),            // z
    (5, 2_147_483_647), // blocks in x
    (6, 65_535),        // y
    (7, 65_535),        // z
    (8, 49_152),        // shared memory of a block, bytes
    (9, 65_536),        // constant memory, bytes
    (10, 32),           // threads in a warp
    (12, 65_536),       // registers of a block
    (13, 1_980_000),    // clock, kHz
    (15, 1),            // copies and runs at the same time
    (16, 132),          // multiprocessors
    (19, 1),            // can map the machine's memory
    (31, 1),            // several kernels at the same time
    (36, 2_619_000),    // memory's clock, kHz
    (37, 5_120),        // memory's bus, bits
    (39, 2_048),        // threads of a multiprocessor
    (40, 3),            // copy engines
    (41, 1),            // unified addresses
    (75, 9),            // compute capability
    (76, 0),
    (83, 1),  // managed memory
    (102, 1), // virtual memory management
    (115, 1), // memory pools
];

/// Where the PCI address's bus is in the attributes.
const PCI_BUS: c_int = 33;

/// One past the last attribute.
const ATTRIBUTES_END: c_int = 150;

/// A device's memory and its primary context.
pub(super) struct Device {
    total: u64,
    used: AtomicU64,
    /// The handle of its primary context, and how often it was asked for.
    primary: Mutex<Option<(usize, u32)>>,
}

impl Device {
    pub(super) fn new(total: u64) -> Self {
        Self { total, used: AtomicU64::new(0), primary: Mutex::default() }
    }

    /// Takes memory.
    pub(super) fn take(&self, bytes: u64) -> Result<(), Error> {
        let take = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.total);
        self.used.fetch_update(Relaxed, Relaxed, take).map(|_| ()).map_err(|_| OUT_OF_MEMORY)
    }

    /// Gives memory back.
    pub(super) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
    }

    /// Returns what nobody has, and all there is.
    pub(super) fn memory(&self) -> (u64, u64) {
        (self.total - self.used.load(Relaxed), self.total)
    }
}

/// Returns a device's UUID: as NVML's stand-in makes it up where its scenario gives none.
fn uuid(device: c_int) -> [u8; 16] {
    let number = u64::from(device.cast_unsigned());
    let mut hash = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        hash ^= hash >> 29;
        hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash ^= hash >> 32;
        hash
    };
    let (high, low) = (next(), next());
    let high = high & 0xffff_ffff_ffff_0fff | 0x4000;
    let low = low & 0x0fff_ffff_ffff_ffff | 0xa000_0000_0000_0000;
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&high.to_be_bytes());
    uuid[8..].copy_from_slice(&low.to_be_bytes());
    uuid
}

/// Returns the number of the bus that a device is on.
fn bus(device: c_int) -> c_int {
    0x10 + device * 8
}

fn number(index: c_int) -> Result<c_int, Error> {
    driver()?.device(index).map(|_| index)
}

pub(super) extern "C" fn get(out: Out<c_int>, index: c_int) -> c_uint {
    answer(|| give(out, number(index)?))
}

pub(super) extern "C" fn count(out: Out<c_int>) -> c_uint {
    answer(|| give(out, c_int::try_from(driver()?.devices.len()).map_err(|_| INVALID_VALUE)?))
}

pub(super) extern "C" fn name(out: Out<c_char>, length: c_int, device: c_int) -> c_uint {
    answer(|| {
        number(device)?;
        out.put_text(NAME, usize::try_from(length).unwrap_or(0)).ok_or(INVALID_VALUE)
    })
}

pub(super) extern "C" fn get_uuid(out: Out<[u8; 16]>, device: c_int) -> c_uint {
    answer(|| give(out, uuid(number(device)?)))
}

pub(super) extern "C" fn total_memory(out: Out<usize>, device: c_int) -> c_uint {
    answer(|| {
        let (_, total) = driver()?.device(device)?.memory();
        give(out, usize::try_from(total).map_err(|_| INVALID_VALUE)?)
    })
}

pub(super) extern "C" fn attribute(out: Out<c_int>, attribute: c_int, device: c_int) -> c_uint {
    answer(|| {
        number(device)?;
        if !(1..ATTRIBUTES_END).contains(&attribute) {
            return Err(INVALID_VALUE);
        }
        let known = ATTRIBUTES.iter().find(|(number, _)| *number == attribute);
        let value = if attribute == PCI_BUS { bus(device) } else { known.map_or(0, |row| row.1) };
        give(out, value)
    })
}

pub(super) extern "C" fn capability(major: Out<c_int>, minor: Out<c_int>, device: c_int) -> c_uint {
    answer(|| {
        number(device)?;
        give(major, 9)?;
        give(minor, 0)
    })
}

pub(super) extern "C" fn pci_bus_id(out: Out<c_char>, length: c_int, device: c_int) -> c_uint {
    answer(|| {
        let text = format!("0000:{:02X}:00.0", bus(number(device)?));
        out.put_text(&text, usize::try_from(length).unwrap_or(0)).ok_or(INVALID_VALUE)
    })
}

pub(super) extern "C" fn by_pci_bus_id(out: Out<c_int>, text: In<c_char>) -> c_uint {
    answer(|| {
        let text = text.text().ok_or(INVALID_VALUE)?.to_uppercase();
        let devices = 0..c_int::try_from(driver()?.devices.len()).unwrap_or(0);
        let ends = |device: &c_int| text.ends_with(&format!("{:02X}:00.0", bus(*device)));
        give(out, devices.into_iter().find(ends).ok_or(INVALID_DEVICE)?)
    })
}

pub(super) extern "C" fn can_access_peer(out: Out<c_int>, from: c_int, to: c_int) -> c_uint {
    answer(|| give(out, (number(from)? != number(to)?).into()))
}

pub(super) extern "C" fn default_pool(out: Out<usize>, device: c_int) -> c_uint {
    // A pool is not looked at: all memory of a device is one.
    answer(|| give(out, 0x1000 + usize::try_from(number(device)?).map_err(|_| INVALID_DEVICE)?))
}

pub(super) extern "C" fn driver_version(out: Out<c_int>) -> c_uint {
    // Before `cuInit` too, as the real one.
    let version = match driver() {
        Ok(driver) => Ok(driver.config.version),
        Err(_) => super::config::Config::from_environment().map(|config| config.version),
    };
    answer(|| {
        let version = version.map_err(|_| super::error::UNKNOWN)?;
        give(out, c_int::try_from(version).map_err(|_| super::error::UNKNOWN)?)
    })
}

pub(super) extern "C" fn retain_primary(out: Out<usize>, device: c_int) -> c_uint {
    answer(|| {
        let driver = driver()?;
        let mut primary =
            driver.device(device)?.primary.lock().unwrap_or_else(PoisonError::into_inner);
        let (handle, times) = match primary.take() {
            Some((handle, times)) => (handle, times + 1),
            None => (Context::create(device, 0)?, 1),
        };
        *primary = Some((handle, times));
        give(out, handle)
    })
}

pub(super) extern "C" fn release_primary(device: c_int) -> c_uint {
    answer(|| {
        let driver = driver()?;
        let mut primary =
            driver.device(device)?.primary.lock().unwrap_or_else(PoisonError::into_inner);
        match primary.take() {
            Some((handle, 1)) => context::end(handle),
            Some((handle, times)) => {
                *primary = Some((handle, times - 1));
                Ok(())
            }
            None => Err(super::error::INVALID_CONTEXT),
        }
    })
}

pub(super) extern "C" fn reset_primary(device: c_int) -> c_uint {
    answer(|| {
        let driver = driver()?;
        let mut primary =
            driver.device(device)?.primary.lock().unwrap_or_else(PoisonError::into_inner);
        primary.take().map_or(Ok(()), |(handle, _)| context::end(handle))
    })
}

pub(super) extern "C" fn primary_state(
    device: c_int,
    flags: Out<c_uint>,
    active: Out<c_int>,
) -> c_uint {
    answer(|| {
        let primary =
            driver()?.device(device)?.primary.lock().unwrap_or_else(PoisonError::into_inner);
        give(flags, 0)?;
        give(active, primary.is_some().into())
    })
}

pub(super) extern "C" fn set_primary_flags(device: c_int, _flags: c_uint) -> c_uint {
    answer(|| number(device).map(|_| ()))
}
