//! Accelerators: the collector on a thread of its own, and what status says of it.
//!
//! ```text
//! thread `gpu`: Collector ──Beat──▶ GpuSource ──▶ StatusBoard
//!                  └─▶ board, pipeline
//! ```
//! The thread has a runtime of its own, so that a driver's call which does not return holds up nothing
//! else. A collector that is not heard of in time is told as hanging.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::AgentError;
use crate::event::{Signal, UnixNanos};
use crate::gpu::collector::{Beat, Collector};
use crate::gpu::config::{GpuConfig, SourceSelection};
use crate::gpu::device::SourceKind;
use crate::gpu::view::{Board, SourceHealth, View, Watching};
use crate::pipeline::SharedPipeline;
use crate::status::{BpfRun, SourceStatus, StatusBoard};

/// Of the thread, for who looks with `ps -L`.
const THREAD: &str = "gpu";
/// What the first look at all devices may take, their drivers' start included.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// A reading that is so much later than it should be does not come any more.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// For how long the end is waited for: a driver's call may never return.
const GOODBYE: Duration = Duration::from_secs(1);

/// A driver tells for a moment of a process that has ended. One that it tells of for longer is there, and
/// not in `/proc`.
const STRANGE: Duration = Duration::from_secs(10);

/// What settings ask for by name: that is missed where it is not there.
#[derive(Clone, Debug)]
struct Asked {
    sources: SourceSelection,
    kubelet: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub struct GpuSource {
    beat: watch::Receiver<Beat>,
    asked: Asked,
    strangers: Strangers,
    status: StatusBoard,
    told: SourceStatus,
    cancel: CancellationToken,
}

impl GpuSource {
    /// Starts to read, and waits for the first look, a few seconds at most. Call it within a runtime.
    ///
    /// # Errors
    /// [`AgentError::Io`] when the thread cannot be made.
    pub async fn start(
        config: &GpuConfig,
        pipeline: SharedPipeline,
        board: Board,
        status: StatusBoard,
        cancel: CancellationToken,
    ) -> Result<Self, AgentError> {
        let (sender, mut beat) =
            watch::channel(Beat { next: Instant::now() + FIRST_LOOK, view: None });
        let (ours, stop) = (config.clone(), cancel.clone());
        thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || collect(&ours, pipeline, board, stop, sender))
            .map_err(AgentError::io("start the thread that reads accelerators"))?;
        // One that takes longer is told of when it is done.
        let _ = tokio::time::timeout(FIRST_LOOK, beat.changed()).await;
        let asked =
            Asked { sources: config.sources.clone(), kubelet: config.pod_resources.is_some() };
        let told = status_of(beat.borrow_and_update().view.as_deref(), &asked);
        Ok(Self { beat, asked, strangers: Strangers::default(), status, told, cancel })
    }

    /// Returns what there is to say of it by now.
    #[must_use]
    pub const fn status(&self) -> &SourceStatus {
        &self.told
    }

    /// Tells how it does, until it ends or is cancelled.
    pub async fn run(mut self) {
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = self.cancel.cancelled() => break,
                changed = self.beat.changed() => {
                    if changed.is_err() {
                        return self.end();
                    }
                    let view = self.beat.borrow_and_update().view.clone();
                    if let Some(view) = &view {
                        self.tell_cost(&view.watching);
                    }
                    let mut status = status_of(view.as_deref(), &self.asked);
                    let strangers = view.as_deref().and_then(|view| self.strangers.look(view));
                    status.missing.extend(strangers);
                    self.tell(status);
                }
                _ = look.tick() => self.look(Instant::now()),
            }
        }
        let ended = async { while self.beat.changed().await.is_ok() {} };
        if tokio::time::timeout(GOODBYE, ended).await.is_err() {
            tracing::warn!("a driver's call does not return; its thread is left behind");
        }
    }

    /// Says that nothing will be read any more, where nobody asked for that.
    fn end(&mut self) {
        if self.cancel.is_cancelled() {
            return;
        }
        tracing::error!("the thread that reads accelerators ended");
        let reason =
            "reading accelerators ended by an error of orb8's own, see its log; restart the agent";
        self.tell(SourceStatus::skipped(Signal::Gpu, reason.to_owned()));
    }

    /// Says so where a reading has not come.
    fn look(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.beat.borrow().next);
        if late >= PATIENCE {
            let reason = format!(
                "reading accelerators hangs for {} s: a driver does not return, see the kernel's log",
                late.as_secs()
            );
            self.tell(SourceStatus::skipped(Signal::Gpu, reason));
        }
    }

    /// Tells what the programs take, and how full their ring was.
    fn tell_cost(&self, watching: &Watching) {
        let Watching { ring, map_bytes, programs, .. } = watching;
        self.status.update(|status| {
            if let Some(ring) = ring {
                status.set_ring(ring.clone());
            }
            status.map_bytes.set(Signal::Gpu, *map_bytes);
            status.bpf_run.set(Signal::Gpu, BpfRun::sum(programs));
            status.set_programs(programs.clone());
        });
    }

    fn tell(&mut self, status: SourceStatus) {
        if status == self.told {
            return;
        }
        // What lasts longer with each reading is logged once.
        if without_numbers(&status) != without_numbers(&self.told) {
            tracing::info!(state = ?status.state, missing = ?status.missing, "accelerators");
        }
        self.told = status.clone();
        self.status.update(|board| board.set_source(status));
    }
}

/// Processes on devices that are not in `/proc`, and since when.
#[derive(Debug, Default)]
struct Strangers(BTreeMap<u32, UnixNanos>);

impl Strangers {
    /// Looks who they are now, and says what to do where they stay.
    fn look(&mut self, view: &View) -> Option<String> {
        let before = std::mem::take(&mut self.0);
        let since = |pid| before.get(&pid).copied().unwrap_or(view.time);
        self.0 = view.strangers().map(|pid| (pid, since(pid))).collect();
        let stays = |since: &&UnixNanos| {
            Duration::from_nanos(view.time.0.saturating_sub(since.0)) >= STRANGE
        };
        let count = self.0.values().filter(stays).count();
        (count > 0).then(|| {
            format!(
                "processes: {count} of those on devices are not in /proc, and nobody knows whose they \
                 are: run the agent in the host's PID namespace (hostPID)"
            )
        })
    }
}

fn without_numbers(status: &SourceStatus) -> String {
    let text = format!("{:?} {:?}", status.state, status.missing);
    text.split(|at: char| at.is_ascii_digit()).collect()
}

/// What the thread does.
fn collect(
    config: &GpuConfig,
    pipeline: SharedPipeline,
    board: Board,
    cancel: CancellationToken,
    beat: watch::Sender<Beat>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "accelerators cannot be read"),
    };
    runtime.block_on(async {
        let mut collector = Collector::new(config, pipeline, board, cancel);
        collector.add_all();
        collector.run(beat).await;
    });
    // Work that was left behind must not hold up the end.
    runtime.shutdown_background();
}

/// Returns what status says: it runs where any source knows a device.
fn status_of(view: Option<&View>, asked: &Asked) -> SourceStatus {
    let Some(view) = view else {
        let reason =
            "the first look at accelerators has not ended: a driver starts slowly or hangs";
        return SourceStatus::skipped(Signal::Gpu, reason.to_owned());
    };
    let reason = |health: &SourceHealth| {
        let problem = health.problem.as_ref()?;
        Some(format!("{}: {problem}", health.kind.word()))
    };
    if view.devices.is_empty() {
        let reasons: Vec<String> = view.sources.iter().filter_map(reason).collect();
        let reason = match reasons.is_empty() {
            true => "no accelerators here".to_owned(),
            false => format!("no accelerators here: {}", reasons.join("; ")),
        };
        // What is there and cannot be read is a fault; what is not there is none.
        let has_failed = view.sources.iter().any(|health| health.failures > 0);
        return match has_failed {
            true => SourceStatus::skipped(Signal::Gpu, reason),
            false => SourceStatus::absent(Signal::Gpu, reason),
        };
    }
    // One that is simply not there is missed by nobody who did not ask for it.
    let is_missed = |health: &&SourceHealth| {
        health.devices > 0 || health.failures > 0 || is_asked(&asked.sources, health.kind)
    };
    let sources = view.sources.iter().filter(is_missed).filter_map(reason);
    let holders = view
        .holders
        .problem
        .iter()
        .filter(|_| asked.kubelet)
        .map(|problem| format!("holders: {problem}"));
    let unmatched = Some(&view.holders.unmatched).filter(|ids| !ids.is_empty()).map(|ids| {
        format!("holders: given, and not among the devices that are read: {}", ids.join(", "))
    });
    let lacking = view.sources.iter().filter_map(|health| {
        let lacks = health.lacks.as_ref()?;
        Some(format!("{}: asked for and not told: {lacks}", health.kind.word()))
    });
    let watching = view.watching.problems.iter().map(|problem| format!("calls: {problem}"));
    let missing = sources.chain(lacking).chain(holders).chain(unmatched).chain(watching);
    SourceStatus::running(Signal::Gpu, missing.collect())
}

fn is_asked(selection: &SourceSelection, kind: SourceKind) -> bool {
    matches!(selection, SourceSelection::Only(kinds) if kinds.contains(&kind))
}

#[cfg(test)]
mod tests;
