//! Whose a device's memory and time are.
//!
//! Who holds it (by the kubelet) and who uses it (by its processes) become one list of owners, each with
//! its part. What no rule gives to one of them stays unattributed, so that parts and rest are together
//! what the device says of itself.
//!
//! | memory | |
//! |---|---|
//! | an owner whose processes all tell theirs, or that has none | their sum, exact |
//! | nobody else has the device and its source tells of no processes | the device's, exact |
//! | one owner whose processes do not tell theirs | what the others do not have, estimated |
//! | several such owners | an equal part of that each, shared |
//! | processes tell more than the device does (they were asked at another moment) | in proportion, estimated |
//!
//! | time | |
//! |---|---|
//! | nobody else has the device | the device's, exact |
//! | processes have samples | their sums, in proportion where they exceed the device's, estimated |
//! | an owner has no process on it | 0, exact |
//! | one has processes, and there are no samples | the device's, estimated |
//! | several have, and there are no samples | an equal part each, shared |
//!
//! A device that is divided (MIG) has no time of its own, and its memory is without its parts'. An MPS
//! server works for others and owns nothing.

use super::reading::Seen;
use super::sample::Ratio;
use super::share::{Basis, Held, Owner, Share, Shares, Standing};
use owners::{Claimant, Owners};

mod owners;

#[cfg(test)]
mod tests;

pub(super) use owners::OwnerKey;

/// A device and everything that is known of who has it.
#[derive(Clone, Debug)]
pub(super) struct Attributed<'a> {
    pub(super) seen: &'a Seen,
    /// Memory of the parts that it is divided into, bytes.
    pub(super) parts_memory: u64,
    pub(super) holders: &'a [Holder],
    pub(super) users: &'a [User],
    /// Whether a device without users has none: not every source tells of processes.
    pub(super) tells_users: bool,
}

/// Who was given a device.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Holder {
    pub(super) owner: Owner,
    pub(super) held: Held,
}

/// A process on a device.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct User {
    pub(super) pid: u32,
    /// `None` where it is not known.
    pub(super) owner: Option<Owner>,
    /// Device memory, bytes.
    pub(super) memory: Option<u64>,
    pub(super) busy: Option<Ratio>,
    /// Whether it works for others.
    pub(super) is_server: bool,
}

/// Shares a device out.
pub(super) fn attribute(device: &Attributed<'_>) -> Shares {
    let owners = Owners::of(device.holders, device.users);
    let is_divided = device.seen.device.is_divided;
    let sample = device.seen.state.sample();
    let used = sample.and_then(|sample| sample.memory.used);
    let own =
        used.map(|used| used.saturating_sub(if is_divided { device.parts_memory } else { 0 }));
    let busy = sample.and_then(|sample| sample.busy.figure()).filter(|_| !is_divided);
    let knows_users = device.tells_users || !device.users.is_empty();
    let is_answering = sample.is_some();
    let memory = share_memory(&owners, own, knows_users, is_answering);
    let time = share_time(&owners, busy, knows_users, is_answering && !is_divided);
    let unattributed_memory = own.map(|own| own - sum(memory.iter().map(|it| it.map(|it| it.0))));
    let unattributed_busy = busy.map(|busy| {
        let given: f64 = time.iter().flatten().map(|(part, _)| part).sum();
        (busy - given).max(0.0)
    });
    let parts = owners.claimants.into_iter().zip(memory).zip(time);
    let shares = parts.map(|((claimant, memory), busy)| {
        let Claimant { owner, holds, processes, .. } = claimant;
        let standing = if holds.is_some() { Standing::Active } else { Standing::InUse };
        let device = device.seen.device.id.clone();
        Share { device, owner, holds, memory, busy, processes, standing }
    });
    Shares { shares: shares.collect(), unattributed_memory, unattributed_busy }
}

fn sum(parts: impl Iterator<Item = Option<u64>>) -> u64 {
    parts.flatten().fold(0, u64::saturating_add)
}

/// Gives each claimant its part of `used` bytes, in their order.
fn share_memory(
    owners: &Owners,
    used: Option<u64>,
    knows_users: bool,
    is_answering: bool,
) -> Vec<Option<(u64, Basis)>> {
    let claimants = &owners.claimants;
    let known: Vec<Option<u64>> = claimants
        .iter()
        .map(|claimant| match claimant.processes.is_empty() {
            false => claimant.memory,
            // Nothing is on the device, and that is known.
            true => (knows_users && is_answering).then_some(0),
        })
        .collect();
    let total: u128 = known.iter().flatten().map(|bytes| u128::from(*bytes)).sum();
    let total = total + u128::from(owners.nobodys_memory);
    let Some(used) = used else {
        return known.into_iter().map(|bytes| Some((bytes?, Basis::Exact))).collect();
    };
    if total > u128::from(used) {
        let part = |bytes: u64| u128::from(bytes) * u128::from(used) / total;
        // Rounded down, so that the parts are never more than the whole.
        let scaled = |bytes: u64| u64::try_from(part(bytes)).unwrap_or(used);
        let basis = |bytes| if bytes == 0 { Basis::Exact } else { Basis::Estimated };
        return known.into_iter().map(|it| it.map(|it| (scaled(it), basis(it)))).collect();
    }
    // What processes do not tell, and everything where no processes are told of. The device's own
    // overhead is in it.
    let rest = used - u64::try_from(total).unwrap_or(used);
    let unknown = known.iter().filter(|bytes| bytes.is_none()).count() as u64;
    let claims = unknown + u64::from(owners.has_nobodys && !owners.nobodys_tell_memory);
    let basis = match (claims, claimants.len()) {
        (1, 1) if !owners.has_nobodys => Basis::Exact,
        (1, _) => Basis::Estimated,
        _ => Basis::Shared,
    };
    let part = rest.checked_div(claims).unwrap_or_default();
    let give = |bytes: Option<u64>| match bytes {
        Some(bytes) => Some((bytes, Basis::Exact)),
        None => Some((part, basis)),
    };
    known.into_iter().map(give).collect()
}

/// Gives each claimant its part of the device's time, in their order.
fn share_time(
    owners: &Owners,
    busy: Option<Ratio>,
    knows_users: bool,
    is_answering: bool,
) -> Vec<Option<(Ratio, Basis)>> {
    let claimants = &owners.claimants;
    let absent = |claimant: &Claimant| {
        let is_absent = knows_users && is_answering && claimant.processes.is_empty();
        is_absent.then_some((0.0, Basis::Exact))
    };
    let sampled: f64 = claimants.iter().filter_map(|it| it.busy).sum::<f64>() + owners.nobodys_busy;
    let has_samples = claimants.iter().any(|it| it.busy.is_some()) || owners.nobodys_busy > 0.0;
    if let (Some(busy), [_], false) = (busy, claimants.as_slice(), owners.has_nobodys) {
        return vec![Some((busy, Basis::Exact))];
    }
    if has_samples {
        let most = busy.unwrap_or(1.0);
        let scale = if sampled > most { most / sampled } else { 1.0 };
        let part = |claimant: &Claimant| {
            let sampled = claimant.busy.map(|part| (part * scale, Basis::Estimated));
            sampled.or_else(|| absent(claimant))
        };
        return claimants.iter().map(part).collect();
    }
    let Some(busy) = busy else { return claimants.iter().map(absent).collect() };
    // Where nobody has a process, everybody who holds it may have had one.
    let has_users = owners.has_nobodys || claimants.iter().any(|it| !it.processes.is_empty());
    let is_candidate = |claimant: &Claimant| !has_users || !claimant.processes.is_empty();
    let candidates =
        claimants.iter().filter(|it| is_candidate(it)).count() + usize::from(owners.has_nobodys);
    let basis = if candidates == 1 { Basis::Estimated } else { Basis::Shared };
    let part = |claimant: &Claimant| match is_candidate(claimant) {
        true => Some((busy / candidates as f64, basis)),
        false => absent(claimant),
    };
    claimants.iter().map(part).collect()
}
