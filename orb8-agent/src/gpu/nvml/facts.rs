//! What stays the same of a device while the driver has it: read at the start, and again each minute.

use nvml_wrapper::Device as Handle;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureThreshold};
use nvml_wrapper::enums::device::DeviceArchitecture;
use nvml_wrapper::error::NvmlError;

use crate::gpu::device::{Device, DeviceId, PciAddress, SourceKind, Vendor};

use super::call::{Asker, Call, Refused, Stop};

/// More lanes and generations than any link has: what is beyond is a sentinel.
const MOST_LANES: u32 = 64;
const MOST_GENERATIONS: u32 = 16;

/// What a device is called where its driver does not even tell its name.
const UNNAMED: &str = "NVIDIA device";

/// What stays the same.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// What it is.
    pub(super) device: Device,
    /// Whether its driver told its UUID: without it the id is another one.
    pub(super) has_uuid: bool,
    /// What it may come to.
    pub(super) limits: Limits,
    /// Whether it tells what its multiprocessors do (GPM).
    pub(super) has_gpm: bool,
}

/// What a device may come to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Limits {
    /// Degrees Celsius.
    pub(super) slowdown: Option<f64>,
    /// Degrees Celsius.
    pub(super) shutdown: Option<f64>,
    /// Watts.
    pub(super) power: Option<f64>,
    /// Megahertz.
    pub(super) sm_clock: Option<u32>,
    /// Megahertz.
    pub(super) memory_clock: Option<u32>,
    pub(super) pcie_generation: Option<u32>,
    pub(super) pcie_width: Option<u32>,
}

/// Returns the device that is listed at an index when nothing is known of it, not even its name.
pub(super) fn unknown(index: u32) -> Device {
    Device {
        id: DeviceId::new(format!("nvidia-{index}")),
        vendor: Vendor::Nvidia,
        source: SourceKind::Nvml,
        index: Some(index),
        minor: None,
        model: UNNAMED.into(),
        architecture: None,
        pci: None,
        serial: None,
        driver: None,
        part: None,
        is_divided: false,
    }
}

/// Reads what stays the same.
///
/// # Errors
///
/// [`Stop`] where the device is not to be asked any further.
pub(super) fn read(
    asker: &mut Asker,
    refused: &mut Refused,
    handle: &Handle<'_>,
    index: u32,
    driver: Option<&str>,
) -> Result<Facts, Stop> {
    let uuid = asker.ask(refused, Call::Uuid, || handle.uuid())?;
    let pci = detail(asker, Call::Identity, || handle.pci_info())?
        .and_then(|pci| PciAddress::parse(&pci.bus_id));
    let unknown = unknown(index);
    let has_uuid = uuid.is_some();
    let id = match (uuid, &pci) {
        (Some(uuid), _) => DeviceId::new(uuid),
        (None, Some(pci)) => DeviceId::new(format!("pci-{pci}")),
        (None, None) => unknown.id,
    };
    let device = Device {
        id,
        minor: detail(asker, Call::Identity, || handle.minor_number())?,
        model: detail(asker, Call::Identity, || handle.name())?.unwrap_or(unknown.model),
        architecture: detail(asker, Call::Identity, || handle.architecture())?
            .and_then(architecture),
        pci,
        serial: detail(asker, Call::Identity, || handle.serial())?
            .filter(|serial| !serial.is_empty()),
        driver: driver.map(str::to_owned),
        ..unknown
    };
    let has_gpm = asker.ask(refused, Call::GpmSupport, || handle.gpm_support())?;
    let limits = limits(asker, handle)?;
    Ok(Facts {
        device,
        has_uuid,
        limits,
        has_gpm: has_gpm.unwrap_or(false) && can_free_samples(handle),
    })
}

/// Asks for a detail that is no matter where it cannot be told.
pub(super) fn detail<T>(
    asker: &mut Asker,
    call: Call,
    make: impl FnOnce() -> Result<T, NvmlError>,
) -> Result<Option<T>, Stop> {
    // What one of them cannot tell says nothing about the others.
    asker.ask(&mut Refused::default(), call, make)
}

/// A sample that cannot be given back is not taken: the wrapper panics where it would.
fn can_free_samples(handle: &Handle<'_>) -> bool {
    handle.nvml().lib().nvmlGpmSampleFree.is_ok()
}

fn architecture(architecture: DeviceArchitecture) -> Option<String> {
    (architecture != DeviceArchitecture::Unknown).then(|| architecture.to_string().to_lowercase())
}

fn limits(asker: &mut Asker, handle: &Handle<'_>) -> Result<Limits, Stop> {
    let threshold = |asker: &mut Asker, which| {
        let read = detail(asker, Call::Thresholds, || handle.temperature_threshold(which))?;
        Ok(read.and_then(|degrees| asker.checked.celsius(degrees.into())))
    };
    let clock = |asker: &mut Asker, which| {
        let read = detail(asker, Call::MaxClocks, || handle.max_clock_info(which))?;
        Ok(read.and_then(|megahertz| asker.checked.megahertz(megahertz.into())))
    };
    let slowdown = threshold(asker, TemperatureThreshold::Slowdown)?;
    let shutdown = threshold(asker, TemperatureThreshold::Shutdown)?;
    let sm_clock = clock(asker, Clock::SM)?;
    let memory_clock = clock(asker, Clock::Memory)?;
    let power = detail(asker, Call::PowerLimit, || handle.enforced_power_limit())?;
    let generation = detail(asker, Call::MaxPcie, || handle.max_pcie_link_gen())?;
    let width = detail(asker, Call::MaxPcie, || handle.max_pcie_link_width())?;
    Ok(Limits {
        slowdown,
        shutdown,
        power: power.and_then(|milliwatts| watts(asker, milliwatts)),
        sm_clock,
        memory_clock,
        pcie_generation: generation.and_then(|generation| pcie_generation(asker, generation)),
        pcie_width: width.and_then(|width| pcie_width(asker, width)),
    })
}

/// Takes milliwatts.
pub(super) fn watts(asker: &mut Asker, milliwatts: u32) -> Option<f64> {
    asker.checked.watts(f64::from(milliwatts) / 1000.0)
}

/// Takes a link's generation.
pub(super) fn pcie_generation(asker: &mut Asker, generation: u32) -> Option<u32> {
    within(asker, generation, MOST_GENERATIONS)
}

/// Takes a link's lanes.
pub(super) fn pcie_width(asker: &mut Asker, width: u32) -> Option<u32> {
    within(asker, width, MOST_LANES)
}

fn within(asker: &mut Asker, value: u32, most: u32) -> Option<u32> {
    let makes_sense = (1..=most).contains(&value);
    if !makes_sense {
        asker.checked.leave_out();
    }
    makes_sense.then_some(value)
}
