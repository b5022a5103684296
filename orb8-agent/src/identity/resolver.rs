//! cgroup id → [`Workload`], cached.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashSet;

use orb8_k8s::index::Index;

use super::changes::Changes;
use super::names::Names;
use super::{Workload, path, tree};
use cgroups::{Cgroup, Cgroups};

mod cgroups;

/// Whether an owner's pod or names changed is looked at no more often.
const REFRESH_OWNER: Duration = Duration::from_secs(1);
/// A runtime writes the names of a container at about the time that its cgroup appears.
const NAMES_LATE: Duration = Duration::from_secs(10);

/// Where a [`Resolver`] looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverConfig {
    /// Root of the cgroup v2 hierarchy; without one, every owner is unknown.
    pub cgroup_root: Option<PathBuf>,
    /// Below it are `proc` and the runtimes' files: `/` but for tests.
    pub files: PathBuf,
}

impl ResolverConfig {
    /// Looks in this machine's files.
    #[must_use]
    pub fn new(cgroup_root: Option<PathBuf>) -> Self {
        Self { cgroup_root, files: "/".into() }
    }
}

/// Finds owners by cgroup id. Owners are shared: one allocation per cgroup.
#[derive(Debug)]
pub struct Resolver {
    config: ResolverConfig,
    cgroups: Cgroups,
    kubernetes: Option<Pods>,
}

/// The pods of the Kubernetes API.
#[derive(Debug)]
struct Pods {
    index: Index,
    /// How long one that is not there yet is worth waiting for.
    wait: Duration,
    /// Whether there will be word of it soon.
    are_told: bool,
}

/// An owner that was asked for.
#[derive(Debug)]
struct Owner {
    workload: Arc<Workload>,
    /// When it was first asked for.
    asked: Instant,
    /// The Kubernetes API's pods are not looked at again before, unless they are to tell more.
    next_look: Instant,
    /// Nor are the runtime's files.
    next_read: Instant,
    /// Of the index, when it was last looked at.
    generation: Option<u64>,
}

impl Resolver {
    /// Makes a resolver that knows nothing yet; the first question walks the tree.
    #[must_use]
    pub fn new(config: ResolverConfig) -> Self {
        Self { cgroups: Cgroups::new(config.cgroup_root.clone()), config, kubernetes: None }
    }

    /// Reads what the kernel tells of cgroups that come and go from now on. There is one walk more,
    /// for those that are older.
    pub fn follow(&mut self, changes: Box<dyn Changes>) {
        self.cgroups.follow(changes);
    }

    /// Takes in which cgroups came and went: to be called when there is something to read, and now
    /// and then, to forget those that have been gone for a minute.
    pub fn catch_up(&mut self, now: Instant) {
        self.cgroups.catch_up(now);
    }

    /// Looks for cgroups that nobody asked for, where the kernel does not tell of them.
    pub fn look_around(&mut self, now: Instant) {
        self.cgroups.look_around(now);
    }

    /// Says that some of what the kernel told was lost: the next [`Self::catch_up`] walks the tree, to
    /// find what came and what went.
    pub fn distrust(&mut self) {
        self.cgroups.distrust();
    }

    /// Asks the Kubernetes API's pods as well from now on. A pod that is not there yet is pending
    /// for `wait` after it was first asked for.
    pub fn set_kubernetes(&mut self, index: Index, wait: Duration) {
        self.kubernetes = Some(Pods { index, wait, are_told: true });
    }

    /// Tells whether there will be word soon of this node's pods that are new. If not, only those
    /// without any name are pending: their runtime may be about to write it.
    pub fn set_pods_are_told(&mut self, are_told: bool) {
        if let Some(pods) = &mut self.kubernetes {
            pods.are_told = are_told;
        }
    }

    /// Returns the owner of a cgroup, `None` where it is not known (yet).
    pub fn resolve(&mut self, cgroup_id: u64, now: Instant) -> Option<Arc<Workload>> {
        if cgroup_id == 0 {
            return None;
        }
        let Cgroup { path, owner, .. } = self.cgroups.get(cgroup_id, now)?;
        let describe = || describe(&self.config, cgroup_id, path);
        let owner = owner.get_or_insert_with(|| Owner::new(describe(), now));
        if owner.lacks_names(now) {
            owner.describe_again(describe());
        }
        if let Some(pods) = &self.kubernetes {
            owner.look_up(&pods.index, now);
        }
        Some(Arc::clone(&owner.workload))
    }

    /// Returns the owner that a path tells, of a hierarchy that has no ids to ask for (cgroup v1).
    #[must_use]
    pub fn describe_path(&self, path: &str, now: Instant) -> Arc<Workload> {
        let mut owner = Owner::new(describe(&self.config, 0, path), now);
        if let Some(pods) = &self.kubernetes {
            owner.look_up(&pods.index, now);
        }
        owner.workload
    }

    /// Returns what the Kubernetes API tells, where it is asked.
    #[must_use]
    pub fn kubernetes(&self) -> Option<&Index> {
        self.kubernetes.as_ref().map(|pods| &pods.index)
    }

    /// Returns the root of the cgroup v2 hierarchy.
    #[must_use]
    pub fn cgroup_root(&self) -> Option<&Path> {
        self.config.cgroup_root.as_deref()
    }

    /// Whether the Kubernetes API is yet to tell of an owner's pod, and is worth waiting for.
    #[must_use]
    pub fn is_pending(&self, cgroup_id: u64, now: Instant) -> bool {
        let Some(pods) = &self.kubernetes else { return false };
        let owner = self.cgroups.known.get(&cgroup_id).and_then(|cgroup| cgroup.owner.as_ref());
        owner.is_some_and(|Owner { workload, asked, .. }| {
            let lacks_names = workload.api.is_none() || workload.container.is_none();
            workload.awaits_names()
                && lacks_names
                && now.saturating_duration_since(*asked) < pods.wait
                && (pods.are_told || !workload.is_named_by_runtime)
        })
    }

    /// Whether a cgroup that was known was removed.
    #[must_use]
    pub fn is_gone(&self, cgroup_id: u64) -> bool {
        self.cgroups.known.get(&cgroup_id).is_none_or(Cgroup::is_gone)
    }

    /// Returns how many owners were asked for and are known.
    #[must_use]
    pub fn workloads(&self) -> usize {
        self.owners().count()
    }

    /// Returns the owners that were asked for and are known, with their cgroups' ids.
    pub fn owners(&self) -> impl Iterator<Item = (u64, &Arc<Workload>)> {
        let cgroups = self.cgroups.known.iter();
        cgroups.filter_map(|(id, cgroup)| Some((*id, &cgroup.owner.as_ref()?.workload)))
    }

    /// Returns the cgroups of pods' containers that are there, asked for or not.
    #[must_use]
    pub fn pod_cgroups(&self) -> Vec<u64> {
        let is_container = |cgroup: &Cgroup| {
            let parts = path::parse(&cgroup.path);
            !cgroup.is_gone() && parts.pod_uid.is_some() && parts.container_id.is_some()
        };
        let cgroups = self.cgroups.known.iter().filter(|(_, cgroup)| is_container(cgroup));
        cgroups.map(|(id, _)| *id).collect()
    }

    /// Returns how many pods those are of.
    #[must_use]
    pub fn pods(&self) -> usize {
        let uids = self.owners().filter_map(|(_, workload)| workload.pod_uid.as_deref());
        uids.collect::<HashSet<_>>().len()
    }

    /// Returns how often the whole tree of cgroups was walked.
    #[must_use]
    pub const fn walks(&self) -> u64 {
        self.cgroups.walks
    }

    /// Says why owners are unknown, where something is wrong.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.cgroups.problem()
    }
}

impl Owner {
    fn new(workload: Workload, now: Instant) -> Self {
        Self {
            workload: Arc::new(workload),
            asked: now,
            next_look: now + REFRESH_OWNER,
            next_read: now + REFRESH_OWNER,
            generation: None,
        }
    }

    /// Whether a container that should have a name may have got one since.
    fn lacks_names(&mut self, now: Instant) -> bool {
        let Workload { container_id, container, .. } = &*self.workload;
        let is_due = now >= self.next_read
            && now.saturating_duration_since(self.asked) < NAMES_LATE
            && container_id.is_some()
            && container.is_none();
        if is_due {
            self.next_read = now + REFRESH_OWNER;
        }
        is_due
    }

    /// Whether the Kubernetes API has told of its pod and, where it has one, its container.
    fn is_told(&self) -> bool {
        let Workload { container_id, container_kind, api, .. } = &*self.workload;
        api.is_some() && (container_id.is_none() || container_kind.is_some())
    }

    /// Takes what the files say now. What the Kubernetes API says goes before it.
    fn describe_again(&mut self, now: Workload) {
        if self.workload.api.is_none() {
            self.workload = Arc::new(now);
        } else if now.container.is_some() {
            let mut workload = Workload::clone(&self.workload);
            workload.container = now.container;
            workload.runtime = now.runtime;
            workload.is_named_by_runtime = now.is_named_by_runtime;
            self.workload = Arc::new(workload);
        }
    }

    /// Takes what the Kubernetes API says now. What it does not say any more stays known.
    fn look_up(&mut self, index: &Index, now: Instant) {
        let Workload { pod_uid, container_id, .. } = &*self.workload;
        if pod_uid.is_none() && container_id.is_none() {
            return;
        }
        let generation = Some(index.generation());
        if self.generation == generation || (self.is_told() && now < self.next_look) {
            return;
        }
        (self.generation, self.next_look) = (generation, now + REFRESH_OWNER);
        // Also of an instance before the container was restarted, and where the path tells no pod.
        let container = container_id.as_deref().and_then(|id| index.container(id));
        let by_uid = pod_uid.as_deref().and_then(|uid| index.pod(uid));
        // Where they are two, a manifest may have claimed a static pod's uid, but no container's id.
        let by_uid = by_uid.filter(|pod| container.as_ref().is_none_or(|it| it.0.uid == pod.uid));
        let by_container = || container.as_ref().map(|(pod, ..)| Arc::clone(pod));
        let Some(pod) = by_uid.or_else(by_container) else { return };
        let kind = container.as_ref().map(|(_, _, kind)| *kind);
        let is_same = self.workload.api.as_ref().is_some_and(|known| Arc::ptr_eq(known, &pod))
            && self.workload.container_kind == kind;
        if is_same {
            return;
        }
        let mut workload = Workload::clone(&self.workload);
        workload.namespace = Some(pod.namespace.to_string());
        workload.pod = Some(pod.name.to_string());
        workload.pod_uid.get_or_insert_with(|| pod.uid.to_string());
        if let Some((_, name, kind)) = container {
            workload.container = Some(name.to_string());
            workload.container_kind = Some(kind);
        }
        // A process's namespace was looked at once, perhaps before it was the pod's, and cannot be told
        // without CAP_SYS_PTRACE; the agent's own network is its node's wherever there are pods.
        workload.host_network = pod.host_network;
        workload.api = Some(pod);
        self.workload = Arc::new(workload);
    }
}

/// Reads the owner off a path, and its names off the node's files.
fn describe(config: &ResolverConfig, cgroup_id: u64, path: &str) -> Workload {
    let path::PathParts { pod_uid, container_id, runtime, unit } = path::parse(path);
    let names = match &container_id {
        Some(id) => Names::look_up(&config.files, runtime, id),
        None => Names::default(),
    };
    let is_named_by_runtime = names != Names::default();
    let proc = config.files.join("proc");
    // The root's processes, and the kernel's sockets that count as theirs, are everyone's.
    let root = config.cgroup_root.as_ref().filter(|_| path != "/");
    let processes =
        root.map(|root| tree::Processes::of(&root.join(path.trim_start_matches('/')), &proc));
    let is_nobodys = pod_uid.is_none() && container_id.is_none() && unit.is_none();
    let process = processes.as_ref().filter(|_| is_nobodys).and_then(tree::Processes::name);
    Workload {
        namespace: names.namespace,
        pod: names.pod,
        pod_uid,
        api: None,
        container: names.container,
        container_kind: None,
        container_id,
        runtime: runtime.or(names.runtime),
        unit,
        cgroup_id,
        cgroup_path: path.to_owned(),
        process,
        is_named_by_runtime,
        host_network: processes.is_some_and(|processes| processes.share_our_network()),
    }
}

#[cfg(test)]
mod tests;
