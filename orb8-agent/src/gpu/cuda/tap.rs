//! The thread that puts probes in and out, and reads what they tell.
//!
//! ```text
//! pids ──▶ libraries ──▶ probes ◀── windows ◀── governor
//!                          └─▶ ring, counters ──▶ state          └── what it costs
//! ```
//! Reading a process's files and taking probes out can take long: whoever collects only looks at the
//! state.

mod report;

use std::hash::{BuildHasher, RandomState};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use orb8_common::gpu::{Counter, Record};

use super::attach::Attachments;
use super::counters::{Load, Look};
use super::governor::{GROUPS, Governor, Group, PerGroup};
use super::state::{State, Table};
use super::windows::Windows;
use crate::ebpf::{EbpfError, GpuObject, GpuOptions, GpuSums, RingReader};
use crate::error::{AgentError, chain};
use crate::event::Signal;
use crate::gpu::config::{GpuConfig, Roots};
use crate::status::RingStatus;
use report::{Report, gaps};

/// Between two reads of the ring: what comes meanwhile has room in it.
const REST: Duration = Duration::from_millis(100);
/// The same while nothing is attached.
const LONG_REST: Duration = Duration::from_millis(500);
/// Between two looks at the counters and at who is there.
const LOOK: Duration = Duration::from_millis(500);
/// Of three hits by allocations, two tell of memory: a call's return, and what gives it back.
const TOLD_PART: f64 = 2.0 / 3.0;
/// The thread is told as stuck when it was not heard of for so long.
const STUCK: Duration = Duration::from_secs(15);

/// The state that the thread writes and the collector reads.
pub(super) type SharedState = Arc<Mutex<State>>;

/// The running thread. It ends when this is dropped, and takes the probes out.
#[derive(Debug)]
pub(super) struct Tap {
    followed: SyncSender<Vec<u32>>,
    report: Arc<Mutex<Report>>,
    thread: JoinHandle<()>,
}

struct Worker {
    followed: Receiver<Vec<u32>>,
    pids: Vec<u32>,
    attachments: Attachments,
    sums: GpuSums,
    ring: RingReader,
    /// Records that were read of it, and how full it was at most since that was told.
    records: u64,
    fullest: usize,
    state: SharedState,
    report: Arc<Mutex<Report>>,
    governor: Governor,
    windows: Windows,
    is_on: PerGroup<bool>,
    last_look: Instant,
    last_count: Instant,
    watched: PerGroup<Duration>,
    next_rest: Instant,
    table: Table,
    /// What telling of memory takes, seconds.
    telling: f64,
    unknown: u64,
    problem: Option<String>,
}

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tap {
    /// Starts the thread, which loads the programs first: that takes some tenths of a second.
    ///
    /// # Errors
    /// [`AgentError::Io`] when no thread can be made.
    pub(super) fn start(
        options: GpuOptions,
        config: &GpuConfig,
        state: SharedState,
    ) -> Result<Self, AgentError> {
        // What does not fit is sent again in the next interval.
        let (sender, followed) = sync_channel(1);
        let report = Arc::new(Mutex::new(Report::new(Instant::now())));
        let shared = Arc::clone(&report);
        let (roots, budget) = (config.roots.clone(), config.trace_budget);
        let run = move || match GpuObject::load(&options) {
            Ok(object) => Worker::new(object, &roots, budget, followed, state, shared).run(),
            Err(error) => lock(&shared).refuse(&error),
        };
        let thread = thread::Builder::new().name("gpu-probes".into()).spawn(run);
        let thread = thread.map_err(AgentError::io("start the thread that watches CUDA"))?;
        Ok(Self { followed: sender, report, thread })
    }

    /// Says which processes' libraries are to be probed.
    pub(super) fn follow(&self, pids: &[u32]) {
        // Full while the thread is busy: asked again in the next interval.
        let _ = self.followed.try_send(pids.to_vec());
    }

    /// How it does. The fullest state of the ring is that since the call before.
    pub(super) fn report(&self, now: Instant) -> Report {
        let mut shared = lock(&self.report);
        let mut report = shared.clone();
        if let Some(ring) = &mut shared.ring {
            ring.utilization = 0.0;
        }
        drop(shared);
        if !report.is_on {
            return report;
        }
        if self.thread.is_finished() {
            report.is_on = false;
            report.problems.push(
                "watching ended by an error of orb8's own, see its log; restart the agent".into(),
            );
        } else if now.saturating_duration_since(report.time) > STUCK {
            report.problems.push(
                "putting probes in or out has not returned for 15 s: figures stand still; the kernel's \
                 log may say why"
                    .into(),
            );
        }
        report
    }
}

impl Worker {
    fn new(
        object: GpuObject,
        roots: &Roots,
        budget: f64,
        followed: Receiver<Vec<u32>>,
        state: SharedState,
        report: Arc<Mutex<Report>>,
    ) -> Self {
        let GpuObject { probes, sums, ring } = object;
        let attachments = Attachments::new(probes, roots);
        let now = Instant::now();
        // Any does, as long as two agents do not look at one job at the same moments.
        let seed = RandomState::new().hash_one(std::process::id());
        Self {
            followed,
            pids: Vec::new(),
            attachments,
            sums,
            ring,
            records: 0,
            fullest: 0,
            state,
            report,
            governor: Governor::new(budget),
            windows: Windows::new(now, seed),
            is_on: [true; GROUPS],
            last_look: now,
            last_count: now,
            watched: [Duration::ZERO; GROUPS],
            next_rest: now,
            table: Table::default(),
            telling: 0.0,
            unknown: 0,
            problem: None,
        }
    }

    fn run(mut self) {
        let now = Instant::now();
        for group in Group::ALL {
            self.windows.began(group, now);
        }
        loop {
            let now = Instant::now();
            let next = self.windows.next().map_or(self.next_rest, |next| next.min(self.next_rest));
            match self.followed.recv_timeout(next.saturating_duration_since(now)) {
                Ok(pids) => self.pids = pids,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.switch();
            let now = Instant::now();
            if now >= self.next_rest {
                self.read_ring();
                if now.saturating_duration_since(self.last_look) >= LOOK {
                    self.look(now);
                }
                let rest = if self.attachments.probes() == 0 { LONG_REST } else { REST };
                self.next_rest = Instant::now() + rest;
            }
        }
    }

    /// Puts probes in and out as the windows have it. Counters are looked at when a window begins and
    /// when it ends, so that what came meanwhile is not taken for what came in it.
    fn switch(&mut self) {
        self.windows.step(Instant::now());
        // First those that go: they cost as long as they are there.
        for is_on in [false, true] {
            for group in Group::ALL {
                if self.is_on[group as usize] == is_on || self.windows.is_on(group) != is_on {
                    continue;
                }
                self.is_on[group as usize] = is_on;
                if is_on {
                    self.attachments.set(group, true);
                    let now = self.count();
                    self.windows.began(group, now);
                } else {
                    let now = self.count();
                    self.windows.ended(group, now);
                    self.attachments.set(group, false);
                }
            }
        }
    }

    fn read_ring(&mut self) {
        let has_ended = {
            let mut state = lock(&self.state);
            let now = Instant::now();
            state.sync();
            let bytes = self.ring.read(|bytes| {
                self.records += 1;
                match Record::read(bytes) {
                    Some(record) => state.take(&record, now),
                    None => self.unknown += 1,
                }
            });
            self.fullest = self.fullest.max(bytes);
            state.has_ended_communicators()
        };
        if has_ended {
            self.forget_communicators();
        }
    }

    /// Takes in what was called in communicators that ended, before others have their addresses.
    fn forget_communicators(&mut self) {
        self.count();
        let ended = lock(&self.state).ended_communicators();
        let forgotten = ended
            .iter()
            .try_for_each(|(pid, communicator)| self.sums.forget_communicator(*pid, *communicator));
        self.problem = self.problem.take().or(forgotten.err().map(|error| chain(&error)));
    }

    /// Takes in what was counted until now. Returns when that was.
    fn count(&mut self) -> Instant {
        let read = self.read_sums();
        let now = Instant::now();
        let watched = self.windows.watched(now);
        let look = Look {
            elapsed: now.saturating_duration_since(self.last_count),
            watched: std::array::from_fn(|i| watched[i].saturating_sub(self.watched[i])),
            costs: self.costs(),
        };
        (self.last_count, self.watched) = (now, watched);
        lock(&self.state).look(&self.table, &look, now);
        self.problem = read.err().map(|error| chain(&error));
        now
    }

    /// Looks at processes, takes in what they did, and plans.
    fn look(&mut self, now: Instant) {
        self.last_look = now;
        self.attachments.follow(&self.pids, now);
        let gone = lock(&self.state).gone();
        // What they did last.
        self.read_ring();
        let now = self.count();
        let (loads, spare) = {
            let mut state = lock(&self.state);
            state.end(&gone, now);
            (state.loads(), state.spare())
        };
        let forgotten = gone.iter().try_for_each(|pid| self.sums.forget(*pid).map(drop));
        self.problem = self.problem.take().or(forgotten.err().map(|error| chain(&error)));
        self.time_telling();
        let cost = self.plan(&loads, spare);
        self.tell(now, cost);
    }

    fn read_sums(&mut self) -> Result<(), EbpfError> {
        let Table { processes, collectives } = &mut self.table;
        processes.clear();
        collectives.clear();
        self.sums.processes(|tgid, process| processes.push((tgid, *process)))?;
        self.sums.collectives(|key, counted| collectives.push((key, *counted)))
    }

    /// Plans what is watched in part. Returns what watching costs the busiest thread now.
    fn plan(&mut self, loads: &[Load], spare: Option<Group>) -> Option<f64> {
        let costs = self.costs();
        // Of each group the busiest thread's: no thread loses more than that.
        let full: PerGroup<f64> = std::array::from_fn(|i| {
            loads.iter().map(|load| load.full[i] * costs[i]).fold(0.0, f64::max)
        });
        let waiting = self.attachments.waiting_groups();
        let in_doubt = Group::ALL.into_iter().filter(|group| waiting[*group as usize]);
        let mut changes = Vec::from_iter(in_doubt.filter_map(|group| self.governor.doubt(group)));
        changes.extend(self.governor.step(&full, spare));
        let parts = self.governor.parts();
        self.windows.set(Instant::now(), parts);
        lock(&self.state).plan(parts, &changes);
        let now = |load: &Load| {
            let seen = (0..GROUPS).map(|i| load.full[i] * parts[i]);
            let (hits, cost) = seen
                .zip(costs)
                .fold((0.0, 0.0), |(hits, cost), (seen, each)| (hits + seen, cost + seen * each));
            if hits > 0.0 { load.hits * cost / hits } else { 0.0 }
        };
        loads.iter().map(now).reduce(f64::max)
    }

    /// What a hit costs, seconds.
    fn costs(&self) -> PerGroup<f64> {
        let costs = self.attachments.costs();
        let cheap = costs.cheap.max(costs.at_return);
        let mut costs = self.attachments.expensive_groups().map(|is_expensive| {
            if is_expensive { costs.stepped.max(cheap) } else { cheap }.as_secs_f64()
        });
        costs[Group::Allocations as usize] += self.telling * TOLD_PART;
        costs
    }

    /// Takes in how long programs took to tell of memory.
    fn time_telling(&mut self) {
        let Ok(counters) = self.sums.counters() else { return };
        let told = counters[Counter::MemoryTold as usize];
        if told > 0 {
            let nanos = counters[Counter::MemoryToldNs as usize];
            self.telling = nanos as f64 / told as f64 * 1e-9;
        }
    }

    fn tell(&mut self, now: Instant, cost: Option<f64>) {
        let mut problems = self.attachments.problems();
        problems.extend(self.problem.clone());
        let counters = self.sums.counters().unwrap_or_default();
        problems.extend(gaps(&counters));
        if self.unknown > 0 {
            problems.push(format!("{} records of a kind that is not known", self.unknown));
        }
        let ring = self.ring_status(counters[Counter::Lost as usize]);
        let coverage = self.pids.iter().map(|pid| (*pid, self.attachments.coverage(*pid)));
        let report = Report {
            time: now,
            is_on: true,
            probes: self.attachments.probes(),
            expensive: self.attachments.expensive(),
            cost,
            lost: counters[Counter::Lost as usize] + lock(&self.state).lost(),
            ring: Some(ring),
            problems,
            coverage: coverage.collect(),
            runs: self.attachments.run_times(),
            map_bytes: self.sums.map_bytes(),
        };
        *lock(&self.report) = report;
    }

    fn ring_status(&mut self, drops: u64) -> RingStatus {
        let size = self.ring.size();
        let fullest = std::mem::take(&mut self.fullest) as f64 / size as f64;
        // What was told before may not have been taken up.
        let before = lock(&self.report).ring.as_ref().map_or(0.0, |ring| ring.utilization);
        RingStatus {
            probe: Signal::Gpu.name(),
            size_bytes: size as u64,
            events: self.records,
            drops,
            utilization: fullest.max(before).min(1.0),
        }
    }
}
