//! The bodies of the fuzz targets.

pub mod cgroup_path;
pub mod filters;
pub mod packet;
pub mod records;
