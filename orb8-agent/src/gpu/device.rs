//! What a device is: everything that stays the same while it is there.

use std::fmt;
use std::sync::Arc;

/// What tells a device from all others: NVML's UUID (`GPU-…`, `MIG-…`) where it has one, else its PCI
/// address (`pci-0000:83:00.0`), else its number (`tpu-0`, `neuroncore-3`). Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(Arc<str>);

impl DeviceId {
    /// Takes an id as its source has it.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// Returns it as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the text itself, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// A PCI address as sysfs has it: four digits of domain (more where it needs them), lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress(Arc<str>);

impl PciAddress {
    /// Reads `00000000:1B:00.0` (NVML, DCGM), `0000:1b:00.0` (sysfs) and `1b:00.0`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().rsplitn(3, ':');
        let (slot, bus) = (parts.next()?, parts.next()?);
        let domain = u32::from_str_radix(parts.next().unwrap_or("0"), 16).ok()?;
        let bus = u8::from_str_radix(bus, 16).ok()?;
        let (device, function) = slot.split_once('.')?;
        let device = u8::from_str_radix(device, 16).ok().filter(|device| *device < 32)?;
        let function = u8::from_str_radix(function, 16).ok().filter(|function| *function < 8)?;
        Some(Self(format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}").into()))
    }

    /// Returns it as sysfs has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// Who makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Vendor {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
    /// Intel.
    Intel,
    /// Google, the TPU.
    Google,
    /// AWS, Trainium and Inferentia.
    Aws,
}

impl Vendor {
    /// Returns its name as in labels.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nvidia => "nvidia",
            Self::Amd => "amd",
            Self::Intel => "intel",
            Self::Google => "google",
            Self::Aws => "aws",
        }
    }
}

/// Where readings come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// NVIDIA's management library.
    Nvml,
    /// A dcgm-exporter that runs on this node.
    Dcgm,
    /// amdgpu's sysfs files and KFD.
    Amd,
    /// What DRM drivers tell of their clients.
    Drm,
    /// libtpu's metrics service in the workload.
    Tpu,
    /// AWS's neuron-monitor.
    Neuron,
}

impl SourceKind {
    /// Every source, in the order in which the first that knows a device is believed.
    pub const ALL: [Self; 6] =
        [Self::Nvml, Self::Dcgm, Self::Amd, Self::Drm, Self::Tpu, Self::Neuron];

    /// Returns its name as in settings and status.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nvml => "nvml",
            Self::Dcgm => "dcgm",
            Self::Amd => "amd",
            Self::Drm => "drm",
            Self::Tpu => "tpu",
            Self::Neuron => "neuron",
        }
    }
}

/// A device, or a part of one that is held and used by itself (a MIG instance).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What tells it from all others.
    pub id: DeviceId,
    /// Who makes it.
    pub vendor: Vendor,
    /// Who tells of it.
    pub source: SourceKind,
    /// Its number, as the vendor's tool counts them; a MIG instance's is its own within its parent.
    pub index: Option<u32>,
    /// Minor number of its device file (`/dev/nvidiaN`, `/dev/dri/renderDN`).
    pub minor: Option<u32>,
    /// Product name: `NVIDIA H100 80GB HBM3`.
    pub model: String,
    /// Architecture: `hopper`, `gfx942`.
    pub architecture: Option<String>,
    /// Where it is plugged in; a part has its parent's.
    pub pci: Option<PciAddress>,
    /// Serial number of the board.
    pub serial: Option<String>,
    /// Version of its driver.
    pub driver: Option<String>,
    /// Of a part: what it is a part of.
    pub part: Option<Part>,
    /// Whether it is divided into parts (MIG is on): then they are used, and it is not.
    pub is_divided: bool,
}

/// What a MIG instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The device that it is a part of.
    pub parent: DeviceId,
    /// GPU instance.
    pub gpu_instance: u32,
    /// Compute instance in it, where that is known.
    pub compute_instance: Option<u32>,
    /// Its size, as NVIDIA names it: `1g.10gb`.
    pub profile: String,
}
