//! What the collector knows, without clocks, sockets or tasks: readings in, a [`View`] and events out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::holdings::Holdings;
use super::told::Told;
use crate::event::UnixNanos;
use crate::gpu::activity::ProcessActivity;
use crate::gpu::attribution::{Attributed, User, attribute};
use crate::gpu::changes::{Changes, Moment};
use crate::gpu::config::GpuConfig;
use crate::gpu::device::{DeviceId, SourceKind};
use crate::gpu::event::{GpuEvent, GpuEventKind};
use crate::gpu::idle::{Known, Standings};
use crate::gpu::kubelet::{Listing, PodName};
use crate::gpu::processes::Who;
use crate::gpu::reading::{ProcessUse, Reading, Seen};
use crate::gpu::share::{Owner, Share};
use crate::gpu::source::Unread;
use crate::gpu::totals::Totals;
use crate::gpu::view::{DeviceView, ProcessView, View, Watching};

/// Name of NVIDIA's MPS server and its control daemon, cut off as the kernel does.
const MPS_SERVER: &str = "nvidia-cuda-mps";

/// What a source answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Which.
    pub kind: SourceKind,
    /// What.
    pub outcome: Outcome,
    /// How long that took.
    pub took: Duration,
    /// Values that it left out since start.
    pub invalid: u64,
    /// Values that it was not told since start.
    pub unread: Unread,
}

/// What became of asking a source.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It told.
    Read(Reading),
    /// There is nothing to read.
    Absent(String),
    /// It could not be read.
    Failed(String),
    /// It has not answered for so long.
    Late(Duration),
}

/// Everything that is new at one time.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// Of the sources that were asked.
    pub answers: Vec<Answer>,
    /// What the kubelet told last.
    pub listing: Listing,
    /// What processes do with CUDA and NCCL.
    pub activity: Vec<ProcessActivity>,
    /// What of that is worth telling by itself.
    pub events: Vec<GpuEvent>,
    /// How that is watched.
    pub watching: Watching,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// The state of all devices.
    pub view: View,
    /// What happened.
    pub events: Vec<GpuEvent>,
    /// Who uses a device that nobody is known to hold, and was not seen when the kubelet was asked: the
    /// pod, or `None` where its name is not known.
    pub unheld: Option<Option<PodName>>,
    /// Who was given anything, with what was asked for.
    pub holders: Vec<(Owner, String)>,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Core {
    interval: Duration,
    told: Told,
    changes: Changes,
    standings: Standings,
    totals: Totals,
    /// Who had which device the last time: what happens to a device may end its processes.
    owners: BTreeMap<DeviceId, Vec<Owner>>,
}

impl Core {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(config: &GpuConfig) -> Self {
        Self {
            interval: config.interval,
            told: Told::default(),
            changes: Changes::default(),
            standings: Standings::new(config.idle_after),
            owners: BTreeMap::new(),
            totals: Totals::default(),
        }
    }

    /// Takes in what is new.
    pub fn step(
        &mut self,
        (now, time): (Instant, UnixNanos),
        news: News,
        who: &mut dyn Who,
    ) -> Step {
        let News { answers, listing, mut activity, events: mut traced, watching } = news;
        self.told.take(answers, now);
        let merged = self.told.merged();
        let holdings = Holdings::find(&listing, merged.holdings, &merged.devices, who);
        let processes = name_processes(merged.processes, who);
        place(&mut activity, &mut traced, &processes);
        let moment = Moment { now, time, interval: self.interval };
        let mut events = merged.events;
        let changed = self.changes.compare(moment, &merged.devices);
        self.changes.note_told(self.told.settled());
        self.count(&events);
        let mut devices = share_out(merged.devices, &processes, &holdings);
        for view in &mut devices {
            view.counts = self.changes.counts(&view.seen.device.id);
        }
        let known = Known {
            holders: listing.read.filter(|_| listing.gives),
            unmatched: holdings.unmatched,
        };
        let judged = self.standings.judge((now, time), &mut devices, &known);
        events.extend(changed);
        events.extend(traced);
        let owners = owners_of(&devices);
        for event in &mut events {
            complete(event, &devices, [&owners, &self.owners], who);
        }
        self.owners = owners;
        events.extend(judged);
        let unheld = self.standings.unheld(&devices, listing.read);
        let view = View {
            time,
            interval: self.interval,
            sources: self.told.health(now),
            holders: holdings.health,
            devices,
            processes,
            totals: self.totals.add(&activity, now),
            activity,
            watching,
        };
        Step { view, events, unheld, holders: holdings.owners }
    }

    fn count(&mut self, events: &[GpuEvent]) {
        for event in events {
            if let (Some(device), GpuEventKind::Xid(xid)) = (&event.device, &event.kind) {
                self.changes.count_xid(device, xid.code, event.time);
            }
        }
    }
}

fn name_processes(processes: Vec<ProcessUse>, who: &mut dyn Who) -> Vec<ProcessView> {
    let name = |uses: ProcessUse| ProcessView { process: who.process(uses.pid), uses };
    processes.into_iter().map(name).collect()
}

/// Says of calls on which devices they were, as far as the driver tells where their processes are.
fn place(activity: &mut [ProcessActivity], events: &mut [GpuEvent], processes: &[ProcessView]) {
    let devices = |pid: u32| {
        let uses = processes.iter().map(|process| &process.uses).filter(move |it| it.pid == pid);
        let mut devices: Vec<DeviceId> = uses.map(|uses| uses.device.clone()).collect();
        devices.sort_unstable();
        devices.dedup();
        devices
    };
    for activity in activity.iter_mut().filter(|activity| activity.devices.is_empty()) {
        activity.devices = devices(activity.process.pid);
    }
    for event in events.iter_mut().filter(|event| event.device.is_none()) {
        let Some(process) = &event.process else { continue };
        if let [only] = devices(process.pid).as_slice() {
            event.device = Some(only.clone());
        }
    }
}

/// Finds each device's owners, and what of it is theirs.
fn share_out(
    devices: Vec<Seen>,
    processes: &[ProcessView],
    holdings: &Holdings,
) -> Vec<DeviceView> {
    let mut users: BTreeMap<&DeviceId, Vec<User>> = BTreeMap::new();
    for ProcessView { uses, process } in processes {
        users.entry(&uses.device).or_default().push(User {
            pid: uses.pid,
            owner: Owner::of_process(process),
            memory: uses.memory,
            busy: uses.busy,
            is_server: process.name.starts_with(MPS_SERVER),
        });
    }
    let shares: Vec<_> = devices
        .iter()
        .map(|seen| {
            let id = &seen.device.id;
            attribute(&Attributed {
                seen,
                parts_memory: parts_memory(id, &devices),
                holders: holdings.by_device.get(id).map_or(&[], Vec::as_slice),
                users: users.get(id).map_or(&[], Vec::as_slice),
                tells_users: tells_users(seen.device.source),
            })
        })
        .collect();
    let views = devices.into_iter().zip(shares);
    views.map(|(seen, shares)| DeviceView { seen, shares, counts: Default::default() }).collect()
}

/// Whether a source tells of every process on a device, so that one without has none.
const fn tells_users(source: SourceKind) -> bool {
    match source {
        SourceKind::Nvml | SourceKind::Amd | SourceKind::Drm | SourceKind::Neuron => true,
        SourceKind::Dcgm | SourceKind::Tpu => false,
    }
}

/// Adds up what a device's parts have, bytes.
fn parts_memory(parent: &DeviceId, devices: &[Seen]) -> u64 {
    let parts = devices
        .iter()
        .filter(|seen| seen.device.part.as_ref().is_some_and(|part| part.parent == *parent));
    let used = parts.filter_map(|seen| seen.state.sample()?.memory.used);
    used.fold(0, u64::saturating_add)
}

/// Lists who has each device; who has a part of one has it as well.
fn owners_of(devices: &[DeviceView]) -> BTreeMap<DeviceId, Vec<Owner>> {
    let mut owners: BTreeMap<DeviceId, Vec<Owner>> = BTreeMap::new();
    for DeviceView { seen, shares, .. } in devices {
        let of = |share: &Share| share.owner.clone();
        let parent = seen.device.part.as_ref().map(|part| part.parent.clone());
        for id in std::iter::once(seen.device.id.clone()).chain(parent) {
            owners.entry(id).or_default().extend(shares.shares.iter().map(of));
        }
    }
    owners
}

/// Adds to an event what is known of its device and process.
fn complete(
    event: &mut GpuEvent,
    devices: &[DeviceView],
    owners: [&BTreeMap<DeviceId, Vec<Owner>>; 2],
    who: &mut dyn Who,
) {
    if let Some(process) = event.process.as_mut().filter(|process| process.workload.is_none()) {
        *process = who.process(process.pid);
    }
    let Some(id) = &event.device else { return };
    if event.index.is_none() {
        let device = devices.iter().find(|view| view.seen.device.id == *id);
        event.index = device.and_then(|view| view.seen.device.index);
    }
    if !event.owners.is_empty() {
        return;
    }
    if let Some(owner) = event.process.as_ref().and_then(Owner::of_process) {
        event.owners.push(owner);
        return;
    }
    for owner in owners.into_iter().filter_map(|owners| owners.get(id)).flatten() {
        if !event.owners.iter().any(|known| known.key() == owner.key()) {
            event.owners.push(owner.clone());
        }
    }
}
