//! What libtpu serves about itself in a workload: package `tpu.monitoring.runtime`, as far as it is
//! read.

#![expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated; the comments of the .proto file are its docs"
)]

include!("generated/tpu.tpu.monitoring.runtime.rs");
