//! What the agent holds → what the API says: here what the signals share, and one file for each.

use std::sync::Arc;

use orb8_proto::filter::End;
use orb8_proto::v1;

use crate::pipeline::Lost;
use crate::status::StatusBoard;
use crate::store::{InterfaceNames, Label};

mod dns;
mod flow;
mod gpu;
mod party;
mod pod;
mod status;
mod tcp;
mod workload;

pub(super) use dns::{dns_summary, dns_totals};
pub(super) use flow::kind;
pub(super) use gpu::{
    Place as GpuPlace, action as gpu_action, kind as gpu_kind, owner as gpu_owner,
};
use party::{endpoint, workload};
pub(super) use status::{accounting, attachment, check, cost, kubernetes, ring, source};
pub(super) use tcp::tcp_totals;
pub(super) use workload::workload_summary;

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
