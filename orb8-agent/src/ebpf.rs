//! The kernel side as the agent sees it: objects loaded, attached, drained. All of the agent's
//! `unsafe` is below this module.
//!
//! ```text
//! features ─▶ FlowObject ──attach──▶ cgroup │ tc (TCX, clsact)
//!                 └──drain──▶ flows, sockets, counters      ring ─▶ moments
//! ```

mod features;
mod flow;
mod sys;
mod ticks;

pub use features::{Feature, Features};
pub use flow::{
    AttachedTo, Drained, DrainedPart, FILTER_PRIORITY, FlowObject, FlowOptions, LinkKind,
    RingReader, SocketHookCgroup,
};
pub use ticks::Ticks;

/// The `flow` object, built by `cargo xtask probes`.
pub static FLOW_OBJECT: &[u8] = aya::include_bytes_aligned!("ebpf/objects/flow.bpf.o");

/// Gives freed heap memory back to the system. The C library keeps it otherwise, and start-up frees
/// far more than running needs.
pub fn release_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call has no requirements.
    unsafe {
        libc::malloc_trim(0);
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
    /// The object lacks a part that the agent relies on.
    #[error("the {object} object has no {part}: it was built from other sources")]
    Incomplete {
        /// The signal's name.
        object: &'static str,
        /// Program or map.
        part: &'static str,
    },
}
