//! What it did, as one line of JSON.

use std::fmt::Write;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::nccl::{COLLECTIVES, Ended};
use super::options::Options;
use super::program::Program;
use super::shared::counts::{ALLOCATIONS, COPIES, Counts, PINNED, Timed, WAITS};
use super::work::Outcome;

/// Writes the report.
pub(crate) fn report(program: &Program, options: &Options, outcome: &Outcome) -> String {
    let failure = outcome.failure.as_ref().map_or("null".into(), |failure| {
        format!("{{\"call\":\"{}\",\"code\":{}}}", failure.call, failure.code)
    });
    let missing = program.missing.lock().unwrap_or_else(PoisonError::into_inner);
    let missing: Vec<String> = missing.iter().map(|call| format!("\"{call}\"")).collect();
    let driver = program.driver_counts().map_or("null".into(), counts);
    let ended = program.communicators.lock().unwrap_or_else(PoisonError::into_inner);
    let communicators: Vec<String> =
        ended.iter().map(|ended| communicator(ended, &program.id.text())).collect();
    format!(
        "{{\"pid\":{},\"work\":\"{}\",\"layer\":\"{}\",\"steps\":{},\"seconds\":{:.6},\
         \"failure\":{failure},\"missing\":[{}],\"program\":{},\"driver\":{driver},\
         \"communicators\":[{}]}}",
        std::process::id(),
        options.work.name(),
        options.layer.name(),
        outcome.steps,
        outcome.took.as_secs_f64(),
        missing.join(","),
        counts(&program.counts),
        communicators.join(","),
    )
}

fn counts(counts: &Counts) -> String {
    let allocations = object(ALLOCATIONS.iter().zip(&counts.allocations), |row| {
        numbers(&[
            ("count", &row.count),
            ("bytes", &row.bytes),
            ("freed_count", &row.freed_count),
            ("freed_bytes", &row.freed_bytes),
        ])
    });
    let copies = object(COPIES.iter().zip(&counts.copies), |row| {
        numbers(&[("count", &row.count), ("bytes", &row.bytes), ("waited_ns", &row.waited_ns)])
    });
    let (outstanding, pinned) = outstanding(counts);
    format!(
        "{{\"launches\":{},\"captured\":{},\"graph_launches\":{},\"allocations\":{allocations},\
         \"outstanding\":{outstanding},\"outstanding_pinned\":{pinned},\
         \"failed_allocations\":{},\"refused_frees\":{},\"copies\":{copies},\"waits\":{},\
         \"modules\":{}}}",
        read(&counts.launches),
        read(&counts.captured),
        read(&counts.graph_launches),
        read(&counts.failed_allocations),
        read(&counts.refused_frees),
        object(WAITS.iter().zip(&counts.waits), timed),
        timed(&counts.modules),
    )
}

/// Returns the bytes of devices and of the machine that were taken and not given back.
fn outstanding(counts: &Counts) -> (u64, u64) {
    let left = |kind: usize| {
        let row = &counts.allocations[kind];
        read(&row.bytes).saturating_sub(read(&row.freed_bytes))
    };
    let device = (0..ALLOCATIONS.len()).filter(|kind| *kind != PINNED).map(left).sum();
    (device, left(PINNED))
}

fn communicator(ended: &Ended, id: &str) -> String {
    let collectives = object(COLLECTIVES.iter().zip(&ended.asked.0), |(count, bytes)| {
        numbers(&[("count", count), ("bytes", bytes)])
    });
    let part = ended.part.map_or("null".into(), |part| part.to_string());
    format!(
        "{{\"id\":\"{id}\",\"part\":{part},\"rank\":{},\"ranks\":{},\"end\":\"{}\",\
         \"collectives\":{collectives}}}",
        ended.rank,
        ended.ranks,
        ended.end.name(),
    )
}

fn timed(timed: &Timed) -> String {
    numbers(&[("count", &timed.count), ("ns", &timed.ns), ("longest_ns", &timed.longest_ns)])
}

fn read(number: &AtomicU64) -> u64 {
    number.load(Relaxed)
}

fn numbers(rows: &[(&str, &AtomicU64)]) -> String {
    object(rows.iter().map(|(name, number)| (name, number)), |number| read(number).to_string())
}

/// Writes an object of rows by name.
fn object<'a, T>(
    rows: impl Iterator<Item = (&'a &'a str, T)>,
    write: impl Fn(T) -> String,
) -> String {
    let mut text = String::from("{");
    for (name, row) in rows {
        let comma = if text.len() > 1 { "," } else { "" };
        let _ = write!(text, "{comma}\"{name}\":{}", write(row));
    }
    text + "}"
}
