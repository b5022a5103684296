//! `orb8 gpu` and the lists below it: an agent's accelerators, from several sides. One file per side.
//!
//! An answer has everything; order and limit are the reader's.

use std::io;

use anstyle::Style;
use orb8_proto::columns::gpu::DeviceRow;
use orb8_proto::gpu::Places;
use orb8_proto::v1::{GpuSourceStatus, QueryGpuResponse};
use tonic::{Response, Status};

use crate::args::{GpuArgs, GpuCommand, WhichArgs};
use crate::connection::Connection;
use crate::console::Console;
use crate::error::{CliError, Exit};
use crate::output::{Machine, report, style, table};

mod devices;
mod health;
mod leaks;
mod processes;
mod shares;

pub(crate) use shares::Part;

/// What an agent said, with the rows of a list in their order.
#[derive(Clone, Debug)]
pub(crate) struct Told<R> {
    answer: QueryGpuResponse,
    /// Those within the limit.
    rows: Vec<R>,
    /// All of them.
    matched: u64,
}

impl<R> Told<R> {
    /// Asks, and makes rows of the answer.
    async fn ask(
        which: &WhichArgs,
        without_activity: bool,
        limit: u32,
        connection: &mut Connection,
        rows: impl FnOnce(&mut QueryGpuResponse) -> Vec<R>,
    ) -> Result<Response<Self>, Status> {
        let request = connection.request(which.request(without_activity));
        let answered = connection.client.query_gpu(request).await?;
        Ok(answered.map(|mut answer| {
            let mut rows = rows(&mut answer);
            let matched = rows.len() as u64;
            rows.truncate(limit as usize);
            Self { answer, rows, matched }
        }))
    }

    fn places(&self) -> Places<'_> {
        Places::new(&self.answer.devices)
    }

    /// Returns all that was said.
    pub(crate) const fn answer(&self) -> &QueryGpuResponse {
        &self.answer
    }
}

impl Told<usize> {
    /// Returns the rows where they are devices, by their places in the answer.
    fn devices(&self) -> Vec<DeviceRow<'_>> {
        let places = self.places();
        let devices = self.rows.iter().map(|at| &self.answer.devices[*at]);
        devices.map(|device| DeviceRow { device, parent: places.parent(device) }).collect()
    }
}

impl<R: Copy> Told<R> {
    /// Leaves these rows alone, in this order.
    pub(crate) fn only(&self, rows: &[usize]) -> Self {
        let picked = rows.iter().filter_map(|at| self.rows.get(*at).copied());
        Self { answer: self.answer.clone(), rows: picked.collect(), matched: self.matched }
    }
}

/// Runs the list that is meant.
pub(in crate::commands) async fn run(
    global: &crate::args::GlobalArgs,
    args: &GpuArgs,
    console: &mut Console,
) -> Result<Exit, CliError> {
    match args.command.as_deref() {
        None => super::run(global, &args.devices, console).await,
        Some(GpuCommand::Pods(args)) => super::run(global, args, console).await,
        Some(GpuCommand::Processes(args)) => super::run(global, args, console).await,
        Some(GpuCommand::Idle(args)) => super::run(global, args, console).await,
        Some(GpuCommand::Health(args)) => super::run(global, args, console).await,
        Some(GpuCommand::Leaks(args)) => super::run(global, args, console).await,
    }
}

/// Says what of devices is not known, and what to do. That there is no device of some other kind is
/// worth no word where there are some.
pub(crate) fn problems(answer: &QueryGpuResponse) -> Vec<String> {
    let has_none = answer.devices.is_empty();
    let is_told = |source: &&GpuSourceStatus| {
        !source.problem.is_empty() && (has_none || source.failures > 0 || source.devices > 0)
    };
    let of_source = |source: &GpuSourceStatus| format!("{}: {}", source.name, source.problem);
    let mut problems: Vec<String> = answer.sources.iter().filter(is_told).map(of_source).collect();
    if answer.time_ns == 0 {
        problems.insert(0, "devices have not been read yet: ask again in a moment".to_owned());
    }
    if let Some(holders) = answer.holders.as_ref().filter(|_| !has_none) {
        if !holders.problem.is_empty() {
            problems.push(format!("holders: {}", holders.problem));
        }
        if !holders.unmatched.is_empty() {
            let unmatched = holders.unmatched.join(", ");
            problems.push(format!("given out, and none of these devices: {unmatched}"));
        }
    }
    problems.into_iter().map(table::printable).collect()
}

/// Says what of processes' calls is not seen.
pub(crate) fn watch_problems(answer: &QueryGpuResponse) -> Vec<String> {
    let Some(watching) = &answer.watching else { return Vec::new() };
    let mut problems: Vec<String> =
        watching.problems.iter().map(|problem| format!("calls to CUDA: {problem}")).collect();
    if watching.lost > 0 {
        let lost = orb8_proto::units::count(watching.lost);
        problems
            .push(format!("calls to CUDA: {lost} records had no room in the ring: sums are low"));
    }
    problems.into_iter().map(table::printable).collect()
}

/// Breaks a text into lines that fit the terminal, and paints them.
fn wrapped(text: &str, indent: usize, style: Style, console: &Console) -> Vec<String> {
    let width = console.terminal.map(|terminal| terminal.width.into());
    // Drivers and programs have their say in it.
    let text = report::wrap(&table::printable(text.to_owned()), indent, width);
    let blanks = " ".repeat(indent);
    let lines = format!("{blanks}{text}");
    lines.lines().map(|line| style::paint(line, style, console.colors)).collect()
}

fn painted(lines: &[String], console: &Console) -> Vec<String> {
    lines.iter().flat_map(|line| wrapped(line, 0, style::WARN, console)).collect()
}

/// Writes what holds of all rows.
fn write_rest(
    machine: Machine,
    out: &mut dyn io::Write,
    answer: &QueryGpuResponse,
) -> io::Result<()> {
    machine.write(out, &crate::output::gpu::StatusObject::new(answer))
}
