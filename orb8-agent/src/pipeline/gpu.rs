//! Accelerators' events: their owners are found where they are read, so they go to the hub as they are.
//!
//! What processes do each second would push out of the hub what happened to a device an hour ago, so that
//! is kept apart, for those who come later.

use std::collections::VecDeque;
use std::mem::{Discriminant, discriminant};

use super::Pipeline;
use super::hub::{Happened, StreamItem, Subscription, Weight};
use crate::event::UnixNanos;
use crate::gpu::share::Owner;
use crate::gpu::{GpuEvent, GpuEventKind};

/// Rare events of one kind that are kept: weeks of a node that is well. A program that tries again and
/// again to have memory that is not there pushes out nothing but its own.
const RARE: usize = 256;

impl Weight for GpuEvent {
    /// Workloads and names of processes are shared with the tables that they are from.
    fn heap_bytes(&self) -> usize {
        let names = |owner: &Owner| {
            let Owner { namespace, pod, container, workload: _ } = owner;
            [namespace, pod, container].into_iter().flatten().map(String::len).sum::<usize>()
        };
        self.owners.iter().map(|owner| size_of::<Owner>() + names(owner)).sum()
    }
}

/// Rare events by their sequence numbers, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Rare(VecDeque<Kept>);

#[derive(Debug)]
struct Kept {
    sequence: u64,
    kind: Discriminant<GpuEventKind>,
    item: StreamItem<GpuEvent>,
}

impl Rare {
    fn add(&mut self, sequence: u64, time: UnixNanos, event: &GpuEvent) {
        if !is_rare(&event.kind) {
            return;
        }
        let kind = discriminant(&event.kind);
        let mut alike = self.0.iter().enumerate().filter(|(_, kept)| kept.kind == kind);
        let oldest = alike.next().map(|(at, _)| at);
        if let Some(oldest) = oldest.filter(|_| alike.count() + 1 >= RARE) {
            self.0.remove(oldest);
        }
        let item = StreamItem { time, happened: Happened::Event(event.clone()) };
        self.0.push_back(Kept { sequence, kind, item });
    }

    /// Returns those before an event.
    fn before(&self, sequence: u64) -> Vec<StreamItem<GpuEvent>> {
        let older = self.0.iter().take_while(|kept| kept.sequence < sequence);
        older.map(|kept| kept.item.clone()).collect()
    }
}

impl Pipeline {
    /// Adds a subscriber to accelerators' events.
    pub fn subscribe_gpu(&mut self) -> Subscription<GpuEvent> {
        let mut subscription = self.hubs.gpu.subscribe();
        subscription.precede(self.rare.before(subscription.first()));
        subscription
    }

    pub(super) fn take_gpu(&mut self, time: UnixNanos, event: GpuEvent) {
        self.rare.add(self.hubs.gpu.next(), time, &event);
        self.hubs.gpu.push(time, event);
    }
}

/// Whether it is something that happens, and not what goes on all the time.
const fn is_rare(kind: &GpuEventKind) -> bool {
    !matches!(
        kind,
        GpuEventKind::Launches { .. }
            | GpuEventKind::Collectives { .. }
            | GpuEventKind::Allocated { .. }
            | GpuEventKind::ModuleLoaded { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::event::{Event, Payload};
    use crate::gpu::xid;
    use crate::pipeline::LocalAddresses;

    fn event(kind: GpuEventKind) -> Payload {
        let event = GpuEvent {
            time: UnixNanos(0),
            device: None,
            index: None,
            process: None,
            owners: Vec::new(),
            kind,
        };
        Payload::Gpu(Box::new(event))
    }

    fn launches() -> Payload {
        event(GpuEventKind::Launches { rate: 1.0, graph_rate: 0.0, is_sampled: false })
    }

    /// The times of what a new subscriber gets first, rare events with a minus.
    fn kept(pipeline: &mut Pipeline) -> Vec<i64> {
        let recent = pipeline.subscribe_gpu().recent;
        let items = recent.iter().flat_map(|batch| &batch.items);
        let time = |item: &StreamItem<GpuEvent>| {
            let is_rare = matches!(&item.happened, Happened::Event(of) if is_rare(&of.kind));
            item.time.0.cast_signed() * if is_rare { -1 } else { 1 }
        };
        items.map(time).collect()
    }

    #[test]
    fn what_happens_to_devices_outlasts_what_goes_on() {
        let mut config = Config::in_process().unwrap();
        config.hub.recent = 200;
        let mut pipeline = Pipeline::new(&config, LocalAddresses::default());
        let mut tell = |time: u64, payload: Payload| {
            let mut batch = vec![Event { time: UnixNanos(time), subject: None, payload }];
            pipeline.ingest(&mut batch);
        };
        tell(1, event(GpuEventKind::Xid(xid::describe(79))));
        for time in 2..=1_000 {
            tell(time, launches());
        }
        tell(1_001, event(GpuEventKind::Appeared));
        let kept = kept(&mut pipeline);
        assert_eq!(kept.first(), Some(&-1), "once, and before the others");
        assert_eq!(kept.last(), Some(&-1_001));
        assert_eq!(kept.iter().filter(|time| **time < 0).count(), 2, "neither twice");
        assert!(kept.len() < 400 && kept[1] > 600, "{} from {} on", kept.len(), kept[1]);
    }

    #[test]
    fn without_recent_events_the_rare_ones_are_kept() {
        let mut config = Config::in_process().unwrap();
        config.hub.recent = 0;
        let mut pipeline = Pipeline::new(&config, LocalAddresses::default());
        for time in 1..=RARE as u64 + 5 {
            let refused = GpuEventKind::AllocationFailed { bytes: 1, error: 2 };
            let payload =
                event(if time == 1 { GpuEventKind::Xid(xid::describe(79)) } else { refused });
            let mut batch = vec![Event { time: UnixNanos(time), subject: None, payload }];
            pipeline.ingest(&mut batch);
        }
        let kept = kept(&mut pipeline);
        assert_eq!((kept.len(), kept[0]), (RARE + 1, -1), "the only one of its kind");
        assert_eq!(kept[1], -6, "of the others the oldest made room");
    }
}
