//! From events to held flows and to subscribers.
//!
//! ```text
//! source ──batch──▶ ingest: dedup ──▶ owner ──▶ store ──▶ hub ──▶ subscribers
//!        ──────────▶ end_of_cycle: what waited, what ended
//! ```
//! All of it is synchronous, under one lock, and allocates nothing per event but the hub's batches.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::event::{Event, FlowSample, Loss, Payload, SampleKind, UnixNanos};
use crate::identity::{Resolver, ResolverConfig};
use crate::store::{
    Added, Change, EndReason, Ended, FlowStore, InterfaceNames, Owner, Page, Query, Totals,
};
use dedup::{Dedup, Verdict};
use self_traffic::{SelfTraffic, own_cgroup_id};

mod accounting;
mod dedup;
mod hub;
mod self_traffic;

pub use accounting::{Accounting, Count};
pub use hub::{Batch, FlowStep, Gaps, Happened, Hub, HubConfig, Lost, StreamItem, Subscription};
pub use self_traffic::LocalAddresses;

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
    hub: Hub,
    clock: Clock,
    events: u64,
    duplicate: Count,
    waiting: Count,
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
    /// Subscribers.
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
            hub: Hub::new(config.hub),
            clock: Clock::system(),
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
        while let Some((waiting, verdict)) = self.dedup.release() {
            self.waiting.packets -= waiting.sample.packets;
            self.waiting.bytes -= waiting.sample.bytes;
            match verdict {
                Verdict::Count | Verdict::Wait => self.count(waiting.time, &waiting.sample, now),
                Verdict::Duplicate => self.leave_out(&waiting.sample),
            }
        }
        self.dedup.end_cycle();
        self.store.end_cycle(now);
        self.tell_ended();
        self.hub.publish();
    }

    /// Returns the flows that a query asks for.
    #[must_use]
    pub fn query(&self, query: &Query, interfaces: &InterfaceNames) -> Page {
        self.store.query(query, interfaces)
    }

    /// Adds a subscriber.
    pub fn subscribe(&mut self) -> Subscription {
        self.hub.subscribe()
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
            subscribers: self.hub.subscribers() as u64,
            subscriber_lost: self.hub.lost(),
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
                Payload::Flow(sample) => self.take(time, sample, now),
                Payload::Loss(loss) => self.tell_loss(time, loss),
            }
        }
        self.hub.publish();
    }

    fn take(&mut self, time: UnixNanos, sample: FlowSample, now: Instant) {
        match self.dedup.judge(&sample) {
            Verdict::Count => self.count(time, &sample, now),
            Verdict::Duplicate => self.leave_out(&sample),
            Verdict::Wait => {
                self.waiting.add(sample.packets, sample.bytes);
                self.dedup.wait(time, sample);
            }
        }
    }

    fn leave_out(&mut self, sample: &FlowSample) {
        self.duplicate.add(sample.packets, sample.bytes);
    }

    fn count(&mut self, time: UnixNanos, sample: &FlowSample, now: Instant) {
        let subject = self.identity.resolve(sample.cgroup_id, now);
        let self_traffic = self.self_traffic.includes(sample, subject.as_deref());
        let (change, flow) = self.store.apply(sample, Owner { subject, self_traffic }, now);
        let step = match (change, sample.kind) {
            (Change::New, _) => Some(FlowStep::New),
            (Change::Updated, _) => Some(FlowStep::Update),
            (Change::Unchanged, SampleKind::Fin) => Some(FlowStep::Closing(EndReason::Fin)),
            (Change::Unchanged, SampleKind::Rst) => Some(FlowStep::Closing(EndReason::Rst)),
            (Change::Unchanged, SampleKind::Counted | SampleKind::New) => None,
        };
        if let Some(step) = step.filter(|_| self.hub.is_wanted()) {
            let flow = flow.clone();
            let row = self.store.row(flow);
            let (packets, bytes) = (sample.packets, sample.bytes);
            let happened = Happened::Flow { step, row, packets, bytes };
            self.hub.push(StreamItem { time, happened });
        }
        self.tell_ended();
    }

    fn tell_ended(&mut self) {
        let is_wanted = self.hub.is_wanted();
        let mut now = None;
        for Ended { row, reason, added } in self.store.take_ended().filter(|_| is_wanted) {
            let time = match reason {
                EndReason::Fin | EndReason::Rst => row.flow.last,
                // What did not happen has no time of its own.
                EndReason::Idle | EndReason::Evicted => {
                    *now.get_or_insert_with(|| self.clock.now())
                }
            };
            let step = FlowStep::End(reason);
            let Added { packets, bytes } = added;
            let happened = Happened::Flow { step, row, packets, bytes };
            self.hub.push(StreamItem { time, happened });
        }
    }

    fn tell_loss(&mut self, time: UnixNanos, loss: Loss) {
        let Loss { packets, bytes, moments } = loss;
        let kernel = (packets > 0 || bytes > 0).then_some(Lost::Kernel { packets, bytes });
        let ring = (moments > 0).then_some(Lost::Ring { events: moments });
        for lost in [kernel, ring].into_iter().flatten() {
            self.hub.push(StreamItem { time, happened: Happened::Lost(lost) });
        }
    }
}

#[cfg(test)]
mod tests;
