//! Whose devices are, and who uses them.

use orb8_proto::v1;

use super::super::party::workload;
use super::words::{basis, use_kind};
use crate::gpu::event::Process;
use crate::gpu::share::{Held, Owner, Standing};
use crate::gpu::view::ProcessView;
use crate::gpu::{Basis, ProcessUse, Share};

pub(super) fn share(share: &Share) -> v1::GpuShare {
    let Share { device, owner: whose, holds, memory, busy, processes, standing } = share;
    let found = |basis_of: Option<Basis>| basis_of.map_or(v1::GpuBasis::Unspecified, basis);
    let told = v1::GpuShare {
        device: device.to_string(),
        owner: owner(whose),
        memory_bytes: memory.map(|(bytes, _)| bytes),
        memory_basis: found(memory.map(|(_, basis)| basis)).into(),
        utilization: busy.map(|(part, _)| part),
        utilization_basis: found(busy.map(|(_, basis)| basis)).into(),
        pids: processes.clone(),
        ..v1::GpuShare::default()
    };
    with_standing(with_held(told, holds.as_ref()), standing)
}

fn with_held(told: v1::GpuShare, holds: Option<&Held>) -> v1::GpuShare {
    let Some(Held { resource, is_shared, claim }) = holds else { return told };
    v1::GpuShare {
        resource: resource.clone(),
        shared: *is_shared,
        claim: claim.clone().unwrap_or_default(),
        ..told
    }
}

fn with_standing(told: v1::GpuShare, standing: &Standing) -> v1::GpuShare {
    let (standing, since, is_long) = match standing {
        Standing::Active => (v1::GpuStanding::Active, 0, false),
        Standing::Idle { since, is_long } => (v1::GpuStanding::Idle, since.0, *is_long),
        Standing::Unallocated => (v1::GpuStanding::Unallocated, 0, false),
        Standing::InUse => (v1::GpuStanding::InUse, 0, false),
        Standing::Lost => (v1::GpuStanding::Lost, 0, false),
    };
    v1::GpuShare { standing: standing.into(), idle_since_ns: since, idle_long: is_long, ..told }
}

/// What its cgroup tells, under the names by which it was given the device: those are known before
/// the Kubernetes API has told of the pod, and before a process runs. `None` of nobody.
pub(in crate::api) fn owner(owner: &Owner) -> Option<v1::Workload> {
    let Owner { namespace, pod, container, workload: runs } = owner;
    let mut told = runs.as_deref().map(workload).unwrap_or_default();
    let name = |told: &mut String, given: &Option<String>| {
        if let Some(given) = given {
            told.clone_from(given);
        }
    };
    name(&mut told.namespace, namespace);
    name(&mut told.pod, pod);
    name(&mut told.container, container);
    (told != v1::Workload::default()).then_some(told)
}

pub(super) fn process(view: &ProcessView) -> v1::GpuProcess {
    let ProcessView { uses, process } = view;
    let ProcessUse { device, pid, kind, memory, busy } = uses;
    let Process { pid: _, name, workload: whose } = process;
    v1::GpuProcess {
        device: device.to_string(),
        pid: *pid,
        name: name.to_string(),
        owner: whose.as_deref().map(workload),
        kind: use_kind(*kind).into(),
        memory_bytes: *memory,
        utilization: *busy,
    }
}
