//! KFD: who computes on a device. Its queues are the user's own, so `fdinfo` does not see them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::gpu::checked::Checked;
use crate::gpu::device::PciAddress;
use crate::gpu::source::Unread;
use crate::gpu::sysfs::{entries, number, text};

/// More than any node runs; what is beyond is left out, and counted.
const MOST_PROCESSES: usize = 4096;

/// A device, or a partition of one, as KFD knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// What the names of a process's files end with.
    pub(super) gpu_id: u32,
    pub(super) pci: PciAddress,
    /// The number in `/dev/dri/renderDN`.
    pub(super) render: Option<u32>,
    /// `gfx942`.
    pub(super) architecture: Option<String>,
    pub(super) compute_units: Option<u64>,
    /// Bytes of its memory.
    pub(super) memory: Option<u64>,
}

/// What a process does on a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Use {
    pub(super) pid: u32,
    pub(super) gpu_id: u32,
    /// Bytes.
    pub(super) memory: Option<u64>,
    /// Part of the compute units that have waves of it, or of the time in which it copies, whichever
    /// is more.
    pub(super) busy: Option<f64>,
}

/// Processes, and what they had copied when they were last seen.
#[derive(Debug)]
pub(super) struct Processes {
    folder: PathBuf,
    copied: HashMap<(u32, u32), (Instant, u64)>,
    /// Processes that there was no room for, in each reading.
    left_out: u64,
}

/// Lists the devices, by place and render node. Touches none.
pub(super) fn nodes(sys: &Path) -> Vec<Node> {
    let folder = sys.join("class/kfd/kfd/topology/nodes");
    let names = entries(&folder);
    let mut nodes: Vec<_> = names.iter().filter_map(|name| node(&folder.join(name))).collect();
    nodes.sort_by(|one, other| (&one.pci, one.render).cmp(&(&other.pci, other.render)));
    nodes
}

fn node(folder: &Path) -> Option<Node> {
    let gpu_id = number(&folder.join("gpu_id")).filter(|id| *id != 0)?;
    let text = text(&folder.join("properties"))?;
    let properties = properties(&text);
    let get = |name: &str| properties.get(name).copied();
    // Bus and function of the device; a processor has none of it.
    let location = get("location_id").filter(|location| *location != 0)?;
    let domain = get("domain").unwrap_or(0);
    let address = format!(
        "{domain:04x}:{:02x}:{:02x}.{:x}",
        location >> 8 & 0xff,
        location >> 3 & 0x1f,
        location & 7
    );
    let units = || Some(get("simd_count")? / get("simd_per_cu").filter(|count| *count > 0)?);
    Some(Node {
        gpu_id,
        pci: PciAddress::parse(&address)?,
        render: get("drm_render_minor").and_then(|minor| minor.try_into().ok()),
        architecture: get("gfx_target_version").filter(|version| *version > 0).map(architecture),
        compute_units: units().filter(|count| *count > 0),
        memory: memory(folder),
    })
}

fn properties(text: &str) -> HashMap<&str, u64> {
    let line = |line: &'_ str| -> Option<(usize, u64)> {
        let at = line.find(' ')?;
        Some((at, line[at..].trim().parse().ok()?))
    };
    text.lines().filter_map(|text| line(text).map(|(at, value)| (&text[..at], value))).collect()
}

/// 90402 is `gfx942`, 90010 is `gfx90a`.
fn architecture(version: u64) -> String {
    format!("gfx{}{:x}{:x}", version / 10_000, version / 100 % 100, version % 100)
}

fn memory(folder: &Path) -> Option<u64> {
    let banks = folder.join("mem_banks");
    let sizes = entries(&banks).into_iter().filter_map(|bank| {
        let text = text(&banks.join(bank).join("properties"))?;
        properties(&text).get("size_in_bytes").copied()
    });
    let sum = sizes.fold(0, u64::saturating_add);
    (sum > 0).then_some(sum)
}

impl Processes {
    pub(super) fn new(sys: &Path) -> Self {
        Self { folder: sys.join("class/kfd/kfd/proc"), copied: HashMap::new(), left_out: 0 }
    }

    /// Returns what there was no room for since start.
    pub(super) fn unread(&self) -> Unread {
        Unread::beyond(self.left_out, || {
            format!("KFD has more processes than the {MOST_PROCESSES} that are looked at")
        })
    }

    /// Reads what each process does on each node. One that goes meanwhile is left out.
    pub(super) fn read(&mut self, nodes: &[Node], now: Instant, checked: &mut Checked) -> Vec<Use> {
        let names = entries(&self.folder);
        let mut pids: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
        self.left_out += pids.len().saturating_sub(MOST_PROCESSES) as u64;
        pids.truncate(MOST_PROCESSES);
        let mut uses = Vec::new();
        let mut copied = HashMap::new();
        for pid in pids {
            for node in nodes {
                let Some((used, total)) = self.process(pid, node, now, checked) else { continue };
                uses.push(used);
                copied.extend(total.map(|total| ((pid, node.gpu_id), (now, total))));
            }
        }
        self.copied = copied;
        uses
    }

    fn process(
        &self,
        pid: u32,
        node: &Node,
        now: Instant,
        checked: &mut Checked,
    ) -> Option<(Use, Option<u64>)> {
        let folder = self.folder.join(pid.to_string());
        let gpu_id = node.gpu_id;
        let memory = number::<u64>(&folder.join(format!("vram_{gpu_id}")));
        let copied = number::<u64>(&folder.join(format!("sdma_{gpu_id}")));
        let occupied = number::<u64>(&folder.join(format!("stats_{gpu_id}/cu_occupancy")));
        // A process is on a node where it has memory or a queue; KFD has files for all the others too.
        let has_queue = || self.has_queue(&folder, gpu_id);
        if memory.unwrap_or(0) == 0 && occupied.unwrap_or(0) == 0 && !has_queue() {
            return None;
        }
        let computing = occupied
            .zip(node.compute_units)
            .and_then(|(occupied, units)| checked.ratio(occupied as f64 / units as f64));
        let copying = copied.and_then(|copied| self.copying(pid, gpu_id, copied, now));
        let busy = match (computing, copying) {
            (Some(computing), Some(copying)) => Some(computing.max(copying)),
            (computing, copying) => computing.or(copying),
        };
        Some((Use { pid, gpu_id, memory, busy }, copied))
    }

    fn has_queue(&self, folder: &Path, gpu_id: u32) -> bool {
        let queues = folder.join("queues");
        let Ok(entries) = fs::read_dir(&queues) else { return false };
        entries.flatten().any(|queue| number(&queue.path().join("gpuid")) == Some(gpu_id))
    }

    /// Returns the part of the time since the last reading in which a process's copies ran. The
    /// counter is of microseconds, and starts again with the process's queues.
    fn copying(&self, pid: u32, gpu_id: u32, copied: u64, now: Instant) -> Option<f64> {
        let (then, before) = self.copied.get(&(pid, gpu_id))?;
        let elapsed = now.saturating_duration_since(*then).as_micros();
        let copied = copied.checked_sub(*before)?;
        // Several engines may copy at once.
        (elapsed > 0).then(|| (copied as f64 / elapsed as f64).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_have_names() {
        assert_eq!(architecture(90_402), "gfx942");
        assert_eq!(architecture(90_010), "gfx90a");
        assert_eq!(architecture(110_000), "gfx1100");
        assert_eq!(architecture(90_500), "gfx950");
    }

    #[test]
    fn properties_are_names_and_numbers() {
        let read = properties("simd_count 1216\nunique_id 9223372036854775809\nname\nbad x\n");
        assert_eq!(read.get("simd_count"), Some(&1216));
        assert_eq!(read.get("unique_id"), Some(&9_223_372_036_854_775_809));
        assert_eq!(read.len(), 2);
    }
}
