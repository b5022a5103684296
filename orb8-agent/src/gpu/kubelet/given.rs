//! What a container was given, as the kubelet tells it.

use orb8_proto::podresources::v1::{ContainerResources, DynamicResource};

use super::{Claimed, PodResources, names};

/// More than any node has, even where each device is sliced into fifty.
const MAX_GIVEN: usize = 4096;

/// A device that a container was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Given {
    /// The pod.
    pub pod: PodName,
    /// The container.
    pub container: String,
    /// The device.
    pub what: What,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
}

/// How a device was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// By a device plugin.
    Device {
        /// What was asked for: `nvidia.com/gpu`.
        resource: String,
        /// Its id, as the plugin has it.
        id: String,
    },
    /// By a DRA driver.
    Claimed {
        /// The claim, `namespace/name`.
        claim: String,
        /// The device.
        device: Claimed,
    },
}

impl What {
    /// Returns what was asked for; of a claim, its driver.
    #[must_use]
    pub fn resource(&self) -> &str {
        match self {
            Self::Device { resource, .. } => resource,
            Self::Claimed { device, .. } => &device.driver,
        }
    }

    /// Returns the id as who gave it has it.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Device { id, .. } => id,
            Self::Claimed { device, .. } => &device.device,
        }
    }
}

/// What was told, and what of it was left out.
#[derive(Debug)]
pub(super) struct Bounded {
    pub(super) given: Vec<Given>,
    pub(super) problem: Option<String>,
}

/// Takes the accelerators out of what pods have, in one order.
pub(super) fn take(pods: Vec<PodResources>) -> Bounded {
    let mut given: Vec<Given> = pods.into_iter().flat_map(of_pod).collect();
    given.sort_unstable();
    given.dedup();
    let beyond = given.len().saturating_sub(MAX_GIVEN);
    given.truncate(MAX_GIVEN);
    let problem = (beyond > 0).then(|| {
        format!(
            "the kubelet tells of {beyond} devices more than the {MAX_GIVEN} that are looked at"
        )
    });
    Bounded { given, problem }
}

fn of_pod(pod: PodResources) -> impl Iterator<Item = Given> {
    let PodResources { name, namespace, containers } = pod;
    let pod = PodName { namespace, pod: name };
    containers.into_iter().flat_map(move |container| {
        let pod = pod.clone();
        let (name, what) = of_container(container);
        what.into_iter().map(move |what| Given { pod: pod.clone(), container: name.clone(), what })
    })
}

fn of_container(container: ContainerResources) -> (String, Vec<What>) {
    let ContainerResources { name, devices, cpu_ids: _, memory: _, dynamic_resources } = container;
    let plugins = devices.into_iter().flat_map(|of| {
        let resource = of.resource_name;
        of.device_ids.into_iter().filter_map(move |id| {
            let device = What::Device { resource: resource.clone(), id };
            names::is_accelerator(&resource, device.id()).then_some(device)
        })
    });
    let claims = dynamic_resources.into_iter().flat_map(of_claim);
    (name, plugins.chain(claims).collect())
}

fn of_claim(resource: DynamicResource) -> impl Iterator<Item = What> {
    let DynamicResource { claim_name, claim_namespace, claim_resources } = resource;
    let claim = format!("{claim_namespace}/{claim_name}");
    claim_resources.into_iter().filter_map(move |of| {
        let device = Claimed {
            driver: of.driver_name,
            pool: of.pool_name,
            device: of.device_name,
            cdi: of.cdi_devices.into_iter().map(|device| device.name).collect(),
            is_share: of.share_id.is_some(),
        };
        device.vendor().map(|_| What::Claimed { claim: claim.clone(), device })
    })
}
