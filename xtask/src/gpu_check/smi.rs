//! What nvidia-smi says of the devices.

use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace::{Unavailable, output};

/// What is asked for, in this order.
const FIELDS: &str = "uuid,index,name,driver_version,memory.total,memory.used,utilization.gpu,\
                      temperature.gpu,power.draw,clocks.sm,clocks.mem,pcie.link.gen.max,\
                      pcie.link.width.max,ecc.errors.uncorrected.volatile.total";

/// One device. What it does not have is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Device {
    pub(super) uuid: String,
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) driver: String,
    /// MiB.
    pub(super) memory_total: Option<f64>,
    /// MiB.
    pub(super) memory_used: Option<f64>,
    /// Per cent.
    pub(super) utilization: Option<f64>,
    /// Degrees Celsius.
    pub(super) temperature: Option<f64>,
    /// Watts.
    pub(super) power: Option<f64>,
    /// Megahertz.
    pub(super) sm_clock: Option<f64>,
    /// Megahertz.
    pub(super) memory_clock: Option<f64>,
    pub(super) max_generation: Option<f64>,
    pub(super) max_width: Option<f64>,
    pub(super) uncorrected: Option<f64>,
}

/// Asks nvidia-smi.
///
/// # Errors
/// [`Unavailable`] where there is none, or no device.
pub(super) fn read() -> Result<Vec<Device>> {
    let mut command = Command::new("nvidia-smi");
    command.arg(format!("--query-gpu={FIELDS}")).arg("--format=csv,noheader,nounits");
    let text = output(&mut command).map_err(|error| {
        Unavailable(format!("this has not run: no NVIDIA GPU is here ({error:#})"))
    })?;
    let devices: Option<Vec<Device>> = text.lines().map(parse).collect();
    devices.with_context(|| format!("nvidia-smi said {text:?}"))
}

fn parse(line: &str) -> Option<Device> {
    let mut cells = line.split(',').map(str::trim);
    let mut text = || cells.next().map(str::to_owned);
    let (uuid, index, name, driver) = (text()?, text()?.parse().ok()?, text()?, text()?);
    let mut number = || cells.next().map(|cell| cell.parse().ok());
    let device = Device {
        uuid,
        index,
        name,
        driver,
        memory_total: number()?,
        memory_used: number()?,
        utilization: number()?,
        temperature: number()?,
        power: number()?,
        sm_clock: number()?,
        memory_clock: number()?,
        max_generation: number()?,
        max_width: number()?,
        uncorrected: number()?,
    };
    Some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_does_not_have_is_not_zero() {
        let line = "GPU-1, 0, NVIDIA H100 80GB HBM3, 550.163.01, 81559, 4, 0, 31, 69.21, 345, 2619, \
                    5, 16, [N/A]";
        let device = parse(line).unwrap();
        assert_eq!((device.index, &*device.name), (0, "NVIDIA H100 80GB HBM3"));
        assert_eq!((device.memory_total, device.power), (Some(81559.0), Some(69.21)));
        assert_eq!((device.max_width, device.uncorrected), (Some(16.0), None));
        assert_eq!(parse("GPU-1, 0, NVIDIA"), None);
    }
}
