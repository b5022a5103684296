//! The kubelet's PodResources API: who was given which device of a node.
//!
//! ```text
//! proto/podresources/podresources.proto ──(cargo xtask codegen)──▶ v1
//! ```
#![expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated; the comments of the .proto file are its docs"
)]

/// Package `v1`: messages, client and server.
pub mod v1 {
    include!("generated/podresources.v1.rs");
}
