//! Accelerators as objects. The schema is documented one level up.
//!
//! Each message is taken apart field by field, so that a new field is not forgotten here.

use orb8_proto::gpu::{self, Places};
use orb8_proto::v1::{
    GpuHolders, GpuPart, GpuShare, GpuSourceStatus, GpuWatching, GpuXid, QueryGpuResponse,
};

use super::end::WorkloadObject;
use super::value::timestamp;

mod activity;
mod device;
mod event;
mod sample;

pub(crate) use activity::{LeakObject, ProcessObject};
pub(crate) use device::{DeviceObject, HealthObject};
pub(crate) use event::write_event;

/// Declares objects of which each field is left out where it has nothing to tell.
macro_rules! sparse {
    ($($(#[$doc:meta])* $visible:vis struct $name:ident $(<$life:lifetime>)? {
        $($field:ident: $type:ty,)*
    })*) => { $(
        $(#[$doc])*
        #[derive(Debug, serde::Serialize)]
        $visible struct $name $(<$life>)? {
            $(#[serde(skip_serializing_if = "Option::is_none")] $field: Option<$type>,)*
        }
    )* };
}

use sparse;

sparse! {
    /// What one owner has of a device, or what is nobody's known.
    pub(crate) struct ShareObject<'a> {
        r#type: &'static str,
        gpu: String,
        device: &'a str,
        model: &'a str,
        profile: &'a str,
        workload: WorkloadObject<'a>,
        unattributed: bool,
        standing: &'static str,
        idle_since: String,
        idle_long: bool,
        resource: &'a str,
        shared: bool,
        claim: &'a str,
        memory_bytes: u64,
        memory_basis: &'static str,
        utilization: f64,
        utilization_basis: &'static str,
        pids: &'a [u32],
    }

    /// Who tells of devices and their holders, and how calls are watched.
    pub(crate) struct StatusObject<'a> {
        r#type: &'static str,
        node_name: &'a str,
        time: String,
        interval_ns: u64,
        sources: Vec<SourceObject<'a>>,
        holders: HoldersObject<'a>,
        watching: WatchingObject<'a>,
    }

    struct SourceObject<'a> {
        name: &'a str,
        devices: u32,
        problem: &'a str,
        took_ns: u64,
        failures: u64,
        invalid: u64,
    }

    struct HoldersObject<'a> {
        from: &'a str,
        problem: &'a str,
        unmatched: &'a [String],
    }

    struct WatchingObject<'a> {
        on: bool,
        problems: &'a [String],
        processes: u32,
        probes: u32,
        expensive: u32,
        cost: f64,
        budget: f64,
        lost: u64,
    }

    struct XidObject<'a> {
        code: u32,
        class: &'static str,
        action: &'static str,
        meaning: &'a str,
        count: u64,
        last: String,
    }

    struct PartObject<'a> {
        parent: &'a str,
        gpu_instance: u32,
        compute_instance: u32,
        profile: &'a str,
    }
}

impl<'a> ShareObject<'a> {
    /// Makes the object of a share, or of what is nobody's.
    pub(crate) fn new(
        device: &'a orb8_proto::v1::GpuDevice,
        share: Option<&'a GpuShare>,
        places: &Places<'_>,
    ) -> Self {
        let of_device = Self {
            r#type: Some("gpu_share"),
            gpu: Some(places.label(&device.id)),
            device: text(&device.id),
            model: text(&device.model),
            profile: device.part.as_ref().and_then(|part| text(&part.profile)),
            workload: None,
            unattributed: Some(true),
            standing: None,
            idle_since: None,
            idle_long: None,
            resource: None,
            shared: None,
            claim: None,
            memory_bytes: device.unattributed_memory_bytes,
            memory_basis: None,
            utilization: device.unattributed_utilization,
            utilization_basis: None,
            pids: None,
        };
        match share {
            Some(share) => of_device.with(share),
            None => of_device,
        }
    }

    fn with(self, share: &'a GpuShare) -> Self {
        let GpuShare {
            device,
            owner,
            resource,
            shared,
            claim,
            memory_bytes,
            memory_basis: _,
            utilization,
            utilization_basis: _,
            pids,
            standing: _,
            idle_since_ns,
            idle_long,
        } = share;
        let is_idle = *idle_since_ns > 0;
        Self {
            device: text(device),
            workload: owner.as_ref().map(WorkloadObject::new),
            unattributed: None,
            standing: share.standing().word(),
            idle_since: timestamp(*idle_since_ns),
            idle_long: is_idle.then_some(*idle_long),
            resource: text(resource),
            shared: (!resource.is_empty()).then_some(*shared),
            claim: text(claim),
            memory_bytes: *memory_bytes,
            memory_basis: share.memory_basis().word(),
            utilization: *utilization,
            utilization_basis: share.utilization_basis().word(),
            pids: list(pids),
            ..self
        }
    }
}

impl<'a> StatusObject<'a> {
    /// Makes the object of what holds of all devices.
    pub(crate) fn new(answer: &'a QueryGpuResponse) -> Self {
        let QueryGpuResponse {
            node_name,
            time_ns,
            interval,
            devices: _,
            processes: _,
            activity: _,
            sources,
            holders,
            watching,
        } = answer;
        Self {
            r#type: Some("gpu_status"),
            node_name: text(node_name),
            time: timestamp(*time_ns),
            interval_ns: nanos(interval.as_ref()),
            sources: Some(sources.iter().map(SourceObject::new).collect()),
            holders: holders.as_ref().map(HoldersObject::new),
            watching: watching.as_ref().map(WatchingObject::new),
        }
    }
}

impl<'a> SourceObject<'a> {
    fn new(source: &'a GpuSourceStatus) -> Self {
        let GpuSourceStatus { name, devices, problem, took, failures, invalid } = source;
        Self {
            name: Some(name),
            devices: Some(*devices),
            problem: text(problem),
            took_ns: nanos(took.as_ref()),
            failures: Some(*failures),
            invalid: Some(*invalid),
        }
    }
}

impl<'a> HoldersObject<'a> {
    fn new(holders: &'a GpuHolders) -> Self {
        let GpuHolders { from, problem, unmatched } = holders;
        Self { from: text(from), problem: text(problem), unmatched: list(unmatched) }
    }
}

impl<'a> WatchingObject<'a> {
    fn new(watching: &'a GpuWatching) -> Self {
        let GpuWatching { on, problems, processes, probes, expensive, cost, budget, lost } =
            watching;
        Self {
            on: Some(*on),
            problems: list(problems),
            processes: Some(*processes),
            probes: Some(*probes),
            expensive: Some(*expensive),
            cost: *cost,
            budget: Some(*budget),
            lost: Some(*lost),
        }
    }
}

impl<'a> XidObject<'a> {
    fn new(xid: &'a GpuXid) -> Self {
        let GpuXid { code, class: _, action: _, meaning } = xid;
        Self {
            code: Some(*code),
            class: xid.class().word(),
            action: xid.action().word(),
            meaning: text(meaning),
            count: None,
            last: None,
        }
    }
}

impl<'a> PartObject<'a> {
    fn new(part: &'a GpuPart) -> Self {
        let GpuPart { parent, gpu_instance, compute_instance, profile } = part;
        Self {
            parent: text(parent),
            gpu_instance: Some(*gpu_instance),
            compute_instance: *compute_instance,
            profile: text(profile),
        }
    }
}

fn text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn list<T>(list: &[T]) -> Option<&[T]> {
    (!list.is_empty()).then_some(list)
}

fn objects<'a, T, O>(from: &'a [T], make: impl Fn(&'a T) -> O) -> Option<Vec<O>> {
    (!from.is_empty()).then(|| from.iter().map(make).collect())
}

/// A duration in nanoseconds, as other objects have them; absent where it is not told.
fn nanos(of: Option<&prost_types::Duration>) -> Option<u64> {
    let nanos = gpu::duration(Some(of?)).as_nanos();
    Some(u64::try_from(nanos).unwrap_or(u64::MAX))
}
