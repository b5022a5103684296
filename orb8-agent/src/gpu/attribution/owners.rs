//! Who has a device: holders and users, each owner once.

use std::collections::BTreeMap;

use super::{Held, Holder, Owner, Ratio, User};
use crate::gpu::event::Process;
use crate::gpu::kubelet::PodName;
use crate::identity::Workload;

/// Processes of one owner on one device that are listed.
const MAX_PROCESSES: usize = 256;

/// What tells an owner from all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::gpu) enum OwnerKey {
    /// A container of a pod, by names, since that is how the kubelet has it.
    Container {
        /// The pod.
        pod: PodName,
        /// Its name, or a part of its id where that is all that is known.
        container: String,
    },
    /// Anything else, by its cgroup's path.
    Cgroup(String),
}

/// An owner, and what its processes tell.
#[derive(Clone, Debug)]
pub(super) struct Claimant {
    pub(super) owner: Owner,
    pub(super) holds: Option<Held>,
    pub(super) processes: Vec<u32>,
    /// `None` where one of them does not tell.
    pub(super) memory: Option<u64>,
    /// `None` where none of them has a sample.
    pub(super) busy: Option<Ratio>,
}

/// Everyone who has a device.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    /// In the order of their keys, holders first.
    pub(super) claimants: Vec<Claimant>,
    /// Whether there are processes whose owner is not known, or that work for others.
    pub(super) has_nobodys: bool,
    /// Whether those all tell their memory.
    pub(super) nobodys_tell_memory: bool,
    pub(super) nobodys_memory: u64,
    pub(super) nobodys_busy: Ratio,
}

impl Owner {
    /// Makes the owner of a process.
    pub(in crate::gpu) fn of_process(process: &Process) -> Option<Self> {
        let workload = process.workload.as_ref()?;
        Some(Self {
            namespace: workload.namespace.clone(),
            pod: workload.pod.clone(),
            container: workload.container_label().map(str::to_owned),
            workload: Some(workload.clone()),
        })
    }

    /// Returns what tells it from all others.
    pub(in crate::gpu) fn key(&self) -> OwnerKey {
        match (&self.namespace, &self.pod) {
            (Some(namespace), Some(pod)) => OwnerKey::Container {
                pod: PodName { namespace: namespace.clone(), pod: pod.clone() },
                container: self.container.clone().unwrap_or_default(),
            },
            _ => OwnerKey::Cgroup(path_of(self.workload.as_deref()).to_owned()),
        }
    }
}

fn path_of(workload: Option<&Workload>) -> &str {
    workload.map_or("", |workload| &workload.cgroup_path)
}

/// Whether a workload is a container of that pod, by the pod's names.
fn is_of_pod(workload: &Workload, pod: &PodName) -> bool {
    workload.namespace.as_ref() == Some(&pod.namespace) && workload.pod.as_ref() == Some(&pod.pod)
}

impl Owners {
    pub(super) fn of(holders: &[Holder], users: &[User]) -> Self {
        let mut held: BTreeMap<OwnerKey, Claimant> = BTreeMap::new();
        for Holder { owner, held: of } in holders {
            let claimant = held.entry(owner.key());
            // Two slices of one device are held once.
            claimant.or_insert_with(|| Claimant::new(owner.clone(), Some(of.clone())));
        }
        let mut used: BTreeMap<OwnerKey, Claimant> = BTreeMap::new();
        let mut owners = Self { nobodys_tell_memory: true, ..Self::default() };
        for user in merged(users) {
            let Some(owner) = user.owner.as_ref().filter(|_| !user.is_server) else {
                owners.add_nobodys(&user);
                continue;
            };
            let key = holder_of(&held, owner).unwrap_or_else(|| owner.key());
            let claimant = match held.get_mut(&key) {
                Some(holder) => holder,
                None => used.entry(key).or_insert_with(|| Claimant::new(owner.clone(), None)),
            };
            claimant.add(&user);
        }
        owners.claimants = held.into_values().chain(used.into_values()).collect();
        owners
    }

    fn add_nobodys(&mut self, user: &User) {
        self.has_nobodys = true;
        self.nobodys_tell_memory &= user.memory.is_some();
        self.nobodys_memory = self.nobodys_memory.saturating_add(user.memory.unwrap_or_default());
        self.nobodys_busy += clean(user.busy).unwrap_or_default();
    }
}

impl Claimant {
    fn new(owner: Owner, holds: Option<Held>) -> Self {
        Self { owner, holds, processes: Vec::new(), memory: Some(0), busy: None }
    }

    fn add(&mut self, user: &User) {
        if self.processes.len() < MAX_PROCESSES {
            self.processes.push(user.pid);
        }
        self.memory = self.memory.zip(user.memory).map(|(all, one)| all.saturating_add(one));
        if let Some(busy) = clean(user.busy) {
            self.busy = Some(self.busy.unwrap_or_default() + busy);
        }
        let workload = || user.owner.as_ref().and_then(|owner| owner.workload.clone());
        self.owner.workload = self.owner.workload.take().or_else(workload);
    }
}

/// Finds the holder that an owner is, where only its container's id is known and one container of its
/// pod holds the device.
fn holder_of(held: &BTreeMap<OwnerKey, Claimant>, owner: &Owner) -> Option<OwnerKey> {
    let workload = owner.workload.as_deref()?;
    let is_named = workload.container.is_some();
    let is_it = |key: &&OwnerKey| match key {
        OwnerKey::Container { pod, .. } => is_of_pod(workload, pod),
        OwnerKey::Cgroup(_) => false,
    };
    let mut of_pod = held.keys().filter(is_it);
    match (of_pod.next(), of_pod.next()) {
        (Some(only), None) if !is_named => Some(only.clone()),
        _ => None,
    }
}

/// A process that computes and draws is told of twice, with all of its memory each time.
fn merged(users: &[User]) -> Vec<User> {
    let mut by_pid: BTreeMap<u32, User> = BTreeMap::new();
    for user in users {
        let known = by_pid.entry(user.pid).or_insert_with(|| user.clone());
        known.memory = known.memory.max(user.memory);
        known.busy = match (clean(known.busy), clean(user.busy)) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
    }
    by_pid.into_values().collect()
}

/// A part of a whole; `None` where it is no number or negative.
fn clean(busy: Option<Ratio>) -> Option<Ratio> {
    busy.filter(|busy| busy.is_finite() && *busy >= 0.0).map(|busy| busy.min(1.0))
}
