//! Keeps what watching costs the watched threads within a budget.
//!
//! ```text
//! calls a second of the busiest thread × cost of a probe ──▶ plan: part of the time for each group
//!                                                             └──▶ windows ──▶ probes in and out
//! ```
//! What a probe costs is its trap, so sampling inside the program saves nothing: over the budget,
//! probes are there only in windows. The least important go first: launches, which a rate describes
//! well, and last what only makes sense when all of it is seen, allocations. Every group keeps a small
//! part of the budget, so that it is known when it becomes cheap again.

use std::array;

/// Probes that come and go together, from the first to be watched in part to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Launches of kernels and graphs.
    Launches,
    /// Copies.
    Copies,
    /// Calls that wait for a device.
    Waits,
    /// NCCL's collectives; a communicator's beginning and end are always watched.
    Collectives,
    /// Memory that is taken and given back.
    Allocations,
}

/// How many groups there are.
pub(super) const GROUPS: usize = 5;

/// A figure for each group.
pub(super) type PerGroup<T> = [T; GROUPS];

/// What every group keeps of the budget, however much the others want: with less, seconds would pass
/// between two windows.
const KEPT: f64 = 0.1;
/// The part of the time above which nothing is gained by taking probes away.
const MOST_IN_PART: f64 = 0.9;
/// The part of the budget that a plan with more in it has to fit into: one that just fits would be
/// taken back at once.
const CALM: f64 = 0.8;
/// Steps for which there has to be room before more is watched.
const CALM_STEPS: u32 = 5;
/// The part of the time in which something is watched whose cost is not known.
const TRIED: f64 = 0.02;
/// What a load that lasts has to be more than for it to count at once: what is over in a moment needs
/// no sampling, and would be estimated worse than it is seen.
const BURST: f64 = 5.0;
/// The part that the latest load has in the mean: about four steps count.
const LATEST: f64 = 0.4;
/// By how much more than now a plan has to have for it to be worth the change.
const MORE: f64 = 1.25;

/// A group began to be watched in part, or is watched all the time again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Change {
    pub group: Group,
    pub began: bool,
    pub part: f64,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Governor {
    budget: f64,
    parts: PerGroup<f64>,
    calm: PerGroup<u32>,
    mean: PerGroup<f64>,
}

impl Group {
    /// Every group, the least important first.
    pub const ALL: PerGroup<Self> =
        [Self::Launches, Self::Copies, Self::Waits, Self::Collectives, Self::Allocations];

    /// Returns its name as in output.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Launches => "launches",
            Self::Copies => "copies",
            Self::Waits => "waits",
            Self::Collectives => "collectives",
            Self::Allocations => "allocations",
        }
    }
}

impl Governor {
    /// Keeps within a part of a thread's time, more than 0.
    pub(super) fn new(budget: f64) -> Self {
        Self { budget, parts: [1.0; GROUPS], calm: [0; GROUPS], mean: [0.0; GROUPS] }
    }

    /// The part of the time in which each group is watched.
    pub(super) const fn parts(&self) -> PerGroup<f64> {
        self.parts
    }

    /// What that costs, where watching all the time costs `full`.
    #[cfg(test)]
    fn cost(&self, full: &PerGroup<f64>) -> f64 {
        full.iter().zip(self.parts).map(|(full, part)| full * part).sum()
    }

    /// Has a group watched in short windows until it is known what it costs. Returns whether that is a
    /// change.
    pub(super) fn doubt(&mut self, group: Group) -> Option<Change> {
        let part = &mut self.parts[group as usize];
        let is_change = *part >= 1.0;
        *part = part.min(TRIED);
        self.calm[group as usize] = 0;
        is_change.then_some(Change { group, began: true, part: *part })
    }

    /// Plans anew. `full` is what each group costs a thread when it is watched all the time;
    /// `spare` is a group that is known from elsewhere, and goes before all others.
    pub(super) fn step(&mut self, full: &PerGroup<f64>, spare: Option<Group>) -> Vec<Change> {
        let full = &self.load(full);
        let most = plan(full, self.budget, spare);
        let calm = plan(full, self.budget * CALM, spare);
        let mut changes = Vec::new();
        for (i, group) in Group::ALL.into_iter().enumerate() {
            let before = self.parts[i];
            let is_worth_it = calm[i] >= before * MORE || calm[i] >= 1.0;
            self.calm[i] = if before < 1.0 && is_worth_it { self.calm[i] + 1 } else { 0 };
            if most[i] < before {
                // With some room, or it would have to be planned again at every change of the load.
                self.parts[i] = calm[i].min(most[i]);
            } else if self.calm[i] >= CALM_STEPS {
                self.calm[i] = 0;
                self.parts[i] = calm[i];
            }
            let part = self.parts[i];
            if (before < 1.0) != (part < 1.0) {
                changes.push(Change { group, began: part < 1.0, part });
            }
        }
        changes
    }
}

impl Governor {
    /// The load to plan for.
    fn load(&mut self, full: &PerGroup<f64>) -> PerGroup<f64> {
        let full = full.map(|cost| if cost.is_finite() { cost.max(0.0) } else { 0.0 });
        let is_burst = full.iter().sum::<f64>() > self.budget * BURST;
        self.mean = array::from_fn(|i| match is_burst {
            true => full[i],
            false => self.mean[i] + (full[i] - self.mean[i]) * LATEST,
        });
        self.mean
    }
}

/// The part of the time for each group with which all together cost no more than the budget.
fn plan(full: &PerGroup<f64>, budget: f64, spare: Option<Group>) -> PerGroup<f64> {
    let kept = full.map(|cost| cost.min(budget * KEPT));
    let mut left = (budget - kept.iter().sum::<f64>()).max(0.0);
    let mut parts = [1.0; GROUPS];
    let spare = spare.map(|group| group as usize);
    let important = (0..GROUPS).rev().filter(|i| Some(*i) != spare);
    for i in important.chain(spare) {
        let given = (full[i] - kept[i]).min(left);
        left -= given;
        let wanted = full[i];
        if kept[i] + given < wanted {
            parts[i] = ((kept[i] + given) / wanted).min(MOST_IN_PART);
        }
    }
    parts
}

#[cfg(test)]
mod tests;
