//! What a DRM driver tells of one client in `/proc/<pid>/fdinfo/<fd>`.

use std::collections::BTreeMap;

use crate::gpu::device::PciAddress;

/// Kinds of engines and of memory that one driver has, at most.
const MOST_KINDS: usize = 64;

/// A client: who opened the device once, however many files refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// Where the device is.
    pub(super) pci: PciAddress,
    /// Its number on the device.
    pub(super) id: u64,
    /// Engines, by kind.
    pub(super) engines: BTreeMap<String, Engine>,
    memory: BTreeMap<String, Region>,
}

/// What a client used of one kind of engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Engine {
    /// Nanoseconds.
    pub(super) time: Option<u64>,
    /// Cycles of its own, and of all.
    pub(super) cycles: Option<u64>,
    pub(super) total_cycles: Option<u64>,
    /// Engines of the kind; one where the driver does not say.
    capacity: Option<u64>,
}

/// What a client has of one kind of memory, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Region {
    /// The key that came first.
    memory: Option<u64>,
    total: Option<u64>,
    resident: Option<u64>,
}

impl Client {
    /// Reads a file's text; `None` where it is of no client, or of a device that is not on PCI.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (mut pci, mut id) = (None, None);
        let mut engines: BTreeMap<String, Engine> = BTreeMap::new();
        let mut memory: BTreeMap<String, Region> = BTreeMap::new();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let Some(key) = key.strip_prefix("drm-") else { continue };
            let value = value.trim();
            match key {
                "pdev" => pci = PciAddress::parse(value),
                "client-id" => id = value.parse().ok(),
                _ => {}
            }
            if let Some((field, kind)) = engine_field(key) {
                let number = value.split_ascii_whitespace().next().and_then(|it| it.parse().ok());
                let engine = entry(&mut engines, kind);
                engine.into_iter().for_each(|engine| *field(engine) = number);
            } else if let Some((field, kind)) = region_field(key) {
                let region = entry(&mut memory, kind);
                region.into_iter().for_each(|region| *field(region) = bytes(value));
            }
        }
        Some(Self { pci: pci?, id: id?, engines, memory })
    }

    /// Returns the memory that it has, bytes: of the device's own, or of the machine's where the device
    /// has none.
    pub(super) fn memory(&self) -> Option<u64> {
        let is_own = |kind: &str| kind.starts_with("vram") || kind.starts_with("local");
        // What the processor alone reaches is not the device's.
        let is_machines = |kind: &str| kind.starts_with("system") || kind.starts_with("gtt");
        self.sum(is_own).or_else(|| self.sum(is_machines))
    }

    fn sum(&self, is_wanted: impl Fn(&str) -> bool) -> Option<u64> {
        let regions = self.memory.iter().filter(|(kind, _)| is_wanted(kind));
        let bytes = regions.filter_map(|(_, region)| {
            // Newer keys tell what is there; a total counts what was swapped out as well.
            region.resident.or(region.memory).or(region.total)
        });
        bytes.fold(None, |sum: Option<u64>, bytes| Some(sum.unwrap_or(0).saturating_add(bytes)))
    }
}

impl Engine {
    /// Returns the part of all engines of the kind that was used since an earlier reading.
    pub(super) fn busy_since(&self, before: &Self, elapsed_ns: u64) -> Option<f64> {
        let capacity = self.capacity.unwrap_or(1).max(1) as f64;
        let (used, of) = match (self.time.zip(before.time), self.cycles.zip(before.cycles)) {
            (Some((time, earlier)), _) => (time.checked_sub(earlier)?, elapsed_ns),
            (None, Some((cycles, earlier))) => {
                let (total, then) = self.total_cycles.zip(before.total_cycles)?;
                (cycles.checked_sub(earlier)?, total.checked_sub(then)?)
            }
            (None, None) => return None,
        };
        // Nothing ran at all while the counter of all stood still.
        let busy = if of == 0 { 0.0 } else { used as f64 / of as f64 };
        Some(busy / capacity)
    }
}

/// Finds an engine's or a region's row, if there is room for it.
fn entry<'a, T: Default>(rows: &'a mut BTreeMap<String, T>, kind: &str) -> Option<&'a mut T> {
    if rows.len() == MOST_KINDS && !rows.contains_key(kind) {
        return None;
    }
    Some(rows.entry(kind.to_owned()).or_default())
}

type EngineField = fn(&mut Engine) -> &mut Option<u64>;

fn engine_field(key: &str) -> Option<(EngineField, &str)> {
    // The longer ones first: they begin like the shorter ones.
    const FIELDS: [(&str, EngineField); 4] = [
        ("engine-capacity-", |engine| &mut engine.capacity),
        ("engine-", |engine| &mut engine.time),
        ("total-cycles-", |engine| &mut engine.total_cycles),
        ("cycles-", |engine| &mut engine.cycles),
    ];
    FIELDS.iter().find_map(|(prefix, field)| Some((*field, key.strip_prefix(prefix)?)))
}

type RegionField = fn(&mut Region) -> &mut Option<u64>;

fn region_field(key: &str) -> Option<(RegionField, &str)> {
    const FIELDS: [(&str, RegionField); 3] = [
        ("memory-", |region| &mut region.memory),
        ("total-", |region| &mut region.total),
        ("resident-", |region| &mut region.resident),
    ];
    FIELDS.iter().find_map(|(prefix, field)| Some((*field, key.strip_prefix(prefix)?)))
}

/// Reads `1536 MiB`, `2048 KiB`, `0`.
fn bytes(value: &str) -> Option<u64> {
    let mut words = value.split_ascii_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    let unit = match words.next() {
        None => 1,
        Some("KiB") => 1 << 10,
        Some("MiB") => 1 << 20,
        Some("GiB") => 1 << 30,
        Some(_) => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const I915: &str = include_str!("testdata/i915.txt");
    const XE: &str = include_str!("testdata/xe.txt");
    const AMDGPU: &str = include_str!("testdata/amdgpu-6.13.txt");
    const OLD_AMDGPU: &str = include_str!("testdata/amdgpu-6.4.txt");
    const NVIDIA: &str = include_str!("testdata/nvidia-proprietary-no-drm-keys.txt");

    fn parse(text: &str) -> Client {
        Client::parse(text).unwrap()
    }

    #[test]
    fn recorded_clients_are_read() {
        let i915 = parse(I915);
        assert_eq!((i915.pci.as_str(), i915.id), ("0000:00:02.0", 18));
        assert_eq!(i915.engines["render"].time, Some(25_662_044_495));
        assert_eq!(i915.engines["video"].capacity, Some(2));
        assert_eq!(i915.memory(), Some(125 << 20), "it has none of its own");
        let xe = parse(XE);
        assert_eq!(xe.engines["rcs"].cycles, Some(28_257_900));
        assert_eq!(xe.engines["ccs"].total_cycles, Some(7_655_183_225));
        assert_eq!(xe.engines["ccs"].capacity, Some(4));
        assert_eq!(xe.memory(), Some(23_992 << 10));
        for text in [AMDGPU, OLD_AMDGPU] {
            let amdgpu = parse(text);
            assert_eq!((amdgpu.pci.as_str(), amdgpu.id), ("0000:83:00.0", 57));
            assert_eq!(amdgpu.engines["compute"].time, Some(987_654_321));
            assert_eq!(amdgpu.memory(), Some(1536 << 20), "old and new keys are one");
        }
        assert_eq!(Client::parse(NVIDIA), None);
    }

    #[test]
    fn time_and_cycles_are_parts() {
        let engine = |text: &str| {
            parse(&format!("{text}\ndrm-pdev: 0000:03:00.0\ndrm-client-id: 1")).engines["x"]
        };
        let time = |ns: u64| engine(&format!("drm-engine-x: {ns} ns\ndrm-engine-capacity-x: 2"));
        assert_eq!(time(1500).busy_since(&time(500), 1000), Some(0.5));
        assert_eq!(time(500).busy_since(&time(1500), 1000), None, "it began anew");
        let cycles =
            |own: u64, all: u64| engine(&format!("drm-cycles-x: {own}\ndrm-total-cycles-x: {all}"));
        assert_eq!(cycles(30, 200).busy_since(&cycles(10, 100), 7), Some(0.2));
        assert_eq!(cycles(10, 100).busy_since(&cycles(10, 100), 7), Some(0.0), "asleep");
        assert_eq!(cycles(10, 100).busy_since(&time(1), 7), None);
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("0"), Some(0));
        assert_eq!(bytes("2048 KiB"), Some(2 << 20));
        assert_eq!(bytes("1 GiB"), Some(1 << 30));
        assert_eq!(
            (bytes("1 XiB"), bytes("-1"), bytes("99999999999999999999")),
            (None, None, None)
        );
        assert_eq!(bytes("18446744073709551615 KiB"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(drm-(pdev|client-id|engine-[a-z]|total-[a-z]|cycles-x): ?[0-9a-f:.]{0,20} ?(KiB|ns)?\n|\\PC{0,40}\n){0,40}") {
            if let Some(client) = Client::parse(&text) {
                client.memory();
                for engine in client.engines.values() {
                    engine.busy_since(engine, 0);
                }
            }
        }
    }
}
