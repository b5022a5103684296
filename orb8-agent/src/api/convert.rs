//! What the agent holds → what the API says: here what the signals share, and one file for each.

use std::sync::Arc;

use orb8_proto::filter::End;
use orb8_proto::v1;

use crate::event::SocketEnd;
use crate::identity::{Runtime, Workload};
use crate::pipeline::Lost;
use crate::status::StatusBoard;
use crate::store::{InterfaceNames, Label};

mod dns;
mod flow;
mod status;
mod tcp;

pub(super) use dns::{dns_summary, dns_totals};
pub(super) use flow::kind;
pub(super) use status::{accounting, attachment, check, cost, ring, source};
pub(super) use tcp::tcp_totals;

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
}

pub(super) fn lost(lost: Lost) -> v1::Lost {
    let (source, events, packets, bytes) = match lost {
        Lost::Kernel { packets, bytes } => (v1::LostSource::Kernel, 0, packets, bytes),
        Lost::Ring { events } => (v1::LostSource::Ring, events, 0, 0),
        Lost::Subscriber { events } => (v1::LostSource::Subscriber, events, 0, 0),
    };
    v1::Lost { source: source.into(), events, packets, bytes }
}

/// 4 or 16 bytes.
fn ip(addr: [u8; 16]) -> Vec<u8> {
    addr.strip_prefix(&MAPPED).unwrap_or(&addr).to_vec()
}

fn endpoint(end: SocketEnd, owner: Option<&Workload>, name: Option<&Label>) -> v1::Endpoint {
    v1::Endpoint {
        ip: ip(end.addr),
        port: end.port.into(),
        workload: owner.map(workload),
        dns: name.map(label),
    }
}

fn label(label: &Label) -> v1::DnsLabel {
    let Label { name, addr: _, learned, ttl } = label;
    v1::DnsLabel { name: name.to_string(), learned_ns: learned.0, ttl_seconds: *ttl }
}

fn local_end(local: Option<End>) -> v1::LocalEnd {
    match local {
        Some(End::Source) => v1::LocalEnd::Source,
        Some(End::Destination) => v1::LocalEnd::Destination,
        None => v1::LocalEnd::Unspecified,
    }
}

/// An interface, `None` for index 0. It has a name where it is one of this agent's namespace.
fn interface(index: u32, name: Option<&str>) -> Option<v1::Interface> {
    let name = name.unwrap_or_default().to_owned();
    (index != 0).then_some(v1::Interface { index, name })
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
