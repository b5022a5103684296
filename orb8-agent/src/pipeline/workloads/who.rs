//! Who rows and peers are, and what tells one from another.

use std::sync::Arc;

use orb8_k8s::object::Controller;

use super::WorkloadGroup;
use crate::identity::{Identity, Party};

/// The owner of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// One of those that it is made of; the level says how much of it they have in common.
    pub party: Party,
    /// What they have in common.
    pub level: Level,
    /// Tells it from others; empty for what nobody is known to own.
    pub key: String,
}

/// What the members of a row have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// That nobody is known to own them.
    #[default]
    Nobody,
    /// Their pods' controller.
    Controller,
    /// Their pod.
    Pod,
    /// Everything.
    Own,
}

/// Someone at the other end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Peer {
    /// A workload, grouped as rows are.
    Who(Who),
    /// A Service, or a node.
    Party(Party),
    /// Whoever has a name that DNS knows.
    Name(Arc<str>),
    /// Whoever has an address; network order, IPv4 as `::ffff:a.b.c.d`.
    Addr([u8; 16]),
    /// Not told.
    #[default]
    Nobody,
}

impl Who {
    /// Tells who an owner is, as rows are grouped.
    pub(super) fn of(party: &Party, group: WorkloadGroup) -> Self {
        let (level, key) = found(party, group).unwrap_or_default();
        let party = if level == Level::Nobody { Party::Unknown } else { party.clone() };
        Self { party, level, key }
    }
}

/// Returns what the owner is known by, `None` for nobody in particular.
fn found(party: &Party, group: WorkloadGroup) -> Option<(Level, String)> {
    if let Some(uid) = pod_uid(party) {
        let controller = party.controller().filter(|_| group == WorkloadGroup::Controller);
        if let Some(Controller { kind, name }) = controller {
            let namespace = party.namespace().unwrap_or_default();
            return Some((Level::Controller, format!("{namespace}/{kind}/{name}")));
        }
        if group != WorkloadGroup::Container {
            return Some((Level::Pod, format!("pod:{uid}")));
        }
        let container = party.workload().map(|owner| match owner.identity() {
            Identity::OfPod { container, .. } => container.to_owned(),
            Identity::Container(id) => id.to_owned(),
            Identity::Path(_) => String::new(),
        });
        return Some(match container.filter(|container| !container.is_empty()) {
            Some(container) => (Level::Own, format!("pod:{uid}/{container}")),
            None => (Level::Pod, format!("pod:{uid}")),
        });
    }
    let key = match party.workload()?.identity() {
        Identity::OfPod { pod_uid, container } => format!("pod:{pod_uid}/{container}"),
        Identity::Container(id) => format!("container:{id}"),
        Identity::Path(path) => format!("cgroup:{path}"),
    };
    Some((Level::Own, key))
}

/// Returns the pod's uid: of a static pod the API's, where that is known.
pub(super) fn pod_uid(party: &Party) -> Option<&str> {
    let of_cgroup = || party.workload()?.pod_uid.as_deref();
    party.pod().map(|pod| &*pod.uid).or_else(of_cgroup)
}
