//! Flows: dedup, owner, name, store, hub.

use std::time::{Duration, Instant};

use super::Pipeline;
use super::dedup::Verdict;
use super::hub::Weight;
use crate::event::{FlowSample, SampleKind, UnixNanos};
use crate::store::{
    Added, Change, EndReason, Ended, Flow, FlowRow, InterfaceNames, Owner, Page, Query,
};

/// The answer that a client acts on may be read after the first packets of what it does.
const LABEL_LATE: Duration = Duration::from_secs(10);

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
    pub fn query(&self, query: &Query, interfaces: &InterfaceNames) -> Page {
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
        let Self { store, connections, hubs, clock, .. } = self;
        let is_wanted = hubs.flow.is_wanted();
        let mut now = None;
        for Ended { mut row, reason, added } in store.take_ended().filter(|_| is_wanted) {
            let time = match reason {
                EndReason::Fin | EndReason::Rst => row.flow.last,
                // What did not happen has no time of its own.
                EndReason::Idle | EndReason::Evicted => *now.get_or_insert_with(|| clock.now()),
            };
            let Added { packets, bytes } = added;
            row.tcp = connections.health_of(&row.flow);
            hubs.flow.push(time, FlowEvent { step: FlowStep::End(reason), row, packets, bytes });
        }
    }

    fn leave_out(&mut self, sample: &FlowSample) {
        self.duplicate.add(sample.packets, sample.bytes);
    }

    fn count(&mut self, time: UnixNanos, sample: &FlowSample, now: Instant) {
        let subject = self.identity.resolve(sample.cgroup_id, now);
        let self_traffic = self.self_traffic.includes(sample, subject.as_deref());
        let (change, flow) = self.store.apply(sample, Owner { subject, self_traffic }, now);
        if flow.label.is_none() && (change == Change::New || is_young(flow)) {
            flow.label = self.names.label(flow);
        }
        let step = match (change, sample.kind) {
            (Change::New, _) => Some(FlowStep::New),
            (Change::Updated, _) => Some(FlowStep::Update),
            (Change::Unchanged, SampleKind::Fin) => Some(FlowStep::Closing(EndReason::Fin)),
            (Change::Unchanged, SampleKind::Rst) => Some(FlowStep::Closing(EndReason::Rst)),
            (Change::Unchanged, SampleKind::Counted | SampleKind::New) => None,
        };
        if let Some(step) = step.filter(|_| self.hubs.flow.is_wanted()) {
            let flow = flow.clone();
            let tcp = self.connections.health_of(&flow);
            let row = FlowRow { tcp, ..self.store.row(flow) };
            let (packets, bytes) = (sample.packets, sample.bytes);
            self.hubs.flow.push(time, FlowEvent { step, row, packets, bytes });
        }
        self.tell_ended();
    }
}

fn is_young(flow: &Flow) -> bool {
    flow.last.0.saturating_sub(flow.first.0) < LABEL_LATE.as_nanos() as u64
}
