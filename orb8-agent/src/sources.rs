//! Where events come from: one module per signal.

pub mod flow;

/// The signals that have a source, as `orb8 status` lists them.
pub const NAMES: [&str; 1] = [flow::NAME];
