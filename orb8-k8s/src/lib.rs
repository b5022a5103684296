//! Kubernetes identity: whose an address, a container or a cgroup is.
//!
//! ```text
//! API server ──list, watch──▶ watch ──▶ wire ──▶ index ◀── reads without locks ── pipeline
//!     ▲                         │                (of object)
//!     └── client, resources     └──▶ health ──▶ status, metrics
//! ```
//! Start with [`client::connect`], give the client to [`watch::Watches::start`] with the writer of
//! an [`index::Index`], and read the index from anywhere. [`resources::RESOURCES`] is all that is
//! asked of the API server. The feature `testing` adds an API server to test against.

pub mod client;
pub mod index;
pub mod object;
pub mod resources;
#[cfg(feature = "testing")]
pub mod testing;
pub mod watch;
pub mod wire;
