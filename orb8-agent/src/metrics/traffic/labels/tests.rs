use orb8_k8s::object::AddressKind;
use orb8_k8s::object::{Controller, Node, Phase, Pod, Service, ServiceAddress};

use super::*;
use crate::identity::{Address, Behind, Front, Workload};

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// A pod `shop/web-1` of Deployment `web` on node `n1`.
fn pod() -> Arc<Pod> {
    Arc::new(Pod {
        namespace: "shop".into(),
        name: "web-1".into(),
        uid: "u1".into(),
        config_hash: None,
        node: Some("n1".into()),
        labels: [].into(),
        controller: Some(Controller { kind: "Deployment".into(), name: "web".into() }),
        host_network: false,
        ips: [].into(),
        containers: [].into(),
        phase: Phase::Running,
    })
}

fn of(choice: &str, owner: &Party, peer: &Party) -> String {
    let labels = LabelChoice::parse(choice).unwrap().of(owner, peer);
    let told = labels.iter().map(|(name, value)| format!("{name}={}", value.as_str()));
    told.collect::<Vec<_>>().join(" ")
}

fn workload(change: impl FnOnce(&mut Workload)) -> Party {
    let mut workload = Workload { cgroup_path: "/a".into(), ..Workload::default() };
    change(&mut workload);
    Party::Workload(Arc::new(workload))
}

#[test]
fn a_workload_is_what_is_started_as_one() {
    let told = |party: &Party| of("namespace,workload,workload-kind", party, &Party::Unknown);
    assert_eq!(told(&Party::Pod(pod())), "namespace=shop workload=web workload_kind=Deployment");
    let bare = Pod { controller: None, ..Pod::clone(&pod()) };
    let bare = workload(|owner| owner.api = Some(Arc::new(bare)));
    assert_eq!(told(&bare), "namespace=shop workload=web-1 workload_kind=Pod");
    let by_runtime = workload(|owner| {
        (owner.namespace, owner.pod) = (text("shop"), text("web-1"));
        owner.container = text("main");
    });
    assert_eq!(told(&by_runtime), "namespace=shop workload=web-1 workload_kind=Pod");
    let container = workload(|owner| owner.container_id = text("0123456789abcdef"));
    assert_eq!(told(&container), "workload=0123456789ab workload_kind=Container");
    let unit = workload(|owner| owner.unit = text("nginx.service"));
    assert_eq!(told(&unit), "workload=nginx.service workload_kind=Unit");
    let root = workload(|owner| owner.cgroup_path = "/".into());
    assert_eq!(told(&root), "workload=host workload_kind=Host");
    assert_eq!(told(&workload(|_| {})), "");
    assert_eq!(told(&Party::Unknown), "");
}

#[test]
fn the_first_that_is_known_has_the_first_ones_name() {
    let unit = workload(|owner| owner.unit = text("nginx.service"));
    assert_eq!(of("pod|unit", &unit, &Party::Unknown), "pod=nginx.service");
    assert_eq!(of("pod | unit", &Party::Pod(pod()), &Party::Unknown), "pod=web-1");
    assert_eq!(of("unit,container", &unit, &Party::Unknown), "unit=nginx.service");
}

#[test]
fn peers_have_labels_of_their_own() {
    let choice = "workload,peer-namespace,peer-workload,peer-pod,peer-service,peer-node";
    let service = ServiceAddress {
        service: Arc::new(Service { namespace: "shop".into(), name: "front".into() }),
        port: None,
        port_name: None,
        kind: AddressKind::Cluster,
    };
    let front = |behind| {
        let address = Address::Service(Arc::new(service.clone()));
        Party::Front(Arc::new(Front { address, behind }))
    };
    let behind = Behind { at: None, party: Party::Pod(pod()) };
    assert_eq!(
        of(choice, &Party::Unknown, &front(Some(behind))),
        "peer_namespace=shop peer_workload=web peer_pod=web-1 peer_service=front peer_node=n1"
    );
    assert_eq!(of(choice, &Party::Unknown, &front(None)), "peer_namespace=shop peer_service=front");
    let node = Party::Node(Arc::new(Node { name: "n2".into(), ips: [].into() }));
    assert_eq!(of(choice, &node, &node), "peer_node=n2");
    assert!(LabelChoice::parse(choice).unwrap().has_peer());
    assert!(!LabelChoice::parse("namespace,workload").unwrap().has_peer());
}

#[test]
fn what_is_wrong_is_told_with_what_would_be_right() {
    for (bad, word) in
        [("namespace,podd", "`podd`"), ("", "``"), ("pod,,unit", "``"), ("a|pod", "`a`")]
    {
        let problem = LabelChoice::parse(bad).unwrap_err();
        assert!(problem.starts_with("must be ") && problem.contains(word), "{bad}: {problem}");
        WORDS.iter().for_each(|(word, ..)| assert!(problem.contains(word), "{problem}"));
    }
    let twice = LabelChoice::parse("pod|workload,pod").unwrap_err();
    assert_eq!(twice, "has the label pod twice; leave one out");
    assert_eq!(LabelChoice::none().other(), []);
    let other = LabelChoice::parse("namespace,peer-pod").unwrap().other();
    assert_eq!(other, [("namespace", OTHER.into()), ("peer_pod", OTHER.into())]);
}

#[test]
fn label_names_are_the_words_with_underscores() {
    for (word, label, _) in WORDS {
        assert_eq!(word.replace('-', "_"), *label);
    }
}
