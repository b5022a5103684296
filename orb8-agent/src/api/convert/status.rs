//! What the engine says of itself → what the API says.

use orb8_k8s::watch::WatchHealth;
use orb8_proto::v1;

use crate::cost::OwnCost;
use crate::pipeline::Accounting;
use crate::status::{
    AttachedInterface, Attachment, BpfRun, Check, CheckState, KubernetesState, KubernetesStatus,
    RingStatus, SourceState, SourceStatus, watch_name,
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
        SourceState::Absent { reason } => (v1::SourceState::Absent, reason.clone()),
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

pub(in crate::api) fn kubernetes(status: &KubernetesStatus) -> v1::Kubernetes {
    let KubernetesStatus { state, access, server, reason, watches, counts } = status;
    v1::Kubernetes {
        state: match state {
            KubernetesState::Off => v1::KubernetesState::Off,
            KubernetesState::Syncing => v1::KubernetesState::Syncing,
            KubernetesState::Connected => v1::KubernetesState::Connected,
            KubernetesState::Disconnected => v1::KubernetesState::Disconnected,
        }
        .into(),
        access: access.clone(),
        server: server.clone(),
        reason: reason.clone().unwrap_or_default(),
        watches: watches.iter().map(kubernetes_watch).collect(),
        pods: counts.pods,
        services: counts.services,
        nodes: counts.nodes,
        address_conflicts: counts.conflicts,
    }
}

fn kubernetes_watch(watch: &WatchHealth) -> v1::KubernetesWatch {
    v1::KubernetesWatch {
        resource: watch_name(watch).to_owned(),
        connected: watch.is_connected(),
        reconnections: watch.reconnections,
        last_sync_ns: watch.last_sync.unwrap_or_default().saturating_mul(1_000_000_000),
        objects: watch.objects,
        error: watch.error.clone().unwrap_or_default(),
    }
}
