//! Accelerators' events: their owners are found where they are read, so they go to the hub as they are.

use super::Pipeline;
use super::hub::Weight;
use crate::event::UnixNanos;
use crate::gpu::GpuEvent;
use crate::gpu::share::Owner;

impl Weight for GpuEvent {
    /// Names are shared with the tables that they are from.
    fn heap_bytes(&self) -> usize {
        self.owners.len() * size_of::<Owner>()
    }
}

impl Pipeline {
    pub(super) fn take_gpu(&mut self, time: UnixNanos, event: GpuEvent) {
        self.hubs.gpu.push(time, event);
    }
}
