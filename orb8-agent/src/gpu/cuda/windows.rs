//! When the probes of a group are there that is watched in part of the time.

use std::time::{Duration, Instant};

use super::governor::{GROUPS, Group, PerGroup};

/// Between the beginnings of two windows, where the part allows: often enough to see a training step
/// change, and seldom enough that putting probes in and out costs little.
const PERIOD: Duration = Duration::from_secs(1);
/// Of a window: with less, putting the probes in and out would be most of it.
const SHORTEST: Duration = Duration::from_millis(25);

/// A part that is as good as none, to divide by.
const LEAST: f64 = 1e-6;

/// The windows of all groups.
#[derive(Debug)]
pub(super) struct Windows {
    groups: PerGroup<Schedule>,
    random: u64,
}

#[derive(Clone, Copy, Debug)]
struct Schedule {
    part: f64,
    is_on: bool,
    /// When it changes next; `None` while it is watched all the time.
    next: Option<Instant>,
    /// When the period began and ends that a window lies in.
    period_began: Instant,
    period_ends: Instant,
    /// Since when the probes are there.
    on_since: Option<Instant>,
    /// For how long they were there before that.
    watched: Duration,
}

impl Windows {
    /// All groups are to be watched, and no probe is there yet. `seed` places windows in their periods.
    pub(super) fn new(now: Instant, seed: u64) -> Self {
        let schedule = Schedule {
            part: 1.0,
            is_on: true,
            next: None,
            period_began: now,
            period_ends: now,
            on_since: None,
            watched: Duration::ZERO,
        };
        Self { groups: [schedule; GROUPS], random: seed }
    }

    /// Takes over a plan.
    pub(super) fn set(&mut self, now: Instant, parts: PerGroup<f64>) {
        for (schedule, part) in self.groups.iter_mut().zip(parts) {
            schedule.set(now, part);
        }
    }

    /// Whether a group's probes are to be there.
    pub(super) const fn is_on(&self, group: Group) -> bool {
        self.groups[group as usize].is_on
    }

    /// When [`Windows::step`] has something to change.
    pub(super) fn next(&self) -> Option<Instant> {
        self.groups.iter().filter_map(|schedule| schedule.next).min()
    }

    /// Goes on to `now`.
    pub(super) fn step(&mut self, now: Instant) {
        for i in 0..GROUPS {
            let schedule = self.groups[i];
            if schedule.next.is_none_or(|next| now < next) {
                continue;
            }
            let random = self.random();
            self.groups[i].advance(now, random);
        }
    }

    /// Notes that a group's probes are all there since `now`.
    pub(super) fn began(&mut self, group: Group, now: Instant) {
        self.groups[group as usize].on_since.get_or_insert(now);
    }

    /// Notes that a group's probes begin to be taken away.
    pub(super) fn ended(&mut self, group: Group, now: Instant) {
        self.groups[group as usize].end(now);
    }

    /// For how long each group's probes have been there.
    pub(super) fn watched(&self, now: Instant) -> PerGroup<Duration> {
        self.groups.map(|schedule| schedule.watched(now))
    }

    /// A number from 0 to 1 (splitmix64).
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Schedule {
    fn watched(&self, now: Instant) -> Duration {
        let on = self.on_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        self.watched + on
    }

    fn set(&mut self, now: Instant, part: f64) {
        let before = std::mem::replace(&mut self.part, part);
        if part >= 1.0 {
            self.is_on = true;
            self.next = None;
        } else if before >= 1.0 {
            // The first period begins at once.
            self.next = Some(now);
            self.period_ends = now;
        } else if part > before {
            // It goes on faster. A plan for less shows from the next period on: were each to begin a
            // new one, there might never be a window.
            let faster =
                |time: Instant| now + time.saturating_duration_since(now).mul_f64(before / part);
            self.next = self.next.map(faster);
            self.period_ends = faster(self.period_ends);
        }
    }

    /// Ends a window. One that was longer than planned makes its period longer: taking probes out can
    /// wait for that of others.
    fn end(&mut self, now: Instant) {
        let Some(since) = self.on_since.take() else { return };
        let window = now.duration_since(since);
        self.watched += window;
        if self.part < 1.0 && !self.is_on {
            let earliest = self.period_began + window.div_f64(self.part.max(LEAST));
            self.period_ends = self.period_ends.max(earliest);
            self.next = Some(self.period_ends);
        }
    }

    /// Goes on to the end of a window, or places the next one somewhere in its period: a program whose steps are as long
    /// as the period would always be seen at the same moment of them.
    fn advance(&mut self, now: Instant, random: f64) {
        let period = PERIOD.max(SHORTEST.div_f64(self.part.max(LEAST)));
        let window = period.mul_f64(self.part);
        if self.is_on && now < self.period_ends {
            self.is_on = false;
            self.next = Some(self.period_ends);
        } else if now >= self.period_ends {
            // What is on from before a plan goes off until its first window.
            self.is_on = false;
            self.period_began = now;
            self.period_ends = now + period;
            self.next = Some(now + (period - window).mul_f64(random));
        } else {
            self.is_on = true;
            self.next = Some((now + window).min(self.period_ends));
        }
    }
}

#[cfg(test)]
mod tests;
