//! What commands print.
//!
//! # Machine-readable output
//!
//! `-o json` prints one object per line and nothing else on standard output; `-o yaml` prints the
//! same objects as documents that begin with `---`. Every object has a `type`:
//!
//! | `type` | from | what it is |
//! |---|---|---|
//! | `flow` | `flows` | a flow: the fields below |
//! | `window` | `flows --since`, `--from`, `--to` | what the counts are of: `start`, `end`, and `history_start`, before which nothing is known; the last object |
//! | `flow_new`, `flow_update`, `flow_closing`, `flow_end` | `trace network` | an event; the flow is in `flow` |
//! | `dns` | `trace dns` | what became of a query |
//! | `dns_summary` | `dns top` | what an owner asked for a name, and what came of it |
//! | `dns_totals` | `dns top` | all DNS since the agent started; the last object |
//! | `tcp` | `trace tcp` | something that happened to a connection, listener or packet |
//! | `tcp_connection` | `tcp top` | a connection |
//! | `tcp_totals` | `tcp top` | all TCP since the agent started; the last object |
//! | `workload` | `workloads` | what a workload does on the network |
//! | `workload_totals` | `workloads` | what all that matched do; the last object |
//! | `pod` | `pods` | a pod that the agent knows |
//! | `gpu_device` | `gpu` | a device, or a part of one, with who has what of it |
//! | `gpu_share` | `gpu pods`, `gpu idle` | what of a device is one owner's, or nobody's known (`unattributed`) |
//! | `gpu_process` | `gpu processes` | a process, its uses of devices, and what it does with CUDA and NCCL |
//! | `gpu_health` | `gpu health` | a verdict on a device, with findings and what to do |
//! | `gpu_leak` | `gpu leaks` | a process with the memory that it did not give back, by place |
//! | `gpu_status` | `gpu` and the lists below it | who tells of devices and holders, and how calls are watched; the last object |
//! | `gpu` | `trace gpu` | something that happened to a device, or was done with one |
//! | `lost` | `flows`, `trace` | something is in no flow, or reached nobody |
//! | `status` | `status` | the agent's state, fields as in `GetStatusResponse` |
//! | `diagnosis` | `diagnose` | checks, sources, attachment and Kubernetes |
//! | `version` | `version` | `version` |
//!
//! Names are `snake_case`, numbers are numbers, addresses are strings, enums are lower-case words,
//! times are RFC 3339 with nanoseconds. A field that has nothing to tell is left out. Fields are
//! only ever added.
//!
//! A flow:
//!
//! | field | type | |
//! |---|---|---|
//! | `source`, `destination` | object | an end: its fields are below |
//! | `protocol` | word | `tcp`, `udp`, `icmp`, `icmpv6`, `sctp`, `other` |
//! | `ip_protocol` | number | as in the IP header |
//! | `direction` | word | `ingress` or `egress` |
//! | `hook` | word | `socket` or `interface` |
//! | `local_end` | word | `source` or `destination` |
//! | `bytes`, `packets` | number | IP bytes and wire packets since the flow began, or of the `window` |
//! | `bytes_per_second`, `packets_per_second` | number | over the agent's last interval, or the `window` |
//! | `first_seen`, `last_seen` | time | |
//! | `tcp_flags` | words | those seen: `syn`, `ack`, `psh`, `fin`, `rst`, `urg`, `ece`, `cwr` |
//! | `icmp` | object | `type`, `code`; `name` where it has one: `echo-request` |
//! | `cgroup_id`, `socket_cookie` | number | of the local socket |
//! | `interface` | object | `index`, `name` |
//! | `vlan`, `inner_vlan` | number | |
//! | `fragment`, `self_traffic` | boolean | |
//! | `tcp` | object | health of the connection, see below |
//! | `node_name` | string | |
//!
//! An end has `ip`, and `port` where the protocol has ports, as the packets have them. Where it is
//! known:
//!
//! | field | |
//! |---|---|
//! | `workload` | who is there; of a Service's or masqueraded address, who is behind it |
//! | `service` | whose address it is: `namespace`, `name`, `port`, `port_name`, `kind` (`cluster-ip`, `external`, `node-port`, `endpoint`) |
//! | `translated` | the `ip` and `port` that connection tracking puts in place |
//! | `node` | name of the node whose address it is |
//! | `dns` | the name that led there: `name`, `learned` (time), `ttl_seconds` |
//! | `found` | how it is known who is there: `cgroup`, `pod-ip`, `service`, `node`, `dns` |
//!
//! A workload has `namespace`, `pod`, `pod_uid`, `container`, `container_id`, `unit`, `process`,
//! `cgroup_path`, `node_name` (strings), `container_kind` (`main`, `init`, `sidecar`, `ephemeral`),
//! `controller` (`kind` and `name`), `labels` (an object, by key), `host_network`, `runtime`
//! (`containerd`, `crio`, `docker`, `podman`) and `attribution`: `cgroup` where its socket's cgroup told
//! it, `pod-ip` where the address did that the pod had at that time.
//!
//! An event has `time`, `node_name`, `flow`, `delta_bytes`, `delta_packets` (what it adds), and
//! `end_reason` (`fin`, `rst`, `idle`, `evicted`) where it is an end. A loss has `source`
//! (`kernel`, `ring`, `subscriber`), `events`, `packets`, `bytes`, and in a stream `time` and
//! `node_name`.
//!
//! Health has `state` (as `ss` names
//! it), `role` (`client`, `server`), `handshake_ns`, `rtt_ns` (smoothed), `rtt_min_ns`, `rtt_mean_ns`,
//! `rtt_p99_ns`, `rtt_max_ns`, `rtt_samples`, `retransmits`, `bytes_sent`, `bytes_received`, `opened` and
//! `closed` (times).
//!
//! A DNS exchange:
//!
//! | field | type | |
//! |---|---|---|
//! | `time`, `query_time` | time | of the response or timeout; of the first query |
//! | `client`, `server` | object | as `source` of a flow |
//! | `protocol` | word | `udp` or `tcp` |
//! | `side` | word | where it was seen: `client`, `server`, `transit` |
//! | `outcome` | word | `answered`, `timeout`, `unasked`, `malformed` |
//! | `id`, `name`, `query_type`, `query_class` | number, string | the question, its name in lower case |
//! | `query_type_name`, `rcode_name` | string | as the registry has them |
//! | `rcode` | number | absent without a response |
//! | `latency_ns`, `retries` | number | from the first query; how often it was repeated |
//! | `late`, `truncated`, `authoritative`, `recursion_available`, `authentic_data` | boolean | |
//! | `answers` | objects | `name`, `type`, `type_name`, `ttl_seconds`, and `ip` or `target` |
//! | `answer_count` | number | records in the answer section, kept or not |
//! | `query_bytes`, `response_bytes` | number | DNS bytes |
//!
//! besides `node_name`, `hook`, `interface`, `cgroup_id` and `socket_cookie`, as a flow has them.
//!
//! A summary has `workload`, `side`, `name` or `other` (what had no row of its own), `queries`,
//! `responses`, `timeouts`, `retries`, `truncated`, `rcodes` (`rcode`, `rcode_name`, `count`),
//! `query_types` (`query_type`, `query_type_name`, `count`), `latency`, `first_seen`, `last_seen`. A
//! distribution such as `latency` has `count`, `sum_ns`, `mean_ns`, `min_ns`, `p50_ns`, `p90_ns`,
//! `p99_ns`, `max_ns`, and `counts` and `shift`: `counts[i]` values are below 2^(i + shift).
//!
//! A pod has `namespace`, `name`, `uid`, `node_name`, `local` (of the agent's node), `phase` (`pending`,
//! `running`, `ended`), `controller`, `labels`, `host_network`, `ips` (its own), `known_by` (`api`,
//! `cgroup`, `runtime`), and `containers`: `name`, `id`, `kind`, `runtime`, `cgroup_id`, `cgroup_path`.
//!
//! A workload has `workload` (of a controller `namespace` and `controller`, of a pod what its containers
//! share; absent for what nobody is known to own), `key` (tells it from others while the agent runs),
//! `pods`, `sent` and `received` (`bytes`, `packets`, `bytes_per_second`, `packets_per_second`),
//! `active_flows`, `peer_count`, `peers` (an end without port, `sent`, `received`, `active_flows`), `tcp`
//! (`open_connections`, `connections`, `retransmits`, `rtt`), `dns` and `dns_served` (`queries`,
//! `responses`, `errors`, `timeouts`, `latency`), and `last_seen`. Traffic is that of the flows that
//! the agent holds; `rtt` is a distribution of connections' smoothed round-trip times.
//!
//! A device has `gpu` (its number, `0:1` for a part, else its id), `id`, `vendor`, `source`, `index`, `minor`,
//! `model`, `architecture`, `pci_address`, `serial`, `driver_version`, `part` (`parent`, `gpu_instance`,
//! `compute_instance`, `profile`), `divided`, `state` (`ok`, `lost`, `silent`), `state_reason`, `lost_since`,
//! `sample`, `shares`, `unattributed_memory_bytes`, `unattributed_utilization` and `counts`, since the agent
//! started: `xids` (`code`, `class`, `action`, `meaning`, `count`, `last`), `last_xid` (a `code`),
//! `last_xid_time`, `throttled` (`reason`, `time_ns`),
//! `energy_joules`, `lost`, `silent`. A sample has the fields of `GpuSample` (`orb8-proto/proto/orb8/v1/gpu.proto`):
//! ratios are 0 to 1, memory is bytes, clocks are megahertz; what the device does not tell is left out.
//!
//! A share has `gpu`, `device`, `model`, `profile`, `workload` or `unattributed`, `standing` (`active`, `idle`,
//! `unallocated`, `in-use`, `lost`), `idle_since`, `idle_long`, `resource`, `shared`, `claim`, `memory_bytes`,
//! `utilization` (of the whole device's 1), how each was found (`memory_basis`, `utilization_basis`: `exact`,
//! `estimated`, `shared`) and `pids`. A process has `pid`, `name`, `workload`, `uses` (`gpu`, `device`, `kind`,
//! `memory_bytes`, `utilization`) and `activity`, with the fields of `GpuActivity`; a leak has `pid`, `name`,
//! `workload`, `gpus`, `leaks` (whether it is one), `since` and the `memory` of that activity. Health has
//! `verdict` (`ok`, `warn`, `bad`), `findings` (`verdict`, `what`, `remedy`, `last`) and what they are made from.
//!
//! An event of a device has `event`, `gpu`, `device`, `index`, `parent`, `parent_index`, `pci_address`, `process`
//! (`pid`, `name`), `workloads`, and what its kind has to tell: `xid`; `began` and `reasons`; `count`; `bytes` and
//! `allocation`; `error` (the driver's); `duration_ns`; `rate` (of launches a second, of a leak bytes a second,
//! of sampling the part of the time), `graph_rate`, `sampled`; `communicator`, `rank`, `ranks`; `pending`,
//! `failed`; `reason`.
//!
//! A TCP event has `event` (`connect`, `accept`, `fail`, `close`, `retransmit`, `reset`, `drop`,
//! `overflow`, `state`), `source` (who opened the connection or sent the packet), `destination`,
//! `local_end`, `role`, `state`, `old_state`, `health`, and what its kind has to tell: `errno` and
//! `errno_name`; `segments`; `reset_by` (`local`, `remote`); `reason`, `reason_id`, `location`, `weight`
//! (packets that it stands for), `tcp_flags` and `bytes`; `overflows`, `queue`, `queue_limit`.

use std::io::{self, Write};

use serde::Serialize;

pub(crate) mod dns;
mod end;
pub(crate) mod flow;
pub(crate) mod gpu;
mod histogram;
pub(crate) mod lost;
pub(crate) mod pod;
pub(crate) mod report;
pub(crate) mod status;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod tcp;
mod value;
pub(crate) mod workload;

/// A machine-readable format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    /// One object per line.
    Json,
    /// One document per object.
    Yaml,
}

impl Machine {
    /// Writes one object.
    pub(crate) fn write(self, out: &mut dyn Write, object: &impl Serialize) -> io::Result<()> {
        match self {
            Self::Json => {
                serde_json::to_writer(&mut *out, object)?;
                out.write_all(b"\n")
            }
            Self::Yaml => {
                let document = serde_saphyr::to_string(object).map_err(io::Error::other)?;
                write!(out, "---\n{document}")
            }
        }
    }
}
