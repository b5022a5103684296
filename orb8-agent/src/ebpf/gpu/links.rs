//! Programs at places in files.
//!
//! Newer kernels (6.6) attach a program to many places by one link. That matters when a link goes: the
//! kernel then waits until no program runs, some 0.1 s on current ones, for each link again. Older ones
//! take a link for each place, and wait less.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use aya::programs::uprobe::UProbeLink;
use orb8_common::gpu::hook_cookie;

use crate::ebpf::object::{Object, map_error};
use crate::ebpf::sys::{
    MultiProbe, link_multi_probe, load_multi_probe, new_program_array, run_time,
};
use crate::ebpf::{EbpfError, GPU_OBJECT};
use crate::status::ProgramRun;

/// The program that stands for all that are at a call's beginning.
const ANY: &str = "gpu_any";
/// Those at its return.
const RETURNS: [&str; 2] = ["gpu_returned", "nccl_returned"];

/// The table of programs that all name and none uses. Newer kernels (6.18, and older ones that were
/// mended since) let only programs of one kind of link name the same.
const OF_ONE_KIND: &str = "NO_PROGRAMS";

/// Where programs are to be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The program for when the call begins.
    pub program: &'static str,
    /// The program for when it returns.
    pub returns: Option<&'static str>,
    /// Byte of the file.
    pub offset: u64,
}

/// Programs that are attached, for as long as this is there.
#[derive(Debug, Default)]
pub struct ProbeLinks {
    // In this order: a return whose beginning was not seen is known for that, and not the reverse.
    beginnings: Vec<Link>,
    returns: Vec<Link>,
}

/// One link.
#[derive(Debug)]
pub(super) enum Link {
    One { _link: UProbeLink },
    Many { _link: OwnedFd },
}

/// The programs as they are loaded for links of many places.
pub(super) struct Multi {
    any: OwnedFd,
    returns: HashMap<&'static str, OwnedFd>,
}

impl ProbeLinks {
    /// How many links there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.beginnings.len() + self.returns.len()
    }

    /// Whether calls are followed to their return.
    #[must_use]
    pub const fn has_returns(&self) -> bool {
        !self.returns.is_empty()
    }

    /// Parts those at beginnings from those at returns, which are to go after them.
    #[must_use]
    pub fn split(self) -> (Self, Self) {
        let Self { beginnings, returns } = self;
        (Self { beginnings, returns: Vec::new() }, Self { beginnings: Vec::new(), returns })
    }

    pub(super) fn add_one(&mut self, beginning: UProbeLink, returning: Option<UProbeLink>) {
        self.beginnings.push(Link::One { _link: beginning });
        self.returns.extend(returning.map(|link| Link::One { _link: link }));
    }
}

impl Multi {
    /// Loads the programs, into the maps of the loaded object.
    pub(super) fn load(object: &Object, globals: &[(&str, &[u8])]) -> Result<Self, EbpfError> {
        let mut code = aya_obj::Object::parse(GPU_OBJECT).map_err(|error| object.refused(error))?;
        let globals = globals.iter().map(|(name, value)| (*name, (*value, true))).collect();
        code.patch_map_data(globals).map_err(|error| object.refused(error))?;
        let maps = std::mem::take(&mut code.maps);
        let of_multi = new_program_array().map_err(map_error("making a table of programs"))?;
        let mut found = Vec::new();
        for (name, map) in &maps {
            let descriptor = match name.as_str() {
                OF_ONE_KIND => of_multi.as_fd(),
                name => object.find_map(name).ok_or(object.incomplete("a map"))?,
            };
            found.push((name.as_str(), descriptor.as_raw_fd(), map));
        }
        let sections: HashSet<usize> = code.functions.keys().map(|(section, _)| *section).collect();
        let relocated = code.relocate_maps(found.into_iter(), &sections);
        relocated.map_err(|error| object.refused(error))?;
        code.relocate_calls(&sections).map_err(|error| object.refused(error))?;
        let load = |name: &'static str| {
            let program = code.programs.get(name).ok_or(object.incomplete(name))?;
            let function = code.functions.get(&program.function_key());
            let function = function.ok_or(object.incomplete(name))?;
            load_multi_probe(name, &function.instructions, &program.license)
                .map_err(|error| object.refused(error))
        };
        let returns = RETURNS.into_iter().map(|name| Ok((name, load(name)?)));
        Ok(Self { any: load(ANY)?, returns: returns.collect::<Result<_, EbpfError>>()? })
    }

    /// Run time and runs of each program.
    pub(super) fn run_times(&self) -> Vec<ProgramRun> {
        let returns = self.returns.iter().map(|(name, program)| (*name, program));
        let run = |(name, program): (&str, &OwnedFd)| {
            Some(ProgramRun { name: name.into(), run: run_time(program.as_fd()).ok()? })
        };
        returns.chain([(ANY, &self.any)]).filter_map(run).collect()
    }

    /// Attaches to all places, or to none.
    pub(super) fn attach(&self, file: &File, places: &[Place]) -> io::Result<ProbeLinks> {
        let path = CString::new(path(file.as_fd()))?;
        let mut links = ProbeLinks::default();
        // A map's iteration has no order, and needs none.
        for (name, program) in &self.returns {
            let of_program = places.iter().filter(|place| place.returns == Some(*name));
            let offsets: Vec<u64> = of_program.map(|place| place.offset).collect();
            if !offsets.is_empty() {
                let probe =
                    MultiProbe { path: &path, offsets: &offsets, cookies: None, at_return: true };
                let link = link_multi_probe(program.as_fd(), &probe)?;
                links.returns.push(Link::Many { _link: link });
            }
        }
        let offsets: Vec<u64> = places.iter().map(|place| place.offset).collect();
        let cookies: Vec<u64> =
            places.iter().map(|place| hook_cookie(place.program).into()).collect();
        let cookies = Some(cookies.as_slice());
        let probe = MultiProbe { path: &path, offsets: &offsets, cookies, at_return: false };
        let link = link_multi_probe(self.any.as_fd(), &probe)?;
        links.beginnings.push(Link::Many { _link: link });
        Ok(links)
    }
}

/// The kernel takes a path, and this one is the file itself, in whatever namespace it is and whether or
/// not it was deleted meanwhile.
pub(super) fn path(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}
