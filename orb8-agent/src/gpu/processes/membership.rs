//! The cgroup that a process is in, by the lines of `/proc/PID/cgroup`.
//!
//! ```text
//! 0::/kubepods.slice/…          cgroup v2
//! 0::/../../kubepods.slice/…    the same, seen from the agent's own container (cgroup namespace)
//! 12:devices:/kubepods/…        cgroup v1: where a hybrid node's containers may be alone
//! ```

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::config::Environment;
use crate::identity::{self, Resolver};

/// Where a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Membership {
    /// A cgroup of the v2 hierarchy, by its id.
    Cgroup(u64),
    /// A path of a v1 hierarchy alone.
    Path(String),
    /// It cannot be told.
    Unknown,
}

/// The cgroup v2 hierarchy, and from where in it paths are told.
#[derive(Clone, Debug)]
pub(super) struct Hierarchy {
    pub(super) root: PathBuf,
    /// Path of the root of this process's cgroup namespace, `/` where it has none of its own.
    told_from: String,
    /// Where the root is below what paths are told from, in tests and demonstrations; empty elsewhere.
    below: PathBuf,
}

impl Hierarchy {
    /// Finds it; `None` where there is no cgroup v2.
    pub(super) fn find(resolver: &mut Resolver, now: Instant) -> Option<Self> {
        let root = resolver.cgroup_root()?.to_owned();
        let mount = Environment::of_machine().own_cgroup_mount;
        let below = mount.as_deref().and_then(|mount| root.strip_prefix(mount).ok());
        let below = below.map(Path::to_owned).unwrap_or_default();
        let own = mount.and_then(|own| fs::metadata(own).ok());
        let told_from = own.and_then(|own| resolver.resolve(own.ino(), now));
        let told_from = told_from.map_or_else(|| "/".into(), |own| own.cgroup_path.clone());
        Some(Self { root, told_from, below })
    }

    #[cfg(test)]
    pub(super) fn told_from(root: &Path, path: &str) -> Self {
        Self { root: root.to_owned(), told_from: path.to_owned(), below: PathBuf::new() }
    }

    /// Returns a path from the root of the hierarchy, of one as this process sees it.
    fn absolute(&self, path: &str) -> Option<String> {
        let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
        let mut above: Vec<&str> =
            self.told_from.split('/').filter(|part| !part.is_empty()).collect();
        while parts.next_if_eq(&"..").is_some() {
            above.pop()?;
        }
        above.extend(parts);
        let path = above.join("/");
        // Outside of the root is nobody who is known.
        let path = Path::new(&path).strip_prefix(&self.below).ok()?;
        Some(format!("/{}", path.display()))
    }

    /// Returns the id of the cgroup at a path from the root.
    fn id_of(&self, path: &str) -> Option<u64> {
        Some(fs::metadata(self.root.join(path.trim_start_matches('/'))).ok()?.ino())
    }
}

impl Membership {
    /// Reads where a process is.
    pub(super) fn read(proc: &Path, hierarchy: Option<&Hierarchy>, pid: u32) -> Self {
        let file = proc.join(pid.to_string()).join("cgroup");
        match fs::read_to_string(file) {
            Ok(text) => Self::parse(&text, hierarchy),
            Err(_) => Self::Unknown,
        }
    }

    pub(super) fn parse(text: &str, hierarchy: Option<&Hierarchy>) -> Self {
        let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
        let unified = unified.map(|path| path.strip_suffix(" (deleted)").unwrap_or(path));
        let unified = hierarchy.zip(unified).and_then(|(all, path)| all.absolute(path));
        let by_id = |path: &str| hierarchy.and_then(|all| all.id_of(path)).map(Self::Cgroup);
        if let Some(found) = unified.as_deref().filter(|path| is_container(path)).and_then(by_id) {
            return found;
        }
        let mut legacy = text.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (is_unified, path) = (fields.next()? == "0", fields.nth(1)?);
            (!is_unified).then_some(path)
        });
        if let Some(path) = legacy.find(|path| is_container(path)) {
            return by_id(path).unwrap_or_else(|| Self::Path(path.to_owned()));
        }
        unified.as_deref().and_then(by_id).unwrap_or(Self::Unknown)
    }
}

/// Whether a path is a container's or a pod's.
fn is_container(path: &str) -> bool {
    let parts = identity::parse(path);
    parts.container_id.is_some() || parts.pod_uid.is_some()
}
