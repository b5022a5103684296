//! What the kernel counts of one process, as sums.

use std::time::Duration;

use orb8_common::gpu::{
    COPY_KINDS, Calls as CountedCalls, Process as Counters, THREAD_SLOTS, WAIT_KINDS,
};

use super::governor::{GROUPS, Group, PerGroup};
use super::sums::{Differences, Estimate};
use crate::gpu::activity::{Calls, Copies, CopyKind, Launches, WaitKind, Waits};

/// Hits of a call that is watched at its beginning and its return.
const TIMED: u64 = 2;

/// A time in which the kernel counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Its length.
    pub elapsed: Duration,
    /// For how long of it each group was watched.
    pub watched: PerGroup<Duration>,
    /// What a probe takes of its thread's time, seconds.
    pub costs: PerGroup<f64>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Sums {
    launches: Estimate<2>,
    copies: [Estimate<3>; COPY_KINDS],
    waits: [Estimate<2>; WAIT_KINDS],
    longest_waits: [u64; WAIT_KINDS],
    modules: Differences<2>,
    module_sums: [u64; 2],
    longest_module: u64,
    /// Hits by calls of the groups that are not above.
    others: PerGroup<Estimate<1>>,
    hits: Differences<THREAD_SLOTS>,
    /// The busiest thread's part of all hits.
    part: f64,
    load: Load,
    /// Launches and graphs when their rate was last told, and how long ago that is.
    told: [u64; 2],
    since_told: Duration,
    rates: [f64; 2],
}

/// What a process's busiest thread does, for the governor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Load {
    /// Times a second that it hits a probe, as it is watched now.
    pub hits: f64,
    /// The same by group, if each were watched all the time.
    pub full: PerGroup<f64>,
}

impl Sums {
    /// Takes in the kernel's counters. Returns whether there was a call since the last time.
    pub(super) fn take(&mut self, counters: &Counters, collectives: u64, look: &Look) -> bool {
        let Look { elapsed, watched, costs } = *look;
        let hits = self.measure(counters, elapsed);
        let (time, part) = (|group: Group| watched[group as usize], self.part);
        let drag = |group: Group| costs[group as usize] * part;
        let Counters { launches, graph_launches, copies, waits, modules, allocations, .. } =
            counters;
        let group = Group::Launches;
        self.launches.take([*launches, *graph_launches], time(group), elapsed, drag(group));
        for (sum, row) in self.copies.iter_mut().zip(copies) {
            let group = Group::Copies;
            let counted = [row.count, row.bytes, row.waited_ns];
            sum.take(counted, time(group), elapsed, drag(group));
        }
        for (i, row) in waits.iter().enumerate() {
            let group = Group::Waits;
            self.waits[i].take([row.count, row.time_ns], time(group), elapsed, drag(group));
            self.longest_waits[i] = self.longest_waits[i].max(row.longest_ns);
        }
        let [count, time_ns] = self.modules.take([modules.count, modules.time_ns]);
        self.module_sums[0] += count;
        self.module_sums[1] = self.module_sums[1].saturating_add(time_ns);
        self.longest_module = self.longest_module.max(modules.longest_ns);
        let rows = allocations.iter();
        let memory = rows.map(|row| (row.count + row.failed) * TIMED + row.freed).sum();
        for (group, hits) in [(Group::Allocations, memory), (Group::Collectives, collectives)] {
            self.others[group as usize].take([hits], time(group), elapsed, drag(group));
        }
        self.since_told += elapsed;
        self.weigh(hits);
        hits > 0
    }

    /// What its busiest thread does.
    pub(super) const fn load(&self) -> &Load {
        &self.load
    }

    /// Ends the time over which rates are told, and returns launches and graphs a second in it; `None`
    /// where nobody looked.
    pub(super) fn tell_rates(&mut self) -> Option<[f64; 2]> {
        if self.since_told.is_zero() {
            return None;
        }
        let sums = self.launches.sums();
        let seconds = self.since_told.as_secs_f64();
        self.rates = [0, 1].map(|i| sums[i].saturating_sub(self.told[i]) as f64 / seconds);
        self.told = sums;
        self.since_told = Duration::ZERO;
        Some(self.rates)
    }

    /// Says that nothing is done any more.
    pub(super) const fn stop(&mut self) {
        self.rates = [0.0; 2];
    }

    /// Whether launches are estimated.
    pub(super) const fn is_sampled(&self) -> bool {
        self.launches.is_sampled()
    }

    /// Launches of kernels, and of graphs.
    pub(super) fn launches(&self) -> [Launches; 2] {
        let (sums, is_sampled) = (self.launches.sums(), self.launches.is_sampled());
        [0, 1].map(|i| Launches { count: sums[i], rate: self.rates[i], is_sampled })
    }

    /// Copies, a row for each kind that there were.
    pub(super) fn copies(&self) -> Vec<Copies> {
        let rows = CopyKind::ALL.into_iter().zip(&self.copies).map(|(kind, sum)| {
            let [count, bytes, waited] = sum.sums();
            Copies { kind, count, bytes, waited: Duration::from_nanos(waited) }
        });
        rows.filter(|row| row.count > 0).collect()
    }

    /// Waits, a row for each kind that there were.
    pub(super) fn waits(&self) -> Vec<Waits> {
        let rows = WaitKind::ALL.into_iter().enumerate().map(|(i, kind)| {
            let [count, time_ns] = self.waits[i].sums();
            let longest_ns = self.longest_waits[i];
            Waits { kind, calls: calls(CountedCalls { count, time_ns, longest_ns }) }
        });
        rows.filter(|row| row.calls.count > 0).collect()
    }

    /// Modules that were loaded.
    pub(super) fn modules(&self) -> Calls {
        let [count, time_ns] = self.module_sums;
        calls(CountedCalls { count, time_ns, longest_ns: self.longest_module })
    }

    /// Counts hits. Returns how many there were of all threads.
    fn measure(&mut self, counters: &Counters, elapsed: Duration) -> u64 {
        let hits = self.hits.take(counters.threads);
        let busiest = hits.iter().copied().max().unwrap_or(0);
        let total: u64 = hits.iter().sum();
        if !elapsed.is_zero() {
            self.load.hits = busiest as f64 / elapsed.as_secs_f64();
        }
        // Which calls the busiest thread makes is not counted: it makes its part of each kind. While
        // nothing is seen, that part is as it was.
        if total > 0 {
            self.part = busiest as f64 / total as f64;
        }
        total
    }

    /// Tells what the busiest thread would do if all were watched.
    fn weigh(&mut self, hits: u64) {
        let rates = self.rates_by_group();
        if hits > 0 {
            self.load.full = rates.map(|rate| rate * self.part);
        } else if rates.iter().all(|rate| *rate == 0.0) {
            self.load.full = [0.0; GROUPS];
        }
    }

    /// Hits a second if each group were watched all the time.
    fn rates_by_group(&self) -> PerGroup<f64> {
        let mut rates = self.others.map(|group| group.rates()[0]);
        rates[Group::Launches as usize] = self.launches.rates().iter().sum();
        let copies = self.copies.iter().map(|sum| {
            let [count, _, waited] = sum.rates();
            if waited > 0.0 { count * TIMED as f64 } else { count }
        });
        rates[Group::Copies as usize] = copies.sum();
        let waits = self.waits.iter().map(|sum| sum.rates()[0] * TIMED as f64);
        rates[Group::Waits as usize] = waits.sum();
        rates
    }
}

fn calls(counted: CountedCalls) -> Calls {
    let CountedCalls { count, time_ns, longest_ns } = counted;
    Calls { count, time: Duration::from_nanos(time_ns), longest: Duration::from_nanos(longest_ns) }
}

#[cfg(test)]
mod tests;
