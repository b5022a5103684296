//! How long a label set stays: as long as somebody whom it tells of.

use std::sync::Arc;
use std::time::Instant;

use crate::enrich::Enricher;
use crate::identity::{Party, Workload};

/// systemd gives this prefix to units that `systemd-run` makes up.
const TRANSIENT_PREFIX: &str = "run-";

/// Units of this kind are never started again.
const SCOPE: &str = ".scope";

/// What tells who there is, and is going to be.
pub(crate) trait Owners {
    /// Returns the owner of a cgroup as it is known now.
    fn owner(&mut self, cgroup_id: u64, now: Instant) -> Option<Arc<Workload>>;

    /// Whether more will soon be known of a cgroup's owner.
    fn is_pending(&self, cgroup_id: u64, now: Instant) -> bool;

    /// Whether a cgroup was removed.
    fn is_gone(&self, cgroup_id: u64) -> bool;

    /// Whether the Kubernetes API has a pod and it has not ended; `None` where that is not known.
    fn has_pod(&self, uid: &str) -> Option<bool>;
}

impl Owners for Enricher {
    fn owner(&mut self, cgroup_id: u64, now: Instant) -> Option<Arc<Workload>> {
        Self::owner(self, cgroup_id, now)
    }

    fn is_pending(&self, cgroup_id: u64, now: Instant) -> bool {
        Self::is_pending(self, cgroup_id, now)
    }

    fn is_gone(&self, cgroup_id: u64) -> bool {
        Self::is_gone(self, cgroup_id)
    }

    fn has_pod(&self, uid: &str) -> Option<bool> {
        Some(self.kubernetes()?.has_pod(uid))
    }
}

/// How long somebody is there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Life {
    /// As long as the node.
    Endless,
    /// As long as a cgroup.
    Cgroup(u64),
    /// As long as a pod, whose container has a cgroup where it is this node's (else 0).
    Pod { uid: Arc<str>, cgroup_id: u64 },
}

impl Life {
    pub(super) fn of(party: &Party) -> Self {
        if let Some(owner) = party.workload() {
            return Self::of_workload(owner);
        }
        match party.pod() {
            Some(pod) => Self::Pod { uid: Arc::clone(&pod.uid), cgroup_id: 0 },
            None => Self::Endless,
        }
    }

    fn of_workload(owner: &Workload) -> Self {
        let cgroup_id = owner.cgroup_id;
        let told = owner.api.as_ref().map(|pod| Arc::clone(&pod.uid));
        if let Some(uid) = told.or_else(|| owner.pod_uid.as_deref().map(Arc::from)) {
            return Self::Pod { uid, cgroup_id };
        }
        match owner.unit.as_deref() {
            Some(unit) if is_started_again(unit) => Self::Endless,
            None if owner.is_root() => Self::Endless,
            _ => Self::Cgroup(cgroup_id),
        }
    }

    pub(super) fn is_over(&self, owners: &impl Owners) -> bool {
        match self {
            Self::Endless => false,
            Self::Cgroup(id) => owners.is_gone(*id),
            // A container that crashed has no cgroup until it is started again.
            Self::Pod { uid, cgroup_id } => match owners.has_pod(uid) {
                Some(true) => false,
                Some(false) | None => *cgroup_id == 0 || owners.is_gone(*cgroup_id),
            },
        }
    }
}

/// Whether a unit's name comes again.
fn is_started_again(unit: &str) -> bool {
    !unit.ends_with(SCOPE) && !unit.starts_with(TRANSIENT_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_one_run_end_with_it() {
        assert!(is_started_again("nginx.service") && is_started_again("user@1000.service"));
        assert!(!is_started_again("session-12.scope") && !is_started_again("run-r7f.service"));
    }
}
