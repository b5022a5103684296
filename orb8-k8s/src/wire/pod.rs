//! Pods.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use serde::Deserialize;

use super::{Addresses, meta, resource};
use crate::object::{ContainerKind, Phase};

/// A pod's metadata, containers and addresses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodObject {
    #[serde(deserialize_with = "meta::trimmed")]
    pub(crate) metadata: ObjectMeta,
    spec: Option<PodSpec>,
    status: Option<PodStatus>,
}

resource!(PodObject, NamespaceResourceScope, "", "v1", "Pod", "pods");

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Option<String>,
    host_network: Option<bool>,
    containers: Option<Vec<ContainerSpec>>,
    init_containers: Option<Vec<ContainerSpec>>,
    ephemeral_containers: Option<Vec<ContainerSpec>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerSpec {
    name: Option<String>,
    restart_policy: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<Ip>>,
    #[serde(rename = "hostIP")]
    host_ip: Option<String>,
    #[serde(rename = "hostIPs")]
    host_ips: Option<Vec<Ip>>,
    start_time: Option<String>,
    container_statuses: Option<Vec<ContainerStatus>>,
    init_container_statuses: Option<Vec<ContainerStatus>>,
    ephemeral_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Ip {
    ip: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: Option<String>,
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    last_state: Option<LastState>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LastState {
    terminated: Option<Terminated>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Terminated {
    #[serde(rename = "containerID")]
    container_id: Option<String>,
}

/// A container as the manifest has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContainerFacts<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: ContainerKind,
    pub(crate) id: Option<&'a str>,
    /// The instance before this one: one that lives for less than a status update is only here.
    pub(crate) previous: Option<&'a str>,
}

impl PodObject {
    pub(crate) fn node(&self) -> Option<&str> {
        self.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
    }

    pub(crate) fn host_network(&self) -> bool {
        self.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
    }

    pub(crate) fn config_hash(&self) -> Option<&str> {
        meta::config_hash(&self.metadata)
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.status.as_ref().and_then(|status| status.phase.as_deref()) {
            Some("Running") => Phase::Running,
            Some("Succeeded" | "Failed") => Phase::Ended,
            _ => Phase::Pending,
        }
    }

    /// When the kubelet took it up, else when it was made, in nanoseconds of unix time.
    pub(crate) fn started(&self) -> Option<u64> {
        let start = self.status.as_ref().and_then(|status| status.start_time.as_deref());
        start.and_then(meta::unix_ns).or_else(|| meta::created(&self.metadata))
    }

    /// Addresses of its own that it has now: the node's are not, and those of a pod that ended are
    /// free.
    pub(crate) fn addresses(&self) -> Addresses {
        let Some(status) = &self.status else {
            return Addresses::default();
        };
        if self.host_network() || self.phase() == Phase::Ended {
            return Addresses::default();
        }
        let mut own = Addresses::read(all_of(&status.pod_ip, &status.pod_ips));
        let host = Addresses::read(all_of(&status.host_ip, &status.host_ips));
        own.ips.retain(|ip| !host.ips.contains(ip));
        own
    }

    /// Its containers in the manifest's order: init, main, ephemeral. Those that only the status
    /// names come last of their group.
    pub(crate) fn containers(&self) -> impl Iterator<Item = ContainerFacts<'_>> {
        let spec = self.spec.as_ref();
        let status = self.status.as_ref();
        let init = group(
            ContainerKind::Init,
            spec.and_then(|spec| spec.init_containers.as_deref()),
            status.and_then(|status| status.init_container_statuses.as_deref()),
        );
        let main = group(
            ContainerKind::Main,
            spec.and_then(|spec| spec.containers.as_deref()),
            status.and_then(|status| status.container_statuses.as_deref()),
        );
        let ephemeral = group(
            ContainerKind::Ephemeral,
            spec.and_then(|spec| spec.ephemeral_containers.as_deref()),
            status.and_then(|status| status.ephemeral_container_statuses.as_deref()),
        );
        init.chain(main).chain(ephemeral)
    }
}

/// The first address first: the list has it too, but a writer may have set only one of the two.
fn all_of<'a>(
    first: &'a Option<String>,
    list: &'a Option<Vec<Ip>>,
) -> impl Iterator<Item = &'a str> {
    first.iter().chain(list.iter().flatten().filter_map(|ip| ip.ip.as_ref())).map(String::as_str)
}

fn group<'a>(
    kind: ContainerKind,
    specs: Option<&'a [ContainerSpec]>,
    statuses: Option<&'a [ContainerStatus]>,
) -> impl Iterator<Item = ContainerFacts<'a>> {
    let (specs, statuses) = (specs.unwrap_or_default(), statuses.unwrap_or_default());
    let specified = specs.iter().filter_map(move |spec| {
        let name = spec.name.as_deref()?;
        let status = statuses.iter().find(|status| status.name.as_deref() == Some(name));
        Some(facts(name, kind_of(kind, spec), status))
    });
    let named = move |name: &str| specs.iter().any(|spec| spec.name.as_deref() == Some(name));
    let unspecified = statuses.iter().filter_map(move |status| {
        let name = status.name.as_deref().filter(|name| !named(name))?;
        Some(facts(name, kind, Some(status)))
    });
    specified.chain(unspecified)
}

fn kind_of(kind: ContainerKind, spec: &ContainerSpec) -> ContainerKind {
    match (kind, spec.restart_policy.as_deref()) {
        (ContainerKind::Init, Some("Always")) => ContainerKind::Sidecar,
        _ => kind,
    }
}

fn facts<'a>(
    name: &'a str,
    kind: ContainerKind,
    status: Option<&'a ContainerStatus>,
) -> ContainerFacts<'a> {
    let ended = status.and_then(|status| status.last_state.as_ref()?.terminated.as_ref());
    ContainerFacts {
        name,
        kind,
        id: status.and_then(|status| status.container_id.as_deref()).and_then(bare_id),
        previous: ended.and_then(|ended| ended.container_id.as_deref()).and_then(bare_id),
    }
}

/// What follows the runtime's scheme (`containerd://`), whichever that is.
fn bare_id(id: &str) -> Option<&str> {
    let bare = id.split_once("://").map_or(id, |(_, bare)| bare);
    (!bare.is_empty()).then_some(bare)
}
