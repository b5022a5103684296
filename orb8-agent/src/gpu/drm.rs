//! What DRM drivers tell of their clients: Intel's devices, and drawing on AMD's.
//!
//! ```text
//! /proc/*/fd ─▶ scan ─▶ /proc/<pid>/fdinfo/<fd> ─▶ clients (each once) ─▶ ProcessUse
//! /sys/class/drm ─▶ cards ─▶ Sample ◀── how busy all clients together keep it
//! ```
//! Everything is read on one thread of its own: a driver whose device hangs may hold up any of it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::aside::Aside;
use super::checked::Checked;
use super::config::GpuConfig;
use super::device::{Device, DeviceId, PciAddress, SourceKind, Vendor};
use super::reading::{DeviceState, ProcessUse, Reading, Seen};
use super::sample::{Busy, Sample};
use super::scan::Scan;
use super::source::{Source, SourceError, Unread};
use super::sysfs::{self, Card};
use crate::clock::Clock;
use crate::event::UnixNanos;
use clients::Clients;

mod clients;
mod fdinfo;
mod intel;

/// For everything: the files are read in a few milliseconds.
const DEADLINE: Duration = Duration::from_millis(700);

/// Between two looks for devices that came or went.
const DISCOVER_EVERY: Duration = Duration::from_secs(10);

/// Drivers that tell of their clients, and whose devices' kinds are known here.
const DRIVERS: [(&str, Vendor); 3] =
    [("i915", Vendor::Intel), ("xe", Vendor::Intel), ("amdgpu", Vendor::Amd)];

/// See the [module](self).
#[derive(Debug)]
pub struct DrmSource {
    sys: PathBuf,
    reader: Aside<Reader, (Told, u64, Unread)>,
    /// As the reader last told it.
    known: Vec<Seen>,
    invalid: u64,
    unread: Unread,
}

/// Devices, and who uses them.
type Told = (Vec<Seen>, Vec<ProcessUse>);

/// What the thread has.
#[derive(Debug)]
struct Reader {
    sys: PathBuf,
    discovered: Option<Instant>,
    cards: Vec<(Card, Device)>,
    energy: HashMap<PciAddress, Option<intel::Energy>>,
    scan: Scan,
    clients: Clients,
    checked: Checked,
}

impl DrmSource {
    /// Prepares to look below the roots of the settings.
    #[must_use]
    pub fn new(config: &GpuConfig) -> Self {
        let roots = &config.roots;
        let reader = Reader {
            sys: roots.sys.clone(),
            discovered: None,
            cards: Vec::new(),
            energy: HashMap::new(),
            scan: Scan::new(&roots.proc, |path| path.starts_with(b"/dev/dri/")),
            clients: Clients::new(&roots.proc),
            checked: Checked::default(),
        };
        let reader = Aside::new("orb8-drm", reader);
        let unread = Unread::default();
        Self { sys: roots.sys.clone(), reader, known: Vec::new(), invalid: 0, unread }
    }
}

impl Source for DrmSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Drm
    }

    async fn read(&mut self) -> Result<Reading, SourceError> {
        let time = Clock::system().now();
        let told = self.reader.run(DEADLINE, move |reader| {
            let told = reader.read(time, Instant::now());
            (told, reader.checked.invalid, reader.scan.unread().and(reader.clients.unread()))
        });
        let (devices, processes) = match told.await {
            Ok((told, invalid, unread)) => {
                (self.invalid, self.unread) = (invalid, unread);
                told
            }
            Err(late) if self.known.is_empty() => {
                return Err(SourceError::Failed(format!(
                    "DRM devices cannot be read: {late}; look for the driver's messages with `dmesg`"
                )));
            }
            Err(late) => {
                let state = DeviceState::Silent { reason: late.to_string() };
                let silent = self.known.iter().cloned();
                (silent.map(|seen| Seen { state: state.clone(), ..seen }).collect(), Vec::new())
            }
        };
        if devices.is_empty() {
            let folder = self.sys.join("class/drm");
            return Err(SourceError::Absent(format!(
                "no device with the drivers i915, xe or amdgpu in {}; load one, and in a container mount the \
                 machine's /sys",
                folder.display()
            )));
        }
        self.known.clone_from(&devices);
        Ok(Reading {
            source: SourceKind::Drm,
            devices,
            processes,
            events: Vec::new(),
            holdings: Vec::new(),
        })
    }

    fn invalid(&self) -> u64 {
        self.invalid
    }

    fn unread(&self) -> Unread {
        self.unread.clone()
    }
}

impl Reader {
    fn read(&mut self, time: UnixNanos, now: Instant) -> Told {
        self.discover(now);
        // Where there is no device, no process is looked at.
        if self.cards.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let open = self.scan.step(now);
        let devices = self.cards.iter().map(|(card, device)| (card.pci.clone(), device.id.clone()));
        let devices: HashMap<_, _> = devices.collect();
        let uses = self.clients.read(open, &devices, now);
        let mut seen = Vec::with_capacity(self.cards.len());
        for (card, device) in &self.cards {
            let mut sample = Sample { time, ..Sample::default() };
            if device.vendor == Vendor::Intel && !card.is_asleep() {
                let energy = self.energy.entry(card.pci.clone()).or_default();
                intel::fill(card, &mut sample, energy, now, &mut self.checked);
            }
            // Nobody has it open: it does nothing.
            let unused = self.scan.has_seen_all().then_some(0.0);
            let busy = uses.busy.get(&device.id).copied().unwrap_or(unused);
            sample.busy = Busy { gpu: busy, ..Busy::default() };
            seen.push(Seen {
                device: device.clone(),
                state: DeviceState::Sampled(Box::new(sample)),
            });
        }
        (seen, uses.processes)
    }

    fn discover(&mut self, now: Instant) {
        let is_due = |when: Instant| now.saturating_duration_since(when) >= DISCOVER_EVERY;
        if !self.discovered.is_none_or(is_due) {
            return;
        }
        self.discovered = Some(now);
        let mut index: BTreeMap<Vendor, u32> = BTreeMap::new();
        self.cards = sysfs::cards(&self.sys)
            .into_iter()
            .filter_map(|card| {
                let (_, vendor) = DRIVERS.iter().find(|(driver, _)| *driver == card.driver)?;
                let next = index.entry(*vendor).or_default();
                let device = device(&card, *vendor, *next);
                *next += 1;
                Some((card, device))
            })
            .collect();
        let cards = &self.cards;
        self.energy.retain(|pci, _| cards.iter().any(|(card, _)| card.pci == *pci));
    }
}

fn device(card: &Card, vendor: Vendor, index: u32) -> Device {
    Device {
        id: DeviceId::new(format!("pci-{}", card.pci)),
        vendor,
        source: SourceKind::Drm,
        index: Some(index),
        minor: card.render,
        model: model(card, vendor),
        architecture: None,
        pci: Some(card.pci.clone()),
        serial: None,
        driver: None,
        part: None,
        is_divided: false,
    }
}

/// The kernel does not know products by name; their numbers are known to who looks for them.
fn model(card: &Card, vendor: Vendor) -> String {
    let maker = if vendor == Vendor::Intel { "Intel" } else { "AMD" };
    format!("{maker} graphics {:04x} ({})", card.product, card.driver)
}

#[cfg(test)]
mod tests;
