//! Puts probes into libraries, and takes them out.
//!
//! ```text
//! processes ─maps─▶ libraries (once per file) ─symbols─▶ sites ─▶ a link for each library and group
//! ```
//! A library is probed in all processes that map it, now or later. It is left when no followed process
//! has mapped it for a while, so that a job that is started again is seen from its first call on.

mod library;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use tracing::{debug, info};

use super::governor::{GROUPS, Group, PerGroup};
use super::libraries::{self, Kind, Mapped};
use super::process::start_time;
use super::prologue::Step;
use super::symbols::{self, Site, Symbols};
use crate::ebpf::{GpuProbes, ProbeCosts, ProbeLinks, is_in_pid_namespace};
use crate::error::chain;
use crate::gpu::config::Roots;
use crate::status::ProgramRun;
use library::{Library, Which, brief};

/// Processes that are followed at one time, as many as the programs count.
const MAX_PROCESSES: usize = orb8_common::gpu::PROCESSES;
/// Libraries that are probed at one time: images with CUDA of their own on a large node.
const MAX_LIBRARIES: usize = 64;
/// For how long a library is probed after the last process.
const LINGER: Duration = Duration::from_mins(1);
/// A process is looked at again after this, and then after twice as long each time: it opens most
/// libraries soon after it started.
const FIRST_LOOK: Duration = Duration::from_millis(500);
/// The longest time between two looks.
const LAST_LOOK: Duration = Duration::from_secs(32);
/// Problems that are told at one time.
const MAX_PROBLEMS: usize = 16;

/// All probes. See the [module](self).
pub struct Attachments {
    probes: GpuProbes,
    costs: ProbeCosts,
    /// Why those are assumed, where they could not be measured.
    assumed: Option<String>,
    proc: PathBuf,
    libraries: BTreeMap<LibraryId, Library>,
    next_id: u32,
    processes: HashMap<u32, Followed>,
    is_on: PerGroup<bool>,
    /// Processes that were left out since there are too many.
    left_out: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LibraryId(u32);

/// A process that is followed.
struct Followed {
    start: u64,
    libraries: Vec<((String, u64), LibraryId)>,
    /// Why some of its libraries are not watched.
    problems: Vec<Arc<str>>,
    next_look: Instant,
    pause: Duration,
}

impl Attachments {
    /// Takes over the programs, and measures what they cost here. Nothing is attached yet, and all groups
    /// are on.
    #[must_use]
    pub fn new(mut probes: GpuProbes, roots: &Roots) -> Self {
        let (costs, assumed) = match probes.calibrate() {
            Ok(costs) => (costs, None),
            Err(error) => (ProbeCosts::default(), Some(brief(&error))),
        };
        Self {
            probes,
            costs,
            assumed,
            proc: roots.proc.clone(),
            libraries: BTreeMap::new(),
            next_id: 0,
            processes: HashMap::new(),
            is_on: [true; GROUPS],
            left_out: 0,
        }
    }

    /// Looks at the processes' libraries, probes those that are new, and leaves those that no process
    /// has mapped for long.
    pub fn follow(&mut self, pids: &[u32], now: Instant) {
        self.left_out = pids.len().saturating_sub(MAX_PROCESSES);
        let pids = &pids[..pids.len() - self.left_out];
        self.processes.retain(|pid, _| pids.contains(pid));
        for pid in pids {
            self.follow_one(*pid, now);
        }
        self.leave_unused(now);
    }

    fn follow_one(&mut self, pid: u32, now: Instant) {
        let Some(start) = start_time(&self.proc.join(pid.to_string())) else {
            self.processes.remove(&pid);
            return;
        };
        let known = self.processes.remove(&pid).filter(|known| known.start == start);
        let mut process = known.unwrap_or_else(|| Followed::new(start, now));
        if now >= process.next_look {
            process.wait(now);
            self.look(pid, &mut process, now);
        }
        for (_, id) in &process.libraries {
            if let Some(library) = self.libraries.get_mut(id) {
                library.last_used = now;
            }
        }
        self.processes.insert(pid, process);
    }
}

/// What of a process's calls can be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Libraries in which its calls are watched.
    pub libraries: Vec<Arc<str>>,
    /// What is not watched, and why.
    pub missing: Vec<Arc<str>>,
}

impl Attachments {
    /// Puts the probes of a group in, or takes them out. Taking out blocks for some tenths of a second on
    /// kernels that wait until no probe runs; calls are not seen any more from its beginning on.
    pub fn set(&mut self, group: Group, is_on: bool) {
        self.is_on[group as usize] = is_on;
        let libraries = self.libraries.values_mut();
        if is_on {
            libraries.for_each(|library| library.attach(&mut self.probes, Some(group), Which::All));
        } else {
            let links = libraries.flat_map(|library| library.detach(Some(group))).collect();
            self.take_out(links);
        }
    }

    /// Whether a group has probes at instructions that are stepped over. Such a probe is first put in by
    /// [`Attachments::set`], in a window.
    #[must_use]
    pub fn expensive_groups(&self) -> PerGroup<bool> {
        let is_expensive = |group: Group| {
            self.sites().any(|site| site.function.group == Some(group) && site.is_expensive())
        };
        Group::ALL.map(is_expensive)
    }

    /// Which groups have probes that wait for a window.
    pub(super) fn waiting_groups(&self) -> PerGroup<bool> {
        Group::ALL.map(|group| self.libraries.values().any(|library| library.waits(group)))
    }

    /// Returns what of a process's calls can be seen.
    #[must_use]
    pub fn coverage(&self, pid: u32) -> Coverage {
        let Some(process) = self.processes.get(&pid) else { return Coverage::default() };
        let mut coverage = Coverage { missing: process.problems.clone(), ..Coverage::default() };
        for (_, id) in &process.libraries {
            if let Some(library) = self.libraries.get(id) {
                coverage.libraries.push(Arc::clone(&library.name));
                coverage.missing.extend(library.missing.iter().cloned());
                coverage.missing.extend(library.waiting());
            }
        }
        coverage
    }

    /// Returns how many probes are attached: places in files.
    #[must_use]
    pub fn probes(&self) -> u32 {
        count(self.attached_sites())
    }

    /// Returns how many of them are at instructions that are stepped over.
    #[must_use]
    pub fn expensive(&self) -> u32 {
        count(self.attached_sites().filter(|site| site.is_expensive()))
    }

    /// Returns what a probe costs here.
    #[must_use]
    pub const fn costs(&self) -> &ProbeCosts {
        &self.costs
    }

    /// Returns run time and runs of each program.
    #[must_use]
    pub fn run_times(&self) -> Vec<ProgramRun> {
        self.probes.run_times()
    }

    /// Returns what does not work, of all processes together.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if is_in_pid_namespace() {
            problems.push(
                "calls are told by the host's process numbers, which are others here: run the agent in \
                 the host's PID namespace (hostPID)"
                    .into(),
            );
        }
        if let Some(why) = &self.assumed {
            problems.push(format!("what a probe costs is assumed, and with it the budget: {why}"));
        }
        if self.left_out > 0 {
            problems.push(format!(
                "{} processes are not watched: no more than {MAX_PROCESSES} at one time",
                self.left_out
            ));
        }
        let of_processes = self.processes.values().flat_map(|process| &process.problems);
        let of_libraries = self.libraries.values().flat_map(|library| &library.missing);
        for problem in of_processes.chain(of_libraries) {
            if problems.len() < MAX_PROBLEMS && !problems.iter().any(|known| **known == **problem) {
                problems.push(problem.to_string());
            }
        }
        problems
    }

    fn sites(&self) -> impl Iterator<Item = &Site> {
        self.libraries.values().flat_map(|library| &library.sites)
    }

    fn attached_sites(&self) -> impl Iterator<Item = &Site> {
        self.libraries
            .values()
            .flat_map(|library| library.sites.iter().filter(|site| library.is_attached(site)))
    }

    /// Looks at a process's libraries.
    fn look(&mut self, pid: u32, process: &mut Followed, now: Instant) {
        process.problems.clear();
        let mapped = match libraries::of_process(&self.proc, pid) {
            Ok(mapped) => mapped,
            Err(error) => {
                process.problems.push(
                    format!("its libraries cannot be read: {error}; the agent needs SYS_PTRACE")
                        .into(),
                );
                return;
            }
        };
        let known = std::mem::take(&mut process.libraries);
        for mapped in mapped.iter().filter(|mapped| mapped.kind != Kind::Runtime) {
            let known = known.iter().find(|(inode, _)| *inode == mapped.inode);
            let found = match known.filter(|(_, id)| self.libraries.contains_key(id)) {
                Some((_, id)) => Ok(*id),
                None => self.find_or_probe(pid, mapped, now),
            };
            match found {
                Ok(id) => process.libraries.push((mapped.inode.clone(), id)),
                Err(problem) => process.problems.push(problem.into()),
            }
        }
        if let Some(problem) = no_driver(&mapped) {
            process.problems.push(problem.into());
        }
    }

    /// Returns the library that a process maps, and probes it when it is new; else what is wrong with it.
    fn find_or_probe(
        &mut self,
        pid: u32,
        mapped: &Mapped,
        now: Instant,
    ) -> Result<LibraryId, String> {
        let name = mapped.path.file_name().unwrap_or_default().to_string_lossy();
        let problem = |why: String| format!("{name} is not watched: {why}");
        let file = libraries::open(&self.proc, pid, mapped)
            .map_err(|error| problem(format!("it cannot be opened: {error}")))?;
        for (id, library) in &self.libraries {
            if libraries::is_same(&library.file, &file).unwrap_or(false) {
                return Ok(*id);
            }
        }
        if self.libraries.len() >= MAX_LIBRARIES {
            return Err(problem(format!("no more than {MAX_LIBRARIES} libraries at one time")));
        }
        let Symbols { mut sites, missing } =
            symbols::read(&file, mapped.kind).map_err(|error| problem(chain(&error)))?;
        if self.costs.steps_over_nops() {
            for site in sites.iter_mut().filter(|site| site.step == Step::Nop) {
                site.step = Step::Stepped;
            }
        }
        let missing = missing.into_iter().map(|function| format!("{function}: not in {name}"));
        let missing = missing.map(Arc::from).collect();
        let library = Library::new(mapped.kind, Arc::from(&*name), file, sites, missing, now);
        let id = LibraryId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        info!(library = %mapped.path.display(), pid, functions = library.sites.len(), "watching");
        self.libraries.insert(id, library);
        self.attach_wanted(id);
        Ok(id)
    }

    /// Attaches what is wanted of a new library, what matters most first.
    fn attach_wanted(&mut self, id: LibraryId) {
        self.attach(id, None, Which::All);
        for group in Group::ALL.into_iter().rev() {
            if self.is_on[group as usize] {
                self.attach(id, Some(group), Which::Cheap);
            }
        }
    }

    fn attach(&mut self, id: LibraryId, group: Option<Group>, which: Which) {
        if let Some(library) = self.libraries.get_mut(&id) {
            library.attach(&mut self.probes, group, which);
        }
    }

    fn leave_unused(&mut self, now: Instant) {
        let is_unused =
            |library: &Library| now.saturating_duration_since(library.last_used) >= LINGER;
        let unused = self.libraries.extract_if(.., |_, library| is_unused(library));
        let links = unused.flat_map(|(_, library)| {
            info!(library = %library.name, "not watching: nobody has it mapped");
            library.into_links()
        });
        let links = links.collect();
        self.take_out(links);
    }

    /// Takes probes out. Between those at beginnings and those at returns, what began is over for the
    /// programs: a call whose return is not seen must not make the thread's next ones a part of it.
    fn take_out(&mut self, links: Vec<ProbeLinks>) {
        let has_returns = links.iter().any(ProbeLinks::has_returns);
        let (beginnings, returns): (Vec<_>, Vec<_>) =
            links.into_iter().map(ProbeLinks::split).unzip();
        drop_at_once(beginnings);
        if !has_returns {
            return;
        }
        if let Err(error) = self.probes.begin_epoch() {
            debug!(error = chain(&error), "the programs take calls for nested that are not");
        }
        drop_at_once(returns);
    }
}

impl Drop for Attachments {
    fn drop(&mut self) {
        let libraries = std::mem::take(&mut self.libraries);
        self.take_out(libraries.into_values().flat_map(Library::into_links).collect());
    }
}

/// Drops links at the same time: one after another, the kernel would wait for each.
fn drop_at_once(links: Vec<ProbeLinks>) {
    thread::scope(|scope| {
        for links in links {
            // Where no thread can be made, they are dropped here.
            let _ = thread::Builder::new().spawn_scoped(scope, move || drop(links));
        }
    });
}

impl Followed {
    const fn new(start: u64, now: Instant) -> Self {
        Self {
            start,
            libraries: Vec::new(),
            problems: Vec::new(),
            next_look: now,
            pause: FIRST_LOOK,
        }
    }

    fn wait(&mut self, now: Instant) {
        self.next_look = now + self.pause;
        self.pause = (self.pause * 2).min(LAST_LOOK);
    }
}

/// What to say of a process whose calls come to no library that is known.
fn no_driver(mapped: &[Mapped]) -> Option<&'static str> {
    let has = |kind| mapped.iter().any(|mapped| mapped.kind == kind);
    if has(Kind::Driver) {
        None
    } else if has(Kind::Runtime) {
        Some("it has the CUDA runtime, which has not opened the driver's library (libcuda) yet")
    } else {
        Some("it maps no libcuda: it uses its device in another way than CUDA")
    }
}

fn count<'a>(sites: impl Iterator<Item = &'a Site>) -> u32 {
    u32::try_from(sites.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
