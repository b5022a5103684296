//! What attributes and events are called: the conventions' names where they have one, else ours.
//!
//! The two ends of a flow have the conventions' `source` and `destination`. Who is there is told by the
//! names of Kubernetes behind that (`destination.k8s.pod.name`), and once more without it for the end
//! that is on this node, as everything else that pod sends is told.

use std::fmt::Write as _;

pub(super) use opentelemetry_semantic_conventions::attribute::{
    CONTAINER_ID, CONTAINER_NAME, CONTAINER_RUNTIME_NAME, DESTINATION_ADDRESS, DESTINATION_PORT,
    DNS_ANSWERS, DNS_QUESTION_NAME, ERROR_TYPE, K8S_CONTAINER_NAME, K8S_CRONJOB_NAME,
    K8S_DAEMONSET_NAME, K8S_DEPLOYMENT_NAME, K8S_JOB_NAME, K8S_NAMESPACE_NAME, K8S_NODE_NAME,
    K8S_POD_NAME, K8S_POD_UID, K8S_REPLICASET_NAME, K8S_REPLICATIONCONTROLLER_NAME,
    K8S_SERVICE_NAME, K8S_STATEFULSET_NAME, NETWORK_CONNECTION_STATE, NETWORK_INTERFACE_NAME,
    NETWORK_IO_DIRECTION, NETWORK_PROTOCOL_NAME, NETWORK_TRANSPORT, NETWORK_TYPE,
    PROCESS_LINUX_CGROUP, PROCESS_PID, SOURCE_ADDRESS, SOURCE_PORT,
};

macro_rules! own {
    ($($constant:ident = $name:literal, $doc:literal;)*) => {
        $(#[doc = $doc] pub(super) const $constant: &str = $name;)*

        /// Every attribute that the conventions have no name for, with what it is.
        const OWN: &[(&str, &str)] = &[$(($name, $doc)),*];
    };
}

own! {
    SIGNAL = "orb8.signal", "The signal that lost something: flow, dns, tcp or gpu.";
    LOST_AT = "orb8.lost.at", "Where: kernel, ring, behind (the export fell behind) or queue.";
    LOST_PACKETS = "orb8.lost.packets", "Packets that are in no flow.";
    LOST_BYTES = "orb8.lost.bytes", "Their IP bytes.";
    LOST_EVENTS = "orb8.lost.events", "Events or records that are missing.";
    HOOK = "orb8.hook", "Where it was seen: socket or interface.";
    IP_PROTOCOL = "orb8.ip.protocol", "Number of an IP protocol without a name here.";
    ICMP_TYPE = "orb8.icmp.type", "ICMP type.";
    ICMP_CODE = "orb8.icmp.code", "ICMP code.";
    VLAN = "orb8.vlan.id", "VLAN, the outer one of two.";
    UNIT = "orb8.systemd.unit", "systemd unit of the local end, where it is in no container.";
    WORKLOAD_KIND = "orb8.workload.kind",
        "Kind of the local pod's controller, where the conventions have no attribute for it.";
    WORKLOAD_NAME = "orb8.workload.name", "Name of that controller.";
    SOURCE_DOMAIN = "orb8.source.domain", "Name by which the other end found the source.";
    DESTINATION_DOMAIN = "orb8.destination.domain", "Name by which the source found the destination.";
    FLOW_PACKETS = "orb8.flow.packets", "Wire packets since the flow's last record.";
    FLOW_BYTES = "orb8.flow.bytes", "IP bytes since the flow's last record.";
    FLOW_TOTAL_PACKETS = "orb8.flow.total.packets", "Wire packets since it began.";
    FLOW_TOTAL_BYTES = "orb8.flow.total.bytes", "IP bytes since it began.";
    FLOW_DURATION = "orb8.flow.duration", "From its first packet to its last one, seconds.";
    FLOW_END = "orb8.flow.end_reason", "Why it ended: fin, rst, idle or evicted.";
    DNS_TYPE = "orb8.dns.question.type", "Type of the question, such as AAAA.";
    DNS_RCODE = "orb8.dns.response.code", "Response code, such as NXDOMAIN.";
    DNS_SIDE = "orb8.dns.side", "Where it was seen: client, server or transit.";
    DNS_DURATION = "orb8.dns.duration", "From the first query to the response, or to the end of waiting, seconds.";
    DNS_RETRIES = "orb8.dns.retries", "Times that the same query was seen again.";
    DNS_LATE = "orb8.dns.late", "The response came after a timeout was told.";
    DNS_TRUNCATED = "orb8.dns.truncated", "The response was cut short.";
    TCP_ROLE = "orb8.tcp.role", "Who opened the connection: client (the local end), server or listener.";
    TCP_HANDSHAKE = "orb8.tcp.handshake.duration", "How long the handshake took, seconds.";
    TCP_RTT = "orb8.tcp.rtt", "The kernel's smoothed round-trip time, seconds.";
    TCP_DURATION = "orb8.tcp.duration", "From open to close, seconds.";
    TCP_SENT = "orb8.tcp.sent.bytes", "Payload bytes sent, each once.";
    TCP_RECEIVED = "orb8.tcp.received.bytes", "Payload bytes received in order.";
    TCP_RETRANSMITS = "orb8.tcp.retransmits", "Segments sent again, of the whole connection.";
    TCP_SEGMENTS = "orb8.tcp.segments", "Segments sent again, of this event.";
    TCP_RESET_BY = "orb8.tcp.reset.by", "Who sent the RST: local or remote.";
    TCP_REASON = "orb8.tcp.reason", "The kernel's reason for a drop or a RST.";
    TCP_LOCATION = "orb8.tcp.location", "The kernel's function that dropped the packet.";
    TCP_DROPPED = "orb8.tcp.dropped.packets", "Dropped packets that the record stands for.";
    TCP_OVERFLOWS = "orb8.tcp.overflows", "Connections that a full listener refused.";
    TCP_QUEUE = "orb8.tcp.queue", "Connections that wait to be accepted.";
    TCP_QUEUE_LIMIT = "orb8.tcp.queue.limit", "How many may wait.";
    GPU_ID = "orb8.gpu.id", "The device: its UUID, else its PCI address or number.";
    GPU_INDEX = "orb8.gpu.index", "Its number on the node.";
    GPU_OWNERS = "orb8.gpu.owners", "Who holds or uses it, where several do.";
    GPU_PHASE = "orb8.gpu.phase", "Of what lasts: began or ended.";
    GPU_REASON = "orb8.gpu.reason", "What slows it down, what its driver said, or what is watched in part.";
    GPU_XID = "orb8.gpu.xid.code", "NVIDIA's number of an error.";
    GPU_XID_CLASS = "orb8.gpu.xid.class", "Where it comes from: hardware, application, driver or other.";
    GPU_XID_ACTION = "orb8.gpu.xid.action", "What to do: none, restart-pod, reset, reboot or drain.";
    GPU_COUNT = "orb8.gpu.count", "Errors of memory, collectives, or collectives behind.";
    GPU_BYTES = "orb8.gpu.bytes", "Memory that was taken, refused or is outstanding, or that collectives moved.";
    GPU_GROWTH = "orb8.gpu.growth", "Bytes a second by which outstanding memory grows.";
    GPU_LAUNCHES = "orb8.gpu.launches", "Kernels launched a second.";
    GPU_GRAPH_LAUNCHES = "orb8.gpu.graph_launches", "Graphs launched a second.";
    GPU_SAMPLED = "orb8.gpu.sampled", "That was estimated from a part of the time.";
    GPU_DURATION = "orb8.gpu.duration", "For how long it was idle, or a call did not return, seconds.";
    NCCL_COMMUNICATOR = "orb8.nccl.communicator", "Hash of the communicator, the same on all its ranks.";
    NCCL_RANK = "orb8.nccl.rank", "The rank.";
    NCCL_RANKS = "orb8.nccl.ranks", "Ranks of the communicator.";
    PROCESS_NAME = "orb8.process.name", "The process's name, as the kernel has it.";
}

/// Attributes of the conventions that records have, with where theirs differ.
const CONVENTIONS: &[(&str, &str)] = &[
    (SOURCE_ADDRESS, "Who sends, asks or connects."),
    (SOURCE_PORT, "Its port."),
    (DESTINATION_ADDRESS, "Who receives, answers or accepts."),
    (DESTINATION_PORT, "Its port."),
    (NETWORK_TRANSPORT, "tcp, udp, icmp, icmpv6 or sctp."),
    (NETWORK_TYPE, "ipv4 or ipv6."),
    (NETWORK_IO_DIRECTION, "transmit or receive, as seen on this node."),
    (NETWORK_INTERFACE_NAME, "Interface, where it is the node's."),
    (NETWORK_PROTOCOL_NAME, "dns."),
    (NETWORK_CONNECTION_STATE, "State of a TCP connection."),
    (DNS_QUESTION_NAME, "Name that was asked for."),
    (DNS_ANSWERS, "Addresses that came back."),
    (ERROR_TYPE, "What went wrong: a response code, an errno, `timeout` and the like."),
    (K8S_NAMESPACE_NAME, "Also behind `source.` and `destination.`."),
    (K8S_POD_NAME, "Also behind `source.` and `destination.`."),
    (K8S_POD_UID, "Of the local end."),
    (K8S_CONTAINER_NAME, "Also behind `source.` and `destination.`."),
    (K8S_DEPLOYMENT_NAME, "Controller, by its kind; also behind `source.` and `destination.`."),
    (K8S_REPLICASET_NAME, "As above."),
    (K8S_STATEFULSET_NAME, "As above."),
    (K8S_DAEMONSET_NAME, "As above."),
    (K8S_JOB_NAME, "As above."),
    (K8S_CRONJOB_NAME, "As above."),
    (K8S_REPLICATIONCONTROLLER_NAME, "As above."),
    (K8S_SERVICE_NAME, "Service whose address it is; also behind `source.` and `destination.`."),
    (K8S_NODE_NAME, "Behind `source.` and `destination.`; the resource has this node's."),
    (CONTAINER_ID, "Of the local end."),
    (CONTAINER_NAME, "Of a local end outside Kubernetes."),
    (CONTAINER_RUNTIME_NAME, "Of the local end."),
    (PROCESS_LINUX_CGROUP, "Of a local end that is neither container nor unit."),
    (PROCESS_PID, "The process on an accelerator, by its number on the node."),
];

/// What labels of metrics are called as attributes. Others keep their names.
pub(super) const LABELS: &[(&str, &str)] = &[
    ("namespace", K8S_NAMESPACE_NAME),
    ("pod", K8S_POD_NAME),
    ("container", K8S_CONTAINER_NAME),
    ("direction", NETWORK_IO_DIRECTION),
    ("protocol", NETWORK_TRANSPORT),
    ("errno", ERROR_TYPE),
];

/// Returns the attribute of a kind of controller.
pub(super) fn controller(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Deployment" => K8S_DEPLOYMENT_NAME,
        "ReplicaSet" => K8S_REPLICASET_NAME,
        "StatefulSet" => K8S_STATEFULSET_NAME,
        "DaemonSet" => K8S_DAEMONSET_NAME,
        "Job" => K8S_JOB_NAME,
        "CronJob" => K8S_CRONJOB_NAME,
        "ReplicationController" => K8S_REPLICATIONCONTROLLER_NAME,
        _ => return None,
    })
}

/// Returns the conventions' word for a direction.
pub(super) const fn direction(is_sent: bool) -> &'static str {
    if is_sent { "transmit" } else { "receive" }
}

/// Whether a name is in the tables of the docs.
#[cfg(test)]
pub(super) fn is_known(name: &str) -> bool {
    let of_end = |prefix| name.strip_prefix(prefix).filter(|rest| rest.starts_with("k8s."));
    let name = of_end("source.").or(of_end("destination.")).unwrap_or(name);
    OWN.iter().chain(CONVENTIONS).any(|(known, _)| *known == name)
}

/// Renders the attributes of log records as Markdown.
#[must_use]
pub fn attributes_table() -> String {
    let rows = CONVENTIONS.iter().chain(OWN);
    let mut table = String::from("| attribute | what it is |\n|---|---|\n");
    for (name, meaning) in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{name}` | {meaning} |");
    }
    table
}

/// Renders the labels of metrics that have other names as attributes, as Markdown.
#[must_use]
pub fn labels_table() -> String {
    let mut table = String::from("| label | attribute |\n|---|---|\n");
    for (label, attribute) in LABELS {
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{label}` | `{attribute}` |");
    }
    table
}
