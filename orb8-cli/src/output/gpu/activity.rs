//! Processes, and what they do with CUDA and NCCL.

use orb8_proto::columns::gpu::ProcessRow;
use orb8_proto::gpu::Places;
use orb8_proto::v1::{
    GpuActivity, GpuAllocated, GpuCalls, GpuCollectives, GpuCommunicator, GpuCopies, GpuCoverage,
    GpuLaunches, GpuLeak, GpuMemoryActivity, GpuProcess, GpuSampled, GpuSite, GpuWaits,
};

use super::super::end::WorkloadObject;
use super::{list, nanos, objects, sparse, text, timestamp};

sparse! {
    /// A process on devices, or one whose calls are watched.
    pub(crate) struct ProcessObject<'a> {
        r#type: &'static str,
        pid: u32,
        name: &'a str,
        workload: WorkloadObject<'a>,
        uses: Vec<UseObject<'a>>,
        activity: ActivityObject<'a>,
    }

    /// A process with the places where it asked for memory that it still has.
    pub(crate) struct LeakObject<'a> {
        r#type: &'static str,
        pid: u32,
        name: &'a str,
        workload: WorkloadObject<'a>,
        gpus: Vec<String>,
        leaks: bool,
        since: String,
        memory: MemoryObject<'a>,
    }

    struct UseObject<'a> {
        gpu: String,
        device: &'a str,
        kind: &'static str,
        memory_bytes: u64,
        utilization: f64,
    }

    struct ActivityObject<'a> {
        gpus: Vec<String>,
        since: String,
        last: String,
        memory: MemoryObject<'a>,
        copies: Vec<CopiesObject>,
        launches: LaunchesObject,
        graph_launches: LaunchesObject,
        waits: Vec<WaitsObject>,
        modules: CallsObject,
        communicators: Vec<CommunicatorObject<'a>>,
        coverage: CoverageObject<'a>,
    }

    struct MemoryObject<'a> {
        allocated: Vec<AllocatedObject>,
        outstanding_bytes: u64,
        outstanding_pinned_bytes: u64,
        unknown_frees: u64,
        failed: u64,
        sites: Vec<SiteObject<'a>>,
        other_sites_bytes: u64,
        leak: GrowthObject<'a>,
    }

    struct AllocatedObject {
        kind: &'static str,
        count: u64,
        bytes: u64,
        freed_count: u64,
        freed_bytes: u64,
    }

    struct SiteObject<'a> {
        frames: &'a [String],
        outstanding_bytes: u64,
        count: u64,
    }

    struct GrowthObject<'a> {
        growth_bytes_per_second: f64,
        windows: u32,
        window_ns: u64,
        site: SiteObject<'a>,
    }

    struct CopiesObject {
        kind: &'static str,
        count: u64,
        bytes: u64,
        waited_ns: u64,
    }

    struct LaunchesObject {
        count: u64,
        per_second: f64,
        sampled: bool,
    }

    struct WaitsObject {
        kind: &'static str,
        calls: CallsObject,
    }

    struct CallsObject {
        count: u64,
        time_ns: u64,
        longest_ns: u64,
    }

    struct CommunicatorObject<'a> {
        hash: String,
        rank: u32,
        ranks: u32,
        collectives: Vec<CollectivesObject>,
        last: String,
        behind: u64,
        slowest_rank: u32,
        missing_ranks: &'a [u32],
        from_ras: bool,
        state: &'static str,
    }

    struct CollectivesObject {
        kind: &'static str,
        count: u64,
        bytes: u64,
    }

    struct CoverageObject<'a> {
        libraries: &'a [String],
        sampled: Vec<SampledObject<'a>>,
        missing: &'a [String],
    }

    struct SampledObject<'a> {
        what: &'a str,
        part: f64,
    }
}

impl<'a> ProcessObject<'a> {
    pub(crate) fn new(row: &ProcessRow<'a>, places: &Places<'_>) -> Self {
        Self {
            r#type: Some("gpu_process"),
            pid: row.pid(),
            name: row.name(),
            workload: row.owner().map(WorkloadObject::new),
            uses: objects(row.uses, |uses| UseObject::new(uses, places)),
            activity: row.activity.map(|activity| ActivityObject::new(activity, places)),
        }
    }
}

impl<'a> LeakObject<'a> {
    pub(crate) fn new(activity: &'a GpuActivity, places: &Places<'_>) -> Self {
        let memory = activity.memory.as_ref();
        Self {
            r#type: Some("gpu_leak"),
            pid: Some(activity.pid),
            name: text(&activity.name),
            workload: activity.owner.as_ref().map(WorkloadObject::new),
            gpus: objects(&activity.devices, |device| places.label(device)),
            leaks: Some(memory.is_some_and(|memory| memory.leak.is_some())),
            since: timestamp(activity.since_ns),
            memory: memory.map(MemoryObject::new),
        }
    }
}

impl<'a> UseObject<'a> {
    fn new(uses: &'a GpuProcess, places: &Places<'_>) -> Self {
        let GpuProcess { device, pid: _, name: _, owner: _, kind: _, memory_bytes, utilization } =
            uses;
        Self {
            gpu: Some(places.label(device)),
            device: text(device),
            kind: uses.kind().word(),
            memory_bytes: *memory_bytes,
            utilization: *utilization,
        }
    }
}

impl<'a> ActivityObject<'a> {
    fn new(activity: &'a GpuActivity, places: &Places<'_>) -> Self {
        let GpuActivity {
            pid: _,
            name: _,
            owner: _,
            devices,
            since_ns,
            last_ns,
            memory,
            copies,
            launches,
            graph_launches,
            waits,
            modules,
            communicators,
            coverage,
        } = activity;
        Self {
            gpus: objects(devices, |device| places.label(device)),
            since: timestamp(*since_ns),
            last: timestamp(*last_ns),
            memory: memory.as_ref().map(MemoryObject::new),
            copies: objects(copies, CopiesObject::new),
            launches: launches.as_ref().map(LaunchesObject::new),
            graph_launches: graph_launches.as_ref().map(LaunchesObject::new),
            waits: objects(waits, WaitsObject::new),
            modules: modules.as_ref().map(CallsObject::new),
            communicators: objects(communicators, CommunicatorObject::new),
            coverage: coverage.as_ref().map(CoverageObject::new),
        }
    }
}

impl<'a> MemoryObject<'a> {
    fn new(memory: &'a GpuMemoryActivity) -> Self {
        let GpuMemoryActivity {
            allocated,
            outstanding_bytes,
            outstanding_pinned_bytes,
            unknown_frees,
            failed,
            sites,
            other_sites_bytes,
            leak,
        } = memory;
        Self {
            allocated: objects(allocated, AllocatedObject::new),
            outstanding_bytes: Some(*outstanding_bytes),
            outstanding_pinned_bytes: Some(*outstanding_pinned_bytes),
            unknown_frees: Some(*unknown_frees),
            failed: Some(*failed),
            sites: objects(sites, SiteObject::new),
            other_sites_bytes: Some(*other_sites_bytes),
            leak: leak.as_ref().map(GrowthObject::new),
        }
    }
}

impl AllocatedObject {
    fn new(allocated: &GpuAllocated) -> Self {
        let GpuAllocated { kind: _, count, bytes, freed_count, freed_bytes } = *allocated;
        Self {
            kind: allocated.kind().word(),
            count: Some(count),
            bytes: Some(bytes),
            freed_count: Some(freed_count),
            freed_bytes: Some(freed_bytes),
        }
    }
}

impl<'a> SiteObject<'a> {
    fn new(site: &'a GpuSite) -> Self {
        let GpuSite { frames, outstanding_bytes, count } = site;
        Self {
            frames: list(frames),
            outstanding_bytes: Some(*outstanding_bytes),
            count: Some(*count),
        }
    }
}

impl<'a> GrowthObject<'a> {
    fn new(leak: &'a GpuLeak) -> Self {
        let GpuLeak { growth_bytes_per_second, windows, window, site } = leak;
        Self {
            growth_bytes_per_second: Some(*growth_bytes_per_second),
            windows: Some(*windows),
            window_ns: nanos(window.as_ref()),
            site: site.as_ref().map(SiteObject::new),
        }
    }
}

impl CopiesObject {
    fn new(copies: &GpuCopies) -> Self {
        let GpuCopies { kind: _, count, bytes, waited } = copies;
        Self {
            kind: copies.kind().word(),
            count: Some(*count),
            bytes: Some(*bytes),
            waited_ns: nanos(waited.as_ref()),
        }
    }
}

impl LaunchesObject {
    const fn new(launches: &GpuLaunches) -> Self {
        let GpuLaunches { count, per_second, sampled } = *launches;
        Self { count: Some(count), per_second: Some(per_second), sampled: Some(sampled) }
    }
}

impl WaitsObject {
    fn new(waits: &GpuWaits) -> Self {
        let GpuWaits { kind: _, calls } = waits;
        Self { kind: waits.kind().word(), calls: calls.as_ref().map(CallsObject::new) }
    }
}

impl CallsObject {
    fn new(calls: &GpuCalls) -> Self {
        let GpuCalls { count, time, longest } = calls;
        Self {
            count: Some(*count),
            time_ns: nanos(time.as_ref()),
            longest_ns: nanos(longest.as_ref()),
        }
    }
}

impl<'a> CommunicatorObject<'a> {
    fn new(communicator: &'a GpuCommunicator) -> Self {
        let GpuCommunicator {
            hash,
            rank,
            ranks,
            collectives,
            last_ns,
            behind,
            slowest_rank,
            missing_ranks,
            from_ras,
            state: _,
        } = communicator;
        Self {
            hash: super::event::hash(*hash),
            rank: *rank,
            ranks: *ranks,
            collectives: objects(collectives, CollectivesObject::new),
            last: timestamp(*last_ns),
            behind: *behind,
            slowest_rank: *slowest_rank,
            missing_ranks: list(missing_ranks),
            from_ras: Some(*from_ras),
            state: communicator.state().word(),
        }
    }
}

impl CollectivesObject {
    fn new(collectives: &GpuCollectives) -> Self {
        let GpuCollectives { kind: _, count, bytes } = *collectives;
        Self { kind: collectives.kind().word(), count: Some(count), bytes }
    }
}

impl<'a> CoverageObject<'a> {
    fn new(coverage: &'a GpuCoverage) -> Self {
        let GpuCoverage { libraries, sampled, missing } = coverage;
        let part = |of: &'a GpuSampled| {
            let GpuSampled { what, part } = of;
            SampledObject { what: text(what), part: Some(*part) }
        };
        Self { libraries: list(libraries), sampled: objects(sampled, part), missing: list(missing) }
    }
}
