//! What of a device changes with time.

use super::super::curve::Curve;

/// What a quantity is set to.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Setting {
    Given(Curve),
    /// From others.
    Derived,
    /// The device does not have it.
    Unsupported,
}

impl Setting {
    pub(super) fn of(default: &Preset) -> Self {
        match default {
            Preset::Is(value) => Self::Given(Curve::Constant(*value)),
            Preset::Derived => Self::Derived,
            Preset::Unsupported => Self::Unsupported,
        }
    }
}

/// What a quantity is where the scenario does not say.
pub(in super::super) enum Preset {
    Is(f64),
    Derived,
    Unsupported,
}

macro_rules! quantities {
    ($($name:ident $key:literal $default:expr;)*) => {
        /// What of a device changes with time.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in super::super) enum Quantity { $($name),* }

        /// Every quantity, in this order, with its name in files and its default.
        pub(in super::super) const QUANTITIES: &[(Quantity, &str, Preset)] =
            &[$((Quantity::$name, $key, $default)),*];
    };
}

use Preset::{Derived, Is, Unsupported};

quantities! {
    Memory "memory" Is(17_179_869_184.0);
    Reserved "memory.reserved" Is(536_870_912.0);
    OtherMemory "memory.other" Is(0.0);
    Utilization "utilization" Derived;
    MemoryUtilization "utilization.memory" Derived;
    Encoder "utilization.encoder" Is(0.0);
    Decoder "utilization.decoder" Is(0.0);
    Temperature "temperature" Is(40.0);
    MemoryTemperature "temperature.memory" Unsupported;
    Slowdown "temperature.slowdown" Is(92.0);
    Shutdown "temperature.shutdown" Is(95.0);
    HottestGpu "temperature.max" Is(87.0);
    HottestMemory "temperature.memory.max" Is(95.0);
    Power "power" Is(70.0);
    PowerLimit "power.limit" Is(300.0);
    SmClock "clock.sm" Is(1410.0);
    MemoryClock "clock.memory" Is(1593.0);
    VideoClock "clock.video" Is(1275.0);
    MaxSmClock "clock.sm.max" Is(1410.0);
    MaxMemoryClock "clock.memory.max" Is(1593.0);
    MaxVideoClock "clock.video.max" Is(1290.0);
    PerformanceState "pstate" Is(0.0);
    Fan "fan" Unsupported;
    PcieTx "pcie.tx" Is(0.0);
    PcieRx "pcie.rx" Is(0.0);
    PcieReplays "pcie.replays" Is(0.0);
    PcieGeneration "pcie.generation" Is(4.0);
    PcieWidth "pcie.width" Is(16.0);
    PcieMaxGeneration "pcie.generation.max" Is(4.0);
    PcieMaxWidth "pcie.width.max" Is(16.0);
    NvLinkTx "nvlink.tx" Is(0.0);
    NvLinkRx "nvlink.rx" Is(0.0);
    NvLinkCrc "nvlink.crc" Is(0.0);
    NvLinkReplays "nvlink.replays" Is(0.0);
    NvLinkRecoveries "nvlink.recoveries" Is(0.0);
    EccCorrected "ecc.corrected" Is(0.0);
    EccUncorrected "ecc.uncorrected" Is(0.0);
    EccCorrectedBefore "ecc.corrected.before" Is(0.0);
    EccUncorrectedBefore "ecc.uncorrected.before" Is(0.0);
    RowsCorrectable "rows.correctable" Is(0.0);
    RowsUncorrectable "rows.uncorrectable" Is(0.0);
    RowsPending "rows.pending" Is(0.0);
    RowsFailed "rows.failed" Is(0.0);
    RetiredPages "pages.retired" Unsupported;
    GpmEngine "gpm.engine" Derived;
    GpmSm "gpm.sm" Derived;
    GpmOccupancy "gpm.occupancy" Derived;
    GpmInteger "gpm.integer" Derived;
    GpmTensor "gpm.tensor" Derived;
    GpmDram "gpm.dram" Derived;
    GpmFp64 "gpm.fp64" Derived;
    GpmFp32 "gpm.fp32" Derived;
    GpmFp16 "gpm.fp16" Derived;
}
