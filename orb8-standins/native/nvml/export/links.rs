//! What connects a device: PCIe and NVLink.

use std::ffi::{c_uint, c_ulonglong};

use super::super::scenario::{Device, Quantity};
use super::super::status::{Answer, Status};
use super::super::target::{Handle, Number, Target};
use super::super::types::PciInfo;
use super::{getters, tell};

getters! {
    nvmlDeviceGetCurrPcieLinkGeneration(c_uint) |it| it.number(Quantity::PcieGeneration);
    nvmlDeviceGetCurrPcieLinkWidth(c_uint) |it| it.number(Quantity::PcieWidth);
    nvmlDeviceGetMaxPcieLinkGeneration(c_uint) |it| it.number(Quantity::PcieMaxGeneration);
    nvmlDeviceGetMaxPcieLinkWidth(c_uint) |it| it.number(Quantity::PcieMaxWidth);
    nvmlDeviceGetGpuMaxPcieLinkGeneration(c_uint) |it| it.number(Quantity::PcieMaxGeneration);
    nvmlDeviceGetPcieReplayCounter(c_uint) |it| it.counter(Quantity::PcieReplays).map(u32::of);
}

getters! { newer
    nvmlDeviceGetPcieSpeed(c_uint) |it| it.value(Quantity::PcieGeneration).map(megabits);
    nvmlDeviceGetPcieLinkMaxSpeed(c_uint) speed_word;
}

/// Returns what a lane of a generation carries, Mb/s.
fn megabits(generation: f64) -> u32 {
    2500 << (u32::of(generation).clamp(1, 6) - 1)
}

/// `nvmlPcieLinkMaxSpeed`: 1 for 2500 Mb/s, and so on.
fn speed_word(it: &Target) -> Answer<u32> {
    it.number(Quantity::PcieMaxGeneration)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetPcieThroughput(
    device: Handle,
    counter: c_uint,
    value: *mut c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetPcieThroughput", device, value, |it| {
            let quantity = match counter {
                0 => Quantity::PcieTx,
                1 => Quantity::PcieRx,
                _ => return Err(Status::INVALID_ARGUMENT),
            };
            it.value(quantity).map(|bytes| u32::of(bytes / 1024.0))
        })
    }
}

/// Checks that a device has a link.
pub(in super::super) fn link(it: &Target, link: u32) -> Answer<&Device> {
    let device = it.whole()?;
    if device.links == 0 {
        return Err(Status::NOT_SUPPORTED);
    }
    if link >= device.links { Err(Status::INVALID_ARGUMENT) } else { Ok(device) }
}

/// Whether a link is up.
pub(in super::super) fn is_up(device: &Device, link: u32) -> bool {
    link < device.links && !device.links_down.contains(&link)
}

/// Returns a link's part of what all links that are up have together.
pub(in super::super) fn part(device: &Device, link: u32, of_all: f64) -> f64 {
    let up = (0..device.links).filter(|link| is_up(device, *link)).count();
    if is_up(device, link) { of_all / up as f64 } else { 0.0 }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetNvLinkState(
    device: Handle,
    number: c_uint,
    is_active: *mut c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetNvLinkState", device, is_active, |it| {
            Ok(u32::from(is_up(link(it, number)?, number)))
        })
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetNvLinkVersion(
    device: Handle,
    number: c_uint,
    version: *mut c_uint,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetNvLinkVersion", device, version, |it| Ok(link(it, number)?.link_version))
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetNvLinkErrorCounter(
    device: Handle,
    number: c_uint,
    counter: c_uint,
    value: *mut c_ulonglong,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetNvLinkErrorCounter", device, value, |it| {
            let device = link(it, number)?;
            let quantity = match counter {
                0 => Quantity::NvLinkReplays,
                1 => Quantity::NvLinkRecoveries,
                2 => Quantity::NvLinkCrc,
                // CRC of data and ECC: none.
                3 | 4 => return Ok(0),
                _ => return Err(Status::INVALID_ARGUMENT),
            };
            Ok(whole_part(device, number, it.counter(quantity)?))
        })
    }
}

/// Returns a link's part of a count, so that the parts sum to it: the first link has what is left.
pub(in super::super) fn whole_part(device: &Device, link: u32, of_all: f64) -> u64 {
    let all = u64::of(of_all);
    let up: Vec<u32> = (0..device.links).filter(|link| is_up(device, *link)).collect();
    let Some(place) = up.iter().position(|it| *it == link) else { return 0 };
    let each = all / up.len() as u64;
    if place == 0 { all - each * (up.len() as u64 - 1) } else { each }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo_v2(
    device: Handle,
    number: c_uint,
    pci: *mut PciInfo,
) -> u32 {
    // SAFETY: see the module.
    unsafe {
        tell("nvmlDeviceGetNvLinkRemotePciInfo_v2", device, pci, |it| {
            link(it, number)?;
            // A switch, of which there are four, and which is no device of the scenario.
            let switch = super::super::scenario::Pci { domain: 0, bus: 5 + number % 4, device: 0 };
            Ok(super::device::pci_info(switch))
        })
    }
}
