//! An agent's state as an object.

use orb8_proto::v1::{
    Accounting, AttachedInterface, Attachment, Check, Cost, GetStatusResponse, RingStatus,
    SourceStatus,
};
use serde::Serialize;

use self::kubernetes::KubernetesObject;
use super::value::Word;

mod kubernetes;

/// `orb8 status`.
#[derive(Debug, Serialize)]
pub(crate) struct StatusObject<'a> {
    r#type: &'static str,
    node_name: &'a str,
    version: &'a str,
    kernel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Word,
    uptime_ns: u64,
    active_flows: u64,
    events_processed: u64,
    events_dropped: u64,
    subscribers: u32,
    workloads_known: u64,
    pods_tracked: u64,
    accounting: AccountingObject,
    sources: Vec<SourceObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attachment: Option<AttachmentObject<'a>>,
    checks: Vec<CheckObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kubernetes: Option<KubernetesObject<'a>>,
    rings: Vec<RingObject<'a>>,
    cost: CostObject,
}

/// `orb8 diagnose`.
#[derive(Debug, Serialize)]
pub(crate) struct DiagnosisObject<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    node_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kernel: &'a str,
    checks: Vec<CheckObject<'a>>,
    sources: Vec<SourceObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attachment: Option<AttachmentObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kubernetes: Option<KubernetesObject<'a>>,
}

#[derive(Debug, Serialize)]
struct AccountingObject {
    counted_packets: u64,
    counted_bytes: u64,
    lost_packets: u64,
    lost_bytes: u64,
    other_packets: u64,
    other_bytes: u64,
    malformed_packets: u64,
    malformed_bytes: u64,
    lost_moments: u64,
    duplicate_packets: u64,
    duplicate_bytes: u64,
    evicted_flows: u64,
    evicted_packets: u64,
    evicted_bytes: u64,
}

#[derive(Debug, Serialize)]
struct SourceObject<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Word,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

#[derive(Debug, Serialize)]
struct AttachmentObject<'a> {
    requested: &'a str,
    in_force: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cgroup_root: &'a str,
    interfaces: Vec<AttachedObject<'a>>,
    socket_storage: bool,
}

#[derive(Debug, Serialize)]
struct AttachedObject<'a> {
    index: u32,
    name: &'a str,
    mechanism: &'a str,
}

#[derive(Debug, Serialize)]
struct CheckObject<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Word,
    detail: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    remedy: &'a str,
}

#[derive(Debug, Serialize)]
struct RingObject<'a> {
    probe: &'a str,
    size_bytes: u64,
    events: u64,
    drops: u64,
    utilization: f64,
}

#[derive(Debug, Serialize)]
struct CostObject {
    cpu_ns: u64,
    rss_bytes: u64,
    map_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bpf_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bpf_runs: Option<u64>,
}

impl<'a> StatusObject<'a> {
    pub(crate) fn new(status: &'a GetStatusResponse) -> Self {
        Self {
            r#type: "status",
            node_name: &status.node_name,
            version: &status.version,
            kernel: &status.kernel,
            health: status.health().word(),
            uptime_ns: status.uptime_ns,
            active_flows: status.active_flows,
            events_processed: status.events_processed,
            events_dropped: status.events_dropped,
            subscribers: status.subscribers,
            workloads_known: status.workloads_known,
            pods_tracked: status.pods_tracked,
            accounting: AccountingObject::new(status.accounting.unwrap_or_default()),
            sources: status.sources.iter().map(SourceObject::new).collect(),
            attachment: status.attachment.as_ref().map(AttachmentObject::new),
            checks: status.checks.iter().map(CheckObject::new).collect(),
            kubernetes: status.kubernetes.as_ref().map(KubernetesObject::new),
            rings: status.rings.iter().map(RingObject::new).collect(),
            cost: CostObject::new(status.cost.unwrap_or_default()),
        }
    }
}

impl<'a> DiagnosisObject<'a> {
    pub(crate) fn new(status: &'a GetStatusResponse) -> Self {
        Self {
            r#type: "diagnosis",
            node_name: &status.node_name,
            kernel: &status.kernel,
            checks: status.checks.iter().map(CheckObject::new).collect(),
            sources: status.sources.iter().map(SourceObject::new).collect(),
            attachment: status.attachment.as_ref().map(AttachmentObject::new),
            kubernetes: status.kubernetes.as_ref().map(KubernetesObject::new),
        }
    }
}

impl AccountingObject {
    fn new(accounting: Accounting) -> Self {
        // Exhaustive, so that a new field is not forgotten here.
        let Accounting {
            counted_packets,
            counted_bytes,
            lost_packets,
            lost_bytes,
            other_packets,
            other_bytes,
            malformed_packets,
            malformed_bytes,
            lost_moments,
            duplicate_packets,
            duplicate_bytes,
            evicted_flows,
            evicted_packets,
            evicted_bytes,
        } = accounting;
        Self {
            counted_packets,
            counted_bytes,
            lost_packets,
            lost_bytes,
            other_packets,
            other_bytes,
            malformed_packets,
            malformed_bytes,
            lost_moments,
            duplicate_packets,
            duplicate_bytes,
            evicted_flows,
            evicted_packets,
            evicted_bytes,
        }
    }
}

impl<'a> SourceObject<'a> {
    fn new(source: &'a SourceStatus) -> Self {
        Self { name: &source.name, state: source.state().word(), reason: &source.reason }
    }
}

impl<'a> AttachmentObject<'a> {
    fn new(attachment: &'a Attachment) -> Self {
        let Attachment { requested, in_force, reason, cgroup_root, interfaces, socket_storage } =
            attachment;
        let attached = |AttachedInterface { index, name, mechanism }: &'a AttachedInterface| {
            AttachedObject { index: *index, name, mechanism }
        };
        Self {
            requested,
            in_force,
            reason,
            cgroup_root,
            interfaces: interfaces.iter().map(attached).collect(),
            socket_storage: *socket_storage,
        }
    }
}

impl<'a> CheckObject<'a> {
    fn new(check: &'a Check) -> Self {
        Self {
            name: &check.name,
            state: check.state().word(),
            detail: &check.detail,
            remedy: &check.remedy,
        }
    }
}

impl<'a> RingObject<'a> {
    fn new(ring: &'a RingStatus) -> Self {
        let RingStatus { probe, size_bytes, events, drops, utilization } = ring;
        Self {
            probe,
            size_bytes: *size_bytes,
            events: *events,
            drops: *drops,
            utilization: *utilization,
        }
    }
}

impl CostObject {
    fn new(cost: Cost) -> Self {
        let Cost { cpu_ns, rss_bytes, map_bytes, bpf_ns, bpf_runs } = cost;
        Self { cpu_ns, rss_bytes, map_bytes, bpf_ns, bpf_runs }
    }
}
