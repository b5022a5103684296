//! A device's sensors, as all drivers tell them: `hwmonN/<kind><number>_<what>`.

use std::path::PathBuf;

use super::checked::Checked;
use super::sysfs::{Card, number, text};

/// More than any device has of one kind.
const MOST: u32 = 16;

/// The sensors of one device.
#[derive(Clone, Debug)]
pub(super) struct Sensors(PathBuf);

impl Sensors {
    /// Finds a card's sensors.
    pub(super) fn of(card: &Card) -> Option<Self> {
        card.sensors().map(Self)
    }

    /// Returns a temperature by the sensor's label, degrees: its value, or a threshold of it.
    pub(super) fn celsius(&self, label: &str, what: &str, checked: &mut Checked) -> Option<f64> {
        let sensor = (1..=MOST).find(|number| {
            text(&self.0.join(format!("temp{number}_label"))).is_some_and(|is| is == label)
        })?;
        let millidegrees = number::<f64>(&self.0.join(format!("temp{sensor}_{what}")))?;
        // A threshold of 0 is one that is not set.
        let degrees = checked.celsius(millidegrees / 1000.0)?;
        (what == "input" || degrees > 0.0).then_some(degrees)
    }

    /// Returns watts by the first of some files that there is.
    pub(super) fn watts(&self, names: &[&str], checked: &mut Checked) -> Option<f64> {
        let microwatts = names.iter().find_map(|name| number::<f64>(&self.0.join(name)))?;
        checked.watts(microwatts / 1e6)
    }

    /// Returns what was used since the driver was loaded, microjoules.
    pub(super) fn microjoules(&self, name: &str) -> Option<u64> {
        number(&self.0.join(name))
    }

    /// Returns a clock, megahertz.
    pub(super) fn megahertz(&self, name: &str, checked: &mut Checked) -> Option<u32> {
        let hertz = number::<f64>(&self.0.join(name))?;
        checked.megahertz(hertz / 1e6)
    }
}
