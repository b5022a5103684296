//! The columns of pods.

use super::cells::{self, Cell};
use super::{Column, Cut, Subject, Tone, View, Width};
use crate::flow::present;
use crate::v1::{Container, ContainerKind, Pod, PodPhase};

impl Subject for Pod {
    type Row<'a> = &'a Self;

    fn is_quiet(row: &Self) -> bool {
        row.phase() == PodPhase::Ended
    }
}

/// A list of pods.
pub static LIST: View<Pod> =
    View { command: "pods", columns: COLUMNS, wide: WIDE, is_stream: false };

const COLUMNS: &[&Column<Pod>] = &[&POD, &NODE, &WORKLOAD, &IP, &CONTAINERS, &KNOWN_BY];

const WIDE: &[&Column<Pod>] = &[
    &POD,
    &PHASE,
    &NODE,
    &WORKLOAD,
    &IP,
    &CONTAINERS,
    &KNOWN_BY,
    &UID,
    &LABELS,
    &CONTAINER_IDS,
    &CGROUPS,
];

const POD: Column<Pod> = Column {
    name: "pod",
    header: "NAMESPACE/POD",
    short_header: None,
    width: Width::Flexible(16, Cut::End),
    comfort: 24,
    doc: "The pod; its uid where the agent knows no more of it yet.",
    value: |row, _| pod(row),
    ..Column::OWNER
};
const PHASE: Column<Pod> = Column {
    name: "phase",
    header: "PHASE",
    width: Width::Natural(7),
    doc: "`pending`, `running` or `ended`.",
    value: |row, _| cells::word(row.phase().word()),
    ..Column::WORDS
};
const NODE: Column<Pod> = Column {
    name: "node",
    header: "NODE",
    width: Width::Flexible(8, Cut::Middle),
    priority: 3,
    tone: |_| Tone::Plain,
    doc: "The node that it runs on.",
    value: |row, _| cells::text(&row.node_name),
    ..Column::WORDS
};
const WORKLOAD: Column<Pod> = Column {
    name: "workload",
    header: "WORKLOAD",
    width: Width::Flexible(10, Cut::End),
    comfort: 16,
    priority: 2,
    tone: |_| Tone::Plain,
    doc: "What made it, kind and name, as kubectl takes them: `deploy/web`.",
    value: |row, _| cells::controller(row.controller.as_ref()),
    ..Column::WORDS
};
const IP: Column<Pod> = Column {
    name: "ip",
    header: "IP",
    width: Width::Flexible(11, Cut::End),
    comfort: 15,
    priority: 1,
    tone: |_| Tone::Plain,
    doc: "Its own addresses; `host` on the host network, where it has its node's.",
    value: |row, _| ips(row),
    ..Column::WORDS
};
const CONTAINERS: Column<Pod> = Column {
    name: "containers",
    header: "CONTAINERS",
    width: Width::Flexible(10, Cut::End),
    comfort: 12,
    priority: 9,
    doc: "Its containers, with `init`, `sidecar` or `ephemeral` where they are one; of pods of this node.",
    value: |row, _| containers(row, named),
    ..Column::WORDS
};
const KNOWN_BY: Column<Pod> = Column {
    name: "known_by",
    header: "KNOWN BY",
    width: Width::Natural(8),
    priority: 4,
    doc: "Who told of it: the Kubernetes `api`, a `cgroup` of this node, the container `runtime`'s files.",
    value: |row, _| known_by(row),
    ..Column::WORDS
};
const UID: Column<Pod> = Column {
    name: "uid",
    header: "UID",
    doc: "Its uid.",
    value: |row, _| cells::text(&row.uid),
    ..Column::WORDS
};
const LABELS: Column<Pod> = Column {
    name: "labels",
    header: "LABELS",
    doc: "Its labels.",
    value: |row, _| labels(row),
    ..Column::WORDS
};
const CONTAINER_IDS: Column<Pod> = Column {
    name: "container_ids",
    header: "CONTAINER IDS",
    doc: "The runtimes and ids of its containers, in their order.",
    value: |row, _| containers(row, id),
    ..Column::WORDS
};
const CGROUPS: Column<Pod> = Column {
    name: "cgroups",
    header: "CGROUPS",
    doc: "The cgroups of its containers below the root, in their order.",
    value: |row, _| containers(row, |container| cells::text(&container.cgroup_path)),
    ..Column::WORDS
};

fn pod(row: &Pod) -> Cell {
    let Some(name) = present(&row.name) else {
        return cells::text(&row.uid);
    };
    Some(match present(&row.namespace) {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    })
}

fn ips(row: &Pod) -> Cell {
    if row.host_network {
        return Some(super::HOST.to_owned());
    }
    let ips: Vec<String> = row.addrs().map(|ip| ip.to_string()).collect();
    cells::text(&ips.join(" "))
}

/// Joins what is told of each container.
fn containers(row: &Pod, told: fn(&Container) -> Cell) -> Cell {
    let texts: Vec<String> = row.containers.iter().filter_map(told).collect();
    cells::text(&texts.join(","))
}

fn named(container: &Container) -> Cell {
    let name = present(&container.name).or_else(|| container.id.get(..SHORT_ID))?;
    Some(match container.kind() {
        ContainerKind::Main | ContainerKind::Unspecified => name.to_owned(),
        kind => format!("{name} ({})", kind.word().unwrap_or_default()),
    })
}

/// Digits of an id, as container tools print it.
const SHORT_ID: usize = 12;

fn id(container: &Container) -> Cell {
    let id = present(&container.id)?;
    Some(match container.runtime().word() {
        Some(runtime) => format!("{runtime}://{id}"),
        None => id.to_owned(),
    })
}

fn known_by(row: &Pod) -> Cell {
    let words: Vec<&str> = row.sources().filter_map(|source| source.word()).collect();
    cells::text(&words.join(" "))
}

fn labels(row: &Pod) -> Cell {
    let labels: Vec<String> =
        row.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    cells::text(&labels.join(","))
}
