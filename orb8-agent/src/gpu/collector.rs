//! The loop that reads all sources, finds whose devices are, and tells what changed.
//!
//! ```text
//! each interval: ask sources ─(bounded)─▶ core ─▶ View ─▶ board
//!                kubelet's last word ────┘  └──▶ events ─▶ pipeline
//!                who is on devices ◀────────┘ ─▶ sources and probes that follow processes
//! ```
//! It runs on a thread of its own: a driver that hangs takes nothing of the network's telemetry along.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::amd::AmdSource;
use super::config::GpuConfig;
use super::dcgm::DcgmSource;
use super::device::{SourceKind, Vendor};
use super::drm::DrmSource;
use super::event::GpuEvent;
use super::kubelet::{Holders, Kubelet, Listing};
use super::names;
use super::neuron::NeuronSource;
use super::nvml::NvmlSource;
use super::processes::{Processes, Who};
use super::share::Owner;
use super::source::Source;
use super::tpu::TpuSource;
use super::view::{Board, View};
use crate::clock::Clock;
use crate::event::{Event, Loss, Payload, Signal, UnixNanos};
use crate::gpu::cuda::Watched;
use crate::pipeline::{self, SharedPipeline};
use calls::Calls;
use worker::{Pids, Worker};

mod calls;
mod core;
mod holdings;
mod merge;
mod told;
mod worker;

#[cfg(test)]
mod tests;

pub use core::{Answer, Core, News, Outcome, Step};

/// Sources answer within a second, and the interval is at least one: what is later is told as late.
const ANSWER: Duration = Duration::from_millis(900);
/// The first time, libraries are opened and drivers wake up their devices.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
/// Where no source has a device, nothing changes more often.
const REST: Duration = Duration::from_secs(30);
/// Events that are handed over while the pipeline is locked.
const PIECE: usize = 256;

/// What the collector tells of itself.
#[derive(Clone, Debug)]
pub struct Beat {
    /// When the next one is due.
    pub next: Instant,
    /// The state of all devices, `None` before the first.
    pub view: Option<Arc<View>>,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Collector {
    config: GpuConfig,
    workers: Vec<Worker>,
    core: Core,
    processes: Processes,
    holders: Option<Holders>,
    calls: Calls,
    pipeline: SharedPipeline,
    board: Board,
    clock: Clock,
    /// Of containers that hold what a source has to look for in their network.
    followed: Pids,
    /// Records of calls that were lost until now.
    lost: u64,
    cancel: CancellationToken,
}

impl Collector {
    /// Makes one without sources. Call it within a runtime: it asks the kubelet from now on.
    #[must_use]
    pub fn new(
        config: &GpuConfig,
        pipeline: SharedPipeline,
        board: Board,
        cancel: CancellationToken,
    ) -> Self {
        let socket = config.pod_resources.clone();
        let holders = socket.map(|socket| Kubelet::new(socket).start(cancel.clone()));
        let proc = config.roots.proc.clone();
        Self {
            config: config.clone(),
            workers: Vec::new(),
            core: Core::new(config),
            processes: Processes::new(proc, Arc::clone(&pipeline), Instant::now()),
            holders,
            calls: Calls::new(config),
            pipeline,
            board,
            clock: Clock::system(),
            followed: Arc::default(),
            lost: 0,
            cancel,
        }
    }

    /// Adds every source that is wanted.
    pub fn add_all(&mut self) {
        let config = self.config.clone();
        for kind in SourceKind::ALL.into_iter().filter(|kind| config.sources.includes(*kind)) {
            match kind {
                SourceKind::Nvml => self.add(NvmlSource::new(&config), unfollowed),
                SourceKind::Dcgm => self.add(DcgmSource::new(&config), unfollowed),
                SourceKind::Amd => self.add(AmdSource::new(&config), unfollowed),
                SourceKind::Drm => self.add(DrmSource::new(&config), unfollowed),
                SourceKind::Tpu => self.add(TpuSource::new(&config), TpuSource::follow),
                SourceKind::Neuron => self.add(NeuronSource::new(&config), unfollowed),
            }
        }
    }

    /// Adds a source. `follow` tells it of processes of containers that were given a device of its kind.
    pub fn add<S: Source + 'static>(&mut self, source: S, follow: fn(&mut S, &[u32])) {
        let (worker, work) = Worker::new(source, follow);
        tokio::spawn(work);
        self.workers.push(worker);
    }

    /// Reads until it is cancelled.
    pub async fn run(mut self, beat: watch::Sender<Beat>) {
        let mut answer = FIRST_ANSWER;
        while !self.cancel.is_cancelled() {
            let began = Instant::now();
            let Some(view) = self.cancel.clone().run_until_cancelled(self.round(answer)).await
            else {
                return;
            };
            answer = ANSWER;
            let next = self.next(&view, began);
            beat.send_replace(Beat { next, view: Some(view) });
            let sleep = tokio::time::sleep_until(next.into());
            if self.cancel.run_until_cancelled(sleep).await.is_none() {
                return;
            }
        }
    }

    /// Reads once: asks everyone, waits for the answers no longer than that, and tells what came of it.
    pub async fn round(&mut self, answer: Duration) -> Arc<View> {
        let asked = Instant::now();
        let until = tokio::time::Instant::now() + answer;
        let mut answers = Vec::new();
        let pids = Arc::clone(&self.followed);
        // All of them before the first is waited for: they read at the same time.
        for worker in &mut self.workers {
            worker.ask(&pids, asked);
        }
        for worker in self.workers.iter_mut().filter(|worker| worker.is_asked()) {
            answers.push(worker.answer(until).await);
        }
        let now = Instant::now();
        self.processes.begin(now);
        let listing = self.holders.as_ref().map_or_else(unasked, Holders::listing);
        let mut who = |pid| self.processes.process(pid);
        let Watched { activity, events, watching } = self.calls.collect(now, &mut who);
        let lost = watching.lost;
        let news = News { answers, listing, activity, events, watching };
        self.clock.sync();
        let time = self.clock.now();
        let Step { view, events, unheld, holders } =
            self.core.step((now, time), news, &mut self.processes);
        if let (Some(pod), Some(asked)) = (unheld, &self.holders) {
            asked.want(pod);
        }
        self.follow(&view, &holders, now);
        self.tell(events);
        self.tell_lost(lost, time);
        self.board.put(view);
        self.board.read()
    }

    /// Returns when to read next: not each interval where no source has anything.
    fn next(&self, view: &View, began: Instant) -> Instant {
        let next = began + self.config.interval;
        if !view.devices.is_empty() || self.workers.iter().any(Worker::is_asked) {
            return next.max(Instant::now());
        }
        let due = self.workers.iter().map(|worker| worker.due().unwrap_or(next)).min();
        due.unwrap_or(began + REST).clamp(next, began + REST)
    }

    /// Follows the processes of containers that hold devices, whether they use them yet or not.
    fn follow(&mut self, view: &View, holders: &[(Owner, String)], now: Instant) {
        let (mut all, mut asked) = (Vec::new(), Vec::new());
        for (owner, resource) in holders {
            let Some(workload) = &owner.workload else { continue };
            let pids = self.processes.of_container(workload);
            // Only within its network does libtpu tell anything.
            if names::vendor_of(resource) == Some(Vendor::Google) {
                asked.extend_from_slice(&pids);
            }
            all.extend(pids);
        }
        self.followed = asked.into();
        self.calls.follow(view, &all, now);
    }

    fn tell(&self, events: Vec<GpuEvent>) {
        let mut batch = Vec::with_capacity(events.len().min(PIECE));
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            batch.extend(events.by_ref().take(PIECE).map(|event| Event {
                time: event.time,
                subject: None,
                payload: Payload::Gpu(Box::new(event)),
            }));
            pipeline::lock(&self.pipeline).ingest(&mut batch);
        }
    }

    /// Says in the stream of events how many of them are missing.
    fn tell_lost(&mut self, lost: u64, time: UnixNanos) {
        let moments = lost.saturating_sub(std::mem::replace(&mut self.lost, lost));
        if moments > 0 {
            let loss = Loss { signal: Signal::Gpu, moments, ..Loss::default() };
            let mut batch = vec![Event { time, subject: None, payload: Payload::Loss(loss) }];
            pipeline::lock(&self.pipeline).ingest(&mut batch);
        }
    }
}

/// Most sources find processes themselves.
const fn unfollowed<S>(_: &mut S, _: &[u32]) {}

/// What is known where the kubelet is not asked.
fn unasked() -> Listing {
    let problem = "who holds devices is not asked (--gpu-pod-resources is off)".to_owned();
    Listing { problem: Some(problem), is_off: true, ..Listing::default() }
}
