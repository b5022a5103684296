//! Which devices are meant by what is typed.

use super::super::name::Name;
use super::super::{FilterError, Problem};
use crate::gpu::Places;
use crate::v1::StreamGpuResponse;

/// Field of the messages.
const FIELD: &str = "devices";

/// Devices that someone wants; all where none is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DeviceMatcher(Vec<(String, Wanted)>);

/// What is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// A device by its number, with its parts.
    Index(u32),
    /// A part by its device's number and its own.
    Part(u32, u32),
    /// What is plugged in at an address as sysfs has it.
    Pci(String),
    /// A device with its parts, or a part, by its id.
    Id(Name),
}

/// What tells a device, or a part of one, from others. What is not known is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DevicePlace<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its number, of a part within what it is a part of.
    pub index: Option<u32>,
    /// Of a part: id and number of what it is a part of.
    pub parent: Option<(&'a str, Option<u32>)>,
    /// Where it is plugged in, as sysfs has it.
    pub pci: Option<&'a str>,
}

impl<'a> DevicePlace<'a> {
    /// Reads an event's.
    #[must_use]
    pub fn of_event(event: &'a StreamGpuResponse) -> Self {
        let is_part = !event.parent.is_empty();
        Self {
            id: &event.device,
            index: event.index,
            parent: is_part.then_some((event.parent.as_str(), event.parent_index)),
            pci: (!event.pci_address.is_empty()).then_some(event.pci_address.as_str()),
        }
    }

    /// Returns how it is told and typed: `0`, `0:1` for a part, else its id.
    #[must_use]
    pub fn label(&self) -> String {
        match (self.parent, self.index) {
            (None, Some(index)) => index.to_string(),
            (Some((_, Some(parent))), Some(index)) => format!("{parent}:{index}"),
            (_, _) => self.id.to_owned(),
        }
    }
}

impl DeviceMatcher {
    pub(super) fn new(values: &[String]) -> Result<Self, FilterError> {
        let wanted = |value: &String| Ok((value.clone(), Wanted::new(value)?));
        values.iter().map(wanted).collect::<Result<_, _>>().map(Self)
    }

    pub(super) const fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn matches(&self, place: &DevicePlace<'_>) -> bool {
        self.is_any() || self.0.iter().any(|(_, wanted)| wanted.matches(place))
    }

    /// Refuses what is none of the devices that are there. Where there are none, the answer says why.
    pub(super) fn check(&self, places: &Places<'_>) -> Result<(), FilterError> {
        let is_there = |wanted: &Wanted| places.all().any(|place| wanted.matches(&place));
        let missing = self.0.iter().find(|(_, wanted)| !is_there(wanted));
        match missing.filter(|_| !places.is_empty()) {
            Some((device, _)) => Err(FilterError {
                field: FIELD,
                problem: Problem::NoSuchDevice { device: device.clone(), there: places.told() },
            }),
            None => Ok(()),
        }
    }
}

impl Wanted {
    fn new(value: &str) -> Result<Self, FilterError> {
        let refuse =
            || FilterError { field: FIELD, problem: Problem::NotADevice(value.to_owned()) };
        if let Ok(index) = value.parse() {
            return Ok(Self::Index(index));
        }
        if let Some((device, part)) = value.split_once(':')
            && let (Ok(device), Ok(part)) = (device.parse(), part.parse())
        {
            return Ok(Self::Part(device, part));
        }
        if let Some(address) = pci_address(value) {
            return Ok(Self::Pci(address));
        }
        let is_id = |c: char| c.is_ascii_alphanumeric() || "-.:/_*".contains(c);
        // Every id has one: `GPU-…`, `pci-…`, `tpu-0`.
        if !value.contains(['-', '*']) || !value.chars().all(is_id) {
            return Err(refuse());
        }
        Name::new(FIELD, value).map(Self::Id)
    }

    fn matches(&self, place: &DevicePlace<'_>) -> bool {
        let DevicePlace { id, index, parent, pci } = *place;
        match (self, parent) {
            (Self::Index(wanted), None) => index == Some(*wanted),
            (Self::Index(wanted), Some((_, of))) => of == Some(*wanted),
            (Self::Part(device, part), Some((_, of))) => {
                of == Some(*device) && index == Some(*part)
            }
            (Self::Part(..), None) => false,
            (Self::Pci(address), _) => pci == Some(address),
            (Self::Id(name), parent) => {
                name.matches(Some(id)) || name.matches(parent.map(|(parent, _)| parent))
            }
        }
    }
}

/// Reads `00000000:1B:00.0`, `0000:1b:00.0` and `1b:00.0` as sysfs has it.
fn pci_address(text: &str) -> Option<String> {
    let mut parts = text.rsplitn(3, ':');
    let (slot, bus) = (parts.next()?, parts.next()?);
    let domain = u32::from_str_radix(parts.next().unwrap_or("0"), 16).ok()?;
    let bus = u8::from_str_radix(bus, 16).ok()?;
    let (device, function) = slot.split_once('.')?;
    let device = u8::from_str_radix(device, 16).ok().filter(|device| *device < 32)?;
    let function = u8::from_str_radix(function, 16).ok().filter(|function| *function < 8)?;
    Some(format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: DevicePlace<'_> =
        DevicePlace { id: "GPU-aa", index: Some(0), parent: None, pci: Some("0000:1b:00.0") };
    const PART: DevicePlace<'_> = DevicePlace {
        id: "MIG-bb",
        index: Some(1),
        parent: Some(("GPU-aa", Some(0))),
        pci: Some("0000:1b:00.0"),
    };
    const OTHER: DevicePlace<'_> =
        DevicePlace { id: "GPU-cc", index: Some(1), parent: None, pci: Some("0000:83:00.0") };

    #[test]
    fn a_device_is_meant_in_many_ways() {
        for (typed, expected) in [
            ("0", [true, true, false]),
            ("1", [false, false, true]),
            ("0:1", [false, true, false]),
            ("0:2", [false, false, false]),
            ("GPU-aa", [true, true, false]),
            ("GPU-*", [true, true, true]),
            ("MIG-bb", [false, true, false]),
            ("MIG-b", [false, false, false]),
            ("1b:00.0", [true, true, false]),
            ("00000000:1B:00.0", [true, true, false]),
            ("0000:83:00.0", [false, false, true]),
        ] {
            let matcher = DeviceMatcher::new(&[typed.to_owned()]).unwrap();
            let matched = [PARENT, PART, OTHER].map(|place| matcher.matches(&place));
            assert_eq!(matched, expected, "{typed}");
        }
        assert!(DeviceMatcher::default().matches(&DevicePlace::default()));
        let named = DeviceMatcher::new(&["0".to_owned()]).unwrap();
        assert!(!named.matches(&DevicePlace::default()), "no device is none of those named");
    }

    #[test]
    fn nonsense_is_refused() {
        for typed in ["", "gpu0", "0:", ":1", "0:1:2", "-1x y", "0,1", "GPU aa", "1b:00.9"] {
            let error = DeviceMatcher::new(&[typed.to_owned()]).unwrap_err();
            assert_eq!(error.problem, Problem::NotADevice(typed.to_owned()), "{typed}");
        }
        let error = DeviceMatcher::new(&["GPU-*-a".to_owned()]).unwrap_err();
        assert_eq!(error.problem, Problem::InnerWildcard("GPU-*-a".to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_typed_is_taken_or_refused(typed: String) {
            if let Ok(matcher) = DeviceMatcher::new(&[typed]) {
                matcher.matches(&PART);
            }
        }
    }

    #[test]
    fn labels_are_what_can_be_typed() {
        assert_eq!([PARENT, PART, OTHER].map(|place| place.label()), ["0", "0:1", "1"]);
        let nameless = DevicePlace { id: "tpu-3", ..DevicePlace::default() };
        assert_eq!(nameless.label(), "tpu-3");
        let orphan = DevicePlace { parent: Some(("GPU-gone", None)), ..PART };
        assert_eq!(orphan.label(), "MIG-bb");
    }
}
