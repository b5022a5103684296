//! `orb8 gpu pods` and `orb8 gpu idle`: who has what of each device.

use std::cmp::Ordering;
use std::io;

use orb8_proto::columns::View;
use orb8_proto::columns::gpu::{DeviceRow, IDLE, Parts, SHARES, ShareRow};
use orb8_proto::columns::owner;
use orb8_proto::gpu::Places;
use orb8_proto::units;
use orb8_proto::v1::{GpuDevice, GpuShare, GpuStanding, QueryGpuResponse};
use tonic::{Response, Status};

use super::{Told, problems, write_rest};
use crate::args::{IdleArgs, ListArgs, ShareSort, SharesArgs};
use crate::commands::counted;
use crate::commands::list::List;
use crate::connection::Connection;
use crate::console::Console;
use crate::output::Machine;
use crate::output::gpu::ShareObject;

/// A share by its device's place in the answer and its own there; without one, what is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    device: usize,
    share: Option<usize>,
}

impl Part {
    fn device(self, answer: &QueryGpuResponse) -> &GpuDevice {
        &answer.devices[self.device]
    }

    fn share(self, answer: &QueryGpuResponse) -> Option<&GpuShare> {
        Some(&self.device(answer).shares[self.share?])
    }

    pub(super) fn row<'a>(self, answer: &'a QueryGpuResponse, places: &Places<'a>) -> ShareRow<'a> {
        let device = self.device(answer);
        let of = DeviceRow { device, parent: places.parent(device) };
        ShareRow { of, share: self.share(answer) }
    }
}

impl Told<Part> {
    /// Makes rows of an answer; with `rest`, of what is nobody's too.
    pub(crate) fn parts(answer: QueryGpuResponse, rest: bool) -> Self {
        let rows = parts(&answer, rest);
        Self { matched: rows.len() as u64, rows, answer }
    }

    /// Sorts the rows, and turns their order around where that is wanted.
    pub(crate) fn sort(&mut self, by: ShareSort, ascending: bool) {
        sort(&mut self.rows, ShareSort::Device, false, &self.answer);
        sort(&mut self.rows, by, ascending, &self.answer);
        if ascending && !by.has_smallest() {
            self.rows.reverse();
        }
    }
}

/// Returns all parts in the order of their devices; with `rest`, what is nobody's too.
pub(super) fn parts(answer: &QueryGpuResponse, rest: bool) -> Vec<Part> {
    let devices = answer.devices.iter().enumerate();
    let parts = devices.flat_map(|(device, of)| {
        let shares = (0..of.shares.len()).map(Some);
        let rest = (rest && has_rest(of)).then_some(None);
        shares.chain(rest).map(move |share| Part { device, share })
    });
    parts.collect()
}

/// Whether something of it is in use and nobody's known. What rounds to nothing is nothing.
fn has_rest(device: &GpuDevice) -> bool {
    device.unattributed_memory_bytes.is_some_and(|bytes| bytes > 0)
        || device.unattributed_utilization.is_some_and(|part| part >= 0.005)
}

/// Sorts parts, the largest first, or by name. The order of devices decides among equals.
fn sort(parts: &mut [Part], by: ShareSort, ascending: bool, answer: &QueryGpuResponse) {
    let memory = |part: &Part| match part.share(answer) {
        Some(share) => share.memory_bytes,
        None => part.device(answer).unattributed_memory_bytes,
    };
    let busy = |part: &Part| match part.share(answer) {
        Some(share) => share.utilization,
        None => part.device(answer).unattributed_utilization,
    };
    let name = |part: &Part| part.share(answer).and_then(|share| owner(share.owner.as_ref()?));
    let order = |one: &Part, other: &Part| match by {
        ShareSort::Device => (one.device, one.share.is_none(), one.share).cmp(&(
            other.device,
            other.share.is_none(),
            other.share,
        )),
        ShareSort::Owner => name(one).cmp(&name(other)),
        ShareSort::Memory => memory(other).cmp(&memory(one)),
        ShareSort::Utilization => busy(other).partial_cmp(&busy(one)).unwrap_or(Ordering::Equal),
        ShareSort::Idle => idle_since(one, answer).cmp(&idle_since(other, answer)),
    };
    match ascending && by.has_smallest() {
        true => parts.sort_by(|one, other| order(other, one)),
        false => parts.sort_by(order),
    }
}

/// Since when it is idle; what is not idle comes after all that is.
fn idle_since(part: &Part, answer: &QueryGpuResponse) -> u64 {
    let idle = part.share(answer).filter(|share| share.standing() == GpuStanding::Idle);
    idle.map_or(u64::MAX, |share| share.idle_since_ns)
}

fn rows(told: &Told<Part>) -> Vec<ShareRow<'_>> {
    let places = told.places();
    told.rows.iter().map(|part| part.row(&told.answer, &places)).collect()
}

fn write(machine: Machine, out: &mut dyn io::Write, told: &Told<Part>) -> io::Result<()> {
    let places = told.places();
    for part in &told.rows {
        let device = part.device(&told.answer);
        machine.write(out, &ShareObject::new(device, part.share(&told.answer), &places))?;
    }
    write_rest(machine, out, &told.answer)
}

/// Counts those of a standing.
fn standing(told: &Told<Part>, standing: GpuStanding) -> u64 {
    let shares = told.answer.devices.iter().flat_map(|device| &device.shares);
    shares.filter(|share| share.standing() == standing).count() as u64
}

impl List for SharesArgs {
    const SIGNAL: Option<&'static str> = Some("gpu");
    const MEANWHILE: &'static str = "looking";
    const VIEW: &'static View<Parts> = &SHARES;
    const NOUN: [&'static str; 2] = ["part", "parts"];
    type Subject = Parts;
    type Answer = Told<Part>;

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
    ) -> Result<Response<Told<Part>>, Status> {
        let rows = |answer: &mut QueryGpuResponse| {
            let mut parts = parts(answer, self.which.is_everyone());
            sort(&mut parts, self.sort_by(), self.ascending, answer);
            parts
        };
        Told::ask(&self.which, true, self.list.limit, connection, rows).await
    }

    fn notes(&self, told: &Told<Part>, _: &Connection, _: &Console) -> Vec<String> {
        problems(&told.answer)
    }

    fn rows(told: &Told<Part>) -> Vec<ShareRow<'_>> {
        rows(told)
    }

    fn total_matched(told: &Told<Part>) -> u64 {
        told.matched
    }

    fn gist(told: &Told<Part>) -> String {
        let idle = units::count(standing(told, GpuStanding::Idle));
        let unallocated = units::count(standing(told, GpuStanding::Unallocated));
        let lost = match standing(told, GpuStanding::Lost) {
            0 => String::new(),
            lost => format!(", {} lost", units::count(lost)),
        };
        format!("{idle} idle, {unallocated} unallocated{lost}")
    }

    fn write(machine: Machine, out: &mut dyn io::Write, told: &Told<Part>) -> io::Result<()> {
        write(machine, out, told)
    }
}

impl List for IdleArgs {
    const SIGNAL: Option<&'static str> = Some("gpu");
    const MEANWHILE: &'static str = "looking";
    const VIEW: &'static View<Parts> = &IDLE;
    const NOUN: [&'static str; 2] = ["idle or unallocated part", "idle or unallocated parts"];
    type Subject = Parts;
    type Answer = Told<Part>;

    fn args(&self) -> &ListArgs {
        &self.list
    }

    fn order(&self) -> &str {
        "how long they are idle"
    }

    async fn query(
        &self,
        connection: &mut Connection,
        _: Option<u64>,
    ) -> Result<Response<Told<Part>>, Status> {
        let is_amiss = |share: &GpuShare| match share.standing() {
            GpuStanding::Idle => share.idle_long || self.all,
            GpuStanding::Unallocated => true,
            GpuStanding::Active
            | GpuStanding::InUse
            | GpuStanding::Lost
            | GpuStanding::Unspecified => false,
        };
        let rows = |answer: &mut QueryGpuResponse| {
            let mut parts = parts(answer, false);
            parts.retain(|part| part.share(answer).is_some_and(is_amiss));
            sort(&mut parts, ShareSort::Idle, false, answer);
            parts
        };
        Told::ask(&self.which, true, self.list.limit, connection, rows).await
    }

    fn notes(&self, told: &Told<Part>, _: &Connection, _: &Console) -> Vec<String> {
        let mut notes = problems(&told.answer);
        let soon = standing(told, GpuStanding::Idle).saturating_sub(told.matched);
        if !self.all && soon > 0 && told.rows.is_empty() {
            let soon = counted(soon, "holder is", "holders are");
            notes.push(format!("{soon} idle for less than --gpu-idle-after; --all shows them"));
        }
        notes
    }

    fn rows(told: &Told<Part>) -> Vec<ShareRow<'_>> {
        rows(told)
    }

    fn total_matched(told: &Told<Part>) -> u64 {
        told.matched
    }

    fn gist(told: &Told<Part>) -> String {
        counted(told.answer.devices.len() as u64, "device", "devices")
    }

    fn write(machine: Machine, out: &mut dyn io::Write, told: &Told<Part>) -> io::Result<()> {
        write(machine, out, told)
    }
}
