//! orb8's node agent: loads the eBPF programs, attributes what they see, and serves it.
//!
//! ```text
//! kernel ──▶ ebpf ──▶ sources ──batches──▶ pipeline (dedup, enrich) ──▶ store ──▶ api
//!                                                                └──▶ hub ──▶ subscribers
//! ```
//!
//! Start with [`agent`], which is the wiring diagram in code. [`embedded`] is the same engine
//! inside another process, for the CLI's standalone mode.

#![deny(unsafe_code)]

pub mod agent;
pub mod api;
pub mod attach;
pub mod clock;
pub mod config;
pub mod conntrack;
pub mod cost;
#[expect(unsafe_code, reason = "bpf(2), shared memory and map values")]
pub mod ebpf;
pub mod embedded;
mod enrich;
pub mod error;
pub mod event;
pub mod gpu;
pub mod history;
pub mod hubble;
pub mod identity;
pub mod logging;
pub mod metrics;
pub mod netlink;
pub mod otlp;
pub mod pipeline;
pub mod preflight;
pub mod signals;
pub mod sources;
pub mod status;
pub mod store;

pub use error::AgentError;
