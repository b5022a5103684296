//! Ids as devices are given out → the devices that are there.
//!
//! | who gives | ids |
//! |---|---|
//! | NVIDIA's device plugin | `GPU-…`, `MIG-…`, `MIG-GPU-…/3/0` (before R470), `0`, `0:1`; each with `::N` when sliced |
//! | GKE's | `nvidia0`, `nvidia0/gi3`, `nvidia0/vgpu2`, `nvidia0/gi3/vgpu1`, `accel0` |
//! | AMD's, Intel's | `0000:83:00.0`, `renderD128`, `card0-1` |
//! | AWS's, Google's | numbers |
//! | DRA drivers | see [`claim`] |

use super::device::{Device, DeviceId, PciAddress, Vendor};

pub(super) mod claim;

#[cfg(test)]
mod tests;

/// Names of resources, or what they begin with, that are accelerators.
const RESOURCES: &[(&str, Vendor)] = &[
    ("nvidia.com/gpu", Vendor::Nvidia),
    ("nvidia.com/mig-", Vendor::Nvidia),
    ("amd.com/", Vendor::Amd),
    ("gpu.intel.com/", Vendor::Intel),
    ("google.com/tpu", Vendor::Google),
    ("cloud-tpus.google.com/", Vendor::Google),
    ("aws.amazon.com/neuron", Vendor::Aws),
];

/// Render nodes' minor numbers begin here, and cards' with 0.
const FIRST_RENDER_NODE: u32 = 128;

/// The devices that are there, to be found by what they are called.
#[derive(Clone, Debug)]
pub(super) struct Names<'a>(Vec<&'a Device>);

/// What an id stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// None where no such device is there; several where the id is of a board and what is counted is
    /// its cores.
    pub(super) devices: Vec<DeviceId>,
    /// Whether the id says that others may be given the same device.
    pub(super) is_shared: bool,
}

/// An id, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given<'a> {
    form: Form<'a>,
    is_shared: bool,
}

/// What an id says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form<'a> {
    /// `GPU-…`, `MIG-…`.
    Uuid(&'a str),
    /// `MIG-GPU-…/gi/ci`.
    PartOf { parent: &'a str, gpu_instance: u32, compute_instance: u32 },
    /// `nvidiaN`, `nvidiaN/giM`.
    File { minor: u32, gpu_instance: Option<u32> },
    /// `N`, `N:M`.
    Number { index: u32, part: Option<u32> },
    /// `renderDN`, `cardN`.
    Render { minor: u32 },
    /// `0000:83:00.0`.
    Pci(PciAddress),
    /// None of these.
    Other,
}

/// Whether a resource is an accelerator, or an id can be nothing else. Network cards and the like are
/// resources as well.
pub(super) fn is_accelerator(resource: &str, id: &str) -> bool {
    let is_telling =
        || matches!(parse(id).form, Form::Uuid(_) | Form::PartOf { .. } | Form::File { .. });
    vendor_of(resource).is_some() || is_telling()
}

/// Returns who makes what a resource consists of, of accelerators.
pub(super) fn vendor_of(resource: &str) -> Option<Vendor> {
    let row = RESOURCES.iter().find(|(prefix, _)| resource.starts_with(prefix));
    row.map(|(_, vendor)| *vendor)
}

impl<'a> Names<'a> {
    pub(super) fn new(devices: impl IntoIterator<Item = &'a Device>) -> Self {
        Self(devices.into_iter().collect())
    }

    /// Finds what a device plugin gave out.
    pub(super) fn find(&self, resource: &str, id: &str) -> Found {
        let Given { form, is_shared } = parse(id);
        let vendor = vendor_of(resource);
        let devices = match form {
            Form::Uuid(uuid) => self.by_id(uuid),
            Form::PartOf { parent, gpu_instance, compute_instance } => self.part(
                |id| id.eq_ignore_ascii_case(parent),
                gpu_instance,
                Some(compute_instance),
            ),
            Form::File { minor, gpu_instance } => self.by_file(minor, gpu_instance),
            Form::Number { index, part } => self.by_number(resource, vendor, index, part),
            Form::Render { minor } => self.by_render_node(minor),
            Form::Pci(address) => self.by_pci(&address),
            Form::Other => self.by_id(id),
        };
        Found { devices, is_shared: is_shared || resource.ends_with(".shared") }
    }

    fn whole(&self) -> impl Iterator<Item = &'a Device> {
        self.0.iter().copied().filter(|device| device.part.is_none())
    }

    fn by_id(&self, id: &str) -> Vec<DeviceId> {
        let is_it = |device: &&&Device| device.id.as_str().eq_ignore_ascii_case(id);
        self.0.iter().find(is_it).map(|device| device.id.clone()).into_iter().collect()
    }

    fn by_pci(&self, address: &PciAddress) -> Vec<DeviceId> {
        let mut found = self.whole().filter(|device| device.pci.as_ref() == Some(address));
        let (Some(device), None) = (found.next(), found.next()) else { return Vec::new() };
        // AMD gives out the first part of a divided device by the address of the whole.
        let first = self.part(|id| id == device.id.as_str(), 0, None);
        if device.is_divided && !first.is_empty() { first } else { vec![device.id.clone()] }
    }

    /// Finds a part of a device by its GPU instance, which holds one container's compute instances.
    fn part(
        &self,
        is_parent: impl Fn(&str) -> bool,
        gpu_instance: u32,
        compute_instance: Option<u32>,
    ) -> Vec<DeviceId> {
        one(self.0.iter().copied().filter(|device| {
            device.part.as_ref().is_some_and(|part| {
                let is_compute_instance = || match (part.compute_instance, compute_instance) {
                    (Some(is), Some(asked)) => is == asked,
                    _ => true,
                };
                is_parent(part.parent.as_str())
                    && part.gpu_instance == gpu_instance
                    && is_compute_instance()
            })
        }))
    }

    fn by_file(&self, minor: u32, gpu_instance: Option<u32>) -> Vec<DeviceId> {
        let Some(device) = self.nvidia_by_minor(minor) else { return Vec::new() };
        match gpu_instance {
            None => vec![device.id.clone()],
            Some(instance) => self.part(|id| id == device.id.as_str(), instance, None),
        }
    }

    /// Finds an NVIDIA device by its file's number; where no file's number is known, by its own.
    fn nvidia_by_minor(&self, minor: u32) -> Option<&'a Device> {
        let nvidia = || self.whole().filter(|device| device.vendor == Vendor::Nvidia);
        let are_known = nvidia().any(|device| device.minor.is_some());
        let number = |device: &Device| if are_known { device.minor } else { device.index };
        nvidia().find(|device| number(device) == Some(minor))
    }

    fn by_render_node(&self, minor: u32) -> Vec<DeviceId> {
        let is_other = |device: &&Device| device.vendor != Vendor::Nvidia;
        one(self.whole().filter(is_other).filter(|device| device.minor == Some(minor)))
    }

    fn by_number(
        &self,
        resource: &str,
        vendor: Option<Vendor>,
        index: u32,
        part: Option<u32>,
    ) -> Vec<DeviceId> {
        let Some(vendor) = vendor else { return Vec::new() };
        // A Neuron device has several cores, and each is a device here.
        if vendor == Vendor::Aws && !resource.ends_with("neuroncore") {
            return self.neuron_cores(index);
        }
        let mut found = self.whole().filter(|is| is.vendor == vendor && is.index == Some(index));
        let Some(part) = part else { return one(found) };
        let Some(parent) = found.next() else { return Vec::new() };
        one(self.0.iter().copied().filter(|device| {
            let of = device.part.as_ref().map(|part| &part.parent);
            of == Some(&parent.id) && device.index == Some(part)
        }))
    }

    fn neuron_cores(&self, board: u32) -> Vec<DeviceId> {
        let cores = self.whole().filter(|device| device.vendor == Vendor::Aws);
        let ids = cores.filter(|core| core.minor == Some(board)).map(|core| core.id.clone());
        ids.collect()
    }
}

/// The one that there is: of two, nobody can tell which is meant.
fn one<'a>(mut found: impl Iterator<Item = &'a Device>) -> Vec<DeviceId> {
    match (found.next(), found.next()) {
        (Some(device), None) => vec![device.id.clone()],
        _ => Vec::new(),
    }
}

fn parse(id: &str) -> Given<'_> {
    let id = id.trim();
    // What replicas are called does not matter, only that there are some.
    if let Some((id, _)) = id.split_once("::") {
        return Given { is_shared: true, ..parse_device(id) };
    }
    parse_device(id)
}

fn parse_device(id: &str) -> Given<'_> {
    let whole = |form| Given { form, is_shared: false };
    if let Some(old) = id.strip_prefix("MIG-").filter(|rest| rest.starts_with("GPU-")) {
        return whole(old_part(old).unwrap_or(Form::Other));
    }
    if id.starts_with("GPU-") || id.starts_with("MIG-") {
        return whole(Form::Uuid(id));
    }
    let file = id.strip_prefix("/dev/").unwrap_or(id);
    if let Some(given) = file.strip_prefix("nvidia").and_then(nvidia_file) {
        return given;
    }
    if let Some(given) = render_file(file.strip_prefix("dri/").unwrap_or(file)) {
        return given;
    }
    let number = file.strip_prefix("accel").unwrap_or(file);
    let number = match number.split_once(':') {
        Some((index, part)) => index.parse().ok().zip(part.parse().ok().map(Some)),
        None => number.parse().ok().map(|index| (index, None)),
    };
    if let Some((index, part)) = number {
        return whole(Form::Number { index, part });
    }
    whole(PciAddress::parse(id).map_or(Form::Other, Form::Pci))
}

/// `GPU-…/gi/ci`.
fn old_part(text: &str) -> Option<Form<'_>> {
    let mut parts = text.split('/');
    let parent = parts.next()?;
    let gpu_instance = parts.next()?.parse().ok()?;
    let compute_instance = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(Form::PartOf { parent, gpu_instance, compute_instance })
}

/// `N`, `N/giM`, `N/vgpuK`, `N/giM/vgpuK`.
fn nvidia_file(text: &str) -> Option<Given<'static>> {
    let mut parts = text.split('/');
    let minor = parts.next()?.parse().ok()?;
    let (mut gpu_instance, mut is_shared) = (None, false);
    for part in parts {
        if let Some(instance) = part.strip_prefix("gi") {
            gpu_instance = Some(instance.parse().ok()?);
        } else if part.strip_prefix("vgpu")?.parse::<u32>().is_ok() {
            is_shared = true;
        } else {
            return None;
        }
    }
    Some(Given { form: Form::File { minor, gpu_instance }, is_shared })
}

/// `renderDN`, `cardN`, `cardN-K` (Intel's K-th share of a card; the first may be the only one).
fn render_file(text: &str) -> Option<Given<'static>> {
    if let Some(minor) = text.strip_prefix("renderD") {
        let form = Form::Render { minor: minor.parse().ok()? };
        return Some(Given { form, is_shared: false });
    }
    let card = text.strip_prefix("card")?;
    let (card, share) = card.split_once('-').unwrap_or((card, "0"));
    let (card, share) = (card.parse::<u32>().ok()?, share.parse::<u32>().ok()?);
    let form = Form::Render { minor: card.checked_add(FIRST_RENDER_NODE)? };
    Some(Given { form, is_shared: share > 0 })
}
