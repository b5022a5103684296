//! One question to the driver: which it is, and what its refusal means.

use nvml_wrapper::error::NvmlError;

use crate::gpu::checked::Checked;

use super::progress::Progress;

/// NVML's code for a structure of a version that the driver does not know.
const ARGUMENT_VERSION_MISMATCH: u32 = 25;
/// NVML's code for a call that the driver has given up.
const DEPRECATED: u32 = 26;
/// NVML's code for a value that is not there yet.
const NOT_READY: u32 = 27;

/// A call to the driver, by what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Call {
    Init,
    DeviceCount,
    Handle,
    Uuid,
    Identity,
    EventSet,
    RegisterEvents,
    MigMode,
    MigCount,
    MigHandle,
    MigIds,
    Attributes,
    Thresholds,
    PowerLimit,
    MaxClocks,
    MaxPcie,
    GpmSupport,
    Utilization,
    Encoder,
    Decoder,
    Memory,
    MemoryOld,
    Temperature,
    Power,
    Energy,
    ClockSm,
    ClockMemory,
    ClockVideo,
    EventReasons,
    ThrottleReasons,
    Violations,
    PcieThroughput,
    PcieReplays,
    PcieLink,
    NvLinkState,
    EccMode,
    EccErrors,
    RemappedRows,
    PersistenceMode,
    PerformanceState,
    Fields,
    GpmSample,
    GpmMetrics,
    ComputeProcesses,
    ComputeProcessesOld,
    GraphicsProcesses,
    GraphicsProcessesOld,
    MpsProcesses,
    ProcessUtilization,
}

impl Call {
    /// Returns the function's name, for who has to look further.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Init => "nvmlInit",
            Self::DeviceCount => "nvmlDeviceGetCount",
            Self::Handle => "nvmlDeviceGetHandleByIndex",
            Self::Uuid => "nvmlDeviceGetUUID",
            Self::Identity => "nvmlDeviceGetPciInfo",
            Self::EventSet => "nvmlEventSetCreate",
            Self::RegisterEvents => "nvmlDeviceRegisterEvents",
            Self::MigMode => "nvmlDeviceGetMigMode",
            Self::MigCount => "nvmlDeviceGetMaxMigDeviceCount",
            Self::MigHandle => "nvmlDeviceGetMigDeviceHandleByIndex",
            Self::MigIds => "nvmlDeviceGetGpuInstanceId",
            Self::Attributes => "nvmlDeviceGetAttributes",
            Self::Thresholds => "nvmlDeviceGetTemperatureThreshold",
            Self::PowerLimit => "nvmlDeviceGetEnforcedPowerLimit",
            Self::MaxClocks => "nvmlDeviceGetMaxClockInfo",
            Self::MaxPcie => "nvmlDeviceGetMaxPcieLinkGeneration",
            Self::GpmSupport => "nvmlGpmQueryDeviceSupport",
            Self::Utilization => "nvmlDeviceGetUtilizationRates",
            Self::Encoder => "nvmlDeviceGetEncoderUtilization",
            Self::Decoder => "nvmlDeviceGetDecoderUtilization",
            Self::Memory | Self::MemoryOld => "nvmlDeviceGetMemoryInfo",
            Self::Temperature => "nvmlDeviceGetTemperature",
            Self::Power => "nvmlDeviceGetPowerUsage",
            Self::Energy => "nvmlDeviceGetTotalEnergyConsumption",
            Self::ClockSm | Self::ClockMemory | Self::ClockVideo => "nvmlDeviceGetClockInfo",
            Self::EventReasons => "nvmlDeviceGetCurrentClocksEventReasons",
            Self::ThrottleReasons => "nvmlDeviceGetCurrentClocksThrottleReasons",
            Self::Violations => "nvmlDeviceGetViolationStatus",
            Self::PcieThroughput => "nvmlDeviceGetPcieThroughput",
            Self::PcieReplays => "nvmlDeviceGetPcieReplayCounter",
            Self::PcieLink => "nvmlDeviceGetCurrPcieLinkGeneration",
            Self::NvLinkState => "nvmlDeviceGetNvLinkState",
            Self::EccMode => "nvmlDeviceGetEccMode",
            Self::EccErrors => "nvmlDeviceGetTotalEccErrors",
            Self::RemappedRows => "nvmlDeviceGetRemappedRows",
            Self::PersistenceMode => "nvmlDeviceGetPersistenceMode",
            Self::PerformanceState => "nvmlDeviceGetPerformanceState",
            Self::Fields => "nvmlDeviceGetFieldValues",
            Self::GpmSample => "nvmlGpmSampleGet",
            Self::GpmMetrics => "nvmlGpmMetricsGet",
            Self::ComputeProcesses | Self::ComputeProcessesOld => {
                "nvmlDeviceGetComputeRunningProcesses"
            }
            Self::GraphicsProcesses | Self::GraphicsProcessesOld => {
                "nvmlDeviceGetGraphicsRunningProcesses"
            }
            Self::MpsProcesses => "nvmlDeviceGetMPSComputeRunningProcesses",
            Self::ProcessUtilization => "nvmlDeviceGetProcessUtilization",
        }
    }
}

/// Why a device is not asked any further this time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It is lost, by what its driver says.
    Lost(String),
    /// The driver is gone, or another one has come.
    Unloaded(String),
    /// This thread was left behind, and another one asks.
    Left,
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The device or driver does not have it: it is not asked for again.
    Unsupported,
    /// There is nothing to tell just now.
    NoSample,
    /// The handle is of a device that is no longer there, perhaps.
    Invalid,
    /// It went wrong.
    Failed,
    Lost,
    Unloaded,
}

impl Refusal {
    const fn of(error: &NvmlError) -> Self {
        match error {
            NvmlError::NotSupported
            | NvmlError::NoPermission
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_)
            | NvmlError::VgpuEccNotSupported
            | NvmlError::UnexpectedVariant(ARGUMENT_VERSION_MISMATCH | DEPRECATED) => {
                Self::Unsupported
            }
            NvmlError::NotFound | NvmlError::NoData | NvmlError::UnexpectedVariant(NOT_READY) => {
                Self::NoSample
            }
            NvmlError::InvalidArg => Self::Invalid,
            NvmlError::GpuLost | NvmlError::ResetRequired => Self::Lost,
            NvmlError::Uninitialized
            | NvmlError::DriverNotLoaded
            | NvmlError::LibRmVersionMismatch => Self::Unloaded,
            _ => Self::Failed,
        }
    }
}

/// What a device was asked and did not answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused {
    calls: u64,
    /// Whether its handle has to be looked up again.
    pub(super) is_suspect: bool,
}

impl Refused {
    /// Whether a call is not made any more.
    pub(super) const fn has(&self, call: Call) -> bool {
        self.calls & (1 << call as u8) != 0
    }

    /// Notes that a call is not made any more.
    pub(super) const fn add(&mut self, call: Call) {
        self.calls |= 1 << call as u8;
    }
}

/// Asks the driver, and keeps account of it.
#[derive(Debug)]
pub(super) struct Asker {
    /// Where others see what this thread waits for.
    pub(super) progress: std::sync::Arc<Progress>,
    /// What answers made no sense.
    pub(super) checked: Checked,
    /// Answers that there were in this round, of the device that is asked.
    pub(super) answers: u32,
    /// Values that were asked for and could not be told, since start.
    pub(super) failures: u64,
    /// The last of them, of the device that is asked.
    pub(super) last_failure: Option<(Call, NvmlError)>,
    /// The last of them of all, with its device.
    pub(super) last_unread: Option<String>,
}

impl Asker {
    /// Begins with nothing known.
    pub(super) fn new(progress: std::sync::Arc<Progress>) -> Self {
        Self {
            progress,
            checked: Checked::default(),
            answers: 0,
            failures: 0,
            last_failure: None,
            last_unread: None,
        }
    }

    /// Begins with another device.
    pub(super) fn begin(&mut self) {
        self.answers = 0;
        self.last_failure = None;
    }

    /// Makes a call that a device may not have: then it is remembered and not made again.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the device is not to be asked any further.
    pub(super) fn ask<T>(
        &mut self,
        refused: &mut Refused,
        call: Call,
        make: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Result<Option<T>, Stop> {
        if refused.has(call) {
            return Ok(None);
        }
        match self.make(call, make)? {
            Ok(value) => {
                self.answers += 1;
                Ok(Some(value))
            }
            Err(error) => self.refuse(refused, call, error),
        }
    }

    /// Makes a call where others can see it, and returns what the driver says to it.
    ///
    /// # Errors
    ///
    /// [`Stop::Left`] where it took so long that another thread has taken over.
    pub(super) fn make<T>(
        &self,
        call: Call,
        make: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Result<Result<T, NvmlError>, Stop> {
        self.progress.enter(call);
        let result = make();
        if self.progress.leave() { Ok(result) } else { Err(Stop::Left) }
    }

    fn refuse<T>(
        &mut self,
        refused: &mut Refused,
        call: Call,
        error: NvmlError,
    ) -> Result<Option<T>, Stop> {
        match Refusal::of(&error) {
            Refusal::Unsupported => refused.add(call),
            Refusal::NoSample => {}
            Refusal::Invalid => {
                refused.is_suspect = true;
                self.fail(call, error);
            }
            Refusal::Failed => self.fail(call, error),
            Refusal::Lost => return Err(Stop::Lost(lost(&error).into())),
            Refusal::Unloaded => return Err(Stop::Unloaded(error.to_string())),
        }
        Ok(None)
    }

    /// Takes the refusal of one value of several, and says whether to ask for it again.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the device is not to be asked any further.
    pub(super) fn refuse_value(&mut self, call: Call, error: NvmlError) -> Result<bool, Stop> {
        // A field's number that the driver does not know is an invalid argument.
        let is_unknown = matches!(error, NvmlError::InvalidArg | NvmlError::UnexpectedVariant(_));
        let mut refused = Refused::default();
        if !is_unknown {
            self.refuse::<()>(&mut refused, call, error)?;
        }
        Ok(!is_unknown && !refused.has(call))
    }

    fn fail(&mut self, call: Call, error: NvmlError) {
        self.failures += 1;
        let of =
            self.progress.device().map_or_else(String::new, |index| format!(" of GPU {index}"));
        self.last_unread = Some(format!("{}{of}: {error}", call.name()));
        self.last_failure = Some((call, error));
    }
}

const fn lost(error: &NvmlError) -> &'static str {
    match error {
        NvmlError::ResetRequired => "it has to be reset before it can be used again",
        _ => "it fell off the bus, or its driver gave it up (GPU is lost)",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn asker() -> Asker {
        Asker::new(Arc::new(Progress::default()))
    }

    #[test]
    fn every_call_has_a_bit_of_its_own() {
        assert!((Call::ProcessUtilization as u8) < 64, "the last one");
        let mut refused = Refused::default();
        refused.add(Call::ProcessUtilization);
        assert!(refused.has(Call::ProcessUtilization));
        assert!(!refused.has(Call::Init) && !refused.has(Call::MpsProcesses));
    }

    #[test]
    fn what_is_not_supported_is_asked_for_once() {
        let (mut asker, mut refused) = (asker(), Refused::default());
        let mut made = 0;
        for _ in 0..3 {
            let answer: Option<u32> = asker
                .ask(&mut refused, Call::Encoder, || {
                    made += 1;
                    Err(NvmlError::NotSupported)
                })
                .unwrap();
            assert_eq!(answer, None);
        }
        assert_eq!((made, asker.failures), (1, 0));
    }

    #[test]
    fn a_missing_function_is_as_one_that_is_not_supported() {
        let (mut asker, mut refused) = (asker(), Refused::default());
        let missing = || Err::<u32, _>(NvmlError::FailedToLoadSymbol("undefined symbol".into()));
        assert_eq!(asker.ask(&mut refused, Call::Memory, missing), Ok(None));
        assert!(refused.has(Call::Memory));
    }

    #[test]
    fn every_code_of_the_driver_has_a_meaning() {
        for code in 1..=40_u32 {
            let (mut asker, mut refused) = (asker(), Refused::default());
            let answer =
                asker.ask(&mut refused, Call::Power, || Err::<u32, _>(NvmlError::from(code)));
            match code {
                1 | 9 | 18 => assert!(matches!(answer, Err(Stop::Unloaded(_))), "{code}"),
                15 | 16 => assert!(matches!(answer, Err(Stop::Lost(_))), "{code}"),
                _ => assert_eq!(answer, Ok(None), "{code}"),
            }
            assert_eq!(refused.has(Call::Power), [3, 4, 13, 22, 25, 26].contains(&code), "{code}");
            assert_eq!(refused.is_suspect, code == 2, "{code}");
            let is_failure = asker.failures == 1;
            assert_eq!(
                is_failure,
                ![1, 3, 4, 6, 9, 13, 15, 16, 18, 21, 22, 25, 26, 27].contains(&code),
                "{code}"
            );
        }
    }
}
