//! Cgroups as the kubelet makes them, below one of our own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::CliError;

/// How long processes may take to be gone from a cgroup.
const PATIENCE: Duration = Duration::from_secs(5);

/// The tree; it is removed when it is dropped.
pub(super) struct Cgroups {
    root: PathBuf,
}

impl Cgroups {
    /// Makes its root.
    pub(super) fn make(name: &OsStr) -> Result<Self, CliError> {
        let mount = crate::standalone::cgroup_mount().ok_or_else(|| {
            let problem = "there is no cgroup v2 hierarchy, by which pods are told apart";
            CliError::Failed(format!("{problem}: mount -t cgroup2 none /sys/fs/cgroup/unified"))
        })?;
        let root = mount.join(name);
        fs::create_dir(&root).map_err(|error| CliError::NoPermission {
            problem: format!("cannot make the cgroup {}: {error}", root.display()),
            remedy: "run it with sudo".to_owned(),
        })?;
        Ok(Self { root })
    }

    /// What the agent takes for the hierarchy's root.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a container's.
    pub(super) fn container(&self, pod_uid: &str, id: &str) -> Result<PathBuf, CliError> {
        let pod = pod_uid.replace('-', "_");
        let path = self.root.join("kubepods.slice").join(format!("kubepods-pod{pod}.slice"));
        let path = path.join(format!("cri-containerd-{id}.scope"));
        fs::create_dir_all(&path).map_err(super::failed("make a container's cgroup"))?;
        Ok(path)
    }

    /// Makes a service's.
    pub(super) fn unit(&self, name: &str) -> Result<PathBuf, CliError> {
        let path = self.root.join("system.slice").join(name);
        fs::create_dir_all(&path).map_err(super::failed("make a service's cgroup"))?;
        Ok(path)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        remove(&self.root);
    }
}

/// Removes a cgroup and those below it, where it is there.
pub(super) fn remove(root: &Path) {
    let start = Instant::now();
    // A process that was ended is in its cgroup until it was buried.
    while root.exists() && try_remove(root).is_err() && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Begins with the deepest.
fn try_remove(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            try_remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
