//! cgroups below the cgroup v2 mount.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use super::eventually;

/// A cgroup that is removed when it is dropped.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one at the root of the hierarchy.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("orb8-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        Self::at(mount().join(name))
    }

    /// Makes one below this one, which has to outlive it.
    pub(crate) fn child(&self, name: &str) -> Self {
        Self::at(self.0.join(name))
    }

    pub(super) fn at(path: PathBuf) -> Self {
        fs::create_dir(&path).expect("a new cgroup: run as root");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn open(&self) -> File {
        File::open(&self.0).expect("the cgroup's directory")
    }

    /// The id that the kernel gives for its sockets: the directory's inode number.
    pub(crate) fn id(&self) -> u64 {
        fs::metadata(&self.0).expect("the cgroup's directory").ino()
    }

    /// Moves this process, so that sockets it makes from now on belong here.
    pub(crate) fn join(&self) -> Joined {
        let before = own();
        enter(&self.0);
        Joined { before }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that just ended may still count as a member.
        eventually("removing the cgroup", || fs::remove_dir(&self.0).ok());
    }
}

/// Membership of a cgroup; dropping it goes back to where the process was.
pub(crate) struct Joined {
    before: PathBuf,
}

impl Drop for Joined {
    fn drop(&mut self) {
        enter(&self.before);
    }
}

/// Moves this process to a cgroup.
pub(crate) fn enter(cgroup: &Path) {
    let procs = cgroup.join("cgroup.procs");
    fs::write(procs, std::process::id().to_string()).expect("joining the cgroup");
}

/// Where the cgroup v2 hierarchy is mounted.
fn mount() -> PathBuf {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    let mounted = table.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        file_system.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4))?
    });
    mounted.expect("cgroup v2 is mounted").into()
}

/// This process's cgroup.
fn own() -> PathBuf {
    let membership = fs::read_to_string("/proc/self/cgroup").expect("the membership");
    let path = membership.lines().find_map(|line| line.strip_prefix("0::/")).expect("cgroup v2");
    mount().join(path)
}
