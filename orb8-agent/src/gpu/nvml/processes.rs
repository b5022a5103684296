//! Who uses a device.

use std::collections::BTreeMap;

use nvml_wrapper::Device as Handle;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::{ProcessInfo, ProcessUtilizationSample};

use crate::event::UnixNanos;
use crate::gpu::checked::Checked;
use crate::gpu::reading::UseKind;
use crate::gpu::sample::Ratio;

use super::call::{Asker, Call, Refused, Stop};

/// What the driver's samples may be ahead of this machine's clock before it was set back, µs.
const AHEAD: u64 = 10_000_000;

/// Processes on one device at most; the driver's own tables end before.
const MOST: usize = 4096;

/// One process on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct User {
    pub(super) pid: u32,
    pub(super) kind: UseKind,
    /// Bytes.
    pub(super) memory: Option<u64>,
    /// The MIG instance that it is on, where the driver says.
    pub(super) gpu_instance: Option<u32>,
    pub(super) compute_instance: Option<u32>,
}

/// Reads who is on a device; `None` where the driver does not say.
///
/// # Errors
///
/// [`Stop`] where the device is not to be asked any further.
pub(super) fn users(
    asker: &mut Asker,
    refused: &mut Refused,
    handle: &Handle<'_>,
) -> Result<Option<Vec<User>>, Stop> {
    let mps = list(asker, refused, Call::MpsProcesses, || handle.mps_running_compute_processes())?;
    let mut compute =
        list(asker, refused, Call::ComputeProcesses, || handle.running_compute_processes())?;
    if refused.has(Call::ComputeProcesses) {
        compute = list(asker, refused, Call::ComputeProcessesOld, || {
            handle.running_compute_processes_v2()
        })?;
    }
    let mut graphics =
        list(asker, refused, Call::GraphicsProcesses, || handle.running_graphics_processes())?;
    if refused.has(Call::GraphicsProcesses) {
        graphics = list(asker, refused, Call::GraphicsProcessesOld, || {
            handle.running_graphics_processes_v2()
        })?;
    }
    if mps.is_none() && compute.is_none() && graphics.is_none() {
        return Ok(None);
    }
    let kinds = [(UseKind::Mps, mps), (UseKind::Compute, compute), (UseKind::Graphics, graphics)];
    Ok(Some(merge(&mut asker.checked, kinds)))
}

fn list(
    asker: &mut Asker,
    refused: &mut Refused,
    call: Call,
    make: impl Fn() -> Result<Vec<ProcessInfo>, NvmlError>,
) -> Result<Option<Vec<ProcessInfo>>, Stop> {
    asker.ask(refused, call, || retry(&make))
}

/// More processes may have come since the driver said how much room they need.
fn retry<T>(make: impl Fn() -> Result<T, NvmlError>) -> Result<T, NvmlError> {
    match make() {
        Err(NvmlError::InsufficientSize(_)) => make(),
        result => result,
    }
}

/// Puts the lists together. A process that is in several (a client of MPS is in the list of those that
/// compute too, and one that also draws is in both) has the memory that it has once.
fn merge(checked: &mut Checked, kinds: [(UseKind, Option<Vec<ProcessInfo>>); 3]) -> Vec<User> {
    let mut users: BTreeMap<(u32, Option<u32>, Option<u32>), User> = BTreeMap::new();
    for (kind, list) in kinds {
        for info in list.unwrap_or_default() {
            if info.pid == 0 || users.len() >= MOST {
                checked.leave_out();
                continue;
            }
            let memory = match info.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => checked.whole(bytes),
                UsedGpuMemory::Unavailable => None,
            };
            let (gpu_instance, compute_instance) = (info.gpu_instance_id, info.compute_instance_id);
            let user = User { pid: info.pid, kind, memory, gpu_instance, compute_instance };
            users
                .entry((info.pid, gpu_instance, compute_instance))
                .and_modify(|known| known.memory = known.memory.max(memory))
                .or_insert(user);
        }
    }
    users.into_values().collect()
}

/// How busy processes keep a device, by the driver's samples.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// Time of the newest sample that was seen, µs; 0 before the first.
    seen: u64,
}

impl Shares {
    /// Reads each process's part of the device's time since the reading before. Who is not in it has
    /// no sample, which is not 0.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the device is not to be asked any further.
    pub(super) fn read(
        &mut self,
        asker: &mut Asker,
        refused: &mut Refused,
        handle: &Handle<'_>,
        now: UnixNanos,
    ) -> Result<BTreeMap<u32, Ratio>, Stop> {
        if self.seen > now.0 / 1000 + AHEAD {
            // The clock was set back: nothing would be newer for as long.
            self.seen = 0;
        }
        // From 0 on is all that the driver remembers, which it would tell each time while nobody is busy.
        let since = if self.seen == 0 { recent(now) } else { self.seen };
        let samples = asker.ask(refused, Call::ProcessUtilization, || {
            retry(|| handle.process_utilization_stats(since))
        })?;
        Ok(self.take(&mut asker.checked, &samples.unwrap_or_default(), now))
    }

    fn take(
        &mut self,
        checked: &mut Checked,
        samples: &[ProcessUtilizationSample],
        now: UnixNanos,
    ) -> BTreeMap<u32, Ratio> {
        // Drivers tell older ones too, of processes that may be long gone.
        let oldest = if self.seen == 0 { recent(now) } else { self.seen };
        let latest = now.0 / 1000 + AHEAD;
        let mut sums: BTreeMap<u32, (f64, u32)> = BTreeMap::new();
        for sample in samples {
            self.seen = self.seen.max(sample.timestamp.min(latest));
            // What the driver has no sample for, it leaves as it is: empty, or of a time before.
            if sample.pid == 0 || sample.timestamp <= oldest {
                continue;
            }
            if sample.timestamp > latest {
                checked.leave_out();
                continue;
            }
            if let Some(ratio) = checked.percent(sample.sm_util.into()) {
                let (sum, count) = sums.entry(sample.pid).or_default();
                *sum += ratio;
                *count += 1;
            }
        }
        sums.into_iter().map(|(pid, (sum, count))| (pid, sum / f64::from(count))).collect()
    }
}

/// Returns what is not long ago, µs.
const fn recent(now: UnixNanos) -> u64 {
    (now.0 / 1000).saturating_sub(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixNanos = UnixNanos(1_700_000_000_000_000_000);
    const NOW_US: u64 = NOW.0 / 1000;

    fn info(pid: u32, memory: UsedGpuMemory) -> ProcessInfo {
        ProcessInfo {
            pid,
            used_gpu_memory: memory,
            gpu_instance_id: None,
            compute_instance_id: None,
        }
    }

    fn sample(pid: u32, timestamp: u64, sm_util: u32) -> ProcessUtilizationSample {
        ProcessUtilizationSample { pid, timestamp, sm_util, mem_util: 0, enc_util: 0, dec_util: 0 }
    }

    #[test]
    fn a_process_in_several_lists_is_one_with_its_memory_once() {
        let mut checked = Checked::default();
        let users = merge(
            &mut checked,
            [
                (UseKind::Mps, Some(vec![info(10, UsedGpuMemory::Used(5))])),
                (
                    UseKind::Compute,
                    Some(vec![
                        info(10, UsedGpuMemory::Used(7)),
                        info(11, UsedGpuMemory::Unavailable),
                        info(0, UsedGpuMemory::Used(1)),
                    ]),
                ),
                (UseKind::Graphics, Some(vec![info(11, UsedGpuMemory::Used(3))])),
            ],
        );
        let told: Vec<_> = users.iter().map(|user| (user.pid, user.kind, user.memory)).collect();
        assert_eq!(told, [(10, UseKind::Mps, Some(7)), (11, UseKind::Compute, Some(3))]);
        assert_eq!(checked.invalid, 1, "process 0");
    }

    #[test]
    fn samples_are_averaged_and_never_asked_for_twice() {
        let (mut shares, mut checked) = (Shares::default(), Checked::default());
        let first = shares.take(
            &mut checked,
            &[sample(1, NOW_US - 60_000_000, 90), sample(1, NOW_US - 100_000, 40)],
            NOW,
        );
        assert_eq!(first, BTreeMap::from([(1, 0.4)]), "what is long past is not now");
        assert_eq!(shares.seen, NOW_US - 100_000);
        let second = shares.take(
            &mut checked,
            &[
                sample(1, NOW_US - 100_000, 99),
                sample(1, NOW_US + 100_000, 20),
                sample(1, NOW_US + 200_000, 40),
                sample(2, NOW_US + 200_000, 0),
                sample(0, 0, 0),
            ],
            UnixNanos(NOW.0 + 1_000_000_000),
        );
        let told: Vec<_> = second.into_iter().collect();
        assert_eq!(told.len(), 2);
        assert!((told[0].1 - 0.3).abs() < 1e-9, "{told:?}");
        assert_eq!(told[1], (2, 0.0), "a sample of 0 is one");
        assert_eq!(shares.seen, NOW_US + 200_000);
        assert_eq!(checked.invalid, 0);
    }

    #[test]
    fn nonsense_neither_counts_nor_blocks_what_comes_after() {
        let (mut shares, mut checked) = (Shares::default(), Checked::default());
        let read = shares.take(
            &mut checked,
            &[sample(1, u64::MAX, 10), sample(2, NOW_US, 4_000_000_000)],
            NOW,
        );
        assert!(read.is_empty());
        assert_eq!(checked.invalid, 2);
        assert!(shares.seen <= NOW_US + AHEAD);
    }

    #[test]
    fn no_room_is_asked_again_once() {
        let calls = std::cell::Cell::new(0);
        let answer = retry(|| {
            calls.set(calls.get() + 1);
            if calls.get() == 1 { Err(NvmlError::InsufficientSize(None)) } else { Ok(3) }
        });
        assert_eq!((answer.unwrap(), calls.get()), (3, 2));
    }
}
