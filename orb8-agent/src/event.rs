//! What moves through the agent: one [`Event`] per thing that happened, whatever the signal.
//!
//! ```text
//! kernel record ──(sources/<signal>.rs)──▶ Event ──(pipeline)──▶ store ──(api)──▶ proto
//! ```

use std::sync::Arc;

use orb8_common::flow::FlowKey;

pub use crate::event::dns::{
    DnsAnswer, DnsData, DnsExchange, DnsOutcome, DnsQuestion, DnsResponse, DnsSide,
};
pub use crate::event::tcp::{Reason, ResetBy, TcpFigures, TcpKind, TcpRole, TcpSample};
use crate::gpu::GpuEvent;
use crate::identity::Workload;

mod dns;
mod tcp;

/// Nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixNanos(pub u64);

/// One thing that happened, and whose it is.
#[derive(Clone, Debug)]
pub struct Event {
    /// When the kernel saw it.
    pub time: UnixNanos,
    /// The owner of the local end; `None` where no local socket is known.
    pub subject: Option<Arc<Workload>>,
    /// What happened.
    pub payload: Payload,
}

/// One variant per signal.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Traffic of one flow.
    Flow(FlowSample),
    /// What became of one DNS query.
    Dns(Box<DnsExchange>),
    /// Something about a TCP connection.
    Tcp(Box<TcpSample>),
    /// Something that happened to an accelerator, or was done with one.
    Gpu(Box<GpuEvent>),
    /// Something that could not be counted or delivered.
    Loss(Loss),
}

/// What one kernel record adds to a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowSample {
    /// The flow. Its `cgroup_id` is 0 at the interface hook.
    pub key: FlowKey,
    /// Why the sample exists.
    pub kind: SampleKind,
    /// cgroup v2 id of the local socket, 0 where none is known.
    pub cgroup_id: u64,
    /// Socket cookie, 0 where none is known.
    pub cookie: u64,
    /// Interface as last seen, 0 where none is known.
    pub ifindex: u32,
    /// Wire packets added; 0 for a moment.
    pub packets: u64,
    /// IP bytes added; 0 for a moment.
    pub bytes: u64,
    /// First packet of what is added.
    pub first: UnixNanos,
    /// Last packet of what is added.
    pub last: UnixNanos,
    /// TCP flags seen in what is added, as in the header.
    pub tcp_flags: u8,
}

/// Why a [`FlowSample`] exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampleKind {
    /// Counters were drained.
    Counted,
    /// The kernel saw the flow for the first time. Its packets come with a later drain.
    New,
    /// The first FIN of this direction.
    Fin,
    /// A RST.
    Rst,
}

/// The signals, in the order that status lists them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Who talks to whom, and how much.
    #[default]
    Flow,
    /// Who asks for which name, and what comes back.
    Dns,
    /// How connections fare.
    Tcp,
    /// What accelerators do, and for whom.
    Gpu,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 4] = [Self::Flow, Self::Dns, Self::Tcp, Self::Gpu];

    /// The one name that it has everywhere.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Gpu => "gpu",
        }
    }
}

/// One end of a connection or exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketEnd {
    /// Network order; IPv4 as `::ffff:a.b.c.d`.
    pub addr: [u8; 16],
    /// Host order.
    pub port: u16,
}

/// What is in no flow, or reached no subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Whose ring or table it was.
    pub signal: Signal,
    /// Packets that neither the flow table nor the ring had room for.
    pub packets: u64,
    /// Their IP bytes.
    pub bytes: u64,
    /// Moments that the ring had no room for.
    pub moments: u64,
}
