//! Who was given a device, by who gives them: the kubelet.

use super::device::DeviceId;

/// A device, or a share of one, that a container was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holding {
    /// Namespace of the pod.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// What was asked for: `nvidia.com/gpu`, `nvidia.com/mig-1g.10gb`; of a DRA claim, its driver.
    pub resource: String,
    /// The device or part, once its id was found among the devices that are there.
    pub device: Option<DeviceId>,
    /// The id as the kubelet has it: `GPU-…`, `MIG-…::7`, `nvidia0/gi3/vgpu1`, a claim's device.
    pub given_as: String,
    /// Whether others may be given the same device (time slicing, MPS).
    pub is_shared: bool,
    /// The DRA claim, `namespace/name`.
    pub claim: Option<String>,
}
