//! The calls of NVML that nvml-wrapper has no safe form of, or whose form leaves out what is needed.

use std::path::Path;
use std::sync::Arc;

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, FieldIdScheme, Nvml};
use nvml_wrapper_sys::bindings as sys;

/// What stands for "none" in an event's instance.
const NO_INSTANCE: u32 = u32::MAX;

/// The scope of a field that is the sum of all links.
pub(super) const ALL_LINKS: u32 = u32::MAX;

/// A number as the driver tells it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    /// A counter.
    Unsigned(u64),
    /// What may be negative.
    Signed(i64),
    /// A measurement.
    Float(f64),
}

/// Rows of memory that were remapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) correctable: u32,
    pub(super) uncorrectable: u32,
    pub(super) is_pending: bool,
    pub(super) has_failed: bool,
}

/// Memory as drivers before 510 tell it: what they keep for themselves is in `used`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OldMemory {
    pub(super) total: u64,
    pub(super) used: u64,
    pub(super) free: u64,
}

/// Looks whether a file is a library that can be closed again: the wrapper panics where it cannot.
pub(super) fn check(library: &Path) -> Result<(), NvmlError> {
    // SAFETY: loading it runs what it has to run first, as opening it does right after.
    let library = unsafe { sys::NvmlLib::new(library) }?;
    nvml_sym(library.nvmlShutdown.as_ref()).map(|_| ())
}

/// Returns why the device does not run faster, as bits.
pub(super) fn event_reasons(device: &Device<'_>) -> Result<u64, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetCurrentClocksEventReasons.as_ref())?;
    let mut reasons = 0;
    // SAFETY: the handle is one of this library's, and it writes one u64.
    nvml_try(unsafe { call(device.handle(), &raw mut reasons) })?;
    Ok(reasons)
}

/// Returns the same of drivers before 535.
pub(super) fn throttle_reasons(device: &Device<'_>) -> Result<u64, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetCurrentClocksThrottleReasons.as_ref())?;
    let mut reasons = 0;
    // SAFETY: the handle is one of this library's, and it writes one u64.
    nvml_try(unsafe { call(device.handle(), &raw mut reasons) })?;
    Ok(reasons)
}

/// Returns the memory by the first form of the call.
pub(super) fn old_memory(device: &Device<'_>) -> Result<OldMemory, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref())?;
    let mut memory = sys::nvmlMemory_t { total: 0, free: 0, used: 0 };
    // SAFETY: the handle is one of this library's, and the structure is the one that it fills.
    nvml_try(unsafe { call(device.handle(), &raw mut memory) })?;
    Ok(OldMemory { total: memory.total, used: memory.used, free: memory.free })
}

/// Returns how many rows of memory were remapped.
pub(super) fn remapped_rows(device: &Device<'_>) -> Result<Rows, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetRemappedRows.as_ref())?;
    let (mut correctable, mut uncorrectable, mut pending, mut failed) = (0, 0, 0, 0);
    // SAFETY: the handle is one of this library's, and it writes four u32.
    nvml_try(unsafe {
        call(
            device.handle(),
            &raw mut correctable,
            &raw mut uncorrectable,
            &raw mut pending,
            &raw mut failed,
        )
    })?;
    Ok(Rows { correctable, uncorrectable, is_pending: pending != 0, has_failed: failed != 0 })
}

/// Returns the GPU instance of a MIG device.
pub(super) fn gpu_instance(device: &Device<'_>) -> Result<u32, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetGpuInstanceId.as_ref())?;
    let mut id = 0;
    // SAFETY: the handle is one of this library's, and it writes one u32.
    nvml_try(unsafe { call(device.handle(), &raw mut id) })?;
    Ok(id)
}

/// Returns the compute instance of a MIG device.
pub(super) fn compute_instance(device: &Device<'_>) -> Result<u32, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetComputeInstanceId.as_ref())?;
    let mut id = 0;
    // SAFETY: the handle is one of this library's, and it writes one u32.
    nvml_try(unsafe { call(device.handle(), &raw mut id) })?;
    Ok(id)
}

/// Returns values by their field numbers and scopes, in their order. The wrapper's form has no scope,
/// without which a link's figure is only the first link's.
pub(super) fn fields(
    device: &Device<'_>,
    wanted: &[(u32, u32)],
) -> Result<Vec<Result<Number, NvmlError>>, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetFieldValues.as_ref())?;
    let scheme = device.nvml().field_id_scheme();
    let mut values: Vec<sys::nvmlFieldValue_t> = wanted
        .iter()
        .map(|&(field, scope)| sys::nvmlFieldValue_t {
            fieldId: field_in(scheme, field),
            scopeId: scope,
            timestamp: 0,
            latencyUsec: 0,
            valueType: sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG,
            // What the library leaves alone was not told.
            nvmlReturn: sys::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED,
            value: sys::nvmlValue_t { ullVal: 0 },
        })
        .collect();
    let count = i32::try_from(values.len()).map_err(|_| NvmlError::InvalidArg)?;
    // SAFETY: the handle is one of this library's, and it writes at most `count` of the structures.
    nvml_try(unsafe { call(device.handle(), count, values.as_mut_ptr()) })?;
    Ok(values.iter().map(number).collect())
}

/// Drivers from 580.82 on have other numbers for some fields.
const fn field_in(scheme: FieldIdScheme, field: u32) -> u32 {
    match (scheme, field) {
        (FieldIdScheme::V13Update1, 251..=255) => field + 18,
        _ => field,
    }
}

fn number(value: &sys::nvmlFieldValue_t) -> Result<Number, NvmlError> {
    nvml_try(value.nvmlReturn)?;
    let held = value.value;
    // SAFETY: all of the union is initialised before the call, and any bits are a number of each of
    // its types; the type says which one was written.
    let number = unsafe {
        match value.valueType {
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_DOUBLE => Number::Float(held.dVal),
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT => {
                Number::Unsigned(held.uiVal.into())
            }
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG
            | sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG => {
                Number::Unsigned(held.ullVal)
            }
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_LONG_LONG => Number::Signed(held.sllVal),
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_SIGNED_INT => Number::Signed(held.siVal.into()),
            sys::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_SHORT => {
                Number::Unsigned(held.usVal.into())
            }
            other => return Err(NvmlError::UnexpectedVariant(other)),
        }
    };
    Ok(number)
}

/// Returns what tells a device's handle from others' while the library is open.
pub(super) fn handle(device: &Device<'_>) -> usize {
    // SAFETY: the handle is only compared, never used.
    unsafe { device.handle() }.addr()
}

/// A set of events that can be waited for. The wrapper's form drops the set where one device cannot
/// tell of events, and leaves out the MIG instance.
#[derive(Debug)]
pub(super) struct EventSet {
    set: sys::nvmlEventSet_t,
    nvml: Arc<Nvml>,
}

// SAFETY: NVML's calls may be made from any thread; a set is filled by the thread that makes it and
// then waited for by one other, never by two at once.
unsafe impl Send for EventSet {}
// SAFETY: as above: who shares it only waits, in one thread.
unsafe impl Sync for EventSet {}

/// An error that the driver reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct XidEvent {
    /// See [`handle`].
    pub(super) device: usize,
    pub(super) code: u64,
    pub(super) gpu_instance: Option<u32>,
    pub(super) compute_instance: Option<u32>,
}

impl EventSet {
    /// Makes an empty one.
    pub(super) fn new(nvml: &Arc<Nvml>) -> Result<Self, NvmlError> {
        let call = nvml_sym(nvml.lib().nvmlEventSetCreate.as_ref())?;
        // Freeing it is not optional, and the wrapper's bindings panic where they cannot.
        nvml_sym(nvml.lib().nvmlEventSetFree.as_ref())?;
        let mut set: sys::nvmlEventSet_t = std::ptr::null_mut();
        // SAFETY: the library is initialised while `nvml` lives, and it writes one handle.
        nvml_try(unsafe { call(&raw mut set) })?;
        Ok(Self { set, nvml: Arc::clone(nvml) })
    }

    /// Adds a device's errors. A device that cannot tell any is an error, and the set stays usable.
    pub(super) fn register(&self, device: &Device<'_>) -> Result<(), NvmlError> {
        let call = nvml_sym(self.nvml.lib().nvmlDeviceRegisterEvents.as_ref())?;
        let kinds = sys::nvmlEventTypeXidCriticalError.into();
        // SAFETY: the device's handle and the set are this library's, and nobody waits for it yet.
        nvml_try(unsafe { call(device.handle(), kinds, self.set) })
    }

    /// Waits for the next error.
    ///
    /// # Errors
    ///
    /// [`NvmlError::Timeout`] where there was none.
    pub(super) fn wait(&self, milliseconds: u32) -> Result<XidEvent, NvmlError> {
        let call = nvml_sym(self.nvml.lib().nvmlEventSetWait_v2.as_ref())?;
        let mut event = sys::nvmlEventData_t {
            device: std::ptr::null_mut(),
            eventType: 0,
            eventData: 0,
            gpuInstanceId: NO_INSTANCE,
            computeInstanceId: NO_INSTANCE,
        };
        // SAFETY: the set is this library's and only this thread waits for it; it writes one event.
        nvml_try(unsafe { call(self.set, &raw mut event, milliseconds) })?;
        let instance = |id: u32| (id != NO_INSTANCE).then_some(id);
        Ok(XidEvent {
            device: event.device.addr(),
            code: event.eventData,
            gpu_instance: instance(event.gpuInstanceId),
            compute_instance: instance(event.computeInstanceId),
        })
    }
}

impl Drop for EventSet {
    fn drop(&mut self) {
        // SAFETY: the set is this library's and is not used any more; the function is there, since
        // it was looked for when the set was made.
        unsafe { self.nvml.lib().nvmlEventSetFree(self.set) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(kind: u32, value: sys::nvmlValue_t) -> sys::nvmlFieldValue_t {
        sys::nvmlFieldValue_t {
            fieldId: 0,
            scopeId: 0,
            timestamp: 0,
            latencyUsec: 0,
            valueType: kind,
            nvmlReturn: 0,
            value,
        }
    }

    #[test]
    fn a_number_is_read_by_its_type() {
        let full = |set: fn(&mut sys::nvmlValue_t)| {
            let mut value = sys::nvmlValue_t { ullVal: 0 };
            set(&mut value);
            value
        };
        let cases = [
            (0, full(|value| value.dVal = 1.5), Number::Float(1.5)),
            (1, full(|value| value.uiVal = 7), Number::Unsigned(7)),
            (3, full(|value| value.ullVal = u64::MAX), Number::Unsigned(u64::MAX)),
            (4, full(|value| value.sllVal = -3), Number::Signed(-3)),
            (5, full(|value| value.siVal = -4), Number::Signed(-4)),
            (6, full(|value| value.usVal = 9), Number::Unsigned(9)),
        ];
        for (kind, held, expected) in cases {
            assert_eq!(number(&value(kind, held)).unwrap(), expected, "type {kind}");
        }
        let unknown = value(99, sys::nvmlValue_t { ullVal: 0 });
        assert!(matches!(number(&unknown), Err(NvmlError::UnexpectedVariant(99))));
        let refused =
            sys::nvmlFieldValue_t { nvmlReturn: 3, ..value(0, sys::nvmlValue_t { ullVal: 0 }) };
        assert!(matches!(number(&refused), Err(NvmlError::NotSupported)));
    }

    #[test]
    fn newer_drivers_have_other_numbers_for_lost_time() {
        assert_eq!(field_in(FieldIdScheme::V12, 251), 251);
        assert_eq!(field_in(FieldIdScheme::V13Update1, 251), 269);
        assert_eq!(field_in(FieldIdScheme::V13Update1, 82), 82);
    }
}
