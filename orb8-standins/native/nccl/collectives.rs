//! Collectives. A call only asks for one: it is done in the order of its stream.

use std::cell::RefCell;
use std::ffi::{c_int, c_uint};

use super::communicator;
use super::driver;
use super::error::{Error, INVALID_ARGUMENT, INVALID_USAGE, answer};

/// One past the last `ncclDataType_t`, and the last `ncclRedOp_t` of the library's own.
const TYPES: c_uint = 12;
const OPERATIONS: c_uint = 5;

/// What a group of this thread asked for.
#[derive(Default)]
struct Group {
    depth: u32,
    /// Communicator and stream, once each.
    asked: Vec<(usize, usize)>,
}

thread_local! {
    static GROUP: RefCell<Group> = RefCell::default();
}

/// What a call is about, as far as it is looked at.
struct Call {
    buffers: [u64; 2],
    kind: c_uint,
    operation: c_uint,
    /// The rank that has a part of its own: root or peer.
    other: c_int,
    communicator: usize,
    stream: usize,
}

impl Call {
    /// Asks for it, at once or when the group ends.
    fn ask(self) -> c_int {
        answer(|| {
            let found = communicator::find(self.communicator)?;
            let is_known = self.kind < TYPES && self.operation < OPERATIONS;
            if !is_known || self.buffers.contains(&0) || !found.has(self.other) {
                return Err(INVALID_ARGUMENT);
            }
            let asked = (self.communicator, self.stream);
            GROUP.with_borrow_mut(|group| {
                if group.depth == 0 {
                    return start(asked);
                }
                if !group.asked.contains(&asked) {
                    group.asked.push(asked);
                }
                Ok(())
            })
        })
    }
}

fn start((communicator, stream): (usize, usize)) -> Result<(), Error> {
    let meeting = communicator::find(communicator)?.meeting;
    let number = meeting.ask();
    driver::launch(stream, meeting.complete(), number)
}

/// Whether this thread has begun a group.
pub(super) fn is_in_group() -> bool {
    GROUP.with_borrow(|group| group.depth > 0)
}

pub(super) extern "C" fn group_start() -> c_int {
    GROUP.with_borrow_mut(|group| group.depth += 1);
    0
}

pub(super) extern "C" fn group_end() -> c_int {
    answer(|| {
        let asked = GROUP.with_borrow_mut(|group| {
            group.depth = group.depth.checked_sub(1).ok_or(INVALID_USAGE)?;
            let is_last = group.depth == 0;
            Ok::<_, Error>(if is_last { std::mem::take(&mut group.asked) } else { Vec::new() })
        })?;
        asked.into_iter().try_for_each(start)
    })
}

/// `ncclAllReduce`, `ncclReduceScatter`.
pub(super) extern "C" fn reduce_all(
    send: u64,
    receive: u64,
    _count: usize,
    kind: c_uint,
    operation: c_uint,
    communicator: usize,
    stream: usize,
) -> c_int {
    let buffers = [send, receive];
    Call { buffers, kind, operation, other: 0, communicator, stream }.ask()
}

/// `ncclAllGather`, `ncclAlltoAll`.
pub(super) extern "C" fn gather_all(
    send: u64,
    receive: u64,
    _count: usize,
    kind: c_uint,
    communicator: usize,
    stream: usize,
) -> c_int {
    let buffers = [send, receive];
    Call { buffers, kind, operation: 0, other: 0, communicator, stream }.ask()
}

pub(super) extern "C" fn broadcast(
    send: u64,
    receive: u64,
    _count: usize,
    kind: c_uint,
    root: c_int,
    communicator: usize,
    stream: usize,
) -> c_int {
    // Only the root sends something.
    let buffers = [send.max(receive), receive];
    Call { buffers, kind, operation: 0, other: root, communicator, stream }.ask()
}

unsafe extern "C" {
    /// The exported function, which the real `ncclBcast` calls too.
    #[link_name = "ncclBroadcast"]
    safe fn exported_broadcast(
        send: u64,
        receive: u64,
        count: usize,
        kind: c_uint,
        root: c_int,
        communicator: usize,
        stream: usize,
    ) -> c_int;
}

/// `ncclBcast`: in one buffer.
pub(super) extern "C" fn broadcast_in_place(
    buffer: u64,
    count: usize,
    kind: c_uint,
    root: c_int,
    communicator: usize,
    stream: usize,
) -> c_int {
    exported_broadcast(buffer, buffer, count, kind, root, communicator, stream)
}

pub(super) extern "C" fn reduce(
    send: u64,
    receive: u64,
    _count: usize,
    kind: c_uint,
    operation: c_uint,
    root: c_int,
    communicator: usize,
    stream: usize,
) -> c_int {
    // Only the root receives something.
    let buffers = [send, receive.max(send)];
    Call { buffers, kind, operation, other: root, communicator, stream }.ask()
}

/// `ncclSend`, `ncclRecv`: who sends or receives what is not looked at, so that all ranks have to
/// make as many calls, as in a ring.
pub(super) extern "C" fn exchange(
    buffer: u64,
    _count: usize,
    kind: c_uint,
    peer: c_int,
    communicator: usize,
    stream: usize,
) -> c_int {
    Call { buffers: [buffer; 2], kind, operation: 0, other: peer, communicator, stream }.ask()
}
