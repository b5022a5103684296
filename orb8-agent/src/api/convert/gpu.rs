//! Accelerators: their last state, and what happens to them.
//!
//! Every struct of the model is taken apart here field by field, so that what is known is told.

use std::time::Duration;

use orb8_proto::v1;

use super::Converter;
use crate::gpu::view::{HolderHealth, SourceHealth, Watching};
use crate::gpu::{DeviceId, View};

mod activity;
mod device;
mod event;
mod share;
mod words;

pub(in crate::api) use event::{Place, action, kind};
pub(in crate::api) use share::owner;

impl Converter {
    /// Tells the last state of everything.
    pub(in crate::api) fn gpu(&self, view: &View) -> v1::QueryGpuResponse {
        let View {
            time,
            interval,
            sources,
            holders,
            devices,
            processes,
            activity,
            // Sums of what the processes did, for metrics.
            totals: _,
            watching: watched,
        } = view;
        v1::QueryGpuResponse {
            node_name: self.node_name.to_string(),
            time_ns: time.0,
            interval: duration(*interval),
            devices: devices.iter().map(device::device).collect(),
            processes: processes.iter().map(share::process).collect(),
            activity: activity.iter().map(activity::activity).collect(),
            sources: sources.iter().map(source).collect(),
            holders: Some(holder_health(holders)),
            watching: Some(watching(watched)),
        }
    }
}

fn source(source: &SourceHealth) -> v1::GpuSourceStatus {
    // What it was not told is in the status.
    let SourceHealth { kind, devices, problem, took, failures, invalid, unread: _, lacks: _ } =
        source;
    v1::GpuSourceStatus {
        name: kind.word().to_owned(),
        devices: *devices,
        problem: problem.clone().unwrap_or_default(),
        took: duration(*took),
        failures: *failures,
        invalid: *invalid,
    }
}

fn holder_health(holders: &HolderHealth) -> v1::GpuHolders {
    let HolderHealth { from, problem, unmatched, is_off: _ } = holders;
    v1::GpuHolders {
        from: from.clone().unwrap_or_default(),
        problem: problem.clone().unwrap_or_default(),
        unmatched: unmatched.clone(),
    }
}

fn watching(watching: &Watching) -> v1::GpuWatching {
    // What the ring, the maps and programs take is told with those of the other signals.
    let Watching {
        is_on,
        problems,
        processes,
        probes,
        expensive,
        cost,
        budget,
        lost,
        ring: _,
        map_bytes: _,
        programs: _,
    } = watching;
    v1::GpuWatching {
        on: *is_on,
        problems: problems.clone(),
        processes: *processes,
        probes: *probes,
        expensive: *expensive,
        cost: *cost,
        budget: *budget,
        lost: *lost,
    }
}

/// What lasts longer than a message can say lasts as long as it can.
fn duration(lasted: Duration) -> Option<prost_types::Duration> {
    let longest = prost_types::Duration { seconds: i64::MAX, nanos: 0 };
    Some(prost_types::Duration::try_from(lasted).unwrap_or(longest))
}

fn ids(ids: &[DeviceId]) -> Vec<String> {
    ids.iter().map(DeviceId::to_string).collect()
}

fn joules(millijoules: u64) -> f64 {
    millijoules as f64 / 1e3
}

#[cfg(test)]
mod tests;
