//! `orb8 gpu`: every device, and below it who has what of it.

use std::io;

use orb8_proto::columns::View;
use orb8_proto::columns::gpu::{DeviceRow, Devices, LIST, SHARES, utilization};
use orb8_proto::gpu::Places;
use orb8_proto::v1::{GpuDevice, GpuState, QueryGpuResponse};
use tonic::{Response, Status};

use super::shares::{Part, parts};
use super::{Told, painted, problems, write_rest};
use crate::args::{DevicesArgs, ListArgs};
use crate::commands::list::List;
use crate::commands::table;
use crate::connection::Connection;
use crate::console::Console;
use crate::output::Machine;
use crate::output::gpu::DeviceObject;

impl List for DevicesArgs {
    const SIGNAL: Option<&'static str> = Some("gpu");
    const MEANWHILE: &'static str = "looking";
    const VIEW: &'static View<Devices> = &LIST;
    const NOUN: [&'static str; 2] = ["device", "devices"];
    type Subject = Devices;
    /// Devices by their places in the answer.
    type Answer = Told<usize>;

    fn args(&self) -> &ListArgs {
        &self.list
    }

    fn order(&self) -> &str {
        "number"
    }

    async fn query(
        &self,
        connection: &mut Connection,
        _: Option<u64>,
    ) -> Result<Response<Told<usize>>, Status> {
        let all = |answer: &mut QueryGpuResponse| (0..answer.devices.len()).collect();
        Told::ask(&self.which, true, self.list.limit, connection, all).await
    }

    fn rows(told: &Told<usize>) -> Vec<DeviceRow<'_>> {
        told.devices()
    }

    fn total_matched(told: &Told<usize>) -> u64 {
        told.matched
    }

    fn gist(told: &Told<usize>) -> String {
        let devices = || told.answer.devices.iter();
        let samples = devices().filter_map(|device| device.sample.as_ref());
        // Of one that is divided, its parts are what is used.
        let is_busy = |device: &&GpuDevice| {
            !device.divided && utilization(device).is_some_and(|busy| busy > 0.0)
        };
        let busy = devices().filter(is_busy).count();
        let watts: f64 = samples.filter_map(|sample| sample.power_watts).sum();
        let lost = devices().filter(|device| device.state() == GpuState::Lost).count();
        let lost = if lost > 0 { format!(", {lost} lost") } else { String::new() };
        format!("{busy} busy, {watts:.0}W{lost}")
    }

    fn below(&self, told: &Told<usize>, wide: bool, console: &Console) -> Vec<String> {
        let parts = parts(&told.answer, self.which.is_everyone());
        let parts = parts_table(&parts, &told.answer, wide, console);
        let mut problems = painted(&problems(&told.answer), console);
        if !problems.is_empty() {
            problems.insert(0, String::new());
        }
        // What stands last has no room first.
        if self.list.watch { [problems, parts].concat() } else { [parts, problems].concat() }
    }

    fn write(machine: Machine, out: &mut dyn io::Write, told: &Told<usize>) -> io::Result<()> {
        let places = told.places();
        for at in &told.rows {
            let device = &told.answer.devices[*at];
            machine.write(out, &DeviceObject::new(device, &places))?;
        }
        write_rest(machine, out, &told.answer)
    }
}

/// Who has what, as `gpu pods` tells it.
fn parts_table(
    parts: &[Part],
    answer: &QueryGpuResponse,
    wide: bool,
    console: &Console,
) -> Vec<String> {
    if parts.is_empty() {
        return Vec::new();
    }
    let places = Places::new(&answer.devices);
    let mut table = table(&SHARES, wide, true, console);
    let cells: Vec<_> = parts.iter().map(|part| table.cells(part.row(answer, &places))).collect();
    for row in &cells {
        table.admit(row);
    }
    let mut lines = vec![String::new(), table.header()];
    lines.extend(cells.iter().map(|row| table.line(row)));
    lines
}
