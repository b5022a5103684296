use super::*;
use crate::filter::Problem;
use crate::v1::{GpuActivity, GpuDevice, GpuPart, GpuProcess, GpuShare};

fn owner(namespace: &str, pod: &str) -> Option<Workload> {
    Some(Workload { namespace: namespace.into(), pod: pod.into(), ..Workload::default() })
}

fn share(device: &str, owner: Option<Workload>) -> GpuShare {
    GpuShare { device: device.into(), owner, ..GpuShare::default() }
}

fn device(id: &str, index: u32, parent: Option<&str>, owners: &[Option<Workload>]) -> GpuDevice {
    let part = parent.map(|parent| GpuPart { parent: parent.into(), ..GpuPart::default() });
    GpuDevice {
        id: id.into(),
        index: Some(index),
        part,
        shares: owners.iter().map(|owner| share(id, owner.clone())).collect(),
        ..GpuDevice::default()
    }
}

/// A device for two, one for nobody, and a divided one.
fn answer() -> QueryGpuResponse {
    let (a, b) = (owner("ml", "a"), owner("shop", "b"));
    let process = |device: &str, pid, owner: &Option<Workload>| GpuProcess {
        device: device.into(),
        pid,
        owner: owner.clone(),
        ..GpuProcess::default()
    };
    let activity = |devices: &[&str], pid, owner: &Option<Workload>| GpuActivity {
        pid,
        owner: owner.clone(),
        devices: devices.iter().map(|device| (*device).to_owned()).collect(),
        ..GpuActivity::default()
    };
    QueryGpuResponse {
        devices: vec![
            device("GPU-a", 0, None, &[a.clone(), b.clone()]),
            device("GPU-b", 1, None, &[]),
            device("GPU-c", 2, None, &[]),
            device("MIG-0", 0, Some("GPU-c"), std::slice::from_ref(&b)),
            device("MIG-1", 1, Some("GPU-c"), std::slice::from_ref(&a)),
        ],
        processes: vec![
            process("GPU-a", 1, &a),
            process("GPU-a", 2, &b),
            process("GPU-b", 3, &None),
            process("MIG-1", 4, &a),
        ],
        activity: vec![
            activity(&["GPU-a"], 1, &a),
            activity(&["MIG-1"], 4, &a),
            activity(&[], 5, &a),
            activity(&["GPU-b"], 3, &None),
        ],
        ..QueryGpuResponse::default()
    }
}

fn namespace(name: &str) -> FlowFilter {
    FlowFilter { namespace: vec![name.into()], ..FlowFilter::default() }
}

fn select(request: QueryGpuRequest) -> QueryGpuResponse {
    GpuQuery::new(&request).unwrap().select(answer()).unwrap()
}

fn ids(answer: &QueryGpuResponse) -> Vec<&str> {
    answer.devices.iter().map(|device| device.id.as_str()).collect()
}

fn pids(answer: &QueryGpuResponse) -> (Vec<u32>, Vec<u32>) {
    let processes = answer.processes.iter().map(|process| process.pid);
    (processes.collect(), answer.activity.iter().map(|activity| activity.pid).collect())
}

#[test]
fn everything_is_wanted_without_filters() {
    assert_eq!(select(QueryGpuRequest::default()), answer());
    let without = select(QueryGpuRequest { without_activity: true, ..Default::default() });
    assert_eq!(without, QueryGpuResponse { activity: Vec::new(), ..answer() });
}

#[test]
fn of_a_shared_device_only_the_wanted_part_is_told() {
    let selected = select(QueryGpuRequest { include: vec![namespace("ml")], ..Default::default() });
    assert_eq!(ids(&selected), ["GPU-a", "GPU-c", "MIG-1"], "and what the part is a part of");
    let shares: Vec<usize> = selected.devices.iter().map(|device| device.shares.len()).collect();
    assert_eq!(shares, [1, 0, 1]);
    assert_eq!(pids(&selected), (vec![1, 4], vec![1, 4, 5]));
}

#[test]
fn what_is_left_out_leaves_what_is_nobodys() {
    let selected = select(QueryGpuRequest { exclude: vec![namespace("ml")], ..Default::default() });
    assert_eq!(ids(&selected), ["GPU-a", "GPU-b", "GPU-c", "MIG-0"]);
    assert_eq!(pids(&selected), (vec![2, 3], vec![3]));
}

#[test]
fn devices_are_chosen_with_their_parts() {
    let of = |devices: &[&str]| {
        let devices = devices.iter().map(|device| (*device).to_owned()).collect();
        select(QueryGpuRequest { devices, ..Default::default() })
    };
    assert_eq!(ids(&of(&["2"])), ["GPU-c", "MIG-0", "MIG-1"]);
    let part = of(&["2:1"]);
    assert_eq!(ids(&part), ["GPU-c", "MIG-1"]);
    assert_eq!(pids(&part), (vec![4], vec![4]), "whose device is not known is of none");
    assert_eq!(ids(&of(&["0", "MIG-0"])), ["GPU-a", "GPU-c", "MIG-0"]);
}

#[test]
fn both_kinds_of_filters_must_match() {
    let request = QueryGpuRequest {
        include: vec![namespace("ml")],
        devices: vec!["2".into()],
        ..Default::default()
    };
    let selected = select(request);
    assert_eq!(ids(&selected), ["GPU-c", "MIG-1"]);
    assert_eq!(pids(&selected), (vec![4], vec![4]));
}

#[test]
fn a_device_that_is_not_there_is_refused_by_name() {
    let request = QueryGpuRequest { devices: vec!["7".into()], ..Default::default() };
    let query = GpuQuery::new(&request).unwrap();
    let error = query.select(answer()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "devices: `7` is none of the devices that are there: 0, 1, 2, 2:0, 2:1"
    );
    // Where there is none at all, the sources say why.
    query.select(QueryGpuResponse::default()).unwrap();
}

#[test]
fn what_no_owner_has_is_refused() {
    let port = FlowFilter { port: vec![443], ..FlowFilter::default() };
    let request = QueryGpuRequest { include: vec![port.clone()], ..Default::default() };
    assert_eq!(GpuQuery::new(&request).unwrap_err().problem, Problem::NotOfWorkloads);
    let request = StreamGpuRequest { exclude: vec![port], ..Default::default() };
    assert_eq!(GpuEventMatcher::new(&request).unwrap_err().problem, Problem::NotOfWorkloads);
    for request in [
        StreamGpuRequest { kinds: vec![99], ..Default::default() },
        StreamGpuRequest { kinds: vec![0], ..Default::default() },
        StreamGpuRequest { at_least: 99, ..Default::default() },
    ] {
        let problem = GpuEventMatcher::new(&request).unwrap_err().problem;
        assert!(matches!(problem, Problem::NotAValue(_)), "{problem}");
    }
}

#[test]
fn events_are_wanted_by_what_they_are() {
    let event = |kind: GpuEventKind, device: &str, owners: &[Option<Workload>]| StreamGpuResponse {
        kind: kind.into(),
        device: device.into(),
        owners: owners.iter().flatten().cloned().collect(),
        ..StreamGpuResponse::default()
    };
    let (a, b) = (owner("ml", "a"), owner("shop", "b"));
    let xid = |action: GpuXidAction| StreamGpuResponse {
        xid: Some(GpuXid { action: action.into(), ..GpuXid::default() }),
        index: Some(3),
        ..event(GpuEventKind::Xid, "GPU-a", &[a.clone(), b.clone()])
    };
    let part = StreamGpuResponse {
        index: Some(1),
        parent: "GPU-c".into(),
        parent_index: Some(2),
        pci_address: "0000:1b:00.0".into(),
        ..event(GpuEventKind::Idle, "MIG-1", std::slice::from_ref(&b))
    };
    let events = [
        xid(GpuXidAction::RestartPod),
        xid(GpuXidAction::Reboot),
        part,
        event(GpuEventKind::Appeared, "GPU-b", &[]),
        event(GpuEventKind::Lost, "", &[]),
    ];
    let matched = |request: StreamGpuRequest| {
        let matcher = GpuEventMatcher::new(&request).unwrap();
        events.each_ref().map(|event| matcher.matches(event))
    };
    let devices = |device: &str| StreamGpuRequest {
        devices: vec![device.into()],
        ..StreamGpuRequest::default()
    };
    for (request, expected) in [
        (StreamGpuRequest::default(), [true, true, true, true, true]),
        (
            StreamGpuRequest { include: vec![namespace("ml")], ..Default::default() },
            [true, true, false, false, true],
        ),
        (
            StreamGpuRequest { exclude: vec![namespace("shop")], ..Default::default() },
            [true, true, false, true, true],
        ),
        (
            StreamGpuRequest { kinds: vec![GpuEventKind::Xid.into()], ..Default::default() },
            [true, true, false, false, false],
        ),
        (
            StreamGpuRequest { at_least: GpuXidAction::Reboot.into(), ..Default::default() },
            [false, true, true, true, true],
        ),
        (devices("3"), [true, true, false, false, true]),
        (devices("2:1"), [false, false, true, false, true]),
        (devices("1b:00.0"), [false, false, true, false, true]),
        (devices("1"), [false, false, false, false, true]),
    ] {
        assert_eq!(matched(request.clone()), expected, "{request:?}");
    }
}
