//! What processes do with CUDA and NCCL.

use std::sync::Arc;

use orb8_proto::v1;

use super::super::party::workload;
use super::words::{allocation_kind, collective_kind, communicator_state, copy_kind, wait_kind};
use super::{duration, ids};
use crate::gpu::ProcessActivity;
use crate::gpu::activity::{
    Allocated, Calls, Collectives, Communicator, Copies, Coverage, Launches, Leak, MemoryActivity,
    Site, Waits,
};
use crate::gpu::event::Process;

pub(super) fn activity(of: &ProcessActivity) -> v1::GpuActivity {
    let ProcessActivity {
        process: Process { pid, name, workload: whose },
        since,
        last,
        devices,
        memory: taken,
        copies: copied,
        launches: kernels,
        graph_launches,
        waits: waited,
        modules,
        // By communicator they are told below.
        collectives: _,
        communicators,
        coverage: covered,
    } = of;
    v1::GpuActivity {
        pid: *pid,
        name: name.to_string(),
        owner: whose.as_deref().map(workload),
        devices: ids(devices),
        since_ns: since.0,
        last_ns: last.0,
        memory: Some(memory(taken)),
        copies: copied.iter().map(copies).collect(),
        launches: Some(launches(kernels)),
        graph_launches: Some(launches(graph_launches)),
        waits: waited.iter().map(waits).collect(),
        modules: Some(calls(modules)),
        communicators: communicators.iter().map(communicator).collect(),
        coverage: Some(coverage(covered)),
    }
}

fn memory(of: &MemoryActivity) -> v1::GpuMemoryActivity {
    let MemoryActivity {
        allocated: by_kind,
        outstanding,
        outstanding_pinned,
        unknown_frees,
        failed,
        sites,
        other_sites,
        leak: lost,
    } = of;
    v1::GpuMemoryActivity {
        allocated: by_kind.iter().map(allocated).collect(),
        outstanding_bytes: *outstanding,
        outstanding_pinned_bytes: *outstanding_pinned,
        unknown_frees: *unknown_frees,
        failed: *failed,
        sites: sites.iter().map(site).collect(),
        other_sites_bytes: *other_sites,
        leak: lost.as_ref().map(leak),
    }
}

fn allocated(of: &Allocated) -> v1::GpuAllocated {
    let Allocated { kind, count, bytes, freed_count, freed_bytes } = *of;
    v1::GpuAllocated { kind: allocation_kind(kind).into(), count, bytes, freed_count, freed_bytes }
}

fn site(site: &Site) -> v1::GpuSite {
    let Site { frames, outstanding, count } = site;
    v1::GpuSite { frames: texts(frames), outstanding_bytes: *outstanding, count: *count }
}

fn leak(leak: &Leak) -> v1::GpuLeak {
    let Leak { growth, windows, window, site: at } = leak;
    v1::GpuLeak {
        growth_bytes_per_second: *growth,
        windows: *windows,
        window: duration(*window),
        site: at.as_ref().map(site),
    }
}

fn copies(of: &Copies) -> v1::GpuCopies {
    let Copies { kind, count, bytes, waited } = *of;
    v1::GpuCopies { kind: copy_kind(kind).into(), count, bytes, waited: duration(waited) }
}

const fn launches(of: &Launches) -> v1::GpuLaunches {
    let Launches { count, rate, is_sampled } = *of;
    v1::GpuLaunches { count, per_second: rate, sampled: is_sampled }
}

fn waits(of: &Waits) -> v1::GpuWaits {
    let Waits { kind, calls: timed } = of;
    v1::GpuWaits { kind: wait_kind(*kind).into(), calls: Some(calls(timed)) }
}

fn calls(of: &Calls) -> v1::GpuCalls {
    let Calls { count, time, longest } = *of;
    v1::GpuCalls { count, time: duration(time), longest: duration(longest) }
}

fn communicator(of: &Communicator) -> v1::GpuCommunicator {
    let Communicator {
        hash,
        rank,
        ranks,
        collectives: by_kind,
        last,
        behind,
        slowest_rank,
        missing_ranks,
        is_from_ras,
        state,
    } = of;
    v1::GpuCommunicator {
        hash: *hash,
        rank: *rank,
        ranks: *ranks,
        collectives: by_kind.iter().map(collectives).collect(),
        last_ns: last.0,
        behind: *behind,
        slowest_rank: *slowest_rank,
        missing_ranks: missing_ranks.clone(),
        from_ras: *is_from_ras,
        state: communicator_state(*state).into(),
    }
}

fn collectives(of: &Collectives) -> v1::GpuCollectives {
    let Collectives { kind, count, bytes } = *of;
    v1::GpuCollectives { kind: collective_kind(kind).into(), count, bytes }
}

fn coverage(of: &Coverage) -> v1::GpuCoverage {
    let Coverage { libraries, sampled, missing } = of;
    let part =
        |(what, part): &(&'static str, f64)| v1::GpuSampled { what: (*what).into(), part: *part };
    v1::GpuCoverage {
        libraries: texts(libraries),
        sampled: sampled.iter().map(part).collect(),
        missing: texts(missing),
    }
}

fn texts(texts: &[Arc<str>]) -> Vec<String> {
    texts.iter().map(|text| text.to_string()).collect()
}
