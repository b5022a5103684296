use super::*;

fn workload(api: bool) -> Party {
    let pod = Pod {
        namespace: "ml".into(),
        name: "bert-0".into(),
        uid: "u".into(),
        config_hash: None,
        node: Some("n1".into()),
        labels: [].into(),
        controller: None,
        host_network: false,
        ips: [].into(),
        containers: [].into(),
        phase: orb8_k8s::object::Phase::Running,
    };
    let workload = Workload {
        pod_uid: Some("u".into()),
        api: api.then(|| Arc::new(pod)),
        ..Workload::default()
    };
    Party::Workload(Arc::new(workload))
}

fn root() -> Party {
    Party::Workload(Arc::new(Workload { cgroup_path: "/".into(), ..Workload::default() }))
}

fn pod() -> Party {
    Party::Pod(workload(true).workload().unwrap().api.clone().unwrap())
}

fn node() -> Party {
    Party::Node(Arc::new(Node { name: "n1".into(), ips: [].into() }))
}

fn front(behind: Option<Party>) -> Party {
    let behind = behind.map(|party| Behind { at: None, party });
    Party::Front(Arc::new(Front { address: Address::Own, behind }))
}

#[test]
fn less_is_never_learned() {
    let by_rank = [
        Party::Unknown,
        node(),
        root(),
        front(None),
        pod(),
        front(Some(Party::Unknown)),
        front(Some(node())),
        front(Some(pod())),
        front(Some(workload(true))),
        workload(true),
    ];
    for (known, party) in by_rank.iter().enumerate() {
        for (now, other) in by_rank.iter().enumerate() {
            let mut learned = party.clone();
            learned.learn(other.clone());
            assert_eq!(learned, by_rank[known.max(now)], "{party:?} and then {other:?}");
        }
    }
}

#[test]
fn the_same_is_learned_anew() {
    let mut party = workload(false);
    party.learn(workload(true));
    assert_eq!(party, workload(true));
    let mut behind = front(Some(workload(false)));
    behind.learn(front(Some(workload(true))));
    assert_eq!(behind, front(Some(workload(true))));
}

/// Another backend is not the one before, however little is known of it.
#[test]
fn what_is_elsewhere_now_is_learned_anew() {
    let front = |port, party| {
        let at = Some(SocketEnd { addr: [1; 16], port });
        let behind = Some(Behind { at, party });
        Party::Front(Arc::new(Front { address: Address::Own, behind }))
    };
    let mut party = front(1, workload(true));
    party.learn(front(1, pod()));
    assert_eq!(party, front(1, workload(true)));
    party.learn(front(2, pod()));
    assert_eq!(party, front(2, pod()));
}

/// Of who is gone, its name stays until there is somebody else.
#[test]
fn somebody_else_comes_after_who_is_gone() {
    let other = || Party::Workload(Arc::new(Workload { cgroup_id: 9, ..Workload::default() }));
    for (now, is_taken) in [
        (Party::Unknown, false),
        (node(), false),
        (root(), false),
        (pod(), false),
        (other(), true),
        (front(Some(other())), true),
    ] {
        let mut party = workload(true);
        party.succeed(now.clone());
        assert_eq!(party, if is_taken { now } else { workload(true) });
    }
    let mut party = other();
    party.succeed(pod());
    assert_eq!(party, pod());
}

#[test]
fn a_containers_name_may_come_after_its_pods() {
    let of = |container_kind| Workload {
        container_id: Some("c".into()),
        container_kind,
        ..workload(true).workload().unwrap().clone()
    };
    assert!(of(None).awaits_names());
    assert!(!of(Some(orb8_k8s::object::ContainerKind::Main)).awaits_names());
    let of_docker = Workload { container_id: Some("c".into()), ..Workload::default() };
    assert!(!of_docker.awaits_names(), "there is no pod to be told of");
}

/// Settled is what cannot be known better, and named is who is somebody in particular.
#[test]
fn what_may_be_known_better_is_looked_at_again() {
    for (party, is_settled, is_named) in [
        (Party::Unknown, false, false),
        (node(), false, false),
        (pod(), false, true),
        (workload(false), false, false),
        (workload(true), true, true),
        (Party::Workload(Arc::default()), true, true),
        (root(), false, false),
        (front(None), false, false),
        (front(Some(Party::Unknown)), false, false),
        (front(Some(pod())), false, true),
        (front(Some(workload(false))), false, false),
        (front(Some(workload(true))), true, true),
    ] {
        assert_eq!((party.is_settled(), party.is_named()), (is_settled, is_named), "{party:?}");
    }
}

#[test]
fn only_who_waits_for_a_name_gets_another() {
    let named = || workload(true).workload().cloned().map(Arc::new);
    for (mut party, expected, asked) in [
        (workload(false), workload(true), 1),
        (front(Some(workload(false))), front(Some(workload(true))), 1),
        (workload(true), workload(true), 0),
        (front(Some(pod())), front(Some(pod())), 0),
        (front(None), front(None), 0),
        (Party::Unknown, Party::Unknown, 0),
    ] {
        let mut times = 0;
        party.rename(&mut |_| {
            times += 1;
            named()
        });
        assert_eq!((party, times), (expected, asked));
    }
}
