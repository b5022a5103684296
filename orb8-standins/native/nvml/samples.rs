//! Samples that the driver takes at regular times and keeps for a while.

use super::play::Now;
use super::scenario::Process;
use super::target::{Number, Target};

/// Between two samples, µs: six a second.
const PERIOD: u64 = 1_000_000 / 6;

/// How many the driver keeps: what is older than 20 s is gone.
const KEPT: u64 = 120;

/// A process's part of a device's time, percent, at one time.
pub(super) struct Busy {
    pub(super) pid: u32,
    /// Since 1970, µs.
    pub(super) time: u64,
    pub(super) sm: u32,
    pub(super) memory: u32,
    pub(super) encoder: u32,
    pub(super) decoder: u32,
}

/// Returns when samples were taken that are newer than a time and are kept, the newest first: since
/// 1970, µs, and in the scenario's time.
fn times(now: &Now, after: u64) -> impl Iterator<Item = (u64, f64)> {
    let newest = now.micros / PERIOD;
    let all = (0..KEPT).map_while(move |back| newest.checked_sub(back));
    let micros = now.micros;
    let time = now.time;
    all.map(move |number| number * PERIOD)
        .take_while(move |sample| *sample > after)
        .map(move |sample| (sample, time - (micros - sample) as f64 / 1e6))
        .take_while(|(_, time)| *time >= 0.0)
}

/// Returns the newest sample of each process that used a device after a time, since 1970, µs. A
/// process that is gone is in it as long as its samples are kept.
pub(super) fn processes(target: &Target, after: u64) -> Vec<Busy> {
    let all = target.now.processes().filter(|process| target.has(process, None));
    all.filter_map(|process| newest(target, process, after)).collect()
}

fn newest(target: &Target, process: &Process, after: u64) -> Option<Busy> {
    let times = times(&target.now, after).filter(|(_, time)| process.window.contains(*time));
    times
        .map(|(time, at)| Busy {
            pid: process.pid,
            time,
            sm: u32::of(process.sm.value(at)),
            memory: u32::of(process.memory_time.value(at)),
            encoder: u32::of(process.encoder.value(at)),
            decoder: u32::of(process.decoder.value(at)),
        })
        // Who did nothing has no sample.
        .find(|busy| {
            [busy.sm, busy.memory, busy.encoder, busy.decoder].iter().any(|part| *part > 0)
        })
}

/// Returns a value at the times of samples after one, the oldest first: since 1970, µs.
pub(super) fn values(now: &Now, after: u64, value: impl Fn(f64) -> f64) -> Vec<(u64, u32)> {
    let mut all: Vec<(u64, u32)> =
        times(now, after).map(|(time, at)| (time, u32::of(value(at)))).collect();
    all.reverse();
    all
}
