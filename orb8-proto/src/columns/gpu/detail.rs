//! What an event of accelerators has to tell besides who it is about.
//!
//! Most parts have no blanks, so that each is shown whole or not at all; what matters most comes first.

use crate::columns::cells::{self, Cell};
use crate::gpu::duration;
use crate::units;
use crate::v1::{GpuEventKind, GpuEventProcess, StreamGpuResponse};

/// The driver's error for memory that is not there.
const OUT_OF_MEMORY: u32 = 2;

pub(super) fn text(event: &StreamGpuResponse) -> Cell {
    use GpuEventKind as Kind;
    let mut parts = match event.kind() {
        Kind::Xid => xid(event),
        Kind::Throttle => vec![phase(event), reasons(event)],
        Kind::Ecc => vec![Some(format!("×{} uncorrected", units::count(event.count)))],
        Kind::RowRemap => vec![remapped(event)],
        Kind::LostDevice => vec![cells::text(&event.reason)],
        Kind::Appeared | Kind::Removed => vec![cells::text(&event.pci_address)],
        Kind::Idle => vec![phase(event), lasted("after", event)],
        Kind::Unallocated => vec![phase(event)],
        Kind::Allocated => {
            vec![Some(units::memory_short(event.bytes)), cells::word(event.allocation().word())]
        }
        Kind::AllocationFailed => vec![Some(units::memory_short(event.bytes)), error(event)],
        Kind::Launches => launches(event),
        Kind::Module => vec![lasted("took", event)],
        Kind::Leak => vec![
            Some(format!("has={}", units::memory_short(event.bytes))),
            Some(format!("growth={}/s", units::memory_short(event.rate.max(0.0) as u64))),
        ],
        Kind::Collectives => vec![
            Some(format!("calls={}", units::packets(event.count))),
            Some(units::bytes(event.bytes)),
            rank(event),
            communicator(event),
        ],
        Kind::CommunicatorInit => vec![rank(event), lasted("took", event), communicator(event)],
        Kind::CommunicatorAbort => vec![rank(event), communicator(event)],
        Kind::Straggler => vec![rank(event), behind(event), communicator(event)],
        Kind::Sampling => vec![phase(event), cells::text(&event.reason), part(event)],
        Kind::Lost | Kind::Unspecified => Vec::new(),
    };
    parts.push(event.process.as_ref().and_then(process));
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    cells::text(&parts.join(" "))
}

fn xid(event: &StreamGpuResponse) -> Vec<Cell> {
    let Some(xid) = &event.xid else { return Vec::new() };
    vec![
        Some(xid.code.to_string()),
        cells::word(xid.action().word()).map(|action| format!("do={action}")),
        cells::text(&xid.meaning),
        cells::word(xid.class().word()).map(|class| format!("({class})")),
    ]
}

fn phase(event: &StreamGpuResponse) -> Cell {
    Some(if event.began { "began" } else { "ended" }.to_owned())
}

fn reasons(event: &StreamGpuResponse) -> Cell {
    let words: Vec<&str> = event.reasons().filter_map(|reason| reason.word()).collect();
    cells::text(&words.join(","))
}

fn remapped(event: &StreamGpuResponse) -> Cell {
    Some(
        match (event.failed, event.pending) {
            (true, _) => "failed: no spare is left",
            (false, true) => "waits for a reset",
            (false, false) => "done",
        }
        .to_owned(),
    )
}

fn lasted(what: &str, event: &StreamGpuResponse) -> Cell {
    let lasted = duration(event.duration.as_ref());
    let nanos = u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX);
    let text = || units::latency(nanos).replace(' ', "");
    (nanos > 0).then(|| format!("{what}={}", text()))
}

fn error(event: &StreamGpuResponse) -> Cell {
    Some(match event.error {
        OUT_OF_MEMORY => "out-of-memory".to_owned(),
        error => format!("error={error}"),
    })
}

fn launches(event: &StreamGpuResponse) -> Vec<Cell> {
    let rate = |rate: f64| units::packets(rate.max(0.0).round() as u64);
    let mark = if event.sampled { "~" } else { "" };
    let has_graphs = event.graph_rate > 0.0;
    vec![
        (event.rate > 0.0 || !has_graphs).then(|| format!("{mark}{}/s", rate(event.rate))),
        has_graphs.then(|| format!("graphs={mark}{}/s", rate(event.graph_rate))),
    ]
}

fn rank(event: &StreamGpuResponse) -> Cell {
    let rank = event.rank?;
    Some(match event.ranks {
        0 => format!("rank={rank}"),
        ranks => format!("rank={rank}/{ranks}"),
    })
}

/// Whole, as it is compared with that of other nodes.
fn communicator(event: &StreamGpuResponse) -> Cell {
    (event.communicator > 0).then(|| format!("comm={:016x}", event.communicator))
}

fn behind(event: &StreamGpuResponse) -> Cell {
    Some(match event.pending {
        true => "does not answer".to_owned(),
        false => format!("behind={}", units::packets(event.count)),
    })
}

fn part(event: &StreamGpuResponse) -> Cell {
    units::percent(event.rate).map(|part| format!("part={part}"))
}

fn process(process: &GpuEventProcess) -> Cell {
    let GpuEventProcess { pid, name } = process;
    Some(format!("{name}[{pid}]"))
}
