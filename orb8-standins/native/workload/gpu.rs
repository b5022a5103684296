//! One thread's use of a GPU: every call, counted.

use std::ffi::c_int;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use super::cuda::GRANULARITY;
use super::layer::{Code, Layer};
use super::shared::counts::{Counts, PHYSICAL};
use super::shared::library::MISSING;

/// What the runtime answers where the driver lacks a function.
const NEWER_DRIVER: Code = 36;

/// A call that failed and should not have.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) call: &'static str,
    pub(crate) code: Code,
}

/// Memory that it has.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) kind: usize,
    pub(crate) address: u64,
    pub(crate) bytes: u64,
}

/// A layer of CUDA and the books about it.
#[derive(Clone, Copy)]
pub(crate) struct Gpu<'a> {
    pub(crate) layer: &'a dyn Layer,
    pub(crate) counts: &'a Counts,
    /// What the libraries do not have, which is left out.
    pub(crate) missing: &'a Mutex<Vec<&'static str>>,
}

fn failed(call: &'static str) -> impl FnOnce(Code) -> Failure {
    move |code| Failure { call, code }
}

impl Gpu<'_> {
    /// Turns a call that is not there into none.
    fn if_there<T>(
        &self,
        call: &'static str,
        outcome: Result<T, Code>,
    ) -> Result<Option<T>, Failure> {
        if outcome.as_ref().is_err_and(|code| [MISSING, NEWER_DRIVER].contains(code)) {
            let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
            if !missing.contains(&call) {
                missing.push(call);
            }
            return Ok(None);
        }
        outcome.map(Some).map_err(failed(call))
    }

    pub(crate) fn enter(&self, device: c_int) -> Result<(), Failure> {
        self.layer.enter(device).map_err(failed("enter"))
    }

    pub(crate) fn load(&self) -> Result<(), Failure> {
        let start = Instant::now();
        let loaded = self.layer.load().map_err(failed("load"))?;
        (0..loaded).for_each(|_| self.counts.loaded(start.elapsed()));
        Ok(())
    }

    /// Takes memory; `None` where these libraries cannot in this way.
    #[inline(never)]
    pub(crate) fn alloc(&self, kind: usize, bytes: u64) -> Result<Option<Memory>, Failure> {
        let outcome = self.layer.alloc(kind, bytes);
        if outcome.is_err_and(|code| ![MISSING, NEWER_DRIVER].contains(&code)) {
            self.counts.failed_allocation();
        }
        let Some(address) = self.if_there("alloc", outcome)? else { return Ok(None) };
        let bytes = if kind == PHYSICAL { bytes.next_multiple_of(GRANULARITY) } else { bytes };
        self.counts.allocated(kind, bytes);
        Ok(Some(Memory { kind, address, bytes }))
    }

    pub(crate) fn free(&self, memory: Memory) -> Result<(), Failure> {
        let Memory { kind, address, bytes } = memory;
        self.layer.free(kind, address, bytes).map_err(failed("free"))?;
        self.counts.freed(kind, bytes);
        Ok(())
    }

    /// Copies and does not wait.
    pub(crate) fn copy_async(
        &self,
        kind: usize,
        to: u64,
        from: u64,
        bytes: u64,
        stream: usize,
    ) -> Result<(), Failure> {
        let outcome = self.layer.copy(kind, to, from, bytes, Some(stream));
        if self.if_there("copy", outcome)?.is_some() {
            self.counts.copied(kind, bytes);
        }
        Ok(())
    }

    /// Copies and waits for it.
    pub(crate) fn copy(&self, kind: usize, to: u64, from: u64, bytes: u64) -> Result<(), Failure> {
        let start = Instant::now();
        let outcome = self.layer.copy(kind, to, from, bytes, None);
        if self.if_there("copy", outcome)?.is_some() {
            self.counts.copied(kind, bytes);
            self.counts.waited_for_copy(kind, start.elapsed());
        }
        Ok(())
    }

    pub(crate) fn launch(&self, stream: usize) -> Result<(), Failure> {
        self.layer.launch(stream).map_err(failed("launch"))?;
        self.counts.launched();
        Ok(())
    }

    pub(crate) fn wait(&self, kind: usize, stream: usize) -> Result<(), Failure> {
        let start = Instant::now();
        let outcome = self.layer.wait(kind, stream);
        if self.if_there("wait", outcome)?.is_some() {
            self.counts.waited(kind, start.elapsed());
        }
        Ok(())
    }

    pub(crate) fn stream(&self) -> Result<usize, Failure> {
        self.layer.stream().map_err(failed("stream"))
    }

    pub(crate) fn destroy_stream(&self, stream: usize) -> Result<(), Failure> {
        self.layer.destroy_stream(stream).map_err(failed("destroy stream"))
    }

    /// Captures a graph; `None` where these libraries have none.
    pub(crate) fn graph(&self, stream: usize, launches: u64) -> Result<Option<usize>, Failure> {
        let graph = self.if_there("graph", self.layer.graph(stream, launches))?;
        if graph.is_some() {
            (0..launches).for_each(|_| self.counts.captured());
        }
        Ok(graph)
    }

    pub(crate) fn launch_graph(&self, graph: usize, stream: usize) -> Result<(), Failure> {
        let outcome = self.layer.launch_graph(graph, stream);
        if self.if_there("launch graph", outcome)?.is_some() {
            self.counts.launched_graph();
        }
        Ok(())
    }
}
