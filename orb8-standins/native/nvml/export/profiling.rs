//! Profiling counters (GPM), which came with the driver's version 520.

use std::ffi::c_uint;

use super::super::gpm::{self, METRICS};
use super::super::play;
use super::super::status::{SUCCESS, Status};
use super::super::target::{Handle, Target};
use super::super::types::{GpmMetric, GpmRequest, GpmSupport};
use super::{getters, place};

/// The only version that there is of both structures.
const VERSION: u32 = 1;

/// As many metrics as there are in the newest header's request.
const MOST: u32 = 210;

getters! { newer
    nvmlGpmQueryIfStreamingEnabled(c_uint) |it| {
        if it.whole()?.gpm { Ok(1) } else { Err(Status::NOT_SUPPORTED) }
    };
}

#[cfg_attr(not(old), unsafe(no_mangle))]
unsafe extern "C" fn nvmlGpmQueryDeviceSupport(device: Handle, support: *mut GpmSupport) -> u32 {
    Status::code(Target::find("nvmlGpmQueryDeviceSupport", device).and_then(|target| {
        // SAFETY: see the module.
        let out = unsafe { place(support) }?;
        if out.version != VERSION {
            return Err(Status::ARGUMENT_VERSION_MISMATCH);
        }
        out.is_supported = u32::from(target.device()?.gpm);
        Ok(())
    }))
}

#[cfg_attr(not(old), unsafe(no_mangle))]
extern "C" fn nvmlGpmSetStreamingEnabled(device: Handle, _state: c_uint) -> u32 {
    let found = Target::find("nvmlGpmSetStreamingEnabled", device);
    Status::code(
        found.and_then(
            |target| {
                if target.whole()?.gpm { Ok(()) } else { Err(Status::NOT_SUPPORTED) }
            },
        ),
    )
}

#[cfg_attr(not(old), unsafe(no_mangle))]
unsafe extern "C" fn nvmlGpmSampleAlloc(sample: *mut usize) -> u32 {
    Status::code(play::enter("nvmlGpmSampleAlloc").and_then(|_| {
        // SAFETY: see the module.
        *unsafe { place(sample) }? = gpm::create();
        Ok(())
    }))
}

#[cfg_attr(not(old), unsafe(no_mangle))]
extern "C" fn nvmlGpmSampleFree(sample: usize) -> u32 {
    Status::code(gpm::free(sample))
}

#[cfg_attr(not(old), unsafe(no_mangle))]
extern "C" fn nvmlGpmSampleGet(device: Handle, sample: usize) -> u32 {
    let found = Target::find("nvmlGpmSampleGet", device);
    Status::code(found.and_then(|target| {
        target.whole()?;
        gpm::fill(sample, target)
    }))
}

#[cfg_attr(not(old), unsafe(no_mangle))]
extern "C" fn nvmlGpmMigSampleGet(device: Handle, gpu_instance: c_uint, sample: usize) -> u32 {
    let found = Target::find("nvmlGpmMigSampleGet", device);
    Status::code(found.and_then(|target| {
        target.whole()?;
        let instances = target.instances().ok_or(Status::NOT_SUPPORTED)?;
        let place = instances.iter().position(|instance| instance.gpu == gpu_instance);
        let place = Some(place.ok_or(Status::INVALID_ARGUMENT)?);
        gpm::fill(sample, Target { place, ..target })
    }))
}

#[cfg_attr(not(old), unsafe(no_mangle))]
unsafe extern "C" fn nvmlGpmMetricsGet(request: *mut GpmRequest) -> u32 {
    Status::code(play::enter("nvmlGpmMetricsGet").and_then(|_| {
        // SAFETY: see the module.
        let out = unsafe { place(request) }?;
        if out.version != VERSION {
            return Err(Status::ARGUMENT_VERSION_MISMATCH);
        }
        if out.count == 0 || out.count > MOST {
            return Err(Status::INVALID_ARGUMENT);
        }
        let (first, second) = gpm::pair(out.first, out.second)?;
        // SAFETY: the metrics follow the request's head, as many as the caller says.
        let first_metric = unsafe { (&raw mut (*request).metrics).cast::<GpmMetric>() };
        for index in 0..out.count as usize {
            // SAFETY: see above.
            fill(unsafe { place(first_metric.add(index)) }?, &first, &second);
        }
        Ok(())
    }))
}

fn fill(metric: &mut GpmMetric, first: &gpm::Sample, second: &gpm::Sample) {
    let Some(known) = METRICS.iter().find(|known| known.id == metric.id) else {
        metric.status = Status::NOT_SUPPORTED.0;
        return;
    };
    metric.short_name = known.name.as_ptr();
    metric.long_name = known.name.as_ptr();
    metric.unit = known.unit.as_ptr();
    match known.between(first, second) {
        Ok(value) => (metric.value, metric.status) = (value, SUCCESS),
        Err(Status(code)) => metric.status = code,
    }
}
