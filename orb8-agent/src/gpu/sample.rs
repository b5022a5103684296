//! One reading of a device. What its source does not tell, or the device does not have, is `None`:
//! never 0, never a sentinel.

use std::time::Duration;

use crate::event::UnixNanos;

/// A part of a whole, 0 to 1. Sources clamp what is a rounding error beyond it, and leave out what is
/// not (NaN, negative, a sentinel).
pub type Ratio = f64;

/// How a device was at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// When it was read.
    pub time: UnixNanos,
    /// How busy it was since the reading before.
    pub busy: Busy,
    /// Its memory, bytes.
    pub memory: Memory,
    /// How hot it is.
    pub temperature: Temperature,
    /// What it draws.
    pub power: Power,
    /// How fast it runs.
    pub clocks: Clocks,
    /// Whether something holds it back.
    pub throttle: Throttle,
    /// Its link to the machine.
    pub pcie: Pcie,
    /// Its links to others; `None` where it has none.
    pub nvlink: Option<NvLink>,
    /// Errors of its memory; `None` where it does not count them.
    pub ecc: Option<Ecc>,
    /// Rows of its memory that spares stand in for; `None` where it cannot do that.
    pub rows: Option<RemappedRows>,
    /// Performance state, 0 the fastest.
    pub performance_state: Option<u8>,
    /// Whether the driver stays loaded when nobody uses the device.
    pub persistence_mode: Option<bool>,
}

/// How busy a device was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Busy {
    /// Time in which any kernel ran (NVML's and DCGM's `utilization`).
    pub gpu: Option<Ratio>,
    /// Time in which its memory was read or written.
    pub memory: Option<Ratio>,
    /// Time in which the video encoder was used.
    pub encoder: Option<Ratio>,
    /// Time in which the video decoder was used.
    pub decoder: Option<Ratio>,
    /// Time in which the graphics or compute engine was active (profiling).
    pub engine: Option<Ratio>,
    /// Multiprocessors with a warp on them (profiling), averaged.
    pub sm: Option<Ratio>,
    /// Warps on multiprocessors, of those that fit (profiling).
    pub sm_occupancy: Option<Ratio>,
    /// Cycles in which tensor cores were active (profiling).
    pub tensor: Option<Ratio>,
    /// Cycles in which double-precision units were active (profiling).
    pub fp64: Option<Ratio>,
    /// Cycles in which single-precision units were active (profiling).
    pub fp32: Option<Ratio>,
    /// Cycles in which half-precision units were active (profiling).
    pub fp16: Option<Ratio>,
    /// Cycles in which device memory sent or received (profiling).
    pub dram: Option<Ratio>,
}

impl Busy {
    /// Returns the one figure that the device's time is: what the driver calls its utilization; of a
    /// part, and where there is none, what profiling says of its engine, else of its multiprocessors.
    #[must_use]
    pub fn figure(&self) -> Option<Ratio> {
        let figure = self.gpu.or(self.engine).or(self.sm);
        figure.filter(|busy| busy.is_finite() && *busy >= 0.0).map(|busy| busy.min(1.0))
    }
}

/// A device's memory, bytes. `used + reserved + free = total` where all are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: Option<u64>,
    /// What processes have, contexts included.
    pub used: Option<u64>,
    /// What the driver and firmware keep for themselves.
    pub reserved: Option<u64>,
    /// What nobody has.
    pub free: Option<u64>,
}

/// Degrees Celsius.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Temperature {
    /// Of the chip.
    pub gpu: Option<f64>,
    /// Of its memory.
    pub memory: Option<f64>,
    /// At which it slows down.
    pub slowdown: Option<f64>,
    /// At which it shuts down.
    pub shutdown: Option<f64>,
}

/// Watts and joules.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Power {
    /// What it draws, watts.
    pub draw: Option<f64>,
    /// What it may draw, watts.
    pub limit: Option<f64>,
    /// What it has used since the driver was loaded, millijoules; starts again then.
    pub energy_mj: Option<u64>,
}

/// Megahertz.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// Multiprocessors.
    pub sm: Option<u32>,
    /// Memory.
    pub memory: Option<u32>,
    /// Video.
    pub video: Option<u32>,
    /// Multiprocessors at most.
    pub max_sm: Option<u32>,
    /// Memory at most.
    pub max_memory: Option<u32>,
}

/// What holds a device back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// What does now; `None` where the device does not say.
    pub reasons: Option<Vec<ThrottleReason>>,
    /// Time lost to each since the driver was loaded, where the device counts it.
    pub lost: Vec<(ThrottleReason, Duration)>,
}

/// Why a device runs slower than it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ThrottleReason {
    /// Nothing runs on it. No loss.
    Idle,
    /// Somebody set its clocks. No loss.
    ApplicationClocks,
    /// Its power limit.
    PowerCap,
    /// The hardware slowed it: heat, power brake, or a drop of voltage.
    HardwareSlowdown,
    /// The slowest of a sync-boost group.
    SyncBoost,
    /// Too hot, by the driver's measure.
    SoftwareThermal,
    /// Too hot, by the hardware's measure.
    HardwareThermal,
    /// The machine's power supply asks it to.
    PowerBrake,
    /// Somebody set the display's clocks. No loss.
    DisplayClocks,
    /// The board's own limit (violation counters only).
    BoardLimit,
    /// Too little voltage or current for more (violation counters only).
    Reliability,
    /// Something that has no name here.
    Other,
}

impl ThrottleReason {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::Idle,
        Self::ApplicationClocks,
        Self::PowerCap,
        Self::HardwareSlowdown,
        Self::SyncBoost,
        Self::SoftwareThermal,
        Self::HardwareThermal,
        Self::PowerBrake,
        Self::DisplayClocks,
        Self::BoardLimit,
        Self::Reliability,
        Self::Other,
    ];

    /// Returns its name as in labels and filters.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::ApplicationClocks => "application-clocks",
            Self::PowerCap => "power-cap",
            Self::HardwareSlowdown => "hardware-slowdown",
            Self::SyncBoost => "sync-boost",
            Self::SoftwareThermal => "software-thermal",
            Self::HardwareThermal => "hardware-thermal",
            Self::PowerBrake => "power-brake",
            Self::DisplayClocks => "display-clocks",
            Self::BoardLimit => "board-limit",
            Self::Reliability => "reliability",
            Self::Other => "other",
        }
    }

    /// Whether work is lost by it.
    #[must_use]
    pub const fn is_loss(self) -> bool {
        !matches!(self, Self::Idle | Self::ApplicationClocks | Self::DisplayClocks)
    }
}

/// A device's link to the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pcie {
    /// Bytes a second to the machine.
    pub tx_rate: Option<u64>,
    /// Bytes a second from the machine.
    pub rx_rate: Option<u64>,
    /// Packets that had to be sent again since the driver was loaded.
    pub replays: Option<u64>,
    /// Generation as it is now; an idle link may be slower.
    pub generation: Option<u32>,
    /// Lanes as they are now.
    pub width: Option<u32>,
    /// Generation at most, of device and slot together.
    pub max_generation: Option<u32>,
    /// Lanes at most.
    pub max_width: Option<u32>,
}

/// A device's links to others, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NvLink {
    /// Links that it has; 0 where its source does not say.
    pub links: u32,
    /// Of them, those that are up.
    pub active: u32,
    /// Bytes sent since the driver was loaded.
    pub tx_bytes: Option<u64>,
    /// Bytes received since then.
    pub rx_bytes: Option<u64>,
    /// Bytes a second sent (profiling).
    pub tx_rate: Option<u64>,
    /// Bytes a second received (profiling).
    pub rx_rate: Option<u64>,
    /// Damaged flits and packets since the driver was loaded.
    pub crc_errors: Option<u64>,
    /// Packets sent again since then.
    pub replays: Option<u64>,
    /// Times that a link was trained again since then.
    pub recoveries: Option<u64>,
}

/// Errors of a device's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ecc {
    /// Whether they are looked for.
    pub is_enabled: bool,
    /// Mended, since the driver was loaded.
    pub corrected: Option<u64>,
    /// Not mended, since the driver was loaded.
    pub uncorrected: Option<u64>,
    /// Mended, in the board's life.
    pub corrected_lifetime: Option<u64>,
    /// Not mended, in the board's life.
    pub uncorrected_lifetime: Option<u64>,
}

/// Rows of a device's memory that spares stand in for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemappedRows {
    /// For errors that could be mended.
    pub correctable: u64,
    /// For errors that could not.
    pub uncorrectable: u64,
    /// Whether one waits for a reset of the device.
    pub is_pending: bool,
    /// Whether there was no spare left: the board is to be replaced.
    pub has_failed: bool,
}
