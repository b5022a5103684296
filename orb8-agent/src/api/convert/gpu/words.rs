//! The API's enums for those of the model. A test compares their words.

use orb8_proto::v1;

use crate::gpu::activity::{CollectiveKind, CommunicatorState, CopyKind, WaitKind};
use crate::gpu::event::{AllocationKind, XidAction, XidClass};
use crate::gpu::reading::UseKind;
use crate::gpu::sample::ThrottleReason;
use crate::gpu::{Basis, Vendor};

macro_rules! same {
    ($($function:ident: $own:ident => $told:ident { $($variant:ident)* })*) => { $(
        pub(super) const fn $function(of: $own) -> v1::$told {
            match of {
                $($own::$variant => v1::$told::$variant,)*
            }
        }
    )* };
}

same! {
    vendor: Vendor => GpuVendor { Nvidia Amd Intel Google Aws }
    throttle_reason: ThrottleReason => GpuThrottleReason {
        Idle ApplicationClocks PowerCap HardwareSlowdown SyncBoost SoftwareThermal HardwareThermal
        PowerBrake DisplayClocks BoardLimit Reliability Other
    }
    basis: Basis => GpuBasis { Exact Estimated Shared }
    use_kind: UseKind => GpuUseKind { Compute Graphics Mps }
    xid_class: XidClass => GpuXidClass { Hardware Application Driver Other }
    xid_action: XidAction => GpuXidAction { None RestartPod ResetDevice Reboot Drain }
    allocation_kind: AllocationKind => GpuAllocationKind {
        Device Pool Physical Managed Pinned
    }
    copy_kind: CopyKind => GpuCopyKind {
        HostToDevice DeviceToHost DeviceToDevice Peer Unified
    }
    wait_kind: WaitKind => GpuWaitKind { Stream Event Context }
    communicator_state: CommunicatorState => GpuCommunicatorState {
        Initializing Ready Aborted Destroyed
    }
    collective_kind: CollectiveKind => GpuCollectiveKind {
        AllReduce ReduceScatter AllGather AllToAll Broadcast Reduce Send Recv
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! agree {
        ($($function:ident: $own:ident => $told:ident),* $(,)?) => { $(
            for of in $own::ALL {
                assert_eq!($function(of).word(), Some(of.word()));
            }
            assert_eq!(v1::$told::WORDS.len(), $own::ALL.len());
        )* };
    }

    #[test]
    fn the_api_has_the_models_words() {
        agree! {
            throttle_reason: ThrottleReason => GpuThrottleReason,
            basis: Basis => GpuBasis,
            xid_class: XidClass => GpuXidClass,
            xid_action: XidAction => GpuXidAction,
            allocation_kind: AllocationKind => GpuAllocationKind,
            copy_kind: CopyKind => GpuCopyKind,
            wait_kind: WaitKind => GpuWaitKind,
            collective_kind: CollectiveKind => GpuCollectiveKind,
        }
        for of in [Vendor::Nvidia, Vendor::Amd, Vendor::Intel, Vendor::Google, Vendor::Aws] {
            assert_eq!(vendor(of).word(), Some(of.word()));
        }
        for of in [UseKind::Compute, UseKind::Graphics, UseKind::Mps] {
            assert_eq!(use_kind(of).word(), Some(of.word()));
        }
        for of in [
            CommunicatorState::Initializing,
            CommunicatorState::Ready,
            CommunicatorState::Aborted,
            CommunicatorState::Destroyed,
        ] {
            assert_eq!(communicator_state(of).word(), Some(of.word()));
        }
    }
}
