//! Whose a process is: PID → cgroup → [`Workload`].
//!
//! ```text
//! /proc/PID/stat ─▶ name, start time ─┐
//! /proc/PID/cgroup ─▶ path ─▶ cgroup ─┴─(pipeline's resolver)─▶ Workload
//! ```
//! A process is the same one while its number and its start time are. One that is gone keeps the owner
//! that it had: drivers tell of processes that ended between two calls.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::event::Process;
use super::kubelet::PodName;
use crate::identity::Workload;
use crate::pipeline::{self, SharedPipeline};
use containers::Containers;
use membership::{Hierarchy, Membership};

mod containers;
mod membership;

#[cfg(test)]
mod tests;

/// A runtime moves a container's first process into its cgroup after it was started; others may be
/// moved at any time.
const READ_AGAIN: Duration = Duration::from_secs(10);
/// A driver tells of a process that ended no longer than this.
const KEEP: Duration = Duration::from_mins(1);
/// More than there are on the devices of any node.
const MAX_KNOWN: usize = 4096;

/// Tells whose processes and containers are.
pub trait Who {
    /// Returns a process, whether it is there or not.
    fn process(&mut self, pid: u32) -> Process;

    /// Returns what runs as a container of a pod, once it does.
    fn container(&mut self, pod: &PodName, container: &str) -> Option<Arc<Workload>>;

    /// Whether a pod is known to have ended: kubelets go on to tell of what it was given.
    fn has_ended(&mut self, pod: &PodName) -> bool;
}

/// See the [module](self).
#[derive(Debug)]
pub struct Processes {
    proc: PathBuf,
    cgroups: Option<Hierarchy>,
    pipeline: SharedPipeline,
    known: HashMap<u32, Known, foldhash::fast::RandomState>,
    containers: Containers,
    now: Instant,
    unread: u64,
}

#[derive(Debug)]
struct Known {
    process: Process,
    /// Since boot, in the kernel's ticks.
    start: u64,
    membership: Membership,
    /// When it was last asked for.
    asked: Instant,
    /// When its cgroup was read.
    read: Instant,
}

impl Processes {
    /// Looks below `proc`, and for owners where the pipeline does.
    #[must_use]
    pub fn new(proc: PathBuf, pipeline: SharedPipeline, now: Instant) -> Self {
        let cgroups = Hierarchy::find(pipeline::lock(&pipeline).identity(), now);
        Self {
            proc,
            cgroups,
            pipeline,
            known: HashMap::default(),
            containers: Containers::default(),
            now,
            unread: 0,
        }
    }

    /// Begins an interval: what was not asked for in a while is forgotten.
    pub fn begin(&mut self, now: Instant) {
        self.now = now;
        self.unread = 0;
        self.known.retain(|_, known| now.saturating_duration_since(known.asked) < KEEP);
        self.containers.begin(&self.pipeline, now);
    }

    /// Returns the processes that a container has now.
    #[must_use]
    pub fn of_container(&self, workload: &Workload) -> Vec<u32> {
        let Some(all) = self.cgroups.as_ref().filter(|_| workload.cgroup_id != 0) else {
            return Vec::new();
        };
        containers::processes(&all.root, &workload.cgroup_path)
    }

    /// Returns how many processes that were asked for since [`Self::begin`] are not in `/proc`.
    #[must_use]
    pub const fn unread(&self) -> u64 {
        self.unread
    }

    /// Returns how many processes are remembered.
    #[must_use]
    pub fn known(&self) -> usize {
        self.known.len()
    }

    fn find(&mut self, pid: u32) -> Process {
        if let Some(known) = self.known.get(&pid).filter(|known| known.asked == self.now) {
            return known.process.clone();
        }
        let Some((name, start)) = read_stat(&self.proc, pid) else {
            self.unread += 1;
            return self.gone(pid);
        };
        let known = self.known.remove(&pid).filter(|known| known.start == start);
        let known = known.map_or_else(
            || self.meet(pid, &name, start),
            |mut known| {
                if *known.process.name != *name {
                    known.process.name = name.as_str().into();
                }
                known
            },
        );
        let known = self.look(known);
        let process = known.process.clone();
        if self.known.len() < MAX_KNOWN {
            self.known.insert(pid, known);
        }
        process
    }

    /// Returns what is known of a process that is not there any more.
    fn gone(&mut self, pid: u32) -> Process {
        if let Some(known) = self.known.get_mut(&pid) {
            known.asked = self.now;
            return known.process.clone();
        }
        Process { pid, name: Arc::default(), workload: None }
    }

    fn meet(&self, pid: u32, name: &str, start: u64) -> Known {
        Known {
            process: Process { pid, name: name.into(), workload: None },
            start,
            membership: Membership::read(&self.proc, self.cgroups.as_ref(), pid),
            asked: self.now,
            read: self.now,
        }
    }

    /// Finds the owner anew: its names may have become known, and it may have been moved.
    fn look(&self, mut known: Known) -> Known {
        known.asked = self.now;
        let is_new = known.process.workload.is_none();
        if is_new || self.now.saturating_duration_since(known.read) >= READ_AGAIN {
            known.read = self.now;
            known.membership =
                Membership::read(&self.proc, self.cgroups.as_ref(), known.process.pid);
        }
        let mut pipeline = pipeline::lock(&self.pipeline);
        let workload = match &known.membership {
            Membership::Cgroup(id) => pipeline.identity().resolve(*id, self.now),
            Membership::Path(path) => Some(pipeline.identity().describe_path(path, self.now)),
            Membership::Unknown => None,
        };
        drop(pipeline);
        // One that was just removed is not known any more, and was this process's all the same.
        known.process.workload = workload.or(known.process.workload);
        known
    }
}

impl Who for Processes {
    fn process(&mut self, pid: u32) -> Process {
        self.find(pid)
    }

    fn container(&mut self, pod: &PodName, container: &str) -> Option<Arc<Workload>> {
        self.containers.find(pod, container, self.now)
    }

    fn has_ended(&mut self, pod: &PodName) -> bool {
        self.containers.has_ended(pod)
    }
}

/// Reads a process's name and start time.
fn read_stat(proc: &Path, pid: u32) -> Option<(String, u64)> {
    let stat = fs::read(proc.join(pid.to_string()).join("stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&stat))
}

/// `PID (name) S …`, where a name may have anything in it; the start time is field 22.
fn parse_stat(stat: &str) -> Option<(String, u64)> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    // Field 3 is the first one behind the name.
    let start = after.split_ascii_whitespace().nth(22 - 3)?.parse().ok()?;
    Some((name.to_owned(), start))
}
