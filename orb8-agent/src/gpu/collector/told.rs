//! What each source told last, and how it does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::core::{Answer, Outcome};
use super::merge::Merged;
use crate::gpu::device::SourceKind;
use crate::gpu::reading::{DeviceState, Reading};
use crate::gpu::source::Unread;
use crate::gpu::view::SourceHealth;

/// A driver that is loaded anew is away for less. What a source knew that is gone for longer was taken
/// away.
const KEEP_ABSENT: Duration = Duration::from_mins(1);

/// A value that was not told for so long is told again.
const LATELY: Duration = Duration::from_mins(1);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<SourceKind, Last>);

#[derive(Debug, Default)]
struct Last {
    reading: Option<Reading>,
    /// When it was absent first, since it last told.
    absent: Option<Instant>,
    problem: Option<String>,
    took: Duration,
    failures: u64,
    invalid: u64,
    unread: Unread,
    /// When that grew last.
    unread_at: Option<Instant>,
    devices: u32,
}

impl Told {
    /// Takes in what sources answered.
    pub(super) fn take(&mut self, answers: Vec<Answer>, now: Instant) {
        for Answer { kind, outcome, took, invalid, unread } in answers {
            let last = self.0.entry(kind).or_default();
            (last.took, last.invalid) = (took, last.invalid.max(invalid));
            if unread.count > last.unread.count {
                (last.unread, last.unread_at) = (unread, Some(now));
            }
            match outcome {
                Outcome::Read(reading) => {
                    (last.reading, last.absent, last.problem) = (Some(reading), None, None);
                }
                Outcome::Absent(reason) => {
                    let since = *last.absent.get_or_insert(now);
                    last.problem = Some(reason);
                    if now.saturating_duration_since(since) >= KEEP_ABSENT {
                        last.reading = None;
                    }
                }
                Outcome::Failed(reason) => {
                    last.failures += 1;
                    last.problem = Some(reason);
                }
                Outcome::Late(waited) => {
                    last.failures += 1;
                    let waited = waited.as_secs_f64();
                    last.problem = Some(format!(
                        "no answer for {waited:.1} s: its driver or service hangs, see the kernel's log"
                    ));
                }
            }
        }
    }

    /// Puts together what is known now. What a source with a problem told before is still there, and
    /// does not answer; where another one knows it, that one is believed. Events are told once.
    pub(super) fn merged(&mut self) -> Merged {
        let mut merged = Merged::default();
        for (_, last) in self.0.iter_mut().filter(|(_, last)| last.problem.is_none()) {
            if let Some(reading) = &mut last.reading {
                merged.add(reading.clone());
                reading.events.clear();
            }
        }
        for (_, last) in self.0.iter_mut().filter(|(_, last)| last.problem.is_some()) {
            let (Some(reading), Some(problem)) = (&last.reading, &last.problem) else { continue };
            merged.add(silenced(reading.clone(), problem));
        }
        for last in self.0.values_mut() {
            last.devices = 0;
        }
        for (kind, devices) in &merged.told {
            self.0.entry(*kind).or_default().devices = *devices;
        }
        merged
    }

    /// Returns the sources that told, or that said that there is nothing to tell.
    pub(super) fn settled(&self) -> impl Iterator<Item = SourceKind> {
        let settled =
            self.0.iter().filter(|(_, last)| last.reading.is_some() || last.absent.is_some());
        settled.map(|(kind, _)| *kind)
    }

    /// Returns how each source does.
    pub(super) fn health(&self, now: Instant) -> Vec<SourceHealth> {
        let is_lately = |at: &Instant| now.saturating_duration_since(*at) < LATELY;
        let health = self.0.iter().map(|(kind, last)| SourceHealth {
            kind: *kind,
            devices: last.devices,
            problem: last.problem.clone(),
            took: last.took,
            failures: last.failures,
            invalid: last.invalid,
            unread: last.unread.count,
            lacks: last.unread_at.filter(is_lately).and_then(|_| last.unread.last.clone()),
        });
        health.collect()
    }
}

/// What a source knew before it stopped to answer: the devices, and who was on them.
fn silenced(mut reading: Reading, problem: &str) -> Reading {
    for seen in &mut reading.devices {
        if !matches!(seen.state, DeviceState::Lost { .. }) {
            seen.state = DeviceState::Silent { reason: problem.to_owned() };
        }
    }
    reading.processes.clear();
    reading.events.clear();
    reading
}
