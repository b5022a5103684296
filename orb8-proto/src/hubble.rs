//! Hubble's API: what orb8 serves of it, with Hubble's names and numbers.
//!
//! ```text
//! proto/hubble/*/*.proto ──(cargo xtask codegen)──▶ flow, observer, peer, relay
//! ```
//! The packages refer to each other as Hubble's do, so each is a module beside the others.

#![expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::large_enum_variant,
    reason = "generated; the comments of the .proto files are its docs"
)]

/// Package `flow`: what a flow is, and filters.
pub mod flow {
    include!("generated/hubble.flow.rs");
}

/// Package `observer`: flows and who tells them.
pub mod observer {
    include!("generated/hubble.observer.rs");
}

/// Package `peer`: who else serves package `observer`.
pub mod peer {
    include!("generated/hubble.peer.rs");
}

/// Package `relay`: what those say who ask many.
pub mod relay {
    include!("generated/hubble.relay.rs");
}

/// The encoded `FileDescriptorSet` of these packages, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/hubble.bin");
