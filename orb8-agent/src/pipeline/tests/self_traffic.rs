use super::*;

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.pipeline.set_own_ports(vec![9090, 9091]);
    bench
}

/// Whether a flow is the agent's own; `last` digits of the two addresses, and the ports.
fn is_own(source: ([u8; 4], u16), destination: ([u8; 4], u16), direction: u8, of: u64) -> bool {
    let mut bench = bench();
    let address = |v4: [u8; 4]| {
        let mut address = mapped(0);
        address[12..].copy_from_slice(&v4);
        address
    };
    let key = FlowKey {
        source_addr: address(source.0),
        source_port: source.1,
        destination_addr: address(destination.0),
        destination_port: destination.1,
        direction,
        cgroup_id: of,
        ..socket(0)
    };
    bench.ingest(&[counted(key, 1)]);
    bench.flows()[0].self_traffic
}

const HERE: [u8; 4] = [10, 0, 0, 1];
const ELSEWHERE: [u8; 4] = [10, 0, 0, 2];
const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

#[test]
fn the_agents_end_is_told_by_its_cgroup() {
    let (agent, client) = ((HERE, 9090), (ELSEWHERE, 40_000));
    assert!(is_own(agent, client, DIRECTION_EGRESS, OWN_CGROUP), "an answer");
    assert!(is_own(client, agent, DIRECTION_INGRESS, OWN_CGROUP), "a question");
    assert!(!is_own(agent, client, DIRECTION_EGRESS, 5), "another process's port 9090");
    assert!(!is_own(client, agent, DIRECTION_INGRESS, 5), "another process's port 9090");
}

#[test]
fn the_other_end_is_told_by_this_hosts_addresses() {
    let client = (HERE, 40_000);
    assert!(is_own(client, (LOOPBACK, 9091), DIRECTION_EGRESS, 5), "a client on this host");
    assert!(is_own(client, (HERE, 9090), DIRECTION_EGRESS, 5), "a client on this host");
    assert!(!is_own(client, (ELSEWHERE, 9090), DIRECTION_EGRESS, 5), "another node's agent");
    assert!(!is_own(client, (HERE, 9092), DIRECTION_EGRESS, 5), "another port");
    assert!(!is_own(client, (HERE, 443), DIRECTION_EGRESS, OWN_CGROUP), "not its API");
}

#[test]
fn what_the_agent_exports_is_its_own() {
    let is_own = |source, destination, direction, of| {
        let mut bench = Bench::new();
        bench.pipeline.set_collector_port(4317);
        let address = |(last, port)| (mapped(last), port);
        let ((source_addr, source_port), (destination_addr, destination_port)) =
            (address(source), address(destination));
        let key = FlowKey {
            source_addr,
            source_port,
            destination_addr,
            destination_port,
            direction,
            cgroup_id: of,
            ..socket(0)
        };
        bench.ingest(&[counted(key, 1)]);
        bench.flows()[0].self_traffic
    };
    let (agent, collector) = ((1, 40_000), (9, 4317));
    assert!(is_own(agent, collector, DIRECTION_EGRESS, OWN_CGROUP));
    assert!(is_own(collector, agent, DIRECTION_INGRESS, OWN_CGROUP));
    assert!(!is_own(agent, collector, DIRECTION_EGRESS, 5), "another pod's export");
    assert!(!is_own((1, 4317), (9, 40_000), DIRECTION_EGRESS, OWN_CGROUP), "a collector beside it");
}

#[test]
fn a_containers_loopback_is_its_own() {
    let cgroups = tempfile::tempdir().unwrap();
    let path = cgroups.path().join("docker").join("0123456789abcdef".repeat(4));
    fs::create_dir_all(&path).unwrap();
    let id = fs::metadata(&path).unwrap().ino();
    let mut bench = Bench::with(|config| config.cgroup_root = Some(cgroups.path().to_owned()));
    bench.pipeline.set_own_ports(vec![9090]);
    let mut loopback = mapped(0);
    loopback[12..].copy_from_slice(&LOOPBACK);
    let ends = |key| FlowKey {
        source_addr: loopback,
        destination_addr: loopback,
        destination_port: 9090,
        ..key
    };
    let in_container = FlowKey { cgroup_id: id, ..ends(socket(1)) };
    bench.ingest(&[counted(in_container, 1), counted(ends(socket(2)), 2)]);
    let own: Vec<bool> = bench.flows().iter().map(|flow| flow.self_traffic).collect();
    assert_eq!(own, [true, false], "a Prometheus beside its sidecar listens on 9090 as well");
}

#[test]
fn this_process_has_a_cgroup_of_its_own() {
    let Some(mount) = Environment::of_machine().cgroup_mount else {
        eprintln!("skipped: no cgroup v2 hierarchy is mounted here");
        return;
    };
    assert!(own_cgroup_id(&mount).is_some_and(|id| id > 0));
}
