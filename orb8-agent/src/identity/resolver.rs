//! cgroup id → [`Workload`], cached.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};
use tracing::debug;

use super::names::Names;
use super::{Workload, handle, path, tree};

type ById<T> = HashMap<u64, T, foldhash::fast::RandomState>;

/// Where ids are found by walks only, a new cgroup's first events may be without an owner for so
/// long; and a storm of unknown ids walks no more often.
const WALK_INTERVAL: Duration = Duration::from_millis(200);
/// A walk of a large tree is followed by this many times its own duration without one: at most 5 %
/// of a core.
const WALK_REST: u32 = 20;
/// Where ids are found without walks, one this often tells which cgroups are gone.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// Flows of a cgroup that is gone still arrive with the drains after it.
const KEEP_VANISHED: Duration = Duration::from_secs(60);
/// An id that no directory has (it is gone already) is not looked for again for so long.
const KEEP_MISSING: Duration = Duration::from_secs(10);
/// Some nodes have thousands of cgroups; none has this many. About 20 MiB.
const MAX_KNOWN: usize = 65_536;
/// Ids without a directory that are remembered.
const MAX_MISSING: usize = 4_096;

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
    known: ById<Cgroup>,
    /// Ids that were not found when they were looked for, until when.
    missing: ById<Instant>,
    /// Finds one id's path.
    path_of: PathOf,
    /// Whether that does not serve here, so that walks have to do.
    needs_walks: bool,
    walks: u64,
    next_walk: Option<Instant>,
    next_refresh: Option<Instant>,
    problem: Option<String>,
}

/// [`handle::path_of`], but for tests.
type PathOf = fn(&Path, u64) -> io::Result<Option<String>>;

#[derive(Debug)]
struct Cgroup {
    path: Box<str>,
    workload: Option<Arc<Workload>>,
    /// The last walk that saw it.
    walk: u64,
    vanished: Option<Instant>,
}

impl Resolver {
    /// Makes a resolver that knows nothing yet; the first question walks the tree.
    #[must_use]
    pub fn new(config: ResolverConfig) -> Self {
        let problem = match config.cgroup_root {
            Some(_) => None,
            None => {
                Some("no cgroup v2 hierarchy is mounted; mount one or set --cgroup-root".into())
            }
        };
        Self {
            config,
            known: ById::default(),
            missing: ById::default(),
            path_of: handle::path_of,
            needs_walks: false,
            walks: 0,
            next_walk: None,
            next_refresh: None,
            problem,
        }
    }

    /// Returns the owner of a cgroup, `None` where it is not known (yet).
    pub fn resolve(&mut self, cgroup_id: u64, now: Instant) -> Option<Arc<Workload>> {
        if cgroup_id == 0 {
            return None;
        }
        if !self.known.contains_key(&cgroup_id) && !self.find(cgroup_id, now) {
            return None;
        }
        let cgroup = self.known.get_mut(&cgroup_id)?;
        let workload =
            cgroup.workload.get_or_insert_with(|| Arc::new(describe(&self.config, &cgroup.path)));
        Some(Arc::clone(workload))
    }

    /// Returns how many owners were asked for and are known.
    #[must_use]
    pub fn workloads(&self) -> usize {
        self.known.values().filter(|cgroup| cgroup.workload.is_some()).count()
    }

    /// Returns how many pods those are of.
    #[must_use]
    pub fn pods(&self) -> usize {
        let workloads = self.known.values().filter_map(|cgroup| cgroup.workload.as_deref());
        workloads.filter_map(|workload| workload.pod_uid.as_deref()).collect::<HashSet<_>>().len()
    }

    /// Says why owners are unknown, where something is wrong.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Whether the id is found, by its handle or by a walk if one may be made.
    fn find(&mut self, cgroup_id: u64, now: Instant) -> bool {
        if self.missing.get(&cgroup_id).is_some_and(|until| now < *until) {
            return false;
        }
        if !self.look_up(cgroup_id, now) {
            if self.next_walk.is_some_and(|next| now < next) {
                return false;
            }
            self.walk(now);
        }
        let found = self.known.contains_key(&cgroup_id);
        if !found && self.missing.len() < MAX_MISSING {
            self.missing.insert(cgroup_id, now + KEEP_MISSING);
        }
        found
    }

    /// Looks for one id by its handle. Returns whether that tells, found or not.
    fn look_up(&mut self, cgroup_id: u64, now: Instant) -> bool {
        let Some(root) = self.config.cgroup_root.as_deref().filter(|_| !self.needs_walks) else {
            return false;
        };
        match (self.path_of)(root, cgroup_id) {
            Ok(found) => {
                self.problem = None;
                self.refresh(now);
                if let Some(path) = found {
                    self.learn(cgroup_id, &path);
                }
                true
            }
            Err(error) => {
                self.needs_walks = is_for_good(&error);
                debug!(%error, self.needs_walks, "a cgroup is looked for by a walk");
                false
            }
        }
    }

    /// Walks at first, for cgroups that are gone when their events are read, and now and then, to
    /// tell which are gone.
    fn refresh(&mut self, now: Instant) {
        let is_due = |next: Option<Instant>| next.is_none_or(|next| now >= next);
        if is_due(self.next_refresh) && is_due(self.next_walk) {
            self.walk(now);
        }
    }

    fn learn(&mut self, cgroup_id: u64, path: &str) {
        if self.known.len() >= MAX_KNOWN && !self.known.contains_key(&cgroup_id) {
            return;
        }
        let walk = self.walks;
        let cgroup = self.known.entry(cgroup_id).or_insert_with(|| Cgroup {
            path: path.into(),
            workload: None,
            walk,
            vanished: None,
        });
        cgroup.walk = walk;
        cgroup.vanished = None;
    }

    fn walk(&mut self, now: Instant) {
        let Some(root) = &self.config.cgroup_root else {
            return;
        };
        self.walks += 1;
        let (walk, known) = (self.walks, &mut self.known);
        let started = Instant::now();
        let result = tree::walk(root, |id, path| {
            if let Some(cgroup) = known.get_mut(&id) {
                cgroup.walk = walk;
                cgroup.vanished = None;
            } else if known.len() < MAX_KNOWN {
                let cgroup = Cgroup { path: path.into(), workload: None, walk, vanished: None };
                known.insert(id, cgroup);
            }
        });
        let took = started.elapsed();
        self.next_walk = Some(now + WALK_INTERVAL.max(took * WALK_REST));
        self.next_refresh = Some(now + REFRESH_INTERVAL);
        self.problem = result.err().map(|error| {
            format!("cannot read the cgroups below {}: {error}; owners are unknown", root.display())
        });
        self.known.retain(|_, cgroup| {
            let gone_for = |since: Instant| now.saturating_duration_since(since);
            cgroup.walk == walk || gone_for(*cgroup.vanished.get_or_insert(now)) < KEEP_VANISHED
        });
        self.missing.retain(|_, until| now < *until);
        debug!(cgroups = self.known.len(), ?took, "walked the cgroups");
    }
}

/// Whether an error of a look-up says that the next one fails as well. The root may be gone for a
/// moment only.
fn is_for_good(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput
    )
}

/// Reads the owner off a path, and its names off the node's files.
fn describe(config: &ResolverConfig, path: &str) -> Workload {
    let path::PathParts { pod_uid, container_id, runtime, unit } = path::parse(path);
    let names = match &container_id {
        Some(id) => Names::look_up(&config.files, runtime, id),
        None => Names::default(),
    };
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
        container: names.container,
        container_id,
        runtime: runtime.or(names.runtime),
        unit,
        cgroup_path: path.to_owned(),
        process,
        host_network: processes.is_some_and(|processes| processes.share_our_network()),
    }
}

#[cfg(test)]
mod tests;
