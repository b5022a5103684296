//! Whose a row is.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::identity::{Identity, Workload};

/// The owner of rows. Instances of one workload are equal.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    /// All that had no room of their own.
    Everybody,
    /// cgroup v2 id of an owner that is not known, 0 where that is not known either.
    Cgroup(u64),
    /// A known one.
    Workload(Arc<Workload>),
}

/// What owners are compared by.
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key<'a> {
    Everybody,
    Cgroup(u64),
    Workload(Identity<'a>),
}

impl Owner {
    pub(super) fn of(cgroup_id: u64, workload: Option<&Arc<Workload>>) -> Self {
        match workload {
            Some(workload) => Self::Workload(Arc::clone(workload)),
            None => Self::Cgroup(cgroup_id),
        }
    }

    pub(super) fn workload(&self) -> Option<&Arc<Workload>> {
        match self {
            Self::Workload(workload) => Some(workload),
            Self::Everybody | Self::Cgroup(_) => None,
        }
    }

    pub(super) const fn cgroup(&self) -> Option<u64> {
        match self {
            Self::Cgroup(id) => Some(*id),
            Self::Everybody | Self::Workload(_) => None,
        }
    }

    fn key(&self) -> Key<'_> {
        match self {
            Self::Everybody => Key::Everybody,
            Self::Cgroup(id) => Key::Cgroup(*id),
            Self::Workload(workload) => Key::Workload(workload.identity()),
        }
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Owner {}

impl Hash for Owner {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl Ord for Owner {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Owner {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
