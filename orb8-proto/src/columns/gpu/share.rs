//! The columns of devices' parts: who has them.

use super::{ShareRow, cells, device};
use crate::columns::cells as common;
use crate::columns::{Column, Cut, Format, Subject, Tone, View, Width};
use crate::units;
use crate::v1::{GpuShare, GpuStanding, Workload};

/// What of each device is whose.
#[derive(Clone, Copy, Debug)]
pub enum Parts {}

impl Subject for Parts {
    type Row<'a> = ShareRow<'a>;

    /// What is nobody's.
    fn is_quiet(row: ShareRow<'_>) -> bool {
        row.share.is_none()
    }
}

/// A list of parts.
pub static SHARES: View<Parts> =
    View { command: "gpu pods", columns: COLUMNS, wide: WIDE, is_stream: false };

/// A list of those that hold a device and do not use it, or use one that they do not hold.
pub static IDLE: View<Parts> =
    View { command: "gpu idle", columns: IDLE_COLUMNS, wide: WIDE, is_stream: false };

const COLUMNS: &[&Column<Parts>] =
    &[&GPU, &OWNER, &CONTAINER, &MEMORY, &UTILIZATION, &STANDING, &RESOURCE];

const IDLE_COLUMNS: &[&Column<Parts>] =
    &[&GPU, &OWNER, &CONTAINER, &STANDING, &SINCE, &MEMORY, &RESOURCE, &MODEL];

const WIDE: &[&Column<Parts>] = &[
    &GPU,
    &OWNER,
    &CONTAINER,
    &STANDING,
    &SINCE,
    &MEMORY,
    &MEMORY_BASIS,
    &UTILIZATION,
    &UTILIZATION_BASIS,
    &RESOURCE,
    &SHARED,
    &CLAIM,
    &MODEL,
    &WORKLOAD,
    &PIDS,
    &ID,
];

type Row<'a> = ShareRow<'a>;

const WORDS: Column<Parts> = Column::WORDS;
const NUMBER: Column<Parts> = Column::NUMBER;

const GPU: Column<Parts> = Column {
    name: "gpu",
    header: "GPU",
    width: Width::Natural(3),
    priority: 1,
    tone: |_| Tone::Plain,
    doc: "The device, as in `gpu`.",
    value: |row, _| Some(row.of.label()),
    ..WORDS
};
const OWNER: Column<Parts> = Column {
    width: Width::Flexible(16, Cut::Middle),
    comfort: 36,
    short_header: None,
    doc: "Who has it, named as in `flows`; `(unattributed)` for what is in use and nobody's known.",
    value: |row, _| owner(row),
    ..Column::OWNER
};
const CONTAINER: Column<Parts> = Column {
    name: "container",
    header: "CONTAINER",
    width: Width::Flexible(9, Cut::End),
    comfort: 9,
    priority: 8,
    doc: "Which of the pod's containers.",
    value: |row, _| cells::container(whose(row)),
    ..WORDS
};
const MEMORY: Column<Parts> = Column {
    name: "memory",
    header: "MEMORY",
    width: Width::Natural(7),
    priority: 3,
    doc: "Device memory. Without a mark it is measured; with `~` computed; with `÷` an equal part of what several have and nothing tells apart.",
    value: |row, _| memory(row),
    ..NUMBER
};
const UTILIZATION: Column<Parts> = Column {
    name: "utilization",
    header: "UTIL",
    width: Width::Natural(4),
    priority: 2,
    doc: "Its part of the device's time, with the same marks. The parts of a device sum to its own figure.",
    value: |row, _| utilization(row),
    ..NUMBER
};
const STANDING: Column<Parts> = Column {
    name: "standing",
    header: "STANDING",
    width: Width::Natural(8),
    priority: 4,
    tone: standing_tone,
    doc: "`active`; `idle`, and for how long it has held the device without using it; `unallocated`: it uses what it was not given; `in-use` where nobody says who was given what; `lost` like the device that it holds.",
    value: standing,
    ..WORDS
};
const SINCE: Column<Parts> = Column {
    name: "since",
    header: "SINCE",
    width: Width::Flexible(8, Cut::Silent),
    comfort: 12,
    priority: 5,
    doc: "Of an idle one, the time of the last use, or when it was first seen to hold the device; local time.",
    value: |row, format| common::clock(row.share?.idle_since_ns, format),
    ..WORDS
};
const RESOURCE: Column<Parts> = Column {
    name: "resource",
    header: "RESOURCE",
    width: Width::Flexible(9, Cut::Middle),
    comfort: 14,
    priority: 9,
    doc: "What it was given the device as; of a DRA claim its driver.",
    value: |row, _| common::text(&row.share?.resource),
    ..WORDS
};
const MODEL: Column<Parts> = Column {
    name: "model",
    header: "MODEL",
    width: Width::Flexible(8, Cut::Middle),
    comfort: 16,
    priority: 10,
    doc: "The product; of a part (MIG) its size.",
    value: |row, _| device::model(row.of),
    ..WORDS
};
const MEMORY_BASIS: Column<Parts> = Column {
    name: "memory_basis",
    header: "MEMORY IS",
    doc: "How its memory was found: `exact`, `estimated`, `shared`.",
    value: |row, _| common::word(row.share?.memory_basis().word()),
    ..WORDS
};
const UTILIZATION_BASIS: Column<Parts> = Column {
    name: "utilization_basis",
    header: "UTIL IS",
    doc: "How its time was found, likewise.",
    value: |row, _| common::word(row.share?.utilization_basis().word()),
    ..WORDS
};
const SHARED: Column<Parts> = Column {
    name: "shared",
    header: "SHARED",
    doc: "`yes` where others may be given the same device.",
    value: |row, _| row.share?.shared.then(|| "yes".to_owned()),
    ..WORDS
};
const CLAIM: Column<Parts> = Column {
    name: "claim",
    header: "CLAIM",
    doc: "The DRA claim.",
    value: |row, _| common::text(&row.share?.claim),
    ..WORDS
};
const WORKLOAD: Column<Parts> = Column {
    name: "workload",
    header: "WORKLOAD",
    doc: "What made the pod, kind and name, as kubectl takes them.",
    value: |row, _| cells::workload(whose(row)),
    ..WORDS
};
const PIDS: Column<Parts> = Column {
    name: "pids",
    header: "PIDS",
    doc: "Its processes on the device, as the node numbers them.",
    value: |row, _| pids(row),
    ..WORDS
};
const ID: Column<Parts> = Column {
    name: "id",
    header: "ID",
    doc: "The device's id.",
    value: |row, _| common::text(&row.of.device.id),
    ..WORDS
};

fn whose(row: Row<'_>) -> Option<&Workload> {
    row.share?.owner.as_ref()
}

fn owner(row: Row<'_>) -> Option<String> {
    match row.share {
        Some(share) => cells::owner(share.owner.as_ref()),
        None => Some("(unattributed)".to_owned()),
    }
}

fn memory(row: Row<'_>) -> Option<String> {
    let Some(share) = row.share else {
        return cells::memory(row.of.device.unattributed_memory_bytes);
    };
    let memory = cells::memory(share.memory_bytes)?;
    Some(format!("{}{memory}", cells::mark(share.memory_basis())))
}

fn utilization(row: Row<'_>) -> Option<String> {
    let Some(share) = row.share else {
        return cells::percent(row.of.device.unattributed_utilization);
    };
    let part = cells::percent(share.utilization)?;
    Some(format!("{}{part}", cells::mark(share.utilization_basis())))
}

fn standing(row: Row<'_>, format: &Format) -> Option<String> {
    let share = row.share?;
    let word = share.standing().word()?;
    let is_idle = share.standing() == GpuStanding::Idle;
    let idle = is_idle.then(|| idle_for(row, share, format)).flatten();
    Some(idle.map_or_else(|| word.to_owned(), |idle| format!("{word} {idle}")))
}

/// For how long, as of when the device was read; its blanks left out, as it stands behind a word. Of a
/// device that does not answer, the reader's clock must do.
fn idle_for(row: Row<'_>, share: &GpuShare, format: &Format) -> Option<String> {
    let read = cells::sample(row.of).map(|sample| sample.time_ns).filter(|time| *time > 0);
    let lasted = read.unwrap_or(format.now_ns).checked_sub(share.idle_since_ns)?;
    let lasted = std::time::Duration::from_secs(lasted / 1_000_000_000);
    (share.idle_since_ns > 0).then(|| units::duration(lasted).replace(' ', ""))
}

fn standing_tone(row: Row<'_>) -> Tone {
    let Some(share) = row.share else { return Tone::Quiet };
    match share.standing() {
        GpuStanding::Active => Tone::Good,
        GpuStanding::Idle if share.idle_long => Tone::Warn,
        GpuStanding::Unallocated => Tone::Warn,
        GpuStanding::Lost => Tone::Bad,
        GpuStanding::Idle | GpuStanding::InUse | GpuStanding::Unspecified => Tone::Plain,
    }
}

fn pids(row: Row<'_>) -> Option<String> {
    let pids: Vec<String> = row.share?.pids.iter().map(ToString::to_string).collect();
    common::text(&pids.join(","))
}
