//! What the engine knows about itself: written by the engine, read by the API, `/readyz`,
//! `/metrics` and `orb8 diagnose`.

use std::sync::{Arc, PoisonError, RwLock};

use orb8_k8s::index::{Counts, Source};
use orb8_k8s::watch::WatchHealth;
use tokio::sync::watch;

use crate::event::Signal;
use crate::otlp::OtlpStatus;
use crate::store::InterfaceNames;

/// One board, many readers. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct StatusBoard(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    status: RwLock<EngineStatus>,
    ready: watch::Sender<bool>,
}

impl StatusBoard {
    /// Changes the status in place.
    pub fn update(&self, change: impl FnOnce(&mut EngineStatus)) {
        let mut status = self.0.status.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut status);
        // Under the lock, so that of two changes the later one is told last.
        let is_ready = status.is_ready();
        self.0.ready.send_if_modified(|ready| std::mem::replace(ready, is_ready) != is_ready);
    }

    /// Returns a copy.
    #[must_use]
    pub fn read(&self) -> EngineStatus {
        let status = self.0.status.read().unwrap_or_else(PoisonError::into_inner);
        status.clone()
    }

    /// Returns the names of this network namespace's interfaces.
    #[must_use]
    pub fn interfaces(&self) -> Arc<InterfaceNames> {
        let status = self.0.status.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&status.interfaces)
    }

    /// Follows [`EngineStatus::is_ready`]. It tells of changes of that, and of nothing else.
    #[must_use]
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.0.ready.subscribe()
    }
}

/// See the message of the same name in `agent.proto` for what each part means.
#[derive(Clone, Debug, Default)]
pub struct EngineStatus {
    /// Kernel release, as `uname -r` prints it.
    pub kernel: String,
    /// One row per source, whether it runs or not.
    pub sources: Vec<SourceStatus>,
    /// Whether there are sources that have not been started yet.
    pub is_starting: bool,
    /// `None` until the flow source has attached.
    pub attachment: Option<Attachment>,
    /// Names of this network namespace's interfaces, whether programs are on them or not.
    pub interfaces: Arc<InterfaceNames>,
    /// The preflight table.
    pub checks: Vec<Check>,
    /// What the kernel side counted outside flows.
    pub kernel_counters: KernelCounters,
    /// One row per ring.
    pub rings: Vec<RingStatus>,
    /// Memory that the kernel reports for the maps, bytes, by signal.
    pub map_bytes: BySignal<u64>,
    /// Program run time and count, by signal; only where `kernel.bpf_stats_enabled` is set.
    pub bpf_run: BySignal<BpfRun>,
    /// The same, one row per program.
    pub programs: Vec<ProgramRun>,
    /// What the `dns` programs and source counted.
    pub dns: DnsCounters,
    /// What the `tcp` programs and source counted.
    pub tcp: TcpCounters,
    /// What the agent has of the Kubernetes API.
    pub kubernetes: KubernetesStatus,
    /// How the export to a collector fares; `None` where there is none.
    pub otlp: Option<OtlpStatus>,
    /// Who comes to the admin address.
    pub admin: AdminCounters,
}

/// What the agent has of the Kubernetes API.
#[derive(Clone, Debug, Default)]
pub struct KubernetesStatus {
    /// Whether it is used.
    pub state: KubernetesState,
    /// Where the access comes from.
    pub access: String,
    /// URL of the server.
    pub server: String,
    /// Why it is off, or what is wrong, and what to do.
    pub reason: Option<String>,
    /// One row per watch.
    pub watches: Vec<WatchHealth>,
    /// What is known.
    pub counts: Counts,
}

impl KubernetesStatus {
    /// It is not used.
    #[must_use]
    pub fn off(reason: String) -> Self {
        Self { reason: Some(reason), ..Self::default() }
    }
}

/// Returns the name of a watch: what it watches, and of pods whose.
#[must_use]
pub fn watch_name(watch: &WatchHealth) -> &'static str {
    match watch.source {
        Source::RemotePods => "remote-pods",
        _ => watch.resource.plural,
    }
}

/// Whether the Kubernetes API is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KubernetesState {
    /// No: names come from this node alone.
    #[default]
    Off,
    /// Not all of it was listed yet.
    Syncing,
    /// All watches are open.
    Connected,
    /// One is down: what was known stays known.
    Disconnected,
}

/// One value for each signal, in the order of [`Signal::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BySignal<T>([T; Signal::ALL.len()]);

impl<T: Copy> BySignal<T> {
    /// Sets a signal's value.
    pub fn set(&mut self, signal: Signal, value: T) {
        self.0[signal as usize] = value;
    }

    /// Returns a signal's value.
    #[must_use]
    pub const fn get(&self, signal: Signal) -> T {
        self.0[signal as usize]
    }
}

impl BySignal<u64> {
    /// Returns the sum over the signals.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl BpfRun {
    /// Adds up programs.
    #[must_use]
    pub fn sum(programs: &[ProgramRun]) -> Self {
        let add = |sum: Self, one: &ProgramRun| Self {
            run_ns: sum.run_ns + one.run.run_ns,
            runs: sum.runs + one.run.runs,
        };
        programs.iter().fold(Self::default(), add)
    }
}

impl BySignal<BpfRun> {
    /// Returns the sum over the signals; `None` where the kernel keeps no statistics.
    #[must_use]
    pub fn total(&self) -> Option<BpfRun> {
        let add = |sum: BpfRun, one: &BpfRun| BpfRun {
            run_ns: sum.run_ns + one.run_ns,
            runs: sum.runs + one.runs,
        };
        let sum = self.0.iter().fold(BpfRun::default(), add);
        (sum.runs > 0).then_some(sum)
    }
}

impl EngineStatus {
    /// Whether everything that can be delivered is. One running source is enough: a skipped one is
    /// told by status and metrics.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_starting && self.is_running()
    }

    /// Whether any source runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.sources.iter().any(|source| source.state == SourceState::Running)
    }

    /// Puts a ring's row in place of the one that it had.
    pub fn set_ring(&mut self, ring: RingStatus) {
        match self.rings.iter_mut().find(|known| known.probe == ring.probe) {
            Some(known) => *known = ring,
            None => self.rings.push(ring),
        }
    }

    /// Puts programs' rows in place of those that they had.
    pub fn set_programs(&mut self, programs: Vec<ProgramRun>) {
        for program in programs {
            match self.programs.iter_mut().find(|known| known.name == program.name) {
                Some(known) => *known = program,
                None => self.programs.push(program),
            }
        }
    }

    /// Puts a source's row in place of the one that it had.
    pub fn set_source(&mut self, source: SourceStatus) {
        match self.sources.iter_mut().find(|known| known.name == source.name) {
            Some(known) => *known = source,
            None => self.sources.push(source),
        }
    }

    /// Returns which sources do not run and why, one line each.
    #[must_use]
    pub fn skipped(&self) -> Vec<String> {
        let reason = |source: &SourceStatus| match &source.state {
            SourceState::Running => None,
            SourceState::Skipped { reason } | SourceState::Absent { reason } => {
                Some(format!("{}: {reason}", source.name))
            }
        };
        self.sources.iter().filter_map(reason).collect()
    }

    /// Returns why the agent is not ready, one line each; nothing when it is.
    #[must_use]
    pub fn not_ready(&self) -> Vec<String> {
        if self.is_ready() {
            return Vec::new();
        }
        if self.is_starting {
            return vec!["sources are starting".to_owned()];
        }
        let reasons = self.skipped();
        if reasons.is_empty() {
            return vec!["sources are starting".to_owned()];
        }
        reasons
    }
}

/// A source and whether it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// The signal's name.
    pub name: &'static str,
    /// Whether it runs.
    pub state: SourceState,
    /// What of a running one does not, and why, a line each.
    pub missing: Vec<String>,
}

impl SourceStatus {
    /// A source that delivers, but for what is missing.
    #[must_use]
    pub const fn running(signal: Signal, missing: Vec<String>) -> Self {
        Self { name: signal.name(), state: SourceState::Running, missing }
    }

    /// A source that cannot run.
    #[must_use]
    pub const fn skipped(signal: Signal, reason: String) -> Self {
        let state = SourceState::Skipped { reason };
        Self { name: signal.name(), state, missing: Vec::new() }
    }

    /// A source that finds nothing here that it could watch.
    #[must_use]
    pub const fn absent(signal: Signal, reason: String) -> Self {
        let state = SourceState::Absent { reason };
        Self { name: signal.name(), state, missing: Vec::new() }
    }
}

/// Whether a source runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// It delivers.
    Running,
    /// It cannot, and says why and what to do.
    Skipped {
        /// Why, and what to do.
        reason: String,
    },
    /// What it watches is not on this machine: no fault, and it looks again.
    Absent {
        /// What was looked for, and where.
        reason: String,
    },
}

/// Where the flow programs are attached, and why there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// What the configuration asked for.
    pub requested: &'static str,
    /// What is in force.
    pub in_force: &'static str,
    /// Why.
    pub reason: String,
    /// Cgroup of the socket hook.
    pub cgroup_root: Option<String>,
    /// Interfaces of the interface hook.
    pub interfaces: Vec<AttachedInterface>,
    /// Whether connected sockets count in their own storage.
    pub socket_storage: bool,
}

/// One interface with the programs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedInterface {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// `tcx` or `clsact`.
    pub mechanism: &'static str,
}

/// One row of the preflight table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub state: CheckState,
    /// One line.
    pub detail: String,
    /// What to do, where something can be done.
    pub remedy: Option<String>,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// It is there.
    Ok,
    /// It is not there; something else serves.
    Absent,
    /// It is not there and nothing else serves.
    Failed,
}

/// Per-CPU counters of the programs, summed. Totals since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounters {
    /// In no table and no ring record.
    pub lost_packets: u64,
    /// Their IP bytes.
    pub lost_bytes: u64,
    /// Moments that the ring had no room for.
    pub lost_moments: u64,
    /// Frames that are not IP.
    pub other_packets: u64,
    /// Their bytes behind the link header.
    pub other_bytes: u64,
    /// IP packets whose header does not parse.
    pub malformed_packets: u64,
    /// Their IP bytes.
    pub malformed_bytes: u64,
    /// Packets that the interface hook left to the socket hook.
    pub owned_packets: u64,
    /// Their IP bytes.
    pub owned_bytes: u64,
}

/// What the `dns` programs and source counted. Totals since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsCounters {
    /// Packets of the DNS ports.
    pub packets: u64,
    /// Those that the ring had no room for.
    pub lost: u64,
    /// Queries that had to make room for others before an answer came.
    pub evicted: u64,
    /// Messages of which too little was there to read, and packets of which nobody can tell whether
    /// they were DNS.
    pub unread: u64,
    /// Messages that do not parse.
    pub malformed: u64,
}

/// What the `tcp` programs and source counted. Totals since start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpCounters {
    /// Records that the ring had no room for, or that did not decode.
    pub lost: u64,
    /// Sockets for which there was no storage.
    pub untracked: u64,
    /// RSTs sent.
    pub resets_sent: u64,
    /// RSTs received.
    pub resets_received: u64,
    /// Dropped packets by the kernel's reason.
    pub drops: Vec<(Arc<str>, u64)>,
}

/// Connections to the admin address. Totals since start, but for those that are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdminCounters {
    /// Open now.
    pub open: u64,
    /// Refused, since there were as many as there may be.
    pub full: u64,
    /// Refused, since one client had as many as it may.
    pub client_full: u64,
    /// Given up, since no whole request came in time.
    pub slow_requests: u64,
    /// Given up, since an answer was not read in time.
    pub slow_readers: u64,
    /// Scrapes that were refused, since too much of others was not read yet.
    pub unread: u64,
}

impl AdminCounters {
    /// Returns what was refused or given up, by cause.
    #[must_use]
    pub const fn refusals(&self) -> [(&'static str, u64); 5] {
        let Self { open: _, full, client_full, slow_requests, slow_readers, unread } = *self;
        [
            ("connections", full),
            ("client", client_full),
            ("slow_request", slow_requests),
            ("slow_reader", slow_readers),
            ("unread", unread),
        ]
    }
}

/// One ring buffer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RingStatus {
    /// The probe's name, as the metrics label has it (`network`).
    pub probe: &'static str,
    /// Bytes.
    pub size_bytes: u64,
    /// Records that the ring took, since start.
    pub events: u64,
    /// Records that it had no room for, since start.
    pub drops: u64,
    /// Fullest state seen in the last interval, 0 to 1.
    pub utilization: f64,
}

/// One program's run time and count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramRun {
    /// Name, which begins with its object's.
    pub name: Arc<str>,
    /// What it ran.
    pub run: BpfRun,
}

/// Sums over the programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BpfRun {
    /// Nanoseconds.
    pub run_ns: u64,
    /// Runs.
    pub runs: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(state: SourceState) -> Vec<SourceStatus> {
        vec![SourceStatus { name: "flow", state, missing: Vec::new() }]
    }

    #[test]
    fn readiness_is_told_when_it_changes_and_only_then() {
        let board = StatusBoard::default();
        let mut ready = board.readiness();
        assert!(!*ready.borrow_and_update(), "nothing runs yet");
        board.update(|status| status.map_bytes.set(Signal::Flow, 1));
        let reason = "no BPF".to_owned();
        board.update(|status| status.sources = with(SourceState::Skipped { reason }));
        assert!(!ready.has_changed().unwrap(), "a number and a reason change nothing");
        assert_eq!(board.read().not_ready(), ["flow: no BPF"]);

        board.update(|status| status.sources = with(SourceState::Running));
        assert!(ready.has_changed().unwrap() && *ready.borrow_and_update());
        board.update(|status| status.kernel_counters.lost_packets = 1);
        assert!(!ready.has_changed().unwrap());
        assert!(board.read().not_ready().is_empty());

        board.update(|status| status.sources.clear());
        assert!(ready.has_changed().unwrap() && !*ready.borrow_and_update());
    }
}
