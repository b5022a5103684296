//! What the processes of an owner do with an accelerator, line by line.

use orb8_proto::columns::Format;
use orb8_proto::columns::gpu::{PROCESSES, ProcessRow};
use orb8_proto::gpu::duration;
use orb8_proto::units;
use orb8_proto::v1::{
    GpuActivity, GpuCommunicator, GpuLeak, GpuProcess, GpuShare, GpuSite, QueryGpuResponse,
};

use crate::output::table::printable;

/// Processes of which something is told: of more, nobody reads on.
const MOST_PROCESSES: usize = 16;

/// Places where memory was asked for, and communicators, of one process.
const MOST: usize = 4;

/// Columns of a process that its share has already.
const OF_SHARE: [&str; 4] = ["owner", "container", "workload", "gpu"];

type Line = (&'static str, String);

/// Tells what the processes of a share do, one after the other.
pub(super) fn of(share: &GpuShare, answer: &QueryGpuResponse, format: &Format) -> Vec<Line> {
    let shown = share.pids.iter().take(MOST_PROCESSES);
    let mut lines: Vec<Line> = shown.flat_map(|pid| process(*pid, share, answer, format)).collect();
    let more = share.pids.len().saturating_sub(MOST_PROCESSES);
    if more > 0 {
        lines.push(("", format!("and {more} more processes: orb8 gpu processes")));
    }
    lines
}

fn process(pid: u32, share: &GpuShare, answer: &QueryGpuResponse, format: &Format) -> Vec<Line> {
    let uses = answer.processes.iter().filter(|of| of.pid == pid && of.device == share.device);
    let uses: Vec<GpuProcess> = uses.cloned().collect();
    let activity = answer.activity.iter().find(|of| of.pid == pid);
    let blank = ("", String::new());
    if uses.is_empty() && activity.is_none() {
        return vec![blank, ("pid", pid.to_string())];
    }
    let row = ProcessRow { uses: &uses, activity, devices: &answer.devices };
    let known = PROCESSES.wide.iter().filter(|column| !OF_SHARE.contains(&column.name));
    let known = known.filter_map(|of| Some((of.name, (of.value)(row, format)?)));
    let seen = activity.map(seen).unwrap_or_default();
    let lines = std::iter::once(blank).chain(known).chain(seen);
    // Drivers and programs have their say in it.
    lines.map(|(name, value)| (name, printable(value))).collect()
}

/// Tells what columns have no room for.
fn seen(activity: &GpuActivity) -> Vec<Line> {
    let memory = activity.memory.as_ref();
    let leak = memory.and_then(|memory| memory.leak.as_ref());
    let sites = memory.map(|memory| &memory.sites[..]).unwrap_or_default();
    let copies = activity.copies.iter().filter(|of| of.count > 0).filter_map(|of| {
        let (bytes, count) = (units::bytes(of.bytes), units::packets(of.count));
        Some(("copies", format!("{} {bytes} in {count} calls", of.kind().word()?)))
    });
    let coverage = activity.coverage.iter().flat_map(|coverage| &coverage.missing);
    let mut lines: Vec<Line> = leak.map(|leak| ("leak", self::leak(leak))).into_iter().collect();
    lines.extend(sites.iter().take(MOST).map(|at| ("memory from", site(at))));
    lines.extend(copies);
    lines.extend(activity.communicators.iter().take(MOST).map(|of| ("nccl", communicator(of))));
    lines.extend(coverage.map(|missing| ("not seen", missing.clone())));
    lines
}

fn leak(leak: &GpuLeak) -> String {
    // A verdict is only passed on what grows.
    let growth = units::memory_short(leak.growth_bytes_per_second.max(0.0) as u64);
    let window = units::duration(duration(leak.window.as_ref()));
    format!("grows by {growth} a second, in {} windows of {window} in a row", leak.windows)
}

fn site(site: &GpuSite) -> String {
    let bytes = units::memory_short(site.outstanding_bytes);
    let count = units::packets(site.count);
    format!("{} {bytes} in {count}", site.frames.join(" ← "))
}

/// One communicator: where this process is in it, what it did, and who holds it up.
fn communicator(of: &GpuCommunicator) -> String {
    let mut parts = Vec::new();
    if of.hash != 0 {
        parts.push(format!("{:016x}", of.hash));
    }
    parts.extend(of.state().word().map(str::to_owned));
    match (of.rank, of.ranks) {
        (Some(rank), Some(ranks)) => parts.push(format!("rank {rank} of {ranks}")),
        (Some(rank), None) => parts.push(format!("rank {rank}")),
        (None, Some(ranks)) => parts.push(format!("{ranks} ranks")),
        (None, None) => {}
    }
    for done in &of.collectives {
        let bytes = done.bytes.map(|bytes| format!(" {}", units::bytes(bytes)));
        let word = done.kind().word().unwrap_or("collective");
        parts.push(format!("{word} ×{}{}", units::packets(done.count), bytes.unwrap_or_default()));
    }
    if let Some(behind) = of.behind.filter(|behind| *behind > 0) {
        let who = of.slowest_rank.map(|rank| format!("rank {rank}"));
        let who = who.unwrap_or_else(|| "a rank".to_owned());
        parts.push(format!("{who} is {} behind", units::count(behind)));
    }
    if !of.missing_ranks.is_empty() {
        let ranks: Vec<String> = of.missing_ranks.iter().map(ToString::to_string).collect();
        parts.push(format!("no answer from rank {}", ranks.join(", ")));
    }
    parts.join(", ")
}
