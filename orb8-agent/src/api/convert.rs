//! What the agent holds → what the API says.

use std::sync::Arc;

use orb8_common::flow::HOOK_SOCKET;
use orb8_proto::filter::{End, FlowFields};
use orb8_proto::v1;

use crate::cost::OwnCost;
use crate::identity::{Runtime, Workload};
use crate::pipeline::{Accounting, FlowStep, Happened, Lost, StreamItem};
use crate::status::{
    AttachedInterface, Attachment, BpfRun, Check, CheckState, RingStatus, SourceState,
    SourceStatus, StatusBoard,
};
use crate::store::{EndReason, FlowRow, FlowView, InterfaceNames};

/// Length of the prefix of an IPv4 address in IPv6.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// What every answer of this node needs.
#[derive(Clone, Debug)]
pub(super) struct Converter {
    pub(super) node_name: Arc<str>,
    pub(super) interfaces: Arc<InterfaceNames>,
}

impl Converter {
    pub(super) fn new(node_name: Arc<str>, board: &StatusBoard) -> Self {
        Self { node_name, interfaces: board.interfaces() }
    }

    pub(super) fn flow(&self, row: &FlowRow) -> v1::Flow {
        let view = FlowView { flow: &row.flow, interfaces: &self.interfaces };
        let flow = &row.flow;
        let key = &flow.key;
        v1::Flow {
            source: Some(endpoint(&view, End::Source)),
            destination: Some(endpoint(&view, End::Destination)),
            protocol: view.protocol().into(),
            ip_protocol: key.protocol.into(),
            direction: view.direction().into(),
            hook: match key.hook {
                HOOK_SOCKET => v1::Hook::Socket,
                _ => v1::Hook::Interface,
            }
            .into(),
            bytes: flow.bytes,
            packets: flow.packets,
            first_seen_ns: flow.first.0,
            last_seen_ns: flow.last.0,
            tcp_flags: flow.tcp_flags.into(),
            icmp: view.has_icmp_type().then(|| v1::IcmpType {
                r#type: key.source_port.into(),
                code: key.destination_port.into(),
            }),
            local_end: match flow.local_end() {
                Some(End::Source) => v1::LocalEnd::Source,
                Some(End::Destination) => v1::LocalEnd::Destination,
                None => v1::LocalEnd::Unspecified,
            }
            .into(),
            cgroup_id: flow.cgroup_id,
            socket_cookie: flow.cookie,
            interface: (flow.ifindex != 0).then(|| v1::Interface {
                index: flow.ifindex,
                name: view.interface().unwrap_or_default().to_owned(),
            }),
            vlan: (key.vlan != 0).then(|| key.vlan.into()),
            inner_vlan: (key.inner_vlan != 0).then(|| key.inner_vlan.into()),
            fragment: view.is_fragment(),
            self_traffic: flow.self_traffic,
            node_name: self.node_name.to_string(),
            bytes_per_second: row.bytes_per_second,
            packets_per_second: row.packets_per_second,
        }
    }

    pub(super) fn event(&self, item: &StreamItem) -> v1::StreamEventsResponse {
        let event = v1::StreamEventsResponse {
            time_ns: item.time.0,
            node_name: self.node_name.to_string(),
            kind: kind(item).into(),
            ..v1::StreamEventsResponse::default()
        };
        match &item.happened {
            Happened::Flow { step, row, packets, bytes } => v1::StreamEventsResponse {
                flow: Some(self.flow(row)),
                delta_bytes: *bytes,
                delta_packets: *packets,
                end_reason: match step {
                    FlowStep::End(reason) | FlowStep::Closing(reason) => end_reason(*reason),
                    FlowStep::New | FlowStep::Update => v1::EndReason::Unspecified,
                }
                .into(),
                ..event
            },
            Happened::Lost(what) => v1::StreamEventsResponse { lost: Some(lost(*what)), ..event },
        }
    }
}

/// Returns the kind of an event.
pub(super) fn kind(item: &StreamItem) -> v1::EventKind {
    match &item.happened {
        Happened::Flow { step, .. } => match step {
            FlowStep::New => v1::EventKind::FlowNew,
            FlowStep::Update => v1::EventKind::FlowUpdate,
            FlowStep::Closing(_) => v1::EventKind::FlowClosing,
            FlowStep::End(_) => v1::EventKind::FlowEnd,
        },
        Happened::Lost(_) => v1::EventKind::Lost,
    }
}

fn lost(lost: Lost) -> v1::Lost {
    let (source, events, packets, bytes) = match lost {
        Lost::Kernel { packets, bytes } => (v1::LostSource::Kernel, 0, packets, bytes),
        Lost::Ring { events } => (v1::LostSource::Ring, events, 0, 0),
        Lost::Subscriber { events } => (v1::LostSource::Subscriber, events, 0, 0),
    };
    v1::Lost { source: source.into(), events, packets, bytes }
}

fn end_reason(reason: EndReason) -> v1::EndReason {
    match reason {
        EndReason::Fin => v1::EndReason::Fin,
        EndReason::Rst => v1::EndReason::Rst,
        EndReason::Idle => v1::EndReason::Idle,
        EndReason::Evicted => v1::EndReason::Evicted,
    }
}

fn endpoint(view: &FlowView<'_>, end: End) -> v1::Endpoint {
    let raw = view.raw_ip(end);
    v1::Endpoint {
        ip: raw.strip_prefix(&MAPPED).unwrap_or(&raw).to_vec(),
        port: view.port(end).unwrap_or_default().into(),
        workload: view.workload(end).map(workload),
    }
}

fn workload(workload: &Workload) -> v1::Workload {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    // Exhaustive: what is known of an owner is told.
    let Workload {
        namespace,
        pod,
        pod_uid,
        container: _,
        container_id,
        runtime,
        unit,
        cgroup_path,
        process,
        host_network: _,
    } = workload;
    v1::Workload {
        namespace: text(namespace),
        pod: text(pod),
        pod_uid: text(pod_uid),
        container: workload.container_label().unwrap_or_default().to_owned(),
        container_id: text(container_id),
        runtime: match runtime {
            Some(Runtime::Containerd) => v1::Runtime::Containerd,
            Some(Runtime::Crio) => v1::Runtime::Crio,
            Some(Runtime::Docker) => v1::Runtime::Docker,
            Some(Runtime::Podman) => v1::Runtime::Podman,
            None => v1::Runtime::Unspecified,
        }
        .into(),
        unit: text(unit),
        cgroup_path: cgroup_path.clone(),
        attribution: v1::Attribution::Cgroup.into(),
        process: text(process),
    }
}

pub(super) fn accounting(accounting: &Accounting) -> v1::Accounting {
    let Accounting { counted, lost, other, malformed, duplicate, evicted, lost_moments } =
        *accounting;
    v1::Accounting {
        counted_packets: counted.packets,
        counted_bytes: counted.bytes,
        lost_packets: lost.packets,
        lost_bytes: lost.bytes,
        other_packets: other.packets,
        other_bytes: other.bytes,
        malformed_packets: malformed.packets,
        malformed_bytes: malformed.bytes,
        lost_moments,
        duplicate_packets: duplicate.packets,
        duplicate_bytes: duplicate.bytes,
        evicted_flows: evicted.flows,
        evicted_packets: evicted.packets,
        evicted_bytes: evicted.bytes,
    }
}

pub(super) fn source(status: &SourceStatus) -> v1::SourceStatus {
    let (state, reason) = match &status.state {
        SourceState::Running => (v1::SourceState::Running, String::new()),
        SourceState::Skipped { reason } => (v1::SourceState::Skipped, reason.clone()),
    };
    v1::SourceStatus { name: status.name.to_owned(), state: state.into(), reason }
}

pub(super) fn attachment(attachment: &Attachment) -> v1::Attachment {
    let Attachment { requested, in_force, reason, cgroup_root, interfaces, socket_storage } =
        attachment;
    let interface = |AttachedInterface { index, name, mechanism }: &AttachedInterface| {
        let mechanism = (*mechanism).to_owned();
        v1::AttachedInterface { index: *index, name: name.clone(), mechanism }
    };
    v1::Attachment {
        requested: (*requested).to_owned(),
        in_force: (*in_force).to_owned(),
        reason: reason.clone(),
        cgroup_root: cgroup_root.clone().unwrap_or_default(),
        interfaces: interfaces.iter().map(interface).collect(),
        socket_storage: *socket_storage,
    }
}

pub(super) fn check(check: &Check) -> v1::Check {
    let Check { name, state, detail, remedy } = check;
    let state = match state {
        CheckState::Ok => v1::CheckState::Ok,
        CheckState::Absent => v1::CheckState::Absent,
        CheckState::Failed => v1::CheckState::Failed,
    };
    v1::Check {
        name: (*name).to_owned(),
        state: state.into(),
        detail: detail.clone(),
        remedy: remedy.clone().unwrap_or_default(),
    }
}

pub(super) fn cost(own: OwnCost, map_bytes: u64, bpf_run: Option<BpfRun>) -> v1::Cost {
    v1::Cost {
        cpu_ns: own.cpu_ns,
        rss_bytes: own.rss_bytes,
        map_bytes,
        bpf_ns: bpf_run.map(|run| run.run_ns),
        bpf_runs: bpf_run.map(|run| run.runs),
    }
}

pub(super) fn ring(ring: &RingStatus) -> v1::RingStatus {
    let RingStatus { probe, size_bytes, events, drops, utilization } = ring;
    v1::RingStatus {
        probe: (*probe).to_owned(),
        size_bytes: *size_bytes,
        events: *events,
        drops: *drops,
        utilization: *utilization,
    }
}
