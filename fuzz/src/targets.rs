//! The bodies of the fuzz targets.

pub mod cgroup_path;
pub mod dcgm;
pub mod dns;
pub mod filters;
pub mod packet;
pub mod recording;
pub mod records;
pub mod tcp;
