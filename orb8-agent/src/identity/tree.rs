//! The directories of cgroupfs, by inode number: a cgroup v2 id is its directory's inode number.

use std::fs;
use std::io;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;

/// Visits every cgroup below `root`, and `root` itself as `/`, with its id and path.
///
/// What vanishes during the walk is left out.
///
/// # Errors
///
/// `root` itself cannot be read.
pub(super) fn walk(root: &Path, mut visit: impl FnMut(u64, &str)) -> io::Result<()> {
    visit(fs::metadata(root)?.ino(), "/");
    fs::read_dir(root)?;
    let mut pending = vec![String::new()];
    while let Some(path) = pending.pop() {
        let Ok(entries) = fs::read_dir(root.join(path.trim_start_matches('/'))) else {
            continue;
        };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let child = format!("{path}/{}", entry.file_name().to_string_lossy());
            visit(entry.ino(), &child);
            pending.push(child);
        }
    }
    Ok(())
}

/// The processes of a cgroup.
pub(super) struct Processes<'a> {
    pids: String,
    proc: &'a Path,
}

/// Processes that are looked at to tell a cgroup's network namespace: about a millisecond.
const MAX_LOOKED_AT: usize = 1024;

impl<'a> Processes<'a> {
    /// Lists them, none where that cannot be read. `proc` is the procfs that knows their pids.
    pub(super) fn of(cgroup: &Path, proc: &'a Path) -> Self {
        let pids = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        Self { pids, proc }
    }

    /// Names the first one.
    pub(super) fn name(&self) -> Option<String> {
        // A process of another pid namespace reads as 0.
        let pid = self.pids.lines().find(|pid| *pid != "0")?;
        let name = fs::read_to_string(self.proc.join(pid).join("comm")).ok()?;
        Some(name.trim_end().to_owned()).filter(|name| !name.is_empty())
    }

    /// Whether they are known to be all in this process's network namespace.
    pub(super) fn share_our_network(&self) -> bool {
        let network = |pid: &str| fs::read_link(self.proc.join(pid).join("ns/net")).ok();
        let Some(ours) = network("self") else {
            return false;
        };
        let count = self.pids.lines().count();
        (1..=MAX_LOOKED_AT).contains(&count)
            && self.pids.lines().all(|pid| network(pid).is_some_and(|theirs| theirs == ours))
    }
}
