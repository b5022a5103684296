//! A held flow.

use std::sync::Arc;

use orb8_common::flow::{DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey, HOOK_SOCKET, KEY_FRAGMENT};
use orb8_proto::filter::End;

use super::{Label, Owner};
use crate::event::{FlowSample, SampleKind, SocketEnd, UnixNanos};
use crate::identity::{Ends, Party, Workload};
use crate::metrics::traffic::CountedIn;

/// IP protocol numbers.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
/// TCP flags as in the header.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// One direction of one 5-tuple at one observation point, and what was counted for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// What it is.
    pub key: FlowKey,
    /// Who is at both ends.
    pub ends: Ends,
    /// The last look at who that is.
    pub looked: Looked,
    /// The end that opened the connection, where that was seen.
    pub asking: Option<End>,
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
    /// Number of its description in the history, or [`Flow::NOT_DESCRIBED`].
    pub(crate) described: u32,
    /// The label set in which it counts as active, `None` where it does not.
    pub(crate) counted_in: Option<CountedIn>,
    /// The drain cycle that the two counters below are of.
    pub(super) cycle: u32,
    pub(super) cycle_packets: u64,
    pub(super) cycle_bytes: u64,
    /// Counts that the event of its end will tell.
    pub(super) untold: Added,
}

/// When it was last looked who is at a flow's ends. There are many flows: all of it is as short as
/// it can be, and wraps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    epoch: u8,
    /// Times that counts were added, up to 255.
    counted: u8,
    /// Seconds, as of the flow's last packet.
    at: u16,
}

impl Looked {
    /// Notes a look, by [`Enricher::epoch`](crate::enrich) and the flow's last packet.
    pub const fn note(&mut self, epoch: u32, last: UnixNanos) {
        (self.epoch, self.at) = (epoch as u8, seconds(last));
    }

    /// Whether nothing was known anew since.
    #[must_use]
    pub const fn is_of(self, epoch: u32) -> bool {
        self.epoch == epoch as u8
    }

    /// Returns how long ago it was at a packet, in seconds.
    #[must_use]
    pub const fn age(self, last: UnixNanos) -> u16 {
        seconds(last).wrapping_sub(self.at)
    }

    /// Whether it is time for another look at what is not known yet: of the flow's counts each time
    /// after twice as many.
    #[must_use]
    pub const fn is_due(self) -> bool {
        self.counted.is_power_of_two()
    }
}

const fn seconds(time: UnixNanos) -> u16 {
    (time.0 / 1_000_000_000) as u16
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

/// What a flow moved in a part of its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Wire packets.
    pub packets: u64,
    /// IP bytes.
    pub bytes: u64,
    /// Last packet.
    pub last: UnixNanos,
    /// TCP flags ORed.
    pub tcp_flags: u8,
}

impl Moved {
    /// Adds another part.
    pub fn add(&mut self, other: Self) {
        let Self { packets, bytes, last, tcp_flags } = other;
        self.packets = self.packets.saturating_add(packets);
        self.bytes = self.bytes.saturating_add(bytes);
        self.last = self.last.max(last);
        self.tcp_flags |= tcp_flags;
    }
}

impl Flow {
    /// The history has not heard of it.
    pub(crate) const NOT_DESCRIBED: u32 = u32::MAX;

    /// Makes one that has moved no more than this.
    #[must_use]
    pub fn of_window(key: FlowKey, first: UnixNanos, moved: Moved) -> Self {
        let Moved { packets, bytes, last, tcp_flags } = moved;
        Self { packets, bytes, tcp_flags, ..Self::of_key(key, first, last.max(first)) }
    }

    pub(super) fn new(sample: &FlowSample) -> Self {
        Self::of_key(sample.key, sample.first, sample.last)
    }

    fn of_key(key: FlowKey, first: UnixNanos, last: UnixNanos) -> Self {
        Self {
            key,
            ends: Ends::default(),
            looked: Looked::default(),
            asking: None,
            packets: 0,
            bytes: 0,
            first,
            last,
            cgroup_id: 0,
            cookie: 0,
            ifindex: 0,
            tcp_flags: 0,
            self_traffic: false,
            label: None,
            end: None,
            described: Self::NOT_DESCRIBED,
            counted_in: None,
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
            kind,
            cgroup_id,
            cookie,
            ifindex,
            packets,
            bytes,
            first,
            last,
            tcp_flags,
        } = sample;
        // The first packet after a drain is told as a moment, without counts: the last interval's stay.
        if self.cycle != cycle && *packets > 0 {
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
        match kind {
            SampleKind::New => self.asking = asking_end(sample),
            SampleKind::Counted => self.looked.counted = self.looked.counted.saturating_add(1),
            SampleKind::Fin | SampleKind::Rst => {}
        }
        if let Some(subject) = owner.subject {
            self.belong_to(subject);
        }
        self.self_traffic |= owner.self_traffic;
    }

    /// Takes the owner of its local end. That of the kernel's own packets is whoever made the network
    /// namespace: the address goes before it.
    fn belong_to(&mut self, subject: Arc<Workload>) {
        let Some(local) = self.local_end() else { return };
        let is_exact = !subject.is_root() && self.sender_of_kernel() != Some(local);
        let party = self.ends.get_mut(local);
        if is_exact || !matches!(party, Party::Pod(_) | Party::Front(_)) {
            *party = Party::Workload(subject);
        }
    }

    /// Whether the owner of an end is known by its own socket.
    #[must_use]
    pub fn is_owned(&self, end: End) -> bool {
        let is_exact = || self.sender_of_kernel() != Some(end);
        matches!(self.ends.get(end), Party::Workload(owner) if !owner.is_root() && is_exact())
            && self.local_end() == Some(end)
    }

    /// Returns the end that sends, where that is always the kernel itself and no process.
    #[must_use]
    pub fn sender_of_kernel(&self) -> Option<End> {
        let FlowKey { protocol, source_port: kind, flags, .. } = self.key;
        let is_of_kernel = match protocol {
            // Answers and errors.
            ICMP => matches!(kind, 0 | 3 | 5 | 11 | 12 | 14 | 18),
            // Errors, answers, listener reports and neighbor discovery.
            ICMPV6 => matches!(kind, 1..=4 | 129 | 131..=137 | 143),
            _ => false,
        };
        (is_of_kernel && flags & KEY_FRAGMENT == 0).then_some(End::Source)
    }

    /// Returns the owner of its local end.
    #[must_use]
    pub fn subject(&self) -> Option<&Workload> {
        self.ends.get(self.local_end()?).workload()
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

/// Returns the end that opens a connection with a flow's first packet.
fn asking_end(first: &FlowSample) -> Option<End> {
    match (first.key.protocol, first.tcp_flags & (SYN | ACK)) {
        (TCP, SYN) => Some(End::Source),
        (TCP, flags) if flags == SYN | ACK => Some(End::Destination),
        _ => None,
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

/// Returns a key with a 5-tuple alone.
pub(super) fn five_tuple(protocol: u8, source: SocketEnd, destination: SocketEnd) -> FlowKey {
    FlowKey {
        source_addr: source.addr,
        destination_addr: destination.addr,
        source_port: source.port,
        destination_port: destination.port,
        ifindex: 0,
        cgroup_id: 0,
        protocol,
        direction: 0,
        hook: 0,
        flags: 0,
        vlan: 0,
        inner_vlan: 0,
    }
}
