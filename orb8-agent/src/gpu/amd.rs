//! AMD's devices: amdgpu's files in `/sys`, and KFD for who computes.
//!
//! ```text
//! /sys/class/drm/cardN/device ── one thread per device ──▶ Sample ─┐
//! /sys/class/kfd/kfd/topology ── partitions ───────────────────────┼─▶ Reading
//! /sys/class/kfd/kfd/proc ────── one thread ──▶ processes ─────────┘
//! ```
//! A device that is divided (DPX, QPX, CPX) has parts. Only processes and how busy it is are known of a
//! part; everything else is the whole device's.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::aside::{Aside, Late};
use super::checked::Checked;
use super::config::GpuConfig;
use super::device::{Device, DeviceId, Part, SourceKind, Vendor};
use super::reading::{DeviceState, ProcessUse, Reading, Seen, UseKind};
use super::sample::{Busy, Memory, Sample};
use super::source::{Source, SourceError, Unread};
use super::sysfs::{self, Card};
use crate::clock::Clock;
use crate::event::UnixNanos;
use card::{Reader, Told};
use kfd::{Node, Processes, Use};

mod card;
mod kfd;
mod metrics;
mod ras;

/// PCI's number of AMD.
const VENDOR: u32 = 0x1002;

/// For all devices together, since each is read on a thread of its own.
const DEADLINE: Duration = Duration::from_millis(700);

/// For finding them, which touches none; what is late is taken in the next time.
const FINDING: Duration = Duration::from_millis(150);

/// Between two looks for devices that came, went, or were divided.
const DISCOVER_EVERY: Duration = Duration::from_secs(10);

/// See the [module](self).
#[derive(Debug)]
pub struct AmdSource {
    sys: PathBuf,
    discovered: Option<Instant>,
    finding: Aside<PathBuf, (Vec<Card>, Vec<Node>)>,
    boards: Vec<Board>,
    nodes: Vec<Node>,
    processes: Aside<(Processes, Checked), (Vec<Use>, u64, Unread)>,
    /// What made no sense in processes, and on devices that are gone.
    invalid: (u64, u64),
    /// Processes that there was no room for.
    left_out: Unread,
    /// Readings without processes, since KFD was late.
    late: Unread,
}

/// A device, and who reads it.
#[derive(Debug)]
struct Board {
    card: Card,
    device: Device,
    /// Its partitions, and bytes of memory of each; none where it is not divided.
    parts: Vec<(Device, Option<u64>)>,
    /// KFD's numbers, and what they stand for.
    places: Vec<(u32, DeviceId)>,
    reader: Aside<Reader, Told>,
    invalid: u64,
}

impl AmdSource {
    /// Prepares to look below the roots of the settings.
    #[must_use]
    pub fn new(config: &GpuConfig) -> Self {
        let sys = &config.roots.sys;
        Self {
            sys: sys.clone(),
            discovered: None,
            finding: Aside::new("orb8-amd-find", sys.clone()),
            boards: Vec::new(),
            nodes: Vec::new(),
            processes: Aside::new("orb8-amd-kfd", (Processes::new(sys), Checked::default())),
            invalid: (0, 0),
            left_out: Unread::default(),
            late: Unread::default(),
        }
    }

    /// Looks for devices. What is known of those that are still there is kept.
    async fn discover(&mut self) -> Result<(), SourceError> {
        // The first time there is nothing else to tell meanwhile.
        let within = if self.boards.is_empty() { DEADLINE } else { FINDING };
        let found = self.finding.run(within, |sys| (amd(sysfs::cards(sys)), kfd::nodes(sys)));
        let (cards, nodes) = match found.await {
            Ok(found) => found,
            // Those that are known already are read on.
            Err(Late::Waiting(_)) if !self.boards.is_empty() => return Ok(()),
            Err(late) => return Err(failed(&late)),
        };
        let mut known = std::mem::take(&mut self.boards);
        for (index, card) in cards.into_iter().enumerate() {
            // Within the bound on cards it fits.
            let index = index as u32;
            let kept = known.iter().position(|board| board.card == card);
            let mut board = match kept {
                Some(at) => known.swap_remove(at),
                None => Board::new(card),
            };
            board.describe(index, &nodes, &self.sys);
            self.boards.push(board);
        }
        self.invalid.1 += known.iter().map(|board| board.invalid).sum::<u64>();
        self.nodes = nodes;
        self.discovered = Some(Instant::now());
        Ok(())
    }
}

impl Source for AmdSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Amd
    }

    async fn read(&mut self) -> Result<Reading, SourceError> {
        if self.discovered.is_none_or(|when| when.elapsed() >= DISCOVER_EVERY) {
            self.discover().await?;
        }
        if self.boards.is_empty() {
            self.discovered = None;
            return Err(absent(&self.sys));
        }
        let time = Clock::system().now();
        let nodes = self.nodes.clone();
        let boards = join_all(self.boards.iter_mut().map(|board| board.read(time)));
        let uses = self.processes.run(DEADLINE, move |(processes, checked)| {
            let uses = processes.read(&nodes, Instant::now(), checked);
            (uses, checked.invalid, processes.unread())
        });
        let (devices, uses) = tokio::join!(boards, uses);
        let uses = match uses {
            Ok((uses, invalid, left_out)) => {
                (self.invalid.0, self.left_out) = (invalid, left_out);
                uses
            }
            // Without its processes a device is still worth telling.
            Err(late) => {
                self.late.count += 1;
                self.late.last = Some(format!("who computes (KFD): {late}"));
                Vec::new()
            }
        };
        Ok(Reading {
            source: SourceKind::Amd,
            devices: devices.into_iter().flatten().collect(),
            processes: uses.into_iter().filter_map(|used| self.process(used)).collect(),
            events: Vec::new(),
            holdings: Vec::new(),
        })
    }

    fn invalid(&self) -> u64 {
        let (processes, gone) = self.invalid;
        self.boards.iter().map(|board| board.invalid).sum::<u64>() + processes + gone
    }

    fn unread(&self) -> Unread {
        self.left_out.clone().and(self.late.clone())
    }
}

impl AmdSource {
    fn process(&self, used: Use) -> Option<ProcessUse> {
        let Use { pid, gpu_id, memory, busy } = used;
        let mut places = self.boards.iter().flat_map(|board| &board.places);
        let (_, device) = places.find(|(id, _)| *id == gpu_id)?;
        Some(ProcessUse { device: device.clone(), pid, kind: UseKind::Compute, memory, busy })
    }
}

impl Board {
    fn new(card: Card) -> Self {
        let reader = Reader::new(card.clone());
        let name = format!("orb8-amd-{}", card.pci);
        let device = Device {
            id: DeviceId::new(format!("pci-{}", card.pci)),
            vendor: Vendor::Amd,
            source: SourceKind::Amd,
            index: None,
            minor: card.render,
            model: card::model(&card.device)
                .unwrap_or_else(|| format!("AMD device {:04x}", card.product)),
            architecture: None,
            pci: Some(card.pci.clone()),
            serial: sysfs::text(&card.device.join("unique_id")).filter(|id| !id.is_empty()),
            driver: None,
            part: None,
            is_divided: false,
        };
        let reader = Aside::new(name, reader);
        Self { card, device, parts: Vec::new(), places: Vec::new(), reader, invalid: 0 }
    }

    /// Says which of KFD's nodes it is, and which parts it has.
    fn describe(&mut self, index: u32, nodes: &[Node], sys: &Path) {
        let own: Vec<&Node> = nodes.iter().filter(|node| node.pci == self.card.pci).collect();
        self.device.index = Some(index);
        self.device.driver = sysfs::text(&sys.join("module/amdgpu/version"));
        self.device.architecture = own.first().and_then(|node| node.architecture.clone());
        self.device.is_divided = own.len() > 1;
        self.parts.clear();
        self.places.clear();
        if let [node] = own[..] {
            self.places.push((node.gpu_id, self.device.id.clone()));
            return;
        }
        let profile = sysfs::text(&self.card.device.join("current_compute_partition"));
        let profile = profile.unwrap_or_default().to_lowercase();
        for (number, node) in own.into_iter().enumerate() {
            // Within KFD's bound on partitions it fits.
            let part = self.part(number as u32, node, &profile, sys);
            self.places.push((node.gpu_id, part.id.clone()));
            self.parts.push((part, node.memory));
        }
    }

    fn part(&self, number: u32, node: &Node, profile: &str, sys: &Path) -> Device {
        // All but the first have a platform device of their own, by which they are given out.
        let folder = node.render.map(|minor| sys.join(format!("class/drm/renderD{minor}/device")));
        let name = folder.and_then(|folder| sysfs::link_name(&folder));
        let id = name
            .filter(|name| name.starts_with("amdgpu_xcp"))
            .unwrap_or_else(|| format!("{}/xcp{number}", self.device.id));
        let part = Part {
            parent: self.device.id.clone(),
            gpu_instance: number,
            compute_instance: None,
            profile: profile.to_owned(),
        };
        Device {
            id: DeviceId::new(id),
            index: Some(number),
            minor: node.render,
            architecture: node.architecture.clone(),
            part: Some(part),
            is_divided: false,
            ..self.device.clone()
        }
    }

    /// Reads the device, and tells it with its parts.
    async fn read(&mut self, time: UnixNanos) -> Vec<Seen> {
        let told = self.reader.run(DEADLINE, move |reader| reader.read(time, Instant::now()));
        let Told { sample, partitions, invalid } = match told.await {
            Ok(told) => told,
            Err(late) => return self.silent(&late.to_string()),
        };
        self.invalid = invalid;
        let whole = Seen { device: self.device.clone(), state: sampled(sample) };
        let parts = self.parts.iter().enumerate().map(|(number, (device, memory))| {
            let busy = Busy { gpu: partitions.get(number).copied().flatten(), ..Busy::default() };
            let memory = Memory { total: *memory, ..Memory::default() };
            let state = sampled(Sample { time, busy, memory, ..Sample::default() });
            Seen { device: device.clone(), state }
        });
        std::iter::once(whole).chain(parts).collect()
    }

    fn silent(&self, reason: &str) -> Vec<Seen> {
        let parts = self.parts.iter().map(|(device, _)| device);
        let devices = std::iter::once(&self.device).chain(parts);
        let state = DeviceState::Silent { reason: reason.to_owned() };
        devices.map(|device| Seen { device: device.clone(), state: state.clone() }).collect()
    }
}

fn sampled(sample: Sample) -> DeviceState {
    DeviceState::Sampled(Box::new(sample))
}

fn amd(cards: Vec<Card>) -> Vec<Card> {
    let is_amd = |card: &Card| card.vendor == VENDOR && card.driver == "amdgpu";
    cards.into_iter().filter(is_amd).collect()
}

fn absent(sys: &Path) -> SourceError {
    let folder = sys.join("class/drm");
    SourceError::Absent(format!(
        "no device of AMD's with the amdgpu driver in {}; load amdgpu, and in a container mount the machine's /sys",
        folder.display()
    ))
}

fn failed(late: &Late) -> SourceError {
    SourceError::Failed(format!(
        "AMD's devices cannot be listed: {late}; look for amdgpu's messages with `dmesg`"
    ))
}

#[cfg(test)]
mod tests;
