//! Events of accelerators.

use std::io::{self, Write};

use orb8_proto::filter::DevicePlace;
use orb8_proto::v1::{GpuEventKind as Kind, GpuEventProcess, StreamGpuResponse};

use super::super::Machine;
use super::super::end::WorkloadObject;
use super::super::lost::LostObject;
use super::{XidObject, nanos, objects, sparse, text, timestamp};

sparse! {
    /// Something that happened to a device, or was done with one.
    struct EventObject<'a> {
        r#type: &'static str,
        time: String,
        node_name: &'a str,
        event: &'static str,
        gpu: String,
        device: &'a str,
        index: u32,
        parent: &'a str,
        parent_index: u32,
        pci_address: &'a str,
        process: ProcessObject<'a>,
        workloads: Vec<WorkloadObject<'a>>,
        began: bool,
        xid: XidObject<'a>,
        reasons: Vec<&'static str>,
        count: u64,
        bytes: u64,
        duration_ns: u64,
        reason: &'a str,
        allocation: &'static str,
        error: u32,
        rate: f64,
        graph_rate: f64,
        sampled: bool,
        communicator: String,
        rank: u32,
        ranks: u32,
        pending: bool,
        failed: bool,
    }

    struct ProcessObject<'a> {
        pid: u32,
        name: &'a str,
    }
}

/// Writes one message of a stream; nothing for what this build does not know.
pub(crate) fn write_event(
    machine: Machine,
    out: &mut dyn Write,
    event: &StreamGpuResponse,
) -> io::Result<()> {
    match (event.kind(), &event.lost) {
        (_, Some(lost)) => {
            let lost = LostObject::new(lost).at(event.time_ns, &event.node_name);
            machine.write(out, &lost)
        }
        (Kind::Unspecified | Kind::Lost, None) => Ok(()),
        (_, None) => machine.write(out, &EventObject::new(event)),
    }
}

/// As NCCL prints it; absent where it is not known.
pub(super) fn hash(communicator: u64) -> Option<String> {
    (communicator > 0).then(|| format!("{communicator:#018x}"))
}

impl<'a> EventObject<'a> {
    fn new(event: &'a StreamGpuResponse) -> Self {
        let StreamGpuResponse {
            time_ns,
            node_name,
            kind: _,
            device,
            index,
            process,
            owners,
            began,
            xid,
            reasons: _,
            count,
            bytes,
            duration,
            reason,
            allocation: _,
            error,
            rate,
            graph_rate,
            sampled,
            communicator,
            rank,
            ranks,
            pending,
            failed,
            lost: _,
            parent,
            parent_index,
            pci_address,
        } = event;
        let kind = event.kind();
        let has = |kinds: &[Kind]| kinds.contains(&kind);
        let counts = has(&[Kind::Ecc, Kind::Collectives, Kind::Straggler]);
        let sizes = has(&[Kind::Allocated, Kind::AllocationFailed, Kind::Collectives, Kind::Leak]);
        let rates = has(&[Kind::Launches, Kind::Leak, Kind::Sampling]);
        let lasts = has(&[Kind::Throttle, Kind::Idle, Kind::Unallocated, Kind::Sampling]);
        let words: Vec<_> = event.reasons().filter_map(|reason| reason.word()).collect();
        Self {
            r#type: Some("gpu"),
            time: timestamp(*time_ns),
            node_name: text(node_name),
            event: kind.word(),
            gpu: Some(DevicePlace::of_event(event).label()).filter(|label| !label.is_empty()),
            device: text(device),
            index: *index,
            parent: text(parent),
            parent_index: *parent_index,
            pci_address: text(pci_address),
            process: process.as_ref().map(ProcessObject::new),
            workloads: objects(owners, WorkloadObject::new),
            began: lasts.then_some(*began),
            xid: xid.as_ref().map(XidObject::new),
            reasons: has(&[Kind::Throttle]).then_some(words),
            count: counts.then_some(*count),
            bytes: sizes.then_some(*bytes),
            duration_ns: nanos(duration.as_ref()),
            reason: text(reason),
            allocation: event.allocation().word(),
            error: has(&[Kind::AllocationFailed]).then_some(*error),
            rate: rates.then_some(*rate),
            graph_rate: has(&[Kind::Launches]).then_some(*graph_rate),
            sampled: has(&[Kind::Launches]).then_some(*sampled),
            communicator: hash(*communicator),
            rank: *rank,
            ranks: (*ranks > 0).then_some(*ranks),
            pending: has(&[Kind::RowRemap, Kind::Straggler]).then_some(*pending),
            failed: has(&[Kind::RowRemap]).then_some(*failed),
        }
    }
}

impl<'a> ProcessObject<'a> {
    fn new(process: &'a GpuEventProcess) -> Self {
        let GpuEventProcess { pid, name } = process;
        Self { pid: Some(*pid), name: text(name) }
    }
}
