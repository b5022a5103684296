//! Objects of a cluster as an API server prints them, by number.

use std::net::IpAddr;

use serde_json::{Value, json};

/// Pods of a Deployment.
pub(crate) const REPLICAS: usize = 10;
/// Pods of a node.
const PER_NODE: usize = 110;

const CONDITIONS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

pub(crate) fn uid(number: usize) -> String {
    let mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{number:08x}-1f2e-4d3c-8b4a-{mixed:012x}").chars().take(36).collect()
}

pub(crate) fn container(number: usize) -> String {
    let mixed = (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    format!("{mixed:032x}{mixed:032x}")
}

pub(crate) fn pod_ip(number: usize) -> IpAddr {
    let [_, _, high, low] = u32::try_from(number).expect("few pods").to_be_bytes();
    IpAddr::from([10, 244, high, low])
}

pub(crate) fn cluster_ip(number: usize) -> IpAddr {
    let [_, _, high, low] = u32::try_from(number + 1).expect("few Services").to_be_bytes();
    IpAddr::from([10, 96, high, low])
}

pub(crate) fn node_ip(number: usize) -> IpAddr {
    let [_, _, high, low] = u32::try_from(number + 1).expect("few nodes").to_be_bytes();
    IpAddr::from([10, 0, high, low])
}

/// A pod of a Deployment: about 6 KiB, half of it managed fields.
pub(crate) fn pod(number: usize) -> String {
    let deployment = number / REPLICAS;
    let ip = pod_ip(number).to_string();
    let conditions = CONDITIONS.map(|condition| {
        json!({"type": condition, "status": "True", "lastProbeTime": null,
               "lastTransitionTime": "2024-05-01T10:00:09Z"})
    });
    let status = json!({
        "phase": "Running",
        "hostIP": node_ip(number / PER_NODE),
        "hostIPs": [{"ip": node_ip(number / PER_NODE)}],
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": "2024-05-01T10:00:05Z",
        "qosClass": "Burstable",
        "conditions": conditions,
        "containerStatuses": [{
            "name": "app",
            "containerID": format!("containerd://{}", container(number)),
            "image": "registry.example/team/app:1.2.3",
            "imageID": format!("registry.example/team/app@sha256:{}", container(number)),
            "ready": true,
            "started": true,
            "restartCount": 0,
            "state": {"running": {"startedAt": "2024-05-01T10:00:08Z"}},
            "lastState": {},
        }],
    });
    let mut pod = json!({
        "metadata": {
            "name": format!("app-{deployment}-5d9c7b8f6d-{number:05}"),
            "generateName": format!("app-{deployment}-5d9c7b8f6d-"),
            "namespace": format!("team-{}", deployment % 20),
            "uid": uid(number),
            "resourceVersion": (100_000 + number).to_string(),
            "creationTimestamp": "2024-05-01T10:00:04Z",
            "labels": {
                "app.kubernetes.io/name": format!("app-{deployment}"),
                "app.kubernetes.io/instance": format!("app-{deployment}"),
                "app.kubernetes.io/managed-by": "Helm",
                "pod-template-hash": "5d9c7b8f6d",
            },
            "annotations": {
                "checksum/config": container(deployment),
                "prometheus.io/scrape": "true",
                "prometheus.io/port": "9100",
            },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
                "blockOwnerDeletion": true, "name": format!("app-{deployment}-5d9c7b8f6d"),
                "uid": uid(1_000_000 + deployment),
            }],
        },
        "spec": spec(number),
        "status": status,
    });
    pod["metadata"]["managedFields"] = managed_fields(&pod);
    pod.to_string()
}

fn spec(number: usize) -> Value {
    let secret = |name: &str| json!({"secretKeyRef": {"name": "app-secrets", "key": name}});
    let probe = |path: &str| {
        json!({"httpGet": {"path": path, "port": "http", "scheme": "HTTP"}, "timeoutSeconds": 1,
               "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3})
    };
    let tolerations = ["not-ready", "unreachable"].map(|key| {
        json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists",
               "effect": "NoExecute", "tolerationSeconds": 300})
    });
    let env = ["DATABASE_URL", "API_KEY", "SIGNING_KEY", "QUEUE_URL"]
        .map(|name| json!({"name": name, "valueFrom": secret(name)}));
    json!({
        "nodeName": format!("node-{}", number / PER_NODE),
        "serviceAccountName": "app",
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30,
        "tolerations": tolerations,
        "volumes": [
            {"name": "config", "configMap": {"name": "app-config", "defaultMode": 420}},
            {"name": "token", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            ]}},
        ],
        "containers": [{
            "name": "app",
            "image": "registry.example/team/app:1.2.3",
            "args": ["--listen=:8080", "--log-level=info"],
            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
            "env": env,
            "resources": {"limits": {"memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
            "livenessProbe": probe("/livez"),
            "readinessProbe": probe("/readyz"),
            "volumeMounts": [
                {"name": "config", "mountPath": "/etc/app", "readOnly": true},
                {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
            ],
        }],
    })
}

fn managed_fields(pod: &Value) -> Value {
    json!([
        {"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
         "time": "2024-05-01T10:00:04Z", "fieldsType": "FieldsV1",
         "fieldsV1": {"f:spec": fields(&pod["spec"])}},
        {"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "subresource": "status",
         "time": "2024-05-01T10:00:09Z", "fieldsType": "FieldsV1",
         "fieldsV1": {"f:status": fields(&pod["status"])}},
    ])
}

/// Every key of an object with `f:` before it.
fn fields(of: &Value) -> Value {
    match of {
        Value::Object(keys) => {
            keys.iter().map(|(key, value)| (format!("f:{key}"), fields(value))).collect()
        }
        Value::Array(items) => fields(items.first().unwrap_or(&Value::Null)),
        _ => json!({}),
    }
}

pub(crate) fn replica_set(number: usize) -> String {
    let controller = json!([{
        "apiVersion": "apps/v1", "kind": "Deployment", "controller": true,
        "name": format!("app-{number}"), "uid": uid(2_000_000 + number),
    }]);
    let metadata = json!({
        "name": format!("app-{number}-5d9c7b8f6d"),
        "namespace": format!("team-{}", number % 20),
        "uid": uid(1_000_000 + number),
        "ownerReferences": controller,
    });
    json!({"metadata": metadata}).to_string()
}

pub(crate) fn service(number: usize) -> String {
    let metadata = json!({
        "name": format!("app-{number}"),
        "namespace": format!("team-{}", number % 20),
        "uid": uid(3_000_000 + number),
    });
    let port = json!({"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP",
                      "nodePort": 30_000 + number});
    let spec = json!({"clusterIP": cluster_ip(number), "clusterIPs": [cluster_ip(number)],
                      "ports": [port]});
    json!({"metadata": metadata, "spec": spec}).to_string()
}

pub(crate) fn node(number: usize) -> String {
    let metadata = json!({"name": format!("node-{number}"), "uid": uid(4_000_000 + number)});
    let addresses = json!([{"type": "InternalIP", "address": node_ip(number)}]);
    json!({"metadata": metadata, "status": {"addresses": addresses}}).to_string()
}
