//! What the node's accelerators do, and for whom.
//!
//! ```text
//! nvml, dcgm, amd, drm, tpu, neuron ──Reading──┐
//! kubelet's PodResources ──────────── Holding ─┼─▶ attribution ─▶ View ─▶ board ─▶ api, metrics
//! /proc, cgroups ─────────────────── Workload ─┘        └─▶ GpuEvent ─▶ pipeline's hub ─▶ subscribers
//! uprobes (CUDA, NCCL) ─▶ ProcessActivity ─────────────────▶ board
//! ```
//! A source reads devices and who uses them ([`reading`]); kubelet says who holds them ([`holding`]);
//! `attribution` joins the two, so that the parts of each device sum to it ([`share`]). The
//! `collector` does that each interval, tells what changed, and leaves the last [`view`] on the
//! [`Board`] for who asks. None of it holds the pipeline's lock, and what blocks or dies here takes
//! nothing else along.

pub mod activity;
pub mod amd;
mod aside;
mod attribution;
mod changes;
mod checked;
pub mod collector;
pub mod config;
#[cfg(test)]
mod conformance;
pub mod cuda;
pub mod dcgm;
pub mod device;
pub mod drm;
pub mod event;
pub mod holding;
mod hwmon;
mod idle;
pub mod kubelet;
mod names;
mod netns;
pub mod neuron;
pub mod nvml;
pub mod processes;
pub mod ras;
pub mod reading;
pub mod sample;
#[cfg(test)]
mod samples;
mod scan;
pub mod share;
pub mod source;
mod sysfs;
pub mod totals;
pub mod tpu;
pub mod view;
pub mod xid;

pub use activity::ProcessActivity;
pub use config::GpuConfig;
pub use device::{Device, DeviceId, Part, PciAddress, SourceKind, Vendor};
pub use event::{GpuEvent, GpuEventKind};
pub use holding::Holding;
pub use reading::{DeviceState, ProcessUse, Reading, Seen};
pub use sample::Sample;
pub use share::{Basis, Share, Shares};
pub use view::{Board, View};
