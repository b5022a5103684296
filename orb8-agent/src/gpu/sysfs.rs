//! Small files of the kernel's, and what drivers share in `/sys/class/drm`.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::checked::Checked;
use super::device::PciAddress;
use super::sample::Pcie;

/// An attribute is a page at most.
const LARGEST: u64 = 64 << 10;

/// Where everything is that is plugged in.
pub(super) const PCI: &str = "bus/pci/devices";

/// More than any machine has.
const MOST_CARDS: usize = 256;

/// A device that has a node in `/dev/dri`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Card {
    /// `…/class/drm/cardN`.
    pub(super) path: PathBuf,
    /// Its device's folder: what the driver offers.
    pub(super) device: PathBuf,
    /// Name of its driver: `amdgpu`.
    pub(super) driver: String,
    /// PCI's number of who makes it.
    pub(super) vendor: u32,
    /// PCI's number of the product.
    pub(super) product: u32,
    /// Where it is plugged in.
    pub(super) pci: PciAddress,
    /// The number in `/dev/dri/renderDN`.
    pub(super) render: Option<u32>,
}

/// Whether something of a vendor's (`0x10de`) is plugged in, or nobody can tell. Touches no device.
pub(super) fn may_have(sys: &Path, vendor: &str) -> bool {
    let folder = sys.join(PCI);
    let names = entries(&folder);
    let is_it =
        |name: &String| text(&folder.join(name).join("vendor")).is_some_and(|it| it == vendor);
    names.is_empty() || names.iter().any(is_it)
}

/// Lists the cards that are PCI devices with a driver, by address. Touches no device.
pub(super) fn cards(sys: &Path) -> Vec<Card> {
    let names = entries(&sys.join("class/drm"));
    let mut cards: Vec<_> = names
        .iter()
        .filter(|name| numbered(name, "card").is_some())
        .take(MOST_CARDS)
        .filter_map(|name| card(&sys.join("class/drm").join(name)))
        .collect();
    cards.sort_by(|one, other| one.pci.cmp(&other.pci));
    // A device may have a second card that only drives displays.
    cards.dedup_by(|one, other| one.pci == other.pci);
    cards
}

fn card(path: &Path) -> Option<Card> {
    let device = path.join("device");
    let pci = PciAddress::parse(&link_name(&device)?)?;
    let renders = entries(&device.join("drm"));
    Some(Card {
        driver: link_name(&device.join("driver"))?,
        vendor: hexadecimal(&device.join("vendor"))?,
        product: hexadecimal(&device.join("device")).unwrap_or(0),
        pci,
        render: renders.iter().find_map(|name| numbered(name, "renderD")),
        path: path.to_owned(),
        device,
    })
}

impl Card {
    /// Whether the driver put it to sleep; reading some of its files would wake it up.
    pub(super) fn is_asleep(&self) -> bool {
        text(&self.device.join("power/runtime_status")).is_some_and(|status| status == "suspended")
    }

    /// Returns the folder of its sensors.
    pub(super) fn sensors(&self) -> Option<PathBuf> {
        let folder = self.device.join("hwmon");
        let name = entries(&folder).into_iter().find(|name| name.starts_with("hwmon"))?;
        Some(folder.join(name))
    }

    /// Reads the state of its link.
    pub(super) fn link(&self, checked: &mut Checked) -> Pcie {
        let width = |name: &str| {
            let lanes = number::<f64>(&self.device.join(name))?;
            // Within the bounds it fits. 255 and 0 stand for unknown.
            checked_lanes(lanes)
        };
        let generation = |name: &str| generation(&text(&self.device.join(name))?);
        let replays = number::<f64>(&self.device.join("pcie_replay_count"));
        Pcie {
            generation: generation("current_link_speed"),
            max_generation: generation("max_link_speed"),
            width: width("current_link_width"),
            max_width: width("max_link_width"),
            replays: replays.and_then(|count| checked.count(count)),
            ..Pcie::default()
        }
    }
}

fn checked_lanes(lanes: f64) -> Option<u32> {
    // Within the bounds it fits.
    (1.0..=64.0).contains(&lanes).then_some(lanes as u32)
}

/// Returns PCI's generation by the speed of its lanes, `32.0 GT/s PCIe`.
fn generation(speed: &str) -> Option<u32> {
    let speed = speed.split_ascii_whitespace().next()?;
    let speeds = ["2.5", "5.0", "8.0", "16.0", "32.0", "64.0", "128.0"];
    let at =
        speeds.iter().position(|known| *known == speed || known.trim_end_matches(".0") == speed)?;
    u32::try_from(at + 1).ok()
}

/// Reads an attribute, without the line's end.
pub(super) fn text(path: &Path) -> Option<String> {
    let bytes = bytes(path)?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Reads an attribute that is no text.
pub(super) fn bytes(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LARGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Reads an attribute that is a number.
pub(super) fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    text(path)?.parse().ok()
}

fn hexadecimal(path: &Path) -> Option<u32> {
    u32::from_str_radix(text(path)?.strip_prefix("0x")?, 16).ok()
}

/// Returns the last part of what a link points to.
pub(super) fn link_name(path: &Path) -> Option<String> {
    Some(fs::read_link(path).ok()?.file_name()?.to_str()?.to_owned())
}

/// Returns the names in a folder, none where there is no such folder.
pub(super) fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

/// Returns the number of a name that is a word and a number.
pub(super) fn numbered(name: &str, word: &str) -> Option<u32> {
    name.strip_prefix(word)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendors_devices_are_found_and_nobody_is_left_out_without_pci() {
        let sys = tempfile::tempdir().unwrap();
        assert!(may_have(sys.path(), "0x10de"), "nobody can tell");
        for (address, vendor) in [("0000:00:01.0", "0x8086\n"), ("0000:1b:00.0", "0x10de\n")] {
            let folder = sys.path().join(PCI).join(address);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("vendor"), vendor).unwrap();
        }
        assert!(may_have(sys.path(), "0x10de") && !may_have(sys.path(), "0x1002"));
    }

    #[test]
    fn speeds_are_generations() {
        assert_eq!(generation("2.5 GT/s PCIe"), Some(1));
        assert_eq!(generation("8 GT/s"), Some(3));
        assert_eq!(generation("32.0 GT/s PCIe"), Some(5));
        assert_eq!(generation("Unknown speed"), None);
    }

    #[test]
    fn no_lanes_are_unknown_lanes() {
        assert_eq!(checked_lanes(16.0), Some(16));
        assert_eq!((checked_lanes(0.0), checked_lanes(255.0)), (None, None));
    }
}
