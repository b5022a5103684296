//! From events to what is held and to subscribers.
//!
//! ```text
//! source ──batch──▶ ingest ─┬ flow ▶ dedup ▶ ends ▶ name ▶ store ─┐
//!                           ├ dns ──────────▶ ends ▶ names, sums ─┼▶ hub of the signal ▶ subscribers
//!                           ├ tcp ──────────▶ ends ▶ connections ─┤
//!                           └ gpu ────────────────────────────────┘
//!        ──────────▶ end_of_cycle: what waited, what ended
//! ```
//! All of it is synchronous, under one lock, and allocates nothing per event but the hubs' batches.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::conntrack::Translations;
use crate::enrich::Enricher;
use crate::event::{Event, Loss, Payload, Signal, UnixNanos};
use crate::gpu::{Board, GpuEvent};
use crate::history::History;
use crate::identity::{Resolver, ResolverConfig};
use crate::metrics::traffic::{Told, TrafficSeries, TrafficTotals};
use crate::store::dns::DnsStore;
use crate::store::tcp::ConnectionTable;
use crate::store::{FlowStore, NameTable, Totals};
use dedup::Dedup;
use orb8_k8s::index::Index;
use orb8_k8s::object::Node;
use self_traffic::{SelfTraffic, own_cgroup_id};
use sockets::Arriving;
use unnamed::Unnamed;

mod accounting;
mod dedup;
mod dns;
mod flow;
mod gpu;
mod hub;
mod listening;
mod past;
mod pods;
mod self_traffic;
mod sockets;
mod tcp;
mod unnamed;
mod workloads;

pub use accounting::{Accounting, Count};
pub use dns::{DnsEvent, DnsView};
pub use flow::{FlowEvent, FlowStep};
pub use hub::{
    Batch, Happened, Hub, HubConfig, Kept, Lost, Reader, Received, StreamItem, Subscription, Weight,
};
pub use past::{PastPage, query_past};
pub use pods::{KnownContainer, KnownPod, PodPage, PodQuery, PodSurvey, PodView};
pub use self_traffic::LocalAddresses;
pub use tcp::{TcpEvent, TcpView};
pub use workloads::{
    DnsSums, Level, Peer, PeerRow, Traffic, Who, WorkloadCounts, WorkloadGroup, WorkloadPage,
    WorkloadQuery, WorkloadRow, WorkloadSort, WorkloadSurvey,
};

/// A pipeline that sources write to and the API reads from.
pub type SharedPipeline = Arc<Mutex<Pipeline>>;

/// Locks a shared pipeline. A panic elsewhere leaves it usable: every step keeps it whole.
pub fn lock(pipeline: &SharedPipeline) -> MutexGuard<'_, Pipeline> {
    pipeline.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the [module](self).
#[derive(Debug)]
pub struct Pipeline {
    enrich: Enricher,
    self_traffic: SelfTraffic,
    dedup: Dedup,
    store: FlowStore,
    history: Option<History>,
    arriving: Arriving,
    names: NameTable,
    dns: DnsStore,
    connections: ConnectionTable,
    traffic: TrafficSeries,
    gpu: Board,
    rare: gpu::Rare,
    hubs: Hubs,
    unnamed: UnnamedEvents,
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
    gpu: Hub<GpuEvent>,
}

/// Of each signal, the events whose owner is about to become known.
#[derive(Debug, Default)]
struct UnnamedEvents {
    flow: Unnamed<FlowEvent>,
    dns: Unnamed<DnsEvent>,
    tcp: Unnamed<TcpEvent>,
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
    /// Memory of the history.
    pub history_bytes: u64,
    /// How far it reaches back, nanoseconds.
    pub history_ns: u64,
    /// Owners known.
    pub workloads: u64,
    /// Pods among them.
    pub pods: u64,
    /// Addresses with a name.
    pub names: u64,
    /// Names that were forgotten early for want of room.
    pub evicted_names: u64,
    /// Times that connection tracking was not asked, since it was asked too much already.
    pub conntrack_skipped: u64,
    /// TCP connections known.
    pub connections: u64,
    /// TCP connections for which there was no room.
    pub untracked: u64,
    /// Events that wait for the names of who is at their ends.
    pub waiting_events: u64,
    /// Events that went out without a name for which they had waited.
    pub unnamed_events: u64,
    /// What traffic metrics count of themselves.
    pub traffic: TrafficTotals,
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
        let mount = Environment::of_machine().own_cgroup_mount.or(config.cgroup_root.clone());
        let (clock, now) = (Clock::system(), Instant::now());
        let own_cgroup = mount.as_deref().and_then(|mount: &Path| own_cgroup_id(mount));
        Self {
            enrich: Enricher::new(Resolver::new(files), addresses.clone(), &config.node_name),
            self_traffic: SelfTraffic::new(addresses, own_cgroup),
            dedup: Dedup::new(config.store.max_flows as usize),
            store: FlowStore::new(config.store, now),
            history: config.history.map(|bounds| History::new(bounds, clock.now(), now)),
            arriving: Arriving::default(),
            names: NameTable::default(),
            dns: DnsStore::default(),
            connections: ConnectionTable::new(config.store.max_flows as usize),
            traffic: TrafficSeries::new(config.metrics.clone(), &config.node_name),
            gpu: Board::default(),
            rare: gpu::Rare::default(),
            hubs: Hubs {
                flow: Hub::new(config.hub),
                dns: Hub::new(config.hub),
                tcp: Hub::new(config.hub),
                gpu: Hub::new(config.hub),
            },
            unnamed: UnnamedEvents::default(),
            clock,
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

    /// Tells of one more port that the agent itself listens on.
    pub fn add_own_port(&mut self, port: u16) {
        self.self_traffic.add_port(port);
    }

    /// Returns the nodes that the Kubernetes API tells of; none where it is not asked.
    #[must_use]
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        self.enrich.kubernetes().map(Index::nodes).unwrap_or_default()
    }

    /// Tells which port the collector has that the agent itself exports to.
    pub fn set_collector_port(&mut self, port: u16) {
        self.self_traffic.set_collector_port(port);
    }

    /// Asks the Kubernetes API's index who is at the ends, from now on.
    pub fn set_kubernetes(&mut self, index: Index) {
        self.enrich.set_kubernetes(index);
    }

    /// Tells whether the Kubernetes API will soon tell of this node's pods that are new: if not, they
    /// are not waited for.
    pub fn set_pods_are_told(&mut self, are_told: bool) {
        self.enrich.identity().set_pods_are_told(are_told);
    }

    /// Notes that the Kubernetes API's objects were all listed.
    pub const fn renew_kubernetes(&mut self) {
        self.enrich.renew();
    }

    /// Asks connection tracking what is behind Services' addresses, from now on.
    pub fn set_translations(&mut self, translations: Translations) {
        self.enrich.set_translations(translations);
    }

    /// Returns the owners by cgroup, to tell it of cgroups that come and go.
    pub fn identity(&mut self) -> &mut Resolver {
        self.enrich.identity()
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
        if let Some(history) = &mut self.history {
            history.end_cycle(self.clock.now(), now);
        }
        self.tell_ended();
        self.connections.expire(now);
        if !self.names.is_empty() {
            self.names.expire(self.clock.now());
        }
        self.tell_named(now);
        self.traffic.settle(&mut self.enrich, now);
        self.hubs.publish();
    }

    /// Returns traffic's label sets from a place on, and where to go on, `None` at the end.
    pub(crate) fn traffic(&self, from: usize, limit: usize) -> (Vec<Told>, Option<usize>) {
        self.traffic.copy(from, limit)
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

    /// Returns where the last state of accelerators is. It is read and written without this lock.
    #[must_use]
    pub fn gpu(&self) -> Board {
        self.gpu.clone()
    }

    /// Returns how many events of the network's signals are kept and were sent since start.
    #[must_use]
    pub fn kept(&self) -> Kept {
        self.hubs.kept()
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
            history_bytes: self.history.as_ref().map_or(0, |history| history.bytes() as u64),
            history_ns: self
                .history
                .as_ref()
                .map_or(0, |history| self.clock.now().0.saturating_sub(history.start().0)),
            workloads: self.enrich.owners().workloads() as u64,
            pods: self.enrich.owners().pods() as u64,
            names: self.names.len() as u64,
            evicted_names: self.names.evicted(),
            conntrack_skipped: self.enrich.translations().map_or(0, Translations::skipped),
            connections: self.connections.len() as u64,
            untracked: self.connections.totals().untracked,
            waiting_events: self.unnamed.len() as u64,
            unnamed_events: self.unnamed.gave_up(),
            traffic: self.traffic.totals(),
            subscribers: self.hubs.subscribers() as u64,
            subscriber_lost: self.hubs.lost(),
        }
    }

    /// Says why owners are unknown, where something is wrong.
    #[must_use]
    pub fn identity_problem(&self) -> Option<&str> {
        self.enrich.owners().problem()
    }

    /// Says why nobody is known behind translated addresses, where that is so.
    #[must_use]
    pub fn translation_problem(&self) -> Option<&str> {
        self.enrich.translations()?.problem()
    }

    fn ingest_at(&mut self, batch: &mut Vec<Event>, now: Instant) {
        self.tell_named(now);
        self.note_listeners(batch, now);
        self.arriving.read(batch);
        for Event { time, subject: _, payload } in batch.drain(..) {
            self.events += 1;
            match payload {
                Payload::Flow(sample) => self.take_flow(time, sample, now),
                Payload::Dns(exchange) => self.take_dns(time, exchange, now),
                Payload::Tcp(sample) => self.take_tcp(time, sample, now),
                Payload::Gpu(event) => self.take_gpu(time, *event),
                Payload::Loss(loss) => self.hubs.tell_loss(time, loss),
            }
        }
        self.hubs.publish();
    }
}

impl Pipeline {
    /// Sends the events whose owners became known, or will not in time.
    fn tell_named(&mut self, now: Instant) {
        let Self { unnamed, hubs, enrich, .. } = self;
        let UnnamedEvents { flow, dns, tcp } = unnamed;
        flow.send_ready(&mut hubs.flow, enrich, now);
        dns.send_ready(&mut hubs.dns, enrich, now);
        tcp.send_ready(&mut hubs.tcp, enrich, now);
    }
}

impl UnnamedEvents {
    fn len(&self) -> usize {
        let Self { flow, dns, tcp } = self;
        flow.len() + dns.len() + tcp.len()
    }

    const fn gave_up(&self) -> u64 {
        let Self { flow, dns, tcp } = self;
        flow.gave_up() + dns.gave_up() + tcp.gave_up()
    }
}

impl Hubs {
    fn publish(&mut self) {
        let Self { flow, dns, tcp, gpu } = self;
        flow.publish();
        dns.publish();
        tcp.publish();
        gpu.publish();
    }

    fn subscribers(&self) -> usize {
        let Self { flow, dns, tcp, gpu } = self;
        flow.subscribers() + dns.subscribers() + tcp.subscribers() + gpu.subscribers()
    }

    fn kept(&self) -> Kept {
        // Accelerators' events are no flows.
        let Self { flow, dns, tcp, gpu: _ } = self;
        flow.kept() + dns.kept() + tcp.kept()
    }

    fn lost(&self) -> u64 {
        let Self { flow, dns, tcp, gpu } = self;
        flow.lost() + dns.lost() + tcp.lost() + gpu.lost()
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
                Signal::Gpu => self.gpu.push_lost(time, lost),
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
