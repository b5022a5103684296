//! The columns of what happens to accelerators.

use super::{cells, detail};
use crate::columns::cells as common;
use crate::columns::{Column, Cut, Subject, Tone, View, Width};
use crate::filter::DevicePlace;
use crate::v1::{GpuEventKind, GpuXidAction, StreamGpuResponse};

impl Subject for StreamGpuResponse {
    type Row<'a> = &'a Self;
}

/// A stream of events.
pub static EVENTS: View<StreamGpuResponse> =
    View { command: "trace gpu", columns: COLUMNS, wide: WIDE, is_stream: true };

const COLUMNS: &[&Column<StreamGpuResponse>] = &[&TIME, &EVENT, &GPU, &OWNER, &DETAIL];

const WIDE: &[&Column<StreamGpuResponse>] =
    &[&TIME, &NODE, &EVENT, &GPU, &OWNER, &CONTAINER, &WORKLOAD, &PROCESS, &PID, &ID, &DETAIL];

type Row<'a> = &'a StreamGpuResponse;

const WORDS: Column<StreamGpuResponse> = Column::WORDS;

const TIME: Column<StreamGpuResponse> =
    Column { value: |row, format| common::clock(row.time_ns, format), ..Column::TIME };
const EVENT: Column<StreamGpuResponse> = Column {
    name: "event",
    header: "EVENT",
    width: Width::Natural(11),
    priority: 2,
    tone,
    doc: "`xid`, `throttle`, `ecc`, `row-remap`, `lost-device`, `appeared`, `removed`, `idle`, `unallocated`, `allocated`, `allocation-failed`, `launches`, `module`, `leak`, `collectives`, `communicator-init`, `communicator-abort`, `straggler`, `sampling`.",
    value: |row, _| common::word(row.kind().word()),
    ..WORDS
};
const GPU: Column<StreamGpuResponse> = Column {
    name: "gpu",
    header: "GPU",
    width: Width::Flexible(3, Cut::Middle),
    usual: 3,
    comfort: 8,
    priority: 1,
    tone: |_| Tone::Plain,
    doc: "The device, as in `gpu`; of one that has gone its id.",
    value: |row, _| common::text(&DevicePlace::of_event(row).label()),
    ..WORDS
};
const OWNER: Column<StreamGpuResponse> = Column {
    width: Width::Flexible(13, Cut::Middle),
    comfort: 20,
    priority: 3,
    doc: "Whose process it is; of what happens to a device, who holds or uses it: the first, and how many more.",
    value: |row, _| owner(row),
    ..Column::OWNER
};
const DETAIL: Column<StreamGpuResponse> = Column {
    name: "detail",
    header: "DETAIL",
    width: Width::Flexible(16, Cut::Words),
    usual: 30,
    comfort: 40,
    priority: 0,
    tone: |_| Tone::Plain,
    doc: "Of an `xid`: NVIDIA's number, what to do, what it means; of a `throttle`: whether it began, and why; of what lasts: whether it began or ended; sizes, rates, ranks; and the process.",
    value: |row, _| detail::text(row),
    ..WORDS
};
const NODE: Column<StreamGpuResponse> = Column {
    name: "node",
    header: "NODE",
    doc: "The node that saw it.",
    value: |row, _| common::text(&row.node_name),
    ..WORDS
};
const CONTAINER: Column<StreamGpuResponse> = Column {
    name: "container",
    header: "CONTAINER",
    doc: "Container of the owner.",
    value: |row, _| cells::container(row.owners.first()),
    ..WORDS
};
const WORKLOAD: Column<StreamGpuResponse> = Column {
    name: "workload",
    header: "WORKLOAD",
    doc: "What made the owner's pod, kind and name, as kubectl takes them.",
    value: |row, _| cells::workload(row.owners.first()),
    ..WORDS
};
const PROCESS: Column<StreamGpuResponse> = Column {
    name: "process",
    header: "PROCESS",
    doc: "Name of the process that did it.",
    value: |row, _| common::text(&row.process.as_ref()?.name),
    ..WORDS
};
const PID: Column<StreamGpuResponse> = Column {
    name: "pid",
    header: "PID",
    doc: "Its number on the node.",
    value: |row, _| Some(row.process.as_ref()?.pid.to_string()),
    ..Column::NUMBER
};
const ID: Column<StreamGpuResponse> = Column {
    name: "id",
    header: "ID",
    doc: "The device's id.",
    value: |row, _| common::text(&row.device),
    ..WORDS
};

fn owner(row: Row<'_>) -> Option<String> {
    let first = common::owner(row.owners.first()?)?;
    Some(match row.owners.len() - 1 {
        0 => first,
        more => format!("{first} +{more}"),
    })
}

fn tone(row: Row<'_>) -> Tone {
    use GpuEventKind as Kind;
    match row.kind() {
        Kind::Xid => match row.xid.as_ref().map(|xid| xid.action()) {
            None | Some(GpuXidAction::None | GpuXidAction::Unspecified) => Tone::Plain,
            Some(GpuXidAction::RestartPod) => Tone::Warn,
            Some(GpuXidAction::ResetDevice | GpuXidAction::Reboot | GpuXidAction::Drain) => {
                Tone::Bad
            }
        },
        Kind::RowRemap if row.failed => Tone::Bad,
        Kind::Ecc | Kind::LostDevice | Kind::AllocationFailed | Kind::CommunicatorAbort => {
            Tone::Bad
        }
        Kind::Throttle | Kind::Idle | Kind::Unallocated if !row.began => Tone::Good,
        Kind::Throttle
        | Kind::Idle
        | Kind::Unallocated
        | Kind::RowRemap
        | Kind::Removed
        | Kind::Leak
        | Kind::Straggler => Tone::Warn,
        Kind::Appeared | Kind::CommunicatorInit => Tone::Good,
        Kind::Allocated
        | Kind::Launches
        | Kind::Module
        | Kind::Collectives
        | Kind::Sampling
        | Kind::Lost
        | Kind::Unspecified => Tone::Plain,
    }
}
