//! From events to what is held and to subscribers.
//!
//! ```text
//! source ──batch──▶ ingest ─┬ flow ▶ dedup ▶ owner ▶ name ▶ store ─┐
//!                           ├ dns ──────────▶ owner ▶ names, sums ─┼▶ hub of the signal ▶ subscribers
//!                           └ tcp ──────────▶ owner ▶ connections ─┘
//!        ──────────▶ end_of_cycle: what waited, what ended
//! ```
//! All of it is synchronous, under one lock, and allocates nothing per event but the hubs' batches.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::event::{Event, Loss, Payload, Signal, UnixNanos};
use crate::identity::{Resolver, ResolverConfig};
use crate::store::dns::DnsStore;
use crate::store::tcp::ConnectionTable;
use crate::store::{FlowStore, NameTable, Totals};
use dedup::Dedup;
use self_traffic::{SelfTraffic, own_cgroup_id};

mod accounting;
mod dedup;
mod dns;
mod flow;
mod hub;
mod self_traffic;
mod tcp;

pub use accounting::{Accounting, Count};
pub use dns::{DnsEvent, DnsView};
pub use flow::{FlowEvent, FlowStep};
pub use hub::{
    Batch, Happened, Hub, HubConfig, Lost, Reader, Received, StreamItem, Subscription, Weight,
};
pub use self_traffic::LocalAddresses;
pub use tcp::{TcpEvent, TcpView};

/// A pipeline that sources write to and the API reads from.
pub type SharedPipeline = Arc<Mutex<Pipeline>>;

/// Locks a shared pipeline. A panic elsewhere leaves it usable: every step keeps it whole.
pub fn lock(pipeline: &SharedPipeline) -> MutexGuard<'_, Pipeline> {
    pipeline.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the [module](self).
#[derive(Debug)]
pub struct Pipeline {
    identity: Resolver,
    self_traffic: SelfTraffic,
    dedup: Dedup,
    store: FlowStore,
    names: NameTable,
    dns: DnsStore,
    connections: ConnectionTable,
    hubs: Hubs,
    clock: Clock,
    /// Inode of this process's network namespace.
    own_netns: Option<u32>,
    events: u64,
    duplicate: Count,
    waiting: Count,
}

/// One per signal, so that a subscriber wakes for what it wants.
#[derive(Debug)]
struct Hubs {
    flow: Hub<FlowEvent>,
    dns: Hub<DnsEvent>,
    tcp: Hub<TcpEvent>,
}

/// What went through a pipeline since start, and what is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipelineTotals {
    /// Events.
    pub events: u64,
    /// What was counted for flows, held or not.
    pub in_flows: Count,
    /// What was left out, since it is counted elsewhere.
    pub duplicate: Count,
    /// What waits for the next cycle.
    pub waiting: Count,
    /// Flows that had not ended and for which there was no room.
    pub evicted: Totals,
    /// Flows held.
    pub flows: u64,
    /// Owners known.
    pub workloads: u64,
    /// Pods among them.
    pub pods: u64,
    /// Addresses with a name.
    pub names: u64,
    /// Names that were forgotten early for want of room.
    pub evicted_names: u64,
    /// TCP connections known.
    pub connections: u64,
    /// TCP connections for which there was no room.
    pub untracked: u64,
    /// Subscribers, of all signals.
    pub subscribers: u64,
    /// Events that subscribers did not get.
    pub subscriber_lost: u64,
}

impl Pipeline {
    /// Makes an empty pipeline.
    #[must_use]
    pub fn new(config: &Config, addresses: LocalAddresses) -> Self {
        let files = ResolverConfig::new(config.cgroup_root.clone());
        let mount = Environment::of_machine().cgroup_mount.or(config.cgroup_root.clone());
        let own_cgroup = mount.as_deref().and_then(|mount: &Path| own_cgroup_id(mount));
        Self {
            identity: Resolver::new(files),
            self_traffic: SelfTraffic::new(addresses, own_cgroup),
            dedup: Dedup::new(config.store.max_flows as usize),
            store: FlowStore::new(config.store, Instant::now()),
            names: NameTable::default(),
            dns: DnsStore::default(),
            connections: ConnectionTable::new(config.store.max_flows as usize),
            hubs: Hubs {
                flow: Hub::new(config.hub),
                dns: Hub::new(config.hub),
                tcp: Hub::new(config.hub),
            },
            clock: Clock::system(),
            own_netns: own_netns(),
            events: 0,
            duplicate: Count::default(),
            waiting: Count::default(),
        }
    }

    /// Makes it shared.
    #[must_use]
    pub fn shared(self) -> SharedPipeline {
        Arc::new(Mutex::new(self))
    }

    /// Tells whether the socket hook and the interface hook run side by side.
    pub fn set_both_hooks(&mut self, both: bool) {
        self.dedup.set_both(both);
    }

    /// Tells which ports the agent itself listens on.
    pub fn set_own_ports(&mut self, ports: Vec<u16>) {
        self.self_traffic.set_ports(ports);
    }

    /// Takes in events, and leaves the batch empty.
    pub fn ingest(&mut self, batch: &mut Vec<Event>) {
        self.ingest_at(batch, Instant::now());
    }

    /// Ends a drain cycle: call it after the counters of a cycle were taken in.
    pub fn end_of_cycle(&mut self, now: Instant) {
        self.release_waiting(now);
        self.dedup.end_cycle();
        self.store.end_cycle(now);
        self.tell_ended();
        self.connections.expire(now);
        if !self.names.is_empty() {
            self.names.expire(self.clock.now());
        }
        self.hubs.publish();
    }

    /// Adds a subscriber to flows.
    pub fn subscribe(&mut self) -> Subscription<FlowEvent> {
        self.hubs.flow.subscribe()
    }

    /// Adds a subscriber to DNS.
    pub fn subscribe_dns(&mut self) -> Subscription<DnsEvent> {
        self.hubs.dns.subscribe()
    }

    /// Adds a subscriber to TCP health.
    pub fn subscribe_tcp(&mut self) -> Subscription<TcpEvent> {
        self.hubs.tcp.subscribe()
    }

    /// Returns how many of them there are: some events are made only for somebody.
    #[must_use]
    pub fn tcp_subscribers(&self) -> usize {
        self.hubs.tcp.subscribers()
    }

    /// Returns what went through since start, and what is in it.
    #[must_use]
    pub fn totals(&self) -> PipelineTotals {
        let counted = self.store.counted();
        PipelineTotals {
            events: self.events,
            in_flows: Count { packets: counted.packets, bytes: counted.bytes },
            duplicate: self.duplicate,
            waiting: self.waiting,
            evicted: self.store.evicted(),
            flows: self.store.len() as u64,
            workloads: self.identity.workloads() as u64,
            pods: self.identity.pods() as u64,
            names: self.names.len() as u64,
            evicted_names: self.names.evicted(),
            connections: self.connections.len() as u64,
            untracked: self.connections.totals().untracked,
            subscribers: self.hubs.subscribers() as u64,
            subscriber_lost: self.hubs.lost(),
        }
    }

    /// Says why owners are unknown, where something is wrong.
    #[must_use]
    pub fn identity_problem(&self) -> Option<&str> {
        self.identity.problem()
    }

    fn ingest_at(&mut self, batch: &mut Vec<Event>, now: Instant) {
        for Event { time, subject: _, payload } in batch.drain(..) {
            self.events += 1;
            match payload {
                Payload::Flow(sample) => self.take_flow(time, sample, now),
                Payload::Dns(exchange) => self.take_dns(time, exchange, now),
                Payload::Tcp(sample) => self.take_tcp(time, sample, now),
                Payload::Loss(loss) => self.hubs.tell_loss(time, loss),
            }
        }
        self.hubs.publish();
    }
}

impl Hubs {
    fn publish(&mut self) {
        let Self { flow, dns, tcp } = self;
        flow.publish();
        dns.publish();
        tcp.publish();
    }

    fn subscribers(&self) -> usize {
        let Self { flow, dns, tcp } = self;
        flow.subscribers() + dns.subscribers() + tcp.subscribers()
    }

    fn lost(&self) -> u64 {
        let Self { flow, dns, tcp } = self;
        flow.lost() + dns.lost() + tcp.lost()
    }

    fn tell_loss(&mut self, time: UnixNanos, loss: Loss) {
        let Loss { signal, packets, bytes, moments } = loss;
        let kernel = (packets > 0 || bytes > 0).then_some(Lost::Kernel { packets, bytes });
        let ring = (moments > 0).then_some(Lost::Ring { events: moments });
        for lost in [kernel, ring].into_iter().flatten() {
            match signal {
                Signal::Flow => self.flow.push_lost(time, lost),
                Signal::Dns => self.dns.push_lost(time, lost),
                Signal::Tcp => self.tcp.push_lost(time, lost),
            }
        }
    }
}

/// Returns the inode of this process's network namespace, as the kernel's records have it.
fn own_netns() -> Option<u32> {
    let inode = std::fs::metadata("/proc/self/ns/net").ok()?.ino();
    u32::try_from(inode).ok()
}

#[cfg(test)]
mod tests;
