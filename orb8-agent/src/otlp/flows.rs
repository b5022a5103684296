//! What was told of which flow, so that a record a minute tells what the events in between did.
//!
//! ```text
//! events of a flow:   New  Update Update … Update   Closing  End
//! its records:                    └ every interval ┘         └ always
//! ```
//! A record has what was added since the one before, by the flow's own totals: whatever is missing in
//! between, the records of a flow add up to what it had.

use std::time::Duration;

use hashbrown::HashMap;
use orb8_common::flow::FlowKey;
use zerocopy::IntoBytes;

use crate::event::UnixNanos;
use crate::pipeline::{FlowEvent, FlowStep};
use crate::store::{Added, Flow, StoreConfig};

/// A full ledger looks for flows whose end was missed no more often.
const SWEEP: Duration = Duration::from_secs(10);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Ledger {
    told: HashMap<Id, Told, foldhash::fast::RandomState>,
    interval: Duration,
    store: StoreConfig,
    swept: UnixNanos,
}

/// A flow's key, as it is compared.
type Id = [u8; size_of::<FlowKey>()];

/// What was told of one flow.
#[derive(Clone, Copy, Debug)]
struct Told {
    packets: u64,
    bytes: u64,
    /// When it is told again, if it still goes on.
    due: UnixNanos,
}

impl Ledger {
    /// Makes an empty one for as many flows as the agent holds.
    pub(super) fn new(interval: Duration, store: StoreConfig) -> Self {
        Self { told: HashMap::default(), interval, store, swept: UnixNanos::default() }
    }

    /// Notes an event, and returns what is to be told now, if anything is.
    pub(super) fn note(&mut self, time: UnixNanos, event: &FlowEvent) -> Option<Added> {
        let FlowEvent { step, row, packets, bytes } = event;
        let (id, flow) = (id(&row.flow.key), &row.flow);
        let told_before = |told: Option<Told>| {
            let (packets, bytes) = told.map_or_else(
                || (flow.packets.saturating_sub(*packets), flow.bytes.saturating_sub(*bytes)),
                |told| (told.packets, told.bytes),
            );
            Added {
                packets: flow.packets.saturating_sub(packets),
                bytes: flow.bytes.saturating_sub(bytes),
            }
        };
        match step {
            FlowStep::End(_) => return Some(told_before(self.told.remove(&id))),
            // Its end was missed.
            FlowStep::New => drop(self.told.remove(&id)),
            // Stragglers of a flow that has ended.
            FlowStep::Update if flow.end.is_some() => return some(told_before(None)),
            FlowStep::Update => {}
            FlowStep::Closing(_) => return None,
        }
        let due = after(time, self.interval);
        if let Some(told) = self.told.get_mut(&id) {
            if time < told.due {
                return None;
            }
            let added = told_before(Some(*told));
            *told = Told { packets: flow.packets, bytes: flow.bytes, due };
            return some(added);
        }
        let added = told_before(None);
        if !self.has_room(time) {
            // Each event by itself is more, but still all.
            return some(added);
        }
        let (packets, bytes) = (flow.packets - added.packets, flow.bytes - added.bytes);
        self.told.insert(id, Told { packets, bytes, due });
        None
    }

    /// Returns what of a flow was not told yet, when nothing more will be noted. One that has ended and is
    /// not here was told with its end.
    pub(super) fn rest(&mut self, flow: &Flow) -> Option<Added> {
        let told = self.told.remove(&id(&flow.key));
        if told.is_none() && flow.end.is_some() {
            return None;
        }
        let (packets, bytes) = told.map_or((0, 0), |told| (told.packets, told.bytes));
        some(Added {
            packets: flow.packets.saturating_sub(packets),
            bytes: flow.bytes.saturating_sub(bytes),
        })
    }

    /// Whether there is room for one more. A flow without an event for the idle timeout has ended.
    fn has_room(&mut self, time: UnixNanos) -> bool {
        let StoreConfig { max_flows, idle_timeout } = self.store;
        let limit = max_flows as usize;
        if self.told.len() >= limit && time >= after(self.swept, SWEEP) {
            self.swept = time;
            self.told.retain(|_, told| after(told.due, idle_timeout) > time);
        }
        self.told.len() < limit
    }
}

fn id(key: &FlowKey) -> Id {
    let mut id = [0; size_of::<FlowKey>()];
    id.copy_from_slice(key.as_bytes());
    id
}

fn after(time: UnixNanos, wait: Duration) -> UnixNanos {
    let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
    UnixNanos(time.0.saturating_add(wait))
}

fn some(added: Added) -> Option<Added> {
    (added != Added::default()).then_some(added)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::tests::samples::{at, flow_event};
    use crate::store::EndReason;

    const MINUTE: Duration = Duration::from_secs(60);
    const STORE: StoreConfig = StoreConfig { max_flows: 2, idle_timeout: Duration::from_secs(60) };

    fn told(packets: u64) -> Option<Added> {
        Some(Added { packets, bytes: packets * 100 })
    }

    /// A ledger, and a flow's totals.
    struct Bench {
        ledger: Ledger,
        packets: u64,
    }

    impl Bench {
        fn new() -> Self {
            Self { ledger: Ledger::new(MINUTE, STORE), packets: 0 }
        }

        fn note(&mut self, second: u64, step: FlowStep, added: u64) -> Option<Added> {
            self.packets += added;
            let event = flow_event(1, step, added, self.packets);
            self.ledger.note(at(second), &event)
        }
    }

    #[test]
    fn records_of_a_flow_add_up() {
        let mut bench = Bench::new();
        assert_eq!(bench.note(0, FlowStep::New, 1), None);
        for second in 1..60 {
            assert_eq!(bench.note(second, FlowStep::Update, 1), None, "{second}");
        }
        assert_eq!(bench.note(60, FlowStep::Update, 1), told(61));
        assert_eq!(bench.note(119, FlowStep::Update, 1), None);
        assert_eq!(bench.note(121, FlowStep::Update, 1), told(2));
        assert_eq!(bench.note(122, FlowStep::Closing(EndReason::Fin), 0), None);
        assert_eq!(bench.note(123, FlowStep::End(EndReason::Fin), 3), told(3));
        assert!(bench.ledger.told.is_empty());
    }

    #[test]
    fn what_was_missed_in_between_is_made_up_for() {
        let mut bench = Bench::new();
        assert_eq!(bench.note(0, FlowStep::New, 1), None);
        // Events that were lost.
        bench.packets += 10;
        assert_eq!(bench.note(61, FlowStep::Update, 1), told(12));
        assert_eq!(
            bench.note(70, FlowStep::End(EndReason::Idle), 0),
            told(0),
            "told, though empty"
        );
    }

    #[test]
    fn an_older_flow_is_told_from_its_first_event_on() {
        let mut bench = Bench::new();
        bench.packets = 1_000;
        assert_eq!(bench.note(0, FlowStep::Update, 5), None);
        assert_eq!(bench.note(1, FlowStep::End(EndReason::Idle), 0), told(5));
    }

    #[test]
    fn stragglers_are_told_at_once_and_kept_nowhere() {
        let mut bench = Bench::new();
        bench.note(0, FlowStep::New, 4);
        assert_eq!(bench.note(1, FlowStep::End(EndReason::Fin), 0), told(4));
        bench.packets += 2;
        let mut event = flow_event(1, FlowStep::Update, 2, bench.packets);
        event.row.flow.end = Some(EndReason::Fin);
        assert_eq!(bench.ledger.note(at(2), &event), told(2));
        assert!(bench.ledger.told.is_empty());
    }

    #[test]
    fn what_goes_on_at_the_end_is_told_once() {
        let mut bench = Bench::new();
        bench.note(0, FlowStep::New, 3);
        let flow = |port, total| flow_event(port, FlowStep::Update, 0, total).row.flow;
        assert_eq!(bench.ledger.rest(&flow(1, 4)), told(4));
        assert_eq!(bench.ledger.rest(&flow(2, 5)), told(5), "its events wait for a name");
        bench.note(1, FlowStep::End(EndReason::Fin), 0);
        let mut ended = flow(1, 4);
        ended.end = Some(EndReason::Fin);
        assert_eq!(bench.ledger.rest(&ended), None);
    }

    #[test]
    fn a_full_ledger_tells_each_event_and_forgets_what_must_have_ended() {
        let mut bench = Bench::new();
        let of = |port, added, total| flow_event(port, FlowStep::Update, added, total);
        for port in [1, 2] {
            assert_eq!(bench.ledger.note(at(100), &of(port, 1, 1)), None);
        }
        assert_eq!(bench.ledger.note(at(101), &of(3, 1, 1)), told(1));
        assert_eq!(bench.ledger.note(at(102), &of(3, 4, 5)), told(4));
        let ended = flow_event(3, FlowStep::End(EndReason::Fin), 2, 7);
        assert_eq!(bench.ledger.note(at(103), &ended), told(2), "7 in all");
        // Idle for two minutes: their ends were missed.
        assert_eq!(bench.ledger.note(at(230), &of(4, 1, 1)), None);
        assert_eq!(bench.ledger.told.len(), 1);
    }
}
