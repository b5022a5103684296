//! The file that `orb8 record` writes and `--replay` reads. `docs/recording.md` describes it byte by
//! byte.
//!
//! ```text
//! magic, version, header ─┬─ block ─┬─ block ─┬─ … ─┬─ block with the end
//!                         └ checksum, then compressed frames: kind, time, protobuf message
//! ```
//! Blocks are independent: of a file that was cut off, all whole blocks can be read, and of a damaged
//! one all others.

use std::io;
use std::path::PathBuf;

use orb8_proto::v1::{
    GetStatusResponse, QueryDnsResponse, QueryFlowsResponse, QueryGpuResponse, QueryPodsResponse,
    QueryTcpResponse, QueryWorkloadsResponse, RecordingEnd, RecordingSnapshot, StreamDnsResponse,
    StreamEventsResponse, StreamGpuResponse, StreamTcpResponse,
};
use prost::Message;

mod block;
mod frame;
mod reader;
mod writer;

pub use frame::{Frame, Frames};
pub use reader::{Damage, Recording, Source};
pub use writer::Writer;

/// What a recording begins with. It is no text, and shows it when it was treated as text.
pub const MAGIC: [u8; 8] = [0x89, b'O', b'R', b'B', b'8', b'\r', b'\n', 0x1a];

/// The version that is written. A reader takes every minor version of its own major one.
pub const VERSION: Version = Version { major: 1, minor: 1 };

/// Bytes of a header's message, at most.
const MAX_HEADER: usize = 1 << 20;

/// Bytes of a message, at most. What is read takes many times more where it is full of empty parts.
pub const MAX_MESSAGE: usize = 4 << 20;

/// Version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Changes when older readers cannot read newer files.
    pub major: u16,
    /// Changes when there are new kinds of messages, which older readers skip.
    pub minor: u16,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { major, minor } = self;
        write!(f, "{major}.{minor}")
    }
}

macro_rules! kinds {
    ($($name:ident = $number:literal $message:ty, $doc:literal;)*) => {
        /// What a message is. The numbers are the file's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Kind {
            $(#[doc = $doc] $name = $number,)*
        }

        impl Kind {
            /// Every kind, with its message and what it is, for docs.
            pub const TABLE: &'static [(Self, &'static str, &'static str)] =
                &[$((Self::$name, stringify!($message), $doc)),*];

            /// Reads a number; `None` for a kind of a newer version.
            #[must_use]
            pub const fn of(number: u16) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Whether a message of this kind can be read.
            #[must_use]
            pub fn decodes(self, message: &[u8]) -> bool {
                match self {
                    $(Self::$name => <$message>::decode(message).is_ok(),)*
                }
            }
        }
    };
}

// Numbers are below 64: a block's header has a bit for each.
kinds! {
    FlowEvent = 1 StreamEventsResponse, "An event of `StreamEvents`.";
    DnsEvent = 2 StreamDnsResponse, "An event of `StreamDns`.";
    TcpEvent = 3 StreamTcpResponse, "An event of `StreamTcp`.";
    GpuEvent = 4 StreamGpuResponse, "An event of `StreamGpu`. Since 1.1.";
    Flows = 16 QueryFlowsResponse, "Rows of `QueryFlows`.";
    Dns = 17 QueryDnsResponse, "Rows of `QueryDns`.";
    Tcp = 18 QueryTcpResponse, "Rows of `QueryTcp`.";
    Pods = 19 QueryPodsResponse, "Rows of `QueryPods`.";
    Status = 20 GetStatusResponse, "The answer of `GetStatus`.";
    Workloads = 21 QueryWorkloadsResponse, "Rows of `QueryWorkloads`, grouped by workload.";
    WorkloadPods = 22 QueryWorkloadsResponse, "Rows of `QueryWorkloads`, grouped by pod.";
    WorkloadContainers = 23 QueryWorkloadsResponse, "Rows of `QueryWorkloads`, grouped by container.";
    Gpu = 24 QueryGpuResponse, "The answer of `QueryGpu`, its lists in parts. Since 1.1.";
    Snapshot = 32 RecordingSnapshot, "The end of a snapshot.";
    End = 33 RecordingEnd, "The end of the recording.";
}

impl Kind {
    /// Its bit in a block's header.
    const fn bit(self) -> u64 {
        1 << self as u16
    }
}

/// Why there is no recording to read or write.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// Another file.
    #[error("it is no recording of orb8 record")]
    NotARecording,
    /// Nothing in it.
    #[error("it is empty: nothing was recorded, or it was not copied")]
    Empty,
    /// It ends before the first block.
    #[error(
        "it ends within its header, after {0} bytes: it was cut off before anything was recorded"
    )]
    NoHeader(u64),
    /// The header's checksum is wrong.
    #[error("its header is damaged: copy it again from where it was recorded")]
    DamagedHeader,
    /// A version that may mean anything.
    #[error("it has format {found}, and this orb8 reads {VERSION}: update orb8 to replay it")]
    Newer {
        /// Its version.
        found: Version,
    },
    /// A message that no reader would take.
    #[error("a message of {0} bytes is too large for a recording")]
    TooLarge(usize),
    /// The file system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A recording that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct OpenError {
    /// Where it is.
    pub path: PathBuf,
    /// Why.
    pub problem: RecordingError,
}

#[cfg(test)]
mod tests;
