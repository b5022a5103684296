//! Who is at an end.

use std::collections::BTreeMap;

use orb8_k8s::object::{
    AddressKind, ContainerKind, Controller, Labels, Pod, Service, ServiceAddress,
};
use orb8_proto::v1;

use super::{ip, label};
use crate::event::SocketEnd;
use crate::identity::{Behind, Party, Runtime, Workload};
use crate::store::Label;

pub(super) fn endpoint(end: SocketEnd, who: Option<&Party>, name: Option<&Label>) -> v1::Endpoint {
    let behind = who.and_then(Party::front).and_then(|front| front.behind.as_ref());
    v1::Endpoint {
        ip: ip(end.addr),
        port: end.port.into(),
        workload: who.and_then(owner),
        dns: name.map(label),
        service: who.and_then(Party::service).map(service),
        translated: behind.and_then(translation),
        node: who.and_then(Party::node).map(|node| node.name.to_string()).unwrap_or_default(),
    }
}

/// What runs there, itself or behind an address that stands for it.
fn owner(who: &Party) -> Option<v1::Workload> {
    match (who.workload(), who.pod()) {
        (Some(owner), _) => Some(workload(owner)),
        (None, Some(pod)) => {
            Some(v1::Workload { attribution: v1::Attribution::PodIp.into(), ..pod_workload(pod) })
        }
        (None, None) => None,
    }
}

fn translation(behind: &Behind) -> Option<v1::Translation> {
    let SocketEnd { addr, port } = behind.at?;
    Some(v1::Translation { ip: ip(addr), port: port.into() })
}

fn service(address: &ServiceAddress) -> v1::ServiceAddress {
    let ServiceAddress { service, port, port_name, kind } = address;
    let Service { namespace, name } = &**service;
    v1::ServiceAddress {
        namespace: namespace.to_string(),
        name: name.to_string(),
        port: port.unwrap_or_default().into(),
        port_name: port_name.as_deref().unwrap_or_default().to_owned(),
        kind: match kind {
            AddressKind::Cluster => v1::ServiceAddressKind::ClusterIp,
            AddressKind::External => v1::ServiceAddressKind::External,
            AddressKind::NodePort => v1::ServiceAddressKind::NodePort,
            AddressKind::Endpoint => v1::ServiceAddressKind::Endpoint,
        }
        .into(),
    }
}

/// What the Kubernetes API says of a pod.
fn pod_workload(pod: &Pod) -> v1::Workload {
    // Exhaustive: what is known of a pod is told.
    let Pod {
        namespace,
        name,
        uid,
        config_hash: _,
        node,
        labels: of,
        controller: by,
        host_network,
        ips: _,
        containers: _,
        phase: _,
    } = pod;
    v1::Workload {
        namespace: namespace.to_string(),
        pod: name.to_string(),
        pod_uid: uid.to_string(),
        controller: by.as_ref().map(controller),
        labels: labels(of),
        node_name: node.as_deref().unwrap_or_default().to_owned(),
        host_network: *host_network,
        ..v1::Workload::default()
    }
}

pub(super) fn controller(controller: &Controller) -> v1::Controller {
    let Controller { kind, name } = controller;
    v1::Controller { kind: kind.to_string(), name: name.to_string() }
}

pub(super) fn labels(labels: &Labels) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

pub(super) fn workload(workload: &Workload) -> v1::Workload {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    // Exhaustive: what is known of an owner is told.
    let Workload {
        namespace,
        pod,
        pod_uid,
        api,
        container: _,
        container_kind: kind,
        container_id,
        runtime: by,
        unit,
        cgroup_id: _,
        cgroup_path,
        process,
        is_named_by_runtime: _,
        host_network: _,
    } = workload;
    v1::Workload {
        namespace: text(namespace),
        pod: text(pod),
        pod_uid: text(pod_uid),
        container: workload.container_label().unwrap_or_default().to_owned(),
        container_kind: kind.map_or(v1::ContainerKind::Unspecified, container_kind).into(),
        container_id: text(container_id),
        runtime: by.map_or(v1::Runtime::Unspecified, runtime).into(),
        unit: text(unit),
        cgroup_path: cgroup_path.clone(),
        attribution: v1::Attribution::Cgroup.into(),
        process: text(process),
        ..api.as_deref().map(pod_workload).unwrap_or_default()
    }
}

pub(super) const fn runtime(runtime: Runtime) -> v1::Runtime {
    match runtime {
        Runtime::Containerd => v1::Runtime::Containerd,
        Runtime::Crio => v1::Runtime::Crio,
        Runtime::Docker => v1::Runtime::Docker,
        Runtime::Podman => v1::Runtime::Podman,
    }
}

pub(super) const fn container_kind(kind: ContainerKind) -> v1::ContainerKind {
    match kind {
        ContainerKind::Main => v1::ContainerKind::Main,
        ContainerKind::Init => v1::ContainerKind::Init,
        ContainerKind::Sidecar => v1::ContainerKind::Sidecar,
        ContainerKind::Ephemeral => v1::ContainerKind::Ephemeral,
    }
}
