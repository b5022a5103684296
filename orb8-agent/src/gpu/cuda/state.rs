//! All watched processes: records and counters in, activity and events out.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use orb8_common::gpu::{Collectives, CollectivesKey, Process as Counters, Record};

use super::counters::{Load, Look};
use super::governor::{Change, Group, PerGroup};
use super::memory::Room;
use super::nccl::{Counted, Lags, Member, Parts};
use super::process::{ProcessKey, Watched, start_time};
use super::stacks::Names;
use crate::clock::Clock;
use crate::event::UnixNanos;
use crate::gpu::activity::{Coverage, ProcessActivity};
use crate::gpu::event::{GpuEvent, GpuEventKind, Process};
use crate::gpu::share::Owner;

/// Processes that are watched at one time, as many as the kernel counts.
const MAX_PROCESSES: usize = orb8_common::gpu::PROCESSES;
/// Processes that ended and are still told.
const MAX_ENDED: usize = 256;
/// For how long they are.
const KEEP: Duration = Duration::from_mins(1);
/// Events between two collections.
const MAX_EVENTS: usize = 4_096;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct State {
    proc: PathBuf,
    leak_window: Duration,
    clock: Clock,
    live: HashMap<u32, Watched>,
    ended: VecDeque<Watched>,
    room: Room,
    events: Vec<Happened>,
    lags: Lags,
    parts: PerGroup<f64>,
    /// Events and records for which there was no room here.
    lost: u64,
}

/// An event before it is known who did it.
#[derive(Debug)]
struct Happened {
    time: UnixNanos,
    /// `None` of what is no process's.
    process: Option<ProcessKey>,
    kind: GpuEventKind,
}

/// The kernel's counters at one time.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub processes: Vec<(u32, Counters)>,
    pub collectives: Vec<(CollectivesKey, Collectives)>,
}

impl State {
    pub(super) fn new(proc: PathBuf, leak_window: Duration, clock: Clock) -> Self {
        Self {
            proc,
            leak_window,
            clock,
            live: HashMap::new(),
            ended: VecDeque::new(),
            room: Room::new(),
            events: Vec::new(),
            lags: Lags::default(),
            parts: [1.0; _],
            lost: 0,
        }
    }

    /// Takes the difference between the kernel's clock and Unix time anew.
    pub(super) fn sync(&mut self) {
        self.clock.sync();
    }

    /// Takes in a record of the ring.
    pub(super) fn take(&mut self, record: &Record, now: Instant) {
        let (tgid, time_ns) = match record {
            Record::Call(call) => (call.tgid, call.time_ns),
            Record::Communicator(call) => (call.tgid, call.time_ns),
            Record::Seen(seen) => (seen.tgid, seen.time_ns),
            // Told with the call that comes after it.
            Record::Stack(stack) => (stack.tgid, self.clock.monotonic_ns()),
        };
        let time = self.clock.unix(time_ns);
        let is_whole = self.parts[Group::Allocations as usize] >= 1.0;
        let Some(process) = Self::process(&self.proc, self.leak_window, &mut self.live, tgid, time)
        else {
            self.lost += 1;
            return;
        };
        let key = process.key;
        let event = match record {
            Record::Call(call) => process.call(call, time, now, is_whole, &mut self.room),
            Record::Communicator(call) => process.communicator(call, time, now),
            Record::Seen(seen) => {
                process.call_it(&seen.name);
                None
            }
            Record::Stack(stack) => {
                process.remember(stack);
                None
            }
        };
        if let Some(kind) = event {
            self.note(time, Some(key), kind);
        }
    }

    /// Takes in the kernel's counters.
    pub(super) fn look(&mut self, table: &Table, look: &Look, now: Instant) {
        let time = self.clock.now();
        let mut calls: HashMap<u32, u64> = HashMap::new();
        for (key, counted) in &table.collectives {
            *calls.entry(key.tgid).or_default() += counted.count;
        }
        for (tgid, counters) in &table.processes {
            let first = self.clock.unix(counters.first_ns);
            let process = Self::process(&self.proc, self.leak_window, &mut self.live, *tgid, first);
            let Some(process) = process else { continue };
            let collectives = calls.get(tgid).copied().unwrap_or(0);
            process.count(counters, collectives, look, time);
        }
        let watched = look.watched[Group::Collectives as usize];
        for (key, counted) in &table.collectives {
            let Some(process) = self.live.get_mut(&key.tgid) else { continue };
            let Collectives { count, bytes, unsized_count, last_ns } = *counted;
            let last = self.clock.unix(last_ns);
            let counted = Counted { count, bytes, unsized_count };
            let time = (watched, look.elapsed);
            process.communicators.count(key.communicator, key.kind, counted, last, time, now);
        }
    }

    /// Returns the watched processes that are gone. What they did until now may still be in the ring.
    pub(super) fn gone(&self) -> Vec<u32> {
        let is_gone = |process: &&Watched| {
            start_time(&self.proc.join(process.key.pid.to_string())) != Some(process.key.start)
        };
        self.live.values().filter(is_gone).map(|process| process.key.pid).collect()
    }

    /// Ends processes that are gone.
    pub(super) fn end(&mut self, pids: &[u32], now: Instant) {
        for pid in pids {
            let Some(mut process) = self.live.remove(pid) else { continue };
            process.end(now, &mut self.room);
            if self.ended.len() >= MAX_ENDED {
                self.ended.pop_front();
            }
            self.ended.push_back(process);
        }
    }

    /// Takes in what is watched in part from now on.
    pub(super) fn plan(&mut self, parts: PerGroup<f64>, changes: &[Change]) {
        let was_whole = self.parts[Group::Allocations as usize] >= 1.0;
        self.parts = parts;
        if was_whole != (parts[Group::Allocations as usize] >= 1.0) {
            for process in self.live.values_mut() {
                process.lose_track(&mut self.room);
            }
        }
        let time = self.clock.now();
        for Change { group, began, part } in changes {
            let what = group.word();
            self.note(time, None, GpuEventKind::Sampling { began: *began, what, part: *part });
        }
    }

    /// Each live process, for who asks NCCL.
    pub(super) fn live(&mut self) -> impl Iterator<Item = &mut Watched> {
        self.live.values_mut()
    }

    /// What each process's busiest thread does.
    pub(super) fn loads(&self) -> Vec<Load> {
        self.live.values().map(|process| *process.load()).collect()
    }

    /// What need not be watched since it is told otherwise: collectives, where NCCL tells of all.
    pub(super) fn spare(&self) -> Option<Group> {
        let mut users = self.live.values().filter(|process| process.communicators.is_used());
        let first = users.next()?;
        let is_answered = first.communicators.is_answered()
            && users.all(|process| process.communicators.is_answered());
        is_answered.then_some(Group::Collectives)
    }

    /// Whether communicators ended since the last time.
    pub(super) fn has_ended_communicators(&self) -> bool {
        self.live.values().any(|process| process.communicators.has_ended())
    }

    /// Communicators that ended since the last time, and whose counters are to be forgotten before
    /// another one has their address: process and address.
    pub(super) fn ended_communicators(&mut self) -> Vec<(u32, u64)> {
        let mut ended = Vec::new();
        for (pid, process) in &mut self.live {
            ended.extend(process.communicators.take_ended().map(|address| (*pid, address)));
        }
        ended
    }

    /// Records and events for which there was no room.
    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }

    /// Ends an interval: returns what each process did, and what happened.
    pub(super) fn collect(
        &mut self,
        now: Instant,
        names: &mut Names,
        coverage: &dyn Fn(u32) -> Coverage,
        who: &mut dyn FnMut(u32) -> Process,
    ) -> (Vec<ProcessActivity>, Vec<GpuEvent>) {
        let time = self.clock.now();
        self.number_parts(time);
        self.compare(now, time);
        let mut told = Vec::new();
        for process in self.live.values_mut().chain(&mut self.ended) {
            told.extend(process.step(now).into_iter().map(|kind| (process.key, kind)));
        }
        for (key, kind) in told {
            self.note(time, Some(key), kind);
        }
        let mut identities = HashMap::new();
        let sampled = self.sampled();
        let mut activity = Vec::with_capacity(self.live.len() + self.ended.len());
        for process in self.live.values_mut().chain(&mut self.ended) {
            let identity = process.identify(who);
            identities.insert(process.key, identity.clone());
            let mut covers = coverage(process.key.pid);
            covers.sampled = sampled.clone();
            let frames = &mut names.frames(process.key);
            activity.push(process.activity(identity, &self.lags, frames, covers));
        }
        // Those that were pushed out by others as well.
        names.retain(|key| identities.contains_key(&key));
        self.forget_ended(now);
        let events = std::mem::take(&mut self.events);
        (activity, events.into_iter().map(|event| event.finish(&identities)).collect())
    }

    /// Numbers processes in communicators that were split off, where all of the whole are known.
    fn number_parts(&mut self, time: UnixNanos) {
        let mut parts = Parts::new();
        for process in self.live.values().chain(&self.ended) {
            process.communicators.show_parts(process.key, &mut parts);
        }
        for number in parts.numbers() {
            let mut processes = self.live.values_mut().chain(&mut self.ended);
            let process = processes.find(|process| process.key == number.process);
            if let Some(event) = process.and_then(|it| it.communicators.number(&number)) {
                self.note(time, Some(number.process), event);
            }
        }
    }

    /// Compares the ranks of communicators, and tells who is behind.
    fn compare(&mut self, now: Instant, time: UnixNanos) {
        let mut members: HashMap<u64, Vec<(ProcessKey, Member)>> = HashMap::new();
        for process in self.live.values().chain(&self.ended) {
            for (hash, mut member) in process.communicators.members() {
                member.is_gone = process.ended.is_some();
                members.entry(hash).or_default().push((process.key, member));
            }
        }
        for straggler in self.lags.compare(&members, now) {
            self.note(time, straggler.process, straggler.event);
        }
    }

    fn forget_ended(&mut self, now: Instant) {
        self.ended.retain(|process| {
            process.ended.is_some_and(|ended| now.saturating_duration_since(ended) < KEEP)
        });
    }

    fn sampled(&self) -> Vec<(&'static str, f64)> {
        let parts = Group::ALL.into_iter().zip(self.parts);
        parts.filter(|(_, part)| *part < 1.0).map(|(group, part)| (group.word(), part)).collect()
    }

    fn note(&mut self, time: UnixNanos, process: Option<ProcessKey>, kind: GpuEventKind) {
        if self.events.len() >= MAX_EVENTS {
            self.lost += 1;
            return;
        }
        self.events.push(Happened { time, process, kind });
    }

    /// A process, made where it is new and there is room.
    fn process<'a>(
        proc: &std::path::Path,
        leak_window: Duration,
        live: &'a mut HashMap<u32, Watched>,
        tgid: u32,
        since: UnixNanos,
    ) -> Option<&'a mut Watched> {
        if !live.contains_key(&tgid) {
            if live.len() >= MAX_PROCESSES {
                return None;
            }
            let start = start_time(&proc.join(tgid.to_string())).unwrap_or(0);
            let key = ProcessKey { pid: tgid, start };
            live.insert(tgid, Watched::new(key, since, leak_window));
        }
        live.get_mut(&tgid)
    }
}

impl Happened {
    fn finish(self, identities: &HashMap<ProcessKey, Process>) -> GpuEvent {
        let Self { time, process, kind } = self;
        let process = process.and_then(|key| identities.get(&key)).cloned();
        let workload = process.as_ref().and_then(|process| process.workload.clone());
        let owner = workload.map(|workload| Owner {
            namespace: workload.namespace.clone(),
            pod: workload.pod.clone(),
            container: workload.container.clone(),
            workload: Some(workload),
        });
        let owners = Vec::from_iter(owner);
        GpuEvent { time, device: None, index: None, process, owners, kind }
    }
}

#[cfg(test)]
mod tests;
