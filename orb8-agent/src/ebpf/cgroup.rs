//! The `cgroup` object: cgroups as they come and go.

use aya::{Btf, EbpfLoader, programs::RawTracePoint};
use orb8_common::cgroup::{Counter, Offsets};

use super::{
    CGROUP_OBJECT, EbpfError,
    btf::KernelTypes,
    object::{Counters, Object, attach_error, map_error},
    ring::RingReader,
};
use crate::status::ProgramRun;

const OBJECT: &str = "cgroup";

/// Programs and their tracepoints.
const TRACEPOINTS: [(&str, &str); 2] =
    [("cgroup_made", "cgroup_mkdir"), ("cgroup_removed", "cgroup_rmdir")];

/// Bytes of the ring, a multiple of every page size: some 450 new cgroups, which takes the kernel tens
/// of milliseconds to make.
pub const CGROUP_RING: u32 = 128 * 1024;

/// The loaded object, attached. Dropping it detaches and unloads everything.
pub struct CgroupObject {
    object: Object,
    counters: Counters<{ Counter::COUNT }>,
}

/// What the loader sets in the programs.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Shared(Offsets);

// SAFETY: integers.
unsafe impl aya::Pod for Shared {}

impl CgroupObject {
    /// Loads the object for the running kernel, whose types are `btf`, and attaches it: cgroups are
    /// told of from then on.
    ///
    /// # Errors
    /// [`EbpfError::Unknown`] where the kernel's structures are not told, [`EbpfError::Load`] and
    /// [`EbpfError::Attach`] with the kernel's words.
    pub fn start(btf: &Btf) -> Result<Self, EbpfError> {
        let types = KernelTypes::of_kernel().map_err(map_error("reading the kernel's types"))?;
        let offsets = Shared(offsets(&types)?);
        let mut loader = EbpfLoader::new();
        loader
            .btf(Some(btf))
            .override_global("OFFSETS", &offsets, true)
            .map_max_entries("EVENTS", CGROUP_RING);
        let mut object = Object::load(OBJECT, &mut loader, CGROUP_OBJECT)?;
        for (name, target) in TRACEPOINTS {
            let program: &mut RawTracePoint = object.program(name)?;
            let loaded = program.load();
            loaded.map_err(|error| object.refused(error))?;
            let program: &mut RawTracePoint = object.program(name)?;
            program.attach(target).map(drop).map_err(attach_error(name, target))?;
        }
        Ok(Self { counters: object.take_counters()?, object })
    }

    /// Takes the ring's reader. There is one.
    ///
    /// # Errors
    /// [`EbpfError::Incomplete`] when it was taken before.
    pub fn take_ring(&mut self) -> Result<RingReader, EbpfError> {
        self.object.take_ring()
    }

    /// Returns run time and runs of each loaded program; all zero where the kernel keeps no statistics.
    #[must_use]
    pub fn run_times(&self) -> Vec<ProgramRun> {
        self.object.run_times()
    }

    /// Returns how many changes the ring had no room for, since start.
    ///
    /// # Errors
    /// [`EbpfError::Map`].
    pub fn lost(&self) -> Result<u64, EbpfError> {
        self.counters.sum().map(|sum| sum[Counter::Lost as usize])
    }
}

/// Looks up what the programs read.
fn offsets(types: &KernelTypes) -> Result<Offsets, EbpfError> {
    let member =
        |structure, path, what| types.offset(structure, path).ok_or(EbpfError::Unknown { what });
    Ok(Offsets {
        root: member("cgroup", "root", "the kernel's cgroup.root")?,
        hierarchy_id: member(
            "cgroup_root",
            "hierarchy_id",
            "the kernel's cgroup_root.hierarchy_id",
        )?,
        kn: member("cgroup", "kn", "the kernel's cgroup.kn")?,
        kn_id: member("kernfs_node", "id", "the kernel's kernfs_node.id")?,
    })
}
