//! Workloads, and the watch that looks at them.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use orb8_agent::gpu::{
    GpuConfig, GpuEvent, GpuEventKind, ProcessActivity,
    cuda::{CudaWatch, Watched},
    event::Process,
};
use orb8_standins::Paths;
use serde_json::Value;
use tempfile::TempDir;

use crate::kernel::support::{Turn, slack, standins, turn, turn_beside};

/// Bytes of the ring.
const RING: u32 = 1 << 20;
/// Between two collections.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The stand-ins in a folder, a watch, and what it has told.
pub(super) struct Scene {
    pub(super) watch: CudaWatch,
    pub(super) events: Vec<GpuEvent>,
    pub(super) last: Watched,
    /// The longest collection.
    pub(super) slowest: Duration,
    /// How far ahead the collector's clock is: nobody waits for what only takes time.
    pub(super) ahead: Duration,
    pids: Vec<u32>,
    node: Paths,
    _folder: TempDir,
    _turn: Turn,
}

/// A running workload. It is killed when it is dropped.
pub(super) struct Workload {
    pub(super) pid: u32,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Scene {
    pub(super) fn new(change: impl FnOnce(&mut GpuConfig)) -> Self {
        Self::with(turn_beside(), change)
    }

    /// The same for a test that measures what others would disturb.
    pub(super) fn alone(change: impl FnOnce(&mut GpuConfig)) -> Self {
        Self::with(turn(), change)
    }

    fn with(turn: Turn, change: impl FnOnce(&mut GpuConfig)) -> Self {
        let (folder, node) = standins::install();
        let mut config = GpuConfig::default();
        change(&mut config);
        let watch = CudaWatch::start(&config, RING).expect("a watch");
        Self {
            watch,
            events: Vec::new(),
            last: Watched::default(),
            slowest: Duration::ZERO,
            ahead: Duration::ZERO,
            pids: Vec::new(),
            node,
            _folder: folder,
            _turn: turn,
        }
    }

    /// Has workloads use a driver's library that was made by another compiler.
    pub(super) fn use_foreign_driver(&self) {
        std::fs::copy(&self.node.cuda_foreign, &self.node.cuda).expect("the library");
    }

    /// Starts a workload, and has it go on once its calls are watched.
    pub(super) fn run(&mut self, arguments: &str) -> Workload {
        let mut workload = self.start(arguments);
        self.go(&mut [&mut workload]);
        workload
    }

    /// Starts a workload that waits.
    pub(super) fn start(&self, arguments: &str) -> Workload {
        let mut command = Command::new(&self.node.workload);
        command
            .args(arguments.split_ascii_whitespace())
            .args(["--wait", "--hold", "--libraries"])
            .arg(&self.node.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = standins::spawn(&mut command);
        let input = child.stdin.take().expect("its input");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let pid = line(&mut output)["pid"].as_u64().expect("its pid") as u32;
        Workload { pid, child, input, output }
    }

    /// Follows workloads, and has them go on when all their libraries are watched.
    pub(super) fn go(&mut self, workloads: &mut [&mut Workload]) {
        self.pids.extend(workloads.iter().map(|workload| workload.pid));
        let libraries = if self.pids.is_empty() { 0 } else { self.pids.len() as u32 };
        self.until("the probes", |scene| {
            let watching = &scene.last.watching;
            watching.probes > 20 && watching.processes >= libraries
        });
        for workload in workloads {
            workload.say();
        }
    }

    /// Ends an interval.
    pub(super) fn collect(&mut self) {
        let mut who = |pid| Process { pid, name: "workload".into(), workload: None };
        let began = Instant::now();
        let now = began + self.ahead;
        self.watch.follow(&self.pids, now);
        self.last = self.watch.collect(now, &mut who);
        self.slowest = self.slowest.max(began.elapsed());
        self.events.append(&mut self.last.events);
    }

    /// Ends intervals until something holds.
    pub(super) fn until(&mut self, what: &str, holds: impl FnMut(&Self) -> bool) {
        assert!(self.wait_for(holds), "no {what}: {:#?}", self.last);
    }

    /// Ends intervals until a workload's activity is as expected, or much time has passed: the caller
    /// says what is wrong then.
    pub(super) fn settle(
        &mut self,
        workload: &Workload,
        mut is_expected: impl FnMut(&ProcessActivity) -> bool,
    ) -> &ProcessActivity {
        let pid = workload.pid;
        self.wait_for(|scene| {
            scene.last.activity.iter().any(|row| row.process.pid == pid && is_expected(row))
        });
        self.activity(workload)
    }

    fn wait_for(&mut self, mut holds: impl FnMut(&Self) -> bool) -> bool {
        let begin = Instant::now();
        loop {
            self.collect();
            if holds(self) {
                return true;
            }
            if begin.elapsed() > slack(PATIENCE) {
                return false;
            }
            std::thread::sleep(INTERVAL);
        }
    }

    /// Ends intervals for a time.
    pub(super) fn watch_for(&mut self, time: Duration, mut each: impl FnMut(&Self)) {
        let begin = Instant::now();
        while begin.elapsed() < time {
            std::thread::sleep(5 * INTERVAL);
            self.collect();
            each(self);
        }
    }

    /// What a workload did, as it is told now.
    pub(super) fn activity(&self, workload: &Workload) -> &ProcessActivity {
        let rows = self.last.activity.iter();
        let mut rows = rows.filter(|row| row.process.pid == workload.pid);
        rows.next().unwrap_or_else(|| panic!("no activity of {}: {:#?}", workload.pid, self.last))
    }

    /// The events of a workload.
    pub(super) fn events_of(&self, workload: &Workload) -> Vec<&GpuEventKind> {
        let is_its = |event: &&GpuEvent| {
            event.process.as_ref().is_some_and(|process| process.pid == workload.pid)
        };
        self.events.iter().filter(is_its).map(|event| &event.kind).collect()
    }
}

impl Workload {
    /// Waits for what it says that it did. It still runs, and has what it has.
    pub(super) fn report(&mut self) -> Value {
        line(&mut self.output)
    }

    /// Has it go on.
    pub(super) fn say(&mut self) {
        writeln!(self.input).expect("the workload listens");
    }

    /// Has it end.
    pub(super) fn end(&mut self) {
        self.say();
        self.child.wait().expect("the workload ends");
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // Fails when it ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line(output: &mut impl BufRead) -> Value {
    let mut line = String::new();
    output.read_line(&mut line).expect("the workload's output");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// A number in a report.
pub(super) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}
