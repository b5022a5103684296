//! Objects as short as a test wants them, with what matters filled in.

use serde_json::{Value, json};

/// A running pod on a node; its container `main` has the id `containerd://NAME-main`.
pub fn pod(namespace: &str, name: &str, node: &str, ips: &[&str]) -> Value {
    let ips: Vec<_> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "example.org/app"}]},
        "status": {
            "phase": "Running",
            "podIPs": ips,
            "containerStatuses": [
                {"name": "main", "containerID": format!("containerd://{name}-main"),
                 "ready": true, "restartCount": 0, "image": "", "imageID": ""}
            ],
        },
    });
    if let Some(ip) = ips.first() {
        pod["status"]["podIP"] = ip["ip"].clone();
    }
    pod
}

/// A Service with one TCP port, `http`; without an address it is headless.
pub fn service(namespace: &str, name: &str, cluster_ip: Option<&str>, port: u16) -> Value {
    let ip = cluster_ip.unwrap_or("None");
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip],
            "ports": [{"name": "http", "protocol": "TCP", "port": port}],
        },
    })
}

/// An EndpointSlice of a Service with addresses of one family that are no pods'.
pub fn endpoint_slice(namespace: &str, service: &str, ips: &[&str], port: u16) -> Value {
    let family = if ips.iter().any(|ip| ip.contains(':')) { "IPv6" } else { "IPv4" };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": namespace, "name": format!("{service}-{}", family.to_lowercase()),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family,
        "ports": [{"name": "http", "protocol": "TCP", "port": port}],
        "endpoints": [{"addresses": ips, "conditions": {"ready": true}}],
    })
}

/// A node with internal addresses.
pub fn node(name: &str, ips: &[&str]) -> Value {
    let addresses: Vec<_> =
        ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name},
        "status": {"addresses": addresses},
    })
}

/// A ReplicaSet, Job or StatefulSet.
///
/// # Panics
/// For another kind.
pub fn owner(kind: &str, namespace: &str, name: &str, uid: &str) -> Value {
    let version = match kind {
        "ReplicaSet" | "StatefulSet" => "apps/v1",
        "Job" => "batch/v1",
        kind => panic!("`{kind}` is not served"),
    };
    json!({
        "apiVersion": version, "kind": kind,
        "metadata": {"namespace": namespace, "name": name, "uid": uid},
    })
}

/// The object with a uid.
pub fn with_uid(mut object: Value, uid: &str) -> Value {
    object["metadata"]["uid"] = json!(uid);
    object
}

/// The object, controlled by another.
pub fn owned(mut object: Value, kind: &str, name: &str, uid: &str) -> Value {
    let version = match kind {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => "apps/v1",
        "Job" | "CronJob" => "batch/v1",
        _ => "example.org/v1",
    };
    object["metadata"]["ownerReferences"] = json!([{"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true}]);
    object
}

/// The pod in another phase: `Succeeded`, `Failed`, `Pending`.
pub fn with_phase(mut pod: Value, phase: &str) -> Value {
    pod["status"]["phase"] = json!(phase);
    pod
}

/// The pod in its node's network namespace, with the node's address.
pub fn on_host_network(mut pod: Value) -> Value {
    pod["spec"]["hostNetwork"] = json!(true);
    pod["status"]["hostIP"] = pod["status"]["podIP"].clone();
    pod
}

/// The object as large as real ones are: with managed fields and annotations that nobody reads.
pub fn bulky(mut object: Value) -> Value {
    let fields: serde_json::Map<_, _> =
        (0..80).map(|at| (format!("f:field-{at}"), json!({"f:nested": {}, ".": {}}))).collect();
    object["metadata"]["managedFields"] = json!([
        {"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
         "fieldsV1": {"f:status": fields}}
    ]);
    object["metadata"]["annotations"] = json!({"example.org/notes": "n".repeat(2000)});
    object
}
