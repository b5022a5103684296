//! What the agent has of the Kubernetes API, as an object.

use orb8_proto::v1::{Kubernetes, KubernetesWatch};
use serde::Serialize;

use crate::output::value::{Word, timestamp};

#[derive(Debug, Serialize)]
pub(super) struct KubernetesObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Word,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    access: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    server: &'a str,
    pods: u64,
    services: u64,
    nodes: u64,
    address_conflicts: u64,
    watches: Vec<WatchObject<'a>>,
}

#[derive(Debug, Serialize)]
struct WatchObject<'a> {
    resource: &'a str,
    connected: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
    reconnections: u64,
    objects: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sync: Option<String>,
}

impl<'a> KubernetesObject<'a> {
    pub(super) fn new(kubernetes: &'a Kubernetes) -> Self {
        let Kubernetes {
            state: _,
            access,
            server,
            reason,
            watches,
            pods,
            services,
            nodes,
            address_conflicts,
        } = kubernetes;
        Self {
            state: kubernetes.state().word(),
            reason,
            access,
            server,
            pods: *pods,
            services: *services,
            nodes: *nodes,
            address_conflicts: *address_conflicts,
            watches: watches.iter().map(WatchObject::new).collect(),
        }
    }
}

impl<'a> WatchObject<'a> {
    fn new(watch: &'a KubernetesWatch) -> Self {
        let KubernetesWatch { resource, connected, reconnections, last_sync_ns, objects, error } =
            watch;
        Self {
            resource,
            connected: *connected,
            error,
            reconnections: *reconnections,
            objects: *objects,
            last_sync: timestamp(*last_sync_ns),
        }
    }
}
