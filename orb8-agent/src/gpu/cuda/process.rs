//! One process: its calls as sums, its memory and its communicators.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use orb8_common::gpu::{
    ALLOCATION_KINDS, CALL_ALLOCATED, CALL_FREED, CALL_MODULE, CALL_REFUSED, Call,
    CommunicatorCall, Process as Counters, Stack as Told,
};

use super::counters::{Load, Look, Sums};
use super::memory::{MAX_ALLOCATIONS, Memory, Room, Space, Taken};
use super::nccl::{Communicators, Lags, MAX_COMMUNICATORS};
use super::stacks::{Frames, Stack};
use super::sums::Differences;
use crate::event::UnixNanos;
use crate::gpu::activity::{Coverage, ProcessActivity};
use crate::gpu::event::{AllocationKind, GpuEventKind, Process};

/// Allocations that are told each by itself, of one process in one second, where they are smaller than
/// [`LARGE`]; all of them are in the sums.
const TOLD_ALLOCATIONS: u32 = 20;
/// Bytes of an allocation that is always told.
const LARGE: u64 = 64 << 20;
/// Loading a module is told when it takes as long as this.
const LONG_MODULE: Duration = Duration::from_millis(10);
/// Stacks of one process that are remembered. Each is told once, so none is forgotten for another.
const MAX_STACKS: usize = 1_024;

/// A process that is not another one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ProcessKey {
    pub pid: u32,
    /// Since boot, in the kernel's ticks; 0 where it was gone before it was looked at.
    pub start: u64,
}

/// Reads when a process began, from its directory in `/proc`; `None` where it is gone.
pub(super) fn start_time(home: &Path) -> Option<u64> {
    // A name is cut off at a byte, and may end within a character.
    parse_start_time(&String::from_utf8_lossy(&fs::read(home.join("stat")).ok()?))
}

fn parse_start_time(stat: &str) -> Option<u64> {
    // The name is in parentheses, and may have anything in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    // A zombie does nothing any more.
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Watched {
    pub key: ProcessKey,
    pub communicators: Communicators,
    /// When it was found to be gone.
    pub ended: Option<Instant>,
    memory: Memory,
    sums: Sums,
    stacks: HashMap<u64, Stack>,
    since: UnixNanos,
    last: UnixNanos,
    /// As last told by who knows processes.
    who: Option<Process>,
    /// As the kernel had its name at its first call.
    name: Option<Arc<str>>,
    lost: Differences<2>,
    lost_records: u64,
    uncounted: u64,
    allocations: [Differences<3>; ALLOCATION_KINDS],
    /// Since when allocations are counted that are told.
    telling: Option<(Instant, u32)>,
}

impl Watched {
    pub(super) fn new(key: ProcessKey, since: UnixNanos, leak_window: Duration) -> Self {
        Self {
            key,
            communicators: Communicators::default(),
            ended: None,
            memory: Memory::new(leak_window),
            sums: Sums::default(),
            stacks: HashMap::new(),
            since,
            last: since,
            who: None,
            name: None,
            lost: Differences::default(),
            lost_records: 0,
            uncounted: 0,
            allocations: Default::default(),
            telling: None,
        }
    }

    /// What its busiest thread does.
    pub(super) const fn load(&self) -> &Load {
        self.sums.load()
    }

    /// Takes in its name, where nobody else knows it any more.
    pub(super) fn call_it(&mut self, name: &[u8]) {
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        self.name = Some(String::from_utf8_lossy(name).into());
    }

    /// Takes in the frames of a place that asks for memory.
    pub(super) fn remember(&mut self, told: &Told) {
        let frames = &told.frames[..told.frames.len().min(told.count as usize)];
        if self.stacks.len() < MAX_STACKS {
            self.stacks.entry(told.id).or_insert_with(|| frames.into());
        }
    }

    /// Takes in a call. Returns what is to be told of it. With `is_whole`, all calls that take memory
    /// or give it back are seen.
    pub(super) fn call(
        &mut self,
        call: &Call,
        time: UnixNanos,
        now: Instant,
        is_whole: bool,
        room: &mut Room,
    ) -> Option<GpuEventKind> {
        self.last = self.last.max(time);
        let how = *AllocationKind::ALL.get(call.kind as usize)?;
        let Call { what, bytes, pointer: address, time_ns: time, .. } = *call;
        match what {
            CALL_ALLOCATED => {
                let stack = self.stacks.get(&call.stack).cloned();
                let taken = Taken { time, kind: how, address, bytes, stack };
                if is_whole {
                    self.memory.take(taken, room);
                }
                self.is_told(bytes, now).then_some(GpuEventKind::Allocated { bytes, how })
            }
            CALL_REFUSED => {
                let event = GpuEventKind::AllocationFailed { bytes, error: call.result };
                self.is_told(0, now).then_some(event)
            }
            CALL_FREED => {
                if is_whole {
                    self.memory.give_back(Space::of(how), address, time, room);
                }
                None
            }
            CALL_MODULE => {
                let took = Duration::from_nanos(call.took_ns);
                (took >= LONG_MODULE).then_some(GpuEventKind::ModuleLoaded { took })
            }
            _ => None,
        }
    }

    /// Takes in a call that makes or ends a communicator. Returns what is to be told of it.
    pub(super) fn communicator(
        &mut self,
        call: &CommunicatorCall,
        time: UnixNanos,
        now: Instant,
    ) -> Option<GpuEventKind> {
        self.last = self.last.max(time);
        self.communicators.take(call, time, now)
    }

    /// Takes in the kernel's counters.
    pub(super) fn count(
        &mut self,
        counters: &Counters,
        collectives: u64,
        look: &Look,
        time: UnixNanos,
    ) {
        if self.sums.take(counters, collectives, look) {
            self.last = self.last.max(time);
        }
        for (i, kind) in AllocationKind::ALL.into_iter().enumerate() {
            let row = counters.allocations[i];
            let counted = self.allocations[i].take([row.count, row.bytes, row.failed]);
            self.memory.count(kind, counted);
        }
        let [lost, uncounted] = self.lost.take([counters.lost, counters.uncounted_collectives]);
        self.uncounted += uncounted;
        if lost > 0 {
            self.lost_records += lost;
            self.memory.doubt();
        }
    }

    /// Forgets what memory it has: not all calls are seen from now on, or were until now.
    pub(super) fn lose_track(&mut self, room: &mut Room) {
        self.memory.lose_track(room);
    }

    /// Gives back what it takes in tables for all.
    pub(super) fn end(&mut self, now: Instant, room: &mut Room) {
        self.ended = Some(now);
        self.stacks = HashMap::new();
        self.memory.stop(room);
    }

    /// Ends an interval. Returns what is to be told of it.
    pub(super) fn step(&mut self, now: Instant) -> Vec<GpuEventKind> {
        self.communicators.step(now);
        let mut events = self.communicators.tell();
        match self.sums.tell_rates() {
            Some([rate, graph_rate]) if rate > 0.0 || graph_rate > 0.0 => {
                let is_sampled = self.sums.is_sampled();
                events.push(GpuEventKind::Launches { rate, graph_rate, is_sampled });
            }
            None if self.ended.is_some() => self.sums.stop(),
            _ => {}
        }
        if self.ended.is_none() {
            self.memory.step(now);
            if let Some((outstanding, growth)) = self.memory.tell_leak(now) {
                events.push(GpuEventKind::Leak { outstanding, growth });
            }
        }
        events
    }

    /// Asks who it is. One that ended stays who it was.
    pub(super) fn identify(&mut self, who: &mut dyn FnMut(u32) -> Process) -> Process {
        if self.ended.is_none() || self.who.is_none() {
            let mut process = who(self.key.pid);
            if let Some(name) = self.name.as_ref().filter(|_| process.name.is_empty()) {
                process.name = Arc::clone(name);
            }
            self.who = Some(process);
        }
        let pid = self.key.pid;
        self.who.clone().unwrap_or_else(|| Process { pid, name: "".into(), workload: None })
    }

    /// What it comes to.
    pub(super) fn activity(
        &self,
        process: Process,
        lags: &Lags,
        frames: &mut Frames<'_>,
        mut coverage: Coverage,
    ) -> ProcessActivity {
        let [launches, graph_launches] = self.sums.launches();
        coverage.missing.extend(self.gaps().into_iter().map(Arc::from));
        ProcessActivity {
            process,
            since: self.since,
            last: self.last,
            devices: Vec::new(),
            memory: self.memory.activity(frames),
            copies: self.sums.copies(),
            launches,
            graph_launches,
            waits: self.sums.waits(),
            modules: self.sums.modules(),
            collectives: self.communicators.collectives(),
            communicators: self.communicators.activity(lags),
            coverage,
        }
    }

    /// What is not in the figures.
    fn gaps(&self) -> Vec<String> {
        let left_out = self.communicators.left_out() as u64;
        let rows = [
            (self.memory.no_room(), format!("allocations beyond {MAX_ALLOCATIONS} at one time: not in what is outstanding")),
            (self.lost_records, "calls for memory that the ring had no room for: what is outstanding may be wrong until the process ends".into()),
            (self.uncounted, "collectives of communicators beyond those that are counted".into()),
            (left_out, format!("communicators beyond {MAX_COMMUNICATORS} at one time: their collectives are in no figure")),
        ];
        let rows = rows.into_iter().filter(|(count, _)| *count > 0);
        let rows = rows.map(|(count, what)| format!("{count} {what}"));
        let track = self.memory.has_lost_track().then(|| {
            "memory that was taken before calls for it were last seen in part: not in what is \
             outstanding"
                .into()
        });
        rows.chain(track).collect()
    }

    /// Whether an allocation is told by itself.
    fn is_told(&mut self, bytes: u64, now: Instant) -> bool {
        let second = Duration::from_secs(1);
        let (since, told) = match self.telling {
            Some((since, told)) if now.saturating_duration_since(since) < second => (since, told),
            _ => (now, 0),
        };
        let is_told = told < TOLD_ALLOCATIONS;
        self.telling = Some((since, told + u32::from(is_told)));
        is_told || bytes >= LARGE
    }
}

#[cfg(test)]
mod tests;
