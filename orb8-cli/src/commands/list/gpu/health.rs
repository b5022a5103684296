//! `orb8 gpu health`.

use std::cmp::Reverse;
use std::io;

use anstyle::Style;
use orb8_proto::columns::View;
use orb8_proto::columns::gpu::{DeviceRow, HEALTH, Health};
use orb8_proto::gpu::health::{Finding, Verdict, judge, verdict};
use orb8_proto::v1::{GpuDevice, GpuSourceStatus, QueryGpuResponse};
use tonic::{Response, Status};

use super::{Told, painted, problems, wrapped, write_rest};
use crate::args::{HealthArgs, ListArgs};
use crate::commands::list::List;
use crate::connection::Connection;
use crate::console::Console;
use crate::error::Exit;
use crate::output::gpu::HealthObject;
use crate::output::{Machine, style};

/// Name of the source that tells of others' devices.
const DCGM: &str = "dcgm";

/// Where what to do begins.
const INDENT: usize = 2;

impl List for HealthArgs {
    const SIGNAL: Option<&'static str> = Some("gpu");
    const MEANWHILE: &'static str = "looking";
    const VIEW: &'static View<Health> = &HEALTH;
    const NOUN: [&'static str; 2] = ["device", "devices"];
    type Subject = Health;
    /// Devices by their places in the answer.
    type Answer = Told<usize>;

    fn args(&self) -> &ListArgs {
        &self.list
    }

    fn order(&self) -> &str {
        "verdict"
    }

    async fn query(
        &self,
        connection: &mut Connection,
        _: Option<u64>,
    ) -> Result<Response<Told<usize>>, Status> {
        let since = self.since.map(|since| connection.moment(since));
        let worst_first = |answer: &mut QueryGpuResponse| {
            since.into_iter().for_each(|since| forget(answer, since));
            let mut devices: Vec<usize> = (0..answer.devices.len()).collect();
            devices.sort_by_cached_key(|at| Reverse(verdict_of(&answer.devices[*at])));
            devices
        };
        Told::ask(&self.which, true, self.list.limit, connection, worst_first).await
    }

    fn rows(told: &Told<usize>) -> Vec<DeviceRow<'_>> {
        told.devices()
    }

    fn total_matched(told: &Told<usize>) -> u64 {
        told.matched
    }

    fn gist(told: &Told<usize>) -> String {
        let of = |wanted: Verdict| {
            told.answer.devices.iter().filter(|device| verdict_of(device) == wanted).count()
        };
        format!("{} bad, {} to look at", of(Verdict::Bad), of(Verdict::Warn))
    }

    fn below(&self, told: &Told<usize>, _: bool, console: &Console) -> Vec<String> {
        let places = told.places();
        let mut lines = Vec::new();
        for at in &told.rows {
            let device = &told.answer.devices[*at];
            let label = places.label(&device.id);
            lines.extend(judge(device).iter().flat_map(|finding| said(&label, finding, console)));
        }
        lines.extend(painted(&problems(&told.answer), console));
        if !lines.is_empty() {
            lines.insert(0, String::new());
        }
        lines
    }

    fn exit(&self, told: &Told<usize>) -> Exit {
        let QueryGpuResponse { devices, sources, .. } = &told.answer;
        let is_bad = |device: &GpuDevice| verdict_of(device) == Verdict::Bad;
        // A driver that does not load has no bad device either, even where another vendor's does.
        let is_unknown = self.which.device.is_empty() && sources.iter().any(is_broken);
        match self.check && (devices.is_empty() || is_unknown || devices.iter().any(is_bad)) {
            true => Exit::Failure,
            false => Exit::Success,
        }
    }

    fn write(machine: Machine, out: &mut dyn io::Write, told: &Told<usize>) -> io::Result<()> {
        let places = told.places();
        for at in &told.rows {
            let device = &told.answer.devices[*at];
            machine.write(out, &HealthObject::new(device, &places))?;
        }
        write_rest(machine, out, &told.answer)
    }
}

/// Leaves out errors of which the last was before a moment. Who does not tell when it was, told none.
fn forget(answer: &mut QueryGpuResponse, since: u64) {
    for counts in answer.devices.iter_mut().filter_map(|device| device.counts.as_mut()) {
        counts.xids.retain(|xid| xid.last_ns == 0 || xid.last_ns >= since);
        if counts.last_xid_ns < since {
            (counts.last_xid, counts.last_xid_ns) = (None, 0);
        }
    }
}

/// Whether devices are there of which nothing is known. What dcgm-exporter tells is of devices that
/// others read, or that are missing without it.
fn is_broken(source: &GpuSourceStatus) -> bool {
    source.name != DCGM && source.failures > 0 && !source.problem.is_empty()
}

fn verdict_of(device: &GpuDevice) -> Verdict {
    verdict(&judge(device))
}

/// What was found, and what to do about it. What needs nothing done is told in the table's columns.
fn said(label: &str, finding: &Finding, console: &Console) -> Vec<String> {
    let Finding { verdict, remedy, .. } = finding;
    let what = finding.told((console.now_ns)());
    let style = match verdict {
        Verdict::Ok => return Vec::new(),
        Verdict::Warn => style::WARN,
        Verdict::Bad => style::BAD,
    };
    let mut lines = wrapped(&format!("GPU {label} {}: {what}", verdict.word()), 0, style, console);
    lines.extend(wrapped(remedy, INDENT, Style::new(), console));
    lines
}
