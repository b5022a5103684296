//! A held flow.

use std::sync::Arc;

use orb8_common::flow::{DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey, HOOK_SOCKET};
use orb8_proto::filter::End;

use super::{Label, Owner};
use crate::event::{FlowSample, UnixNanos};
use crate::identity::Workload;

/// One direction of one 5-tuple at one observation point, and what was counted for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// What it is.
    pub key: FlowKey,
    /// The owner of its local end.
    pub subject: Option<Arc<Workload>>,
    /// Wire packets.
    pub packets: u64,
    /// IP bytes.
    pub bytes: u64,
    /// First packet.
    pub first: UnixNanos,
    /// Last packet.
    pub last: UnixNanos,
    /// cgroup v2 id of the local socket, 0 where none is known.
    pub cgroup_id: u64,
    /// Socket cookie, 0 where none is known.
    pub cookie: u64,
    /// Interface as last seen, 0 where none is known.
    pub ifindex: u32,
    /// TCP flags ORed over the flow.
    pub tcp_flags: u8,
    /// Whether it is the agent's own API traffic.
    pub self_traffic: bool,
    /// The name by which the local end's owner found the other end.
    pub label: Option<Arc<Label>>,
    /// Why it has ended, `None` while it has not.
    pub end: Option<EndReason>,
    /// The drain cycle that the two counters below are of.
    pub(super) cycle: u32,
    pub(super) cycle_packets: u64,
    pub(super) cycle_bytes: u64,
    /// Counts that the event of its end will tell.
    pub(super) untold: Added,
}

/// What was added to a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Wire packets.
    pub packets: u64,
    /// IP bytes.
    pub bytes: u64,
}

impl Added {
    pub(super) fn add(&mut self, sample: &FlowSample) {
        self.packets += sample.packets;
        self.bytes += sample.bytes;
    }
}

/// A number of flows with what was counted for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Flows.
    pub flows: u64,
    /// Wire packets.
    pub packets: u64,
    /// IP bytes.
    pub bytes: u64,
}

impl Totals {
    pub(super) fn add(&mut self, flow: &Flow) {
        self.flows += 1;
        self.packets += flow.packets;
        self.bytes += flow.bytes;
    }
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// FIN in both directions.
    Fin,
    /// RST.
    Rst,
    /// No packets for the idle timeout.
    Idle,
    /// The store was full and this flow was the longest without traffic.
    Evicted,
}

impl Flow {
    pub(super) fn new(sample: &FlowSample) -> Self {
        Self {
            key: sample.key,
            subject: None,
            packets: 0,
            bytes: 0,
            first: sample.first,
            last: sample.last,
            cgroup_id: 0,
            cookie: 0,
            ifindex: 0,
            tcp_flags: 0,
            self_traffic: false,
            label: None,
            end: None,
            cycle: 0,
            cycle_packets: 0,
            cycle_bytes: 0,
            untold: Added::default(),
        }
    }

    pub(super) fn add(&mut self, sample: &FlowSample, owner: Owner, cycle: u32) {
        // Exhaustive: a new field must be added up, or said why not.
        let FlowSample {
            key: _,
            kind: _,
            cgroup_id,
            cookie,
            ifindex,
            packets,
            bytes,
            first,
            last,
            tcp_flags,
        } = sample;
        if self.cycle != cycle {
            (self.cycle, self.cycle_packets, self.cycle_bytes) = (cycle, 0, 0);
        }
        self.packets += packets;
        self.bytes += bytes;
        self.cycle_packets += packets;
        self.cycle_bytes += bytes;
        self.first = self.first.min(*first);
        self.last = self.last.max(*last);
        self.tcp_flags |= tcp_flags;
        for (own, new) in [(&mut self.cgroup_id, cgroup_id), (&mut self.cookie, cookie)] {
            if *new != 0 {
                *own = *new;
            }
        }
        if *ifindex != 0 {
            self.ifindex = *ifindex;
        }
        self.subject = owner.subject.or(self.subject.take());
        self.self_traffic |= owner.self_traffic;
    }

    /// Returns the name of one end's address, where the other end's owner looked it up.
    #[must_use]
    pub fn label(&self, end: End) -> Option<&Label> {
        let addr = match end {
            End::Source => &self.key.source_addr,
            End::Destination => &self.key.destination_addr,
        };
        // Nobody has to look up itself.
        let is_local = self.local_end() == Some(end);
        self.label.as_deref().filter(|label| label.addr == *addr && !is_local)
    }

    /// Returns which end is on this node, where that is known.
    #[must_use]
    pub fn local_end(&self) -> Option<End> {
        local_end(&self.key, self.cgroup_id)
    }
}

/// Returns which end of a flow is on this node, where that is known.
///
/// At the interface hook a packet with a socket is one that its sender's socket made.
#[must_use]
pub fn local_end(key: &FlowKey, cgroup_id: u64) -> Option<End> {
    match (key.hook, key.direction) {
        (HOOK_SOCKET, DIRECTION_EGRESS) => Some(End::Source),
        (HOOK_SOCKET, _) => Some(End::Destination),
        _ => (cgroup_id != 0).then_some(End::Source),
    }
}

/// Returns the key of the other direction, seen at the same point.
pub(super) fn reverse(key: &FlowKey) -> FlowKey {
    FlowKey {
        source_addr: key.destination_addr,
        destination_addr: key.source_addr,
        source_port: key.destination_port,
        destination_port: key.source_port,
        direction: match key.direction {
            DIRECTION_EGRESS => DIRECTION_INGRESS,
            _ => DIRECTION_EGRESS,
        },
        ..*key
    }
}
