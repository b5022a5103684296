//! What one thread has, and what it does with it in a step.

use super::super::gpu::{Failure, Gpu, Memory};
use super::super::nccl::{ALL_REDUCE, Communicator};
use super::super::options::{Options, Work};
use super::super::shared::counts::{
    ALLOCATIONS, CONTEXT, COPIES, EVENT, PINNED, STREAM, TO_DEVICE, TO_HOST,
};
use super::super::sites;

/// A thread's stream and memory.
pub(super) struct Job<'a> {
    gpu: Gpu<'a>,
    options: &'a Options,
    stream: usize,
    /// For all the time.
    weights: Option<Memory>,
    /// Two of the device and one of the machine, for copies and collectives.
    buffers: Vec<Memory>,
    host: Option<Memory>,
    graph: Option<usize>,
    /// What `leak` and `fill` took.
    kept: Vec<Memory>,
}

impl<'a> Job<'a> {
    pub(super) fn new(gpu: Gpu<'a>, options: &'a Options) -> Result<Self, Failure> {
        let stream = gpu.stream()?;
        let is_fixed = !matches!(options.work, Work::Leak | Work::Fill);
        let weights = if is_fixed { sites::load_weights(&gpu, options.bytes)? } else { None };
        let length = options.copy.max(options.allreduce);
        let mut buffers = Vec::new();
        if options.has_buffers() {
            for _ in 0..2 {
                buffers.extend(sites::load_weights(&gpu, length)?);
            }
        }
        let host = if options.has_buffers() { gpu.alloc(PINNED, options.copy)? } else { None };
        let graph = match options.work {
            Work::Graphs | Work::Every => gpu.graph(stream, options.launches)?,
            _ => None,
        };
        Ok(Self { gpu, options, stream, weights, buffers, host, graph, kept: Vec::new() })
    }

    pub(super) fn step(&mut self, communicator: Option<&Communicator<'_>>) -> Result<(), Failure> {
        let bytes = self.options.bytes;
        match self.options.work {
            Work::Train => self.train(communicator),
            Work::Launches => self.launch(),
            Work::Graphs => self.launch_graph(),
            Work::Copies => self.copy_each(),
            Work::Churn => self.churn(),
            Work::Leak => {
                sites::use_scratch(&self.gpu, bytes)?;
                self.kept.extend(sites::remember_batch(&self.gpu, bytes)?);
                Ok(())
            }
            Work::Fill => {
                // That there is no more is what it is for.
                self.kept.extend(sites::load_weights(&self.gpu, bytes).ok().flatten());
                Ok(())
            }
            Work::Load => self.gpu.load(),
            Work::Collectives => self.ask_each(communicator),
            Work::Every => self.every(),
            Work::Hold => Ok(()),
        }
    }

    fn addresses(&self) -> Option<(u64, u64, u64)> {
        match (&self.buffers[..], self.host) {
            ([one, two], Some(host)) => Some((one.address, two.address, host.address)),
            _ => None,
        }
    }

    fn train(&self, communicator: Option<&Communicator<'_>>) -> Result<(), Failure> {
        let Some((one, two, host)) = self.addresses() else { return Ok(()) };
        let Options { copy, allreduce, launches, .. } = *self.options;
        self.gpu.copy_async(TO_DEVICE, one, host, copy, self.stream)?;
        (0..launches).try_for_each(|_| self.gpu.launch(self.stream))?;
        if let Some(communicator) = communicator {
            communicator.ask(ALL_REDUCE, two, allreduce, self.stream)?;
        }
        self.gpu.wait(STREAM, self.stream)?;
        self.gpu.copy(TO_HOST, host, two, copy)
    }

    fn launch(&self) -> Result<(), Failure> {
        (0..self.options.launches).try_for_each(|_| self.gpu.launch(self.stream))?;
        self.gpu.wait(STREAM, self.stream)
    }

    fn launch_graph(&self) -> Result<(), Failure> {
        if let Some(graph) = self.graph {
            self.gpu.launch_graph(graph, self.stream)?;
        }
        self.gpu.wait(EVENT, self.stream)
    }

    fn copy_each(&self) -> Result<(), Failure> {
        let Some((one, two, host)) = self.addresses() else { return Ok(()) };
        let bytes = self.options.copy;
        for kind in 0..COPIES.len() {
            let (to, from) = match kind {
                TO_DEVICE => (one, host),
                TO_HOST => (host, one),
                _ => (one, two),
            };
            self.gpu.copy_async(kind, to, from, bytes, self.stream)?;
            self.gpu.copy(kind, to, from, bytes)?;
        }
        self.gpu.wait(STREAM, self.stream)
    }

    fn churn(&self) -> Result<(), Failure> {
        for kind in 0..ALLOCATIONS.len() {
            if let Some(memory) = self.gpu.alloc(kind, self.options.bytes)? {
                self.gpu.free(memory)?;
            }
        }
        Ok(())
    }

    fn ask_each(&self, communicator: Option<&Communicator<'_>>) -> Result<(), Failure> {
        let (Some(communicator), Some((one, ..))) = (communicator, self.addresses()) else {
            return Ok(());
        };
        communicator.ask_each(one, self.options.allreduce, self.stream)?;
        self.gpu.wait(STREAM, self.stream)
    }

    fn every(&self) -> Result<(), Failure> {
        self.train(None)?;
        self.launch()?;
        self.launch_graph()?;
        self.copy_each()?;
        self.churn()?;
        self.gpu.load()?;
        self.gpu.wait(CONTEXT, 0)
    }

    /// Gives back what is not a leak, unless it is kept.
    pub(super) fn end(self, keep: bool) -> Result<(), Failure> {
        if keep {
            return Ok(());
        }
        let memory = self.weights.into_iter().chain(self.buffers).chain(self.host);
        memory.into_iter().try_for_each(|memory| self.gpu.free(memory))?;
        if self.options.work == Work::Fill {
            self.kept.iter().try_for_each(|memory| self.gpu.free(*memory))?;
        }
        self.gpu.destroy_stream(self.stream)
    }
}
