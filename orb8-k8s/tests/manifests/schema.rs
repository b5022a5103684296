//! Every document is what Kubernetes (or kustomize, or kind) reads: no field is lost on the way.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::crds::{PodMonitor, PrometheusRule, ServiceMonitor};
use super::documents::{Document, all};
use super::kustomize::{KindCluster, Kustomization};

/// Reads a document as its kind and writes it again.
fn through(document: &Document) -> Value {
    fn again<T: Serialize + DeserializeOwned>(document: &Document) -> Value {
        serde_json::to_value(document.read::<T>()).unwrap()
    }
    match document.kind().as_str() {
        "v1/ConfigMap" => again::<ConfigMap>(document),
        "v1/Namespace" => again::<Namespace>(document),
        "v1/Service" => again::<Service>(document),
        "v1/ServiceAccount" => again::<ServiceAccount>(document),
        "apps/v1/DaemonSet" => again::<DaemonSet>(document),
        "apps/v1/Deployment" => again::<Deployment>(document),
        "rbac.authorization.k8s.io/v1/ClusterRole" => again::<ClusterRole>(document),
        "rbac.authorization.k8s.io/v1/ClusterRoleBinding" => again::<ClusterRoleBinding>(document),
        "scheduling.k8s.io/v1/PriorityClass" => again::<PriorityClass>(document),
        "networking.k8s.io/v1/NetworkPolicy" => again::<NetworkPolicy>(document),
        "policy/v1/PodDisruptionBudget" => again::<PodDisruptionBudget>(document),
        "monitoring.coreos.com/v1/PodMonitor" => again::<PodMonitor>(document),
        "monitoring.coreos.com/v1/PrometheusRule" => again::<PrometheusRule>(document),
        "monitoring.coreos.com/v1/ServiceMonitor" => again::<ServiceMonitor>(document),
        "kustomize.config.k8s.io/v1beta1/Kustomization"
        | "kustomize.config.k8s.io/v1alpha1/Component" => again::<Kustomization>(document),
        "kind.x-k8s.io/v1alpha4/Cluster" => again::<KindCluster>(document),
        other => panic!("{}: {other} has no schema in this test", document.path.display()),
    }
}

/// Finds what is in `before` and not in `after`.
fn lost(before: &Value, after: &Value, at: &str) -> Vec<String> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before
            .iter()
            .flat_map(|(key, value)| match after.get(key) {
                Some(kept) => lost(value, kept, &format!("{at}.{key}")),
                // What is false or empty by itself is left out when it is written.
                None if is_nothing(value) => Vec::new(),
                None => vec![format!("{at}.{key}")],
            })
            .collect(),
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            let items = before.iter().zip(after).enumerate();
            items
                .flat_map(|(index, (before, after))| lost(before, after, &format!("{at}[{index}]")))
                .collect()
        }
        (before, after) if before == after => Vec::new(),
        (before, after) => vec![format!("{at}: {before} was read as {after}")],
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        // A patch takes a field away by it.
        Value::Null => true,
        _ => false,
    }
}

/// Lists the fields of a document that its kind does not have.
pub(super) fn fields_lost(document: &Document) -> Vec<String> {
    let at = format!("{}: {}", document.path.display(), document.kind());
    lost(&document.value, &through(document), &at)
}

#[test]
fn every_field_is_one_that_its_kind_has() {
    let documents = all();
    assert!(documents.len() > 10, "{}", documents.len());
    let lost: Vec<String> = documents.iter().flat_map(fields_lost).collect();
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}

#[test]
fn a_field_that_is_misspelt_or_misplaced_is_noticed() {
    let pod = |spec: Value| Document {
        path: "test".into(),
        value: json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
            "spec": {"template": {"spec": spec}}}),
    };
    let lost_of = |spec| {
        let document = pod(spec);
        lost(&document.value, &through(&document), "")
    };
    assert!(lost_of(json!({"hostPID": true, "containers": [{"name": "a"}]})).is_empty());
    assert_eq!(lost_of(json!({"hostPid": true})), [".spec.template.spec.hostPid"]);
    assert_eq!(
        lost_of(json!({"containers": [{"name": "a", "runAsUser": 0}]})),
        [".spec.template.spec.containers[0].runAsUser"]
    );
}
