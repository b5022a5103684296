//! TPUs: libtpu, in the workload that has one, serves its figures on `localhost` of its pod.
//!
//! ```text
//! /sys/bus/pci ─▶ chips ───────────────────────────────────────────┐
//! /proc/*/fd ─▶ scan ─▶ processes ─▶ their networks ─gRPC─▶ figures ┴─▶ Reading
//! ```
//! What nobody uses has no figures: a chip is told without any then. A workload counts its devices from
//! 0, so that which chips they are is known by the files that it has open.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::aside::Aside;
use super::checked::Checked;
use super::config::GpuConfig;
use super::device::{Device, SourceKind};
use super::netns;
use super::reading::{DeviceState, ProcessUse, Reading, Seen, UseKind};
use super::sample::{Busy, Memory, Sample};
use super::scan::Scan;
use super::source::{Source, SourceError, Unread};
use crate::clock::Clock;
use crate::event::UnixNanos;
use chips::{Chip, chips, file_number};
use runtime::{Client, Figures, Place};

mod chips;
mod runtime;

/// For all workloads together; they are asked at the same time.
const DEADLINE: Duration = Duration::from_millis(400);

/// Workloads that are asked: a host has eight chips.
const MOST_PLACES: usize = 64;

/// What a process's environment and maps are read of at most.
const LARGEST: u64 = 1 << 20;

/// Where libtpu is told to serve, when each chip has a process of its own.
const PORTS: &str = "TPU_RUNTIME_METRICS_PORTS=";

/// See the [module](self).
#[derive(Debug)]
pub struct TpuSource {
    sys: PathBuf,
    proc: PathBuf,
    port: u16,
    /// For looking, and again for asking.
    deadline: Duration,
    /// Processes that somebody else knows to use a chip.
    followed: Vec<u32>,
    looking: Aside<Look, Found>,
    clients: HashMap<Place, Client>,
    checked: Checked,
    unread: Unread,
}

/// What is looked at on a thread of its own.
#[derive(Debug)]
struct Look {
    sys: PathBuf,
    proc: PathBuf,
    scan: Scan,
    /// Whether a process has libtpu, by its number.
    has_libtpu: HashMap<u32, bool>,
}

/// Chips, and who has them.
#[derive(Debug, Default)]
struct Found {
    chips: Vec<Chip>,
    /// Of each network and port, the processes there with the files of chips that they have open.
    places: BTreeMap<(u64, u16), BTreeMap<u32, BTreeSet<u32>>>,
    /// Files of chips that were not looked at.
    unread: Unread,
}

/// One workload's answer.
struct Answer {
    /// Who has which chips there.
    processes: BTreeMap<u32, BTreeSet<u32>>,
    /// What it tells, or why it does not.
    devices: Result<BTreeMap<i64, Figures>, String>,
}

/// A device, and how it is or why that is not known.
type Told = (Device, Result<Sample, String>);

impl TpuSource {
    /// Prepares to look below the roots of the settings.
    #[must_use]
    pub fn new(config: &GpuConfig) -> Self {
        let roots = &config.roots;
        let look = Look {
            sys: roots.sys.clone(),
            proc: roots.proc.clone(),
            scan: Scan::new(&roots.proc, |path| file_number(path).is_some()),
            has_libtpu: HashMap::new(),
        };
        Self {
            sys: roots.sys.clone(),
            proc: roots.proc.clone(),
            port: config.tpu_port,
            deadline: DEADLINE,
            followed: Vec::new(),
            looking: Aside::new("orb8-tpu", look),
            clients: HashMap::new(),
            checked: Checked::default(),
            unread: Unread::default(),
        }
    }

    /// Says which processes use a chip beyond those that have its file open: those whose networks to
    /// ask as well.
    pub fn follow(&mut self, pids: &[u32]) {
        self.followed = pids.iter().copied().take(MOST_PLACES).collect();
    }

    async fn ask(&mut self, found: &Found) -> Vec<Answer> {
        let deadline = self.deadline;
        let places = found.places.iter().take(MOST_PLACES).filter_map(|((_, port), processes)| {
            let pid = *processes.keys().next()?;
            Some((Place { pid, port: *port }, processes))
        });
        let mut asked = Vec::new();
        let mut kept = HashMap::new();
        for (place, processes) in places {
            let client = self.clients.remove(&place);
            let client =
                client.unwrap_or_else(|| runtime::client(self.proc.clone(), &place, deadline));
            kept.insert(place, client.clone());
            asked.push((client, processes.clone()));
        }
        // Those of workloads that are gone go along with them.
        self.clients = kept;
        let answers = asked.into_iter().map(|(mut client, processes)| async move {
            let answer = tokio::time::timeout(deadline, runtime::ask(&mut client)).await;
            let devices = answer.map_err(|_| "it does not answer".to_owned()).flatten();
            Answer { processes, devices }
        });
        join_all(answers).await
    }

    fn interpret(&mut self, found: &Found, answers: Vec<Answer>, time: UnixNanos) -> Reading {
        let unused = || Ok(Sample { time, ..Sample::default() });
        let mut devices: BTreeMap<u32, Told> = (0..)
            .zip(devices_of(&found.chips))
            .map(|(index, chip)| (index, (chips::device(index, Some(chip)), unused())))
            .collect();
        let mut users: BTreeSet<(u32, u32)> = BTreeSet::new();
        for Answer { processes, devices: told } in answers {
            let open: Vec<(u32, u32)> = open(&processes, &found.chips).collect();
            users.extend(&open);
            let told = told.unwrap_or_else(|why| {
                for (index, pid) in &open {
                    let why = format!("libtpu of process {pid} does not tell: {why}");
                    devices.entry(*index).and_modify(|(_, state)| *state = Err(why));
                }
                BTreeMap::new()
            });
            let numbers: Vec<i64> = told.keys().copied().collect();
            for (id, figures) in told {
                let Some(index) = index_of(id, &numbers, &processes, &found.chips) else {
                    self.checked.leave_out();
                    continue;
                };
                let new = || (chips::device(index, None), unused());
                let (_, state) = devices.entry(index).or_insert_with(new);
                *state = Ok(self.sample(figures, time));
                // Of what nobody is known to have open, the only ones there are have it.
                if !users.iter().any(|(used, _)| *used == index) {
                    users.extend(processes.keys().next().map(|pid| (index, *pid)));
                }
            }
        }
        let processes = users.iter().filter_map(|user| uses(*user, &users, &devices)).collect();
        Reading {
            source: SourceKind::Tpu,
            devices: devices.into_values().map(seen).collect(),
            processes,
            events: Vec::new(),
            holdings: Vec::new(),
        }
    }

    fn sample(&mut self, figures: Figures, time: UnixNanos) -> Sample {
        let checked = &mut self.checked;
        let gpu = figures.busy.and_then(|percent| checked.percent(percent));
        let used = figures.used.and_then(|bytes| checked.count(bytes));
        let total = figures.total.and_then(|bytes| checked.count(bytes));
        let free = total.zip(used).and_then(|(total, used)| total.checked_sub(used));
        Sample {
            time,
            busy: Busy { gpu, ..Busy::default() },
            memory: Memory { total, used, free, reserved: None },
            ..Sample::default()
        }
    }
}

impl Source for TpuSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Tpu
    }

    async fn read(&mut self) -> Result<Reading, SourceError> {
        let (followed, port) = (self.followed.clone(), self.port);
        let found = self.looking.run(self.deadline, move |look| look.find(&followed, port));
        let found = found.await.map_err(|late| {
            SourceError::Failed(format!("processes with a TPU cannot be looked for: {late}"))
        })?;
        if found.chips.is_empty() && found.places.is_empty() {
            let folder = self.sys.join("bus/pci/devices");
            return Err(SourceError::Absent(format!(
                "no TPU in {}; in a container mount the machine's /sys",
                folder.display()
            )));
        }
        self.unread.clone_from(&found.unread);
        let time = Clock::system().now();
        let answers = self.ask(&found).await;
        Ok(self.interpret(&found, answers, time))
    }

    fn invalid(&self) -> u64 {
        self.checked.invalid
    }

    fn unread(&self) -> Unread {
        self.unread.clone()
    }
}

impl Look {
    fn find(&mut self, followed: &[u32], port: u16) -> Found {
        let chips = chips(&self.sys);
        let mut processes: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        // Without a chip nobody has one open.
        if !chips.is_empty() {
            for (pid, files) in self.scan.step(Instant::now()) {
                let numbers =
                    files.iter().filter_map(|file| file_number(file.path.as_os_str().as_bytes()));
                processes.insert(*pid, numbers.collect());
            }
        }
        self.has_libtpu.retain(|pid, _| processes.contains_key(pid));
        let (proc, has_libtpu) = (&self.proc, &mut self.has_libtpu);
        // Virtual machines and network functions have files of VFIO open as well; libtpu opens them
        // itself, so it is there from the beginning.
        processes.retain(|pid, files| {
            files.iter().all(|file| chips.iter().any(|chip| chip.file == *file))
                && *has_libtpu.entry(*pid).or_insert_with(|| maps_libtpu(proc, *pid))
        });
        for pid in followed {
            processes.entry(*pid).or_default();
        }
        let mut places: BTreeMap<(u64, u16), BTreeMap<u32, BTreeSet<u32>>> = BTreeMap::new();
        for (pid, files) in processes {
            let Some(network) = netns::network_of(proc, pid) else { continue };
            for port in ports(proc, pid, port) {
                places.entry((network, port)).or_default().insert(pid, files.clone());
            }
        }
        Found { chips, places, unread: self.scan.unread() }
    }
}

/// Whether a process has the library mapped. Asked once: libtpu opens the chips itself.
fn maps_libtpu(proc: &Path, pid: u32) -> bool {
    read(&proc.join(format!("{pid}/maps")))
        .is_some_and(|maps| maps.windows(9).any(|word| word == b"libtpu.so"))
}

/// Returns where a process serves: as its environment says, else at the usual port.
fn ports(proc: &Path, pid: u32, usual: u16) -> Vec<u16> {
    let environment = read(&proc.join(format!("{pid}/environ"))).unwrap_or_default();
    let set = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| std::str::from_utf8(variable.strip_prefix(PORTS.as_bytes())?).ok());
    let ports = set.into_iter().flat_map(|ports| ports.split(','));
    let ports: Vec<u16> =
        ports.filter_map(|port| port.trim().parse().ok()).take(MOST_PLACES).collect();
    if ports.is_empty() { vec![usual] } else { ports }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LARGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Returns the chip of each device, by the devices' numbers.
fn devices_of(chips: &[Chip]) -> impl Iterator<Item = &Chip> {
    chips.iter().flat_map(|chip| (0..chip.model.devices).map(move |_| chip))
}

/// Returns which of the node's devices a workload's one is: of those of the chips that it has open, the
/// one in the same place; where that cannot be told, the one of the same number.
fn index_of(
    id: i64,
    numbers: &[i64],
    who: &BTreeMap<u32, BTreeSet<u32>>,
    chips: &[Chip],
) -> Option<u32> {
    let files: BTreeSet<u32> = who.values().flatten().copied().collect();
    let open = (0..).zip(devices_of(chips)).filter(|(_, chip)| files.contains(&chip.file));
    let open: Vec<u32> = open.map(|(index, _)| index).collect();
    if open.len() == numbers.len() {
        let place = numbers.iter().position(|number| *number == id)?;
        return open.get(place).copied();
    }
    u32::try_from(id).ok()
}

/// Lists the devices whose chips processes have open, with the process: who has one open uses it, also
/// where its libtpu does not answer.
fn open(
    processes: &BTreeMap<u32, BTreeSet<u32>>,
    chips: &[Chip],
) -> impl Iterator<Item = (u32, u32)> {
    (0..).zip(devices_of(chips)).flat_map(|(index, chip)| {
        let who = processes.iter().filter(|(_, files)| files.contains(&chip.file));
        who.map(move |(pid, _)| (index, *pid))
    })
}

/// Says what a process uses of a device: its figures, where nobody else has it open.
fn uses(
    (index, pid): (u32, u32),
    users: &BTreeSet<(u32, u32)>,
    devices: &BTreeMap<u32, Told>,
) -> Option<ProcessUse> {
    let (device, state) = devices.get(&index)?;
    let is_alone = users.range((index, 0)..=(index, u32::MAX)).count() == 1;
    let sample = state.as_ref().ok().filter(|_| is_alone);
    Some(ProcessUse {
        device: device.id.clone(),
        pid,
        kind: UseKind::Compute,
        memory: sample.and_then(|sample| sample.memory.used),
        busy: sample.and_then(|sample| sample.busy.gpu),
    })
}

fn seen((device, state): Told) -> Seen {
    let state = match state {
        Ok(sample) => DeviceState::Sampled(Box::new(sample)),
        Err(reason) => DeviceState::Silent { reason },
    };
    Seen { device, state }
}

#[cfg(test)]
mod tests;
