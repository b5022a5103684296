//! Pods that the agent knows.

use std::net::IpAddr;

use orb8_k8s::object::Phase;
use orb8_proto::v1;

use super::Converter;
use super::party::{container_kind, controller, labels, runtime};
use crate::pipeline::{KnownContainer, KnownPod};

impl Converter {
    pub(in crate::api) fn pod(&self, known: &KnownPod) -> v1::Pod {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        // Exhaustive: what is known of a pod is told.
        let KnownPod {
            api,
            uid,
            namespace,
            name,
            containers,
            has_cgroup,
            is_named_by_runtime,
            is_local,
        } = known;
        let sources = [
            (api.is_some(), v1::PodSource::Api),
            (*has_cgroup, v1::PodSource::Cgroup),
            (*is_named_by_runtime, v1::PodSource::Runtime),
        ];
        let of_cgroup = || is_local.then(|| self.node_name.to_string());
        let pod = api.as_deref();
        let node = pod.and_then(|pod| pod.node.as_deref()).map(str::to_owned);
        v1::Pod {
            namespace: text(namespace),
            name: text(name),
            uid: uid.clone(),
            node_name: node.or_else(of_cgroup).unwrap_or_default(),
            controller: pod.and_then(|pod| pod.controller.as_ref()).map(controller),
            labels: pod.map(|pod| labels(&pod.labels)).unwrap_or_default(),
            phase: match pod.map(|pod| pod.phase) {
                None => v1::PodPhase::Unspecified,
                Some(Phase::Pending) => v1::PodPhase::Pending,
                Some(Phase::Running) => v1::PodPhase::Running,
                Some(Phase::Ended) => v1::PodPhase::Ended,
            }
            .into(),
            ips: pod.map(|pod| pod.ips.iter().map(bytes).collect()).unwrap_or_default(),
            host_network: pod.is_some_and(|pod| pod.host_network),
            containers: containers.iter().map(container).collect(),
            local: *is_local,
            sources: sources
                .into_iter()
                .filter_map(|(is_known, source)| is_known.then_some(source.into()))
                .collect(),
        }
    }
}

fn container(known: &KnownContainer) -> v1::Container {
    let KnownContainer { name, id, kind, runtime: by, cgroup } = known;
    let (cgroup_id, cgroup_path) = cgroup.clone().unwrap_or_default();
    v1::Container {
        name: name.clone().unwrap_or_default(),
        id: id.clone().unwrap_or_default(),
        kind: kind.map_or(v1::ContainerKind::Unspecified, container_kind).into(),
        runtime: by.map_or(v1::Runtime::Unspecified, runtime).into(),
        cgroup_id,
        cgroup_path,
    }
}

/// 4 or 16 bytes.
fn bytes(ip: &IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
