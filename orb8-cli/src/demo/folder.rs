//! A demonstration's folder, and what is left of demonstrations that were killed.
//!
//! The folder's name is that of the cgroup too. A file in it is locked as long as the demonstration
//! lives, whatever its number and in whatever namespace: what nobody has locked is nobody's any more.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tempfile::TempDir;

use super::cgroups;

/// What the names begin with.
const PREFIX: &str = "orb8-demo-";

/// The file that is locked.
const LOCK: &str = "lock";

/// It is removed when it is dropped.
pub(super) struct Folder {
    // In this order: whoever finds it unlocked removes it.
    folder: TempDir,
    _lock: File,
}

impl Folder {
    /// Makes one, and removes what others left.
    pub(super) fn make() -> io::Result<Self> {
        let folder = Self::make_in(&std::env::temp_dir())?;
        folder.remove_leftovers(crate::standalone::cgroup_mount().as_deref());
        Ok(folder)
    }

    fn make_in(parent: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        // Locked before it has its name: a file that has it and is not locked is a dead one's.
        let unnamed = folder.path().join("unlocked");
        let lock = File::create_new(&unnamed)?;
        lock.lock()?;
        fs::rename(unnamed, folder.path().join(LOCK))?;
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the name, which tells it from others everywhere.
    pub(super) fn name(&self) -> &OsStr {
        self.path().file_name().unwrap_or_default()
    }

    /// Removes folders beside this one, and cgroups of their names, that belong to no living
    /// demonstration. What cannot be removed stays: it is in nobody's way.
    fn remove_leftovers(&self, mount: Option<&Path>) {
        let Some(parent) = self.path().parent() else { return };
        let Ok(owner) = fs::symlink_metadata(self.path()).map(|of| of.uid()) else { return };
        let folders = fs::read_dir(parent).into_iter().flatten().flatten();
        for folder in folders.filter(|it| it.file_name().to_string_lossy().starts_with(PREFIX)) {
            // Others may make folders of such names, with anything in them.
            if !folder.metadata().is_ok_and(|of| of.is_dir() && of.uid() == owner) {
                continue;
            }
            let Ok(lock) = File::open(folder.path().join(LOCK)) else { continue };
            if lock.try_lock().is_ok() {
                if let Some(mount) = mount {
                    cgroups::remove(&mount.join(folder.file_name()));
                }
                let _ = fs::remove_dir_all(folder.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_dead_left_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let mount = tempfile::tempdir().unwrap();
        let make = || Folder::make_in(parent.path()).unwrap();
        let cgroup = |of: &Path| mount.path().join(of.file_name().unwrap());
        let alive = make();
        let dead = make();
        for of in [&alive, &dead] {
            fs::create_dir_all(cgroup(of.path()).join("kubepods.slice")).unwrap();
        }
        // As a kill leaves it: there, and unlocked.
        let Folder { folder, _lock: lock } = dead;
        let dead = folder.keep();
        drop(lock);
        let others = parent.path().join("somebody-elses");
        let unlocked = parent.path().join("orb8-demo-without-a-lock");
        for of in [&others, &unlocked] {
            fs::create_dir(of).unwrap();
        }

        make().remove_leftovers(Some(mount.path()));
        let is_there = [&dead, &cgroup(&dead)].map(|path| path.exists());
        assert_eq!(is_there, [false, false], "what was left");
        for path in [alive.path(), &cgroup(alive.path()), &others, &unlocked] {
            assert!(path.exists(), "{}", path.display());
        }
    }
}
