//! What the multiprocessors do (GPM, Hopper and later): the difference between two samples.

use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::gpm::gpm_metrics_get;
use nvml_wrapper::{GpmSample, Nvml};

use crate::gpu::checked::Checked;
use crate::gpu::sample::{Busy, Ratio};

use super::call::{Asker, Call, Refused, Stop};

/// What is asked for, in the order in which [`Rates::take`] takes it.
const METRICS: [GpmMetricId; 12] = [
    GpmMetricId::GraphicsUtil,
    GpmMetricId::SmUtil,
    GpmMetricId::SmOccupancy,
    GpmMetricId::AnyTensorUtil,
    GpmMetricId::Fp64Util,
    GpmMetricId::Fp32Util,
    GpmMetricId::Fp16Util,
    GpmMetricId::DramBwUtil,
    GpmMetricId::PcieTxPerSec,
    GpmMetricId::PcieRxPerSec,
    GpmMetricId::NvlinkTotalTxPerSec,
    GpmMetricId::NvlinkTotalRxPerSec,
];

/// NVML tells GPM's rates in mebibytes a second.
const MEBIBYTE: f64 = 1_048_576.0;

/// Bytes a second that no link of a device comes near.
const FASTEST: f64 = 1e14;

/// The sample before, of a device or a MIG instance.
#[derive(Debug, Default)]
pub(super) struct Gpm<'nvml> {
    before: Option<GpmSample<'nvml>>,
}

/// What happened between two samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) engine: Option<Ratio>,
    pub(super) sm: Option<Ratio>,
    pub(super) sm_occupancy: Option<Ratio>,
    pub(super) tensor: Option<Ratio>,
    pub(super) fp64: Option<Ratio>,
    pub(super) fp32: Option<Ratio>,
    pub(super) fp16: Option<Ratio>,
    pub(super) dram: Option<Ratio>,
    /// Bytes a second.
    pub(super) pcie_tx: Option<u64>,
    /// Bytes a second.
    pub(super) pcie_rx: Option<u64>,
    /// Bytes a second.
    pub(super) nvlink_tx: Option<u64>,
    /// Bytes a second.
    pub(super) nvlink_rx: Option<u64>,
}

impl<'nvml> Gpm<'nvml> {
    /// Takes a sample, and returns what happened since the one before.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the device is not to be asked any further.
    pub(super) fn read(
        &mut self,
        asker: &mut Asker,
        refused: &mut Refused,
        nvml: &'nvml Nvml,
        take: impl FnOnce() -> Result<GpmSample<'nvml>, NvmlError>,
    ) -> Result<Rates, Stop> {
        let Some(sample) = asker.ask(refused, Call::GpmSample, take)? else {
            // Over a gap the difference would be told as this interval's.
            self.before = None;
            return Ok(Rates::default());
        };
        let Some(before) = self.before.replace(sample) else { return Ok(Rates::default()) };
        let Some(now) = &self.before else { return Ok(Rates::default()) };
        let values = asker.ask(refused, Call::GpmMetrics, || {
            let results = gpm_metrics_get(nvml, &before, now, &METRICS)?;
            Ok(results.into_iter().map(|result| result.ok().map(|metric| metric.value)).collect())
        })?;
        Ok(values.map_or_else(Rates::default, |values: Vec<Option<f64>>| {
            Rates::take(&mut asker.checked, &values)
        }))
    }
}

impl Rates {
    fn take(checked: &mut Checked, values: &[Option<f64>]) -> Self {
        let mut values = values.iter().copied();
        let mut next = || values.next().flatten();
        let percent = |checked: &mut Checked, value: Option<f64>| checked.percent(value?);
        let rate = |checked: &mut Checked, value: Option<f64>| {
            checked.within(value? * MEBIBYTE, 0.0, FASTEST).map(|bytes| bytes.round() as u64)
        };
        Self {
            engine: percent(checked, next()),
            sm: percent(checked, next()),
            sm_occupancy: percent(checked, next()),
            tensor: percent(checked, next()),
            fp64: percent(checked, next()),
            fp32: percent(checked, next()),
            fp16: percent(checked, next()),
            dram: percent(checked, next()),
            pcie_tx: rate(checked, next()),
            pcie_rx: rate(checked, next()),
            nvlink_tx: rate(checked, next()),
            nvlink_rx: rate(checked, next()),
        }
    }

    /// Puts the ratios where they belong.
    pub(super) fn put(&self, busy: &mut Busy) {
        let Self { engine, sm, sm_occupancy, tensor, fp64, fp32, fp16, dram, .. } = *self;
        *busy = Busy { engine, sm, sm_occupancy, tensor, fp64, fp32, fp16, dram, ..*busy };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_ratios_and_mebibytes_bytes() {
        let mut checked = Checked::default();
        let values: Vec<Option<f64>> =
            [98.5, 80.0, 50.0, 40.0, 0.0, 12.5, 25.0, 60.0, 2.0, 1.0, 100.0, 0.5].map(Some).into();
        let rates = Rates::take(&mut checked, &values);
        assert_eq!(rates.engine, Some(0.985));
        assert_eq!(rates.dram, Some(0.6));
        assert_eq!(rates.pcie_tx, Some(2 << 20));
        assert_eq!(rates.pcie_rx, Some(1 << 20));
        assert_eq!(rates.nvlink_tx, Some(100 << 20));
        assert_eq!(rates.nvlink_rx, Some(1 << 19));
        assert_eq!(checked.invalid, 0);
    }

    #[test]
    fn nonsense_is_left_out_and_what_is_missing_is_no_nonsense() {
        let mut checked = Checked::default();
        let values = [Some(f64::NAN), Some(-1.0), Some(250.0), None, Some(100.4)];
        let rates = Rates::take(&mut checked, &values);
        assert_eq!((rates.engine, rates.sm, rates.sm_occupancy), (None, None, None));
        assert_eq!(rates.tensor, None);
        assert_eq!(rates.fp64, Some(1.0), "a rounding error");
        assert_eq!(rates.pcie_tx, None);
        assert_eq!(checked.invalid, 3);
    }
}
