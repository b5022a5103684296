//! Lines that are sentences: processes, instances, and what happens.

use std::path::Path;

use super::super::curve::{Curve, Window};
use super::super::scenario::{
    Device, Devices, Failure, Happening, Instance, Pattern, Process, ProcessFile, ProcessKind,
    THROTTLES, What, made_up_uuid,
};
use super::super::status::Status;
use super::{Parsed, numbers};

/// Reads `0`, `0-3`, `0,2,5`.
pub(super) fn indices(text: &str) -> Parsed<Vec<usize>> {
    let mut indices = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (numbers::integer(first)?, numbers::integer(last)?);
        indices.extend((first..=last).map(usize::from));
    }
    if indices.is_empty() { Err(format!("`{text}` names nothing")) } else { Ok(indices) }
}

fn devices(text: &str) -> Parsed<Devices> {
    if text == "all" { Ok(Devices::All) } else { Ok(Devices::These(indices(text)?)) }
}

/// A process of which nothing is said yet.
pub(super) fn nobody() -> Process {
    Process {
        pid: 0,
        devices: Devices::These(vec![0]),
        kind: ProcessKind::Compute,
        memory: Some(Curve::Constant(0.0)),
        sm: Curve::Constant(0.0),
        memory_time: Curve::Constant(0.0),
        encoder: Curve::Constant(0.0),
        decoder: Curve::Constant(0.0),
        instance: None,
        window: Window { from: 0.0, lasts: f64::INFINITY, every: f64::INFINITY },
        name: None,
    }
}

/// Reads `pid=42 device=0 memory=2GiB sm=60`, or `42 sm=60` in a file of processes.
pub(super) fn process(line: &str, like: &Process) -> Parsed<Process> {
    let mut process = like.clone();
    let mut to = f64::INFINITY;
    for word in line.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or(("pid", word));
        match key {
            "pid" => process.pid = numbers::integer(value)?,
            "device" => process.devices = devices(value)?,
            "type" => process.kind = kind(value)?,
            "memory" if value == "none" => process.memory = None,
            "memory" => process.memory = Some(numbers::curve(value)?),
            "sm" => process.sm = numbers::curve(value)?,
            "mem" => process.memory_time = numbers::curve(value)?,
            "enc" => process.encoder = numbers::curve(value)?,
            "dec" => process.decoder = numbers::curve(value)?,
            "gi" => process.instance = Some((numbers::integer(value)?, ci(process.instance))),
            "ci" => process.instance = Some((gi(process.instance)?, numbers::integer(value)?)),
            "from" => process.window.from = numbers::seconds(value)?,
            "to" => to = numbers::seconds(value)?,
            "name" => process.name = Some(value.into()),
            _ => {
                return Err(format!(
                    "`{key}` is nothing of a process: pid, device, type, memory, sm, mem, enc, dec, \
                     gi, ci, from, to, name"
                ));
            }
        }
    }
    if to.is_finite() {
        process.window.lasts = (to - process.window.from).max(0.0);
    }
    if process.pid == 0 { Err("a process has a pid".into()) } else { Ok(process) }
}

fn ci(instance: Option<(u32, u32)>) -> u32 {
    instance.map_or(0, |(_, ci)| ci)
}

fn gi(instance: Option<(u32, u32)>) -> Parsed<u32> {
    instance.map(|(gi, _)| gi).ok_or_else(|| "`gi=` comes before `ci=`".into())
}

fn kind(text: &str) -> Parsed<ProcessKind> {
    match text {
        "compute" => Ok(ProcessKind::Compute),
        "graphics" => Ok(ProcessKind::Graphics),
        "mps" => Ok(ProcessKind::Mps),
        _ => Err(format!("`{text}` is no type: compute, graphics, mps")),
    }
}

/// Reads `file=PATH` and what is the same for all processes in it; `None` of another line.
pub(super) fn process_file(
    line: &str,
    folder: &Path,
    like: &Process,
) -> Parsed<Option<ProcessFile>> {
    let Some(path) = line.split_whitespace().find_map(|word| word.strip_prefix("file=")) else {
        return Ok(None);
    };
    let rest: Vec<&str> = line.split_whitespace().filter(|w| !w.starts_with("file=")).collect();
    // Any pid will do: each line of the file has its own.
    let like = process(&format!("pid=1 {}", rest.join(" ")), like)?;
    Ok(Some(ProcessFile { path: folder.join(path), like }))
}

/// Reads `1g.10gb x 7 busy=40`: instances of one kind.
pub(super) fn instances(line: &str, device: &Device) -> Parsed<Vec<Instance>> {
    let mut words = line.split_whitespace().peekable();
    let profile = words.next().ok_or("names no profile")?;
    let count: u32 = match words.next_if_eq(&"x") {
        Some(_) => numbers::integer(words.next().ok_or("`x` is followed by a number")?)?,
        None => 1,
    };
    let words: Vec<&str> = words.collect();
    let mut made: Vec<Instance> = Vec::new();
    for _ in 0..count {
        let there = device.layouts.last().map_or(&[][..], |layout| &layout.instances);
        let taken: Vec<(u32, u32)> =
            there.iter().chain(&made).map(|instance| (instance.gpu, instance.compute)).collect();
        made.push(instance(profile, &words, device, &taken)?);
    }
    Ok(made)
}

fn instance(
    profile: &str,
    words: &[&str],
    device: &Device,
    taken: &[(u32, u32)],
) -> Parsed<Instance> {
    let (gpu_slices, compute_slices, gigabytes) = slices(profile)?;
    let (mut gpu, mut compute, mut uuid, mut memory, mut busy) = (None, None, None, None, None);
    for word in words {
        let (key, value) =
            word.split_once('=').ok_or_else(|| format!("`{word}` is no key=value"))?;
        match key {
            "gi" => gpu = Some(numbers::integer(value)?),
            "ci" => compute = Some(numbers::integer(value)?),
            "uuid" => uuid = Some(value.to_owned()),
            "memory" => memory = Some(numbers::number(value)? as u64),
            "busy" => busy = Some(numbers::curve(value)?),
            _ => {
                return Err(format!(
                    "`{key}` is nothing of an instance: gi, ci, uuid, memory, busy"
                ));
            }
        }
    }
    let gpu = gpu.unwrap_or_else(|| free_instance(gpu_slices, taken));
    let compute = compute
        .unwrap_or_else(|| (0..).find(|compute| !taken.contains(&(gpu, *compute))).unwrap_or(0));
    if taken.contains(&(gpu, compute)) {
        return Err(format!("there is an instance gi={gpu} ci={compute} already"));
    }
    let number = (device.index as u64) << 16 | u64::from(gpu) << 8 | u64::from(compute);
    Ok(Instance {
        profile: profile.into(),
        gpu,
        compute,
        uuid: uuid.unwrap_or_else(|| made_up_uuid("MIG", 0x4d49_0000_0000 | number)),
        slices: (gpu_slices, compute_slices),
        // Seven slices at most; what is left over is nobody's.
        multiprocessors: device.multiprocessors / 8 * compute_slices,
        // What the driver keeps of each is not offered.
        memory: memory.unwrap_or(gigabytes * 1024 * 1024 * 998),
        busy,
    })
}

/// Reads `3g.40gb` and `1c.3g.40gb+me`: slices of the GPU instance, of the compute instance, and GB.
fn slices(profile: &str) -> Parsed<(u32, u32, u64)> {
    let parse = || {
        let plain = profile.split('+').next()?;
        let (sizes, memory) = plain.rsplit_once('.')?;
        let gigabytes = memory.strip_suffix("gb")?.parse().ok()?;
        let (compute, gpu) = sizes.split_once('.').unwrap_or(("", sizes));
        let gpu = gpu.strip_suffix('g')?.parse().ok()?;
        let compute =
            if compute.is_empty() { gpu } else { compute.strip_suffix('c')?.parse().ok()? };
        (gpu <= 8 && compute <= gpu).then_some((gpu, compute, gigabytes))
    };
    parse().ok_or_else(|| format!("`{profile}` is no profile like 1g.10gb"))
}

/// Returns the number that the driver would give to the next instance of a size.
fn free_instance(slices: u32, taken: &[(u32, u32)]) -> u32 {
    let first = match slices {
        7 | 8 => 0,
        3 | 4 => 1,
        2 => 3,
        _ => 7,
    };
    (first..).find(|gpu| taken.iter().all(|(other, _)| other != gpu)).unwrap_or(first)
}

/// Reads `at 20s xid 79 on 3`, `from 5s to 60s every 2m fails nvmlDeviceGetPowerUsage unknown on 0`.
pub(super) fn happening(line: &str) -> Parsed<Happening> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (window, rest) = window(&words)?;
    let (what, devices) = match rest {
        [what @ .., "on", which] => (what, Some(devices(which)?)),
        what => (what, None),
    };
    let what = self::what(what)?;
    if window.every.is_finite() && window.lasts.is_infinite() && !matches!(what, What::Xid { .. }) {
        return Err("comes again and does not end: add `to TIME`".into());
    }
    Ok(Happening { window, devices, what })
}

fn window<'a, 'b>(words: &'a [&'b str]) -> Parsed<(Window, &'a [&'b str])> {
    let (from, mut rest) = match words {
        ["at" | "from", from, rest @ ..] => (numbers::seconds(from)?, rest),
        _ => return Err("begins with `at TIME` or `from TIME`".into()),
    };
    let (mut lasts, mut every) = (f64::INFINITY, f64::INFINITY);
    if let ["to", to, more @ ..] = rest {
        lasts = numbers::seconds(to)? - from;
        rest = more;
    }
    if let ["every", time, more @ ..] = rest {
        every = numbers::seconds(time)?;
        rest = more;
    }
    if lasts <= 0.0 || every <= 0.0 || (lasts > every && lasts.is_finite()) {
        return Err("ends before it begins, or comes again before it ends".into());
    }
    Ok((Window { from, lasts, every }, rest))
}

fn what(words: &[&str]) -> Parsed<What> {
    match words {
        ["xid", code, instance @ ..] => {
            Ok(What::Xid { code: numbers::integer(code)?, instance: instance_of(instance)? })
        }
        ["lost"] => Ok(What::Lost),
        ["unloaded"] => Ok(What::Unloaded),
        ["drops", "samples"] => Ok(What::DropsSamples),
        ["blocks", function] => Ok(What::Blocks(pattern(function)?)),
        ["slow", function, time] => Ok(What::Slow(pattern(function)?, numbers::seconds(time)?)),
        ["fails", function, "each"] => Ok(What::Fails(pattern(function)?, Failure::Each)),
        ["fails", function, error] => {
            let problem = || format!("`{error}` is no error like not-found, nor a number");
            let status = Status::parse(error).ok_or_else(problem)?;
            Ok(What::Fails(pattern(function)?, Failure::With(status)))
        }
        ["throttled", reasons] => Ok(What::Throttled(throttles(reasons)?)),
        _ => Err(format!(
            "`{}` does not happen: xid CODE, lost, unloaded, drops samples, blocks FUNCTION, \
             slow FUNCTION TIME, fails FUNCTION ERROR, throttled REASONS",
            words.join(" ")
        )),
    }
}

fn instance_of(words: &[&str]) -> Parsed<Option<(u32, u32)>> {
    match words {
        [] => Ok(None),
        [gi, ci] => {
            let value = |word: &str, key: &str| match word.strip_prefix(key) {
                Some(value) => numbers::integer(value),
                None => Err(format!("`{word}` is no `{key}N`")),
            };
            Ok(Some((value(gi, "gi=")?, value(ci, "ci=")?)))
        }
        _ => Err("an instance is `gi=N ci=N`".into()),
    }
}

fn pattern(text: &str) -> Parsed<Pattern> {
    if text == "all" {
        return Ok(Pattern::All);
    }
    if !text.starts_with("nvml") {
        return Err(format!("`{text}` is no function: all, nvmlDeviceGetPowerUsage, nvmlGpm*"));
    }
    Ok(match text.strip_suffix('*') {
        Some(beginning) => Pattern::Begins(beginning.into()),
        None => Pattern::Is(text.into()),
    })
}

fn throttles(text: &str) -> Parsed<u64> {
    let bit = |reason: &str| {
        let row = THROTTLES.iter().find(|(name, _)| *name == reason);
        row.map(|(_, bit)| *bit).ok_or_else(|| {
            let names: Vec<&str> = THROTTLES.iter().map(|(name, _)| *name).collect();
            format!("`{reason}` holds nothing back: {}", names.join(", "))
        })
    };
    text.split(',').try_fold(0, |bits, reason| Ok(bits | bit(reason)?))
}
