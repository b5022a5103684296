//! The columns of what processes do not give back.

use super::{SiteRow, cells};
use crate::columns::cells as common;
use crate::columns::{Column, Cut, Tone, View, Width};
use crate::units;
use crate::v1::{GpuLeak, GpuMemoryActivity};

/// Where processes asked for memory that they still have.
#[derive(Clone, Copy, Debug)]
pub enum Sites {}

/// A list of places, those of a process together.
pub static LEAKS: View<Sites> =
    View { command: "gpu leaks", columns: COLUMNS, wide: WIDE, is_stream: false };

const COLUMNS: &[&Column<Sites>] =
    &[&PID, &OWNER, &VERDICT, &OUTSTANDING, &GROWTH, &HERE, &COUNT, &SITE];

const WIDE: &[&Column<Sites>] = &[
    &PID,
    &NAME,
    &OWNER,
    &CONTAINER,
    &GPU,
    &VERDICT,
    &OUTSTANDING,
    &GROWTH,
    &WINDOWS,
    &HERE,
    &COUNT,
    &UNKNOWN,
    &SITE,
    &FRAMES,
];

type Row<'a> = SiteRow<'a>;

/// Between a function and its caller.
const ARROW: &str = " ← ";

/// Frames that a cell has.
const SHOWN: usize = 3;

const WORDS: Column<Sites> = Column::WORDS;
const NUMBER: Column<Sites> = Column::NUMBER;

const PID: Column<Sites> = Column {
    name: "pid",
    header: "PID",
    priority: 1,
    doc: "Number of the process on the node.",
    value: |row, _| Some(row.activity.pid.to_string()),
    ..NUMBER
};
const OWNER: Column<Sites> = Column {
    width: Width::Flexible(12, Cut::Middle),
    comfort: 18,
    header: "OWNER",
    short_header: None,
    doc: "Whose process it is, named as in `flows`.",
    value: |row, _| cells::owner(row.activity.owner.as_ref()),
    ..Column::OWNER
};
const VERDICT: Column<Sites> = Column {
    name: "verdict",
    header: "VERDICT",
    priority: 9,
    tone: |_| Tone::Bad,
    doc: "`leak` where what it has grew over window after window, without coming back to where it was.",
    value: |row, _| leak(row).map(|_| "leak".to_owned()),
    ..WORDS
};
const OUTSTANDING: Column<Sites> = Column {
    name: "outstanding",
    header: "HAS",
    width: Width::Natural(7),
    priority: 3,
    doc: "Device memory that the process asked for and did not give back, since it is watched.",
    value: |row, _| cells::memory(Some(memory(row)?.outstanding_bytes)),
    ..NUMBER
};
const GROWTH: Column<Sites> = Column {
    name: "growth",
    header: "GROWTH/S",
    width: Width::Natural(8),
    priority: 4,
    doc: "By how much that grows a second.",
    value: |row, _| growth(row),
    ..NUMBER
};
const HERE: Column<Sites> = Column {
    name: "here",
    header: "FROM HERE",
    width: Width::Natural(7),
    priority: 2,
    doc: "How much of it was asked for at this place.",
    value: |row, _| here(row),
    ..NUMBER
};
const COUNT: Column<Sites> = Column {
    name: "count",
    header: "COUNT",
    priority: 8,
    doc: "In how many allocations.",
    value: |row, _| Some(units::packets(row.site?.count)),
    ..NUMBER
};
const SITE: Column<Sites> = Column {
    name: "site",
    header: "SITE",
    width: Width::Flexible(14, Cut::Words),
    comfort: 28,
    priority: 0,
    tone: |_| Tone::Plain,
    doc: "The place: the function that needed the memory, without the allocators that it went through, and its callers; `(other places)` for what has no row of its own.",
    value: |row, _| site(row),
    ..WORDS
};
const FRAMES: Column<Sites> = Column {
    name: "frames",
    header: "FRAMES",
    doc: "All frames, from the caller of the driver outwards, as far as they can be followed.",
    value: |row, _| common::text(&row.site?.frames.join(ARROW)),
    ..WORDS
};
const NAME: Column<Sites> = Column {
    name: "name",
    header: "NAME",
    doc: "Name of the process.",
    value: |row, _| common::text(&row.activity.name),
    ..WORDS
};
const CONTAINER: Column<Sites> = Column {
    name: "container",
    header: "CONTAINER",
    doc: "The container that it is in.",
    value: |row, _| cells::container(row.activity.owner.as_ref()),
    ..WORDS
};
const GPU: Column<Sites> = Column {
    name: "gpu",
    header: "GPU",
    doc: "The devices that it uses, as in `gpu`.",
    value: |row, _| cells::labels(row.activity.devices.iter().map(String::as_str), row.devices),
    ..WORDS
};
const WINDOWS: Column<Sites> = Column {
    name: "windows",
    header: "WINDOWS",
    doc: "In how many windows in a row it grew, and how long one is.",
    value: |row, _| windows(row),
    ..WORDS
};
const UNKNOWN: Column<Sites> = Column {
    name: "unknown_frees",
    header: "UNKNOWN FREES",
    doc: "Memory that it gave back and was not seen to take: it is older than the agent's watch.",
    value: |row, _| common::some(memory(row)?.unknown_frees),
    ..NUMBER
};

fn memory(row: Row<'_>) -> Option<&GpuMemoryActivity> {
    row.activity.memory.as_ref()
}

fn leak(row: Row<'_>) -> Option<&GpuLeak> {
    memory(row)?.leak.as_ref()
}

fn growth(row: Row<'_>) -> Option<String> {
    let growth = leak(row)?.growth_bytes_per_second;
    // A verdict is only passed on what grows.
    (growth > 0.0).then(|| units::memory_short(growth as u64))
}

fn here(row: Row<'_>) -> Option<String> {
    let others = || memory(row).map(|memory| memory.other_sites_bytes);
    let bytes = row.site.map(|site| site.outstanding_bytes).or_else(others);
    cells::memory(bytes)
}

fn site(row: Row<'_>) -> Option<String> {
    match row.site {
        Some(site) if site.frames.is_empty() => Some("(no frames)".to_owned()),
        Some(site) => {
            let outer = outer_frames(&site.frames);
            Some(outer[..outer.len().min(SHOWN)].join(ARROW))
        }
        None => Some("(other places)".to_owned()),
    }
}

/// Leaves out the frames through which every allocation goes: those of CUDA's own libraries, and the
/// allocators that call them.
fn outer_frames(frames: &[String]) -> &[String] {
    match frames.iter().position(|frame| !frame.contains("(libcuda") && !is_allocator(frame)) {
        Some(outer) => &frames[outer..],
        None => frames,
    }
}

/// Whether a function is one by its own name: `c10::cuda::…::malloc(unsigned long)+0x1f (libc10_cuda.so)`.
fn is_allocator(frame: &str) -> bool {
    let path = frame.split(['(', '+']).next().unwrap_or_default();
    let name = path.rsplit("::").next().unwrap_or_default();
    name.to_ascii_lowercase().contains("alloc")
}

fn windows(row: Row<'_>) -> Option<String> {
    let leak = leak(row)?;
    let window = units::duration(crate::gpu::duration(leak.window.as_ref()));
    Some(format!("{} of {window}", leak.windows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{GpuActivity, GpuSite};

    fn frames(frames: &[&str]) -> Vec<String> {
        frames.iter().map(|frame| (*frame).to_owned()).collect()
    }

    #[test]
    fn a_place_is_where_allocators_are_called_from() {
        for (all, expected) in [
            (
                &[
                    "cudaMalloc+0x1f (libcudart.so.12)",
                    "c10::cuda::CUDACachingAllocator::Native::DeviceCachingAllocator::malloc(signed char, unsigned long, CUstream_st*)+0x2b (libc10_cuda.so)",
                    "<train::Gpu as train::Memory>::alloc+0x59 (train)",
                    "at::native::empty_cuda(c10::ArrayRef<long>)+0x8c (libtorch_cuda.so)",
                    "main+0x2d0 (python3.12)",
                ][..],
                "at::native::empty_cuda(c10::ArrayRef<long>)+0x8c (libtorch_cuda.so)",
            ),
            (&["0x1234 (libfoo.so)", "main+0x1 (a)"], "0x1234 (libfoo.so)"),
            (&["Allocation::grow+0x1 (a)", "main+0x1 (a)"], "Allocation::grow+0x1 (a)"),
            // Nothing else is known.
            (&["cuMemAlloc_v2+0x1 (libcuda.so.1)"], "cuMemAlloc_v2+0x1 (libcuda.so.1)"),
        ] {
            assert_eq!(outer_frames(&frames(all))[0], expected);
        }
        assert_eq!(outer_frames(&[]), &[] as &[String]);
    }

    #[test]
    fn a_deep_stack_does_not_fill_the_table() {
        let names: Vec<String> = (0..15).map(|at| format!("f{at}+0x1 (a)")).collect();
        let own = GpuSite { frames: names, ..GpuSite::default() };
        let row = SiteRow { activity: &GpuActivity::default(), site: Some(&own), devices: &[] };
        assert_eq!(site(row).unwrap(), "f0+0x1 (a) ← f1+0x1 (a) ← f2+0x1 (a)");
    }
}
