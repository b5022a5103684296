//! What processes did, by owner: sums that never go back when a process ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::activity::{
    Allocated, Calls, CollectiveKind, Collectives, CopyKind, ProcessActivity, WaitKind,
};
use super::event::AllocationKind;
use crate::event::UnixNanos;
use crate::identity::Workload;

/// How long an owner's sums stay after its last process, as those of traffic do.
const LINGER: Duration = Duration::from_mins(1);

/// Owners at most: more containers with GPUs than any node has.
const OWNERS: usize = 1024;

/// Sums by owner.
#[derive(Debug, Default)]
pub struct Totals {
    processes: HashMap<(u32, UnixNanos), Sums>,
    owners: HashMap<OwnerNames, Owned>,
}

/// What tells one owner from another: what it is called. A unit's cgroups are one, as are the instances
/// of a container that was started again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnerNames {
    /// Namespace, of a pod.
    pub namespace: Option<String>,
    /// Pod, of one.
    pub pod: Option<String>,
    /// Container, of one.
    pub container: Option<String>,
    /// Controller, else unit, else process.
    pub workload: Option<String>,
}

#[derive(Debug)]
struct Owned {
    totals: OwnerTotals,
    seen: Instant,
    since: UnixNanos,
}

/// What all processes of one owner did since the first of them was watched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OwnerTotals {
    /// Whose it is; `None` for processes that nobody is known to own, and for owners beyond the bound.
    pub workload: Option<Arc<Workload>>,
    /// When its sums began at zero.
    pub since: UnixNanos,
    /// What adds up.
    pub sums: Sums,
    /// Memory of devices that its processes have now, bytes.
    pub outstanding: u64,
    /// The fastest growth of those that seem to lose memory, bytes a second; 0 where none does.
    pub leak_growth: f64,
    /// The farthest that a rank on this node is behind the first of its communicator.
    pub behind: u64,
}

/// What adds up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// Kernels.
    pub launches: u64,
    /// Graphs.
    pub graph_launches: u64,
    /// By kind, in the order of [`AllocationKind::ALL`].
    pub allocated: [Moved; AllocationKind::ALL.len()],
    /// Memory that was given back, likewise.
    pub freed: [Moved; AllocationKind::ALL.len()],
    /// Refused by the driver.
    pub failed: u64,
    /// By kind, in the order of [`CopyKind::ALL`].
    pub copies: [Moved; CopyKind::ALL.len()],
    /// By kind, in the order of [`WaitKind::ALL`].
    pub waits: [Waited; WaitKind::ALL.len()],
    /// Modules.
    pub modules: Waited,
    /// By kind, in the order of [`CollectiveKind::ALL`].
    pub collectives: [Moved; CollectiveKind::ALL.len()],
}

/// How many, and how many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// How many.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
}

/// How many, and for how long they did not return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// How many.
    pub count: u64,
    /// All together.
    pub time: Duration,
}

impl Totals {
    /// Adds what processes did since the call before, and returns all owners' sums.
    pub fn add(&mut self, activity: &[ProcessActivity], now: Instant) -> Vec<OwnerTotals> {
        for owned in self.owners.values_mut() {
            owned.totals.outstanding = 0;
            owned.totals.leak_growth = 0.0;
            owned.totals.behind = 0;
        }
        let mut processes = HashMap::with_capacity(activity.len());
        for process in activity {
            let id = (process.process.pid, process.since);
            let sums = Sums::of(process);
            let before = self.processes.remove(&id).unwrap_or_default();
            let owned = self.owned(process, now);
            owned.totals.sums.add_growth(&sums, &before);
            owned.totals.note(process);
            processes.insert(id, sums);
        }
        self.processes = processes;
        self.owners.retain(|_, owned| now.saturating_duration_since(owned.seen) < LINGER);
        let mut totals: Vec<(&OwnerNames, &Owned)> = self.owners.iter().collect();
        totals.sort_by(|one, other| one.0.cmp(other.0));
        totals
            .into_iter()
            .map(|(_, owned)| OwnerTotals { since: owned.since, ..owned.totals.clone() })
            .collect()
    }

    /// Finds whose sums a process's are. Where there is no room for its owner, they are nobody's.
    fn owned(&mut self, process: &ProcessActivity, now: Instant) -> &mut Owned {
        let mut workload = process.process.workload.as_ref();
        let mut key = OwnerNames::of(workload.map(AsRef::as_ref));
        if !self.owners.contains_key(&key) && self.owners.len() >= OWNERS {
            (workload, key) = (None, OwnerNames::default());
        }
        let owned = self.owners.entry(key).or_insert_with(|| Owned {
            totals: OwnerTotals::default(),
            seen: now,
            since: process.since,
        });
        owned.seen = now;
        owned.totals.workload = workload.cloned();
        owned
    }
}

impl OwnerNames {
    fn of(workload: Option<&Workload>) -> Self {
        let owned = |text: &str| text.to_owned();
        Self {
            namespace: workload.and_then(|it| it.namespace.clone()),
            pod: workload.and_then(|it| it.pod.clone()),
            container: workload.and_then(Workload::container_label).map(owned),
            workload: workload.and_then(workload_name).map(owned),
        }
    }
}

/// Returns what a workload is called besides its pod and container: its controller, else its unit or
/// process.
#[must_use]
pub fn workload_name(workload: &Workload) -> Option<&str> {
    let controller = workload.api.as_ref().and_then(|pod| pod.controller.as_ref());
    let controller = controller.map(|controller| &*controller.name);
    controller.or(workload.unit.as_deref()).or(workload.process.as_deref())
}

impl OwnerTotals {
    /// Returns what the owner is called; no two owners are called the same.
    #[must_use]
    pub fn names(&self) -> OwnerNames {
        OwnerNames::of(self.workload.as_deref())
    }

    /// Adds what a process has now.
    fn note(&mut self, process: &ProcessActivity) {
        self.outstanding += process.memory.outstanding;
        let growth = process.memory.leak.as_ref().map_or(0.0, |leak| leak.growth);
        self.leak_growth = self.leak_growth.max(growth);
        let behind = process.communicators.iter().filter(|comm| comm.rank == comm.slowest_rank);
        self.behind = behind.filter_map(|comm| comm.behind).fold(self.behind, u64::max);
    }
}

impl Sums {
    fn of(process: &ProcessActivity) -> Self {
        let mut sums = Self {
            launches: process.launches.count,
            graph_launches: process.graph_launches.count,
            failed: process.memory.failed,
            modules: Waited::of(&process.modules),
            ..Self::default()
        };
        for Allocated { kind, count, bytes, freed_count, freed_bytes } in &process.memory.allocated
        {
            sums.allocated[*kind as usize] = Moved { count: *count, bytes: *bytes };
            sums.freed[*kind as usize] = Moved { count: *freed_count, bytes: *freed_bytes };
        }
        for copies in &process.copies {
            sums.copies[copies.kind as usize] = Moved { count: copies.count, bytes: copies.bytes };
        }
        for waits in &process.waits {
            sums.waits[waits.kind as usize] = Waited::of(&waits.calls);
        }
        for Collectives { kind, count, bytes } in &process.collectives {
            let bytes = bytes.unwrap_or(0);
            sums.collectives[*kind as usize] = Moved { count: *count, bytes };
        }
        sums
    }

    /// Adds by how much a process's sums grew. One that begins again takes nothing away.
    fn add_growth(&mut self, now: &Self, before: &Self) {
        let Self {
            launches,
            graph_launches,
            allocated,
            freed,
            failed,
            copies,
            waits,
            modules,
            collectives,
        } = self;
        *launches += now.launches.saturating_sub(before.launches);
        *graph_launches += now.graph_launches.saturating_sub(before.graph_launches);
        *failed += now.failed.saturating_sub(before.failed);
        Moved::add_growth(allocated, &now.allocated, &before.allocated);
        Moved::add_growth(freed, &now.freed, &before.freed);
        Moved::add_growth(copies, &now.copies, &before.copies);
        Moved::add_growth(collectives, &now.collectives, &before.collectives);
        for ((sum, now), before) in waits.iter_mut().zip(&now.waits).zip(&before.waits) {
            sum.add_growth(*now, *before);
        }
        modules.add_growth(now.modules, before.modules);
    }
}

impl Moved {
    fn add_growth(sums: &mut [Self], now: &[Self], before: &[Self]) {
        for ((sum, now), before) in sums.iter_mut().zip(now).zip(before) {
            sum.count += now.count.saturating_sub(before.count);
            sum.bytes += now.bytes.saturating_sub(before.bytes);
        }
    }
}

impl Waited {
    const fn of(calls: &Calls) -> Self {
        Self { count: calls.count, time: calls.time }
    }

    fn add_growth(&mut self, now: Self, before: Self) {
        self.count += now.count.saturating_sub(before.count);
        self.time += now.time.saturating_sub(before.time);
    }
}

#[cfg(test)]
mod tests;
