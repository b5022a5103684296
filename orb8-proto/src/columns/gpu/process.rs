//! The columns of processes on devices.

use super::{ProcessRow, cells};
use crate::columns::cells as common;
use crate::columns::{Column, Cut, Tone, View, Width};
use crate::units;
use crate::v1::{
    GpuAllocated, GpuAllocationKind, GpuCalls, GpuLaunches, GpuMemoryActivity, GpuWaitKind,
    Workload,
};

/// Who uses devices, process by process.
#[derive(Clone, Copy, Debug)]
pub enum Processes {}

/// A list of processes.
pub static PROCESSES: View<Processes> =
    View { command: "gpu processes", columns: COLUMNS, wide: WIDE, is_stream: false };

const COLUMNS: &[&Column<Processes>] =
    &[&PID, &NAME, &OWNER, &GPU, &KIND, &MEMORY, &UTILIZATION, &LAUNCHES, &OUTSTANDING, &WAITED];

const WIDE: &[&Column<Processes>] = &[
    &PID,
    &NAME,
    &OWNER,
    &CONTAINER,
    &GPU,
    &KIND,
    &MEMORY,
    &UTILIZATION,
    &LAUNCHES,
    &GRAPHS,
    &OUTSTANDING,
    &PINNED,
    &FAILED,
    &WAITED,
    &STREAM_WAITS,
    &EVENT_WAITS,
    &CONTEXT_WAITS,
    &COPIED,
    &MODULES,
    &COMMUNICATORS,
    &BEHIND,
    &SAMPLED,
    &WORKLOAD,
];

type Row<'a> = ProcessRow<'a>;

const WORDS: Column<Processes> = Column::WORDS;
const NUMBER: Column<Processes> = Column::NUMBER;

const PID: Column<Processes> = Column {
    name: "pid",
    header: "PID",
    priority: 1,
    doc: "Its number on the node.",
    value: |row, _| Some(row.pid()?.to_string()),
    ..NUMBER
};
const NAME: Column<Processes> = Column {
    name: "name",
    header: "NAME",
    width: Width::Flexible(7, Cut::End),
    comfort: 10,
    priority: 5,
    tone: |_| Tone::Plain,
    doc: "Its name, as the kernel has it.",
    value: |row, _| common::text(row.name()?),
    ..WORDS
};
const OWNER: Column<Processes> = Column {
    width: Width::Flexible(14, Cut::Middle),
    comfort: 20,
    short_header: None,
    doc: "Whose it is, named as in `flows`.",
    value: |row, _| cells::owner(row.owner()),
    ..Column::OWNER
};
const GPU: Column<Processes> = Column {
    name: "gpu",
    header: "GPU",
    width: Width::Natural(3),
    priority: 2,
    tone: |_| Tone::Plain,
    doc: "The devices that it uses, as in `gpu`.",
    value: |row, _| gpus(row),
    ..WORDS
};
const KIND: Column<Processes> = Column {
    name: "kind",
    header: "KIND",
    width: Width::Natural(7),
    priority: 12,
    doc: "What it uses them for: `compute`, `graphics`, `mps`.",
    value: |row, _| common::word(row.uses.first()?.kind().word()),
    ..WORDS
};
const MEMORY: Column<Processes> = Column {
    name: "memory",
    header: "MEMORY",
    width: Width::Natural(7),
    priority: 3,
    doc: "Memory of its devices that it has, as their driver says.",
    value: |row, _| cells::memory(row.memory_bytes()),
    ..NUMBER
};
const UTILIZATION: Column<Processes> = Column {
    name: "utilization",
    header: "UTIL",
    width: Width::Natural(4),
    priority: 4,
    doc: "Its part of its devices' time; of several devices the sum.",
    value: |row, _| cells::percent(row.utilization()),
    ..NUMBER
};
const LAUNCHES: Column<Processes> = Column {
    name: "launches",
    header: "LAUNCH/S",
    priority: 6,
    doc: "Kernels that it launches a second; with `~` estimated from a part of the time.",
    value: |row, _| launches(row.activity?.launches.as_ref()),
    ..NUMBER
};
const OUTSTANDING: Column<Processes> = Column {
    name: "outstanding",
    header: "HAS",
    width: Width::Natural(7),
    priority: 8,
    doc: "Device memory that it asked for and did not give back, since it is watched; `-` where it was not seen to ask.",
    value: |row, _| outstanding(row, false),
    ..NUMBER
};
const WAITED: Column<Processes> = Column {
    name: "waited",
    header: "WAITED",
    width: Width::Natural(6),
    priority: 9,
    doc: "For how long its threads waited for a device, since it is watched.",
    value: |row, _| waited(row, None),
    ..NUMBER
};
const CONTAINER: Column<Processes> = Column {
    name: "container",
    header: "CONTAINER",
    doc: "The container that it is in.",
    value: |row, _| cells::container(row.owner()),
    ..WORDS
};
const GRAPHS: Column<Processes> = Column {
    name: "graphs",
    header: "GRAPHS/S",
    doc: "Graphs that it launches a second.",
    value: |row, _| launches(row.activity?.graph_launches.as_ref()),
    ..NUMBER
};
const PINNED: Column<Processes> = Column {
    name: "pinned",
    header: "PINNED",
    doc: "Pinned memory of the machine that it has.",
    value: |row, _| outstanding(row, true),
    ..NUMBER
};
const FAILED: Column<Processes> = Column {
    name: "failed",
    header: "FAILED",
    tone: |_| Tone::Bad,
    doc: "Allocations that the driver refused.",
    value: |row, _| common::some(allocations(row)?.failed),
    ..NUMBER
};
const STREAM_WAITS: Column<Processes> = Column {
    name: "stream_waits",
    header: "STREAM WAITS",
    doc: "The part of `waited` that was for streams.",
    value: |row, _| waited(row, Some(GpuWaitKind::Stream)),
    ..NUMBER
};
const EVENT_WAITS: Column<Processes> = Column {
    name: "event_waits",
    header: "EVENT WAITS",
    doc: "The part of it that was for events.",
    value: |row, _| waited(row, Some(GpuWaitKind::Event)),
    ..NUMBER
};
const CONTEXT_WAITS: Column<Processes> = Column {
    name: "context_waits",
    header: "CONTEXT WAITS",
    doc: "The part of it that was for all that it had asked for.",
    value: |row, _| waited(row, Some(GpuWaitKind::Context)),
    ..NUMBER
};
const COPIED: Column<Processes> = Column {
    name: "copied",
    header: "COPIED",
    doc: "Bytes that it copied to, from and between devices.",
    value: |row, _| copied(row),
    ..NUMBER
};
const MODULES: Column<Processes> = Column {
    name: "modules",
    header: "MODULES",
    doc: "For how long it loaded, and perhaps compiled, modules.",
    value: |row, _| cells::time(row.activity?.modules.as_ref()),
    ..NUMBER
};
const COMMUNICATORS: Column<Processes> = Column {
    name: "communicators",
    header: "COMMS",
    doc: "NCCL communicators that it is in.",
    value: |row, _| common::some(row.activity?.communicators.len() as u64),
    ..NUMBER
};
const BEHIND: Column<Processes> = Column {
    name: "behind",
    header: "BEHIND",
    tone: |_| Tone::Warn,
    doc: "The most collectives by which a rank of one of them is behind the first.",
    value: |row, _| behind(row),
    ..NUMBER
};
const SAMPLED: Column<Processes> = Column {
    name: "sampled",
    header: "SAMPLED",
    doc: "What of it is watched in a part of the time only, and in which.",
    value: |row, _| sampled(row),
    ..WORDS
};
const WORKLOAD: Column<Processes> = Column {
    name: "workload",
    header: "WORKLOAD",
    doc: "What made its pod, kind and name, as kubectl takes them.",
    value: |row, _| cells::workload(row.owner()),
    ..WORDS
};

impl<'a> ProcessRow<'a> {
    /// Returns its number on the node.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.uses.first().map(|uses| uses.pid).or_else(|| Some(self.activity?.pid))
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> Option<&'a str> {
        let watched = || Some(self.activity?.name.as_str());
        self.uses.first().map(|uses| uses.name.as_str()).or_else(watched)
    }

    /// Returns the memory of its devices that it has, bytes. What is not known of one is not known of
    /// all.
    #[must_use]
    pub fn memory_bytes(&self) -> Option<u64> {
        let sum = |sum: Option<u64>, part: Option<u64>| Some(sum?.saturating_add(part?));
        self.uses.iter().map(|uses| uses.memory_bytes).reduce(sum).flatten()
    }

    /// Returns its part of its devices' time; of several devices the sum of what is known.
    #[must_use]
    pub fn utilization(&self) -> Option<f64> {
        let known = self.uses.iter().filter_map(|uses| uses.utilization);
        known.reduce(|sum, part| sum + part)
    }

    /// Returns whose it is.
    #[must_use]
    pub fn owner(&self) -> Option<&'a Workload> {
        let user = self.uses.first().and_then(|uses| uses.owner.as_ref());
        user.or_else(|| self.activity?.owner.as_ref())
    }
}

fn gpus(row: Row<'_>) -> Option<String> {
    match (row.uses, row.activity) {
        ([], Some(activity)) => {
            cells::labels(activity.devices.iter().map(String::as_str), row.devices)
        }
        (uses, _) => cells::labels(uses.iter().map(|uses| uses.device.as_str()), row.devices),
    }
}

/// What it has of a device's memory, or of the machine's pinned memory. Where it was not seen to take any,
/// nothing is known: it may have taken what it has before it was watched.
fn outstanding(row: Row<'_>, pinned: bool) -> Option<String> {
    let memory = allocations(row)?;
    let bytes = if pinned { memory.outstanding_pinned_bytes } else { memory.outstanding_bytes };
    let is_of = |of: &&GpuAllocated| (of.kind() == GpuAllocationKind::Pinned) == pinned;
    let is_seen = memory.allocated.iter().filter(is_of).any(|of| of.count > 0);
    cells::memory((is_seen || bytes > 0).then_some(bytes))
}

fn allocations(row: Row<'_>) -> Option<&GpuMemoryActivity> {
    row.activity?.memory.as_ref()
}

fn launches(launches: Option<&GpuLaunches>) -> Option<String> {
    let GpuLaunches { count, per_second, sampled } = *launches?;
    let mark = if sampled { "~" } else { "" };
    // Below 2^53, and never negative.
    (count > 0).then(|| format!("{mark}{}", units::packets(per_second.round() as u64)))
}

fn waited(row: Row<'_>, kind: Option<GpuWaitKind>) -> Option<String> {
    let wanted = row.activity?.waits.iter().filter(|of| kind.is_none_or(|kind| of.kind() == kind));
    let calls = wanted.filter_map(|of| of.calls.as_ref());
    let sum = calls.fold((0, std::time::Duration::ZERO), |(count, time), of: &GpuCalls| {
        (count + of.count, time.saturating_add(crate::gpu::duration(of.time.as_ref())))
    });
    let (count, time) = sum;
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    (count > 0).then(|| units::latency(nanos))
}

fn copied(row: Row<'_>) -> Option<String> {
    let bytes = row.activity?.copies.iter().map(|copies| copies.bytes);
    let bytes = bytes.fold(0, u64::saturating_add);
    (bytes > 0).then(|| units::bytes(bytes))
}

fn behind(row: Row<'_>) -> Option<String> {
    let most = row.activity?.communicators.iter().filter_map(|comm| comm.behind).max()?;
    common::some(most)
}

fn sampled(row: Row<'_>) -> Option<String> {
    let sampled = &row.activity?.coverage.as_ref()?.sampled;
    let texts: Vec<String> = sampled
        .iter()
        .filter_map(|of| Some(format!("{} {}", of.what, units::percent(of.part)?)))
        .collect();
    common::text(&texts.join(", "))
}
