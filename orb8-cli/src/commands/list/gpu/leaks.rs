//! `orb8 gpu leaks`.

use std::cmp::Reverse;
use std::io;

use orb8_proto::columns::View;
use orb8_proto::columns::gpu::{LEAKS, SiteRow, Sites};
use orb8_proto::units;
use orb8_proto::v1::{GpuActivity, GpuLeak, GpuMemoryActivity, QueryGpuResponse};
use tonic::{Response, Status};

use super::{Told, problems, watch_problems, wrapped, write_rest};
use crate::args::{LeaksArgs, ListArgs};
use crate::commands::counted;
use crate::commands::list::List;
use crate::connection::Connection;
use crate::console::Console;
use crate::output::gpu::LeakObject;
use crate::output::{Machine, style, table};

/// Places of a process that are told without --all: the one that grew most is among the largest.
const TOP: usize = 3;

/// A place in a process, by its number there and that of the process in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    activity: usize,
    site: Site,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Site {
    /// The one that grew most.
    Grown,
    /// One of the largest.
    Numbered(usize),
    /// All others.
    Rest,
}

impl Place {
    fn activity(self, answer: &QueryGpuResponse) -> &GpuActivity {
        &answer.activity[self.activity]
    }

    fn row(self, answer: &QueryGpuResponse) -> SiteRow<'_> {
        let activity = self.activity(answer);
        let memory = activity.memory.as_ref();
        let site = match self.site {
            Site::Grown => leak(activity).and_then(|leak| leak.site.as_ref()),
            Site::Numbered(at) => memory.and_then(|memory| memory.sites.get(at)),
            Site::Rest => None,
        };
        SiteRow { activity, site, devices: &answer.devices }
    }
}

fn leak(activity: &GpuActivity) -> Option<&GpuLeak> {
    activity.memory.as_ref()?.leak.as_ref()
}

fn outstanding(activity: &GpuActivity) -> u64 {
    let memory = activity.memory.as_ref();
    memory.map_or(0, |memory| memory.outstanding_bytes)
}

/// Returns the places of processes: of those that seem to lose memory, or of `all`.
fn places(answer: &QueryGpuResponse, all: bool) -> Vec<Place> {
    let mut processes: Vec<usize> = (0..answer.activity.len()).collect();
    processes.retain(|at| {
        let activity = &answer.activity[*at];
        leak(activity).is_some() || (all && outstanding(activity) > 0)
    });
    let growth = |activity: &GpuActivity| {
        // Bytes a second; what is no verdict does not grow.
        leak(activity).map(|leak| leak.growth_bytes_per_second.max(0.0) as u64)
    };
    processes.sort_by_cached_key(|at| {
        let activity = &answer.activity[*at];
        (Reverse(growth(activity)), Reverse(outstanding(activity)), activity.pid)
    });
    processes
        .into_iter()
        .flat_map(|activity| {
            let sites = sites(&answer.activity[activity], all);
            sites.into_iter().map(move |site| Place { activity, site })
        })
        .collect()
}

/// Returns the places of one process, the one that grew most first. There is one row at least.
fn sites(activity: &GpuActivity, all: bool) -> Vec<Site> {
    let none = GpuMemoryActivity::default();
    let memory = activity.memory.as_ref().unwrap_or(&none);
    let grown = leak(activity).and_then(|leak| leak.site.as_ref());
    let most = if all { usize::MAX } else { TOP };
    let is_grown = |at: &usize| grown.is_some_and(|grown| grown.frames == memory.sites[*at].frames);
    let numbered = (0..memory.sites.len()).filter(|at| !is_grown(at)).map(Site::Numbered);
    let mut sites: Vec<Site> = grown.map(|_| Site::Grown).into_iter().collect();
    sites.extend(numbered.take(most.saturating_sub(sites.len())));
    if sites.is_empty() || (all && memory.other_sites_bytes > 0) {
        sites.push(Site::Rest);
    }
    sites
}

/// How a place was reached, below who was there.
fn stack(row: &SiteRow<'_>, console: &Console) -> Vec<String> {
    let Some(site) = row.site else { return Vec::new() };
    let GpuActivity { pid, name, .. } = row.activity;
    let bytes = units::memory_short(site.outstanding_bytes);
    let allocations = counted(site.count, "allocation", "allocations");
    let title = format!("{name}[{pid}]: {bytes} in {allocations}");
    let mut lines = vec![String::new()];
    lines.extend(wrapped(&title, 0, style::WARN, console));
    lines.extend(site.frames.iter().map(|frame| format!("  {}", table::printable(frame.clone()))));
    lines
}

impl List for LeaksArgs {
    const SIGNAL: Option<&'static str> = Some("gpu");
    const MEANWHILE: &'static str = "looking";
    const VIEW: &'static View<Sites> = &LEAKS;
    const NOUN: [&'static str; 2] = ["place", "places"];
    type Subject = Sites;
    type Answer = Told<Place>;

    fn args(&self) -> &ListArgs {
        &self.list
    }

    fn order(&self) -> &str {
        "growth"
    }

    async fn query(
        &self,
        connection: &mut Connection,
        _: Option<u64>,
    ) -> Result<Response<Told<Place>>, Status> {
        let rows = |answer: &mut QueryGpuResponse| places(answer, self.all);
        Told::ask(&self.which, false, self.list.limit, connection, rows).await
    }

    fn notes(&self, told: &Told<Place>, _: &Connection, _: &Console) -> Vec<String> {
        let mut notes = problems(&told.answer);
        notes.extend(watch_problems(&told.answer));
        let watched = told.answer.activity.len() as u64;
        if told.rows.is_empty() && watched > 0 && !self.all {
            let watched = counted(watched, "process is", "processes are");
            notes.push(format!(
                "{watched} watched, and none seems to lose memory; --all shows what they have"
            ));
        }
        notes
    }

    fn below(&self, told: &Told<Place>, wide: bool, console: &Console) -> Vec<String> {
        // A wide table has the frames, and what loses nothing needs none.
        let is_told = |row: &SiteRow<'_>| !wide && leak(row.activity).is_some();
        let rows = Self::rows(told).into_iter().filter(is_told);
        rows.flat_map(|row| stack(&row, console)).collect()
    }

    fn rows(told: &Told<Place>) -> Vec<SiteRow<'_>> {
        told.rows.iter().map(|place| place.row(&told.answer)).collect()
    }

    fn total_matched(told: &Told<Place>) -> u64 {
        told.matched
    }

    fn gist(told: &Told<Place>) -> String {
        let leaks = told.answer.activity.iter().filter(|activity| leak(activity).is_some());
        counted(leaks.count() as u64, "leak", "leaks")
    }

    fn write(machine: Machine, out: &mut dyn io::Write, told: &Told<Place>) -> io::Result<()> {
        let of = told.places();
        let mut last = None;
        for place in &told.rows {
            // An object is a process, with all its places.
            if last.replace(place.activity) != Some(place.activity) {
                machine.write(out, &LeakObject::new(place.activity(&told.answer), &of))?;
            }
        }
        write_rest(machine, out, &told.answer)
    }
}
