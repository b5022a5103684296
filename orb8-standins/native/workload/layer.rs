//! What the work needs of CUDA, by whichever functions.

use std::ffi::c_int;

/// A code that is no success.
pub(crate) type Code = c_int;

/// Functions of CUDA. Kinds are those of `shared::counts`.
pub(crate) trait Layer: Send + Sync {
    /// Makes a device's context this thread's; the first time it is made, and the kernel is loaded.
    fn enter(&self, device: c_int) -> Result<(), Code>;
    /// Loads a module once more and returns how many it loaded.
    fn load(&self) -> Result<u64, Code>;
    fn alloc(&self, kind: usize, bytes: u64) -> Result<u64, Code>;
    fn free(&self, kind: usize, address: u64, bytes: u64) -> Result<(), Code>;
    /// Copies; with a stream it does not wait.
    fn copy(
        &self,
        kind: usize,
        to: u64,
        from: u64,
        bytes: u64,
        stream: Option<usize>,
    ) -> Result<(), Code>;
    fn launch(&self, stream: usize) -> Result<(), Code>;
    /// Returns a new stream, or 0 where the thread's own is used.
    fn stream(&self) -> Result<usize, Code>;
    fn destroy_stream(&self, stream: usize) -> Result<(), Code>;
    /// Waits for a stream, for an event at its end, or for the whole context.
    fn wait(&self, kind: usize, stream: usize) -> Result<(), Code>;
    /// Returns a graph of so many launches, which are captured.
    fn graph(&self, stream: usize, launches: u64) -> Result<usize, Code>;
    fn launch_graph(&self, graph: usize, stream: usize) -> Result<(), Code>;
}
