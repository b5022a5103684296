//! Graphs: work that is put down once and launched as often as wanted.

use std::ffi::{c_char, c_uint, c_ulonglong, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::error::{Error, INVALID_VALUE, answer, give};
use super::shared::abi::{In, Out};
use super::state::driver;
use super::stream;

/// What is put down.
#[derive(Default)]
pub(super) struct Graph(Mutex<Vec<Node>>);

/// One thing to do.
#[derive(Clone, Copy)]
struct Node {
    handle: usize,
    is_kernel: bool,
}

/// A graph that can be launched.
pub(super) struct Executable {
    /// Kernels in it.
    pub(super) kernels: u64,
}

impl Graph {
    fn add(&self, is_kernel: bool) -> usize {
        static HANDLES: AtomicUsize = AtomicUsize::new(0x5600_0000_0000);
        let handle = HANDLES.fetch_add(0x40, Ordering::Relaxed);
        self.nodes().push(Node { handle, is_kernel });
        handle
    }

    pub(super) fn add_kernel(&mut self, _function: usize) {
        self.add(true);
    }

    pub(super) fn add_other(&mut self) {
        self.add(false);
    }

    fn nodes(&self) -> std::sync::MutexGuard<'_, Vec<Node>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) extern "C" fn create(out: Out<usize>, flags: c_uint) -> c_uint {
    answer(|| {
        if flags != 0 || out.is_null() {
            return Err(INVALID_VALUE);
        }
        give(out, driver()?.graphs.add(Graph::default()).0)
    })
}

pub(super) extern "C" fn destroy(graph: usize) -> c_uint {
    answer(|| driver()?.graphs.remove(graph).map(|_| ()))
}

/// `cuGraphAddKernelNode(node*, graph, dependencies, number, parameters)`; what the node does after
/// what is not looked at.
pub(super) extern "C" fn add_kernel(
    out: Out<usize>,
    graph: usize,
    _dependencies: In<usize>,
    _number: usize,
    parameters: In<usize>,
) -> c_uint {
    answer(|| {
        let driver = driver()?;
        let graph = driver.graphs.get(graph)?;
        // The function comes first in `CUDA_KERNEL_NODE_PARAMS`.
        driver.functions.get(parameters.get().ok_or(INVALID_VALUE)?)?;
        give(out, graph.add(true))
    })
}

/// `cuGraphAddEmptyNode(node*, graph, dependencies, number)`.
pub(super) extern "C" fn add_empty(
    out: Out<usize>,
    graph: usize,
    _dependencies: In<usize>,
    _number: usize,
) -> c_uint {
    answer(|| give(out, driver()?.graphs.get(graph)?.add(false)))
}

/// `cuGraphGetNodes(graph, nodes, number*)`: without a place for nodes it only says how many.
pub(super) extern "C" fn nodes(graph: usize, out: Out<usize>, number: Out<usize>) -> c_uint {
    answer(|| {
        let graph = driver()?.graphs.get(graph)?;
        let nodes = graph.nodes();
        if out.is_null() {
            return give(number, nodes.len());
        }
        let room = number.get().ok_or(INVALID_VALUE)?;
        for (index, node) in nodes.iter().take(room).enumerate() {
            out.put_at(index, node.handle);
        }
        for index in nodes.len()..room {
            out.put_at(index, 0);
        }
        give(number, nodes.len().min(room))
    })
}

/// `cuGraphNodeGetType(node, type*)`: 0 a kernel, 5 none that is known here.
pub(super) extern "C" fn node_type(node: usize, out: Out<c_uint>) -> c_uint {
    answer(|| {
        let graphs = driver()?.graphs.all(|_| true);
        let find = |graph: &Graph| graph.nodes().iter().find(|known| known.handle == node).copied();
        let node = graphs.iter().find_map(|graph| find(graph)).ok_or(INVALID_VALUE)?;
        give(out, if node.is_kernel { 0 } else { 5 })
    })
}

fn make(out: Out<usize>, graph: usize) -> Result<(), Error> {
    let driver = driver()?;
    let graph = driver.graphs.get(graph)?;
    let kernels = graph.nodes().iter().filter(|node| node.is_kernel).count() as u64;
    if out.is_null() {
        return Err(INVALID_VALUE);
    }
    give(out, driver.executables.add(Executable { kernels }).0)
}

/// `cuGraphInstantiate` of CUDA 10 and 11, with a place for what went wrong.
pub(super) extern "C" fn instantiate(
    out: Out<usize>,
    graph: usize,
    _node: Out<usize>,
    _log: Out<c_char>,
    _length: usize,
) -> c_uint {
    answer(|| make(out, graph))
}

pub(super) extern "C" fn instantiate_with_flags(
    out: Out<usize>,
    graph: usize,
    _flags: c_ulonglong,
) -> c_uint {
    answer(|| make(out, graph))
}

/// `CUDA_GRAPH_INSTANTIATE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Parameters {
    flags: u64,
    upload_stream: usize,
    error_node: usize,
    result: c_uint,
}

pub(super) extern "C" fn instantiate_with_parameters(
    out: Out<usize>,
    graph: usize,
    parameters: Out<Parameters>,
) -> c_uint {
    answer(|| {
        let mut given = parameters.get().ok_or(INVALID_VALUE)?;
        let made = make(out, graph);
        given.result = made.is_err().into();
        give(parameters, given)?;
        made
    })
}

pub(super) extern "C" fn destroy_executable(executable: usize) -> c_uint {
    answer(|| driver()?.executables.remove(executable).map(|_| ()))
}

pub(super) extern "C" fn upload<const OWN_STREAM: bool>(
    executable: usize,
    stream: usize,
) -> c_uint {
    answer(|| {
        stream::find::<OWN_STREAM>(stream)?;
        driver()?.executables.get(executable).map(|_| ())
    })
}

/// `cuGraphExecUpdate`: takes the new graph as it is, if it is one.
pub(super) extern "C" fn update(executable: usize, graph: usize, _result: In<c_void>) -> c_uint {
    answer(|| {
        driver()?.graphs.get(graph)?;
        driver()?.executables.get(executable).map(|_| ())
    })
}
