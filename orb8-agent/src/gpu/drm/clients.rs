//! From files to processes: each client once, and what it used since the last reading.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::fdinfo::{Client, Engine};
use crate::gpu::device::{DeviceId, PciAddress};
use crate::gpu::reading::{ProcessUse, UseKind};
use crate::gpu::scan::Open;
use crate::gpu::source::Unread;

/// A client's text is a page.
const LARGEST: u64 = 16 << 10;

/// Clients of all processes that are remembered.
const MOST_CLIENTS: usize = 8192;

type Key = (PciAddress, u64);

/// What each client had used when it was last read.
#[derive(Debug)]
pub(super) struct Clients {
    proc: PathBuf,
    before: HashMap<Key, BTreeMap<String, Engine>>,
    when: Option<Instant>,
    /// Clients that there was no room for, in each reading.
    left_out: u64,
}

/// What all clients do.
#[derive(Debug, Default)]
pub(super) struct Uses {
    pub(super) processes: Vec<ProcessUse>,
    /// Of each device that has clients: the part of its busiest kind of engine that they use; `None`
    /// where none of them was seen before.
    pub(super) busy: HashMap<DeviceId, Option<f64>>,
}

/// What a process, or all of them, use of a device: memory, and the part of each kind of engine.
#[derive(Debug, Default)]
struct Sum {
    memory: Option<u64>,
    engines: BTreeMap<String, f64>,
}

impl Clients {
    pub(super) fn new(proc: &Path) -> Self {
        Self { proc: proc.to_owned(), before: HashMap::new(), when: None, left_out: 0 }
    }

    /// Returns what there was no room for since start.
    pub(super) fn unread(&self) -> Unread {
        Unread::beyond(self.left_out, || {
            format!("there are more clients than the {MOST_CLIENTS} that are looked at")
        })
    }

    /// Reads the clients of processes that have a device open. A file that several processes share is
    /// the first one's.
    pub(super) fn read(
        &mut self,
        open: &BTreeMap<u32, Vec<Open>>,
        devices: &HashMap<PciAddress, DeviceId>,
        now: Instant,
    ) -> Uses {
        let elapsed = self.when.map(|then| now.saturating_duration_since(then).as_nanos());
        let elapsed = elapsed.and_then(|elapsed| u64::try_from(elapsed).ok()).unwrap_or(0);
        let mut seen: HashSet<Key> = HashSet::new();
        let mut after = HashMap::new();
        let mut processes: BTreeMap<(u32, DeviceId), Sum> = BTreeMap::new();
        let mut wholes: HashMap<DeviceId, Sum> = HashMap::new();
        for (pid, file) in
            open.iter().flat_map(|(pid, files)| files.iter().map(move |it| (*pid, it)))
        {
            let Some(client) = self.client(pid, file.number) else { continue };
            let Some(device) = devices.get(&client.pci) else { continue };
            let key = (client.pci.clone(), client.id);
            if seen.contains(&key) {
                continue;
            }
            if seen.len() == MOST_CLIENTS {
                self.left_out += 1;
                continue;
            }
            seen.insert(key.clone());
            let before = self.before.get(&key).filter(|_| elapsed > 0);
            let process = processes.entry((pid, device.clone())).or_default();
            process.add(&client, before, elapsed);
            wholes.entry(device.clone()).or_default().add(&client, before, elapsed);
            after.insert(key, client.engines);
        }
        self.before = after;
        self.when = Some(now);
        let processes = processes.into_iter().map(|((pid, device), sum)| ProcessUse {
            device,
            pid,
            kind: UseKind::Graphics,
            memory: sum.memory,
            busy: sum.busiest(),
        });
        let busy = wholes.into_iter().map(|(device, sum)| (device, sum.busiest()));
        Uses { processes: processes.collect(), busy: busy.collect() }
    }

    /// Reads a client; one whose process or file is gone meanwhile is none.
    fn client(&self, pid: u32, number: u32) -> Option<Client> {
        let file = File::open(self.proc.join(format!("{pid}/fdinfo/{number}"))).ok()?;
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text).ok()?;
        Client::parse(&text)
    }
}

impl Sum {
    fn add(&mut self, client: &Client, before: Option<&BTreeMap<String, Engine>>, elapsed: u64) {
        if let Some(memory) = client.memory() {
            self.memory = Some(self.memory.unwrap_or(0).saturating_add(memory));
        }
        let Some(before) = before else { return };
        for (kind, engine) in &client.engines {
            let earlier = before.get(kind);
            if let Some(busy) = earlier.and_then(|earlier| engine.busy_since(earlier, elapsed)) {
                *self.engines.entry(kind.clone()).or_default() += busy;
            }
        }
    }

    /// Returns the part of the busiest kind. Reading takes time, so that it may come out above 1.
    fn busiest(&self) -> Option<f64> {
        self.engines.values().copied().reduce(f64::max).map(|busy| busy.min(1.0))
    }
}
