//! Devices, owners and readings for tests.

use std::collections::HashMap;
use std::sync::Arc;

use super::device::{Device, DeviceId, Part, SourceKind, Vendor};
use super::event::Process;
use super::kubelet::PodName;
use super::processes::Who;
use super::reading::{DeviceState, ProcessUse, Reading, Seen, UseKind};
use super::sample::Sample;
use super::share::Owner;
use crate::identity::Workload;

/// An NVIDIA device.
pub(super) fn device(id: &str) -> Device {
    Device {
        id: DeviceId::new(id),
        vendor: Vendor::Nvidia,
        source: SourceKind::Nvml,
        index: Some(0),
        minor: Some(0),
        model: "NVIDIA H100 80GB HBM3".into(),
        architecture: Some("hopper".into()),
        pci: None,
        serial: None,
        driver: None,
        part: None,
        is_divided: false,
    }
}

/// A MIG instance.
pub(super) fn part(id: &str, parent: &str, gpu_instance: u32, profile: &str) -> Device {
    let part = Part {
        parent: DeviceId::new(parent),
        gpu_instance,
        compute_instance: Some(0),
        profile: profile.to_owned(),
    };
    Device { part: Some(part), ..device(id) }
}

/// A device that answers.
pub(super) fn sampled(device: Device, change: impl FnOnce(&mut Sample)) -> Seen {
    let mut sample = Sample::default();
    change(&mut sample);
    Seen { device, state: DeviceState::Sampled(Box::new(sample)) }
}

/// A process that computes.
pub(super) fn uses(device: &str, pid: u32, memory: u64, busy: Option<f64>) -> ProcessUse {
    let device = DeviceId::new(device);
    ProcessUse { device, pid, kind: UseKind::Compute, memory: Some(memory), busy }
}

/// What a source tells.
pub(super) fn reading(
    source: SourceKind,
    devices: Vec<Seen>,
    processes: Vec<ProcessUse>,
) -> Reading {
    Reading { source, devices, processes, events: Vec::new(), holdings: Vec::new() }
}

/// Container `main` of a pod of namespace `ml`, as its cgroup tells it.
pub(super) fn workload(pod: &str) -> Workload {
    Workload {
        namespace: Some("ml".into()),
        pod: Some(pod.into()),
        pod_uid: Some(format!("uid-of-{pod}")),
        container: Some("main".into()),
        container_id: Some("0123456789abcdef".into()),
        cgroup_path: format!("/kubepods/pod-{pod}/main"),
        ..Workload::default()
    }
}

/// The same as an owner.
pub(super) fn owner(pod: &str) -> Owner {
    Owner {
        namespace: Some("ml".into()),
        pod: Some(pod.into()),
        container: Some("main".into()),
        workload: Some(Arc::new(workload(pod))),
    }
}

/// Knows whose processes are, and that pods whose names begin with `ended` did.
#[derive(Debug, Default)]
pub(super) struct Everyone(pub(super) HashMap<u32, Process>);

impl Everyone {
    /// Adds a process of a pod.
    pub(super) fn with(self, pid: u32, pod: &str) -> Self {
        self.with_named(pid, "python3", Some(workload(pod)))
    }

    pub(super) fn with_named(mut self, pid: u32, name: &str, workload: Option<Workload>) -> Self {
        let workload = workload.map(Arc::new);
        self.0.insert(pid, Process { pid, name: name.into(), workload });
        self
    }
}

impl Who for Everyone {
    fn process(&mut self, pid: u32) -> Process {
        let unknown = || Process { pid, name: Arc::default(), workload: None };
        self.0.get(&pid).cloned().unwrap_or_else(unknown)
    }

    fn container(&mut self, pod: &PodName, container: &str) -> Option<Arc<Workload>> {
        let is_it = |workload: &&Arc<Workload>| {
            workload.pod.as_ref() == Some(&pod.pod)
                && workload.container.as_deref() == Some(container)
        };
        self.0.values().filter_map(|process| process.workload.as_ref()).find(is_it).cloned()
    }

    fn has_ended(&mut self, pod: &PodName) -> bool {
        pod.pod.starts_with("ended")
    }
}
