//! Structures of nvml.h, as they are in memory.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};

use super::target::Handle;

/// The version of a structure: its size and a number.
pub(super) const fn version<T>(number: u32) -> c_uint {
    size_of::<T>() as u32 | number << 24
}

#[repr(C)]
pub(super) struct PciInfo {
    pub(super) legacy: [c_char; 16],
    pub(super) domain: c_uint,
    pub(super) bus: c_uint,
    pub(super) device: c_uint,
    pub(super) id: c_uint,
    pub(super) subsystem: c_uint,
    pub(super) bus_id: [c_char; 32],
}

#[repr(C)]
pub(super) struct Utilization {
    pub(super) gpu: c_uint,
    pub(super) memory: c_uint,
}

#[repr(C)]
pub(super) struct MemoryV1 {
    pub(super) total: c_ulonglong,
    pub(super) free: c_ulonglong,
    pub(super) used: c_ulonglong,
}

#[repr(C)]
pub(super) struct MemoryV2 {
    pub(super) version: c_uint,
    pub(super) total: c_ulonglong,
    pub(super) reserved: c_ulonglong,
    pub(super) free: c_ulonglong,
    pub(super) used: c_ulonglong,
}

#[repr(C)]
pub(super) struct ProcessInfoV1 {
    pub(super) pid: c_uint,
    pub(super) memory: c_ulonglong,
}

#[repr(C)]
pub(super) struct ProcessInfo {
    pub(super) pid: c_uint,
    pub(super) memory: c_ulonglong,
    pub(super) gpu_instance: c_uint,
    pub(super) compute_instance: c_uint,
}

#[repr(C)]
pub(super) struct ProcessDetail {
    pub(super) pid: c_uint,
    pub(super) memory: c_ulonglong,
    pub(super) gpu_instance: c_uint,
    pub(super) compute_instance: c_uint,
    pub(super) protected_memory: c_ulonglong,
}

#[repr(C)]
pub(super) struct ProcessDetailList {
    pub(super) version: c_uint,
    pub(super) mode: c_uint,
    pub(super) count: c_uint,
    pub(super) processes: *mut ProcessDetail,
}

#[repr(C)]
pub(super) struct ProcessSample {
    pub(super) pid: c_uint,
    pub(super) time: c_ulonglong,
    pub(super) sm: c_uint,
    pub(super) memory: c_uint,
    pub(super) encoder: c_uint,
    pub(super) decoder: c_uint,
}

#[repr(C)]
pub(super) struct ProcessUtilization {
    pub(super) time: c_ulonglong,
    pub(super) pid: c_uint,
    pub(super) sm: c_uint,
    pub(super) memory: c_uint,
    pub(super) encoder: c_uint,
    pub(super) decoder: c_uint,
    pub(super) jpeg: c_uint,
    pub(super) optical_flow: c_uint,
}

#[repr(C)]
pub(super) struct ProcessesUtilization {
    pub(super) version: c_uint,
    pub(super) count: c_uint,
    pub(super) last_seen: c_ulonglong,
    pub(super) processes: *mut ProcessUtilization,
}

/// `nvmlValue_t`, as the bits of its largest member.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) union Value {
    pub(super) double: f64,
    pub(super) int: c_int,
    pub(super) uint: c_uint,
    pub(super) ulonglong: c_ulonglong,
}

#[repr(C)]
pub(super) struct Sample {
    pub(super) time: c_ulonglong,
    pub(super) value: Value,
}

#[repr(C)]
pub(super) struct FieldValue {
    pub(super) field: c_uint,
    pub(super) scope: c_uint,
    pub(super) time: i64,
    pub(super) latency: i64,
    pub(super) kind: c_uint,
    pub(super) status: c_uint,
    pub(super) value: Value,
}

#[repr(C)]
pub(super) struct ViolationTime {
    pub(super) reference: c_ulonglong,
    pub(super) violation: c_ulonglong,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct Attributes {
    pub(super) multiprocessors: c_uint,
    pub(super) copy_engines: c_uint,
    pub(super) decoders: c_uint,
    pub(super) encoders: c_uint,
    pub(super) jpeg: c_uint,
    pub(super) optical_flow: c_uint,
    pub(super) gpu_slices: c_uint,
    pub(super) compute_slices: c_uint,
    /// MiB.
    pub(super) memory: c_ulonglong,
}

#[repr(C)]
pub(super) struct EventData {
    pub(super) device: Handle,
    pub(super) kind: c_ulonglong,
    pub(super) data: c_ulonglong,
    pub(super) gpu_instance: c_uint,
    pub(super) compute_instance: c_uint,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct SramErrors {
    pub(super) version: c_uint,
    pub(super) aggregate_parity: c_ulonglong,
    pub(super) aggregate_secded: c_ulonglong,
    pub(super) aggregate_corrected: c_ulonglong,
    pub(super) volatile_parity: c_ulonglong,
    pub(super) volatile_secded: c_ulonglong,
    pub(super) volatile_corrected: c_ulonglong,
    pub(super) buckets: [c_ulonglong; 5],
    pub(super) threshold_exceeded: c_uint,
}

#[repr(C)]
pub(super) struct Fabric {
    pub(super) cluster: [u8; 16],
    pub(super) status: c_uint,
    pub(super) clique: c_uint,
    pub(super) state: u8,
}

/// The part that all its versions begin with; later ones go on.
#[repr(C)]
pub(super) struct FabricV {
    pub(super) version: c_uint,
    pub(super) cluster: [u8; 16],
    pub(super) status: c_uint,
    pub(super) clique: c_uint,
    pub(super) state: u8,
    pub(super) health: c_uint,
}

/// The third version of [`FabricV`].
#[repr(C)]
pub(super) struct FabricV3 {
    pub(super) base: FabricV,
    pub(super) summary: u8,
}

#[repr(C)]
pub(super) struct GpmSupport {
    pub(super) version: c_uint,
    pub(super) is_supported: c_uint,
}

#[repr(C)]
pub(super) struct GpmMetric {
    pub(super) id: c_uint,
    pub(super) status: c_uint,
    pub(super) value: f64,
    pub(super) short_name: *const c_char,
    pub(super) long_name: *const c_char,
    pub(super) unit: *const c_char,
}

/// What `nvmlGpmMetricsGet_t` begins with. How many metrics follow depends on the caller's header.
#[repr(C)]
pub(super) struct GpmRequest {
    pub(super) version: c_uint,
    pub(super) count: c_uint,
    pub(super) first: usize,
    pub(super) second: usize,
    pub(super) metrics: [GpmMetric; 0],
}
