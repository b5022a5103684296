//! The `gpu` object: loading, attaching, reading.
//!
//! Its parts go to different owners: probes to who attaches them, sums to who reads them, and the ring.

mod calibration;
mod links;
mod sums;

use std::fs::File;
use std::os::fd::AsFd;

use aya::{
    EbpfLoader,
    maps::{Array, MapData},
    programs::{
        UProbe,
        uprobe::{UProbeLink, UProbeScope},
    },
};
use orb8_common::gpu::Control;
use tracing::debug;

use super::{
    EbpfError, GPU_OBJECT,
    object::{Object, attach_error, map_error},
    ring::RingReader,
};
use crate::status::ProgramRun;
use calibration::Code;
pub use calibration::ProbeCosts;
use links::Multi;
pub use links::{Place, ProbeLinks};
pub use sums::GpuSums;

const OBJECT: &str = "gpu";

/// What is set when the object is loaded.
#[derive(Clone, Debug)]
pub struct GpuOptions {
    /// Bytes of the ring: a power of two and a multiple of the page size.
    pub ring_size: u32,
    /// Whether many places may have one link, where the kernel can.
    pub links_many: bool,
}

impl Default for GpuOptions {
    fn default() -> Self {
        Self { ring_size: 1 << 20, links_many: true }
    }
}

/// The loaded object, in its parts. When all are dropped, everything is detached and unloaded.
pub struct GpuObject {
    /// What is attached.
    pub probes: GpuProbes,
    /// What is counted.
    pub sums: GpuSums,
    /// What is told.
    pub ring: RingReader,
}

/// The programs.
pub struct GpuProbes {
    object: Object,
    /// Where the kernel links many places at once.
    multi: Option<Multi>,
    control: Array<MapData, Shared>,
    epoch: u64,
}

/// What the programs are told.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Shared(Control);

// SAFETY: integers.
unsafe impl aya::Pod for Shared {}

impl GpuObject {
    /// Loads the object for the running kernel. Its programs are loaded as they are attached.
    ///
    /// # Errors
    /// [`EbpfError::Load`] with the kernel's words.
    pub fn load(options: &GpuOptions) -> Result<Self, EbpfError> {
        let is_arm64 = u8::from(cfg!(target_arch = "aarch64"));
        let mut loader = EbpfLoader::new();
        loader
            .override_global("IS_ARM64", &is_arm64, true)
            .map_max_entries("EVENTS", options.ring_size);
        let mut object = Object::load(OBJECT, &mut loader, GPU_OBJECT)?;
        let multi = if options.links_many { load_multi(&object, is_arm64) } else { None };
        let sums = GpuSums::take(&mut object)?;
        let ring = object.take_ring()?;
        let control = object.take_map("CONTROL")?;
        Ok(Self { probes: GpuProbes { object, multi, control, epoch: 0 }, sums, ring })
    }
}

/// Loads the programs for links of many places. Whether the kernel has such links, only making one
/// tells.
fn load_multi(object: &Object, is_arm64: u8) -> Option<Multi> {
    let code = Code::new().ok()?;
    let multi = Multi::load(object, &[("IS_ARM64", &[is_arm64])]);
    let place = Place { program: "gpu_nothing", returns: Some("gpu_returned"), offset: 0 };
    let tried = multi.map(|multi| multi.attach(code.file(), &[place]).map(|_| multi));
    match tried {
        Ok(Ok(multi)) => Some(multi),
        Ok(Err(error)) => {
            debug!(%error, "no links of many places: each has its own");
            None
        }
        Err(error) => {
            debug!(error = crate::error::chain(&error), "no links of many places");
            None
        }
    }
}

impl GpuProbes {
    /// Attaches programs to places of a file, in all processes that map it, now or later. Where some
    /// are refused, the others are attached: returns which were, by their number, and why.
    #[must_use]
    pub fn attach(
        &mut self,
        file: &File,
        places: &[Place],
    ) -> (ProbeLinks, Vec<(usize, EbpfError)>) {
        if let Some(Ok(links)) = self.multi.as_ref().map(|multi| multi.attach(file, places)) {
            return (links, Vec::new());
        }
        let mut links = ProbeLinks::default();
        let mut refused = Vec::new();
        for (index, place) in places.iter().enumerate() {
            match self.attach_one(file, place) {
                Ok((beginning, returning)) => links.add_one(beginning, returning),
                Err(error) => refused.push((index, error)),
            }
        }
        (links, refused)
    }

    fn attach_one(
        &mut self,
        file: &File,
        place: &Place,
    ) -> Result<(UProbeLink, Option<UProbeLink>), EbpfError> {
        let Place { program, returns, offset } = *place;
        // In this order, so that no call is seen to begin that is not seen to return.
        let returning = match returns {
            Some(returns) => Some(self.attach_program(returns, file, offset)?),
            None => None,
        };
        Ok((self.attach_program(program, file, offset)?, returning))
    }

    fn attach_program(
        &mut self,
        name: &'static str,
        file: &File,
        offset: u64,
    ) -> Result<UProbeLink, EbpfError> {
        let program: &mut UProbe = self.object.program(name)?;
        if program.fd().is_err() {
            let loaded = program.load();
            loaded.map_err(|error| self.object.refused(error))?;
        }
        let refused = |error| attach_error(name, &format!("byte {offset:#x}"))(error);
        let program: &mut UProbe = self.object.program(name)?;
        let path = links::path(file.as_fd());
        let link = program.attach(offset, path, UProbeScope::AllProcesses).map_err(refused)?;
        program.take_link(link).map_err(refused)
    }

    /// Whether many places have one link, whose end costs the same as that of one place.
    #[must_use]
    pub const fn links_many(&self) -> bool {
        self.multi.is_some()
    }

    /// Says that probes at returns were taken away: nothing that began before counts as lasting.
    ///
    /// # Errors
    /// [`EbpfError::Map`].
    pub fn begin_epoch(&mut self) -> Result<(), EbpfError> {
        self.epoch += 1;
        let control = Shared(Control { epoch: self.epoch });
        let set = self.control.set(0, control, 0).map_err(std::io::Error::other);
        set.map_err(map_error("telling the programs that probes went"))
    }

    /// Returns run time and runs of each loaded program; all zero where the kernel keeps no statistics.
    #[must_use]
    pub fn run_times(&self) -> Vec<ProgramRun> {
        let mut programs = self.object.run_times();
        for many in self.multi.iter().flat_map(Multi::run_times) {
            match programs.iter_mut().find(|one| one.name == many.name) {
                // Loaded twice: for links of one place and of many.
                Some(one) => {
                    one.run.run_ns += many.run.run_ns;
                    one.run.runs += many.run.runs;
                }
                None => programs.push(many),
            }
        }
        programs
    }
}
