//! Several sources' readings as one: each device once, told by the first source that knows it.

use hashbrown::HashMap;

use crate::gpu::device::{Device, DeviceId, SourceKind};
use crate::gpu::event::{GpuEvent, GpuEventKind};
use crate::gpu::holding::Holding;
use crate::gpu::reading::{DeviceState, ProcessUse, Reading, Seen};
use crate::gpu::sample::{Busy, NvLink, Sample};

/// What all sources together tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Merged {
    /// Parts after what they are a part of.
    pub(super) devices: Vec<Seen>,
    pub(super) processes: Vec<ProcessUse>,
    pub(super) events: Vec<GpuEvent>,
    pub(super) holdings: Vec<Holding>,
    /// Devices that each source told of first.
    pub(super) told: Vec<(SourceKind, u32)>,
    /// Ids that sources had for devices that others told of before.
    aliases: HashMap<DeviceId, DeviceId>,
}

impl Merged {
    /// Adds a source's reading. The first one that knows a device is believed.
    pub(super) fn add(&mut self, reading: Reading) {
        let Reading { source, devices, processes, events, holdings } = reading;
        let before = self.devices.len();
        for seen in devices {
            self.add_device(seen, before);
        }
        let new = self.devices.len() - before;
        self.told.push((source, u32::try_from(new).unwrap_or(u32::MAX)));
        self.add_processes(processes);
        for mut event in events {
            let id = event.device.take();
            let is_told = id.as_ref().is_some_and(|id| self.is_told_before(id, before));
            event.device = id.map(|id| self.resolve(id));
            // Two sources would tell of one error.
            if !(is_told && matches!(event.kind, GpuEventKind::Xid(_))) {
                self.events.push(event);
            }
        }
        for mut holding in holdings {
            holding.device = holding.device.map(|id| self.resolve(id));
            self.holdings.push(holding);
        }
    }

    /// Adds a device, or what its source knows more of one that is there. Those of other sources are
    /// the first `before`.
    fn add_device(&mut self, mut seen: Seen, before: usize) {
        let id = seen.device.id.clone();
        if let Some(part) = &mut seen.device.part {
            part.parent = self.resolve(part.parent.clone());
        }
        let known = self.devices[..before].iter_mut().find(|it| is_same(&it.device, &seen.device));
        if let Some(known) = known {
            if let (DeviceState::Sampled(sample), Some(other)) =
                (&mut known.state, seen.state.sample())
            {
                fill(sample, other);
            }
            let known = known.device.id.clone();
            if known != id {
                self.aliases.insert(id, known);
            }
            return;
        }
        // Who told of a device knows its parts as well: this one is gone, or differently named.
        let is_others = seen.device.part.as_ref().is_some_and(|part| {
            self.devices[..before].iter().any(|it| it.device.id == part.parent)
        });
        let is_double = self.devices.iter().any(|it| it.device.id == id);
        if !is_others && !is_double {
            self.devices.push(seen);
        }
    }

    /// Adds who uses devices, of those that are there. What two sources tell of one process on one
    /// device is told once.
    fn add_processes(&mut self, processes: Vec<ProcessUse>) {
        let before = self.processes.len();
        for mut uses in processes {
            uses.device = self.resolve(uses.device);
            let is_double =
                |known: &ProcessUse| known.device == uses.device && known.pid == uses.pid;
            let is_there = self.devices.iter().any(|it| it.device.id == uses.device);
            if is_there && !self.processes[..before].iter().any(is_double) {
                self.processes.push(uses);
            }
        }
    }

    fn resolve(&self, id: DeviceId) -> DeviceId {
        self.aliases.get(&id).cloned().unwrap_or(id)
    }

    fn is_told_before(&self, id: &DeviceId, before: usize) -> bool {
        let id = self.aliases.get(id).unwrap_or(id);
        self.devices[..before].iter().any(|it| it.device.id == *id)
    }
}

/// Whether two sources mean the same device.
fn is_same(known: &Device, other: &Device) -> bool {
    if known.id == other.id {
        return true;
    }
    match (&known.part, &other.part) {
        (None, None) => known.pci.is_some() && known.pci == other.pci && !is_core(known, other),
        (Some(known), Some(other)) => {
            let compute = known.compute_instance.zip(other.compute_instance);
            known.parent == other.parent
                && known.gpu_instance == other.gpu_instance
                && compute.is_none_or(|(known, other)| known == other)
        }
        _ => false,
    }
}

/// Cores of one board share its address.
fn is_core(known: &Device, other: &Device) -> bool {
    known.source == other.source
}

/// Takes what profiling tells and the first source could not.
fn fill(sample: &mut Sample, other: &Sample) {
    let Busy {
        gpu: _, memory: _, encoder: _, decoder: _, engine, sm, sm_occupancy, tensor, ..
    } = other.busy;
    let Busy { fp64, fp32, fp16, dram, .. } = other.busy;
    let busy = &mut sample.busy;
    for (mine, theirs) in [
        (&mut busy.engine, engine),
        (&mut busy.sm, sm),
        (&mut busy.sm_occupancy, sm_occupancy),
        (&mut busy.tensor, tensor),
        (&mut busy.fp64, fp64),
        (&mut busy.fp32, fp32),
        (&mut busy.fp16, fp16),
        (&mut busy.dram, dram),
    ] {
        *mine = mine.or(theirs);
    }
    sample.pcie.tx_rate = sample.pcie.tx_rate.or(other.pcie.tx_rate);
    sample.pcie.rx_rate = sample.pcie.rx_rate.or(other.pcie.rx_rate);
    if let (Some(link), Some(NvLink { tx_rate, rx_rate, .. })) = (&mut sample.nvlink, other.nvlink)
    {
        link.tx_rate = link.tx_rate.or(tx_rate);
        link.rx_rate = link.rx_rate.or(rx_rate);
    }
}
