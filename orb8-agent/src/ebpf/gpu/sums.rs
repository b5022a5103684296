//! What the programs count.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{HashMap, MapData, MapError};
use orb8_common::gpu::{
    COLLECTIVE_KINDS, Collectives, CollectivesKey, Counter, PROCESSES, Process,
};
use zerocopy::FromBytes;

use crate::ebpf::EbpfError;
use crate::ebpf::object::{Counters, Object, map_error};
use crate::ebpf::sys::BatchRead;

/// Collectives, and calls that have not returned, that are read by one call.
const AT_ONCE: usize = 1024;

/// The maps that count.
pub struct GpuSums {
    processes: HashMap<MapData, u32, Shared<Process>>,
    collectives: HashMap<MapData, Shared<CollectivesKey>, Shared<Collectives>>,
    /// Keys are thread and layer, as the programs have them; the values are theirs alone.
    in_flight: HashMap<MapData, u64, Pending>,
    counters: Counters<{ Counter::COUNT }>,
    process_reader: (OwnedFd, BatchRead),
    collective_reader: (OwnedFd, BatchRead),
    in_flight_reader: (OwnedFd, BatchRead),
    map_bytes: u64,
}

/// A record that the kernel and the agent share.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Shared<T: Copy>(T);

// SAFETY: integers.
unsafe impl aya::Pod for Shared<Process> {}
// SAFETY: integers.
unsafe impl aya::Pod for Shared<CollectivesKey> {}
// SAFETY: integers.
unsafe impl aya::Pod for Shared<Collectives> {}

/// Bytes of what the programs keep of a call.
type Pending = [u8; 64];

impl GpuSums {
    pub(super) fn take(object: &mut Object) -> Result<Self, EbpfError> {
        let descriptor = |name| {
            let map = object.map(name)?.try_clone_to_owned();
            map.map_err(map_error("keeping a map's descriptor"))
        };
        let processes = BatchRead::new(size_of::<u32>(), size_of::<Process>(), PROCESSES);
        let collectives =
            BatchRead::new(size_of::<CollectivesKey>(), size_of::<Collectives>(), AT_ONCE);
        let in_flight = BatchRead::new(size_of::<u64>(), size_of::<Pending>(), AT_ONCE);
        Ok(Self {
            process_reader: (descriptor("PROCESSES")?, processes),
            collective_reader: (descriptor("COLLECTIVE_COUNTS")?, collectives),
            in_flight_reader: (descriptor("IN_FLIGHT")?, in_flight),
            map_bytes: object.map_bytes(),
            processes: object.take_map("PROCESSES")?,
            collectives: object.take_map("COLLECTIVE_COUNTS")?,
            in_flight: object.take_map("IN_FLIGHT")?,
            counters: object.take_counters()?,
        })
    }

    /// Hands each process's sums to `visit`.
    ///
    /// # Errors
    /// [`EbpfError::Map`]. What was read until then was handed over.
    pub fn processes(&mut self, mut visit: impl FnMut(u32, &Process)) -> Result<(), EbpfError> {
        let (map, reader) = &mut self.process_reader;
        let read = reader.run(map.as_fd(), |tgid, process| {
            let tgid = u32::read_from_bytes(tgid);
            if let (Ok(tgid), Ok(process)) = (tgid, Process::read_from_bytes(process)) {
                visit(tgid, &process);
            }
        });
        read.map(drop).map_err(map_error("reading the sums of processes"))
    }

    /// Hands each communicator's collectives of each kind to `visit`.
    ///
    /// # Errors
    /// [`EbpfError::Map`]. What was read until then was handed over.
    pub fn collectives(
        &mut self,
        mut visit: impl FnMut(CollectivesKey, &Collectives),
    ) -> Result<(), EbpfError> {
        let (map, reader) = &mut self.collective_reader;
        let read = reader.run(map.as_fd(), |key, collectives| {
            let key = CollectivesKey::read_from_bytes(key);
            if let (Ok(key), Ok(collectives)) = (key, Collectives::read_from_bytes(collectives)) {
                visit(key, &collectives);
            }
        });
        read.map(drop).map_err(map_error("reading the sums of collectives"))
    }

    /// Sums the per-CPU counters. Indexed by [`Counter`].
    ///
    /// # Errors
    /// [`EbpfError::Map`].
    pub fn counters(&self) -> Result<[u64; Counter::COUNT], EbpfError> {
        self.counters.sum()
    }

    /// Removes all that is counted of a process, which ended. Should it call again, it begins anew.
    /// Returns how many of its calls had not returned.
    ///
    /// # Errors
    /// [`EbpfError::Map`].
    pub fn forget(&mut self, tgid: u32) -> Result<usize, EbpfError> {
        removed(self.processes.remove(&tgid))?;
        // In batches: going from key to key begins anew where one went meanwhile, and calls come and go.
        let mut calls = Vec::new();
        let (map, reader) = &mut self.in_flight_reader;
        let read = reader.run(map.as_fd(), |key, _| {
            let of_process = |key: &u64| (key & !LAYER) >> 32 == u64::from(tgid);
            calls.extend(u64::read_from_bytes(key).ok().filter(of_process));
        });
        read.map_err(map_error("reading the calls that have not returned"))?;
        for key in &calls {
            removed(self.in_flight.remove(key))?;
        }
        let mut collectives = Vec::new();
        self.collectives(|key, _| collectives.extend((key.tgid == tgid).then_some(Shared(key))))?;
        for key in &collectives {
            removed(self.collectives.remove(key))?;
        }
        Ok(calls.len())
    }

    /// Removes what is counted of a communicator, which ended: another may be given its address.
    ///
    /// # Errors
    /// [`EbpfError::Map`].
    pub fn forget_communicator(&mut self, tgid: u32, communicator: u64) -> Result<(), EbpfError> {
        for kind in (0..).take(COLLECTIVE_KINDS) {
            let key = Shared(CollectivesKey { communicator, tgid, kind });
            removed(self.collectives.remove(&key))?;
        }
        Ok(())
    }

    /// Memory that the kernel says the maps take, bytes.
    #[must_use]
    pub const fn map_bytes(&self) -> u64 {
        self.map_bytes
    }
}

/// What tells NCCL's calls from the driver's in a key.
const LAYER: u64 = 1 << 63;

/// What is not there is as good as removed.
fn removed(result: Result<(), MapError>) -> Result<(), EbpfError> {
    match result {
        Ok(()) | Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        Err(error) => Err(EbpfError::Map {
            operation: "removing what ended",
            source: io::Error::other(error),
        }),
    }
}
