//! How the values of owners' metrics are read: what of a device is theirs, and what their processes did.

use std::sync::Arc;

use super::idle_since;
use super::told::Told;
use crate::gpu::activity::{CollectiveKind, CopyKind, WaitKind};
use crate::gpu::event::AllocationKind;
use crate::gpu::share::{Share, Standing};
use crate::gpu::totals::{Moved, OwnerTotals, Waited};
use crate::gpu::view::View;
use crate::metrics::family::Value;

pub(super) fn share_memory(share: &Share, _: &View, to: &mut Told) {
    if let Some((bytes, basis)) = share.memory {
        to.gauge_of(basis.word(), Some(bytes as f64));
    }
}

pub(super) fn share_busy(share: &Share, _: &View, to: &mut Told) {
    if let Some((busy, basis)) = share.busy {
        to.gauge_of(basis.word(), Some(busy));
    }
}

pub(super) fn holds(share: &Share, _: &View, to: &mut Told) {
    if let Some(held) = &share.holds {
        to.put([Arc::<str>::from(&*held.resource).into()], Some(Value::Gauge(1.0)));
    }
}

pub(super) fn idle(share: &Share, view: &View, to: &mut Told) {
    if share.holds.is_some() && share.standing != Standing::Lost {
        let idle = idle_since(share).map_or(0, |since| view.time.0.saturating_sub(since.0));
        to.gauge(Some(idle as f64 / 1e9));
    }
}

pub(super) fn idle_long(share: &Share, _: &View, to: &mut Told) {
    if share.holds.is_some() && share.standing != Standing::Lost {
        to.flag(Some(matches!(share.standing, Standing::Idle { is_long: true, .. })));
    }
}

pub(super) fn unallocated(share: &Share, _: &View, to: &mut Told) {
    if share.standing == Standing::Unallocated {
        to.flag(Some(true));
    }
}

pub(super) fn allocations(at: &OwnerTotals, to: &mut Told) {
    moved(to, AllocationKind::ALL.map(AllocationKind::word), &at.sums.allocated, |it| it.count);
}

pub(super) fn allocated_bytes(at: &OwnerTotals, to: &mut Told) {
    moved(to, AllocationKind::ALL.map(AllocationKind::word), &at.sums.allocated, |it| it.bytes);
}

pub(super) fn freed_bytes(at: &OwnerTotals, to: &mut Told) {
    moved(to, AllocationKind::ALL.map(AllocationKind::word), &at.sums.freed, |it| it.bytes);
}

pub(super) fn copies(at: &OwnerTotals, to: &mut Told) {
    moved(to, CopyKind::ALL.map(CopyKind::word), &at.sums.copies, |it| it.count);
}

pub(super) fn copied_bytes(at: &OwnerTotals, to: &mut Told) {
    moved(to, CopyKind::ALL.map(CopyKind::word), &at.sums.copies, |it| it.bytes);
}

pub(super) fn collectives(at: &OwnerTotals, to: &mut Told) {
    moved(to, CollectiveKind::ALL.map(CollectiveKind::word), &at.sums.collectives, |it| it.count);
}

pub(super) fn collective_bytes(at: &OwnerTotals, to: &mut Told) {
    moved(to, CollectiveKind::ALL.map(CollectiveKind::word), &at.sums.collectives, |it| it.bytes);
}

/// Tells the kinds that there were.
fn moved<const N: usize>(
    to: &mut Told,
    kinds: [&'static str; N],
    sums: &[Moved; N],
    read: fn(&Moved) -> u64,
) {
    for (kind, sum) in kinds.into_iter().zip(sums).filter(|(_, sum)| sum.count > 0) {
        to.count_of(kind, Some(read(sum)));
    }
}

pub(super) fn waits(at: &OwnerTotals, to: &mut Told) {
    for (kind, Waited { count, .. }) in waited(at) {
        to.count_of(kind, Some(*count));
    }
}

pub(super) fn wait_time(at: &OwnerTotals, to: &mut Told) {
    for (kind, Waited { time, .. }) in waited(at) {
        to.time_of(kind, *time);
    }
}

fn waited(at: &OwnerTotals) -> impl Iterator<Item = (&'static str, &Waited)> {
    let kinds = WaitKind::ALL.into_iter().map(WaitKind::word);
    kinds.zip(&at.sums.waits).filter(|(_, waited)| waited.count > 0)
}
