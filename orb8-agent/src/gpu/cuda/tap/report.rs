//! How the thread that watches calls does.

use std::time::Instant;

use hashbrown::HashMap;
use orb8_common::gpu::Counter;

use super::super::attach::Coverage;
use crate::ebpf::EbpfError;
use crate::error::chain;
use crate::status::{ProgramRun, RingStatus};

/// How the thread does.
#[derive(Clone, Debug)]
pub(in super::super) struct Report {
    /// When it was last heard of.
    pub(super) time: Instant,
    /// Whether calls are watched, or will be as soon as the programs are loaded.
    pub is_on: bool,
    pub probes: u32,
    pub expensive: u32,
    /// Time that watching takes of the busiest thread, 0 to 1.
    pub cost: Option<f64>,
    pub lost: u64,
    pub ring: Option<RingStatus>,
    pub problems: Vec<String>,
    pub coverage: HashMap<u32, Coverage>,
    pub runs: Vec<ProgramRun>,
    /// The kernel's memory for what is counted.
    pub map_bytes: u64,
}

impl Report {
    pub(super) fn new(time: Instant) -> Self {
        Self {
            time,
            is_on: true,
            probes: 0,
            expensive: 0,
            cost: None,
            lost: 0,
            ring: None,
            problems: Vec::new(),
            coverage: HashMap::new(),
            runs: Vec::new(),
            map_bytes: 0,
        }
    }

    pub(super) fn refuse(&mut self, error: &EbpfError) {
        let problem = chain(error);
        tracing::warn!(problem, "calls to CUDA and NCCL are not watched");
        self.problems.push(format!("calls to CUDA and NCCL are not watched: {problem}"));
        self.is_on = false;
    }
}

/// What the programs had no room for.
pub(super) fn gaps(counters: &[u64; Counter::COUNT]) -> Vec<String> {
    let rows = [
        (Counter::Untracked, "calls of processes beyond those that can be watched"),
        (Counter::Untimed, "calls were not timed, since too many were on their way"),
        (Counter::Partial, "batches of copies were too long: only their first sizes are added up"),
    ];
    let rows = rows.into_iter().map(|(counter, what)| (counters[counter as usize], what));
    rows.filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
}
