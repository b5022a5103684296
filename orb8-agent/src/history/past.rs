//! Adding up a window of the history.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use orb8_common::flow::FlowKey;

use super::segment::{Described, Segment};
use crate::event::UnixNanos;
use crate::identity::Workload;
use crate::store::{Flow, FlowRow, InterfaceNames, Moved, Page, Query, SortKey, tie};

/// No row.
const NONE: u32 = u32::MAX;

/// A part of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its begin.
    pub start: UnixNanos,
    /// Its end.
    pub end: UnixNanos,
}

/// References to what happened in a window.
#[derive(Debug)]
pub struct Past {
    /// The segments of each chapter, from its first one to the window's last one.
    chapters: Vec<Vec<Arc<Segment>>>,
    start: UnixNanos,
    end: UnixNanos,
    /// What is known of at all.
    known: Window,
}

/// What one flow moved in the window.
struct Sum<'a> {
    of: &'a Described,
    moved: Moved,
}

impl Past {
    pub(super) fn new(
        chapters: Vec<Vec<Arc<Segment>>>,
        start: Option<UnixNanos>,
        end: Option<UnixNanos>,
        known: Window,
    ) -> Self {
        let (start, end) = (start.unwrap_or_default(), end.unwrap_or(UnixNanos(u64::MAX)));
        Self { chapters, start, end, known }
    }

    /// Returns since when everything is known.
    #[must_use]
    pub const fn reaches_back_to(&self) -> UnixNanos {
        self.known.start
    }

    /// Returns what counts are of: the window as it was asked for, extended to where segments begin and
    /// end, and as far as it is known.
    #[must_use]
    pub fn window(&self) -> Window {
        let segments = || self.chapters.iter().flatten().filter(|segment| self.is_inside(segment));
        let start = self.start.max(self.known.start).min(self.known.end);
        let end = self.end.min(self.known.end).max(start);
        let first = segments().map(|segment| segment.start).min();
        let last = segments().map(|segment| segment.end).max();
        Window {
            start: first.map_or(start, |first| first.min(start)),
            end: last.map_or(end, |last| last.max(end)),
        }
    }

    /// Returns the cgroups of those at ends whose names were not known yet.
    #[must_use]
    pub fn unnamed(&self) -> Vec<u64> {
        let flows = self.chapters.iter().flatten().flat_map(|segment| &segment.flows);
        let ends = flows.flat_map(|flow| [&flow.ends.source, &flow.ends.destination]);
        let awaiting = ends.filter_map(|party| party.workload().filter(|of| of.awaits_names()));
        let mut cgroups: Vec<u64> = awaiting.map(|workload| workload.cgroup_id).collect();
        cgroups.sort_unstable();
        cgroups.dedup();
        cgroups
    }

    /// Returns the flows that a query asks for, with what they moved in the window. `names` has by now
    /// known ones by cgroup.
    #[must_use]
    pub fn page(
        &self,
        query: &Query,
        interfaces: &InterfaceNames,
        names: &HashMap<u64, Arc<Workload>>,
    ) -> Page {
        let mut sums = self.sums();
        sums.retain(|sum| query.wants(&sum.flow(names), interfaces));
        let total = sums.len() as u64;
        let order = |sum: &Sum<'_>| {
            let value = sum.value(query.sort);
            let by_value = if query.ascending { value } else { u64::MAX - value };
            (by_value, tie(&sum.of.key), sum.of.first)
        };
        if query.limit < sums.len() {
            if query.limit > 0 {
                sums.select_nth_unstable_by(query.limit - 1, |a, b| order(a).cmp(&order(b)));
            }
            sums.truncate(query.limit);
        }
        sums.sort_unstable_by_key(order);
        let Window { start, end } = self.window();
        let length = Duration::from_nanos(end.0 - start.0);
        let rows = sums.into_iter().map(|sum| FlowRow::over(sum.flow(names), length)).collect();
        Page { rows, total }
    }

    /// Adds up what each flow moved.
    fn sums(&self) -> Vec<Sum<'_>> {
        let mut sums: Vec<Sum<'_>> = Vec::new();
        let mut latest: HashMap<FlowKey, u32, foldhash::fast::RandomState> = HashMap::default();
        for chapter in &self.chapters {
            let described: Vec<&Described> =
                chapter.iter().flat_map(|segment| &segment.flows).collect();
            let mut rows = vec![NONE; described.len()];
            for segment in chapter.iter().filter(|segment| self.is_inside(segment)) {
                for (place, delta) in segment.deltas.iter().enumerate() {
                    let of = described[delta.flow as usize];
                    let row = &mut rows[delta.flow as usize];
                    if *row == NONE {
                        let new = sums.len() as u32;
                        *row = match of.begins {
                            true => new,
                            false => *latest.get(&of.key).unwrap_or(&new),
                        };
                        if *row == new {
                            sums.push(Sum { of, moved: Moved::default() });
                            latest.insert(of.key, new);
                        }
                    }
                    let sum = &mut sums[*row as usize];
                    // The later, the more is known.
                    sum.of = of;
                    sum.moved.add(Moved {
                        packets: segment.packets(place),
                        bytes: delta.bytes,
                        last: segment.last(delta),
                        tcp_flags: delta.tcp_flags,
                    });
                }
            }
        }
        sums
    }

    fn is_inside(&self, segment: &Segment) -> bool {
        segment.end > self.start && segment.start < self.end
    }
}

impl Sum<'_> {
    fn flow(&self, names: &HashMap<u64, Arc<Workload>>) -> Flow {
        let Described {
            key,
            ends,
            label,
            first,
            cgroup_id,
            cookie,
            ifindex,
            self_traffic,
            begins: _,
        } = self.of;
        let mut flow = Flow::of_window(*key, *first, self.moved);
        (flow.ends, flow.label) = (ends.clone(), label.clone());
        (flow.cgroup_id, flow.cookie) = (*cgroup_id, *cookie);
        (flow.ifindex, flow.self_traffic) = (*ifindex, *self_traffic);
        if !names.is_empty() {
            let mut find = |of: &Workload| names.get(&of.cgroup_id).cloned();
            flow.ends.source.rename(&mut find);
            flow.ends.destination.rename(&mut find);
        }
        flow
    }

    /// Over one window, more bytes are a higher rate.
    fn value(&self, sort: SortKey) -> u64 {
        match sort {
            SortKey::Bytes | SortKey::Rate => self.moved.bytes,
            SortKey::Packets => self.moved.packets,
            SortKey::LastSeen => self.moved.last.0,
            SortKey::FirstSeen => self.of.first.0,
        }
    }
}
