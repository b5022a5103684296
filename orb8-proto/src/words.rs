//! The words that the API's enums are typed and printed as.

use crate::v1::{
    Attribution, CheckState, ContainerKind, Direction, DnsOutcome, DnsSide, DnsSortBy, EndReason,
    EventKind, GpuAllocationKind, GpuBasis, GpuCollectiveKind, GpuCommunicatorState, GpuCopyKind,
    GpuEventKind, GpuStanding, GpuState, GpuThrottleReason, GpuUseKind, GpuVendor, GpuWaitKind,
    GpuXidAction, GpuXidClass, Health, Hook, KubernetesState, LocalEnd, LostSource, PodPhase,
    PodSource, Protocol, ResetBy, Runtime, ServiceAddressKind, SortBy, SourceState, TcpEventKind,
    TcpRole, TcpSortBy, TcpState, WorkloadGroup, WorkloadSortBy,
};

macro_rules! words {
    ($($type:ident { $($variant:ident => $word:literal),* $(,)? })*) => { $(
        impl $type {
            /// Returns the word for it, `None` where it is unspecified.
            #[must_use]
            pub const fn word(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => Some($word),)*
                    Self::Unspecified => None,
                }
            }

            /// Every value but the unspecified one, with its word.
            pub const WORDS: &[(Self, &str)] = &[$((Self::$variant, $word)),*];
        }
    )* };
}

words! {
    Protocol {
        Tcp => "tcp",
        Udp => "udp",
        Icmp => "icmp",
        Icmpv6 => "icmpv6",
        Sctp => "sctp",
        Other => "other",
    }
    Direction { Ingress => "ingress", Egress => "egress" }
    Hook { Socket => "socket", Interface => "interface" }
    LocalEnd { Source => "source", Destination => "destination" }
    Runtime {
        Containerd => "containerd",
        Crio => "crio",
        Docker => "docker",
        Podman => "podman",
    }
    Attribution { Cgroup => "cgroup", PodIp => "pod-ip" }
    ContainerKind {
        Main => "main",
        Init => "init",
        Sidecar => "sidecar",
        Ephemeral => "ephemeral",
    }
    ServiceAddressKind {
        ClusterIp => "cluster-ip",
        External => "external",
        NodePort => "node-port",
        Endpoint => "endpoint",
    }
    PodPhase { Pending => "pending", Running => "running", Ended => "ended" }
    PodSource { Api => "api", Cgroup => "cgroup", Runtime => "runtime" }
    KubernetesState {
        Off => "off",
        Syncing => "syncing",
        Connected => "connected",
        Disconnected => "disconnected",
    }
    EventKind {
        FlowNew => "new",
        FlowUpdate => "update",
        FlowClosing => "closing",
        FlowEnd => "end",
        Lost => "lost",
    }
    EndReason { Fin => "fin", Rst => "rst", Idle => "idle", Evicted => "evicted" }
    LostSource { Kernel => "kernel", Ring => "ring", Subscriber => "subscriber" }
    SortBy {
        Bytes => "bytes",
        Packets => "packets",
        Rate => "rate",
        LastSeen => "last-seen",
        FirstSeen => "first-seen",
    }
    DnsSide { Client => "client", Server => "server", Transit => "transit" }
    DnsOutcome {
        Answered => "answered",
        Timeout => "timeout",
        Unasked => "unasked",
        Malformed => "malformed",
    }
    DnsSortBy {
        Queries => "queries",
        Errors => "errors",
        Timeouts => "timeouts",
        Latency => "latency",
        LastSeen => "last-seen",
    }
    TcpEventKind {
        Connect => "connect",
        Accept => "accept",
        Fail => "fail",
        Close => "close",
        Retransmit => "retransmit",
        Reset => "reset",
        Drop => "drop",
        Overflow => "overflow",
        State => "state",
    }
    TcpRole { Client => "client", Server => "server", Listener => "listener" }
    // As `ss` filters by them.
    TcpState {
        Established => "established",
        SynSent => "syn-sent",
        SynRecv => "syn-recv",
        FinWait1 => "fin-wait-1",
        FinWait2 => "fin-wait-2",
        TimeWait => "time-wait",
        Close => "closed",
        CloseWait => "close-wait",
        LastAck => "last-ack",
        Listen => "listening",
        Closing => "closing",
        NewSynRecv => "new-syn-recv",
    }
    ResetBy { Local => "local", Remote => "remote" }
    TcpSortBy {
        Retransmits => "retransmits",
        Rtt => "rtt",
        Handshake => "handshake",
        Bytes => "bytes",
        Opened => "opened",
    }
    WorkloadGroup { Workload => "workload", Pod => "pod", Container => "container" }
    WorkloadSortBy {
        Bytes => "bytes",
        Rate => "rate",
        Packets => "packets",
        Flows => "flows",
        Peers => "peers",
        Connections => "connections",
        Retransmits => "retransmits",
        Rtt => "rtt",
        Queries => "queries",
        Errors => "errors",
        Timeouts => "timeouts",
        Latency => "latency",
    }
    GpuVendor {
        Nvidia => "nvidia",
        Amd => "amd",
        Intel => "intel",
        Google => "google",
        Aws => "aws",
    }
    GpuState { Ok => "ok", Lost => "lost", Silent => "silent" }
    GpuThrottleReason {
        Idle => "idle",
        ApplicationClocks => "application-clocks",
        PowerCap => "power-cap",
        HardwareSlowdown => "hardware-slowdown",
        SyncBoost => "sync-boost",
        SoftwareThermal => "software-thermal",
        HardwareThermal => "hardware-thermal",
        PowerBrake => "power-brake",
        DisplayClocks => "display-clocks",
        BoardLimit => "board-limit",
        Reliability => "reliability",
        Other => "other",
    }
    GpuBasis { Exact => "exact", Estimated => "estimated", Shared => "shared" }
    GpuStanding {
        Active => "active",
        Idle => "idle",
        Unallocated => "unallocated",
        InUse => "in-use",
        Lost => "lost",
    }
    GpuXidClass {
        Hardware => "hardware",
        Application => "application",
        Driver => "driver",
        Other => "other",
    }
    // From what can be left as it is to what takes a node out of service.
    GpuXidAction {
        None => "none",
        RestartPod => "restart-pod",
        ResetDevice => "reset",
        Reboot => "reboot",
        Drain => "drain",
    }
    GpuUseKind { Compute => "compute", Graphics => "graphics", Mps => "mps" }
    GpuAllocationKind {
        Device => "device",
        Pool => "pool",
        Physical => "physical",
        Managed => "managed",
        Pinned => "pinned",
    }
    GpuCopyKind {
        HostToDevice => "host-to-device",
        DeviceToHost => "device-to-host",
        DeviceToDevice => "device-to-device",
        Peer => "peer",
        Unified => "unified",
    }
    GpuWaitKind { Stream => "stream", Event => "event", Context => "context" }
    GpuCommunicatorState {
        Initializing => "initializing",
        Ready => "ready",
        Aborted => "aborted",
        Destroyed => "destroyed",
    }
    GpuCollectiveKind {
        AllReduce => "all-reduce",
        ReduceScatter => "reduce-scatter",
        AllGather => "all-gather",
        AllToAll => "all-to-all",
        Broadcast => "broadcast",
        Reduce => "reduce",
        Send => "send",
        Recv => "recv",
    }
    GpuEventKind {
        Xid => "xid",
        Throttle => "throttle",
        Ecc => "ecc",
        RowRemap => "row-remap",
        LostDevice => "lost-device",
        Appeared => "appeared",
        Removed => "removed",
        Idle => "idle",
        Unallocated => "unallocated",
        Allocated => "allocated",
        AllocationFailed => "allocation-failed",
        Launches => "launches",
        Module => "module",
        Leak => "leak",
        Collectives => "collectives",
        CommunicatorInit => "communicator-init",
        CommunicatorAbort => "communicator-abort",
        Straggler => "straggler",
        Sampling => "sampling",
        Lost => "lost",
    }
    Health { Ok => "ok", Degraded => "degraded" }
    SourceState { Running => "running", Skipped => "skipped", Absent => "absent" }
    CheckState { Ok => "ok", Absent => "absent", Failed => "failed" }
}
