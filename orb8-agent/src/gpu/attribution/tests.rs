use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::gpu::reading::DeviceState;
use crate::gpu::samples::{device, owner, part, sampled};
use crate::identity::Workload;

const GIB: u64 = 1 << 30;

fn seen(used: Option<u64>, busy: Option<f64>) -> Seen {
    sampled(device("GPU-1"), |sample| {
        sample.busy.gpu = busy;
        sample.memory.used = used;
    })
}

fn holder(pod: &str) -> Holder {
    let held = Held { resource: "nvidia.com/gpu".into(), is_shared: false, claim: None };
    Holder { owner: Owner { workload: None, ..owner(pod) }, held }
}

fn user(pid: u32, pod: &str, memory: Option<u64>, busy: Option<f64>) -> User {
    User { pid, owner: Some(owner(pod)), memory, busy, is_server: false }
}

/// Pod, memory and its basis, time and its basis.
type Row = (String, Option<(u64, Basis)>, Option<(f64, Basis)>);

fn rows(seen: &Seen, holders: &[Holder], users: &[User], tells_users: bool) -> (Vec<Row>, Shares) {
    let device = Attributed { seen, parts_memory: 0, holders, users, tells_users };
    let shares = attribute(&device);
    let row =
        |share: &Share| (share.owner.pod.clone().unwrap_or_default(), share.memory, share.busy);
    (shares.shares.iter().map(row).collect(), shares)
}

fn row(pod: &str, memory: (u64, Basis), busy: (f64, Basis)) -> Row {
    (pod.into(), Some(memory), Some(busy))
}

use Basis::{Estimated, Exact, Shared as Equal};

#[test]
fn who_is_alone_on_a_device_has_it_all() {
    let seen = seen(Some(10 * GIB), Some(0.8));
    let users = [user(1, "a", Some(6 * GIB), None), user(2, "a", Some(3 * GIB), None)];
    let (found, shares) = rows(&seen, &[holder("a")], &users, true);
    assert_eq!(found, [row("a", (9 * GIB, Exact), (0.8, Exact))]);
    assert_eq!(shares.shares[0].processes, [1, 2]);
    assert!(shares.shares[0].owner.workload.is_some(), "as its processes tell");
    assert_eq!(shares.unattributed_memory, Some(GIB), "contexts");
    assert_eq!(shares.unattributed_busy, Some(0.0));
}

#[test]
fn samples_of_processes_are_parts_of_the_device() {
    let seen = seen(Some(8 * GIB), Some(0.375));
    let holders = [holder("a"), holder("b"), holder("c")];
    let users = [
        user(1, "a", Some(2 * GIB), Some(0.5)),
        user(2, "b", Some(GIB), Some(0.25)),
        user(3, "d", Some(GIB), None),
    ];
    let (found, shares) = rows(&seen, &holders, &users, true);
    assert_eq!(found[0], row("a", (2 * GIB, Exact), (0.25, Estimated)));
    assert_eq!(found[1], row("b", (GIB, Exact), (0.125, Estimated)));
    assert_eq!(found[2], row("c", (0, Exact), (0.0, Exact)), "it has no process");
    assert_eq!(found[3], ("d".into(), Some((GIB, Exact)), None), "no sample is not 0");
    assert_eq!(shares.shares[3].holds, None);
    assert_eq!(shares.unattributed_memory, Some(4 * GIB));
    assert!(shares.unattributed_busy.unwrap().abs() < 1e-9);
}

#[test]
fn without_samples_those_on_the_device_have_equal_parts() {
    let seen = seen(Some(4 * GIB), Some(0.9));
    let holders = [holder("a"), holder("b"), holder("c")];
    let users = [user(1, "a", Some(GIB), None), user(2, "b", Some(GIB), None)];
    let (found, shares) = rows(&seen, &holders, &users, true);
    assert_eq!(found[0], row("a", (GIB, Exact), (0.45, Equal)));
    assert_eq!(found[1], row("b", (GIB, Exact), (0.45, Equal)));
    assert_eq!(found[2], row("c", (0, Exact), (0.0, Exact)));
    assert_eq!(shares.unattributed_busy, Some(0.0));
    let (found, _) = rows(&seen, &holders, &users[..1], true);
    assert_eq!(found[0], row("a", (GIB, Exact), (0.9, Estimated)), "the only one on it");
}

#[test]
fn a_source_without_processes_still_tells_whose_a_device_is() {
    let seen = seen(Some(4 * GIB), Some(0.5));
    let (found, shares) = rows(&seen, &[holder("a")], &[], false);
    assert_eq!(found, [row("a", (4 * GIB, Exact), (0.5, Exact))]);
    assert_eq!(shares.unattributed_memory, Some(0));
    let (found, _) = rows(&seen, &[holder("a"), holder("b")], &[], false);
    assert_eq!(found[1], row("b", (2 * GIB, Equal), (0.25, Equal)));
}

#[test]
fn memory_that_a_process_does_not_tell_is_what_is_left() {
    let seen = seen(Some(4 * GIB), None);
    let users = [user(1, "a", None, None), user(2, "b", Some(GIB), None)];
    let (found, shares) = rows(&seen, &[], &users, true);
    assert_eq!(found[0], ("a".into(), Some((3 * GIB, Estimated)), None));
    assert_eq!(found[1], ("b".into(), Some((GIB, Exact)), None));
    assert_eq!((shares.unattributed_memory, shares.unattributed_busy), (Some(0), None));
}

#[test]
fn what_processes_tell_beyond_the_device_is_scaled() {
    let seen = seen(Some(3 * GIB), Some(0.3));
    let users = [user(1, "a", Some(4 * GIB), Some(0.9)), user(2, "b", Some(2 * GIB), Some(0.0))];
    let (found, shares) = rows(&seen, &[holder("a"), holder("b")], &users, true);
    assert_eq!(found[0], row("a", (2 * GIB, Estimated), (0.3, Estimated)));
    assert_eq!(found[1], row("b", (GIB, Estimated), (0.0, Estimated)));
    assert_eq!(shares.unattributed_memory, Some(0));
}

#[test]
fn an_mps_server_is_nobody_and_its_clients_are_somebody() {
    let seen = seen(Some(4 * GIB), Some(0.5));
    let server = User { is_server: true, ..user(9, "mps", Some(GIB), Some(0.1)) };
    let users = [server, user(1, "a", Some(GIB), Some(0.2)), user(2, "b", Some(GIB), Some(0.1))];
    let (found, shares) = rows(&seen, &[holder("a"), holder("b")], &users, true);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0], row("a", (GIB, Exact), (0.2, Estimated)));
    assert_eq!(shares.unattributed_memory, Some(2 * GIB));
    assert!((shares.unattributed_busy.unwrap() - 0.2).abs() < 1e-9);
}

#[test]
fn processes_of_nobody_known_leave_nobody_alone() {
    let seen = seen(Some(4 * GIB), Some(0.5));
    let gone = User { owner: None, ..user(9, "", Some(GIB), None) };
    let (found, shares) = rows(&seen, &[holder("a")], &[gone, user(1, "a", Some(GIB), None)], true);
    assert_eq!(found, [row("a", (GIB, Exact), (0.25, Equal))]);
    assert_eq!(shares.unattributed_memory, Some(3 * GIB));
    assert_eq!(shares.unattributed_busy, Some(0.25));
}

#[test]
fn a_process_that_computes_and_draws_counts_once() {
    let seen = seen(Some(4 * GIB), Some(0.5));
    let users = [user(1, "a", Some(GIB), Some(0.2)), user(1, "a", Some(GIB), None)];
    let (found, shares) = rows(&seen, &[holder("b")], &users, true);
    assert_eq!(found[1], row("a", (GIB, Exact), (0.2, Estimated)));
    assert_eq!(shares.shares[1].processes, [1]);
}

#[test]
fn a_container_without_its_name_is_the_one_that_its_pod_has_on_the_device() {
    let seen = seen(Some(4 * GIB), Some(0.5));
    let unnamed = |pod: &str| {
        let full = owner(pod);
        let workload = full.workload.as_deref().cloned().unwrap();
        let workload = Workload { container: None, ..workload };
        Owner {
            container: workload.container_label().map(str::to_owned),
            workload: Some(Arc::new(workload)),
            ..full
        }
    };
    let users = [User { owner: Some(unnamed("a")), ..user(1, "a", Some(GIB), None) }];
    let (_, shares) = rows(&seen, &[holder("a")], &users, true);
    assert_eq!(shares.shares.len(), 1);
    assert_eq!(shares.shares[0].processes, [1]);
    let mut other = holder("a");
    other.owner.container = Some("sidecar".into());
    let (_, shares) = rows(&seen, &[holder("a"), other], &users, true);
    assert_eq!(shares.shares.len(), 3, "it may be either");
}

#[test]
fn two_slices_of_one_device_are_held_once() {
    let seen = seen(Some(4 * GIB), Some(0.5));
    let (found, _) = rows(&seen, &[holder("a"), holder("a")], &[], true);
    assert_eq!(found, [row("a", (0, Exact), (0.5, Exact))]);
}

#[test]
fn a_divided_device_has_what_its_parts_do_not() {
    let mut divided = seen(Some(10 * GIB), Some(0.5));
    divided.device.is_divided = true;
    let device = Attributed {
        seen: &divided,
        parts_memory: 9 * GIB,
        holders: &[],
        users: &[],
        tells_users: true,
    };
    let shares = attribute(&device);
    assert_eq!(shares.unattributed_memory, Some(GIB));
    assert_eq!(shares.unattributed_busy, None);
    // A part's time is its own, by profiling.
    let part = sampled(part("MIG-1", "GPU-1", 3, "1g.10gb"), |sample| {
        sample.busy.engine = Some(0.7);
        sample.memory.used = Some(2 * GIB);
    });
    let (found, _) = rows(&part, &[holder("a")], &[user(1, "a", Some(GIB), None)], true);
    assert_eq!(found, [row("a", (GIB, Exact), (0.7, Exact))]);
}

#[test]
fn a_device_that_does_not_answer_keeps_its_holders_and_tells_nothing_of_them() {
    let mut lost = seen(None, None);
    lost.state = DeviceState::Silent { reason: "no answer".into() };
    let (found, shares) = rows(&lost, &[holder("a")], &[], true);
    assert_eq!(found, [("a".into(), None, None)]);
    assert_eq!((shares.unattributed_memory, shares.unattributed_busy), (None, None));
}

/// Any number that a driver may tell.
fn number() -> impl Strategy<Value = Option<f64>> {
    option::of(prop_oneof![
        6 => 0.0..1.0_f64,
        1 => any::<f64>(),
        1 => Just(f64::NAN),
        1 => Just(-0.5),
        1 => Just(f64::INFINITY),
    ])
}

fn bytes() -> impl Strategy<Value = Option<u64>> {
    option::of(prop_oneof![6 => 0..80 * GIB, 1 => any::<u64>(), 1 => Just(u64::MAX)])
}

fn users() -> impl Strategy<Value = Vec<User>> {
    let user = (0..6_u32, option::of(0..4_usize), bytes(), number(), prop::bool::weighted(0.1));
    let user = user.prop_map(|(pid, pod, memory, busy, is_server)| User {
        pid,
        owner: pod.map(|pod| owner(["a", "b", "c", "d"][pod])),
        memory,
        busy,
        is_server,
    });
    vec(user, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn parts_and_the_rest_are_the_device(
        used in bytes(),
        busy in number(),
        pods in vec(0..4_usize, 0..5),
        users in users(),
        tells_users in any::<bool>(),
    ) {
        let holders: Vec<Holder> = pods.iter().map(|pod| holder(["a", "b", "c", "d"][*pod])).collect();
        let seen = seen(used, busy);
        let (_, shares) = rows(&seen, &holders, &users, tells_users);
        let figure = busy.filter(|busy| busy.is_finite() && *busy >= 0.0).map(|busy| busy.min(1.0));
        if let Some(used) = used {
            let parts: u128 = shares.shares.iter().filter_map(|it| Some(u128::from(it.memory?.0))).sum();
            let rest = u128::from(shares.unattributed_memory.unwrap());
            prop_assert_eq!(parts + rest, u128::from(used));
        } else {
            prop_assert_eq!(shares.unattributed_memory, None);
        }
        prop_assert_eq!(shares.unattributed_busy.is_some(), figure.is_some());
        let parts: Vec<f64> = shares.shares.iter().filter_map(|it| Some(it.busy?.0)).collect();
        prop_assert!(parts.iter().all(|part| part.is_finite() && *part >= 0.0), "{:?}", parts);
        let sum: f64 = parts.iter().sum();
        match (figure, shares.unattributed_busy) {
            (Some(figure), Some(rest)) => {
                prop_assert!(rest >= 0.0 && (sum + rest - figure).abs() < 1e-9, "{sum} + {rest}");
            }
            _ => prop_assert!(sum <= 1.0 + 1e-9),
        }
        let mut keys: Vec<OwnerKey> = shares.shares.iter().map(|it| it.owner.key()).collect();
        let all = keys.len();
        keys.sort();
        keys.dedup();
        prop_assert_eq!(keys.len(), all, "no owner has two parts");
    }
}
