//! What processes do with CUDA and NCCL, as probes at the libraries' functions tell.
//!
//! ```text
//! pids ──▶ thread: libraries ─▶ probes ◀─ windows ◀─ governor
//!                     ring, counters ─▶ state ──collect──▶ activity, events
//!                     stacks ◀─ a thread that reads programs' files ─┤
//!                     NCCL's own account ◀─ a task that asks ────────┘
//! ```
//! Calls are counted in the kernel; only what makes or ends something (memory, modules,
//! communicators) is told one by one. Everything is bounded: 1,024 processes, 65,536 allocations of
//! each and 262,144 in all, 64 communicators of each, 256 places that ask for memory. What has no room
//! is counted, and each process says what of it is not seen.

mod attach;
mod counters;
mod functions;
mod governor;
mod leak;
mod libraries;
mod memory;
mod nccl;
mod process;
mod prologue;
mod ras;
mod sites;
mod stacks;
mod state;
mod sums;
mod symbols;
mod tap;
mod windows;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::activity::{Coverage, ProcessActivity};
use super::config::{GpuConfig, TraceMode};
use super::event::{GpuEvent, Process};
use super::view::Watching;
use crate::clock::Clock;
use crate::ebpf::GpuOptions;
use crate::error::AgentError;
pub use attach::{Attachments, Coverage as CallCoverage};
pub use governor::Group;
use ras::Asker;
use stacks::Names;
use state::State;
use tap::{SharedState, Tap, lock};

/// Watches processes' calls. When it is dropped, the probes are taken out.
#[derive(Debug)]
pub struct CudaWatch {
    state: SharedState,
    tap: Tap,
    names: Names,
    asker: Asker,
    budget: f64,
}

/// What was seen in an interval.
#[derive(Debug, Default)]
pub struct Watched {
    /// What each process did, those that ended within the last minute included.
    pub activity: Vec<ProcessActivity>,
    /// What happened, in no strict order.
    pub events: Vec<GpuEvent>,
    /// What watching costs and covers.
    pub watching: Watching,
}

impl CudaWatch {
    /// Starts to watch; no probe is put in before a process is followed. The ring has `ring_size` bytes,
    /// a power of two. Called within a runtime, it asks NCCL for its own account, too.
    ///
    /// The programs are loaded meanwhile: where the kernel refuses them, [`Watched::watching`] says so.
    ///
    /// # Errors
    ///
    /// [`AgentError::Unavailable`] where `config` says not to, [`AgentError::Io`] where no thread can be
    /// made.
    pub fn start(config: &GpuConfig, ring_size: u32) -> Result<Self, AgentError> {
        if config.trace == TraceMode::Off {
            let reason = "calls to CUDA and NCCL are not watched: --gpu-trace is off".into();
            return Err(AgentError::Unavailable { reason });
        }
        let options = GpuOptions { ring_size, ..GpuOptions::default() };
        let proc = config.roots.proc.clone();
        let state = State::new(proc.clone(), config.leak_window, Clock::system());
        let state = Arc::new(Mutex::new(state));
        Ok(Self {
            tap: Tap::start(options, config, Arc::clone(&state))?,
            state,
            names: Names::start(proc.clone()),
            asker: Asker::start(proc, config.ras_port),
            budget: config.trace_budget,
        })
    }

    /// Says which processes use or hold a device, by their numbers outside of all containers: their
    /// libraries are probed, others' are not. Takes effect within a second.
    pub fn follow(&mut self, pids: &[u32], _now: Instant) {
        self.tap.follow(pids);
    }

    /// Ends an interval, and returns what was seen in it. `who` says whose a process is; it is asked for
    /// each of them, with nothing but the state of this watch locked.
    pub fn collect(&mut self, now: Instant, who: &mut dyn FnMut(u32) -> Process) -> Watched {
        let report = self.tap.report(now);
        let coverage = |pid: u32| {
            let covers = report.coverage.get(&pid).cloned().unwrap_or_default();
            Coverage { libraries: covers.libraries, sampled: Vec::new(), missing: covers.missing }
        };
        self.names.take_in();
        let (activity, events) = {
            let mut state = lock(&self.state);
            self.asker.step(now, state.live());
            state.collect(now, &mut self.names, &coverage, who)
        };
        self.names.ask();
        let mut problems = report.problems;
        problems.extend(self.names.problem());
        let watched = report.coverage.values().filter(|covers| !covers.libraries.is_empty());
        let processes = u32::try_from(watched.count()).unwrap_or(u32::MAX);
        let watching = Watching {
            is_on: report.is_on,
            problems,
            processes,
            probes: report.probes,
            expensive: report.expensive,
            cost: report.cost,
            budget: self.budget,
            lost: report.lost,
            ring: report.ring,
            map_bytes: report.map_bytes,
            programs: report.runs,
        };
        Watched { activity, events, watching }
    }
}
