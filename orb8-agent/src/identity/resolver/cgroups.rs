//! cgroup id → path: told by the kernel, else by the id's handle, else found by a walk.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tracing::debug;

use super::Owner;
use crate::identity::changes::{Change, Changes};
use crate::identity::{handle, tree};

type ById<T> = HashMap<u64, T, foldhash::fast::RandomState>;

/// Where ids are found by walks only, a new cgroup's first events may be without an owner for so
/// long; and a storm of unknown ids walks no more often.
const WALK_INTERVAL: Duration = Duration::from_millis(200);
/// A walk of a large tree is followed by this many times its own duration without one: at most 5 %
/// of a core.
const WALK_REST: u32 = 20;
/// Where the kernel does not tell of changes, a walk this often tells which cgroups are gone.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// Flows of a cgroup that is gone still arrive with the drains after it.
const KEEP_VANISHED: Duration = Duration::from_secs(60);
/// An id that no directory has (it is gone already) is not looked for again for so long.
const KEEP_MISSING: Duration = Duration::from_secs(10);
/// Some nodes have thousands of cgroups; none has this many. About 20 MiB.
const MAX_KNOWN: usize = 65_536;
/// Ids without a directory that are remembered.
const MAX_MISSING: usize = 4_096;

/// The cgroups below a root, and what is known of each.
#[derive(Debug)]
pub(super) struct Cgroups {
    root: Option<PathBuf>,
    pub(super) known: ById<Cgroup>,
    /// Ids that were not found when they were looked for, until when.
    missing: ById<Instant>,
    /// Those that vanished, in order.
    gone: VecDeque<(Instant, u64)>,
    /// Finds one id's path.
    pub(super) path_of: PathOf,
    /// Whether that does not serve here, so that walks have to do.
    pub(super) needs_walks: bool,
    pub(super) walks: u64,
    next_walk: Option<Instant>,
    next_refresh: Option<Instant>,
    problem: Option<String>,
    changes: Option<Box<dyn Changes>>,
    /// Whether there is something that changes did not tell: what is older than they are, or lost.
    has_gap: bool,
    /// Whether changes were lost since the last walk: a cgroup that is gone may count as there.
    has_loss: bool,
    /// Path of `root` from the root of the hierarchy, where the paths of changes begin, without a
    /// slash at its end; `None` until it is known.
    pub(super) prefix: Option<String>,
}

/// [`handle::path_of`], but for tests.
pub(super) type PathOf = fn(&Path, u64) -> io::Result<Option<String>>;

/// One cgroup.
#[derive(Debug)]
pub(super) struct Cgroup {
    pub(super) path: Box<str>,
    pub(super) owner: Option<Owner>,
    /// The last walk that saw it.
    walk: u64,
    vanished: Option<Instant>,
}

impl Cgroup {
    /// Whether it was removed.
    pub(super) const fn is_gone(&self) -> bool {
        self.vanished.is_some()
    }
}

impl Cgroups {
    /// Knows nothing yet; the first question walks the tree.
    pub(super) fn new(root: Option<PathBuf>) -> Self {
        let problem = match root {
            Some(_) => None,
            None => {
                Some("no cgroup v2 hierarchy is mounted; mount one or set --cgroup-root".into())
            }
        };
        Self {
            prefix: root.as_deref().and_then(handle::path_in_hierarchy),
            root,
            known: ById::default(),
            missing: ById::default(),
            gone: VecDeque::new(),
            path_of: handle::path_of,
            needs_walks: false,
            walks: 0,
            next_walk: None,
            next_refresh: None,
            problem,
            changes: None,
            has_gap: true,
            has_loss: false,
        }
    }

    /// Reads changes from now on, in place of walks that look for them.
    pub(super) fn follow(&mut self, changes: Box<dyn Changes>) {
        self.changes = Some(changes);
        self.has_gap = true;
    }

    /// Says that changes were lost: a walk is due.
    pub(super) const fn distrust(&mut self) {
        self.has_gap = true;
        self.has_loss = true;
    }

    /// Returns a cgroup, `None` where it is not known (yet).
    pub(super) fn get(&mut self, id: u64, now: Instant) -> Option<&mut Cgroup> {
        if !self.known.contains_key(&id) && !self.find(id, now) {
            return None;
        }
        self.known.get_mut(&id)
    }

    /// Says why cgroups are unknown, where something is wrong.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Takes in what changed, and forgets what has been gone for long enough.
    pub(super) fn catch_up(&mut self, now: Instant) {
        if let Some(mut changes) = self.changes.take() {
            changes.read(&mut |change| match change {
                Change::Made { id, path } => self.made(id, path),
                Change::Removed { id } => self.vanish(id, now),
            });
            self.changes = Some(changes);
        }
        if self.has_loss && self.may_walk(now) {
            self.walk(now);
        }
        self.expire(now);
    }

    /// Walks where nothing else tells of cgroups, and the last walk was a while ago.
    pub(super) fn look_around(&mut self, now: Instant) {
        if self.changes.is_none() && self.may_walk(now) {
            self.walk(now);
        }
    }

    fn made(&mut self, id: u64, path: Option<&str>) {
        self.missing.remove(&id);
        let Some(path) = path.filter(|path| self.find_prefix(id, path)) else {
            // A handle finds it while it is there. Without handles, only a walk does.
            self.has_gap |= self.needs_walks;
            return;
        };
        let below = path.strip_prefix(self.prefix.as_deref().unwrap_or_default());
        if let Some(below) = below.filter(|below| below.starts_with('/')).map(str::to_owned) {
            self.learn(id, &below);
        }
    }

    /// Whether it is known where the root is in the hierarchy. Where the hierarchy's own root is out of
    /// sight, the first cgroup that both a change and its handle tell of shows it.
    fn find_prefix(&mut self, id: u64, path: &str) -> bool {
        if self.prefix.is_none() {
            let root = self.root.as_deref();
            let found = root.and_then(|root| (self.path_of)(root, id).ok().flatten());
            let prefix = found.and_then(|found| path.strip_suffix(&*found).map(str::to_owned));
            self.prefix = prefix;
        }
        self.prefix.is_some()
    }

    /// Whether the id is found, among changes, by its handle, or by a walk if one may be made.
    fn find(&mut self, id: u64, now: Instant) -> bool {
        self.catch_up(now);
        if self.known.contains_key(&id) {
            return true;
        }
        if self.missing.get(&id).is_some_and(|until| now < *until) {
            return false;
        }
        if !self.look_up(id, now) {
            if !self.may_walk(now) {
                return false;
            }
            self.walk(now);
        }
        let found = self.known.contains_key(&id);
        if !found && self.missing.len() < MAX_MISSING {
            self.missing.insert(id, now + KEEP_MISSING);
        }
        found
    }

    /// Looks for one id by its handle. Returns whether that tells, found or not.
    fn look_up(&mut self, id: u64, now: Instant) -> bool {
        let Some(root) = self.root.as_deref().filter(|_| !self.needs_walks) else {
            return false;
        };
        match (self.path_of)(root, id) {
            Ok(found) => {
                self.problem = None;
                self.refresh(now);
                if let Some(path) = found {
                    self.learn(id, &path);
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

    /// Whether a walk is no waste: the last one was a while ago, and there is something to find that
    /// the kernel did not tell.
    fn may_walk(&self, now: Instant) -> bool {
        let is_rested = self.next_walk.is_none_or(|next| now >= next);
        is_rested && (self.changes.is_none() || self.has_gap)
    }

    /// Walks at first, for cgroups that are gone when their events are read. Where the kernel does not
    /// tell which are gone, walks tell it now and then.
    fn refresh(&mut self, now: Instant) {
        let is_due = self.changes.is_some() || self.next_refresh.is_none_or(|next| now >= next);
        if is_due && self.may_walk(now) {
            self.walk(now);
        }
    }

    fn learn(&mut self, id: u64, path: &str) {
        if self.known.len() >= MAX_KNOWN && !self.known.contains_key(&id) {
            return self.forget_one_for(id, path);
        }
        let walk = self.walks;
        let cgroup = self.known.entry(id).or_insert_with(|| Cgroup::new(path, walk));
        cgroup.walk = walk;
        cgroup.vanished = None;
    }

    /// Those that are gone make room.
    fn forget_one_for(&mut self, id: u64, path: &str) {
        while let Some((since, gone)) = self.gone.pop_front() {
            if self.forget(gone, since) {
                self.known.insert(id, Cgroup::new(path, self.walks));
                return;
            }
        }
    }

    pub(super) fn walk(&mut self, now: Instant) {
        let Some(root) = &self.root else {
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
                known.insert(id, Cgroup::new(path, walk));
            }
        });
        let took = started.elapsed();
        self.next_walk = Some(now + WALK_INTERVAL.max(took * WALK_REST));
        self.next_refresh = Some(now + REFRESH_INTERVAL);
        self.has_gap = result.is_err();
        self.has_loss = false;
        self.problem = result.err().map(|error| {
            format!("cannot read the cgroups below {}: {error}; owners are unknown", root.display())
        });
        for (id, cgroup) in &mut self.known {
            if cgroup.walk != walk && cgroup.vanished.is_none() {
                cgroup.vanished = Some(now);
                self.gone.push_back((now, *id));
            }
        }
        self.missing.retain(|_, until| now < *until);
        self.expire(now);
        debug!(cgroups = self.known.len(), ?took, "walked the cgroups");
    }

    fn vanish(&mut self, id: u64, now: Instant) {
        if let Some(cgroup) = self.known.get_mut(&id)
            && cgroup.vanished.is_none()
        {
            cgroup.vanished = Some(now);
            self.gone.push_back((now, id));
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((since, id)) = self.gone.front().copied() {
            if now.saturating_duration_since(since) < KEEP_VANISHED {
                break;
            }
            self.gone.pop_front();
            self.forget(id, since);
        }
    }

    /// Forgets one that vanished then, and did not turn up again. Returns whether it did.
    fn forget(&mut self, id: u64, vanished: Instant) -> bool {
        let is_gone = self.known.get(&id).is_some_and(|known| known.vanished == Some(vanished));
        is_gone && self.known.remove(&id).is_some()
    }
}

impl Cgroup {
    fn new(path: &str, walk: u64) -> Self {
        Self { path: path.into(), owner: None, walk, vanished: None }
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
