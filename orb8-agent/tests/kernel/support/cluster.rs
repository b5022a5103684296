//! What the API server tells of the pods and Services of a [`Node`](super::node).

use orb8_k8s::testing::{ApiServer, objects};
use serde_json::{Value, json};

use super::node::{
    MACHINE4, NODE4, NODE6, OTHER4, OTHER6, REMOTE4, REMOTE6, container_id, pod_ips,
};

/// Names of the nodes: the agent's own, and the other one.
pub(crate) const HERE: &str = "node-a";
pub(crate) const THERE: &str = "node-b";

/// A pod of this node, or of the other one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PodSpec {
    pub(crate) namespace: &'static str,
    pub(crate) name: &'static str,
    pub(crate) uid: &'static str,
    /// Kind, name and uid.
    pub(crate) controller: (&'static str, &'static str, &'static str),
    pub(crate) containers: &'static [&'static str],
}

pub(crate) const WEB: PodSpec = PodSpec {
    namespace: "shop",
    name: "web-7d4b9c6f5-x2x4k",
    uid: "0a1b2c3d-0000-4000-8000-000000000001",
    controller: ("ReplicaSet", "web-7d4b9c6f5", "0a1b2c3d-0000-4000-8000-0000000000f1"),
    containers: &["main", "helper"],
};
pub(crate) const DB: PodSpec = PodSpec {
    namespace: "shop",
    name: "db-0",
    uid: "0a1b2c3d-0000-4000-8000-000000000002",
    controller: ("StatefulSet", "db", "0a1b2c3d-0000-4000-8000-0000000000f2"),
    containers: &["main", "setup", "proxy", "debug"],
};
pub(crate) const BERT: PodSpec = PodSpec {
    namespace: "ml",
    name: "bert-worker-0",
    uid: "0a1b2c3d-0000-4000-8000-000000000003",
    controller: ("PyTorchJob", "bert", "0a1b2c3d-0000-4000-8000-0000000000f3"),
    containers: &["main"],
};
pub(crate) const DNS: PodSpec = PodSpec {
    namespace: "kube-system",
    name: "coredns-5dd5756b68-abcde",
    uid: "0a1b2c3d-0000-4000-8000-000000000004",
    controller: ("ReplicaSet", "coredns-5dd5756b68", "0a1b2c3d-0000-4000-8000-0000000000f4"),
    containers: &["main"],
};
/// Two on the node's network.
pub(crate) const PROXY: PodSpec = PodSpec {
    namespace: "kube-system",
    name: "proxy-a",
    uid: "0a1b2c3d-0000-4000-8000-000000000005",
    controller: ("DaemonSet", "proxy", "0a1b2c3d-0000-4000-8000-0000000000f5"),
    containers: &["main"],
};
/// A static one: its cgroup has the hash that the kubelet made of its manifest.
pub(crate) const EXPORTER: PodSpec = PodSpec {
    namespace: "monitoring",
    name: "exporter-node-a",
    uid: "0a1b2c3d-0000-4000-8000-000000000006",
    controller: ("Node", HERE, "0a1b2c3d-0000-4000-8000-0000000000f6"),
    containers: &["main"],
};
pub(crate) const EXPORTER_HASH: &str = "5f1a2b3c4d5e6f708192a3b4c5d6e7f8";
/// Of the other node.
pub(crate) const CACHE: PodSpec = PodSpec {
    namespace: "shop",
    name: "cache-0",
    uid: "0a1b2c3d-0000-4000-8000-000000000007",
    controller: ("StatefulSet", "cache", "0a1b2c3d-0000-4000-8000-0000000000f7"),
    containers: &["main"],
};
/// Gets the address of [`CACHE`] when that is gone.
pub(crate) const HEIR: PodSpec = PodSpec {
    namespace: "ml",
    name: "heir-0",
    uid: "0a1b2c3d-0000-4000-8000-000000000008",
    controller: ("Job", "heir", "0a1b2c3d-0000-4000-8000-0000000000f8"),
    containers: &["main"],
};
/// Those that the API server tells of later than they start, or never.
pub(crate) const LATE: PodSpec = PodSpec {
    namespace: "ml",
    name: "late-0",
    uid: "0a1b2c3d-0000-4000-8000-000000000009",
    controller: ("Job", "late", "0a1b2c3d-0000-4000-8000-0000000000f9"),
    containers: &["main"],
};
pub(crate) const NEVER: PodSpec =
    PodSpec { name: "never-0", uid: "0a1b2c3d-0000-4000-8000-00000000000a", ..LATE };
pub(crate) const NEW: PodSpec =
    PodSpec { name: "new-0", uid: "0a1b2c3d-0000-4000-8000-00000000000b", ..LATE };

impl PodSpec {
    /// The object, with addresses of its own.
    pub(crate) fn object(&self, node: &str, ips: &[&str]) -> Value {
        let (kind, owner, uid) = self.controller;
        let pod = objects::with_uid(objects::pod(self.namespace, self.name, node, ips), self.uid);
        let mut pod = objects::owned(pod, kind, owner, uid);
        pod["metadata"]["labels"] = json!({"app": owner, "of": self.namespace});
        pod["spec"]["containers"] = json!([]);
        pod["status"]["containerStatuses"] = json!([]);
        for name in self.containers {
            self.add_container(&mut pod, name);
        }
        pod
    }

    /// A pod of this node by its number on the bridge.
    pub(crate) fn here(&self, number: u8) -> Value {
        let [v4, v6] = pod_ips(number);
        self.object(HERE, &[&v4, &v6])
    }

    pub(crate) fn on_host_network(&self) -> Value {
        objects::on_host_network(self.object(HERE, &[NODE4, NODE6]))
    }

    fn add_container(&self, pod: &mut Value, name: &str) {
        let (specs, statuses) = match name {
            "setup" | "proxy" => ("initContainers", "initContainerStatuses"),
            "debug" => ("ephemeralContainers", "ephemeralContainerStatuses"),
            _ => ("containers", "containerStatuses"),
        };
        let mut spec = json!({"name": name, "image": "example.org/app"});
        if name == "proxy" {
            spec["restartPolicy"] = json!("Always");
        }
        let id = format!("containerd://{}", container_id(self.uid, name));
        let status = json!({"name": name, "containerID": id, "ready": true, "restartCount": 0,
                            "image": "", "imageID": ""});
        append(&mut pod["spec"][specs], spec);
        append(&mut pod["status"][statuses], status);
    }
}

fn append(list: &mut Value, value: Value) {
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().expect("a list").push(value);
}

/// Tells the server of everything that is there from the start.
pub(crate) fn fill(api: &ApiServer) {
    api.apply(objects::node(HERE, &[NODE4, NODE6]));
    api.apply(objects::node(THERE, &[OTHER4, OTHER6]));
    api.apply(WEB.here(10));
    api.apply(DB.here(11));
    api.apply(BERT.here(12));
    api.apply(DNS.here(13));
    api.apply(PROXY.on_host_network());
    let mut exporter = EXPORTER.on_host_network();
    exporter["metadata"]["annotations"] = json!({
        "kubernetes.io/config.hash": EXPORTER_HASH, "kubernetes.io/config.mirror": EXPORTER_HASH,
        "kubernetes.io/config.source": "file"
    });
    exporter["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": HERE, "uid": HERE, "controller": true}]);
    let id = format!("containerd://{}", container_id(EXPORTER_HASH, "main"));
    exporter["status"]["containerStatuses"][0]["containerID"] = json!(id);
    api.apply(exporter);
    api.apply(CACHE.object(THERE, &[REMOTE4, REMOTE6]));
    for (pod, owner) in [(&WEB, "web"), (&DNS, "coredns")] {
        let (kind, name, uid) = pod.controller;
        let set = objects::owner(kind, pod.namespace, name, uid);
        api.apply(objects::owned(set, "Deployment", owner, "0a1b2c3d-0000-4000-8000-0000000000d1"));
    }
    for pod in [&DB, &CACHE] {
        let (kind, name, uid) = pod.controller;
        api.apply(objects::owner(kind, pod.namespace, name, uid));
    }
    services().into_iter().for_each(|object| api.apply(object));
}

fn services() -> Vec<Value> {
    let port = |name: &str, protocol: &str, port: u16| json!({"name": name, "protocol": protocol, "port": port});
    let web = service(
        "shop",
        "web",
        ["10.96.0.10", "fd00:96::10"],
        vec![
            json!({"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080}),
            port("quic", "UDP", 80),
        ],
    );
    let bert = service("ml", "bert", ["10.96.0.20", "fd00:96::20"], vec![port("api", "TCP", 80)]);
    let dns = service(
        "kube-system",
        "kube-dns",
        ["10.96.0.53", "fd00:96::53"],
        vec![port("dns", "UDP", 53)],
    );
    let host = service(
        "monitoring",
        "exporter",
        ["10.96.0.30", "fd00:96::30"],
        vec![port("metrics", "TCP", 9100)],
    );
    let cache =
        service("shop", "cache", ["10.96.0.40", "fd00:96::40"], vec![port("db", "TCP", 6379)]);
    let kubernetes = service(
        "default",
        "kubernetes",
        ["10.96.0.1", "fd00:96::1"],
        vec![json!({"name": "https", "protocol": "TCP", "port": 443})],
    );
    let mut slice = objects::endpoint_slice("default", "kubernetes", &[MACHINE4], 6443);
    slice["ports"][0]["name"] = json!("https");
    let [v4, _] = pod_ips(10);
    let mut of_web = objects::endpoint_slice("shop", "web", &[&v4], 8080);
    of_web["endpoints"][0]["targetRef"] =
        json!({"kind": "Pod", "namespace": WEB.namespace, "name": WEB.name, "uid": WEB.uid});
    vec![web, bert, dns, host, cache, kubernetes, slice, of_web]
}

fn service(namespace: &str, name: &str, ips: [&str; 2], ports: Vec<Value>) -> Value {
    let mut service = objects::service(namespace, name, Some(ips[0]), 1);
    service["spec"]["clusterIPs"] = json!(ips);
    service["spec"]["ports"] = json!(ports);
    service
}

/// What kube-proxy would make of the Services.
pub(crate) const RULES: &str = "
table ip kube {
    chain services {
        ip saddr != 10.244.0.0/16 ip daddr 10.96.0.0/16 meta mark set 0x4000
        ip daddr 10.200.0.1 tcp dport 30080 meta mark set 0x4000
        ip daddr 10.96.0.10 tcp dport 80 dnat to 10.244.1.10:8080
        ip daddr 10.96.0.10 udp dport 80 dnat to 10.244.1.10:8080
        ip daddr 10.200.0.1 tcp dport 30080 dnat to 10.244.1.10:8080
        ip daddr 10.96.0.20 tcp dport 80 dnat to 10.244.1.12:8080
        ip daddr 10.96.0.53 udp dport 53 dnat to 10.244.1.13:53
        ip daddr 10.96.0.30 tcp dport 9100 dnat to 10.200.0.1:9100
        ip daddr 10.96.0.40 tcp dport 6379 dnat to 10.244.2.5:6443
        ip daddr 10.96.0.1 tcp dport 443 dnat to 10.200.0.3:6443
    }
    chain pre {
        type nat hook prerouting priority -100
        jump services
    }
    chain out {
        type nat hook output priority -100
        jump services
    }
    chain post {
        type nat hook postrouting priority 100
        meta mark 0x4000 masquerade
        ip saddr 10.244.1.12 ip daddr 10.244.1.12 masquerade
        ip saddr 10.244.0.0/16 ip daddr 192.0.2.0/24 masquerade
    }
}
table ip6 kube {
    chain services {
        ip6 saddr != fd00:244::/32 ip6 daddr fd00:96::/112 meta mark set 0x4000
        ip6 daddr fd00:96::10 tcp dport 80 dnat to [fd00:244:1::10]:8080
        ip6 daddr fd00:96::10 udp dport 80 dnat to [fd00:244:1::10]:8080
        ip6 daddr fd00:96::20 tcp dport 80 dnat to [fd00:244:1::12]:8080
        ip6 daddr fd00:96::53 udp dport 53 dnat to [fd00:244:1::13]:53
        ip6 daddr fd00:96::40 tcp dport 6379 dnat to [fd00:244:2::5]:6443
    }
    chain pre {
        type nat hook prerouting priority -100
        jump services
    }
    chain out {
        type nat hook output priority -100
        jump services
    }
    chain post {
        type nat hook postrouting priority 100
        meta mark 0x4000 masquerade
        ip6 saddr fd00:244:1::12 ip6 daddr fd00:244:1::12 masquerade
    }
}
";
