//! `orb8 gpu processes`.

use std::cmp::Reverse;
use std::io;
use std::ops::Range;

use orb8_proto::columns::View;
use orb8_proto::columns::gpu::{PROCESSES, ProcessRow, Processes};
use orb8_proto::gpu::duration;
use orb8_proto::v1::{GpuActivity, GpuCalls, QueryGpuResponse};
use tonic::{Response, Status};

use super::{Told, problems, watch_problems, write_rest};
use crate::args::{ListArgs, ProcessSort, ProcessesArgs};
use crate::commands::counted;
use crate::commands::list::List;
use crate::connection::Connection;
use crate::console::Console;
use crate::output::Machine;
use crate::output::gpu::ProcessObject;

/// A process: its uses of devices and its activity, by their places in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pid: u32,
    uses: Range<usize>,
    activity: Option<usize>,
}

impl Process {
    fn row<'a>(&self, answer: &'a QueryGpuResponse) -> ProcessRow<'a> {
        ProcessRow {
            uses: &answer.processes[self.uses.clone()],
            activity: self.activity.map(|at| &answer.activity[at]),
            devices: &answer.devices,
        }
    }
}

/// Returns each process once. The answer's uses are sorted by process for that.
fn processes(answer: &mut QueryGpuResponse) -> Vec<Process> {
    // Stable: devices keep their order.
    answer.processes.sort_by_key(|uses| uses.pid);
    let mut processes: Vec<Process> = Vec::new();
    let mut start = 0;
    for uses in answer.processes.chunk_by(|one, other| one.pid == other.pid) {
        let end = start + uses.len();
        let pid = uses[0].pid;
        let activity = answer.activity.iter().position(|activity| activity.pid == pid);
        processes.push(Process { pid, uses: start..end, activity });
        start = end;
    }
    // Those that no device tells of: it has gone, or does not name its users.
    for (at, activity) in answer.activity.iter().enumerate() {
        if answer.processes.binary_search_by_key(&activity.pid, |uses| uses.pid).is_err() {
            processes.push(Process { pid: activity.pid, uses: 0..0, activity: Some(at) });
        }
    }
    processes
}

/// Sorts processes, the largest first, by what is known of them; pids decide among equals.
fn sort(processes: &mut [Process], by: ProcessSort, ascending: bool, answer: &QueryGpuResponse) {
    // A part of 1 has no more digits than this that matter.
    let scaled = |part: f64| (part * 1e6) as u64;
    let activity = |process: &Process| process.activity.map(|at| &answer.activity[at]);
    let value = |process: &Process| -> Option<u64> {
        let row = process.row(answer);
        match by {
            ProcessSort::Memory => row.memory_bytes(),
            ProcessSort::Utilization => row.utilization().map(scaled),
            ProcessSort::Launches => Some(scaled(activity(process)?.launches.as_ref()?.per_second)),
            ProcessSort::Outstanding => Some(activity(process)?.memory.as_ref()?.outstanding_bytes),
            ProcessSort::Waited => activity(process).map(waited),
            ProcessSort::Pid => None,
        }
    };
    match ascending {
        true => processes.sort_by_cached_key(|process| (value(process), process.pid)),
        false => processes.sort_by_cached_key(|process| (Reverse(value(process)), process.pid)),
    }
}

/// For how long its threads waited, microseconds.
fn waited(activity: &GpuActivity) -> u64 {
    let calls = activity.waits.iter().filter_map(|waits| waits.calls.as_ref());
    let micros: u128 =
        calls.map(|calls: &GpuCalls| duration(calls.time.as_ref()).as_micros()).sum();
    u64::try_from(micros).unwrap_or(u64::MAX)
}

impl List for ProcessesArgs {
    const SIGNAL: Option<&'static str> = Some("gpu");
    const MEANWHILE: &'static str = "looking";
    const VIEW: &'static View<Processes> = &PROCESSES;
    const NOUN: [&'static str; 2] = ["process", "processes"];
    type Subject = Processes;
    type Answer = Told<Process>;

    fn args(&self) -> &ListArgs {
        &self.list
    }

    fn order(&self) -> &str {
        &self.sort
    }

    async fn query(
        &self,
        connection: &mut Connection,
        _: Option<u64>,
    ) -> Result<Response<Told<Process>>, Status> {
        let rows = |answer: &mut QueryGpuResponse| {
            let mut processes = processes(answer);
            sort(&mut processes, self.sort_by(), self.ascending, answer);
            processes
        };
        Told::ask(&self.which, false, self.list.limit, connection, rows).await
    }

    fn notes(&self, told: &Told<Process>, _: &Connection, _: &Console) -> Vec<String> {
        let mut notes = problems(&told.answer);
        notes.extend(watch_problems(&told.answer));
        notes
    }

    fn rows(told: &Told<Process>) -> Vec<ProcessRow<'_>> {
        told.rows.iter().map(|process| process.row(&told.answer)).collect()
    }

    fn total_matched(told: &Told<Process>) -> u64 {
        told.matched
    }

    fn gist(told: &Told<Process>) -> String {
        let watched = told.answer.watching.as_ref().map_or(0, |watching| watching.processes);
        let devices = counted(told.answer.devices.len() as u64, "device", "devices");
        format!("{watched} watched, {devices}")
    }

    fn write(machine: Machine, out: &mut dyn io::Write, told: &Told<Process>) -> io::Result<()> {
        let places = told.places();
        for process in &told.rows {
            let row = process.row(&told.answer);
            machine.write(out, &ProcessObject::new(&row, &places))?;
        }
        write_rest(machine, out, &told.answer)
    }
}
