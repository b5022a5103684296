//! What every loaded object has: programs and maps by name, a ring, counters.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapData, PerCpuArray},
    programs::Program,
};

use super::EbpfError;
use super::ring::RingReader;
use crate::status::{BpfRun, ProgramRun};

/// One object, loaded. Dropping it unloads everything.
pub(super) struct Object {
    name: &'static str,
    ebpf: Ebpf,
    map_bytes: u64,
}

impl Object {
    /// Loads the object of a signal from its embedded bytes.
    pub(super) fn load(
        name: &'static str,
        loader: &mut EbpfLoader<'_>,
        bytes: &[u8],
    ) -> Result<Self, EbpfError> {
        let ebpf = loader.load(bytes).map_err(load_error(name))?;
        // Now, while all of them are here to be asked.
        let maps = ebpf.maps().filter_map(|(_, map)| data_of(map));
        let map_bytes = maps.map(|data| memlock(data.fd().as_fd())).sum();
        Ok(Self { name, ebpf, map_bytes })
    }

    /// Returns a program of the kind that the caller expects.
    pub(super) fn program<'a, P>(&'a mut self, name: &'static str) -> Result<&'a mut P, EbpfError>
    where
        &'a mut P: TryFrom<&'a mut aya::programs::Program>,
    {
        let missing = self.incomplete(name);
        let Some(program) = self.ebpf.program_mut(name) else { return Err(missing) };
        program.try_into().map_err(|_| missing)
    }

    /// Returns the descriptor of a map.
    pub(super) fn map(&self, name: &'static str) -> Result<BorrowedFd<'_>, EbpfError> {
        self.find_map(name).ok_or(self.incomplete(name))
    }

    /// Returns the descriptor of a map, if it has one of that name.
    pub(super) fn find_map(&self, name: &str) -> Option<BorrowedFd<'_>> {
        Some(self.ebpf.map(name).and_then(data_of)?.fd().as_fd())
    }

    /// Takes the reader of the ring `EVENTS`. There is one.
    pub(super) fn take_ring(&mut self) -> Result<RingReader, EbpfError> {
        let Some(Map::RingBuf(ring)) = self.ebpf.take_map("EVENTS") else {
            return Err(self.incomplete("EVENTS"));
        };
        RingReader::new(ring).map_err(map_error("mapping the ring"))
    }

    /// Takes the per-CPU counters `COUNTERS`. There is one reader.
    pub(super) fn take_counters<const N: usize>(&mut self) -> Result<Counters<N>, EbpfError> {
        let map = self.ebpf.take_map("COUNTERS").ok_or(self.incomplete("COUNTERS"))?;
        PerCpuArray::try_from(map).map(Counters).map_err(load_error(self.name))
    }

    /// Takes a map of the kind that the caller expects. There is one.
    pub(super) fn take_map<M>(&mut self, name: &'static str) -> Result<M, EbpfError>
    where
        M: TryFrom<Map, Error = aya::maps::MapError>,
    {
        let map = self.ebpf.take_map(name).ok_or(self.incomplete(name))?;
        M::try_from(map).map_err(load_error(self.name))
    }

    /// Memory that the kernel says the maps take, bytes.
    pub(super) const fn map_bytes(&self) -> u64 {
        self.map_bytes
    }

    /// Run time and runs of each loaded program; all zero where the kernel keeps no statistics.
    pub(super) fn run_times(&self) -> Vec<ProgramRun> {
        let run = |(name, program): (&str, &Program)| {
            let info = program.info().ok()?;
            let run_ns = u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX);
            Some(ProgramRun { name: name.into(), run: BpfRun { run_ns, runs: info.run_count() } })
        };
        self.ebpf.programs().filter_map(run).collect()
    }

    /// Turns what the kernel says into an error of this object.
    pub(super) fn refused(
        &self,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> EbpfError {
        load_error(self.name)(source)
    }

    /// The error for a part that the object should have.
    pub(super) const fn incomplete(&self, part: &'static str) -> EbpfError {
        EbpfError::Incomplete { object: self.name, part }
    }
}

fn load_error<E: std::error::Error + Send + Sync + 'static>(
    object: &'static str,
) -> impl Fn(E) -> EbpfError {
    move |source| EbpfError::Load { object, source: Box::new(source) }
}

pub(super) fn map_error(operation: &'static str) -> impl Fn(io::Error) -> EbpfError {
    move |source| EbpfError::Map { operation, source }
}

pub(super) fn attach_error<E: std::error::Error + Send + Sync + 'static>(
    program: &'static str,
    target: &str,
) -> impl Fn(E) -> EbpfError {
    let target = target.to_owned();
    move |source| EbpfError::Attach { program, target: target.clone(), source: Box::new(source) }
}

const fn data_of(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data)
        | Map::SkStorage(data) => Some(data),
        _ => None,
    }
}

/// The `memlock` line of the descriptor's fdinfo.
fn memlock(fd: BorrowedFd<'_>) -> u64 {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("memlock:"))
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

/// Per-CPU counters, an array for each CPU.
pub(super) struct Counters<const N: usize>(PerCpuArray<MapData, PerCpu<N>>);

/// The entry of one CPU.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct PerCpu<const N: usize>([u64; N]);

// SAFETY: an array of integers.
unsafe impl<const N: usize> aya::Pod for PerCpu<N> {}

impl<const N: usize> Counters<N> {
    /// Sums them over the CPUs.
    pub(super) fn sum(&self) -> Result<[u64; N], EbpfError> {
        let cpus = self.0.get(&0, 0).map_err(|error| EbpfError::Map {
            operation: "reading the counters",
            source: io::Error::other(error),
        })?;
        let mut sum = [0; N];
        for cpu in cpus.iter() {
            for (total, value) in sum.iter_mut().zip(cpu.0) {
                *total += value;
            }
        }
        Ok(sum)
    }
}
