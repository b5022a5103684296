//! What configuration depends on outside the settings themselves. Tests make their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::settings::{DEFAULT_FILE, ENV_PREFIX, OTHER_VARIABLES, SETTINGS};
use crate::cost::page_size;

/// Says what is wrong with a path, if anything is.
pub type CheckPath = fn(&Path) -> Result<(), String>;

/// The world around a configuration.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
    /// Read when no file is named, if it exists.
    pub default_file: Option<PathBuf>,
    /// Host name.
    pub host_name: Option<String>,
    /// Memory page size, bytes.
    pub page_size: u64,
    /// Mount point of the cgroup v2 hierarchy.
    pub cgroup_mount: Option<PathBuf>,
    /// Mount point of the part of it that `/proc/self/cgroup` tells paths in.
    pub own_cgroup_mount: Option<PathBuf>,
    /// Says what is wrong with a directory as the root of cgroups; without it, none is looked at.
    pub check_cgroup: Option<CheckPath>,
}

impl Environment {
    /// Reads this process's environment.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .map(|(name, value)| {
                (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
            })
            .collect();
        Self { variables, default_file: Some(DEFAULT_FILE.into()), ..Self::of_machine() }
    }

    /// Reads what the machine tells, and neither variables nor files.
    #[must_use]
    pub fn of_machine() -> Self {
        let read = |path: &str| fs::read_to_string(path).ok();
        let mountinfo = read("/proc/self/mountinfo").unwrap_or_default();
        Self {
            variables: BTreeMap::new(),
            default_file: None,
            host_name: read("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()),
            page_size: page_size(),
            cgroup_mount: cgroup_mount(&mountinfo),
            own_cgroup_mount: own_cgroup_mount(&mountinfo),
            check_cgroup: Some(check_cgroup),
        }
    }

    /// Returns the variables that begin like ours and are not.
    pub(super) fn unknown_variables(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str).filter(|name| {
            name.starts_with(ENV_PREFIX)
                && !SETTINGS.iter().any(|setting| setting.env == *name)
                && !OTHER_VARIABLES.iter().any(|(other, _)| other == name)
                && !is_service_link(name)
        })
    }
}

/// Whether Kubernetes makes variables of this form for every Service of the pod's namespace,
/// so that a Service named `orb8-agent` must not stop an agent beside it.
fn is_service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.split_once("_PORT_").is_some_and(|(_, rest)| {
            let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
            digits.len() < rest.len()
                && ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| digits.starts_with(protocol))
        })
}

fn check_cgroup(path: &Path) -> Result<(), String> {
    fs::read_dir(path).map_err(|error| format!("cannot be read: {error}"))?;
    let files = statfs(path).map_err(|error| format!("cannot be examined: {error}"))?;
    if files.filesystem_type() == CGROUP2_SUPER_MAGIC {
        Ok(())
    } else {
        Err("is no directory of cgroup v2 (`findmnt -t cgroup2` shows where that is)".to_owned())
    }
}

/// Finds where the whole cgroup v2 hierarchy is mounted, in the text of `/proc/self/mountinfo`.
///
/// A mount of a part (`root` other than `/`) shows paths that no cgroup id has from the root. In a
/// container's cgroup namespace `/` is the container's own cgroup, and what is above it reads
/// `/..`: there, the mount that reaches highest is the node's.
fn cgroup_mount(mountinfo: &str) -> Option<PathBuf> {
    let mounts = cgroup_mounts(mountinfo);
    // Of several that reach as high, the first one.
    let highest = mounts.reduce(|best, next| if next.0 > best.0 { next } else { best });
    highest.map(|(_, point)| point)
}

/// Finds where the hierarchy is mounted from the root of this process's cgroup namespace on.
fn own_cgroup_mount(mountinfo: &str) -> Option<PathBuf> {
    cgroup_mounts(mountinfo).find_map(|(height, point)| (height == 0).then_some(point))
}

/// Finds the mounts of cgroup v2 that reach at least to the root of this process's cgroup
/// namespace, with the levels above it.
fn cgroup_mounts(mountinfo: &str) -> impl Iterator<Item = (usize, PathBuf)> {
    mountinfo.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let is_cgroup2 = filesystem.split(' ').next() == Some("cgroup2");
        is_cgroup2.then_some((height(root)?, unescape(point)))
    })
}

/// How many levels above the root of this process's cgroup namespace a mount's root is; `None`
/// where it is elsewhere.
fn height(root: &str) -> Option<usize> {
    let mut parts = root.split('/').filter(|part| !part.is_empty());
    parts.try_fold(0, |height, part| (part == "..").then_some(height + 1))
}

/// Undoes mountinfo's octal escapes of blanks and backslashes.
fn unescape(text: &str) -> PathBuf {
    let plain = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain));
    Path::new(&plain).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_whole_cgroup2_mount() {
        let pure =
            "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(cgroup_mount(pure), Some("/sys/fs/cgroup".into()));
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup_mount(hybrid), Some("/sys/fs/cgroup/unified".into()));
        let part = "41 31 0:38 /kubepods /mnt/part rw - cgroup2 cgroup2 rw\n\
                    42 31 0:38 / /mnt/a\\040b rw - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup_mount(part), Some("/mnt/a b".into()));
        // A container with a cgroup namespace of its own, and the node's hierarchy as a host mount.
        let container = "60 51 0:38 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n\
                         61 51 0:38 /../../../.. /host/sys/fs/cgroup ro - cgroup2 cgroup2 rw\n\
                         62 51 0:38 /../../.. /mnt/kubepods ro - cgroup2 cgroup2 rw\n\
                         63 51 0:38 /../../../../system.slice /mnt/system ro - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup_mount(container), Some("/host/sys/fs/cgroup".into()));
        assert_eq!(own_cgroup_mount(container), Some("/sys/fs/cgroup".into()));
        assert_eq!(own_cgroup_mount(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(cgroup_mount("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw\n"), None);
        assert_eq!(cgroup_mount("\nnonsense\n - \n"), None);
    }

    #[test]
    fn only_misspelt_settings_are_unknown() {
        let names = [
            "ORB8_LISTEN",
            "ORB8_CONFIG",
            "ORB8_AGENT",
            "ORB8_AGENT_SERVICE_HOST",
            "ORB8_AGENT_SERVICE_PORT",
            "ORB8_AGENT_SERVICE_PORT_GRPC",
            "ORB8_AGENT_PORT",
            "ORB8_AGENT_PORT_9090_TCP",
            "ORB8_AGENT_PORT_9090_TCP_ADDR",
            "ORB8_LISTENN",
            "ORB8_PORT_NUMBER",
            "PATH",
        ];
        let variables = names.iter().map(|name| ((*name).to_owned(), String::new())).collect();
        let environment = Environment { variables, ..Environment::default() };
        let unknown: Vec<&str> = environment.unknown_variables().collect();
        assert_eq!(unknown, ["ORB8_LISTENN", "ORB8_PORT_NUMBER"]);
    }
}
