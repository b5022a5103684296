//! Watching calls to CUDA: begun when there is a device that CUDA runs on, and followed by who is on it.

use std::time::Instant;

use crate::error::chain;
use crate::gpu::config::{GpuConfig, TraceMode};
use crate::gpu::cuda::{CudaWatch, Watched};
use crate::gpu::device::Vendor;
use crate::gpu::event::Process;
use crate::gpu::view::{View, Watching};

/// Bytes of the ring. Calls are counted in the kernel; what goes through the ring is rare, and a
/// training's start has a few thousand of it at once.
const RING: u32 = 1 << 20;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Calls {
    config: GpuConfig,
    state: State,
}

#[derive(Debug)]
enum State {
    /// There was no device yet.
    Waiting,
    On(Box<CudaWatch>),
    /// It cannot be watched, and why.
    Off(Option<String>),
}

impl Calls {
    pub(super) fn new(config: &GpuConfig) -> Self {
        let state = match config.trace {
            TraceMode::Auto => State::Waiting,
            TraceMode::Off => State::Off(None),
        };
        Self { config: config.clone(), state }
    }

    /// Takes in what was seen since the last time.
    pub(super) fn collect(&mut self, now: Instant, who: &mut dyn FnMut(u32) -> Process) -> Watched {
        match &mut self.state {
            State::On(watch) => watch.collect(now, who),
            State::Waiting => Watched::default(),
            State::Off(problem) => {
                let problems = problem.iter().cloned().collect();
                Watched {
                    watching: Watching { problems, ..Watching::default() },
                    ..Watched::default()
                }
            }
        }
    }

    /// Follows who uses or holds devices now; `holders` lists processes of containers that hold some.
    pub(super) fn follow(&mut self, view: &View, holders: &[u32], now: Instant) {
        let has_cuda = |view: &View| {
            view.devices.iter().any(|device| device.seen.device.vendor == Vendor::Nvidia)
        };
        if matches!(self.state, State::Waiting) && has_cuda(view) {
            self.state = match CudaWatch::start(&self.config, RING) {
                Ok(watch) => State::On(Box::new(watch)),
                Err(error) => {
                    let problem = chain(&error);
                    tracing::warn!(problem, "calls to CUDA are not watched");
                    State::Off(Some(problem))
                }
            };
        }
        let State::On(watch) = &mut self.state else { return };
        let users = view.processes.iter().map(|process| process.uses.pid);
        let mut pids: Vec<u32> = users.chain(holders.iter().copied()).collect();
        pids.sort_unstable();
        pids.dedup();
        watch.follow(&pids, now);
    }
}
