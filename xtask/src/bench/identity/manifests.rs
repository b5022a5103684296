//! The objects of a cluster, as large as real ones are: most of a manifest is what orb8 never reads.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::bench::lab::SERVER;

pub(super) const PODS: u32 = 5_000;
pub(super) const SERVICES: u32 = 500;
/// Pods of this node.
pub(super) const LOCAL: u32 = 100;
pub(super) const NODES: u32 = 20;
/// Of each Service.
pub(super) const SLICES: u32 = 2;
/// The node that the agent runs on.
pub(super) const NODE: &str = "node-0";
/// The port of every Service.
pub(super) const SERVICE_PORT: u16 = 80;

/// A Deployment each.
const PODS_PER_SERVICE: u32 = PODS / SERVICES;
const NAMESPACES: u32 = 50;
/// Pods have the first of the addresses that traffic goes to; Services come after them.
const FIRST_SERVICE: u32 = 20_000;

/// Everything that there is.
pub(super) fn all() -> impl Iterator<Item = Value> {
    let slices = (0..SERVICES).flat_map(|of| (0..SLICES).map(move |at| slice(of, at)));
    (0..NODES)
        .map(node)
        .chain((0..SERVICES).map(replica_set))
        .chain((0..SERVICES).map(service))
        .chain(slices)
        .chain((0..PODS).map(pod))
}

pub(super) fn pod_ip(pod: u32) -> Ipv4Addr {
    nth(pod)
}

pub(super) fn service_ip(service: u32) -> Ipv4Addr {
    nth(FIRST_SERVICE + service)
}

pub(super) fn node_ip(node: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 88, 1, 0).to_bits() + node)
}

pub(super) fn pod_uid(pod: u32) -> String {
    uid('a', pod)
}

/// Without the runtime's name.
pub(super) fn container_id(pod: u32) -> String {
    hex(u64::from(pod), 64)
}

pub(super) fn namespace(app: u32) -> String {
    format!("team-{}", app % NAMESPACES)
}

pub(super) fn pod_name(pod: u32) -> String {
    let app = app_of(pod);
    format!("{}-{}-{}", name(app), hex(u64::from(app), 9), hex(u64::from(pod), 5))
}

/// A pod of a Deployment, which its node runs, with what controllers and kubelet write into it.
pub(super) fn pod(pod: u32) -> Value {
    let app = app_of(pod);
    let mut labels = labels(app);
    labels["pod-template-hash"] = json!(hex(u64::from(app), 9));
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": pod_name(pod), "generateName": format!("{}-{}-", name(app), hex(u64::from(app), 9)),
            "namespace": namespace(app), "uid": pod_uid(pod), "labels": labels,
            "annotations": {
                "prometheus.io/scrape": "true", "prometheus.io/port": "9102",
                "checksum/config": hex(u64::from(app), 64),
            },
            "ownerReferences": [owner("ReplicaSet", &replica_set_name(app), &uid('b', app))],
            "managedFields": [
                managed("kube-controller-manager", "", TEMPLATE_FIELDS),
                managed("kubelet", "status", STATUS_FIELDS),
            ],
        },
        "spec": spec(pod),
        "status": status(pod),
    })
}

fn spec(pod: u32) -> Value {
    let name = name(app_of(pod));
    let probe = |path: &str| {
        json!({"httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "initialDelaySeconds": 5, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1,
        "failureThreshold": 3})
    };
    let token = json!({"name": "kube-api-access", "readOnly": true,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"});
    let tolerate = |key: &str| {
        json!({"key": key, "operator": "Exists", "effect": "NoExecute",
        "tolerationSeconds": 300})
    };
    json!({
        "volumes": [
            {"name": "config", "configMap": {"name": format!("{name}-config"), "defaultMode": 420}},
            {"name": "kube-api-access", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            ]}},
        ],
        "containers": [{
            "name": "main", "image": image(&name), "args": ["serve", "--config=/etc/app/config.yaml"],
            "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
            "env": [
                {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
                {"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": format!("{name}-db"), "key": "url"}}},
                {"name": "LOG_LEVEL", "value": "info"},
            ],
            "resources": {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "250m", "memory": "512Mi"}},
            "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}, token],
            "livenessProbe": probe("/livez"), "readinessProbe": probe("/readyz"),
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent",
        }],
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
        "serviceAccountName": name, "serviceAccount": name, "nodeName": node_of(pod),
        "securityContext": {"runAsNonRoot": true, "fsGroup": 2000}, "schedulerName": "default-scheduler",
        "tolerations": [tolerate("node.kubernetes.io/not-ready"), tolerate("node.kubernetes.io/unreachable")],
        "priority": 0, "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
    })
}

fn status(pod: u32) -> Value {
    let ip = pod_ip(pod);
    let name = name(app_of(pod));
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "lastProbeTime": null,
        "lastTransitionTime": TIME})
    };
    let conditions =
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    json!({
        "phase": "Running", "hostIP": "10.88.1.1", "podIP": ip, "podIPs": [{"ip": ip}],
        "startTime": TIME, "qosClass": "Burstable", "conditions": conditions.map(condition),
        "containerStatuses": [{
            "name": "main", "state": {"running": {"startedAt": TIME}}, "lastState": {}, "ready": true,
            "restartCount": 0, "image": image(&name), "started": true,
            "imageID": format!("registry.example.org/{name}@sha256:{}", hex(7, 64)),
            "containerID": format!("containerd://{}", container_id(pod)),
        }],
    })
}

fn service(app: u32) -> Value {
    let ip = service_ip(app);
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name(app), "namespace": namespace(app), "uid": uid('c', app), "labels": labels(app),
            "managedFields": [managed("kubectl", "", SERVICE_FIELDS)]},
        "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
            "selector": {"app.kubernetes.io/name": name(app)}, "sessionAffinity": "None",
            "ports": [{"name": "http", "protocol": "TCP", "port": SERVICE_PORT, "targetPort": "http"}]},
        "status": {"loadBalancer": {}},
    })
}

fn slice(app: u32, at: u32) -> Value {
    let each = PODS_PER_SERVICE / SLICES;
    let first = app * PODS_PER_SERVICE + at * each;
    let endpoint = |pod: u32| {
        json!({
            "addresses": [pod_ip(pod)], "nodeName": node_of(pod),
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": namespace(app), "name": pod_name(pod), "uid": pod_uid(pod)},
        })
    };
    let endpoints: Vec<Value> = (first..first + each).map(endpoint).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{}-{at}", name(app)), "namespace": namespace(app),
            "uid": uid('d', app * SLICES + at), "labels": {"kubernetes.io/service-name": name(app)},
            "ownerReferences": [owner("Service", &name(app), &uid('c', app))]},
        "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

fn replica_set(app: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": replica_set_name(app), "namespace": namespace(app), "uid": uid('b', app),
            "labels": labels(app), "ownerReferences": [owner("Deployment", &name(app), &uid('e', app))]},
    })
}

fn node(node: u32) -> Value {
    let image = |at: u32| {
        json!({"names": [image(&name(at)), format!("{}@sha256:{}", name(at), hex(7, 64))],
        "sizeBytes": 80_000_000})
    };
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("node-{node}"), "uid": uid('f', node)},
        "spec": {"podCIDR": "10.96.0.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": node_ip(node)}],
            "images": (0..50).map(image).collect::<Vec<_>>()},
    })
}

fn labels(app: u32) -> Value {
    json!({"app.kubernetes.io/name": name(app), "app.kubernetes.io/part-of": namespace(app),
        "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/version": "1.14.2"})
}

fn owner(kind: &str, name: &str, uid: &str) -> Value {
    let api = if kind == "Service" { "v1" } else { "apps/v1" };
    json!({"apiVersion": api, "kind": kind, "name": name, "uid": uid, "controller": true,
        "blockOwnerDeletion": true})
}

/// The fields that somebody set: `TEMPLATE_FIELDS` and the like, each one level deep.
fn managed(manager: &str, subresource: &str, fields: &[&str]) -> Value {
    let inner = json!({".": {}, "f:name": {}, "f:value": {}});
    let set: serde_json::Map<_, _> =
        fields.iter().map(|field| (format!("f:{field}"), inner.clone())).collect();
    json!({"manager": manager, "operation": "Update", "apiVersion": "v1", "time": TIME,
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": set}, "subresource": subresource})
}

const TIME: &str = "2026-01-01T00:00:00Z";
const TEMPLATE_FIELDS: &[&str] = &[
    "generateName",
    "annotations",
    "labels",
    "ownerReferences",
    "containers",
    "args",
    "env",
    "image",
    "imagePullPolicy",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "resources",
    "volumeMounts",
    "dnsPolicy",
    "enableServiceLinks",
    "restartPolicy",
    "schedulerName",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "volumes",
];
const STATUS_FIELDS: &[&str] = &[
    "conditions",
    "lastProbeTime",
    "lastTransitionTime",
    "status",
    "type",
    "containerStatuses",
    "hostIP",
    "phase",
    "podIP",
    "podIPs",
    "startTime",
];
const SERVICE_FIELDS: &[&str] = &["ports", "selector", "sessionAffinity", "type"];

fn app_of(pod: u32) -> u32 {
    pod / PODS_PER_SERVICE
}

fn node_of(pod: u32) -> String {
    match pod {
        ..LOCAL => NODE.to_owned(),
        _ => format!("node-{}", 1 + pod % (NODES - 1)),
    }
}

fn name(app: u32) -> String {
    format!("checkout-worker-{app}")
}

fn replica_set_name(app: u32) -> String {
    format!("{}-{}", name(app), hex(u64::from(app), 9))
}

fn image(name: &str) -> String {
    format!("registry.example.org/platform/{name}:1.14.2")
}

fn uid(kind: char, at: u32) -> String {
    format!("{kind}0000000-0000-4000-8000-{}", hex(u64::from(at), 12))
}

/// As many digits as asked for that look like a hash.
fn hex(of: u64, digits: usize) -> String {
    let mut text = String::new();
    let mut state = of.wrapping_add(1);
    while text.len() < digits {
        state = state.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (state >> 29);
        text += &format!("{state:016x}");
    }
    text.truncate(digits);
    text
}

fn nth(address: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(SERVER.to_bits() + address)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_pod_is_about_as_large_as_real_ones() {
        let bytes = pod(1234).to_string().len();
        assert!((5_500..7_500).contains(&bytes), "{bytes} bytes");
    }

    #[test]
    fn objects_differ() {
        let pods: Vec<Value> = (0..PODS).map(pod).collect();
        for pointer in [
            "/metadata/uid",
            "/metadata/name",
            "/status/podIP",
            "/status/containerStatuses/0/containerID",
        ] {
            let values: HashSet<_> =
                pods.iter().map(|pod| pod.pointer(pointer).and_then(Value::as_str)).collect();
            assert_eq!(values.len(), PODS as usize, "{pointer}");
        }
        let local = pods.iter().filter(|pod| pod["spec"]["nodeName"] == NODE).count();
        assert_eq!(local, LOCAL as usize);
    }
}
