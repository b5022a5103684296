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

/// Names the first process of a cgroup, by the `proc` that knows its pids.
pub(super) fn process_name(cgroup: &Path, proc: &Path) -> Option<String> {
    let pids = fs::read_to_string(cgroup.join("cgroup.procs")).ok()?;
    // A process of another pid namespace reads as 0.
    let pid = pids.lines().find(|pid| *pid != "0")?;
    let name = fs::read_to_string(proc.join(pid).join("comm")).ok()?;
    Some(name.trim_end().to_owned()).filter(|name| !name.is_empty())
}
