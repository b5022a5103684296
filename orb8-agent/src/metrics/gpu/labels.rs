//! Labels of devices, of their owners and of sources.

use std::borrow::Cow;
use std::sync::Arc;

use crate::gpu::share::{Basis, Owner, Share, Standing};
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
pub(super) struct Device<'a> {
    pub(super) device: Arc<[Label]>,
    pub(super) instance: Arc<[Label]>,
    /// Its shares. Those of owners that are called the same (a unit's cgroups) are one.
    pub(super) shares: Vec<(Arc<[Label]>, Cow<'a, Share>)>,
}

impl<'a> Device<'a> {
    pub(super) fn of(view: &View, at: &'a DeviceView) -> Self {
        let device = &at.seen.device;
        let mut labels = Vec::new();
        if let Some(number) = view.number(device) {
            labels.push(("gpu", Arc::<str>::from(number).into()));
        }
        labels.push(("uuid", device.id.shared().into()));
        let shares = shares(&labels, &at.shares.shares);
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

fn shares<'a>(device: &[Label], all: &'a [Share]) -> Vec<(Arc<[Label]>, Cow<'a, Share>)> {
    let mut told: Vec<(Arc<[Label]>, Cow<'a, Share>)> = Vec::with_capacity(all.len());
    for share in all {
        let labels = of_share(device, share);
        match told.iter_mut().find(|(known, _)| *known == labels) {
            Some((_, known)) => join(known.to_mut(), share),
            None => told.push((labels, Cow::Borrowed(share))),
        }
    }
    told
}

/// Makes one of two owners' shares.
fn join(one: &mut Share, other: &Share) {
    one.memory = sum(one.memory, other.memory, u64::saturating_add);
    one.busy = sum(one.busy, other.busy, |one, other| one + other);
    one.holds = one.holds.take().or_else(|| other.holds.clone());
    if other.standing == Standing::Unallocated {
        one.standing = other.standing;
    }
}

/// A sum is found as well as the worse of its parts.
fn sum<T>(
    one: Option<(T, Basis)>,
    other: Option<(T, Basis)>,
    add: fn(T, T) -> T,
) -> Option<(T, Basis)> {
    match (one, other) {
        (Some((one, basis)), Some((other, of_other))) => {
            Some((add(one, other), basis.max(of_other)))
        }
        (one, other) => one.or(other),
    }
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
