//! Labels of devices, of their owners and of sources.

use std::sync::Arc;

use crate::gpu::share::{Owner, Share};
use crate::gpu::totals::{OwnerTotals, workload_name};
use crate::gpu::view::{DeviceView, SourceHealth, View};
use crate::identity::Workload;
use crate::metrics::family::Label;

/// Labels of a device.
pub(super) const DEVICE: &[&str] = &["gpu", "uuid", "model"];

/// Labels of a part of a device.
pub(super) const INSTANCE: &[&str] = &["gpu", "uuid", "model", "parent", "profile"];

/// Labels of what of a device is one owner's.
pub(super) const SHARE: &[&str] = &["gpu", "uuid", "namespace", "pod", "container", "workload"];

/// Labels of what an owner's processes did.
pub(super) const OWNER: &[&str] = &["namespace", "pod", "container", "workload"];

/// Labels of a source.
pub(super) const SOURCE: &[&str] = &["source"];

/// Everything that is of one device.
pub(super) struct Device {
    pub(super) device: Arc<[Label]>,
    pub(super) instance: Arc<[Label]>,
    /// One for each of its shares.
    pub(super) shares: Vec<Arc<[Label]>>,
}

impl Device {
    pub(super) fn of(view: &View, at: &DeviceView) -> Self {
        let device = &at.seen.device;
        let mut labels = Vec::new();
        if let Some(number) = view.number(device) {
            labels.push(("gpu", Arc::<str>::from(number).into()));
        }
        labels.push(("uuid", device.id.shared().into()));
        let shares = at.shares.shares.iter().map(|share| of_share(&labels, share)).collect();
        push(&mut labels, "model", Some(&device.model));
        let whole: Arc<[Label]> = labels.clone().into();
        if let Some(part) = &device.part {
            push(&mut labels, "parent", Some(part.parent.as_str()));
            push(&mut labels, "profile", Some(&part.profile));
        }
        Self { device: whole, instance: labels.into(), shares }
    }
}

/// Labels of an owner's processes.
pub(super) fn owner(totals: &OwnerTotals) -> Arc<[Label]> {
    let names = totals.names();
    let mut labels = Vec::new();
    push(&mut labels, "namespace", names.namespace.as_deref());
    push(&mut labels, "pod", names.pod.as_deref());
    push(&mut labels, "container", names.container.as_deref());
    push(&mut labels, "workload", names.workload.as_deref());
    labels.into()
}

pub(super) fn source(health: &SourceHealth) -> Arc<[Label]> {
    [("source", health.kind.word().into())].into()
}

fn of_share(device: &[Label], share: &Share) -> Arc<[Label]> {
    let Owner { namespace, pod, container, workload } = &share.owner;
    let workload = workload.as_deref();
    let mut labels = device.to_vec();
    push(&mut labels, "namespace", namespace.as_deref());
    push(&mut labels, "pod", pod.as_deref());
    let label = || workload.and_then(Workload::container_label);
    push(&mut labels, "container", container.as_deref().or_else(label));
    push(&mut labels, "workload", workload.and_then(workload_name));
    labels.into()
}

fn push(labels: &mut Vec<Label>, name: &'static str, value: Option<&str>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        labels.push((name, Arc::<str>::from(value).into()));
    }
}
