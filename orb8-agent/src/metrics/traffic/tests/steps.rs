//! Whatever happens, in any order.

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Count { flow: usize, bytes: u64 },
    Rename { flow: usize, owner: usize },
    End { flow: usize },
    Gone { owner: usize },
    Pend { owner: usize, is_pending: bool },
    Pass { seconds: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..8_usize, 1..1000_u64).prop_map(|(flow, bytes)| Step::Count { flow, bytes }),
        2 => (0..8_usize, 0..6_usize).prop_map(|(flow, owner)| Step::Rename { flow, owner }),
        1 => (0..8_usize).prop_map(|flow| Step::End { flow }),
        1 => (0..6_usize).prop_map(|owner| Step::Gone { owner }),
        1 => (0..6_usize, any::<bool>())
            .prop_map(|(owner, is_pending)| Step::Pend { owner, is_pending }),
        1 => (1..40_u64).prop_map(|seconds| Step::Pass { seconds }),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happens, each series grows until it is gone, and active flows are those that are.
    #[test]
    fn no_counter_goes_back(steps in steps()) {
        let mut bench = Bench::new("namespace,pod", 3);
        let parties: Vec<Party> = (0..6).map(|id| awaited_as(id + 1, &format!("p{id}-1"))).collect();
        let mut flows: Vec<Flow> = (0..8).map(|at| flow(&parties[at % 6])).collect();
        let mut before = HashMap::new();
        let mut counted = 0;
        for step in steps {
            match step {
                Step::Count { flow, bytes } => {
                    bench.count(&mut flows[flow], 1, bytes);
                    counted += bytes;
                }
                Step::Rename { flow, owner } => {
                    flows[flow].ends.source = parties[owner].clone();
                }
                Step::End { flow } => bench.traffic.end_flow(&mut flows[flow]),
                Step::Gone { owner } => {
                    bench.world.gone.insert(owner as u64 + 1);
                }
                Step::Pend { owner, is_pending: true } => {
                    bench.world.pending.insert(owner as u64 + 1);
                }
                Step::Pend { owner, .. } => {
                    bench.world.pending.remove(&(owner as u64 + 1));
                }
                Step::Pass { seconds } => bench.pass(seconds),
            }
            let now = bench.values();
            for (id, value) in now.iter().filter(|(id, _)| id.contains("_total")) {
                prop_assert!(before.get(id).is_none_or(|before| before <= value), "{id}");
            }
            prop_assert!(bench.traffic.totals().sets <= 4);
            prop_assert!(bench.sum("orb8_flow_bytes_total") <= counted);
            before = now;
        }
        bench.world.pending.clear();
        bench.world.gone.clear();
        bench.pass(1);
        for flow in &mut flows {
            bench.count(flow, 1, 0);
        }
        bench.pass(1);
        prop_assert_eq!(bench.sum("orb8_active_flows"), flows.len() as u64);
        flows.iter_mut().for_each(|flow| bench.traffic.end_flow(flow));
        prop_assert_eq!(bench.sum("orb8_active_flows"), 0);
    }
}

fn awaited_as(cgroup_id: u64, name: &str) -> Party {
    Party::Workload(Arc::new(Workload {
        namespace: Some("shop".into()),
        pod: Some(name.into()),
        pod_uid: Some(name.into()),
        cgroup_id,
        cgroup_path: format!("/kubepods/{name}"),
        ..Workload::default()
    }))
}
