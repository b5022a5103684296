use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::object::{ContainerKind, Phase};

fn read<T: DeserializeOwned>(object: Value) -> T {
    // From text, as it comes: a `Value` would borrow where a stream cannot.
    serde_json::from_str(&object.to_string()).unwrap()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_pod_is_read_and_the_rest_is_skipped() {
    let pod: PodObject = read(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-7d4b9c-x2x4z",
            "namespace": "shop",
            "uid": "0b7f1c1e-5a44-4d0f-9c68-1f0a0f8d9a01",
            "resourceVersion": "4711",
            "creationTimestamp": "2024-05-01T10:00:00Z",
            "labels": {"app": "web", "pod-template-hash": "7d4b9c"},
            "annotations": {"huge": "x".repeat(1000), "kubectl.kubernetes.io/restartedAt": "now"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Watcher", "name": "w", "uid": "u0"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7d4b9c", "uid": "u1",
                 "controller": true, "blockOwnerDeletion": true},
            ],
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {"f:phase": {}}}}],
        },
        "spec": {
            "nodeName": "node-a",
            "containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 80}]}],
        },
        "status": {
            "phase": "Running",
            "hostIP": "10.0.0.1",
            "podIP": "10.244.1.7",
            "podIPs": [{"ip": "10.244.1.7"}, {"ip": "fd00::7"}],
            "startTime": "2024-05-01T10:00:02Z",
            "containerStatuses": [{
                "name": "web",
                "containerID": "containerd://c1",
                "lastState": {"terminated": {"exitCode": 1, "containerID": "containerd://c0"}},
            }],
        },
    }));
    let meta = pod.meta();
    assert_eq!(meta.name.as_deref(), Some("web-7d4b9c-x2x4z"));
    assert_eq!(meta.namespace.as_deref(), Some("shop"));
    assert_eq!(meta.resource_version.as_deref(), Some("4711"));
    assert_eq!(meta.labels.as_ref().unwrap().len(), 2);
    assert_eq!((&meta.annotations, &meta.managed_fields), (&None, &None));
    assert_eq!(controller(meta).unwrap().name, "web-7d4b9c");
    assert_eq!(created(meta), Some(1_714_557_600_000_000_000));
    assert_eq!(pod.started(), Some(1_714_557_602_000_000_000));
    assert_eq!((pod.node(), pod.phase()), (Some("node-a"), Phase::Running));
    assert_eq!(pod.addresses(), Addresses { ips: ips(&["10.244.1.7", "fd00::7"]), skipped: 0 });
    let containers: Vec<_> = pod.containers().collect();
    let web = ContainerFacts {
        name: "web",
        kind: ContainerKind::Main,
        id: Some("c1"),
        previous: Some("c0"),
    };
    assert_eq!(containers, [web]);
}

#[test]
fn nulls_and_nothing_are_read_alike() {
    let nulls = json!({
        "metadata": {"name": null, "labels": null, "ownerReferences": null, "annotations": null,
                     "creationTimestamp": null},
        "spec": {"nodeName": "", "containers": null, "initContainers": null, "hostNetwork": null},
        "status": {"phase": null, "podIP": "", "podIPs": null, "containerStatuses": null,
                   "startTime": null},
    });
    for object in [json!({}), json!({"metadata": null, "spec": null, "status": null}), nulls] {
        let pod: PodObject = read(object);
        assert_eq!((pod.node(), pod.started(), pod.config_hash()), (None, None, None));
        assert_eq!((pod.phase(), pod.host_network()), (Phase::Pending, false));
        assert_eq!(pod.addresses(), Addresses::default());
        assert_eq!(pod.containers().count(), 0);
    }
    for object in [json!({}), json!({"spec": null}), json!({"spec": {"ports": null}})] {
        let service: ServiceObject = read(object);
        assert_eq!(service.cluster_addresses(), Addresses::default());
        assert_eq!(service.ports().count(), 0);
    }
    for object in [json!({}), json!({"endpoints": null, "ports": null})] {
        assert_eq!(read::<EndpointSliceObject>(object).endpoints(), (vec![], 0));
    }
    for object in [json!({}), json!({"status": {"addresses": null}})] {
        assert_eq!(read::<NodeObject>(object).addresses(), Addresses::default());
    }
    assert_eq!(read::<OwnerObject>(json!({"metadata": {}})).meta().uid, None);
}

#[test]
fn containers_keep_their_order_and_kind() {
    let pod: PodObject = read(json!({
        "spec": {
            "containers": [{"name": "a"}, {"name": "b"}],
            "initContainers": [{"name": "setup"}, {"name": "proxy", "restartPolicy": "Always"}],
            "ephemeralContainers": [{"name": "debug"}],
        },
        "status": {
            "containerStatuses": [
                {"name": "b", "containerID": "weird://abc"},
                {"name": "a", "containerID": ""},
                {"name": "unlisted", "containerID": "cri-o://def"},
            ],
            "initContainerStatuses": [{"name": "proxy", "containerID": "docker://p"}],
            "ephemeralContainerStatuses": [{"name": "debug", "containerID": "no-scheme"}],
        },
    }));
    let read: Vec<_> = pod.containers().map(|one| (one.name, one.kind, one.id)).collect();
    assert_eq!(
        read,
        [
            ("setup", ContainerKind::Init, None),
            ("proxy", ContainerKind::Sidecar, Some("p")),
            ("a", ContainerKind::Main, None),
            ("b", ContainerKind::Main, Some("abc")),
            ("unlisted", ContainerKind::Main, Some("def")),
            ("debug", ContainerKind::Ephemeral, Some("no-scheme")),
        ]
    );
}

#[test]
fn a_pod_has_only_addresses_of_its_own() {
    let with = |spec: Value, status: Value| {
        let pod: PodObject = read(json!({"spec": spec, "status": status}));
        pod.addresses()
    };
    let none = || Addresses::default();
    let own = |texts| Addresses { ips: ips(texts), skipped: 0 };
    assert_eq!(with(json!({}), json!({"podIP": "10.1.0.1"})), own(&["10.1.0.1"]));
    assert_eq!(with(json!({}), json!({"podIPs": [{"ip": "10.1.0.1"}]})), own(&["10.1.0.1"]));
    assert_eq!(with(json!({"hostNetwork": true}), json!({"podIP": "10.0.0.1"})), none());
    for phase in ["Succeeded", "Failed"] {
        assert_eq!(with(json!({}), json!({"podIP": "10.1.0.1", "phase": phase})), none());
    }
    // Whatever the spec says: the node's address tells no pod.
    let host = json!({"podIP": "10.0.0.1", "hostIP": "10.0.0.1", "podIPs": [{"ip": "fd00::1"}],
                      "hostIPs": [{"ip": "fd00::1"}]});
    assert_eq!(with(json!({}), host), none());
    let bad = json!({"podIP": "10.1.0.300", "podIPs": [{"ip": "127.0.0.1"}, {"ip": "::"},
                     {"ip": "10.1.0.2"}, {}, {"ip": "fe80::1%eth0"}]});
    assert_eq!(with(json!({}), bad), Addresses { ips: ips(&["10.1.0.2"]), skipped: 4 });
    let mapped = json!({"podIP": "10.1.0.1", "podIPs": [{"ip": "::ffff:10.1.0.1"}]});
    assert_eq!(with(json!({}), mapped), own(&["10.1.0.1"]));
}

#[test]
fn a_static_pod_tells_the_kubelets_uid() {
    let with = |annotations: &Value, owner: Value| {
        let metadata = json!({"annotations": annotations, "ownerReferences": [owner]});
        let pod: PodObject = read(json!({"metadata": metadata}));
        pod.config_hash().map(str::to_owned)
    };
    let owner = |version: &str, kind: &str| json!({"apiVersion": version, "kind": kind, "name": "n", "uid": "u", "controller": true});
    let node = || owner("v1", "Node");
    let mirror = json!({"kubernetes.io/config.mirror": "abc", "kubernetes.io/config.hash": "abc"});
    assert_eq!(with(&mirror, node()).as_deref(), Some("abc"));
    // What anybody may write of a pod does not make it a mirror.
    assert_eq!(with(&json!({"kubernetes.io/config.hash": "abc"}), node()), None);
    assert_eq!(with(&json!({"kubernetes.io/config.mirror": ""}), node()), None);
    assert_eq!(with(&mirror, owner("apps/v1", "DaemonSet")), None);
    assert_eq!(with(&mirror, owner("example.org/v1", "Node")), None);
}

#[test]
fn times_that_are_none_leave_the_object_readable() {
    let at = |text: &str| {
        created(read::<PodObject>(json!({"metadata": {"creationTimestamp": text}})).meta())
    };
    let expected: Timestamp = "2024-05-01T10:00:00.5Z".parse().unwrap();
    assert_eq!(at("2024-05-01T12:00:00.5+02:00"), u64::try_from(expected.as_nanosecond()).ok());
    assert_eq!((at("yesterday"), at("1960-01-01T00:00:00Z")), (None, None));
}

#[test]
fn a_service_has_addresses_and_ports() {
    let service: ServiceObject = read(json!({
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.10",
            "clusterIPs": ["10.96.0.10", "fd00:96::a"],
            "externalIPs": ["192.0.2.1", "nonsense"],
            "ports": [
                {"name": "dns", "protocol": "UDP", "port": 53, "nodePort": 30053},
                {"port": 80},
                {"protocol": "SCTP", "port": 9},
                {"protocol": "QUIC", "port": 1},
                {"port": 70000},
            ],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}, {"hostname": "lb.example"}]}},
    }));
    assert_eq!(service.cluster_addresses().ips, ips(&["10.96.0.10", "fd00:96::a"]));
    let external = service.external_addresses();
    assert_eq!(external, Addresses { ips: ips(&["192.0.2.1", "203.0.113.9"]), skipped: 1 });
    let port = |name, protocol, port, node_port| ServicePort { name, protocol, port, node_port };
    let ports: Vec<_> = service.ports().collect();
    assert_eq!(
        ports,
        [port(Some("dns"), 17, 53, Some(30053)), port(None, 6, 80, None), port(None, 132, 9, None)]
    );
}

#[test]
fn headless_services_and_aliases_have_no_address() {
    for spec in [
        json!({"clusterIP": "None", "clusterIPs": ["None"]}),
        json!({"clusterIPs": ["None"]}),
        json!({"type": "ExternalName", "externalName": "db.example", "externalIPs": ["192.0.2.1"]}),
    ] {
        let service: ServiceObject = read(json!({"spec": spec}));
        assert_eq!(service.cluster_addresses(), Addresses::default());
        assert_eq!(service.external_addresses(), Addresses::default());
    }
}

#[test]
fn endpoints_are_those_that_are_no_pods() {
    let slice: EndpointSliceObject = read(json!({
        "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["10.0.0.5", "bad"], "conditions": {"ready": true}},
            {"addresses": ["10.244.0.5"], "targetRef": {"kind": "Pod", "name": "p", "uid": "u"}},
            {"addresses": ["10.0.0.6"], "targetRef": {"kind": "Node", "name": "n"}},
            {"addresses": null},
        ],
        "ports": [{"name": "https", "port": 6443}, {"name": "", "protocol": "UDP", "port": null}],
    }));
    assert_eq!(slice.service(), Some("kubernetes"));
    let at = |ip: &str| Endpoint {
        ip: ip.parse().unwrap(),
        protocol: 6,
        port: 6443,
        name: Some("https"),
    };
    assert_eq!(slice.endpoints(), (vec![at("10.0.0.5"), at("10.0.0.6")], 1));
    let names: EndpointSliceObject = read(json!({
        "addressType": "FQDN",
        "endpoints": [{"addresses": ["db.example"]}],
        "ports": [{"port": 1}],
    }));
    assert_eq!((names.endpoints(), names.service()), ((vec![], 0), None));
}

#[test]
fn a_nodes_names_are_no_addresses() {
    let node: NodeObject = read(json!({"status": {"addresses": [
        {"type": "InternalIP", "address": "10.0.0.1"},
        {"type": "InternalIP", "address": "fd00::1"},
        {"type": "ExternalIP", "address": "203.0.113.1"},
        {"type": "Hostname", "address": "node-a"},
        {"type": "InternalDNS", "address": "10.9.9.9"},
        {"type": "InternalIP", "address": "?"},
    ]}}));
    let expected = ips(&["10.0.0.1", "fd00::1", "203.0.113.1"]);
    assert_eq!(node.addresses(), Addresses { ips: expected, skipped: 1 });
}

#[test]
fn each_type_knows_its_place() {
    fn path<T: Resource<DynamicType = ()>>() -> String {
        assert!(!T::metadata_api());
        T::url_path(&(), None)
    }
    assert_eq!(path::<PodObject>(), "/api/v1/pods");
    assert_eq!(path::<ServiceObject>(), "/api/v1/services");
    assert_eq!(path::<NodeObject>(), "/api/v1/nodes");
    let slices = "/apis/discovery.k8s.io/v1/endpointslices";
    assert_eq!(path::<EndpointSliceObject>(), slices);
    let owners = [OwnerKind::ReplicaSet, OwnerKind::Job, OwnerKind::StatefulSet];
    let paths = owners.map(|kind| OwnerObject::url_path(&kind, None));
    assert_eq!(
        paths,
        ["/apis/apps/v1/replicasets", "/apis/batch/v1/jobs", "/apis/apps/v1/statefulsets"]
    );
    assert!(OwnerObject::metadata_api());
}
