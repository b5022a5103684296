//! What profiling counters say between two samples (GPM).

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use super::play::Play;
use super::scenario::Quantity;
use super::status::{Answer, Status};
use super::target::Target;

static SAMPLES: LazyLock<Mutex<Samples>> = LazyLock::new(Mutex::default);

/// All samples, by number: what was freed is told from what is there.
#[derive(Default)]
struct Samples {
    last: usize,
    samples: HashMap<usize, Option<Sample>>,
}

/// When a sample was taken, and of what.
#[derive(Clone)]
pub(super) struct Sample {
    play: Arc<Play>,
    index: usize,
    place: Option<usize>,
    time: f64,
    /// What is sampled, as it was then.
    target: Arc<Target>,
}

fn samples() -> MutexGuard<'static, Samples> {
    SAMPLES.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn create() -> usize {
    let mut samples = samples();
    samples.last += 1;
    let number = samples.last;
    samples.samples.insert(number, None);
    number
}

pub(super) fn free(sample: usize) -> Answer<()> {
    samples().samples.remove(&sample).map(|_| ()).ok_or(Status::INVALID_ARGUMENT)
}

/// Takes a sample of a device or an instance.
pub(super) fn fill(sample: usize, target: Target) -> Answer<()> {
    if !target.device()?.gpm {
        return Err(Status::NOT_SUPPORTED);
    }
    let mut samples = samples();
    let slot = samples.samples.get_mut(&sample).ok_or(Status::INVALID_ARGUMENT)?;
    *slot = Some(Sample {
        play: Arc::clone(&target.now.play),
        index: target.index,
        place: target.place,
        time: target.now.time,
        target: Arc::new(target),
    });
    Ok(())
}

/// Returns two samples of the same thing, the earlier one first.
pub(super) fn pair(first: usize, second: usize) -> Answer<(Sample, Sample)> {
    let samples = samples();
    let find = |sample| -> Answer<Sample> {
        let slot = samples.samples.get(&sample).ok_or(Status::INVALID_ARGUMENT)?;
        slot.clone().ok_or(Status::INVALID_ARGUMENT)
    };
    let (first, second) = (find(first)?, find(second)?);
    let is_same = Arc::ptr_eq(&first.play, &second.play)
        && (first.index, first.place) == (second.index, second.place);
    if !is_same || first.time >= second.time {
        return Err(Status::INVALID_ARGUMENT);
    }
    Ok((first, second))
}

/// What is told, by NVML's number.
pub(super) struct Metric {
    pub(super) id: u32,
    pub(super) name: &'static CStr,
    pub(super) unit: &'static CStr,
    kind: Kind,
}

enum Kind {
    /// Of a quantity; where it is derived, that part of how busy the device is.
    Activity(Quantity, f64),
    /// MiB a second.
    Rate(Quantity),
}

const PERCENT: &CStr = c"%";
const MIB: &CStr = c"MiB/s";

use Kind::{Activity, Rate};
use Quantity::{
    Decoder, GpmDram, GpmEngine, GpmFp16, GpmFp32, GpmFp64, GpmInteger, GpmOccupancy, GpmSm,
    GpmTensor, NvLinkRx, NvLinkTx, PcieRx, PcieTx,
};

const fn metric(id: u32, name: &'static CStr, unit: &'static CStr, kind: Kind) -> Metric {
    Metric { id, name, unit, kind }
}

/// How much of its time a busy device's units work, where the scenario does not say: a training step's
/// usual figures.
pub(super) const METRICS: [Metric; 18] = [
    metric(1, c"Graphics Utilization", PERCENT, Activity(GpmEngine, 1.0)),
    metric(2, c"SM Utilization", PERCENT, Activity(GpmSm, 0.85)),
    metric(3, c"SM Occupancy", PERCENT, Activity(GpmOccupancy, 0.42)),
    metric(4, c"Integer Utilization", PERCENT, Activity(GpmInteger, 0.2)),
    metric(5, c"Any Tensor Utilization", PERCENT, Activity(GpmTensor, 0.5)),
    metric(6, c"DFMA Tensor Utilization", PERCENT, Activity(GpmFp64, 0.0)),
    metric(7, c"HMMA Tensor Utilization", PERCENT, Activity(GpmTensor, 0.5)),
    metric(9, c"IMMA Tensor Utilization", PERCENT, Activity(GpmInteger, 0.0)),
    metric(10, c"DRAM Bandwidth Utilization", PERCENT, Activity(GpmDram, 0.45)),
    metric(11, c"FP64 Utilization", PERCENT, Activity(GpmFp64, 0.0)),
    metric(12, c"FP32 Utilization", PERCENT, Activity(GpmFp32, 0.2)),
    metric(13, c"FP16 Utilization", PERCENT, Activity(GpmFp16, 0.1)),
    metric(20, c"PCIe Tx", MIB, Rate(PcieTx)),
    metric(21, c"PCIe Rx", MIB, Rate(PcieRx)),
    metric(30, c"NVDEC 0 Utilization", PERCENT, Activity(Decoder, 0.0)),
    metric(40, c"NVJPG 0 Utilization", PERCENT, Activity(GpmFp64, 0.0)),
    metric(60, c"NVLink Total Rx", MIB, Rate(NvLinkRx)),
    metric(61, c"NVLink Total Tx", MIB, Rate(NvLinkTx)),
];

impl Metric {
    /// Returns its value between two samples.
    pub(super) fn between(&self, first: &Sample, second: &Sample) -> Answer<f64> {
        let target = &second.target;
        match self.kind {
            Activity(quantity, part) => target.activity(quantity, part, first.time, second.time),
            Rate(NvLinkRx | NvLinkTx) if target.device()?.links == 0 => Err(Status::NOT_SUPPORTED),
            // Of an instance it is not known.
            Rate(_) if target.place.is_some() => Err(Status::NOT_SUPPORTED),
            Rate(quantity) => {
                let curve = target.device()?.curve(quantity).ok_or(Status::NOT_SUPPORTED)?;
                let bytes = super::curve::mean(first.time, second.time, |time| curve.value(time));
                Ok(bytes / 1_048_576.0)
            }
        }
    }
}
