//! What kustomize makes of `deploy/`: each overlay is what its first lines say.

use std::process::Command;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Container, EnvVar, Toleration};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::documents::{Document, daemonset, documents, root, skip};
use super::kustomize::folders;
use super::schema::fields_lost;

/// Builds a kustomization of the checkout, where `kubectl` is there to do it.
pub(super) fn build(folder: &str, test: &str) -> Option<Vec<Document>> {
    let kubectl = Command::new("kubectl").arg("kustomize").arg(root().join(folder)).output();
    let Ok(output) = kubectl else {
        skip(test, "kubectl", "kubectl is not installed");
        return None;
    };
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{folder}: {error}");
    let values: Vec<Value> =
        serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap();
    Some(values.into_iter().map(|value| Document { path: folder.into(), value }).collect())
}

fn agent(objects: &[Document]) -> DaemonSet {
    objects.iter().find(|object| object.kind() == "apps/v1/DaemonSet").unwrap().read()
}

fn container(agent: &DaemonSet) -> Container {
    agent.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0].clone()
}

fn variables(container: &Container) -> &[EnvVar] {
    container.env.as_deref().unwrap()
}

fn variable<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    let mut found = variables(container).iter().filter(|variable| variable.name == name);
    found.next().and_then(|variable| variable.value.as_deref())
}

fn kinds(objects: &[Document]) -> Vec<String> {
    objects.iter().map(Document::kind).collect()
}

/// The kubelet fills in only what is above, and leaves everything else as it is.
pub(super) fn unresolved(variables: &[EnvVar]) -> Vec<String> {
    let mut unresolved = Vec::new();
    for (at, variable) in variables.iter().enumerate() {
        for name in variable.value.iter().flat_map(|value| value.split("$(").skip(1)) {
            let name = name.split(')').next().unwrap();
            if !variables[..at].iter().any(|above| above.name == name) {
                unresolved.push(format!("{}: $({name})", variable.name));
            }
        }
    }
    unresolved
}

#[test]
fn every_kustomization_builds_to_objects_without_unknown_fields() {
    let test = "every_kustomization_builds_to_objects_without_unknown_fields";
    for folder in folders() {
        if documents(folder.join("kustomization.yaml"))[0].value["kind"] == "Component" {
            continue;
        }
        let Some(objects) = build(folder.to_str().unwrap(), test) else { return };
        let lost: Vec<String> = objects.iter().flat_map(fields_lost).collect();
        assert!(lost.is_empty(), "{}: {}", folder.display(), lost.join("\n"));
        if kinds(&objects).contains(&"apps/v1/DaemonSet".to_owned()) {
            let unresolved = unresolved(variables(&container(&agent(&objects))));
            assert!(unresolved.is_empty(), "{}: {unresolved:?}", folder.display());
        }
    }
}

#[test]
fn a_variable_that_comes_too_late_is_noticed() {
    let variable = |name: &str, value: &str| EnvVar {
        name: name.into(),
        value: Some(value.into()),
        value_from: None,
    };
    let (ip, listen) = (variable("HOST_IP", "::1"), variable("A", "[$(HOST_IP)]:1"));
    assert_eq!(unresolved(&[listen.clone(), ip.clone()]), ["A: $(HOST_IP)"]);
    assert!(unresolved(&[ip, listen]).is_empty());
}

#[test]
fn the_minimal_agent_has_no_rights_and_asks_nobody() {
    let Some(objects) =
        build("deploy/overlays/minimal", "the_minimal_agent_has_no_rights_and_asks_nobody")
    else {
        return;
    };
    assert!(!kinds(&objects).iter().any(|kind| kind.starts_with("rbac.")));
    let agent = agent(&objects);
    let pod = agent.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    assert_eq!((pod.automount_service_account_token, pod.host_pid), (Some(false), Some(false)));
    assert_eq!(variable(&container(&agent), "ORB8_KUBERNETES"), Some("off"));
}

#[test]
fn production_opens_what_is_protected_and_metrics() {
    let Some(objects) =
        build("deploy/overlays/production", "production_opens_what_is_protected_and_metrics")
    else {
        return;
    };
    let container = container(&agent(&objects));
    assert_eq!(variable(&container, "ORB8_ADMIN_LISTEN"), Some("$(HOST_IP):9091"));
    assert_eq!(variable(&container, "ORB8_LISTEN"), Some("0.0.0.0:9090"));
    assert!(variable(&container, "ORB8_TLS_CLIENT_CA").is_some());
    assert_eq!(variable(&container, "ORB8_INSECURE_LISTEN"), None);
    for probe in [&container.startup_probe, &container.liveness_probe, &container.readiness_probe] {
        let action = probe.as_ref().unwrap().http_get.as_ref().unwrap();
        assert_eq!(action.host, None, "loopback does not answer");
    }
}

/// A DaemonSet has no scale to take a share of: with a percentage, or with `maxUnavailable`, Kubernetes
/// lets no agent be evicted at all.
#[test]
fn the_disruption_budget_is_one_that_kubernetes_can_work_out() {
    let file = "deploy/overlays/production/poddisruptionbudget.yaml";
    let budget: PodDisruptionBudget = documents(file)[0].read();
    let spec = budget.spec.unwrap();
    assert!(matches!(spec.min_available, Some(IntOrString::Int(1..))), "{spec:?}");
    assert_eq!(spec.max_unavailable, None);
    let template = daemonset().spec.unwrap().template.metadata.unwrap();
    assert_eq!(
        spec.selector.unwrap().match_labels.unwrap()["app"],
        template.labels.unwrap()["app"]
    );
}

#[test]
fn dev_is_open_and_runs_what_was_built_here() {
    let Some(objects) = build("deploy/overlays/dev", "dev_is_open_and_runs_what_was_built_here")
    else {
        return;
    };
    let container = container(&agent(&objects));
    assert_eq!(variable(&container, "ORB8_INSECURE_LISTEN"), Some("true"));
    assert_eq!(container.image.as_deref(), Some("ghcr.io/ignoramuss/orb8-agent:dev"));
}

/// Taints that providers and operators put on nodes with accelerators, and others that agents must
/// not mind.
const TAINTS: [(&str, &str); 12] = [
    ("nvidia.com/gpu", "NoSchedule"),
    ("amd.com/gpu", "NoSchedule"),
    ("gpu.intel.com/i915", "NoSchedule"),
    ("habana.ai/gaudi", "NoSchedule"),
    ("google.com/tpu", "NoSchedule"),
    ("cloud.google.com/gke-accelerator", "NoSchedule"),
    ("aws.amazon.com/neuron", "NoSchedule"),
    ("kubernetes.azure.com/scalesetpriority", "NoSchedule"),
    ("sku", "NoSchedule"),
    ("node-role.kubernetes.io/control-plane", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/not-ready", "NoExecute"),
];

fn tolerates(toleration: &Toleration, key: &str, effect: &str) -> bool {
    let any_key = toleration.key.is_none() && toleration.operator.as_deref() == Some("Exists");
    let this_key =
        toleration.key.as_deref() == Some(key) && toleration.operator.as_deref() == Some("Exists");
    let this_effect = toleration.effect.as_deref().is_none_or(|known| known == effect);
    (any_key || this_key) && this_effect && toleration.toleration_seconds.is_none()
}

#[test]
fn agents_run_on_nodes_that_are_kept_for_accelerators() {
    let pod = daemonset().spec.unwrap().template.spec.unwrap();
    let tolerations = pod.tolerations.unwrap();
    for (key, effect) in TAINTS {
        let tolerated = tolerations.iter().any(|known| tolerates(known, key, effect));
        assert!(tolerated, "{key}:{effect} keeps the agent away");
    }
}
