//! orb8's gRPC API, and what every side of it must agree on.
//!
//! ```text
//! proto/orb8/v1/*.proto ──(cargo xtask codegen)──▶ src/generated/ ──▶ v1
//!                                                                     ▲
//!                filter (who wants what) ─────────────────────────────┤
//!                columns, dns, kinds, ports, units (how things read) ─┘
//! ```
//!
//! Start with [`v1`]: the messages, the client and the server. The generated code is checked in, so
//! building this crate needs no `protoc`.
#![forbid(unsafe_code)]

pub mod columns;
pub mod dns;
pub mod filter;
mod flow;
pub mod gpu;
pub mod histogram;
#[cfg(feature = "hubble")]
pub mod hubble;
pub mod icmp;
pub mod kinds;
mod pod;
#[cfg(feature = "podresources")]
pub mod podresources;
pub mod ports;
pub mod tcp;
#[cfg(feature = "tpu")]
pub mod tpu;
pub mod units;
mod words;
mod workload;

/// Package `orb8.v1`: messages, client and server, generated from `proto/orb8/v1`.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::large_enum_variant,
    reason = "generated; the comments of the .proto files are its docs"
)]
pub mod v1 {
    include!("generated/orb8.v1.rs");
}

/// The encoded `FileDescriptorSet` of [`v1`], for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/orb8.v1.bin");
