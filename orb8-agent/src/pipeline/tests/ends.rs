use super::*;
use crate::identity::{Party, Workload};

const UDP: u8 = 17;
const ICMP: u8 = 1;
/// Types.
const ECHO_REQUEST: u16 = 8;
const ECHO_REPLY: u16 = 0;

/// A pipeline that knows cgroups by their names.
struct Cgroups {
    bench: Bench,
    root: tempfile::TempDir,
}

impl Cgroups {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().to_owned();
        Self { bench: Bench::with(|config| config.cgroup_root = Some(path)), root }
    }

    fn add(&self, name: &str) -> u64 {
        let path = self.root.path().join("system.slice").join(name);
        fs::create_dir_all(&path).unwrap();
        fs::metadata(path).unwrap().ino()
    }

    /// Removes one, and has that known.
    fn remove(&mut self, name: &str) {
        fs::remove_dir(self.root.path().join("system.slice").join(name)).unwrap();
        self.bench.cycles += 40;
        let now = self.bench.now();
        self.bench.pipeline.enrich.owner(u64::MAX, now);
    }

    /// Who is at the ends of a flow.
    fn told(&mut self, key: FlowKey) -> [Option<String>; 2] {
        let flows = self.bench.flows();
        let flow = flows.iter().find(|flow| flow.key == key).unwrap();
        [&flow.ends.source, &flow.ends.destination]
            .map(|party| party.workload().and_then(|owner| owner.unit.clone()))
    }
}

fn ends(source: &str, destination: &str) -> [Option<String>; 2] {
    [source, destination].map(|name| (!name.is_empty()).then(|| name.to_owned()))
}

fn of(cgroup_id: u64, direction: u8, protocol: u8) -> FlowKey {
    FlowKey { cgroup_id, direction, protocol, ..socket(40_000) }
}

#[test]
fn who_comes_after_a_server_that_is_gone_is_told_in_its_place() {
    let mut cgroups = Cgroups::new();
    let [client, first, second] = ["a.service", "b.service", "c.service"].map(|it| cgroups.add(it));
    let sent = of(client, DIRECTION_EGRESS, UDP);
    let [to_first, to_second] = [first, second].map(|id| of(id, DIRECTION_INGRESS, UDP));
    cgroups.bench.cycle(&[counted(to_first, 1), counted(sent, 1)]);
    assert_eq!(cgroups.told(sent), ends("a.service", "b.service"));
    cgroups.remove("b.service");
    cgroups.bench.cycle(&[counted(sent, 1)]);
    assert_eq!(cgroups.told(sent), ends("a.service", "b.service"), "nobody else is there");
    cgroups.bench.cycle(&[counted(to_second, 1), counted(sent, 1)]);
    cgroups.bench.cycle(&[counted(sent, 1)]);
    assert_eq!(cgroups.told(sent), ends("a.service", "c.service"));
}

#[test]
fn a_connection_ends_with_its_server() {
    let mut cgroups = Cgroups::new();
    let [client, first, second] = ["a.service", "b.service", "c.service"].map(|it| cgroups.add(it));
    let sent = of(client, DIRECTION_EGRESS, TCP);
    cgroups.bench.cycle(&[counted(of(first, DIRECTION_INGRESS, TCP), 1), counted(sent, 1)]);
    cgroups.remove("b.service");
    for _ in 0..2 {
        let other = of(second, DIRECTION_INGRESS, TCP);
        cgroups.bench.cycle(&[counted(other, 1), counted(sent, 1)]);
    }
    assert_eq!(cgroups.told(sent), ends("a.service", "b.service"));
}

/// What an address tells stays, whoever made the network namespace that the kernel answers in.
#[test]
fn an_address_goes_before_the_kernels_own_socket() {
    let owner = || Some(Arc::new(Workload { cgroup_path: "/made".into(), ..Workload::default() }));
    let root = || Some(Arc::new(Workload { cgroup_path: "/".into(), ..Workload::default() }));
    let pod = serde_json::from_value::<orb8_k8s::wire::PodObject>(serde_json::json!({
        "metadata": {"namespace": "ns", "name": "web", "uid": "u"},
        "spec": {"nodeName": "there"},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]}}))
    .unwrap();
    let (index, mut writer) = Index::new();
    let source = orb8_k8s::index::Source::RemotePods;
    writer.begin(source);
    writer.apply(source, pod);
    writer.finish(source);
    let pod = Party::Pod(index.pod("u").unwrap());
    for (protocol, kind, subject, is_kernels) in [
        (ICMP, ECHO_REPLY, owner(), true),
        (ICMP, ECHO_REQUEST, owner(), false),
        (TCP, 1, owner(), false),
        (TCP, 1, root(), true),
    ] {
        let mut bench = Bench::new();
        let key = FlowKey { source_port: kind, ..of(7, DIRECTION_EGRESS, protocol) };
        let add = |bench: &mut Bench| {
            let owner = crate::store::Owner { subject: subject.clone(), self_traffic: false };
            let now = bench.now();
            bench.pipeline.store.apply(&counted(key, 1), owner, now).1.clone()
        };
        assert_eq!(add(&mut bench).ends.source, subject.clone().into());
        assert_eq!(add(&mut bench).is_owned(End::Source), !is_kernels);
        bench.pipeline.store.get_mut(&key).unwrap().ends.source = pod.clone();
        let expected = if is_kernels { pod.clone() } else { subject.clone().into() };
        assert_eq!(add(&mut bench).ends.source, expected, "{protocol} {kind}");
    }
}

#[test]
fn what_is_unknown_is_looked_at_ever_more_rarely() {
    let mut bench = Bench::new();
    bench.pipeline.enrich.renew();
    let key = of(0, DIRECTION_EGRESS, TCP);
    let looked: Vec<usize> = (1..=9)
        .filter(|second| {
            let last = UnixNanos(second * 1_000_000_000);
            let before = bench.flows().first().map(|flow| flow.looked.age(last));
            let sample = FlowSample { last, ..counted(key, 1) };
            bench.cycle(&[sample]);
            before != Some(0) && bench.flows()[0].looked.age(last) == 0
        })
        .map(|second| second as usize)
        .collect();
    assert_eq!(looked, [1, 2, 4, 8]);
    let last = UnixNanos(9_500_000_000);
    bench.ingest(&[FlowSample { last, ..moment(key, SampleKind::Fin) }]);
    assert_eq!(bench.flows()[0].looked.age(last), 0, "the last there is to know it by");
}

#[test]
fn who_opened_a_connection_is_seen_at_its_first_packet_only() {
    let mut bench = Bench::new();
    for (port, kind, tcp_flags, asking) in [
        (1, SampleKind::New, 0x02, Some(End::Source)),
        (2, SampleKind::New, 0x12, Some(End::Destination)),
        (3, SampleKind::New, 0x10, None),
        (4, SampleKind::Counted, 0x12, None),
    ] {
        let sample = FlowSample { tcp_flags, kind, ..counted(socket(port), 0) };
        bench.ingest(&[sample]);
        let flow = bench.pipeline.store.get_mut(&socket(port)).unwrap();
        assert_eq!(flow.asking, asking, "{port}");
    }
}
