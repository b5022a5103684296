//! What flows moved in a part of the recording, from their events.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::time::Duration;

use orb8_proto::filter::End;
use orb8_proto::v1::{EventKind, Flow, Hook, QueryFlowsResponse, StreamEventsResponse};

use super::archive::{Archive, decode};
use crate::recording::{Frames, Kind};

/// Flows that are told apart.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    hook: i32,
    /// Interface with its VLANs, or cgroup.
    place: (u64, u32, u32),
    ends: [(Vec<u8>, u32); 2],
    protocol: (u32, Option<(u32, u32)>, bool),
    direction: i32,
}

/// Adds up what each flow's events of a time added.
pub(super) fn flows(
    archive: &Archive,
    window: (Option<u64>, Option<u64>),
) -> io::Result<QueryFlowsResponse> {
    let (begin, end) = archive.span();
    // What was told as recording began and ended may have moved a moment before and after.
    let wanted = window.0.filter(|from| *from > begin).unwrap_or(0)
        ..window.1.filter(|to| *to < end).unwrap_or(u64::MAX);
    let start = window.0.unwrap_or(0).clamp(begin, end);
    let end = window.1.unwrap_or(u64::MAX).clamp(start, end);
    let mut sums = Sums::default();
    for block in archive.blocks_with(Kind::FlowEvent) {
        let raw = archive.block(block)?;
        for frame in Frames::new(&raw).filter(|frame| frame.kind == Some(Kind::FlowEvent)) {
            let event: StreamEventsResponse = decode(&frame)?;
            if wanted.contains(&event.time_ns) {
                sums.add(event);
            }
        }
    }
    let length = Duration::from_nanos(end - start);
    // That one is new or has ended tells of nothing that moved.
    let moved = sums.flows.into_iter().filter(|flow| flow.packets > 0 || flow.bytes > 0);
    Ok(QueryFlowsResponse {
        flows: moved.map(|flow| with_rates(flow, length)).collect(),
        window_start_ns: Some(start),
        window_end_ns: Some(end),
        history_start_ns: Some(begin),
        ..QueryFlowsResponse::default()
    })
}

#[derive(Default)]
struct Sums {
    flows: Vec<Flow>,
    /// Those that have not ended.
    going: HashMap<Key, usize>,
}

impl Sums {
    fn add(&mut self, event: StreamEventsResponse) {
        let (kind, bytes, packets) = (event.kind(), event.delta_bytes, event.delta_packets);
        let Some(flow) = event.flow else { return };
        let is_over = kind == EventKind::FlowEnd;
        let at = match self.going.entry(Key::of(&flow)) {
            Entry::Occupied(entry) if is_over => entry.remove(),
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let at = self.flows.len();
                self.flows.push(Flow::default());
                if !is_over {
                    entry.insert(at);
                }
                at
            }
        };
        let sum = &mut self.flows[at];
        let (bytes, packets) =
            (sum.bytes.saturating_add(bytes), sum.packets.saturating_add(packets));
        // The later, the more is known.
        *sum = Flow { bytes, packets, ..flow };
    }
}

impl Key {
    fn of(flow: &Flow) -> Self {
        let end =
            |end| flow.endpoint(end).map(|end| (end.ip.clone(), end.port)).unwrap_or_default();
        let interface = flow.interface.as_ref().map_or(0, |interface| interface.index);
        let vlan = |id: Option<u32>| id.unwrap_or(0);
        Self {
            hook: flow.hook,
            place: match flow.hook() {
                Hook::Interface => (interface.into(), vlan(flow.vlan), vlan(flow.inner_vlan)),
                Hook::Socket | Hook::Unspecified => (flow.cgroup_id, 0, 0),
            },
            ends: End::BOTH.map(end),
            protocol: (
                flow.ip_protocol,
                flow.icmp.map(|icmp| (icmp.r#type, icmp.code)),
                flow.fragment,
            ),
            direction: flow.direction,
        }
    }
}

fn with_rates(flow: Flow, length: Duration) -> Flow {
    let per_second = |count: u64| {
        let rate = (u128::from(count) * 1_000_000_000).checked_div(length.as_nanos()).unwrap_or(0);
        u64::try_from(rate).unwrap_or(u64::MAX)
    };
    Flow {
        bytes_per_second: per_second(flow.bytes),
        packets_per_second: per_second(flow.packets),
        ..flow
    }
}
