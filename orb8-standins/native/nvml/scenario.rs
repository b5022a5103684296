//! What is played: devices, processes and what happens, as the scenario's file says it.

mod quantity;

use std::path::PathBuf;

use super::curve::{Curve, Window};
use super::status::Status;
pub(super) use quantity::{QUANTITIES, Quantity, Setting};

/// A whole scenario.
#[derive(Clone, Debug, Default)]
pub(super) struct Scenario {
    pub(super) driver: Driver,
    pub(super) devices: Vec<Device>,
    pub(super) processes: Vec<Process>,
    pub(super) files: Vec<ProcessFile>,
    pub(super) happenings: Vec<Happening>,
}

/// The driver, and when the scenario begins.
#[derive(Clone, Debug)]
pub(super) struct Driver {
    pub(super) version: String,
    pub(super) nvml: String,
    /// 12080 for 12.8.
    pub(super) cuda: i32,
    pub(super) start: Start,
}

/// When a scenario's time is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Start {
    /// When the process first read the file as it is now.
    Read,
    /// When the file was last written: the same for all processes.
    Written,
    /// Seconds since 1970.
    At(f64),
}

impl Default for Driver {
    fn default() -> Self {
        Self {
            version: "570.124.06".into(),
            nvml: "12.570.124.06".into(),
            cuda: 12080,
            start: Start::Read,
        }
    }
}

/// A device.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) index: usize,
    pub(super) model: String,
    pub(super) architecture: Architecture,
    pub(super) brand: u32,
    pub(super) uuid: String,
    pub(super) serial: Option<String>,
    pub(super) vbios: String,
    pub(super) minor: u32,
    pub(super) pci: Pci,
    pub(super) compute: (i32, i32),
    pub(super) multiprocessors: u32,
    pub(super) gpm: bool,
    pub(super) mig: bool,
    /// Whether memory errors are counted, where it can do that.
    pub(super) ecc: Option<bool>,
    pub(super) persistence: bool,
    pub(super) links: u32,
    pub(super) link_version: u32,
    pub(super) links_down: Vec<u32>,
    quantities: Vec<Setting>,
    /// How it is divided, and from when on; in this order. It is whole before the first.
    pub(super) layouts: Vec<Layout>,
}

impl Device {
    pub(super) fn new(index: usize) -> Self {
        Self {
            index,
            model: String::new(),
            architecture: Architecture::Ampere,
            brand: 14,
            uuid: made_up_uuid("GPU", index as u64),
            serial: Some(format!("16{:011}", 51_823_000_000 + index as u64)),
            vbios: "96.00.74.00.01".into(),
            minor: index as u32,
            pci: Pci { domain: 0, bus: 0x1b + 0x0e * index as u32, device: 0 },
            compute: (8, 0),
            multiprocessors: 108,
            gpm: false,
            mig: false,
            ecc: Some(true),
            persistence: true,
            links: 0,
            link_version: 4,
            links_down: Vec::new(),
            quantities: QUANTITIES.iter().map(|(.., default)| Setting::of(default)).collect(),
            layouts: Vec::new(),
        }
    }

    /// Returns a quantity's curve; `None` where the device does not have it.
    pub(super) fn curve(&self, quantity: Quantity) -> Option<&Curve> {
        match &self.quantities[quantity as usize] {
            Setting::Given(curve) => Some(curve),
            Setting::Derived | Setting::Unsupported => None,
        }
    }

    /// Whether a quantity is left to be derived from others.
    pub(super) fn derives(&self, quantity: Quantity) -> bool {
        matches!(self.quantities[quantity as usize], Setting::Derived)
    }

    pub(super) fn set(&mut self, quantity: Quantity, setting: Setting) {
        self.quantities[quantity as usize] = setting;
    }

    /// Returns how it is divided at a time, and the number of that layout, 0 where it never was.
    pub(super) fn layout(&self, time: f64) -> (usize, Option<&[Instance]>) {
        let number = self.layouts.iter().take_while(|layout| layout.from <= time).count();
        let layout = number.checked_sub(1).map(|last| &self.layouts[last]);
        (number, layout.filter(|layout| layout.is_on).map(|layout| &layout.instances[..]))
    }
}

/// Where a device is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pci {
    pub(super) domain: u32,
    pub(super) bus: u32,
    pub(super) device: u32,
}

impl Pci {
    /// Reads `00000000:1B:00.0` with or without the domain.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.rsplitn(3, ':');
        let hex = |text: &str| u32::from_str_radix(text, 16).ok();
        let (device, function) = parts.next()?.split_once('.')?;
        let bus = hex(parts.next()?).filter(|bus| *bus < 256)?;
        let domain = parts.next().map_or(Some(0), hex)?;
        let device = hex(device).filter(|device| *device < 32 && function == "0")?;
        Some(Self { domain, bus, device })
    }
}

/// A generation of devices, by NVML's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Architecture {
    Kepler = 2,
    Maxwell,
    Pascal,
    Volta,
    Turing,
    Ampere,
    Ada,
    Hopper,
    Blackwell,
}

impl Architecture {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "kepler" => Self::Kepler,
            "maxwell" => Self::Maxwell,
            "pascal" => Self::Pascal,
            "volta" => Self::Volta,
            "turing" => Self::Turing,
            "ampere" => Self::Ampere,
            "ada" => Self::Ada,
            "hopper" => Self::Hopper,
            "blackwell" => Self::Blackwell,
            _ => return None,
        })
    }
}

/// How a device is divided from a time on.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) from: f64,
    pub(super) is_on: bool,
    pub(super) instances: Vec<Instance>,
}

/// A MIG instance.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) profile: String,
    pub(super) gpu: u32,
    pub(super) compute: u32,
    pub(super) uuid: String,
    /// Slices of the GPU instance and of the compute instance.
    pub(super) slices: (u32, u32),
    pub(super) multiprocessors: u32,
    pub(super) memory: u64,
    /// How busy it is, percent; what its processes are where it is not said.
    pub(super) busy: Option<Curve>,
}

/// A process on devices.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) devices: Devices,
    pub(super) kind: ProcessKind,
    /// Bytes; `None` where the driver does not say.
    pub(super) memory: Option<Curve>,
    /// Percent of the device's time.
    pub(super) sm: Curve,
    pub(super) memory_time: Curve,
    pub(super) encoder: Curve,
    pub(super) decoder: Curve,
    /// GPU instance and compute instance.
    pub(super) instance: Option<(u32, u32)>,
    pub(super) window: Window,
    pub(super) name: Option<String>,
}

/// What a process uses a device for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProcessKind {
    Compute,
    Graphics,
    Mps,
}

/// A file that others write processes into.
#[derive(Clone, Debug)]
pub(super) struct ProcessFile {
    pub(super) path: PathBuf,
    /// What is the same for all of them.
    pub(super) like: Process,
}

/// Some of the devices, by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Devices {
    All,
    These(Vec<usize>),
}

impl Devices {
    pub(super) fn has(&self, index: usize) -> bool {
        match self {
            Self::All => true,
            Self::These(devices) => devices.contains(&index),
        }
    }
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(super) struct Happening {
    pub(super) window: Window,
    /// `None` where it is not about devices: then it is about every call.
    pub(super) devices: Option<Devices>,
    pub(super) what: What,
}

/// What happens.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// The driver reports an error at the beginning of the window.
    Xid { code: u64, instance: Option<(u32, u32)> },
    /// A device does not answer any more.
    Lost,
    /// There is no driver; whoever was there before has to begin anew.
    Unloaded,
    /// Calls return when the window has ended.
    Blocks(Pattern),
    /// Calls take so many seconds.
    Slow(Pattern, f64),
    /// Calls fail.
    Fails(Pattern, Failure),
    /// There are no samples of processes.
    DropsSamples,
    /// Clocks are held back, by NVML's bits.
    Throttled(u64),
}

/// With which error calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    With(Status),
    /// With every error in turn.
    Each,
}

/// Which functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    All,
    Is(String),
    Begins(String),
}

impl Pattern {
    pub(super) fn has(&self, function: &str) -> bool {
        match self {
            Self::All => true,
            Self::Is(name) => name == function,
            Self::Begins(name) => function.starts_with(name),
        }
    }
}

/// Names of the bits of what holds clocks back.
pub(super) const THROTTLES: [(&str, u64); 9] = [
    ("idle", 0x1),
    ("application-clocks", 0x2),
    ("power-cap", 0x4),
    ("hardware-slowdown", 0x8),
    ("sync-boost", 0x10),
    ("software-thermal", 0x20),
    ("hardware-thermal", 0x40),
    ("power-brake", 0x80),
    ("display-clocks", 0x100),
];

/// Returns a UUID that is always the same for the same number.
pub(super) fn made_up_uuid(prefix: &str, number: u64) -> String {
    let mut hash = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        hash ^= hash >> 29;
        hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash ^= hash >> 32;
        hash
    };
    let (high, low) = (next(), next());
    format!(
        "{prefix}-{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        (low >> 48) & 0xfff,
        low & 0xffff_ffff_ffff,
    )
}
