//! Everything that the driver knows in this process.

use std::ffi::c_uint;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use super::config::Config;
use super::context::Context;
use super::device::Device;
use super::error::{Error, INVALID_DEVICE, INVALID_VALUE, NOT_INITIALIZED, UNKNOWN, answer};
use super::event::Event;
use super::graph::{Executable, Graph};
use super::memory::Memory;
use super::module::{Function, Module};
use super::physical::Physical;
use super::registry::Registry;
use super::shared::counts::Counts;
use super::stream::Stream;

/// What was asked so far.
pub(super) static COUNTS: Counts = Counts::new();

static DRIVER: OnceLock<Result<Driver, Error>> = OnceLock::new();

/// All handles and memory.
pub(super) struct Driver {
    pub(super) config: Config,
    pub(super) devices: Vec<Device>,
    pub(super) contexts: Registry<Context>,
    pub(super) streams: Registry<Stream>,
    pub(super) events: Registry<Event>,
    pub(super) modules: Registry<Module>,
    pub(super) functions: Registry<Function>,
    pub(super) graphs: Registry<Graph>,
    pub(super) executables: Registry<Executable>,
    pub(super) physical: Registry<Physical>,
    memory: Mutex<Memory>,
}

impl Driver {
    fn new(config: Config) -> Self {
        Self {
            devices: (0..config.devices).map(|_| Device::new(config.memory_mib << 20)).collect(),
            config,
            contexts: Registry::new(1),
            streams: Registry::new(2),
            events: Registry::new(3),
            modules: Registry::new(4),
            functions: Registry::new(5),
            graphs: Registry::new(6),
            executables: Registry::new(7),
            physical: Registry::new(8),
            memory: Mutex::default(),
        }
    }

    pub(super) fn device(&self, number: i32) -> Result<&Device, Error> {
        let index = usize::try_from(number).map_err(|_| INVALID_DEVICE)?;
        self.devices.get(index).ok_or(INVALID_DEVICE)
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how long a kernel runs, ns.
    pub(super) fn kernel_time(&self) -> u64 {
        self.config.kernel_us * 1_000
    }

    /// Returns how long a copy takes, ns.
    pub(super) fn copy_time(&self, bytes: u64) -> u64 {
        let time = u128::from(bytes) * 1_000_000_000;
        let rate = u128::from(self.config.copy_mib_s) << 20;
        time.checked_div(rate).and_then(|time| u64::try_from(time).ok()).unwrap_or(0)
    }
}

/// `cuInit(unsigned int flags)`.
pub(super) extern "C" fn init(flags: c_uint) -> c_uint {
    answer(|| {
        if flags != 0 {
            return Err(INVALID_VALUE);
        }
        let driver = DRIVER.get_or_init(|| match Config::from_environment() {
            Ok(config) => Ok(Driver::new(config)),
            Err(error) => {
                eprintln!("stand-in libcuda: {error}");
                Err(UNKNOWN)
            }
        });
        let driver = driver.as_ref().map_err(|error| *error)?;
        if driver.devices.is_empty() { Err(super::error::NO_DEVICE) } else { Ok(()) }
    })
}

/// Returns what there is after `cuInit`.
pub(super) fn driver() -> Result<&'static Driver, Error> {
    DRIVER.get().ok_or(NOT_INITIALIZED)?.as_ref().map_err(|_| NOT_INITIALIZED)
}

/// Returns the time since the first call of this function, ns.
pub(super) fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    // Not 0: that is when nothing has happened yet.
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos())
        .map_or(u64::MAX, |ns| ns + 1)
}
