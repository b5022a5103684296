//! Pods as objects. The schema is documented one level up.

use std::collections::BTreeMap;
use std::net::IpAddr;

use orb8_proto::v1::{Container, Pod};
use serde::Serialize;

use super::end::ControllerObject;
use super::value::{Word, is_zero};

/// A pod that the agent knows.
#[derive(Debug, Serialize)]
pub(crate) struct PodObject<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    node_name: &'a str,
    local: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    controller: Option<ControllerObject<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    host_network: bool,
    ips: Vec<IpAddr>,
    containers: Vec<ContainerObject<'a>>,
    known_by: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct ContainerObject<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Word,
    #[serde(skip_serializing_if = "is_zero")]
    cgroup_id: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    cgroup_path: &'a str,
}

impl<'a> PodObject<'a> {
    pub(crate) fn new(pod: &'a Pod) -> Self {
        // Exhaustive, so that a new field is not forgotten here.
        let Pod {
            namespace,
            name,
            uid,
            node_name,
            controller,
            labels,
            phase: _,
            ips: _,
            host_network,
            containers,
            local,
            sources: _,
        } = pod;
        Self {
            r#type: "pod",
            namespace,
            name,
            uid,
            node_name,
            local: *local,
            phase: pod.phase().word(),
            controller: controller.as_ref().map(ControllerObject::new),
            labels,
            host_network: *host_network,
            ips: pod.addrs().collect(),
            containers: containers.iter().map(ContainerObject::new).collect(),
            known_by: pod.sources().filter_map(|source| source.word()).collect(),
        }
    }
}

impl<'a> ContainerObject<'a> {
    fn new(container: &'a Container) -> Self {
        let Container { name, id, kind: _, runtime: _, cgroup_id, cgroup_path } = container;
        Self {
            name,
            id,
            kind: container.kind().word(),
            runtime: container.runtime().word(),
            cgroup_id: *cgroup_id,
            cgroup_path,
        }
    }
}
