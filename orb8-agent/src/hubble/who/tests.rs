use orb8_proto::hubble::flow::Endpoint;

use super::*;
use crate::hubble::tests::samples::{NODE, db, node, pod, process, service, web};
use crate::identity::{Front, Workload};
use std::sync::Arc;

fn endpoint(party: &Party) -> Endpoint {
    Who::new(party, "10.0.0.1".parse().unwrap(), NODE).endpoint()
}

fn labels(party: &Party) -> Vec<String> {
    endpoint(party).labels
}

#[test]
fn a_pod_has_its_names_labels_and_workload() {
    let Endpoint { identity, cluster_name, namespace, labels, pod_name, workloads } =
        endpoint(&web());
    assert!(identity >= 1 << 31, "{identity}");
    assert_eq!((&*cluster_name, &*namespace, &*pod_name), ("default", "shop", "web-1"));
    assert_eq!(labels, ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop", "k8s:tier=a"]);
    let workload = flow::Workload { name: "web".into(), kind: "Deployment".into() };
    assert_eq!(workloads, [workload]);
}

#[test]
fn those_who_are_no_pods_have_hubbles_identities() {
    let unnamed = Workload { pod_uid: Some("u".into()), ..Workload::default() };
    let own = Front { address: Address::Own, behind: None };
    for (party, number, label) in [
        (Party::Unknown, 2, "reserved:world"),
        (process("sshd.service"), 1, "reserved:host"),
        (node(NODE), 1, "reserved:host"),
        (Party::Front(Arc::new(own)), 1, "reserved:host"),
        (node("node-2"), 6, "reserved:remote-node"),
        (Party::Workload(Arc::new(unnamed)), 5, "reserved:init"),
        (service("default", "kubernetes", None), 7, "reserved:kube-apiserver"),
    ] {
        let endpoint = endpoint(&party);
        assert_eq!((endpoint.identity, &*endpoint.labels), (number, &[label.to_owned()][..]));
        assert_eq!((endpoint.namespace, endpoint.pod_name), (String::new(), String::new()));
        let cluster = if number == 2 { "" } else { "default" };
        assert_eq!(endpoint.cluster_name, cluster, "{label}");
    }
    let loopback = Who::new(&Party::Unknown, "127.0.0.1".parse().unwrap(), NODE);
    assert_eq!(loopback, Who::Reserved(Reserved::Host));
}

#[test]
fn behind_a_service_is_who_answered() {
    let known = endpoint(&service("shop", "db", Some(db())));
    assert_eq!((&*known.pod_name, known.identity), ("db-0", endpoint(&db()).identity));
    let unknown = endpoint(&service("shop", "db", None));
    assert_eq!((&*unknown.namespace, &*unknown.pod_name), ("shop", ""));
    assert_eq!(unknown.labels, ["k8s:io.kubernetes.pod.namespace=shop"]);
    assert!(unknown.identity >= 1 << 31);
    assert_ne!(unknown.identity, endpoint(&service("shop", "cache", None)).identity);
    // Somebody may have the name, but not the namespace.
    assert_ne!(endpoint(&service("shop", "kubernetes", None)).identity, 7);
}

#[test]
fn pods_of_a_workload_share_its_identity() {
    let of = |namespace, name, controller, labels: &[(&str, &str)]| {
        endpoint(&Party::Pod(pod(namespace, name, controller, labels))).identity
    };
    let deployment = Some(("Deployment", "web"));
    let web = of("shop", "web-1", deployment, &[("app", "web")]);
    assert_eq!(of("shop", "web-2", deployment, &[("app", "other")]), web);
    assert_ne!(of("ml", "web-1", deployment, &[("app", "web")]), web);
    assert_ne!(of("shop", "web-1", Some(("StatefulSet", "web")), &[]), web);
    // Pods that nothing made are told by their labels, but for those that each has its own.
    let bare = of("shop", "a", None, &[("app", "web"), ("pod-template-hash", "1")]);
    assert_eq!(of("shop", "b", None, &[("app", "web"), ("pod-template-hash", "2")]), bare);
    assert_ne!(of("shop", "a", None, &[("app", "db")]), bare);
    assert_ne!(of("shop", "a", None, &[]), of("shop", "b", None, &[]));
    // Where a text ends matters.
    assert_ne!(of("shop", "a", Some(("ab", "c")), &[]), of("shop", "a", Some(("a", "bc")), &[]));
    // Clients keep these numbers: another version must make the same.
    assert_eq!(web, 2_739_472_964);
}

#[test]
fn a_pod_that_nothing_made_is_its_own_workload() {
    let party = Party::Pod(pod("shop", "alone", None, &[]));
    let Endpoint { workloads, labels, .. } = endpoint(&party);
    assert_eq!(workloads, [flow::Workload { name: "alone".into(), kind: "Pod".into() }]);
    assert_eq!(labels, ["k8s:io.kubernetes.pod.namespace=shop"]);
    // By the runtime's files alone, nobody knows who made it.
    let named = Workload {
        namespace: Some("shop".into()),
        pod: Some("alone".into()),
        pod_uid: Some("u".into()),
        ..Workload::default()
    };
    let endpoint = endpoint(&Party::Workload(Arc::new(named)));
    assert_eq!((&*endpoint.pod_name, endpoint.workloads.len()), ("alone", 0));
}

#[test]
fn labels_are_found_by_source_and_key() {
    let party = web();
    let who = Who::new(&party, "10.0.0.1".parse().unwrap(), NODE);
    for (key, value) in [
        ("k8s.app", Some("web")),
        ("any.app", Some("web")),
        ("any.io.kubernetes.pod.namespace", Some("shop")),
        ("reserved.app", None),
        ("any.missing", None),
        ("app", None),
    ] {
        assert_eq!(who.label(key), value, "{key}");
    }
    let world = Who::Reserved(Reserved::World);
    assert_eq!(world.label("reserved.world"), Some(""));
    assert_eq!(world.label("any.world"), Some(""));
    assert_eq!((world.label("k8s.world"), world.label("reserved.host")), (None, None));
    assert_eq!(labels(&Party::Unknown), ["reserved:world"]);
}
