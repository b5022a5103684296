//! What the engine says of itself → what the API says.

use orb8_proto::v1;

use crate::cost::OwnCost;
use crate::pipeline::Accounting;
use crate::status::{
    AttachedInterface, Attachment, BpfRun, Check, CheckState, RingStatus, SourceState, SourceStatus,
};

pub(in crate::api) fn accounting(accounting: &Accounting) -> v1::Accounting {
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

pub(in crate::api) fn source(status: &SourceStatus) -> v1::SourceStatus {
    let (state, reason) = match &status.state {
        SourceState::Running => (v1::SourceState::Running, status.missing.join("; ")),
        SourceState::Skipped { reason } => (v1::SourceState::Skipped, reason.clone()),
    };
    v1::SourceStatus { name: status.name.to_owned(), state: state.into(), reason }
}

pub(in crate::api) fn attachment(attachment: &Attachment) -> v1::Attachment {
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

pub(in crate::api) fn check(check: &Check) -> v1::Check {
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

pub(in crate::api) fn cost(own: OwnCost, map_bytes: u64, bpf_run: Option<BpfRun>) -> v1::Cost {
    v1::Cost {
        cpu_ns: own.cpu_ns,
        rss_bytes: own.rss_bytes,
        map_bytes,
        bpf_ns: bpf_run.map(|run| run.run_ns),
        bpf_runs: bpf_run.map(|run| run.runs),
    }
}

pub(in crate::api) fn ring(ring: &RingStatus) -> v1::RingStatus {
    let RingStatus { probe, size_bytes, events, drops, utilization } = ring;
    v1::RingStatus {
        probe: (*probe).to_owned(),
        size_bytes: *size_bytes,
        events: *events,
        drops: *drops,
        utilization: *utilization,
    }
}
