//! Traffic by the labels that the user chose: what flows, DNS exchanges and TCP events count.
//!
//! ```text
//! flow, exchange, sample ─▶ who is at its ends ─(pointers)─▶ label set ─▶ + ─▶ scrapes
//!                                     └─(new)─▶ labels ─▶ its set, a new one, or `other`
//! ```
//! Everything is counted once, when it comes in, for whom it is known to be of then; what is known
//! later holds from then on, so no counter goes back. An owner of whom the Kubernetes API is about to
//! tell is waited for: its counts are told when its name is known, so that a pod's first packets make
//! no series of their own. Names are looked at when an owner is new, not for each event.

use std::time::{Duration, Instant};

use hashbrown::HashSet;
use orb8_proto::filter::End;

use crate::event::{DnsExchange, DnsSide, TcpSample, UnixNanos};
use crate::identity::{Ends, Party};
use crate::store::Flow;
use known::{Key, Known, KnownOwners};
use series::{Way, is_counted};
use sets::{SetRef, Sets, State};

mod families;
mod known;
mod labels;
mod life;
mod series;
mod sets;

pub use families::TRAFFIC;
pub(crate) use families::{families, kind_of};
pub use labels::LabelChoice;
pub(crate) use life::Owners;
pub(crate) use series::OfConnection;
pub use sets::CountedIn;
pub(crate) use sets::Told;

/// Which owners are gone is looked at no more often.
const SWEEP: Duration = Duration::from_secs(5);

/// Owners that were not met for so long are looked at anew.
const FORGET: Duration = Duration::from_secs(60);

/// Label sets whose owner is about to be known: more new pods than a node starts in ten seconds. Those
/// beyond are told at once, as they are.
const MAX_PENDING: usize = 1024;

/// Label sets without room of which is known that they were counted. When there are more, one that
/// comes again may count again.
const MAX_REFUSED: usize = 65_536;

/// What is counted, and by which labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficConfig {
    /// Labels of every series.
    pub labels: LabelChoice,
    /// Label sets that are told apart.
    pub max_series: u32,
}

/// See the [module](self).
#[derive(Debug)]
pub struct TrafficSeries {
    config: TrafficConfig,
    /// Name of this node, as the Kubernetes API has it.
    node_name: Box<str>,
    has_peer: bool,
    known: KnownOwners,
    sets: Sets,
    other: Option<SetRef>,
    /// Hashes of the label sets that had no room.
    refused: HashSet<u64, foldhash::fast::RandomState>,
    totals: TrafficTotals,
    next_sweep: Option<Instant>,
    next_forget: Option<Instant>,
}

/// What traffic counts of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficTotals {
    /// Label sets held.
    pub sets: u64,
    /// Label sets that had no room.
    pub overflows: u64,
    /// Packets of the agent's own API, which are in no series.
    pub self_packets: u64,
    /// Their IP bytes.
    pub self_bytes: u64,
}

/// Where and when something happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// When it happened.
    pub(crate) time: UnixNanos,
    /// When it is taken in.
    pub(crate) now: Instant,
}

impl TrafficSeries {
    /// Counts nothing yet.
    #[must_use]
    pub fn new(config: TrafficConfig, node_name: &str) -> Self {
        Self {
            has_peer: config.labels.has_peer(),
            config,
            node_name: node_name.into(),
            known: KnownOwners::default(),
            sets: Sets::default(),
            other: None,
            refused: HashSet::default(),
            totals: TrafficTotals::default(),
            next_sweep: None,
            next_forget: None,
        }
    }

    /// Whether labels tell of the other end.
    #[must_use]
    pub fn has_peer(&self) -> bool {
        self.has_peer
    }

    /// Returns what it counts of itself.
    #[must_use]
    pub fn totals(&self) -> TrafficTotals {
        TrafficTotals { sets: self.sets.told() as u64, ..self.totals }
    }

    /// Counts packets of a flow, of which it is known by now who is at its ends.
    pub(crate) fn count_flow(
        &mut self,
        flow: &mut Flow,
        (packets, bytes): (u64, u64),
        owners: &impl Owners,
        at: Moment,
    ) {
        if flow.self_traffic {
            self.totals.self_packets += packets;
            self.totals.self_bytes += bytes;
            self.end_flow(flow);
            return;
        }
        let Known { set, end } = self.find(&flow.ends, flow.local_end(), owners, at);
        let way = Way::of(flow.key.protocol, end, flow.key.direction);
        let Some(held) = self.sets.get_mut(set) else { return };
        let counts = held.series.flow(way);
        counts.packets += packets;
        counts.bytes += bytes;
        let is_counted = flow.counted_in.is_some_and(|counted_in| counted_in.is(set, way));
        if flow.end.is_none() && !is_counted {
            self.end_flow(flow);
            flow.counted_in = Some(self.sets.begin_flow(set, way));
        }
    }

    /// Notes that a flow is not active any more.
    pub(crate) fn end_flow(&mut self, flow: &mut Flow) {
        if let Some(counted_in) = flow.counted_in.take() {
            self.sets.end_flow(counted_in);
        }
    }

    /// Counts an exchange.
    pub(crate) fn count_dns(
        &mut self,
        exchange: &DnsExchange,
        ends: &Ends,
        owners: &impl Owners,
        at: Moment,
    ) {
        if !is_exchange(exchange) {
            return;
        }
        let local = match exchange.side {
            DnsSide::Client | DnsSide::Transit => End::Source,
            DnsSide::Server => End::Destination,
        };
        let known = self.find(ends, Some(local), owners, at);
        if let Some(held) = self.sets.get_mut(known.set) {
            held.series.dns(exchange.side).count(exchange);
        }
    }

    /// Counts what happened to a connection, listener or packet.
    pub(crate) fn count_tcp(
        &mut self,
        sample: &TcpSample,
        added: OfConnection<'_>,
        (ends, local): (&Ends, Option<End>),
        owners: &impl Owners,
        at: Moment,
    ) {
        if !is_counted(sample, added) {
            return;
        }
        let known = self.find(ends, local, owners, at);
        if let Some(held) = self.sets.get_mut(known.set) {
            held.series.tcp().count(sample, added);
        }
    }

    /// Takes in what became known since, and lets go what is gone: once a cycle.
    pub(crate) fn settle(&mut self, owners: &mut impl Owners, now: Instant) {
        self.name_pending(owners, now);
        if self.next_sweep.is_none_or(|next| now >= next) {
            self.next_sweep = Some(now + SWEEP);
            // Then there is room for some that had none.
            if self.sets.expire(owners, now)
                && let Some(other) = self.other
            {
                self.known.forget(other);
            }
        }
        if self.next_forget.is_none_or(|next| now >= next) {
            self.next_forget = Some(now + FORGET);
            self.known.begin_interval();
        }
    }

    /// Returns the label sets from a place on, and where to go on, `None` at the end.
    pub(crate) fn copy(&self, from: usize, limit: usize) -> (Vec<Told>, Option<usize>) {
        self.sets.copy(from, limit)
    }

    /// Returns the label set of an end, and the end.
    fn find(&mut self, ends: &Ends, local: Option<End>, owners: &impl Owners, at: Moment) -> Known {
        let key = Key::new(ends, local, self.has_peer);
        if let Some(known) = self.known.get(&key).filter(|known| self.sets.is_open(known.set)) {
            return known;
        }
        let end = local.or_else(|| self.end_here(ends));
        let owner = end.map_or(&Party::Unknown, |end| ends.get(end));
        let cgroup_id = owner.workload().filter(|owner| owner.awaits_names());
        let is_pending = cgroup_id.is_some_and(|owner| owners.is_pending(owner.cgroup_id, at.now));
        let set = match is_pending && self.sets.pending.len() < MAX_PENDING {
            true => self.sets.insert_pending(as_local(ends, end), at.time),
            false => self.set_of(owner, end.map(|end| ends.get(end.other())), at.time),
        };
        let known = Known { set, end };
        let limit = (self.config.max_series as usize).max(MAX_PENDING);
        let mut kept = ends.clone();
        if let Some(end) = local.filter(|_| !self.has_peer) {
            *kept.get_mut(end.other()) = Party::Unknown;
        }
        self.known.insert(key, known, kept, limit);
        known
    }

    /// Returns the end that is on this node, of a flow that was seen between two others: the source,
    /// where both are.
    fn end_here(&self, ends: &Ends) -> Option<End> {
        let is_here = |end: &End| {
            let party = ends.get(*end);
            party.pod_name().is_some() && party.node_name() == Some(&*self.node_name)
        };
        End::BOTH.into_iter().find(is_here)
    }

    /// Returns the label set of an owner: its own, if there is room.
    fn set_of(&mut self, owner: &Party, peer: Option<&Party>, since: UnixNanos) -> SetRef {
        let unknown = Party::Unknown;
        let labels = self.config.labels.of(owner, peer.unwrap_or(&unknown));
        let found = self.sets.find(&labels);
        let told = self.sets.told() - usize::from(self.other.is_some());
        let has_room = told < self.config.max_series as usize;
        let set = match found {
            Some(set) => set,
            None if has_room => self.sets.insert(labels.into(), since),
            None => {
                self.refuse(self.sets.hash(&labels));
                return self.other_set(since);
            }
        };
        self.sets.tells_of(set, owner, peer.filter(|_| self.has_peer));
        set
    }

    /// Returns the label set of what had no room, which stays.
    fn other_set(&mut self, since: UnixNanos) -> SetRef {
        let Self { other, sets, config, .. } = self;
        *other.get_or_insert_with(|| {
            let labels = config.labels.other();
            sets.find(&labels).unwrap_or_else(|| sets.insert(labels.into(), since))
        })
    }

    fn refuse(&mut self, hash: u64) {
        if self.refused.len() >= MAX_REFUSED {
            self.refused.clear();
        }
        self.totals.overflows += u64::from(self.refused.insert(hash));
    }

    /// Moves the counts of owners that are known by now, or will not be.
    fn name_pending(&mut self, owners: &mut impl Owners, now: Instant) {
        for set in std::mem::take(&mut self.sets.pending) {
            let Some(held) = self.sets.get_mut(set) else { continue };
            let State::Pending(ends) = &mut held.state else { continue };
            ends.source.rename(&mut |owner| owners.owner(owner.cgroup_id, now));
            ends.destination.rename(&mut |owner| owners.owner(owner.cgroup_id, now));
            let cgroup_id = ends.source.workload().map(|owner| owner.cgroup_id);
            if cgroup_id.is_some_and(|cgroup_id| owners.is_pending(cgroup_id, now)) {
                self.sets.pending.push(set);
                continue;
            }
            let (since, ends) = (held.series.since, ends.clone());
            let to = self.set_of(&ends.source, Some(&ends.destination), since);
            self.sets.move_to(set, to);
        }
    }
}

/// Puts the owner first, who was at an end.
fn as_local(ends: &Ends, end: Option<End>) -> Ends {
    match end {
        Some(End::Destination) => {
            Ends { source: ends.destination.clone(), destination: ends.source.clone() }
        }
        Some(End::Source) | None => ends.clone(),
    }
}

/// Whether something was asked: what nobody asked for, and what does not parse, is in no series.
const fn is_exchange(exchange: &DnsExchange) -> bool {
    use crate::event::DnsOutcome::{Answered, Malformed, Timeout, Unasked};
    match exchange.outcome {
        Answered | Timeout => true,
        Unasked | Malformed => false,
    }
}

#[cfg(test)]
pub(super) mod tests;
