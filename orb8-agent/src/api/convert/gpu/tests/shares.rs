//! Whose devices are.

use super::*;

fn share(standing: Standing) -> Share {
    Share {
        device: id("GPU-a"),
        owner: Owner {
            namespace: Some("ml".into()),
            pod: Some("trainer-0".into()),
            container: Some("main".into()),
            workload: Some(trainer()),
        },
        holds: Some(Held {
            resource: "nvidia.com/gpu".into(),
            is_shared: true,
            claim: Some("ml/claim".into()),
        }),
        memory: Some((7, Basis::Exact)),
        busy: Some((0.5, Basis::Shared)),
        processes: vec![42, 43],
        standing,
    }
}

#[test]
fn a_share_is_told_with_how_it_was_found() {
    let shares = Shares {
        shares: vec![share(Standing::Idle { since: UnixNanos(9), is_long: true })],
        unattributed_memory: Some(1),
        unattributed_busy: Some(0.25),
    };
    let view =
        DeviceView { shares, ..of(plain_device("a", 0), DeviceState::Sampled(Box::default())) };
    let told = device::device(&view);
    assert_eq!(told.unattributed_memory_bytes, Some(1));
    assert_eq!(told.unattributed_utilization, Some(0.25));
    let expected = v1::GpuShare {
        device: "GPU-a".into(),
        owner: told.shares[0].owner.clone(),
        resource: "nvidia.com/gpu".into(),
        shared: true,
        claim: "ml/claim".into(),
        memory_bytes: Some(7),
        memory_basis: v1::GpuBasis::Exact.into(),
        utilization: Some(0.5),
        utilization_basis: v1::GpuBasis::Shared.into(),
        pids: vec![42, 43],
        standing: v1::GpuStanding::Idle.into(),
        idle_since_ns: 9,
        idle_long: true,
    };
    assert_eq!(told.shares, [expected]);
    let owner = told.shares[0].owner.as_ref().unwrap();
    assert_eq!((owner.namespace.as_str(), owner.pod.as_str()), ("ml", "trainer-0"));
    assert_eq!(owner.cgroup_path, "/kubepods/a");
    for (standing, expected) in [
        (Standing::Active, v1::GpuStanding::Active),
        (Standing::Unallocated, v1::GpuStanding::Unallocated),
        (Standing::InUse, v1::GpuStanding::InUse),
        (Standing::Lost, v1::GpuStanding::Lost),
    ] {
        assert_eq!(expected.word(), Some(standing.word()));
        let told = share::share(&share(standing));
        assert_eq!((told.standing(), told.idle_since_ns), (expected, 0));
    }
    let bare = Share { holds: None, memory: None, busy: None, ..share(Standing::InUse) };
    let told = share::share(&bare);
    assert_eq!((told.memory_bytes, told.memory_basis()), (None, v1::GpuBasis::Unspecified));
    assert_eq!((told.utilization, told.utilization_basis()), (None, v1::GpuBasis::Unspecified));
    assert!(told.resource.is_empty() && !told.shared && told.claim.is_empty());
}

#[test]
fn an_owner_has_the_names_by_which_it_was_given_the_device() {
    let text = |text: &str| Some(text.to_owned());
    let nobody = Owner { namespace: None, pod: None, container: None, workload: None };
    assert_eq!(owner(&nobody), None);
    // Its cgroup tells the pod's uid alone, before the Kubernetes API answers.
    let nameless =
        Workload { pod_uid: text("uid"), cgroup_path: "/a".into(), ..Workload::default() };
    let held = Owner {
        namespace: text("ml"),
        pod: text("trainer-0"),
        container: text("main"),
        workload: Some(Arc::new(nameless)),
    };
    let told = owner(&held).unwrap();
    assert_eq!((told.namespace.as_str(), told.pod.as_str()), ("ml", "trainer-0"));
    assert_eq!((told.container.as_str(), told.pod_uid.as_str()), ("main", "uid"));
    // It has not started a process.
    let told = owner(&Owner { workload: None, ..held }).unwrap();
    assert_eq!((told.pod.as_str(), told.cgroup_path.as_str()), ("trainer-0", ""));
    let unit = Arc::new(Workload { unit: text("x.service"), ..Workload::default() });
    assert_eq!(owner(&Owner { workload: Some(unit), ..nobody }).unwrap().unit, "x.service");
}
