//! Google's devices that are plugged in.

use std::path::Path;

use crate::gpu::device::{Device, DeviceId, PciAddress, SourceKind, Vendor};
use crate::gpu::sysfs::{entries, link_name, numbered, text};

/// PCI's number of Google.
const VENDOR: &str = "0x1ae0";

/// More than any machine has.
const MOST: usize = 64;

/// Product numbers; the first stands for two generations, which their subsystem tells apart.
const MODELS: [Model; 7] = [
    Model { product: "0x0027", subsystem: Some("0x004e"), name: "TPU v2", devices: 2 },
    Model { product: "0x0027", subsystem: Some("0x004f"), name: "TPU v3", devices: 2 },
    Model { product: "0x005e", subsystem: None, name: "TPU v4", devices: 1 },
    Model { product: "0x0062", subsystem: None, name: "TPU v5p", devices: 1 },
    Model { product: "0x0063", subsystem: None, name: "TPU v5e", devices: 1 },
    Model { product: "0x006f", subsystem: None, name: "TPU v6e", devices: 1 },
    Model { product: "0x0076", subsystem: None, name: "TPU7x", devices: 2 },
];

/// A generation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Model {
    product: &'static str,
    subsystem: Option<&'static str>,
    pub(super) name: &'static str,
    /// As libtpu counts them on one chip: cores with memory of their own.
    pub(super) devices: u32,
}

/// A chip that is plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chip {
    /// The number of its file: `/dev/accelN` or `/dev/vfio/N`.
    pub(super) file: u32,
    pub(super) pci: PciAddress,
    pub(super) model: &'static Model,
}

/// Lists the chips, by their files' numbers.
pub(super) fn chips(sys: &Path) -> Vec<Chip> {
    let folder = sys.join("bus/pci/devices");
    let names = entries(&folder);
    let mut chips: Vec<_> =
        names.iter().filter_map(|name| chip(name, &folder.join(name))).take(MOST).collect();
    chips.sort_by_key(|chip| chip.file);
    chips
}

fn chip(name: &str, folder: &Path) -> Option<Chip> {
    if text(&folder.join("vendor"))? != VENDOR {
        return None;
    }
    let product = text(&folder.join("device"))?;
    let subsystem = text(&folder.join("subsystem_device"));
    let is_it = |model: &&Model| {
        let is_subsystem = model.subsystem.is_none() || model.subsystem == subsystem.as_deref();
        model.product == product && is_subsystem
    };
    // Others of Google's are network cards and disks.
    let model = MODELS.iter().find(is_it)?;
    // Under its own driver it has a file of class `accel`, under VFIO one by its group.
    let accel = entries(&folder.join("accel"));
    let accel = accel.iter().find_map(|name| numbered(name, "accel"));
    let group = || link_name(&folder.join("iommu_group"))?.parse().ok();
    Some(Chip { file: accel.or_else(group)?, pci: PciAddress::parse(name)?, model })
}

/// Says what a chip is to everybody else.
pub(super) fn device(index: u32, chip: Option<&Chip>) -> Device {
    Device {
        id: DeviceId::new(format!("tpu-{index}")),
        vendor: Vendor::Google,
        source: SourceKind::Tpu,
        index: Some(index),
        minor: chip.map(|chip| chip.file),
        model: chip.map_or("TPU", |chip| chip.model.name).to_owned(),
        architecture: None,
        pci: chip.map(|chip| chip.pci.clone()),
        serial: None,
        driver: None,
        part: None,
        is_divided: false,
    }
}

/// Whether a path is of a chip's file, and its number. Other drivers have folders of that name.
pub(super) fn file_number(path: &[u8]) -> Option<u32> {
    let path = std::str::from_utf8(path).ok()?;
    let number = path.strip_prefix("/dev/accel").or_else(|| path.strip_prefix("/dev/vfio/"))?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_chips_have_numbers() {
        assert_eq!(file_number(b"/dev/accel3"), Some(3));
        assert_eq!(file_number(b"/dev/vfio/12"), Some(12));
        for other in ["/dev/vfio/vfio", "/dev/accel/accel0", "/dev/accel", "/dev/dri/card0"] {
            assert_eq!(file_number(other.as_bytes()), None, "{other}");
        }
    }
}
