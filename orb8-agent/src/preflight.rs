//! What this machine has of what the agent needs: the table behind `orb8 diagnose`.

use std::path::Path;

use aya::Btf;
use caps::{CapSet, Capability};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use crate::{
    config::Environment,
    ebpf::{Feature, Features},
    error::AgentError,
    status::{Check, CheckState},
};

/// The kernel that the features below came with; older ones lack the ring buffer.
const OLDEST_KERNEL: &str = "5.8";

/// Kernel memory for each entry of the flow table: two generations of the table and of its slots,
/// and its part of the closed sockets (31 MiB at 65,536 entries, the ring left out).
const FLOW_BYTES: u64 = 480;

/// What was found.
pub struct Preflight {
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// The kernel's types, where it tells them.
    pub btf: Option<Btf>,
    /// What the kernel can do.
    pub features: Features,
    /// Capabilities that are missing, by name.
    pub missing: Vec<String>,
    memory_lock: MemoryLock,
}

/// Whether locked memory can run out, on kernels before 5.11, which charge maps to it.
enum MemoryLock {
    Unlimited,
    Limited(u64),
}

impl Preflight {
    /// Looks, and raises the limits of locked memory and of open files where it may.
    #[must_use]
    pub fn run() -> Self {
        let btf = Btf::from_sys_fs().ok();
        let memory_lock = raise_memory_lock();
        raise_open_files();
        Self {
            kernel: nix::sys::utsname::uname()
                .map(|name| name.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            features: Features::probe(btf.as_ref()),
            btf,
            missing: missing_capabilities(),
            memory_lock,
        }
    }

    /// Fails when nothing can be loaded.
    ///
    /// # Errors
    /// [`AgentError::MissingPrivileges`] with the way to get them.
    pub fn privileges(&self) -> Result<(), AgentError> {
        if self.missing.is_empty() {
            return Ok(());
        }
        Err(AgentError::MissingPrivileges { missing: self.missing.clone(), remedy: remedy() })
    }

    /// Fails when the maps would not leave this machine enough memory: the kernel would take it from
    /// whoever comes next.
    ///
    /// # Errors
    /// [`AgentError::Unavailable`] with the figures.
    pub fn memory(&self, flow_table_size: u32) -> Result<(), AgentError> {
        let (needed, available) = (u64::from(flow_table_size) * FLOW_BYTES, available_memory());
        match available {
            Some(available) if needed > available / 2 => Err(AgentError::Unavailable {
                reason: format!(
                    "a flow table of {flow_table_size} entries takes {} MiB of kernel memory, more \
                     than half of the {} MiB that are available; lower --flow-table-size",
                    needed >> 20,
                    available >> 20
                ),
            }),
            _ => Ok(()),
        }
    }

    /// The table.
    #[must_use]
    pub fn checks(&self, cgroup_root: Option<&Path>) -> Vec<Check> {
        let mut checks = vec![self.kernel_check(), self.capability_check()];
        checks.push(self.memory_lock_check());
        checks.push(cgroup_check(cgroup_root));
        checks.extend(self.features.rows().iter().map(|feature| self.feature_check(feature)));
        checks
    }

    fn kernel_check(&self) -> Check {
        let state = if self.features.ring() || !self.missing.is_empty() {
            CheckState::Ok
        } else {
            CheckState::Failed
        };
        Check {
            name: "kernel",
            state,
            detail: self.kernel.clone(),
            remedy: (state == CheckState::Failed)
                .then(|| format!("run a kernel of {OLDEST_KERNEL} or later")),
        }
    }

    fn capability_check(&self) -> Check {
        if self.missing.is_empty() {
            let detail = "what loading and attaching need is there".to_owned();
            return Check { name: "capabilities", state: CheckState::Ok, detail, remedy: None };
        }
        Check {
            name: "capabilities",
            state: CheckState::Failed,
            detail: format!("missing {}", self.missing.join(", ")),
            remedy: Some(remedy()),
        }
    }

    fn memory_lock_check(&self) -> Check {
        let charged = !self.features.charges_memory_cgroup();
        let (state, detail) = match (&self.memory_lock, charged) {
            (MemoryLock::Unlimited, _) => (CheckState::Ok, "unlimited".to_owned()),
            (MemoryLock::Limited(bytes), _) if !self.missing.is_empty() => {
                let detail =
                    format!("{bytes} bytes; not known without the capabilities if it matters");
                return Check {
                    name: "locked memory",
                    state: CheckState::Absent,
                    detail,
                    remedy: None,
                };
            }
            (MemoryLock::Limited(bytes), false) => {
                (CheckState::Ok, format!("{bytes} bytes; this kernel does not charge maps to it"))
            }
            (MemoryLock::Limited(bytes), true) => {
                (CheckState::Absent, format!("{bytes} bytes, and this kernel charges maps to it"))
            }
        };
        let remedy = (state == CheckState::Absent)
            .then(|| "grant CAP_SYS_RESOURCE or raise the limit (ulimit -l unlimited)".to_owned());
        Check { name: "locked memory", state, detail, remedy }
    }

    fn feature_check(&self, feature: &Feature) -> Check {
        let Feature { name, present, purpose, since } = feature;
        let (state, detail, remedy) = if *present {
            (CheckState::Ok, (*purpose).to_owned(), None)
        } else if !self.missing.is_empty() {
            let detail = "not known without the capabilities".to_owned();
            (CheckState::Absent, detail, None)
        } else {
            let remedy = format!("stock kernels have it since {since}");
            (CheckState::Absent, (*purpose).to_owned(), Some(remedy))
        };
        Check { name, state, detail, remedy }
    }
}

/// Looks at this machine without starting anything.
#[must_use]
pub fn run() -> Vec<Check> {
    let cgroup_root = Environment::of_machine().cgroup_mount;
    Preflight::run().checks(cgroup_root.as_deref())
}

/// What loading and attaching need: programs and maps, their tracing kind, and network hooks.
const NEEDED: [Capability; 3] =
    [Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_NET_ADMIN];

fn missing_capabilities() -> Vec<String> {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    // Until 5.8 it was all of one; it still contains the newer two.
    let admin = has(Capability::CAP_SYS_ADMIN);
    NEEDED
        .into_iter()
        .filter(|needed| !(has(*needed) || (admin && *needed != Capability::CAP_NET_ADMIN)))
        .map(|capability| capability.to_string())
        .collect()
}

fn remedy() -> String {
    let binary = std::env::current_exe()
        .map_or_else(|_| "orb8".to_owned(), |path| path.display().to_string());
    format!(
        "run it with sudo, or grant them to the binary: \
         sudo setcap cap_bpf,cap_perfmon,cap_net_admin,cap_sys_resource+ep {binary}"
    )
}

/// `MemAvailable`, bytes.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

fn raise_memory_lock() -> MemoryLock {
    // Kernels before 5.11 charge maps to this limit; the others do not mind a failure.
    if setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_ok() {
        return MemoryLock::Unlimited;
    }
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((RLIM_INFINITY, _)) => MemoryLock::Unlimited,
        Ok((soft, _)) => MemoryLock::Limited(soft),
        Err(_) => MemoryLock::Limited(0),
    }
}

/// An interface takes up to four descriptors, and systemd starts services with a limit of 1,024 that
/// they may raise: a node with 250 pods has more.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

fn cgroup_check(cgroup_root: Option<&Path>) -> Check {
    let (state, detail, remedy) = match cgroup_root {
        Some(root) => match std::fs::read_dir(root) {
            Ok(_) => (CheckState::Ok, root.display().to_string(), None),
            Err(error) => (
                CheckState::Absent,
                format!("{}: {error}", root.display()),
                Some("set --cgroup-root to the mount point of cgroup v2".to_owned()),
            ),
        },
        None => (
            CheckState::Absent,
            "not mounted: the interface hook serves, with owners unknown".to_owned(),
            Some("mount -t cgroup2 none /sys/fs/cgroup, or set --cgroup-root".to_owned()),
        ),
    };
    Check { name: "cgroup v2", state, detail, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_limited_by_the_hard_limit_alone() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard - 1, hard).unwrap();
        raise_open_files();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
