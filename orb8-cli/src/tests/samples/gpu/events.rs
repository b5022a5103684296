//! What happens to that node's accelerators.

use orb8_proto::v1::{
    GpuAllocationKind, GpuEventKind, GpuEventProcess, GpuThrottleReason, LostSource,
    StreamGpuResponse, Workload,
};

use super::super::{NOON, lost, pod};
use super::{GIB, mig, seconds, trainer, uuid, xid};

fn event(kind: GpuEventKind, index: u32, owners: Vec<Option<Workload>>) -> StreamGpuResponse {
    StreamGpuResponse {
        time_ns: NOON,
        node_name: "worker-1".into(),
        kind: kind.into(),
        device: uuid(index),
        index: Some(index),
        owners: owners.into_iter().flatten().collect(),
        pci_address: format!("0000:{:02x}:00.0", 0x1b + index),
        ..StreamGpuResponse::default()
    }
}

fn by(pid: u32, name: &str, event: StreamGpuResponse) -> StreamGpuResponse {
    StreamGpuResponse { process: Some(GpuEventProcess { pid, name: name.into() }), ..event }
}

/// One of each kind that tables have to cope with.
pub(crate) fn events() -> Vec<StreamGpuResponse> {
    use GpuEventKind as Kind;
    let server = || vec![pod("team-b", "server-0")];
    let trainer = || vec![trainer()];
    let communicator = 0xae94_423c_fbb2_ef4a;
    let Some(lost) = lost(LostSource::Subscriber).lost else { unreachable!() };
    vec![
        StreamGpuResponse {
            device: mig(0),
            parent: uuid(2),
            parent_index: Some(2),
            ..event(Kind::Appeared, 0, vec![])
        },
        by(
            4711,
            "python",
            StreamGpuResponse {
                rank: Some(0),
                ranks: 8,
                communicator,
                duration: seconds(2),
                ..event(Kind::CommunicatorInit, 0, trainer())
            },
        ),
        by(
            4711,
            "python",
            StreamGpuResponse {
                bytes: 2 * GIB,
                allocation: GpuAllocationKind::Pool.into(),
                ..event(Kind::Allocated, 0, trainer())
            },
        ),
        by(
            4711,
            "python",
            StreamGpuResponse {
                rate: 1234.5,
                graph_rate: 2.0,
                sampled: true,
                ..event(Kind::Launches, 0, trainer())
            },
        ),
        StreamGpuResponse {
            began: true,
            reasons: vec![GpuThrottleReason::HardwareThermal.into()],
            ..event(Kind::Throttle, 1, vec![pod("team-b", "server-0"), pod("team-a", "notebook-7")])
        },
        StreamGpuResponse {
            began: true,
            duration: seconds(600),
            ..event(Kind::Idle, 1, vec![pod("team-a", "notebook-7")])
        },
        by(
            815,
            "python",
            StreamGpuResponse {
                began: true,
                ..event(Kind::Unallocated, 1, vec![pod("default", "debug")])
            },
        ),
        by(
            812,
            "serve",
            StreamGpuResponse {
                bytes: 8 * GIB,
                error: 2,
                ..event(Kind::AllocationFailed, 1, server())
            },
        ),
        by(
            812,
            "serve",
            StreamGpuResponse {
                bytes: 20 * GIB,
                rate: 3_145_728.0,
                ..event(Kind::Leak, 1, server())
            },
        ),
        StreamGpuResponse {
            kind: Kind::Lost.into(),
            time_ns: NOON,
            lost: Some(lost),
            ..StreamGpuResponse::default()
        },
        StreamGpuResponse { xid: Some(xid(31)), ..event(Kind::Xid, 1, server()) },
        StreamGpuResponse {
            xid: Some(xid(79)),
            ..event(Kind::Xid, 3, vec![pod("ml", "llama-trainer-1")])
        },
        StreamGpuResponse {
            reason: "GPU is lost".into(),
            ..event(Kind::LostDevice, 3, vec![pod("ml", "llama-trainer-1")])
        },
        by(
            4711,
            "python",
            StreamGpuResponse {
                rank: Some(5),
                count: 12,
                communicator,
                ..event(Kind::Straggler, 0, trainer())
            },
        ),
    ]
}
