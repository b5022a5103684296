//! What DRA drivers call devices. The names are theirs alone (a ResourceSlice says what they mean, and
//! it is not asked), so this knows the forms of those that there are:
//!
//! | who gives | names |
//! |---|---|
//! | NVIDIA's driver | `gpu-0` and `gpu-0-mig-19-4-1` by the device file's number; a UUID, or `…=0`, `…=0:1` in the CDI name |
//! | AMD's | `gpu-1-129` by card and render node |
//! | Intel's | `0000-03-00-0-0x56c0` by PCI address |
//! | Google's, AWS's | what ends with a number |

use super::{FIRST_RENDER_NODE, Found, Names, Vendor, one};
use crate::gpu::device::{Device, DeviceId, PciAddress};

/// DRA drivers that give accelerators.
const DRIVERS: &[(&str, Vendor)] = &[
    ("gpu.nvidia.com", Vendor::Nvidia),
    ("gpu.amd.com", Vendor::Amd),
    ("gpu.intel.com", Vendor::Intel),
    ("tpu.google.com", Vendor::Google),
    ("neuron.aws.com", Vendor::Aws),
];

/// Characters of a UUID.
const UUID: usize = 36;

/// A device of a claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claimed {
    /// `gpu.nvidia.com`.
    pub driver: String,
    /// The driver's name for where its devices are: a node, mostly.
    pub pool: String,
    /// The driver's name for the device.
    pub device: String,
    /// What the runtime was told to put into the container: `k8s.gpu.nvidia.com/claim=…-gpu-0`.
    pub cdi: Vec<String>,
    /// Whether it is a share of a device that others have shares of.
    pub is_share: bool,
}

impl Claimed {
    /// Returns who makes it, of accelerators.
    pub(crate) fn vendor(&self) -> Option<Vendor> {
        DRIVERS.iter().find(|(driver, _)| *driver == self.driver).map(|(_, vendor)| *vendor)
    }
}

impl Names<'_> {
    /// Finds what a DRA driver gave out.
    pub(in crate::gpu) fn find_claimed(&self, claimed: &Claimed) -> Found {
        let names = || std::iter::once(&claimed.device).chain(&claimed.cdi).map(String::as_str);
        let by_uuid = || names().flat_map(uuids).map(|id| self.by_id(id)).find(|it| !it.is_empty());
        let by_name = || {
            let device = match claimed.vendor()? {
                Vendor::Nvidia => self.nvidia_claimed(&claimed.device),
                Vendor::Amd => self.amd_claimed(&claimed.device),
                Vendor::Intel => self.by_pci(&dashed_pci(&claimed.device)?),
                vendor @ (Vendor::Google | Vendor::Aws) => {
                    let number = claimed.device.rsplit(|at: char| !at.is_ascii_digit()).next()?;
                    self.by_number("neuroncore", Some(vendor), number.parse().ok()?, None)
                }
            };
            Some(device).filter(|device| !device.is_empty())
        };
        // `nvidia.com/gpu=0:1`, of drivers that name devices otherwise.
        let by_cdi_number = || {
            let ids = claimed.cdi.iter().filter_map(|name| Some(name.split_once('=')?.1));
            let found = ids.map(|id| self.find("nvidia.com/gpu", id).devices);
            found.filter(|_| claimed.vendor() == Some(Vendor::Nvidia)).find(|it| !it.is_empty())
        };
        let devices = by_uuid().or_else(by_name).or_else(by_cdi_number).unwrap_or_default();
        Found { devices, is_shared: claimed.is_share }
    }

    /// `gpu-0`, `gpu-0-mig-<profile>-<start>-<size>`.
    fn nvidia_claimed(&self, name: &str) -> Vec<DeviceId> {
        let Some(name) = name.strip_prefix("gpu-") else { return Vec::new() };
        let (minor, part) = match name.split_once("-mig-") {
            Some((minor, part)) => (minor, Some(part)),
            None => (name, None),
        };
        let device = minor.parse().ok().and_then(|minor| self.nvidia_by_minor(minor));
        match (device, part) {
            (None, _) => Vec::new(),
            (Some(device), None) => vec![device.id.clone()],
            (Some(device), Some(part)) => self.only_part(device, part),
        }
    }

    /// Where in the device a part lies is not known here: it is found where the name tells a profile
    /// that only one part has, or there is only one.
    fn only_part(&self, parent: &Device, name: &str) -> Vec<DeviceId> {
        let parts = || {
            let all = self.0.iter().copied();
            all.filter(|device| device.part.as_ref().is_some_and(|is| is.parent == parent.id))
        };
        let has_profile = |device: &&Device| {
            let profile = device.part.as_ref().map(|part| part.profile.replace('.', ""));
            profile.is_some_and(|profile| name.split('-').next() == Some(&*profile))
        };
        let by_profile = one(parts().filter(has_profile));
        if by_profile.is_empty() { one(parts()) } else { by_profile }
    }

    /// `gpu-<card>-<render node>`.
    fn amd_claimed(&self, name: &str) -> Vec<DeviceId> {
        let mut numbers = name.split('-').filter_map(|part| part.parse::<u32>().ok());
        let (card, node) = (numbers.next(), numbers.next());
        let of_card = || card?.checked_add(FIRST_RENDER_NODE);
        node.or_else(of_card).map(|minor| self.by_render_node(minor)).unwrap_or_default()
    }
}

/// Finds `GPU-…` and `MIG-…` anywhere in a name.
fn uuids(name: &str) -> impl Iterator<Item = &str> {
    let starts = name.match_indices("GPU-").chain(name.match_indices("MIG-"));
    starts.filter_map(|(at, prefix)| {
        let id = name.get(at..at + prefix.len() + UUID)?;
        let is_uuid = |at: char| at.is_ascii_hexdigit() || at == '-';
        id[prefix.len()..].chars().all(is_uuid).then_some(id)
    })
}

/// `0000-03-00-0-0x56c0`.
fn dashed_pci(name: &str) -> Option<PciAddress> {
    let mut parts = name.split('-');
    let (domain, bus) = (parts.next()?, parts.next()?);
    let (device, function) = (parts.next()?, parts.next()?);
    PciAddress::parse(&format!("{domain}:{bus}:{device}.{function}"))
}
