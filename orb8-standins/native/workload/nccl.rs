//! NCCL: a rank's communicator and what it asked for.

use std::ffi::{c_int, c_uint};
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::gpu::Failure;
use super::layer::Code;
use super::shared::library::{Library, functions};

functions! {
    #[expect(clippy::too_many_arguments, reason = "as the C functions have them")]
    Functions {
        init: "ncclCommInitRank", (out: &mut usize, ranks: c_int, id: UniqueId, rank: c_int);
        init_all: "ncclCommInitAll", (out: usize, ranks: c_int, devices: usize);
        split: "ncclCommSplit",
            (communicator: usize, color: c_int, key: c_int, out: &mut usize, config: usize);
        count: "ncclCommCount", (communicator: usize, out: &mut c_int);
        user_rank: "ncclCommUserRank", (communicator: usize, out: &mut c_int);
        destroy: "ncclCommDestroy", (communicator: usize);
        abort: "ncclCommAbort", (communicator: usize);
        async_error: "ncclCommGetAsyncError", (communicator: usize, out: &mut c_int);
        group_start: "ncclGroupStart", ();
        group_end: "ncclGroupEnd", ();
        all_reduce: "ncclAllReduce",
            (send: u64, receive: u64, count: usize, kind: c_uint, operation: c_uint,
             communicator: usize, stream: usize);
        reduce_scatter: "ncclReduceScatter",
            (send: u64, receive: u64, count: usize, kind: c_uint, operation: c_uint,
             communicator: usize, stream: usize);
        all_gather: "ncclAllGather",
            (send: u64, receive: u64, count: usize, kind: c_uint, communicator: usize,
             stream: usize);
        all_to_all: "ncclAlltoAll",
            (send: u64, receive: u64, count: usize, kind: c_uint, communicator: usize,
             stream: usize);
        broadcast: "ncclBroadcast",
            (send: u64, receive: u64, count: usize, kind: c_uint, root: c_int,
             communicator: usize, stream: usize);
        broadcast_in_place: "ncclBcast",
            (buffer: u64, count: usize, kind: c_uint, root: c_int, communicator: usize,
             stream: usize);
        reduce: "ncclReduce",
            (send: u64, receive: u64, count: usize, kind: c_uint, operation: c_uint,
             root: c_int, communicator: usize, stream: usize);
        send: "ncclSend",
            (buffer: u64, count: usize, kind: c_uint, peer: c_int, communicator: usize,
             stream: usize);
        receive: "ncclRecv",
            (buffer: u64, count: usize, kind: c_uint, peer: c_int, communicator: usize,
             stream: usize);
    }
}

/// `ncclUniqueId`, passed by value.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct UniqueId([u8; 128]);

/// Kinds of collectives: indices and names.
pub(crate) const ALL_REDUCE: usize = 0;
const BROADCAST: usize = 4;
const SEND: usize = 6;
const RECEIVE: usize = 7;
pub(crate) const COLLECTIVES: [&str; 8] = [
    "all-reduce",
    "reduce-scatter",
    "all-gather",
    "all-to-all",
    "broadcast",
    "reduce",
    "send",
    "recv",
];

/// `ncclFloat32` and its bytes; `ncclSum`.
const FLOAT32: c_uint = 7;
const FLOAT32_BYTES: u64 = 4;
const SUM: c_uint = 0;

/// What comes of a communicator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Destroyed,
    Aborted,
}

impl End {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Destroyed => "destroyed",
            Self::Aborted => "aborted",
        }
    }
}

/// A communicator that was used.
pub(crate) struct Ended {
    pub(crate) rank: u32,
    pub(crate) ranks: u32,
    pub(crate) part: Option<u32>,
    pub(crate) end: End,
    pub(crate) asked: Asked,
}

/// NCCL's library.
pub(crate) struct Nccl(Functions);

/// A rank.
pub(crate) struct Communicator<'a> {
    functions: &'a Functions,
    handle: usize,
    pub(crate) rank: u32,
    pub(crate) ranks: u32,
    /// The colour, of a part that another one was split into.
    pub(crate) part: Option<u32>,
    asked: Asked,
}

/// Calls and their bytes by kind.
#[derive(Default)]
pub(crate) struct Asked(pub(crate) [(AtomicU64, AtomicU64); 8]);

/// Returns 128 random bytes as text, as an id for `--id`.
pub(crate) fn new_id() -> String {
    hex(&random())
}

fn random() -> [u8; 128] {
    let mut id = [0; 128];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut id[..28]));
    if read.is_err() {
        id[..4].copy_from_slice(&std::process::id().to_ne_bytes());
    }
    id
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl UniqueId {
    pub(crate) fn new() -> Self {
        Self(random())
    }

    /// Reads an id as text; what is missing at its end is zeros.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut id = [0; 128];
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || text.is_empty() || !text.len().is_multiple_of(2) || text.len() > 256 {
            return Err("--id is up to 256 hexadecimal digits: `gpu-workload id` makes one".into());
        }
        for (byte, index) in id.iter_mut().zip((0..text.len()).step_by(2)) {
            *byte = u8::from_str_radix(&text[index..index + 2], 16).unwrap_or(0);
        }
        Ok(Self(id))
    }

    pub(crate) fn text(&self) -> String {
        hex(&self.0)
    }
}

impl Nccl {
    pub(crate) fn new(library: Library) -> Self {
        Self(Functions::new(|name| library.symbol(name)))
    }

    /// Becomes a rank; returns when all are there.
    pub(crate) fn join(
        &self,
        id: UniqueId,
        rank: u32,
        ranks: u32,
    ) -> Result<Communicator<'_>, Failure> {
        let mut handle = 0;
        self.0
            .init(&mut handle, ranks.cast_signed(), id, rank.cast_signed())
            .map_err(failed("ncclCommInitRank"))?;
        Ok(self.communicator(handle, rank, ranks))
    }

    /// Becomes all ranks, each on the device of its number, and returns their handles.
    pub(crate) fn join_all(&self, ranks: u32) -> Result<Vec<usize>, Failure> {
        let mut handles = vec![0_usize; ranks as usize];
        let out = handles.as_mut_ptr().expose_provenance();
        self.0.init_all(out, ranks.cast_signed(), 0).map_err(failed("ncclCommInitAll"))?;
        Ok(handles)
    }

    /// Takes a rank's handle.
    pub(crate) fn communicator(&self, handle: usize, rank: u32, ranks: u32) -> Communicator<'_> {
        let (functions, asked) = (&self.0, Asked::default());
        Communicator { functions, handle, rank, ranks, part: None, asked }
    }
}

fn failed(call: &'static str) -> impl FnOnce(Code) -> Failure {
    move |code| Failure { call, code }
}

impl<'a> Communicator<'a> {
    /// Splits it, with all other ranks, into so many parts in which the last rank is the first.
    pub(crate) fn split(&self, parts: u32) -> Result<Communicator<'a>, Failure> {
        let functions = self.functions;
        let part = self.rank % parts;
        let (color, key) = (part.cast_signed(), -self.rank.cast_signed());
        let (mut handle, mut rank, mut ranks) = (0, 0, 0);
        functions
            .split(self.handle, color, key, &mut handle, 0)
            .map_err(failed("ncclCommSplit"))?;
        functions.user_rank(handle, &mut rank).map_err(failed("ncclCommUserRank"))?;
        functions.count(handle, &mut ranks).map_err(failed("ncclCommCount"))?;
        let (rank, ranks) = (rank.cast_unsigned(), ranks.cast_unsigned());
        Ok(Communicator {
            functions,
            handle,
            rank,
            ranks,
            part: Some(part),
            asked: Asked::default(),
        })
    }

    /// Asks for a collective of the given number of bytes.
    pub(crate) fn ask(
        &self,
        kind: usize,
        buffer: u64,
        bytes: u64,
        stream: usize,
    ) -> Result<(), Failure> {
        let count = (bytes / FLOAT32_BYTES).max(1);
        let (functions, handle) = (self.functions, self.handle);
        let (length, peer) = (count as usize, (self.rank + 1) % self.ranks);
        let (to, from) = (buffer, buffer);
        let root = 0;
        let asked = match kind {
            ALL_REDUCE => functions.all_reduce(to, from, length, FLOAT32, SUM, handle, stream),
            1 => functions.reduce_scatter(to, from, length, FLOAT32, SUM, handle, stream),
            2 => functions.all_gather(to, from, length, FLOAT32, handle, stream),
            3 => functions.all_to_all(to, from, length, FLOAT32, handle, stream),
            BROADCAST => functions.broadcast(to, from, length, FLOAT32, root, handle, stream),
            5 => functions.reduce(to, from, length, FLOAT32, SUM, root, handle, stream),
            SEND => functions.send(to, length, FLOAT32, peer.cast_signed(), handle, stream),
            _ => functions.receive(to, length, FLOAT32, peer.cast_signed(), handle, stream),
        };
        asked.map_err(failed(COLLECTIVES[kind]))?;
        self.count(kind, count * FLOAT32_BYTES);
        Ok(())
    }

    /// Asks for one of each kind; those between two ranks as a group.
    pub(crate) fn ask_each(&self, buffer: u64, bytes: u64, stream: usize) -> Result<(), Failure> {
        (0..SEND).try_for_each(|kind| self.ask(kind, buffer, bytes, stream))?;
        let count = (bytes / FLOAT32_BYTES).max(1);
        let (functions, handle) = (self.functions, self.handle);
        functions
            .broadcast_in_place(buffer, count as usize, FLOAT32, 0, handle, stream)
            .map_err(failed("ncclBcast"))?;
        self.count(BROADCAST, count * FLOAT32_BYTES);
        functions.group_start().map_err(failed("ncclGroupStart"))?;
        self.ask(SEND, buffer, bytes, stream)?;
        self.ask(RECEIVE, buffer, bytes, stream)?;
        functions.group_end().map_err(failed("ncclGroupEnd"))
    }

    fn count(&self, kind: usize, bytes: u64) {
        let (count, sum) = &self.asked.0[kind];
        count.fetch_add(1, Relaxed);
        sum.fetch_add(bytes, Relaxed);
    }

    /// Whether another rank gave up.
    pub(crate) fn is_broken(&self) -> Result<bool, Failure> {
        let mut error = 0;
        self.functions
            .async_error(self.handle, &mut error)
            .map_err(failed("ncclCommGetAsyncError"))?;
        Ok(error != 0)
    }

    /// Ends it and returns what it was.
    pub(crate) fn end(self, end: End) -> Result<Ended, Failure> {
        match end {
            End::Destroyed => {
                self.functions.destroy(self.handle).map_err(failed("ncclCommDestroy"))?;
            }
            End::Aborted => {
                self.functions.abort(self.handle).map_err(failed("ncclCommAbort"))?;
            }
        }
        let Self { rank, ranks, part, asked, .. } = self;
        Ok(Ended { rank, ranks, part, end, asked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = UniqueId::new();
        assert_eq!(UniqueId::parse(&id.text()).unwrap().0, id.0);
        assert_eq!(UniqueId::parse("0aff").unwrap().0[..3], [0x0a, 0xff, 0]);
        for text in ["", "0", "xy", "+1", &"00".repeat(129)] {
            assert!(UniqueId::parse(text).is_err(), "{text}");
        }
    }
}
