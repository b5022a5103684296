//! The kernel side as the agent sees it: objects loaded, attached, drained. All of the agent's
//! `unsafe` is below this module.
//!
//! ```text
//! features ─▶ FlowObject ──attach──▶ cgroup │ tc (TCX, clsact)
//!                 └──drain──▶ flows, sockets, counters      ring ─▶ moments
//! ```

mod btf;
mod cgroup;
mod dns;
mod features;
mod flow;
mod gpu;
mod hooks;
mod mapping;
mod object;
mod ring;
mod sys;
mod tcp;
mod ticks;
mod tracefs;

pub use cgroup::{CGROUP_RING, CgroupObject};
pub use dns::{DnsObject, DnsOptions};
pub use features::{Feature, Features};
pub use flow::{Drained, DrainedPart, FlowObject, FlowOptions};
pub use gpu::{GpuObject, GpuOptions, GpuProbes, GpuSums, Place, ProbeCosts, ProbeLinks};
pub use hooks::{AttachedTo, FILTER_PRIORITIES, LinkKind, PacketObject, SocketHookCgroup};
pub use ring::RingReader;
pub(crate) use sys::open_cgroup;
pub(crate) use tcp::is_in_pid_namespace;
pub use tcp::{Reasons, TcpObject, TcpOptions, TcpReasons};
pub use ticks::Ticks;

/// The `flow` object, built by `cargo xtask probes`.
pub static FLOW_OBJECT: &[u8] = aya::include_bytes_aligned!("ebpf/objects/flow.bpf.o");

/// The `dns` object, built by `cargo xtask probes`.
pub static DNS_OBJECT: &[u8] = aya::include_bytes_aligned!("ebpf/objects/dns.bpf.o");

/// The `tcp` object, built by `cargo xtask probes`.
pub static TCP_OBJECT: &[u8] = aya::include_bytes_aligned!("ebpf/objects/tcp.bpf.o");

/// The `gpu` object, built by `cargo xtask probes`.
pub static GPU_OBJECT: &[u8] = aya::include_bytes_aligned!("ebpf/objects/gpu.bpf.o");

/// The `cgroup` object, built by `cargo xtask probes`.
pub static CGROUP_OBJECT: &[u8] = aya::include_bytes_aligned!("ebpf/objects/cgroup.bpf.o");

/// Gives freed heap memory back to the system. The C library keeps it otherwise, and start-up frees
/// far more than running needs.
pub fn release_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no requirements.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Has large buffers given back to the system as soon as they are freed. The C library by itself keeps
/// them once it has seen one freed: what 100,000 flows or a list of pods take for a moment would stay.
pub fn return_large_buffers() {
    #[cfg(target_env = "gnu")]
    {
        /// Bytes; the C library's own bound, which it raises with each buffer that is freed.
        const LARGE: libc::c_int = 128 << 10;
        // SAFETY: the call has no requirements.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        }
    }
}

/// Why the kernel side does not run.
#[derive(Debug, thiserror::Error)]
pub enum EbpfError {
    /// The object does not load.
    #[error("the {object} object does not load")]
    Load {
        /// The signal's name.
        object: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A program is refused or does not attach.
    #[error("program {program} does not attach to {target}")]
    Attach {
        /// The program's name.
        program: &'static str,
        /// Cgroup path or interface name.
        target: String,
        /// What the kernel said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A map operation failed.
    #[error("{operation} failed")]
    Map {
        /// What was tried.
        operation: &'static str,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// Something that cannot be told on this machine.
    #[error("{what} cannot be told here")]
    Unknown {
        /// What it is.
        what: &'static str,
    },
    /// Something that this kernel does not have.
    #[error("this kernel has no {what}; stock kernels have since {since}")]
    Absent {
        /// What it is.
        what: &'static str,
        /// The release that brought it.
        since: &'static str,
    },
    /// The object lacks a part that the agent relies on.
    #[error("the {object} object has no {part}: it was built from other sources")]
    Incomplete {
        /// The signal's name.
        object: &'static str,
        /// Program or map.
        part: &'static str,
    },
}
