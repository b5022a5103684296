//! What the eBPF programs and the agent agree on: one record layout per signal,
//! and the packet parser that both run (the programs on live packets, the tests on bytes).
//!
//! ```text
//! orb8-probes ──▶ orb8-common ◀── orb8-agent
//!  (kernel)        (this crate)     (user space)
//! ```
//!
//! Start with [`flow`]: its records are what crosses the boundary. Layouts are `#[repr(C)]`
//! without padding (zerocopy's derives refuse any), addresses are 16 bytes in network order
//! with IPv4 mapped into IPv6, and only integers cross: an enum is decoded with `TryFrom`.
#![no_std]
#![forbid(unsafe_code)]

pub mod cgroup;
pub mod dns;
pub mod flow;
pub mod gpu;
pub mod packet;
pub mod tcp;
