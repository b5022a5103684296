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
//! | `flow_new`, `flow_update`, `flow_closing`, `flow_end` | `trace network` | an event; the flow is in `flow` |
//! | `lost` | both | something is in no flow, or reached nobody |
//! | `status` | `status` | the agent's state, fields as in `GetStatusResponse` |
//! | `diagnosis` | `diagnose` | checks, sources and attachment |
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
//! | `source`, `destination` | object | `ip`; `port` where the protocol has ports; `workload` where the owner is known |
//! | `protocol` | word | `tcp`, `udp`, `icmp`, `icmpv6`, `sctp`, `other` |
//! | `ip_protocol` | number | as in the IP header |
//! | `direction` | word | `ingress` or `egress` |
//! | `hook` | word | `socket` or `interface` |
//! | `local_end` | word | `source` or `destination` |
//! | `bytes`, `packets` | number | IP bytes and wire packets since the flow began |
//! | `bytes_per_second`, `packets_per_second` | number | over the agent's last interval |
//! | `first_seen`, `last_seen` | time | |
//! | `tcp_flags` | words | those seen: `syn`, `ack`, `psh`, `fin`, `rst`, `urg`, `ece`, `cwr` |
//! | `icmp` | object | `type`, `code`; `name` where it has one: `echo-request` |
//! | `cgroup_id`, `socket_cookie` | number | of the local socket |
//! | `interface` | object | `index`, `name` |
//! | `vlan`, `inner_vlan` | number | |
//! | `fragment`, `self_traffic` | boolean | |
//! | `node_name` | string | |
//!
//! A workload has `namespace`, `pod`, `pod_uid`, `container`, `container_id`, `unit`, `process`,
//! `cgroup_path` (strings), `runtime` (`containerd`, `crio`, `docker`, `podman`) and `attribution`
//! (`cgroup`).
//!
//! An event has `time`, `node_name`, `flow`, `delta_bytes`, `delta_packets` (what it adds), and
//! `end_reason` (`fin`, `rst`, `idle`, `evicted`) where it is an end. A loss has `source`
//! (`kernel`, `ring`, `subscriber`), `events`, `packets`, `bytes`, and in a stream `time` and
//! `node_name`.

use std::io::{self, Write};

use serde::Serialize;

pub(crate) mod flow;
pub(crate) mod report;
pub(crate) mod status;
pub(crate) mod style;
pub(crate) mod table;

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
