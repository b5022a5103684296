//! Waits for the errors that the driver reports (XID).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use tracing::debug;

use crate::gpu::event::GpuEventKind;
use crate::gpu::xid;

use super::raw::{EventSet, XidEvent};
use super::shared::Shared;
use super::slots;

/// For how long one wait lasts, so that the thread can end: milliseconds. Tests wait for that end.
const WAIT: u32 = if cfg!(test) { 100 } else { 1000 };

/// After an error other than that there was nothing, which would come back at once.
const PAUSE: Duration = Duration::from_millis(500);

/// After which a wait that should have ended has not.
pub(super) const OVERDUE: Duration = Duration::from_secs(10);

/// Events that are taken from a set that is given up.
const LAST: usize = 64;

/// Where events are waited for, and whose they are.
#[derive(Debug)]
pub(super) struct Watch {
    set: EventSet,
    /// Index by handle.
    pub(super) devices: BTreeMap<usize, u32>,
}

impl Watch {
    /// Makes one that tells nothing yet.
    pub(super) fn new(nvml: &Arc<Nvml>) -> Result<Self, NvmlError> {
        Ok(Self { set: EventSet::new(nvml)?, devices: BTreeMap::new() })
    }

    /// Adds a device.
    pub(super) fn add(
        &mut self,
        index: u32,
        device: &nvml_wrapper::Device<'_>,
    ) -> Result<(), NvmlError> {
        self.set.register(device)?;
        self.devices.insert(super::raw::handle(device), index);
        Ok(())
    }
}

/// Waits for events until the source is closed, or another thread does.
pub(super) fn run(shared: &Shared, number: u64) {
    while let Some(watch) = next(shared, number) {
        let mut is_current = true;
        while is_current {
            let told = watch.set.wait(WAIT);
            if shared.state().watcher != number {
                break;
            }
            match told {
                Ok(event) => keep(shared, &watch, event),
                Err(NvmlError::Timeout) => {}
                Err(error) => {
                    debug!(%error, "waiting for XID events");
                    pause(shared);
                }
            }
            is_current = self::is_current(shared, &watch);
        }
        if !is_current {
            last(shared, &watch);
        }
    }
    if shared.state().watcher != number {
        shared.come_back(None);
    }
}

fn next(shared: &Shared, number: u64) -> Option<Arc<Watch>> {
    let mut state = shared.state();
    loop {
        if state.is_closed || state.watcher != number {
            return None;
        }
        state.watched = Some(Instant::now());
        if let Some(watch) = &state.watch {
            return Some(Arc::clone(watch));
        }
        let waited = shared.wake.wait_timeout(state, OVERDUE / 2);
        state = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
    }
}

fn is_current(shared: &Shared, watch: &Arc<Watch>) -> bool {
    let mut state = shared.state();
    state.watched = Some(Instant::now());
    !state.is_closed && state.watch.as_ref().is_some_and(|current| Arc::ptr_eq(current, watch))
}

/// The set that is given up may have what the next one does not get.
fn last(shared: &Shared, watch: &Watch) {
    for _ in 0..LAST {
        let Ok(event) = watch.set.wait(0) else { break };
        keep(shared, watch, event);
    }
}

fn pause(shared: &Shared) {
    let state = shared.state();
    // Anything else that wakes it is as good a reason to look again.
    drop(shared.wake.wait_timeout(state, PAUSE));
}

fn keep(shared: &Shared, watch: &Watch, event: XidEvent) {
    let XidEvent { device, code, gpu_instance, compute_instance } = event;
    let code = u32::try_from(code).unwrap_or(u32::MAX);
    let device = watch
        .devices
        .get(&device)
        .and_then(|index| slots::place(&shared.state(), *index, gpu_instance, compute_instance));
    let kind = GpuEventKind::Xid(xid::describe(code));
    shared.push(slots::moment(super::unix_now(), device.as_ref(), kind));
}
