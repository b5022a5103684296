//! One device's past: what its next reading is compared with.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Moment;
use crate::event::UnixNanos;
use crate::gpu::event::GpuEventKind;
use crate::gpu::reading::{DeviceState, Seen};
use crate::gpu::sample::{Ecc, RemappedRows, Sample, ThrottleReason};
use crate::gpu::view::DeviceCounts;

/// A device at its power limit goes in and out of it many times a second: that it stopped is told when
/// it did not happen for this long.
const THROTTLE_HOLD: Duration = Duration::from_secs(10);
/// Or for so many readings.
const THROTTLE_READINGS: u32 = 3;
/// No device draws more: an energy counter that grew faster is another one, or was damaged.
const MAX_WATTS: u64 = 10_000;
/// Numbers of errors that are counted: there are about 170.
const MAX_XIDS: usize = 256;

/// What a device was.
#[derive(Debug)]
pub(super) struct Past {
    index: Option<u32>,
    is_lost: bool,
    /// Since when it is not in the list.
    gone: Option<Instant>,
    /// When it last answered.
    answered: Option<Instant>,
    /// What holds it back, and when it was last seen to.
    throttled: BTreeMap<ThrottleReason, Instant>,
    energy: Counter,
    energy_read: Option<Instant>,
    uncorrected: Counter,
    uncorrected_lifetime: Counter,
    rows: Option<RemappedRows>,
    counts: DeviceCounts,
}

/// A counter that may start again.
#[derive(Clone, Copy, Debug, Default)]
struct Counter(Option<u64>);

impl Counter {
    /// Returns by how much it grew: by all that it has, where it started again.
    fn grow(&mut self, value: Option<u64>) -> u64 {
        let Some(value) = value else { return 0 };
        self.0.replace(value).map_or(0, |last| value.checked_sub(last).unwrap_or(value))
    }
}

/// A whole device's number. That of a part says nothing once nobody knows any more what it was a part
/// of: it is told by its id then.
fn index(seen: &Seen) -> Option<u32> {
    seen.device.index.filter(|_| seen.device.part.is_none())
}

impl Past {
    /// Knows nothing of a device yet.
    pub(super) fn new(seen: &Seen) -> Self {
        Self {
            index: index(seen),
            is_lost: false,
            gone: None,
            answered: None,
            throttled: BTreeMap::new(),
            energy: Counter::default(),
            energy_read: None,
            uncorrected: Counter::default(),
            uncorrected_lifetime: Counter::default(),
            rows: None,
            counts: DeviceCounts::default(),
        }
    }

    /// Takes in a reading, and returns what happened since the one before.
    pub(super) fn look(&mut self, seen: &Seen, moment: Moment) -> Vec<GpuEventKind> {
        self.index = index(seen);
        let mut kinds = Vec::new();
        let was_gone = self.gone.take().is_some();
        match &seen.state {
            DeviceState::Lost { reason, .. } => {
                if !std::mem::replace(&mut self.is_lost, true) {
                    self.counts.lost += 1;
                    self.throttled.clear();
                    kinds.push(GpuEventKind::Lost { reason: reason.clone() });
                }
            }
            DeviceState::Silent { .. } => self.counts.silent += 1,
            DeviceState::Sampled(sample) => {
                if std::mem::replace(&mut self.is_lost, false) || was_gone {
                    kinds.push(GpuEventKind::Appeared);
                }
                kinds.extend(self.sample(sample, moment));
                self.answered = Some(moment.now);
            }
        }
        kinds
    }

    /// Notes that it is not in the list. Returns whether that is new, and not what became of a device
    /// that was lost.
    pub(super) fn remove(&mut self, now: Instant) -> bool {
        let is_new = self.gone.is_none();
        self.gone.get_or_insert(now);
        self.throttled.clear();
        is_new && !self.is_lost
    }

    pub(super) fn count_xid(&mut self, code: u32, time: UnixNanos) {
        self.counts.last_xid = Some(code);
        self.counts.last_xid_time = time;
        let xids = &mut self.counts.xids;
        if xids.len() < MAX_XIDS || xids.contains_key(&code) {
            *xids.entry(code).or_default() += 1;
            self.counts.xid_times.insert(code, time);
        }
    }

    pub(super) const fn counts(&self) -> &DeviceCounts {
        &self.counts
    }

    pub(super) const fn gone(&self) -> Option<Instant> {
        self.gone
    }

    pub(super) const fn index(&self) -> Option<u32> {
        self.index
    }

    fn sample(&mut self, sample: &Sample, moment: Moment) -> Vec<GpuEventKind> {
        let mut kinds = Vec::new();
        if let Some(reasons) = &sample.throttle.reasons {
            kinds.extend(self.throttle(reasons, moment));
        }
        self.add_energy(sample.power.energy_mj, moment.now);
        if let Some(count) = sample.ecc.map(|ecc| self.more_uncorrected(ecc)).filter(|it| *it > 0) {
            kinds.push(GpuEventKind::EccUncorrected { count });
        }
        kinds.extend(sample.rows.and_then(|rows| self.remapped(rows)));
        kinds
    }

    /// Counts the time that was lost, and tells what began and what has not happened for a while.
    fn throttle(&mut self, reasons: &[ThrottleReason], moment: Moment) -> Vec<GpuEventKind> {
        let Moment { now, interval, .. } = moment;
        let elapsed =
            self.answered.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        // It may have been anything while nobody looked.
        let elapsed = elapsed.min(interval * 2);
        let mut began = Vec::new();
        for reason in reasons.iter().copied().filter(|reason| reason.is_loss()) {
            *self.counts.throttled.entry(reason).or_default() += elapsed;
            if self.throttled.insert(reason, now).is_none() {
                began.push(reason);
            }
        }
        let hold = THROTTLE_HOLD.max(interval * THROTTLE_READINGS);
        let is_over = |last: Instant| now.saturating_duration_since(last) >= hold;
        let ended: Vec<ThrottleReason> =
            self.throttled.extract_if(.., |_, last| is_over(*last)).map(|(it, _)| it).collect();
        let told = [(true, began), (false, ended)].into_iter();
        told.filter(|(_, reasons)| !reasons.is_empty())
            .map(|(began, reasons)| GpuEventKind::Throttle { began, reasons })
            .collect()
    }

    fn add_energy(&mut self, energy_mj: Option<u64>, now: Instant) {
        let more = self.energy.grow(energy_mj);
        if energy_mj.is_none() {
            return;
        }
        let last = self.energy_read.replace(now);
        let elapsed = last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        // Watts times milliseconds are millijoules.
        let most = u128::from(MAX_WATTS) * elapsed.as_millis();
        if u128::from(more) <= most {
            self.counts.energy_mj += more;
        }
    }

    fn more_uncorrected(&mut self, ecc: Ecc) -> u64 {
        let more = self.uncorrected.grow(ecc.uncorrected);
        let more_lifetime = self.uncorrected_lifetime.grow(ecc.uncorrected_lifetime);
        if ecc.uncorrected.is_some() { more } else { more_lifetime }
    }

    fn remapped(&mut self, rows: RemappedRows) -> Option<GpuEventKind> {
        let was = self.rows.replace(rows)?;
        let RemappedRows { correctable, uncorrectable, is_pending, has_failed } = rows;
        let is_news = correctable > was.correctable
            || uncorrectable > was.uncorrectable
            || (is_pending && !was.is_pending)
            || (has_failed && !was.has_failed);
        is_news.then_some(GpuEventKind::RowRemap { is_pending, has_failed })
    }
}
