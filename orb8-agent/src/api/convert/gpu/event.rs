//! What happens to devices, and what is done with them.

use orb8_proto::filter::DevicePlace;
use orb8_proto::v1;
use v1::GpuEventKind as Kind;

use super::super::{Converter, lost};
use super::duration;
use super::share::owner;
use super::words::{allocation_kind, throttle_reason, xid_action, xid_class};
use crate::gpu::event::{Process, Xid};
use crate::gpu::{DeviceId, GpuEvent, GpuEventKind, View};
use crate::pipeline::{Happened, StreamItem};

/// Where the device of an event is among those that are there. One that has gone has only its id and
/// number.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::api) struct Place<'a> {
    id: Option<&'a DeviceId>,
    index: Option<u32>,
    parent: Option<(&'a DeviceId, Option<u32>)>,
    pci: Option<&'a str>,
}

impl<'a> Place<'a> {
    pub(in crate::api) fn new(event: &'a GpuEvent, view: &'a View) -> Self {
        let id = event.device.as_ref();
        let device = id.and_then(|id| view.device(id)).map(|view| &view.seen.device);
        let parent = device.and_then(|device| device.part.as_ref()).map(|part| &part.parent);
        let index = |id: &DeviceId| view.device(id).and_then(|view| view.seen.device.index);
        Self {
            id,
            index: event.index.or_else(|| device?.index),
            parent: parent.map(|parent| (parent, index(parent))),
            pci: device.and_then(|device| device.pci.as_ref()).map(|pci| pci.as_str()),
        }
    }

    /// Returns it as filters look at it.
    pub(in crate::api) fn key(&self) -> DevicePlace<'a> {
        DevicePlace {
            id: self.id.map_or("", DeviceId::as_str),
            index: self.index,
            parent: self.parent.map(|(parent, index)| (parent.as_str(), index)),
            pci: self.pci,
        }
    }
}

impl Converter {
    pub(in crate::api) fn gpu_event(
        &self,
        item: &StreamItem<GpuEvent>,
        view: &View,
    ) -> v1::StreamGpuResponse {
        let told = v1::StreamGpuResponse {
            time_ns: item.time.0,
            node_name: self.node_name.to_string(),
            kind: kind(&item.happened).into(),
            ..v1::StreamGpuResponse::default()
        };
        let event = match &item.happened {
            Happened::Event(event) => event,
            Happened::Lost(what) => {
                return v1::StreamGpuResponse { lost: Some(lost(*what)), ..told };
            }
        };
        let GpuEvent { time: _, device: _, index: _, process: by, owners, kind } = event;
        let DevicePlace { id, index, parent, pci } = Place::new(event, view).key();
        let (parent, parent_index) = parent.unwrap_or_default();
        let told = v1::StreamGpuResponse {
            device: id.to_owned(),
            index,
            parent: parent.to_owned(),
            parent_index,
            pci_address: pci.unwrap_or_default().to_owned(),
            process: by.as_ref().map(process),
            owners: owners.iter().filter_map(owner).collect(),
            ..told
        };
        with_kind(told, kind)
    }
}

/// Says what an event is.
pub(in crate::api) const fn kind(happened: &Happened<GpuEvent>) -> Kind {
    let Happened::Event(event) = happened else { return Kind::Lost };
    match &event.kind {
        GpuEventKind::Xid(_) => Kind::Xid,
        GpuEventKind::Throttle { .. } => Kind::Throttle,
        GpuEventKind::EccUncorrected { .. } => Kind::Ecc,
        GpuEventKind::RowRemap { .. } => Kind::RowRemap,
        GpuEventKind::Lost { .. } => Kind::LostDevice,
        GpuEventKind::Appeared => Kind::Appeared,
        GpuEventKind::Removed => Kind::Removed,
        GpuEventKind::Idle { .. } => Kind::Idle,
        GpuEventKind::Unallocated { .. } => Kind::Unallocated,
        GpuEventKind::Allocated { .. } => Kind::Allocated,
        GpuEventKind::AllocationFailed { .. } => Kind::AllocationFailed,
        GpuEventKind::Launches { .. } => Kind::Launches,
        GpuEventKind::ModuleLoaded { .. } => Kind::Module,
        GpuEventKind::Leak { .. } => Kind::Leak,
        GpuEventKind::Collectives { .. } => Kind::Collectives,
        GpuEventKind::CommunicatorInit { .. } => Kind::CommunicatorInit,
        GpuEventKind::CommunicatorAbort { .. } => Kind::CommunicatorAbort,
        GpuEventKind::Straggler { .. } => Kind::Straggler,
        GpuEventKind::Sampling { .. } => Kind::Sampling,
    }
}

/// Says what is to be done about an event that is an XID.
pub(in crate::api) const fn action(event: &GpuEvent) -> Option<v1::GpuXidAction> {
    match &event.kind {
        GpuEventKind::Xid(xid) => Some(xid_action(xid.action)),
        _ => None,
    }
}

pub(super) fn xid(xid: &Xid) -> v1::GpuXid {
    let Xid { code, class, action, meaning } = *xid;
    v1::GpuXid {
        code,
        class: xid_class(class).into(),
        action: xid_action(action).into(),
        meaning: meaning.to_owned(),
    }
}

fn process(process: &Process) -> v1::GpuEventProcess {
    let Process { pid, name, workload: _ } = process;
    v1::GpuEventProcess { pid: *pid, name: name.to_string() }
}

/// Adds what only this kind of event has.
fn with_kind(told: v1::StreamGpuResponse, kind: &GpuEventKind) -> v1::StreamGpuResponse {
    use v1::StreamGpuResponse as Told;
    match *kind {
        GpuEventKind::Xid(ref of) => Told { xid: Some(xid(of)), ..told },
        GpuEventKind::Throttle { began, ref reasons } => {
            let reasons = reasons.iter().map(|reason| throttle_reason(*reason).into()).collect();
            Told { began, reasons, ..told }
        }
        GpuEventKind::EccUncorrected { count } => Told { count, ..told },
        GpuEventKind::RowRemap { is_pending, has_failed } => {
            Told { pending: is_pending, failed: has_failed, ..told }
        }
        GpuEventKind::Lost { ref reason } => Told { reason: reason.clone(), ..told },
        GpuEventKind::Appeared | GpuEventKind::Removed => told,
        GpuEventKind::Idle { began, lasted } => Told { began, duration: duration(lasted), ..told },
        GpuEventKind::Unallocated { began } => Told { began, ..told },
        GpuEventKind::Allocated { bytes, how } => {
            Told { bytes, allocation: allocation_kind(how).into(), ..told }
        }
        GpuEventKind::AllocationFailed { bytes, error } => Told { bytes, error, ..told },
        GpuEventKind::Launches { rate, graph_rate, is_sampled } => {
            Told { rate, graph_rate, sampled: is_sampled, ..told }
        }
        GpuEventKind::ModuleLoaded { took } => Told { duration: duration(took), ..told },
        GpuEventKind::Leak { outstanding, growth } => {
            Told { bytes: outstanding, rate: growth, ..told }
        }
        GpuEventKind::Sampling { began, what, part } => {
            Told { began, reason: what.to_owned(), rate: part, ..told }
        }
        GpuEventKind::Collectives { .. }
        | GpuEventKind::CommunicatorInit { .. }
        | GpuEventKind::CommunicatorAbort { .. }
        | GpuEventKind::Straggler { .. } => with_communicator(told, kind),
    }
}

/// The same for the kinds that are about a communicator.
fn with_communicator(told: v1::StreamGpuResponse, kind: &GpuEventKind) -> v1::StreamGpuResponse {
    use v1::StreamGpuResponse as Told;
    match *kind {
        GpuEventKind::Collectives { communicator, rank, calls, bytes } => {
            Told { communicator, rank, count: calls, bytes, ..told }
        }
        GpuEventKind::CommunicatorInit { communicator, rank, ranks, took } => {
            Told { communicator, rank: Some(rank), ranks, duration: duration(took), ..told }
        }
        GpuEventKind::CommunicatorAbort { communicator, rank } => {
            Told { communicator, rank, ..told }
        }
        GpuEventKind::Straggler { communicator, rank, behind, is_missing } => {
            Told { communicator, rank: Some(rank), count: behind, pending: is_missing, ..told }
        }
        _ => told,
    }
}
