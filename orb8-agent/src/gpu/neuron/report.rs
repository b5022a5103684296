//! What neuron-monitor prints, as far as it is read. Everything may be missing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};

/// A report. One that lacks a part tells the others.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Report {
    #[serde(deserialize_with = "or_default")]
    pub(super) neuron_runtime_data: Vec<Runtime>,
    system_data: Option<System>,
    pub(super) neuron_hardware_info: Option<Hardware>,
}

/// A process that uses cores.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Runtime {
    pub(super) pid: Option<u32>,
    #[serde(deserialize_with = "or_default")]
    report: RuntimeReport,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeReport {
    neuroncore_counters: Option<CoreCounters>,
    memory_used: Option<MemoryUsed>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct CoreCounters {
    #[serde(deserialize_with = "or_default")]
    neuroncores_in_use: BTreeMap<String, Core>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Core {
    neuroncore_utilization: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct MemoryUsed {
    #[serde(deserialize_with = "or_default")]
    neuron_runtime_used_bytes: UsedBytes,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct UsedBytes {
    #[serde(deserialize_with = "or_default")]
    usage_breakdown: Breakdown,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Breakdown {
    /// Bytes of each core, by what they are for.
    #[serde(deserialize_with = "or_default")]
    neuroncore_memory_usage: BTreeMap<String, BTreeMap<String, f64>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct System {
    neuron_hw_counters: Option<HardwareCounters>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct HardwareCounters {
    #[serde(deserialize_with = "or_default")]
    neuron_devices: Vec<Board>,
}

/// Errors of one board since its driver was loaded.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Board {
    pub(super) neuron_device_index: Option<u32>,
    pub(super) mem_ecc_corrected: Option<f64>,
    pub(super) mem_ecc_uncorrected: Option<f64>,
    pub(super) sram_ecc_corrected: Option<f64>,
    pub(super) sram_ecc_uncorrected: Option<f64>,
}

/// What is plugged in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Hardware {
    neuron_device_type: Option<String>,
    pub(super) neuroncore_version: Option<String>,
    neuron_device_count: Option<u32>,
    neuroncore_per_device_count: Option<u32>,
    neuron_device_memory_size: Option<f64>,
    error: Option<String>,
}

/// What a process uses of a core. Nothing is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct CoreUse {
    /// Percent.
    pub(super) busy: Option<f64>,
    /// Bytes.
    pub(super) memory: Option<f64>,
}

/// What is empty is written as `null`.
fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Report {
    /// Returns why there are no devices, in the monitor's words.
    pub(super) fn error(&self) -> Option<&str> {
        let hardware = self.neuron_hardware_info.as_ref()?;
        let error = hardware.error.as_deref().filter(|error| !error.is_empty())?;
        (hardware.cores() == 0).then_some(error)
    }

    /// Returns the errors of each board.
    pub(super) fn boards(&self) -> &[Board] {
        let counters = self.system_data.as_ref().and_then(|it| it.neuron_hw_counters.as_ref());
        counters.map_or(&[], |counters| &counters.neuron_devices)
    }
}

impl Runtime {
    /// Returns what the process uses of each core, by number.
    pub(super) fn cores(&self) -> BTreeMap<u32, CoreUse> {
        let counters = self.report.neuroncore_counters.as_ref();
        let counters = counters.map(|counters| &counters.neuroncores_in_use);
        let memory = self.report.memory_used.as_ref();
        let memory = memory
            .map(|used| &used.neuron_runtime_used_bytes.usage_breakdown.neuroncore_memory_usage);
        let names: BTreeSet<&String> = counters
            .into_iter()
            .flat_map(BTreeMap::keys)
            .chain(memory.into_iter().flat_map(BTreeMap::keys))
            .collect();
        let core = |name: &String| {
            let busy = counters.and_then(|cores| cores.get(name)?.neuroncore_utilization);
            let memory = memory.and_then(|cores| Some(cores.get(name)?.values().sum()));
            Some((name.parse().ok()?, CoreUse { busy, memory }))
        };
        names.into_iter().filter_map(core).collect()
    }
}

impl Hardware {
    /// Returns how many cores there are.
    pub(super) fn cores(&self) -> u32 {
        let boards = self.neuron_device_count.unwrap_or(0);
        boards.saturating_mul(self.neuroncore_per_device_count.unwrap_or(0))
    }

    pub(super) fn cores_of_board(&self) -> Option<u32> {
        self.neuroncore_per_device_count.filter(|count| *count > 0)
    }

    /// Returns the bytes of one core: each has its part of the board's memory next to it.
    pub(super) fn memory_of_core(&self) -> Option<f64> {
        let bytes = self.neuron_device_memory_size.filter(|bytes| *bytes > 0.0)?;
        Some(bytes / f64::from(self.cores_of_board()?))
    }

    pub(super) fn model(&self) -> Option<String> {
        let kind = self.neuron_device_type.as_deref().filter(|kind| !kind.is_empty())?;
        Some(format!("AWS {kind}"))
    }
}
