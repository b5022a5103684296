//! One cgroup's path by its id, without a walk: the id is what a file handle of cgroupfs consists of.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs, statfs};

use crate::ebpf::open_cgroup;

/// Returns the path of a cgroup below `root`, as [`super::tree::walk`] tells it; `None` where there
/// is no such cgroup below it.
///
/// # Errors
///
/// Handles do not serve here: `root` is not of cgroup v2, or `CAP_DAC_READ_SEARCH` is missing.
pub(super) fn path_of(root: &Path, id: u64) -> io::Result<Option<String>> {
    let directory = File::open(root)?;
    if fstatfs(&directory)?.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let cgroup = match open_cgroup(directory.as_fd(), id) {
        Ok(cgroup) => cgroup,
        Err(error) if error.raw_os_error() == Some(libc::ESTALE) => return Ok(None),
        Err(error) => return Err(error),
    };
    let (found, root_path) = (opened_path(&cgroup)?, opened_path(&directory)?);
    let Ok(below) = found.strip_prefix(&root_path) else {
        return Ok(None);
    };
    // Removed meanwhile, its path is another one's, or nobody's.
    let is_it = fs::metadata(root.join(below)).is_ok_and(|directory| directory.ino() == id);
    Ok(is_it.then(|| format!("/{}", below.to_string_lossy())))
}

/// The root of the hierarchy has this id.
const HIERARCHY_ROOT: u64 = 1;

/// Returns the path of a directory of cgroup v2 from the root of its hierarchy, empty for that root;
/// `None` where the root is out of sight: in a cgroup namespace, or below a mount of a part.
pub(super) fn path_in_hierarchy(directory: &Path) -> Option<String> {
    let directory = fs::canonicalize(directory).ok()?;
    if statfs(&directory).ok()?.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return None;
    }
    let of = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let (device, _) = of(&directory)?;
    let top = directory.ancestors().find(|above| of(above) == Some((device, HIERARCHY_ROOT)))?;
    let below = directory.strip_prefix(top).ok()?.to_string_lossy().into_owned();
    Some(if below.is_empty() { below } else { format!("/{below}") })
}

/// Asks where an open file is: links and mounts are resolved alike for both.
fn opened_path(file: &impl AsRawFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
