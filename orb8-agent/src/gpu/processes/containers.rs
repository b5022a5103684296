//! The containers that hold devices: who they are, and which processes they have, used or not.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::{HashMap, HashSet};

use orb8_k8s::object::Phase;

use super::PodName;
use crate::identity::Workload;
use crate::pipeline::{self, SharedPipeline};

/// A container that starts is found this much later at most. Its processes find it themselves.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// What is not found is looked for ever more seldom, up to this: it may have no name here at all.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
/// Who was not asked for so long holds nothing any more.
const KEEP: Duration = Duration::from_mins(1);
/// Owners that are looked at while the pipeline is locked: most of them are found by their number, and
/// a new one's names are read from files.
const PIECE: usize = 8;
/// Processes of one container.
const MAX_PROCESSES: usize = 1024;
/// Cgroups below a container's own (systemd or Docker in it).
const MAX_CGROUPS: usize = 64;

/// The containers that were asked for, by the names that the kubelet has for them.
#[derive(Debug, Default)]
pub(super) struct Containers {
    wanted: HashMap<(PodName, String), Wanted>,
    /// Pods that ended, of those that have no container.
    ended: HashSet<PodName>,
    /// When all of the node's containers are looked at again, and how much later once more.
    next: Option<Instant>,
    rest: Duration,
}

#[derive(Debug)]
struct Wanted {
    workload: Option<Arc<Workload>>,
    asked: Instant,
}

impl Containers {
    /// Looks whether those that are known are still there, and for those that are not.
    pub(super) fn begin(&mut self, pipeline: &SharedPipeline, now: Instant) {
        self.wanted.retain(|_, wanted| now.saturating_duration_since(wanted.asked) < KEEP);
        if self.wanted.is_empty() {
            return;
        }
        self.look_again(pipeline, now);
        let are_missing = self.wanted.values().any(|wanted| wanted.workload.is_none());
        if are_missing && self.next.is_none_or(|next| now >= next) {
            self.look(pipeline, now);
            self.note_ended(pipeline);
            self.rest = (self.rest * 2).clamp(LOOK_INTERVAL, LONGEST_INTERVAL);
            self.next = Some(now + self.rest);
        }
    }

    pub(super) fn find(
        &mut self,
        pod: &PodName,
        container: &str,
        now: Instant,
    ) -> Option<Arc<Workload>> {
        let name = (pod.clone(), container.to_owned());
        let wanted = self.wanted.entry(name).or_insert_with(|| {
            // A new one is worth a look at once.
            (self.next, self.rest) = (None, Duration::ZERO);
            Wanted { workload: None, asked: now }
        });
        wanted.asked = now;
        wanted.workload.clone()
    }

    pub(super) fn has_ended(&self, pod: &PodName) -> bool {
        self.ended.contains(pod)
    }

    /// What is known of them may have changed, and one that was started again has another cgroup.
    fn look_again(&mut self, pipeline: &SharedPipeline, now: Instant) {
        let mut pipeline = pipeline::lock(pipeline);
        let identity = pipeline.identity();
        for wanted in self.wanted.values_mut() {
            let Some(workload) = &mut wanted.workload else { continue };
            let id = workload.cgroup_id;
            let found = identity.resolve(id, now).filter(|_| !identity.is_gone(id));
            if found.is_none() {
                (self.next, self.rest) = (None, Duration::ZERO);
            }
            wanted.workload = found;
        }
    }

    /// Looks at all of the node's containers.
    fn look(&mut self, pipeline: &SharedPipeline, now: Instant) {
        let cgroups = {
            let mut pipeline = pipeline::lock(pipeline);
            pipeline.identity().look_around(now);
            pipeline.identity().pod_cgroups()
        };
        for piece in cgroups.chunks(PIECE) {
            let mut pipeline = pipeline::lock(pipeline);
            for id in piece {
                let Some(owner) = pipeline.identity().resolve(*id, now) else { continue };
                let wanted = name_of(&owner).and_then(|name| self.wanted.get_mut(&name));
                if let Some(wanted) = wanted {
                    wanted.workload = Some(owner);
                }
            }
        }
    }

    /// Looks which of the pods without a container are over. A pod's name may be another one's later.
    fn note_ended(&mut self, pipeline: &SharedPipeline) {
        let index = pipeline::lock(pipeline).identity().kubernetes().cloned();
        let missing = self.wanted.iter().filter(|(_, wanted)| wanted.workload.is_none());
        let missing: HashSet<&PodName> = missing.map(|((pod, _), _)| pod).collect();
        let pods = index.map(|index| index.pods()).unwrap_or_default();
        let ended = pods
            .iter()
            .filter(|pod| pod.phase == Phase::Ended)
            .map(|pod| PodName { namespace: pod.namespace.to_string(), pod: pod.name.to_string() });
        self.ended = ended.filter(|pod| missing.contains(pod)).collect();
    }
}

/// Returns the name of a container of a pod, once it is known.
fn name_of(owner: &Workload) -> Option<(PodName, String)> {
    let (namespace, pod) = (owner.namespace.clone()?, owner.pod.clone()?);
    Some((PodName { namespace, pod }, owner.container.clone()?))
}

/// Lists the processes of a cgroup and of those below it.
pub(super) fn processes(root: &Path, path: &str) -> Vec<u32> {
    let mut pids = Vec::new();
    let mut pending = vec![root.join(path.trim_start_matches('/'))];
    let mut seen = 0;
    while let Some(cgroup) = pending.pop().filter(|_| seen < MAX_CGROUPS) {
        seen += 1;
        let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        // A process of another pid namespace reads as 0.
        pids.extend(text.lines().filter_map(|pid| pid.parse::<u32>().ok()).filter(|pid| *pid != 0));
        let below = fs::read_dir(&cgroup).into_iter().flatten().flatten();
        let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        pending.extend(below.map(|entry| entry.path()));
    }
    pids.truncate(MAX_PROCESSES);
    pids
}
