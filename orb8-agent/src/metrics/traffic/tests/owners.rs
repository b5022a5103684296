//! Whose series are, and for how long.

use super::*;

#[test]
fn pods_of_a_workload_are_one_series() {
    let mut bench = Bench::new("namespace,workload", 100);
    let (mut a, mut b) = (flow(&owner(1, "web-1")), flow(&owner(2, "web-2")));
    bench.count(&mut a, 2, 200);
    bench.count(&mut b, 3, 300);
    bench.count(&mut a, 1, 50);
    let labels = "{namespace=shop,workload=web,direction=egress,protocol=TCP}";
    assert_eq!(bench.value(&format!("orb8_flow_bytes_total{labels}")), Some(550));
    assert_eq!(bench.value(&format!("orb8_flow_packets_total{labels}")), Some(6));
    assert_eq!(bench.value(&format!("orb8_active_flows{labels}")), Some(2));
    bench.traffic.end_flow(&mut a);
    bench.traffic.end_flow(&mut a);
    assert_eq!(bench.value(&format!("orb8_active_flows{labels}")), Some(1), "once each");
    assert_eq!(bench.traffic.totals().sets, 1);
}

#[test]
fn the_local_end_decides_owner_and_direction() {
    let mut bench = Bench::new("pod", 100);
    let both = || ends(owner(1, "web-1"), owner(2, "db-1"));
    bench.count(&mut flow_with(both(), |_| {}), 1, 10);
    bench.count(&mut flow_with(both(), |key| key.direction = DIRECTION_INGRESS), 1, 100);
    // Seen between two others, of whom the destination is this node's.
    let stranger = Pod { node: Some("n2".into()), ..Pod::clone(&pod("far-1")) };
    let passing = ends(Party::Pod(Arc::new(stranger)), Party::Pod(pod("box-1")));
    let at_interface = |key: &mut FlowKey| {
        (key.hook, key.direction, key.protocol) = (HOOK_INTERFACE, DIRECTION_EGRESS, 99);
    };
    bench.count(&mut flow_with(passing, at_interface), 1, 1_000);
    bench.count(&mut flow_with(Ends::default(), at_interface), 1, 7);
    let bytes = |labels: &str| bench.value(&format!("orb8_flow_bytes_total{{{labels}}}"));
    assert_eq!(bytes("pod=web-1,direction=egress,protocol=TCP"), Some(10));
    assert_eq!(bytes("pod=db-1,direction=ingress,protocol=TCP"), Some(100));
    assert_eq!(bytes("pod=box-1,direction=ingress,protocol=other"), Some(1_000));
    assert_eq!(bytes("direction=egress,protocol=other"), Some(7), "nobody's");
}

#[test]
fn an_owner_that_becomes_known_has_what_comes_then() {
    let mut bench = Bench::new("namespace,pod", 100);
    let mut flow = flow(&Party::Unknown);
    bench.count(&mut flow, 1, 10);
    flow.ends.source = owner(1, "web-1");
    bench.count(&mut flow, 1, 100);
    let unknown = "{direction=egress,protocol=TCP}";
    let known = "{namespace=shop,pod=web-1,direction=egress,protocol=TCP}";
    assert_eq!(bench.value(&format!("orb8_flow_bytes_total{unknown}")), Some(10), "stays");
    assert_eq!(bench.value(&format!("orb8_flow_bytes_total{known}")), Some(100));
    assert_eq!(bench.value(&format!("orb8_active_flows{unknown}")), Some(0), "moved");
    assert_eq!(bench.value(&format!("orb8_active_flows{known}")), Some(1));
}

#[test]
fn the_agents_own_api_is_in_no_series() {
    let mut bench = Bench::new("pod", 100);
    let mut flow = flow(&owner(1, "orb8-1"));
    bench.count(&mut flow, 1, 10);
    // The first packet did not tell.
    flow.self_traffic = true;
    bench.count(&mut flow, 2, 20);
    assert_eq!(bench.sum("orb8_flow_bytes_total"), 10);
    assert_eq!(bench.sum("orb8_active_flows"), 0);
    let totals = bench.traffic.totals();
    assert_eq!((totals.self_packets, totals.self_bytes), (2, 20));
}

/// A pod's container of which the runtime's files alone tell.
fn awaited(cgroup_id: u64) -> Party {
    Party::Workload(Arc::new(Workload {
        namespace: Some("shop".into()),
        pod: Some("web-1".into()),
        pod_uid: Some("web-1".into()),
        cgroup_id,
        cgroup_path: "/kubepods/web-1".into(),
        ..Workload::default()
    }))
}

#[test]
fn who_is_about_to_be_known_makes_no_series_of_its_own() {
    let mut bench = Bench::new("namespace,workload", 100);
    bench.world.pending.insert(1);
    let (mut kept, mut ended) = (flow(&awaited(1)), flow(&awaited(1)));
    bench.count(&mut kept, 1, 10);
    bench.count(&mut ended, 1, 5);
    bench.traffic.end_flow(&mut ended);
    bench.pass(2);
    assert_eq!(bench.values(), HashMap::new(), "it is waited for");
    let Party::Workload(known) = owner(1, "web-1") else { unreachable!() };
    bench.world.owners.insert(1, known);
    bench.world.pending.clear();
    bench.pass(1);
    let labels = "{namespace=shop,workload=web,direction=egress,protocol=TCP}";
    assert_eq!(bench.value(&format!("orb8_flow_bytes_total{labels}")), Some(15));
    assert_eq!(bench.value(&format!("orb8_active_flows{labels}")), Some(1));
    // Its flow still names the old one.
    bench.count(&mut kept, 1, 100);
    assert_eq!(bench.value(&format!("orb8_flow_bytes_total{labels}")), Some(15));
    kept.ends.source = owner(1, "web-1");
    bench.count(&mut kept, 1, 100);
    assert_eq!(bench.value(&format!("orb8_active_flows{labels}")), Some(1));
    bench.traffic.end_flow(&mut kept);
    assert_eq!(bench.value(&format!("orb8_active_flows{labels}")), Some(0));
}

#[test]
fn who_is_not_told_in_time_has_the_names_that_there_are() {
    let mut bench = Bench::new("namespace,workload", 100);
    bench.world.pending.insert(1);
    let mut flow = flow(&awaited(1));
    bench.count(&mut flow, 1, 10);
    bench.world.pending.clear();
    bench.pass(1);
    let labels = "{namespace=shop,workload=web-1,direction=egress,protocol=TCP}";
    assert_eq!(bench.value(&format!("orb8_flow_bytes_total{labels}")), Some(10));
    bench.traffic.end_flow(&mut flow);
    assert_eq!(bench.sum("orb8_active_flows"), 0);
}

#[test]
fn a_pods_series_go_a_minute_after_it() {
    let mut bench = Bench::new("workload", 100);
    let (mut a, mut b) = (flow(&owner(1, "web-1")), flow(&owner(2, "web-2")));
    bench.count(&mut a, 1, 10);
    bench.count(&mut b, 1, 10);
    bench.count(&mut flow(&unit(3, "nginx.service")), 1, 1);
    bench.count(&mut flow(&unit(4, "session-1.scope")), 1, 1);
    bench.count(&mut flow(&Party::Unknown), 1, 1);
    bench.pass(100);
    assert_eq!(bench.traffic.totals().sets, 4, "silence is no end");
    bench.world.gone.extend([1, 3, 4]);
    bench.pass(100);
    assert_eq!(bench.traffic.totals().sets, 3, "a pod is left, and the unit may come again");
    bench.world.gone.insert(2);
    bench.pass(55);
    assert_eq!(bench.sum("orb8_flow_bytes_total"), 22);
    bench.pass(15);
    assert_eq!(bench.sum("orb8_flow_bytes_total"), 2);
    // What is left of it in the flow table names nothing.
    bench.traffic.end_flow(&mut a);
    bench.count(&mut b, 1, 7);
    let back = "orb8_flow_bytes_total{workload=web,direction=egress,protocol=TCP}";
    assert_eq!(bench.value(back), Some(7), "it begins anew");
    let since = bench.families()[0].samples.iter().map(|sample| sample.since.0).max();
    assert_eq!(since, Some(bench.seconds * 1_000_000_000));
}

#[test]
fn a_pod_is_there_while_its_container_is_started_again() {
    let mut bench = Bench::new("pod", 100);
    bench.world.pods = Some(["web-1".to_owned()].into());
    bench.count(&mut flow(&owner(1, "web-1")), 1, 10);
    bench.world.gone.insert(1);
    bench.pass(300);
    assert_eq!(bench.sum("orb8_flow_bytes_total"), 10);
    bench.world.pods = Some(HashSet::new());
    bench.pass(30);
    // It comes back in time.
    bench.count(&mut flow(&owner(2, "web-1")), 1, 10);
    bench.pass(300);
    assert_eq!(bench.sum("orb8_flow_bytes_total"), 20, "its cgroup is there");
    bench.world.gone.insert(2);
    bench.pass(70);
    assert_eq!(bench.sum("orb8_flow_bytes_total"), 0);
}

#[test]
fn a_peers_series_go_with_it() {
    let mut bench = Bench::new("workload,peer-pod", 100);
    bench.world.pods = Some(["web-1".to_owned(), "db-1".to_owned()].into());
    bench.count(&mut flow_with(ends(owner(1, "web-1"), Party::Pod(pod("db-1"))), |_| {}), 1, 10);
    bench.pass(100);
    assert_eq!(bench.traffic.totals().sets, 1);
    bench.world.pods = Some(["web-1".to_owned()].into());
    bench.pass(70);
    assert_eq!(bench.traffic.totals().sets, 0);
}

#[test]
fn a_pair_of_workloads_is_there_while_both_are() {
    let mut bench = Bench::new("workload,peer-workload", 100);
    let (web, db) = (["web-1", "web-2"], ["db-1", "db-2"]);
    bench.world.pods = Some(web.iter().chain(&db).map(|name| (*name).to_owned()).collect());
    for (cgroup_id, (own, peer)) in (1..).zip(web.iter().zip(&db)) {
        let ends = ends(owner(cgroup_id, own), Party::Pod(pod(peer)));
        bench.count(&mut flow_with(ends, |_| {}), 1, 10);
    }
    assert_eq!(bench.traffic.totals().sets, 1);
    // One of each is left, though these two never talked.
    bench.world.gone.insert(1);
    bench.world.pods = Some(["web-2".to_owned(), "db-1".to_owned()].into());
    bench.pass(100);
    assert_eq!(bench.sum("orb8_flow_bytes_total"), 20);
    bench.world.pods = Some(["web-2".to_owned()].into());
    bench.pass(70);
    assert_eq!(bench.traffic.totals().sets, 0);
}

#[test]
fn what_has_no_room_is_other_until_there_is_room() {
    let mut bench = Bench::new("namespace,pod", 2);
    for (cgroup_id, name) in [(1, "a-1"), (2, "b-1"), (3, "c-1"), (4, "d-1")] {
        bench.count(&mut flow(&owner(cgroup_id, name)), 1, 10);
        bench.count(&mut flow(&owner(cgroup_id, name)), 1, 10);
    }
    let other = "orb8_flow_bytes_total{namespace=other,pod=other,direction=egress,protocol=TCP}";
    assert_eq!(bench.value(other), Some(40));
    assert_eq!(bench.traffic.totals().overflows, 2, "label sets, not events");
    assert_eq!(bench.sum("orb8_flow_bytes_total"), 80, "nothing is lost");
    bench.world.gone.insert(1);
    let c = owner(3, "c-1");
    bench.pass(70);
    bench.count(&mut flow(&c), 1, 10);
    let own = "orb8_flow_bytes_total{namespace=shop,pod=c-1,direction=egress,protocol=TCP}";
    assert_eq!(bench.value(own), Some(10));
    assert_eq!(bench.value(other), Some(40), "what it counted stays");
    assert_eq!(bench.traffic.totals().sets, 3);
}

#[test]
fn labels_can_be_off() {
    let mut bench = Bench::new("", 100);
    bench.count(&mut flow(&owner(1, "a-1")), 1, 10);
    bench.count(&mut flow(&Party::Unknown), 1, 10);
    assert_eq!(bench.value("orb8_flow_bytes_total{direction=egress,protocol=TCP}"), Some(20));
}
