use proptest::prelude::*;

use super::*;

const BUDGET: f64 = 0.01;

fn settled(full: &PerGroup<f64>) -> Governor {
    let mut governor = Governor::new(BUDGET);
    for _ in 0..50 {
        governor.step(full, None);
    }
    governor
}

#[test]
fn all_is_watched_within_the_budget() {
    let mut governor = Governor::new(BUDGET);
    assert_eq!(governor.step(&[0.002; GROUPS], None), []);
    assert_eq!(governor.parts(), [1.0; GROUPS]);
}

#[test]
fn launches_go_first_and_allocations_last() {
    let [launches, copies, waits, collectives, allocations] =
        settled(&[0.05, 0.001, 0.001, 0.001, 0.001]).parts();
    assert!((0.05..0.13).contains(&launches), "{launches}");
    assert_eq!([copies, waits, collectives, allocations], [1.0; 4]);
    let [launches, copies, waits, collectives, allocations] = settled(&[0.05; GROUPS]).parts();
    assert!(allocations > launches * 4.0, "{allocations}");
    assert!(launches > 0.0 && launches <= 0.02 + 1e-9, "{launches}");
    assert_eq!([copies, waits, collectives], [launches; 3]);
}

#[test]
fn what_is_known_from_elsewhere_goes_before_all() {
    let mut governor = Governor::new(BUDGET);
    for _ in 0..20 {
        governor.step(&[0.008, 0.0, 0.0, 0.008, 0.0], Some(Group::Collectives));
    }
    let [launches, _, _, collectives, _] = governor.parts();
    assert_eq!(launches, 1.0);
    assert!(collectives < 0.3, "{collectives}");
}

#[test]
fn sampling_begins_when_a_load_lasts_and_ends_when_it_is_calm() {
    let mut governor = Governor::new(BUDGET);
    let load = |launches: f64| [launches, 0.0, 0.0, 0.0, 0.0];
    // Over in a moment.
    assert_eq!(governor.step(&load(0.02), None), []);
    for _ in 0..10 {
        assert_eq!(governor.step(&load(0.0), None), []);
    }
    let changes: Vec<_> = (0..10).flat_map(|_| governor.step(&load(0.02), None)).collect();
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].group, changes[0].began), (Group::Launches, true));
    let part = governor.parts()[0];
    assert!((0.39..0.51).contains(&part), "{part}");
    // A load about the budget changes nothing.
    for _ in 0..20 {
        assert_eq!(governor.step(&load(0.0099), None), []);
        assert_eq!(governor.step(&load(0.0101), None), []);
    }
    let changes: Vec<_> = (0..20).flat_map(|_| governor.step(&load(0.005), None)).collect();
    assert_eq!(changes, [Change { group: Group::Launches, began: false, part: 1.0 }]);
}

#[test]
fn much_at_once_is_not_waited_for() {
    let mut governor = Governor::new(BUDGET);
    let changes = governor.step(&[0.5, 0.0, 0.0, 0.0, 0.0], None);
    assert_eq!((changes.len(), changes[0].began), (1, true));
    assert!(changes[0].part <= 0.02, "{changes:?}");
}

#[test]
fn more_is_watched_when_the_load_falls() {
    let mut governor = Governor::new(BUDGET);
    let load = |launches: f64| [launches, 0.0, 0.0, 0.0, 0.0];
    governor.step(&load(0.5), None);
    let before = governor.parts()[0];
    for _ in 0..20 {
        governor.step(&load(0.05), None);
    }
    assert!(governor.parts()[0] > before * 5.0, "{:?}", governor.parts());
}

#[test]
fn what_is_in_doubt_is_tried() {
    let mut governor = Governor::new(BUDGET);
    let change = governor.doubt(Group::Copies);
    assert_eq!(change, Some(Change { group: Group::Copies, began: true, part: TRIED }));
    assert_eq!(governor.doubt(Group::Copies), None);
    // It is cheap: from then on all of it.
    let changes: Vec<_> =
        (0..CALM_STEPS).flat_map(|_| governor.step(&[0.001; GROUPS], None)).collect();
    assert_eq!(changes, [Change { group: Group::Copies, began: false, part: 1.0 }]);
    // It is dear.
    governor.doubt(Group::Copies);
    for _ in 0..CALM_STEPS {
        governor.step(&[0.0, 0.5, 0.0, 0.0, 0.0], None);
    }
    assert!(governor.parts()[Group::Copies as usize] <= TRIED);
}

fn costs() -> impl Strategy<Value = PerGroup<f64>> {
    let cost = prop_oneof![Just(0.0), 0.0..0.02, 0.0..2.0, Just(f64::NAN), Just(f64::INFINITY)];
    proptest::array::uniform5(cost)
}

proptest! {
    /// A load that lasts costs no more than the budget, whatever was before, and any load no more than
    /// what may come as a burst; nothing is given up.
    #[test]
    fn the_cost_stays_within_the_budget(
        loads in proptest::collection::vec((costs(), any::<bool>(), 1_usize..40), 1..40),
    ) {
        let mut governor = Governor::new(BUDGET);
        for (full, is_spare, steps) in loads {
            let full = full.map(|cost| if cost.is_finite() { cost } else { 0.0 });
            for step in 0..steps {
                governor.step(&full, is_spare.then_some(Group::Collectives));
                let cost = governor.cost(&full);
                let most = if step < 25 { BURST } else { 1.0 + 1e-3 };
                prop_assert!(cost <= BUDGET * most, "{cost} of {full:?}: {:?}", governor.parts());
                for part in governor.parts() {
                    prop_assert!(part > 0.0 && part <= 1.0, "{:?}", governor.parts());
                }
            }
        }
    }

    #[test]
    fn no_figure_confuses_it(full in costs()) {
        let mut governor = Governor::new(BUDGET);
        governor.step(&full, None);
        prop_assert!(governor.parts().iter().all(|part| (0.0..=1.0).contains(part)));
    }

    /// Each change is told once: began and ended take turns.
    #[test]
    fn changes_take_turns(loads in proptest::collection::vec(costs(), 1..80)) {
        let mut governor = Governor::new(BUDGET);
        let mut is_sampled = [false; GROUPS];
        for full in loads {
            for Change { group, began, .. } in governor.step(&full, None) {
                prop_assert_ne!(is_sampled[group as usize], began);
                is_sampled[group as usize] = began;
            }
        }
    }
}
