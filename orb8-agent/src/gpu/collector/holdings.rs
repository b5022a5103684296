//! What the kubelet gave, as devices that are there.

use std::collections::{BTreeMap, BTreeSet};

use crate::gpu::attribution::{Holder, OwnerKey};
use crate::gpu::device::DeviceId;
use crate::gpu::holding::Holding;
use crate::gpu::kubelet::{Given, Listing, PodName, What};
use crate::gpu::names::Names;
use crate::gpu::processes::Who;
use crate::gpu::reading::Seen;
use crate::gpu::share::{Held, Owner};
use crate::gpu::view::HolderHealth;

/// Ids that were given and are not there, of which an answer tells.
const MAX_UNMATCHED: usize = 32;

/// Who holds what.
#[derive(Clone, Debug, Default)]
pub(super) struct Holdings {
    pub(super) by_device: BTreeMap<DeviceId, Vec<Holder>>,
    /// Who holds anything, its device found or not, with what was asked for.
    pub(super) owners: Vec<(Owner, String)>,
    /// Who holds something that is not among the devices that are there.
    pub(super) unmatched: BTreeSet<OwnerKey>,
    pub(super) health: HolderHealth,
}

impl Holdings {
    /// Takes what the kubelet told; where it told nothing, what sources were told (`labels`).
    pub(super) fn find(
        listing: &Listing,
        labels: Vec<Holding>,
        devices: &[Seen],
        who: &mut dyn Who,
    ) -> Self {
        let is_told = listing.read.is_some();
        let given = if is_told { name(&listing.given, devices) } else { labels };
        let from = match (is_told, given.is_empty()) {
            (true, _) => Some("kubelet".to_owned()),
            (false, false) => Some("dcgm-exporter's labels".to_owned()),
            (false, true) => None,
        };
        let health = HolderHealth {
            from,
            problem: listing.problem.clone(),
            unmatched: Vec::new(),
            is_off: listing.is_off,
        };
        let mut holdings = Self { health, ..Self::default() };
        let mut known = BTreeMap::new();
        for holding in given {
            if who.has_ended(&key_of(&holding).0) {
                continue;
            }
            let owner = known.entry(key_of(&holding)).or_insert_with(|| owner_of(&holding, who));
            holdings.add(holding, owner);
        }
        holdings.note_shared();
        holdings
    }

    fn add(&mut self, holding: Holding, owner: &Owner) {
        let Holding { resource, device, given_as, is_shared, claim, .. } = holding;
        if !self.owners.iter().any(|(known, of)| known == owner && *of == resource) {
            self.owners.push((owner.clone(), resource.clone()));
        }
        let Some(device) = device else {
            self.unmatched.insert(owner.key());
            let ids = &mut self.health.unmatched;
            if ids.len() < MAX_UNMATCHED && !ids.contains(&given_as) {
                ids.push(given_as);
            }
            return;
        };
        let held = Held { resource, is_shared, claim };
        self.by_device.entry(device).or_default().push(Holder { owner: owner.clone(), held });
    }

    /// A device that two containers hold is shared, whatever its id says.
    fn note_shared(&mut self) {
        for holders in self.by_device.values_mut() {
            let owners: BTreeSet<OwnerKey> = holders.iter().map(|it| it.owner.key()).collect();
            if owners.len() > 1 {
                holders.iter_mut().for_each(|holder| holder.held.is_shared = true);
            }
        }
    }
}

fn key_of(holding: &Holding) -> (PodName, String) {
    let Holding { namespace, pod, container, .. } = holding;
    let pod = PodName { namespace: namespace.clone(), pod: pod.clone() };
    (pod, container.clone())
}

fn owner_of(holding: &Holding, who: &mut dyn Who) -> Owner {
    let (pod, container) = key_of(holding);
    let workload = who.container(&pod, &container);
    let PodName { namespace, pod } = pod;
    Owner { namespace: Some(namespace), pod: Some(pod), container: Some(container), workload }
}

/// Finds the devices of what was given. What is not there keeps its id alone.
fn name(given: &[Given], devices: &[Seen]) -> Vec<Holding> {
    let names = Names::new(devices.iter().map(|seen| &seen.device));
    let mut holdings = Vec::with_capacity(given.len());
    for Given { pod, container, what } in given {
        let (found, claim) = match what {
            What::Device { resource, id } => (names.find(resource, id), None),
            What::Claimed { claim, device } => (names.find_claimed(device), Some(claim.clone())),
        };
        let holding = |device| Holding {
            namespace: pod.namespace.clone(),
            pod: pod.pod.clone(),
            container: container.clone(),
            resource: what.resource().to_owned(),
            device,
            given_as: what.id().to_owned(),
            is_shared: found.is_shared,
            claim: claim.clone(),
        };
        if found.devices.is_empty() {
            holdings.push(holding(None));
        }
        holdings.extend(found.devices.iter().cloned().map(|device| holding(Some(device))));
    }
    holdings
}
