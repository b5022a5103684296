//! The DaemonSet asks the node for what docs/deployment.md explains, and for no more.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, Namespace, PodSpec, Probe, Service, Volume,
};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::documents::{daemonset, documents, only, text};

/// Every capability of the container. One more has to be argued for here, in the manifest and in
/// docs/deployment.md.
pub(super) const CAPABILITIES: [&str; 4] = ["BPF", "PERFMON", "NET_ADMIN", "SYS_RESOURCE"];

fn pod(agent: &DaemonSet) -> &PodSpec {
    agent.spec.as_ref().unwrap().template.spec.as_ref().unwrap()
}

fn container(agent: &DaemonSet) -> &Container {
    let containers = &pod(agent).containers;
    assert_eq!((containers.len(), pod(agent).init_containers.as_ref()), (1, None));
    &containers[0]
}

#[test]
fn it_is_not_privileged() {
    let agent = daemonset();
    let security = container(&agent).security_context.clone().unwrap();
    assert_eq!(security.privileged, Some(false));
    assert_eq!(security.allow_privilege_escalation, Some(false));
    assert_eq!(security.read_only_root_filesystem, Some(true));
    let Capabilities { add, drop } = security.capabilities.unwrap();
    assert_eq!(drop, Some(vec!["ALL".to_owned()]));
    assert_eq!(add.unwrap(), CAPABILITIES);
    // Added capabilities reach root only.
    assert_eq!(pod(&agent).security_context.as_ref().unwrap().run_as_user, Some(0));
}

/// A line of YAML that grants something follows one that says why.
#[test]
fn every_capability_and_mount_is_explained() {
    let manifest = text("deploy/base/daemonset.yaml");
    let lines: Vec<&str> = manifest.lines().map(str::trim).collect();
    let capabilities = CAPABILITIES.map(|name| format!("- {name}"));
    let granted = lines.iter().enumerate().filter(|(_, line)| {
        capabilities.iter().any(|capability| capability == *line)
            || ["hostNetwork: true", "hostPID: true"].contains(line)
    });
    let granted: Vec<_> = granted.collect();
    assert_eq!(granted.len(), CAPABILITIES.len() + 2);
    for (at, line) in granted {
        assert!(lines[at - 1].starts_with('#'), "{line} is not explained");
    }
    let volumes = lines.iter().position(|line| *line == "volumes:").unwrap();
    for (at, line) in lines.iter().enumerate().skip(volumes) {
        if line.starts_with("- name:") {
            assert!(lines[at - 1].starts_with('#'), "volume {line} is not explained");
        }
    }
}

/// Mounts of the node's files, by their paths there.
pub(super) fn host_mounts(agent: &DaemonSet) -> BTreeMap<String, String> {
    let volumes = pod(agent).volumes.clone().unwrap();
    let of = |name: &str| volumes.iter().find(|volume| volume.name == name).unwrap();
    let mounts = container(agent).volume_mounts.clone().unwrap();
    assert_eq!(mounts.len(), volumes.len(), "a volume is mounted once");
    let mut paths = BTreeMap::new();
    for mount in mounts {
        match of(&mount.name) {
            Volume { host_path: Some(host), .. } => {
                assert_eq!(mount.read_only, Some(true), "{} is writable", mount.name);
                paths.insert(host.path.clone(), mount.mount_path);
            }
            Volume { empty_dir: Some(_), .. } => {}
            other => panic!("{other:?}"),
        }
    }
    paths
}

#[test]
fn the_nodes_files_are_read_only_and_no_sockets_are_among_them() {
    let mounts = host_mounts(&daemonset());
    assert_eq!(mounts.get("/sys/fs/cgroup").map(String::as_str), Some("/host/sys/fs/cgroup"));
    for path in mounts.keys() {
        // Who reaches a runtime's socket has the node, read-only mount or not.
        for socket in ["/run/containerd/containerd.sock", "/run/docker.sock", "/run/crio/crio.sock"]
        {
            assert!(!socket.starts_with(path.as_str()), "{path} holds {socket}");
        }
        assert!(!["/", "/proc", "/etc", "/var"].contains(&path.as_str()), "{path}");
    }
}

#[test]
fn it_sees_the_nodes_network_and_processes() {
    let agent = daemonset();
    let pod = pod(&agent);
    assert_eq!((pod.host_network, pod.host_pid, pod.host_ipc), (Some(true), Some(true), None));
    assert_eq!(pod.dns_policy.as_deref(), Some("ClusterFirstWithHostNet"));
    // What the two stricter levels refuse.
    let namespace: Namespace = only("v1/Namespace");
    let labels = namespace.metadata.labels.unwrap();
    for mode in ["enforce", "audit", "warn"] {
        assert_eq!(labels[&format!("pod-security.kubernetes.io/{mode}")], "privileged");
    }
}

#[test]
fn it_runs_on_every_node_and_displaces_nobody() {
    let agent = daemonset();
    let pod = pod(&agent);
    let tolerations = pod.tolerations.as_ref().unwrap();
    let everything = tolerations.iter().any(|toleration| {
        toleration.operator.as_deref() == Some("Exists")
            && (toleration.key.as_ref(), toleration.effect.as_ref()) == (None, None)
    });
    assert!(everything, "{tolerations:?}");
    let priority: PriorityClass = only("scheduling.k8s.io/v1/PriorityClass");
    assert_eq!(pod.priority_class_name, priority.metadata.name);
    assert_eq!(priority.preemption_policy.as_deref(), Some("Never"));
    assert_ne!(priority.global_default, Some(true));
    let resources = container(&agent).resources.as_ref().unwrap();
    let requests = resources.requests.as_ref().unwrap();
    assert!(requests.contains_key("cpu") && requests.contains_key("memory"));
    let limits: Vec<_> = resources.limits.as_ref().unwrap().keys().collect();
    assert_eq!(limits, ["memory"], "a throttled agent loses events");
}

#[test]
fn the_node_name_is_the_api_servers() {
    let agent = daemonset();
    let variables = container(&agent).env.as_ref().unwrap();
    let name = variables.iter().find(|variable| variable.name == "NODE_NAME").unwrap();
    let field = name.value_from.as_ref().unwrap().field_ref.as_ref().unwrap();
    assert_eq!(field.field_path, "spec.nodeName");
}

/// The port of a probe, by its name among the container's.
fn probed(container: &Container, probe: Option<&Probe>) -> (String, i32) {
    let action = probe.unwrap().http_get.as_ref().unwrap();
    assert_eq!(action.host.as_deref(), Some("127.0.0.1"), "nothing listens on the pod's address");
    let IntOrString::String(name) = &action.port else { panic!("{:?}", action.port) };
    (action.path.clone().unwrap(), port(container, name))
}

fn port(container: &Container, name: &str) -> i32 {
    let ports = container.ports.as_ref().unwrap();
    let port = ports.iter().find(|port| port.name.as_deref() == Some(name));
    port.unwrap_or_else(|| panic!("no port {name}")).container_port
}

fn listens_on(container: &Container, variable: &str) -> i32 {
    let variables = container.env.as_ref().unwrap();
    let setting = variables.iter().find(|known| known.name == variable).unwrap();
    let (_, port) = setting.value.as_ref().unwrap().rsplit_once(':').unwrap();
    port.parse().unwrap()
}

#[test]
fn probes_and_services_lead_to_where_the_agent_listens() {
    let agent = daemonset();
    let container = container(&agent);
    let admin = listens_on(container, "ORB8_ADMIN_LISTEN");
    assert_eq!(port(container, "metrics"), admin);
    assert_eq!(port(container, "grpc"), listens_on(container, "ORB8_LISTEN"));
    let live = ("/livez".to_owned(), admin);
    assert_eq!(probed(container, container.startup_probe.as_ref()), live);
    assert_eq!(probed(container, container.liveness_probe.as_ref()), live);
    let ready = ("/readyz".to_owned(), admin);
    assert_eq!(probed(container, container.readiness_probe.as_ref()), ready);

    let metadata = agent.spec.as_ref().unwrap().template.metadata.clone().unwrap();
    let labels = metadata.labels.unwrap();
    for (component, name) in [("mtls", "grpc"), ("metrics", "metrics")] {
        let file = format!("deploy/components/{component}/service.yaml");
        let service: Service = documents(file)[0].read();
        let spec = service.spec.unwrap();
        let ports = spec.ports.unwrap();
        let [served] = ports.as_slice() else { panic!("{ports:?}") };
        assert_eq!(served.target_port, Some(IntOrString::String(name.to_owned())));
        assert_eq!((served.name.as_deref(), served.port), (Some(name), port(container, name)));
        assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
        let selector = spec.selector.unwrap();
        assert!(!selector.is_empty());
        assert!(selector.iter().all(|(key, value)| labels.get(key) == Some(value)), "{selector:?}");
    }
    let matched = agent.spec.as_ref().unwrap().selector.match_labels.clone().unwrap();
    assert!(matched.iter().all(|(key, value)| labels.get(key) == Some(value)), "{matched:?}");
}

/// Patches apply to the object of their name; one that misses fails, or is silently a second object.
#[test]
fn patches_patch_what_is_there() {
    let base = daemonset();
    let folders = ["components/mtls", "components/metrics", "components/gpu"];
    let overlays = ["overlays/minimal", "overlays/production", "overlays/dev"];
    for folder in folders.into_iter().chain(overlays) {
        let patch: DaemonSet = documents(format!("deploy/{folder}/daemonset.yaml"))[0].read();
        assert_eq!(patch.metadata.name, base.metadata.name, "{folder}");
        assert_eq!(patch.metadata.namespace, base.metadata.namespace, "{folder}");
        assert_eq!(container(&patch).name, container(&base).name, "{folder}");
    }
}

#[test]
fn the_private_key_is_the_agents_alone() {
    let patch: DaemonSet = documents("deploy/components/mtls/daemonset.yaml")[0].read();
    let secret = pod(&patch).volumes.as_ref().unwrap()[0].secret.clone().unwrap();
    assert_eq!(secret.default_mode, Some(0o400));
    let mounts = container(&patch).volume_mounts.as_ref().unwrap();
    assert!(mounts.iter().all(|mount| mount.read_only == Some(true)));
}

/// Prometheus looks for the port that the agent listens on.
#[test]
fn annotations_lead_to_the_metrics() {
    let patch: DaemonSet = documents("deploy/components/metrics/daemonset.yaml")[0].read();
    let template = patch.spec.as_ref().unwrap().template.metadata.clone().unwrap();
    let listens = listens_on(container(&patch), "ORB8_ADMIN_LISTEN");
    assert_eq!(template.annotations.unwrap()["prometheus.io/port"], listens.to_string());
    assert_eq!(port(container(&daemonset()), "metrics"), listens);
}
