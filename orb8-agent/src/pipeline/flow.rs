//! Flows: dedup, owner, name, store, hub.

use std::time::{Duration, Instant};

use orb8_common::flow::FlowKey;
use orb8_proto::filter::End;

use super::Pipeline;
use super::dedup::Verdict;
use super::hub::Weight;
use super::sockets::{NoSockets, NodeSockets};
use super::unnamed::{Held, Owned};
use crate::enrich::{Enricher, Role, Seen};
use crate::event::{FlowSample, SampleKind, SocketEnd, UnixNanos};
use crate::identity::{Ends, Party, Workload};
use crate::metrics::traffic::Moment;
use crate::store::{
    Added, Change, EndReason, Ended, Flow, FlowRow, InterfaceNames, Owner, Page, Query,
};

/// IP protocol number.
const TCP: u8 = 6;

/// The answer that a client acts on may be read after the first packets of what it does.
const LABEL_LATE: Duration = Duration::from_secs(10);

/// Datagrams to a Service may go to another backend as soon as connection tracking has forgotten the
/// one before, which takes so many seconds.
const TRANSLATED_FOR_S: u16 = 30;

/// Something that happened with a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowEvent {
    /// What.
    pub step: FlowStep,
    /// The flow, with its totals.
    pub row: FlowRow,
    /// Wire packets that were added since the flow's last event.
    pub packets: u64,
    /// IP bytes that were added since the flow's last event.
    pub bytes: u64,
}

impl Weight for FlowEvent {
    /// Its owner, name and health are the tables'.
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Owned for FlowEvent {
    fn local(&self) -> Option<End> {
        self.row.flow.local_end()
    }

    fn ends(&mut self) -> &mut Ends {
        &mut self.row.flow.ends
    }
}

/// What happened with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowStep {
    /// It was seen for the first time.
    New,
    /// Counts were added.
    Update,
    /// A FIN or RST was seen. What the kernel counted until then is not in the totals yet.
    Closing(EndReason),
    /// It ended. The totals are final, but for stragglers.
    End(EndReason),
}

impl Pipeline {
    /// Returns the flows that a query asks for.
    #[must_use]
    pub fn query(&mut self, query: &Query, interfaces: &InterfaceNames) -> Page {
        let (enrich, now) = (&mut self.enrich, Instant::now());
        self.store.find_names(|workload| enrich.owner(workload.cgroup_id, now));
        let mut page = self.store.query(query, interfaces);
        for row in &mut page.rows {
            row.tcp = self.connections.health_of(&row.flow);
        }
        page
    }

    pub(super) fn take_flow(&mut self, time: UnixNanos, sample: FlowSample, now: Instant) {
        match self.dedup.judge(&sample) {
            Verdict::Count => self.count(time, &sample, now),
            Verdict::Duplicate => self.leave_out(&sample),
            Verdict::Wait => {
                self.waiting.add(sample.packets, sample.bytes);
                self.dedup.wait(time, sample);
            }
        }
    }

    pub(super) fn release_waiting(&mut self, now: Instant) {
        while let Some((waiting, verdict)) = self.dedup.release() {
            self.waiting.packets -= waiting.sample.packets;
            self.waiting.bytes -= waiting.sample.bytes;
            match verdict {
                Verdict::Count | Verdict::Wait => self.count(waiting.time, &waiting.sample, now),
                Verdict::Duplicate => self.leave_out(&waiting.sample),
            }
        }
    }

    pub(super) fn tell_ended(&mut self) {
        let Self { store, connections, hubs, unnamed, enrich, clock, traffic, .. } = self;
        let is_wanted = hubs.flow.is_wanted();
        let (mut now, told) = (None, Instant::now());
        for Ended { mut row, reason, added } in store.take_ended() {
            traffic.end_flow(&mut row.flow);
            if !is_wanted {
                continue;
            }
            let time = match reason {
                EndReason::Fin | EndReason::Rst => row.flow.last,
                // What did not happen has no time of its own.
                EndReason::Idle | EndReason::Evicted => *now.get_or_insert_with(|| clock.now()),
            };
            let Added { packets, bytes } = added;
            row.tcp = connections.health_of(&row.flow);
            let cgroup_id = row.flow.cgroup_id;
            let event = FlowEvent { step: FlowStep::End(reason), row, packets, bytes };
            unnamed.flow.send(Held { cgroup_id, time, event }, &mut hubs.flow, enrich, told);
        }
    }

    fn leave_out(&mut self, sample: &FlowSample) {
        self.duplicate.add(sample.packets, sample.bytes);
    }

    fn count(&mut self, time: UnixNanos, sample: &FlowSample, now: Instant) {
        let subject = self.enrich.owner(sample.cgroup_id, now);
        let self_traffic = self.self_traffic.includes(sample, subject.as_deref());
        let (change, flow) = self.store.apply(sample, Owner { subject, self_traffic }, now);
        if flow.label.is_none() && (change == Change::New || is_young(flow)) {
            flow.label = self.names.label(flow);
        }
        let flow = if is_worth_a_look(flow, sample.kind, &self.enrich) {
            self.look(&sample.key, now);
            let Some(flow) = self.store.get_mut(&sample.key) else { return };
            flow
        } else {
            flow
        };
        if let Some(history) = &mut self.history {
            history.add(flow, sample);
        }
        let counted = (sample.packets, sample.bytes);
        self.traffic.count_flow(flow, counted, &self.enrich, Moment { time: sample.first, now });
        let step = match (change, sample.kind) {
            (Change::New, _) => Some(FlowStep::New),
            (Change::Updated, _) => Some(FlowStep::Update),
            (Change::Unchanged, SampleKind::Fin) => Some(FlowStep::Closing(EndReason::Fin)),
            (Change::Unchanged, SampleKind::Rst) => Some(FlowStep::Closing(EndReason::Rst)),
            (Change::Unchanged, SampleKind::Counted | SampleKind::New) => None,
        };
        let told = step.filter(|_| self.hubs.flow.is_wanted()).map(|step| (step, flow.clone()));
        // A flow whose key goes to a new connection ends before that begins.
        self.tell_ended();
        if let Some((step, flow)) = told {
            let tcp = self.connections.health_of(&flow);
            let row = FlowRow { tcp, ..self.store.row(flow) };
            let (packets, bytes) = (sample.packets, sample.bytes);
            let Self { unnamed, hubs, enrich, .. } = self;
            let event = FlowEvent { step, row, packets, bytes };
            let held = Held { cgroup_id: sample.cgroup_id, time, event };
            unnamed.flow.send(held, &mut hubs.flow, enrich, now);
        }
    }

    /// Looks for who is at a flow's ends.
    fn look(&mut self, key: &FlowKey, now: Instant) {
        let Self { enrich, store, connections, arriving, .. } = self;
        let Some(flow) = store.get_mut(key) else { return };
        flow.looked.note(enrich.epoch(), flow.last);
        // Counts may be read before the moment of the first SYN.
        let was_asking = flow.asking;
        flow.asking = was_asking.or_else(|| connections.asking(flow));
        let flow = flow.clone();
        let local = flow.local_end();
        let source = SocketEnd { addr: key.source_addr, port: key.source_port };
        let destination = SocketEnd { addr: key.destination_addr, port: key.destination_port };
        for (end, at, other) in
            [(End::Source, source, destination), (End::Destination, destination, source)]
        {
            let is_new = has_successor(&flow, end, enrich);
            // The owner of a local socket is known by its cgroup, if at all.
            let is_done = is_settled(&flow, end)
                && flow.asking == was_asking
                && !is_new
                && !may_move(&flow, end);
            if flow.is_owned(end) || is_done {
                continue;
            }
            let beside = local.filter(|local| *local != end);
            let seen = Seen {
                end: at,
                other,
                protocol: key.protocol,
                began: if is_connected(&flow) { flow.first } else { flow.last },
                beside: beside.and_then(|local| flow.ends.get(local).workload()),
                role: Role::of(end, flow.asking),
            };
            let is_of_kernel = flow.sender_of_kernel() == Some(end);
            let sockets = NodeSockets { flows: store, connections, arriving };
            let party = match is_of_kernel {
                true => enrich.party(&seen, &NoSockets, now),
                false => enrich.party(&seen, &sockets, now),
            };
            // Its Service is all that was not known yet.
            if is_told(&flow, end) && !is_new && !may_move(&flow, end) && party.service().is_none()
            {
                continue;
            }
            let Some(flow) = store.get_mut(key) else { return };
            let party_now = flow.ends.get_mut(end);
            if is_new || (is_of_kernel && party.is_named()) {
                party_now.succeed(party);
            } else {
                party_now.learn(party);
            }
        }
    }
}

/// Whether who is at its ends may be known better now than when it was last looked for.
fn is_worth_a_look(flow: &Flow, kind: SampleKind, enrich: &Enricher) -> bool {
    let is_named = |end: &End| flow.ends.get(*end).is_named();
    if !flow.looked.is_of(enrich.epoch()) && !End::BOTH.iter().all(is_named) {
        return true;
    }
    // Its moments are few, and a short flow has nothing but them; counts come once a cycle.
    let is_moment = kind != SampleKind::Counted;
    let is_due = is_moment || flow.looked.is_due();
    let is_changed = |end: &End| has_successor(flow, *end, enrich) || may_move(flow, *end);
    let is_open = |end: &End| !is_settled(flow, *end);
    (is_due && is_young(flow) && End::BOTH.iter().any(is_open))
        || (!is_moment && End::BOTH.iter().any(is_changed))
}

/// Whether nothing better can become known of an end. Which Service was asked for can depend on who
/// asked.
fn is_settled(flow: &Flow, end: End) -> bool {
    let is_role_known = flow.key.protocol != TCP || flow.asking.is_some();
    is_role_known && is_told(flow, end)
}

/// Whether nothing better can become known of who is at an end.
fn is_told(flow: &Flow, end: End) -> bool {
    match flow.sender_of_kernel() == Some(end) {
        true => matches!(flow.ends.get(end), Party::Pod(_) | Party::Front(_)),
        false => flow.ends.get(end).is_settled(),
    }
}

/// Whether somebody else may be at an end by now, since who was is gone. A connection ends with it.
fn has_successor(flow: &Flow, end: End, enrich: &Enricher) -> bool {
    let is_gone = |owner: &Workload| enrich.is_gone(owner.cgroup_id);
    !is_connected(flow)
        && flow.local_end() != Some(end)
        && flow.ends.get(end).workload().is_some_and(is_gone)
}

/// Whether what is sent to an end may go elsewhere by now.
fn may_move(flow: &Flow, end: End) -> bool {
    !is_connected(flow)
        && flow.looked.age(flow.last) >= TRANSLATED_FOR_S
        && flow.ends.get(end).front().is_some()
}

const fn is_connected(flow: &Flow) -> bool {
    flow.key.protocol == TCP
}

fn is_young(flow: &Flow) -> bool {
    flow.last.0.saturating_sub(flow.first.0) < LABEL_LATE.as_nanos() as u64
}
