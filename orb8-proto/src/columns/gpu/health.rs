//! The columns of devices' health.

use std::time::Duration;

use super::{DeviceRow, cells, device};
use crate::columns::cells as common;
use crate::columns::{Column, Cut, Format, Tone, View, Width};
use crate::gpu::health::{self, Verdict};
use crate::units;
use crate::v1::{GpuEcc, GpuXidCount};

/// Whether devices are well.
#[derive(Clone, Copy, Debug)]
pub enum Health {}

/// A list of devices, those that need somebody first.
pub static HEALTH: View<Health> =
    View { command: "gpu health", columns: COLUMNS, wide: WIDE, is_stream: false };

const COLUMNS: &[&Column<Health>] =
    &[&GPU, &VERDICT, &XIDS, &LAST_XID, &ECC, &ROWS, &HELD_BACK, &PCIE, &NVLINK, &FINDING];

const WIDE: &[&Column<Health>] = &[
    &GPU,
    &MODEL,
    &VERDICT,
    &STATE,
    &XIDS,
    &LAST_XID,
    &ECC,
    &CORRECTED,
    &LIFETIME,
    &ROWS,
    &TEMPERATURE,
    &HELD_BACK,
    &PCIE,
    &REPLAYS,
    &NVLINK,
    &NVLINK_ERRORS,
    &LOST,
    &SILENT,
    &ID,
    &FINDING,
];

type Row<'a> = DeviceRow<'a>;

const WORDS: Column<Health> = Column::WORDS;
const NUMBER: Column<Health> = Column::NUMBER;

const GPU: Column<Health> = Column {
    name: "gpu",
    header: "GPU",
    width: Width::Natural(3),
    priority: 0,
    tone: |_| Tone::Plain,
    doc: "The device, as in `gpu`.",
    value: |row, _| Some(row.label()),
    ..WORDS
};
const VERDICT: Column<Health> = Column {
    name: "verdict",
    header: "VERDICT",
    priority: 1,
    tone,
    doc: "`ok`; `warn`: it works, and somebody should look; `bad`: something has to be done before it is used.",
    value: |row, _| Some(verdict(row).word().to_owned()),
    ..WORDS
};
const XIDS: Column<Health> = Column {
    name: "xids",
    header: "XID",
    width: Width::Flexible(6, Cut::End),
    comfort: 9,
    priority: 3,
    tone: |_| Tone::Plain,
    doc: "Errors that the driver reported since the agent started, by NVIDIA's number, and how often.",
    value: |row, _| xids(row),
    ..WORDS
};
const LAST_XID: Column<Health> = Column {
    name: "last_xid",
    header: "LAST XID",
    priority: 9,
    doc: "How long ago the last of them was: what was mended since then counts on until the agent starts anew, or `--since` leaves it out.",
    value: |row, format| last_xid(row, format),
    ..NUMBER
};
const ECC: Column<Health> = Column {
    name: "ecc",
    header: "ECC",
    priority: 4,
    tone: |row| if uncorrected(row) > 0 { Tone::Bad } else { Tone::Plain },
    doc: "Memory errors that were not corrected since the driver was loaded; `off` where they are not looked for.",
    value: |row, _| errors(row),
    ..NUMBER
};
const ROWS: Column<Health> = Column {
    name: "rows",
    header: "ROWS",
    priority: 5,
    tone,
    doc: "Rows of its memory that spares stand in for; `+` where one waits for a reset, `!` where no spare was left.",
    value: |row, _| rows(row),
    ..NUMBER
};
const HELD_BACK: Column<Health> = Column {
    name: "held_back",
    header: "HELD BACK",
    width: Width::Natural(6),
    priority: 6,
    doc: "For how long it was slower than it could be, since the agent started.",
    value: |row, _| held_back(row),
    ..NUMBER
};
const PCIE: Column<Health> = Column {
    name: "pcie",
    header: "PCIE",
    priority: 8,
    tone: |row| if is_degraded(row) { Tone::Warn } else { Tone::Plain },
    doc: "Its link as it is, and where that differs, as it could be. Only under load that is a fault.",
    value: |row, _| cells::link(cells::sample(row)),
    ..WORDS
};
const NVLINK: Column<Health> = Column {
    name: "nvlink",
    header: "NVLINK",
    priority: 7,
    tone: |_| Tone::Plain,
    doc: "Links to other devices that are up, and all.",
    value: |row, _| cells::nvlinks(cells::sample(row)),
    ..WORDS
};
const FINDING: Column<Health> = Column {
    name: "finding",
    header: "FINDING",
    width: Width::Flexible(12, Cut::Words),
    comfort: 24,
    priority: 2,
    tone,
    doc: "The worst that was found; all of it, and what to do, is said below the table.",
    value: |row, format| Some(health::judge(row.device).first()?.told(format.now_ns)),
    ..WORDS
};
const MODEL: Column<Health> = Column {
    name: "model",
    header: "MODEL",
    doc: "The product; of a part (MIG) its size.",
    value: |row, _| device::model(row),
    ..WORDS
};
const STATE: Column<Health> = Column {
    name: "state",
    header: "STATE",
    tone: cells::state_tone,
    doc: "As in `gpu`.",
    value: |row, _| cells::state(row),
    ..WORDS
};
const CORRECTED: Column<Health> = Column {
    name: "corrected",
    header: "CORRECTED",
    doc: "Memory errors that were corrected since the driver was loaded.",
    value: |row, _| Some(units::count(ecc(row)?.corrected?)),
    ..NUMBER
};
const LIFETIME: Column<Health> = Column {
    name: "lifetime",
    header: "LIFETIME ECC",
    doc: "Memory errors that were not corrected in the board's life.",
    value: |row, _| Some(units::count(ecc(row)?.uncorrected_lifetime?)),
    ..NUMBER
};
const TEMPERATURE: Column<Health> = Column {
    name: "temperature",
    header: "TEMP",
    tone: cells::heat_tone,
    doc: "Of the chip, degrees Celsius.",
    value: |row, _| cells::celsius(cells::sample(row)?.temperature),
    ..NUMBER
};
const REPLAYS: Column<Health> = Column {
    name: "replays",
    header: "REPLAYS",
    doc: "PCIe packets that had to be sent again since the driver was loaded.",
    value: |row, _| Some(units::count(cells::sample(row)?.pcie_replays?)),
    ..NUMBER
};
const NVLINK_ERRORS: Column<Health> = Column {
    name: "nvlink_errors",
    header: "NVLINK ERRORS",
    doc: "Damaged packets, packets sent again, and times that a link was trained again.",
    value: |row, _| nvlink_errors(row),
    ..WORDS
};
const LOST: Column<Health> = Column {
    name: "lost",
    header: "LOST",
    doc: "Times that it was lost since the agent started.",
    value: |row, _| common::some(row.device.counts.as_ref()?.lost),
    ..NUMBER
};
const SILENT: Column<Health> = Column {
    name: "silent",
    header: "SILENT",
    doc: "Times that it did not answer since then.",
    value: |row, _| common::some(row.device.counts.as_ref()?.silent),
    ..NUMBER
};
const ID: Column<Health> = Column {
    name: "id",
    header: "ID",
    doc: "The device's id.",
    value: |row, _| common::text(&row.device.id),
    ..WORDS
};

fn verdict(row: Row<'_>) -> Verdict {
    health::verdict(&health::judge(row.device))
}

fn tone(row: Row<'_>) -> Tone {
    match verdict(row) {
        Verdict::Ok => Tone::Good,
        Verdict::Warn => Tone::Warn,
        Verdict::Bad => Tone::Bad,
    }
}

fn xids(row: Row<'_>) -> Option<String> {
    let text = |of: &GpuXidCount| Some(format!("{}×{}", of.xid.as_ref()?.code, of.count));
    let texts: Vec<String> = row.device.counts.as_ref()?.xids.iter().filter_map(text).collect();
    common::text(&texts.join(" "))
}

fn last_xid(row: Row<'_>, format: &Format) -> Option<String> {
    let at = row.device.counts.as_ref()?.last_xid_ns;
    let ago = Duration::from_secs((format.now_ns.checked_sub(at)? / 1_000_000_000).max(1));
    (at > 0).then(|| units::duration(ago))
}

fn ecc(row: Row<'_>) -> Option<&GpuEcc> {
    cells::sample(row)?.ecc.as_ref()
}

fn uncorrected(row: Row<'_>) -> u64 {
    ecc(row).and_then(|ecc| ecc.uncorrected).unwrap_or_default()
}

fn errors(row: Row<'_>) -> Option<String> {
    match ecc(row)? {
        GpuEcc { enabled: false, uncorrected: None | Some(0), .. } => Some("off".to_owned()),
        GpuEcc { uncorrected, .. } => uncorrected.map(units::packets),
    }
}

fn rows(row: Row<'_>) -> Option<String> {
    let rows = cells::sample(row)?.remapped_rows?;
    let all = rows.correctable.saturating_add(rows.uncorrectable);
    let mark = match (rows.failed, rows.pending) {
        (true, _) => "!",
        (false, true) => "+",
        (false, false) => "",
    };
    Some(format!("{}{mark}", units::packets(all)))
}

fn held_back(row: Row<'_>) -> Option<String> {
    let lost = health::throttled(row.device);
    (!lost.is_zero()).then(|| units::duration(lost))
}

fn is_degraded(row: Row<'_>) -> bool {
    cells::sample(row).is_some_and(health::is_link_degraded)
}

fn nvlink_errors(row: Row<'_>) -> Option<String> {
    let links = cells::sample(row)?.nvlink.as_ref()?;
    let text = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), units::packets);
    let counts = [links.crc_errors, links.replays, links.recoveries];
    counts.iter().any(Option::is_some).then(|| counts.map(text).join("/"))
}
