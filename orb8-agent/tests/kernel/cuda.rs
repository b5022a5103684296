//! What processes do with CUDA and NCCL: the figures against what the stand-ins' workload counted itself.

mod activity;
mod communicators;
mod memory;
mod sampling;
mod scene;
