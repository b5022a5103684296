//! The words that the API's enums are typed and printed as.

use crate::v1::{
    Attribution, CheckState, Direction, EndReason, EventKind, Health, Hook, LocalEnd, LostSource,
    Protocol, Runtime, SortBy, SourceState,
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
    Attribution { Cgroup => "cgroup" }
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
    Health { Ok => "ok", Degraded => "degraded" }
    SourceState { Running => "running", Skipped => "skipped" }
    CheckState { Ok => "ok", Absent => "absent", Failed => "failed" }
}
