//! What a device is, and how it was when it was read.

use std::collections::BTreeMap;
use std::time::Duration;

use orb8_proto::v1;

use super::event::xid as told_xid;
use super::share::share;
use super::words::{throttle_reason, vendor};
use super::{duration, joules};
use crate::gpu::sample::{
    Busy, Clocks, Ecc, Memory, NvLink, Pcie, Power, RemappedRows, Temperature, Throttle,
    ThrottleReason,
};
use crate::gpu::view::{DeviceCounts, DeviceView};
use crate::gpu::xid;
use crate::gpu::{Device, DeviceState, Part, Sample, Seen, Shares};

pub(super) fn device(view: &DeviceView) -> v1::GpuDevice {
    let DeviceView { seen: Seen { device, state }, shares, counts } = view;
    let Device {
        id,
        vendor: by,
        source,
        index,
        minor,
        model,
        architecture,
        pci,
        serial,
        driver,
        part: of,
        is_divided,
    } = device;
    let Shares { shares, unattributed_memory, unattributed_busy } = shares;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let told = v1::GpuDevice {
        id: id.to_string(),
        vendor: vendor(*by).into(),
        source: source.word().to_owned(),
        index: *index,
        minor: *minor,
        model: model.clone(),
        architecture: text(architecture),
        pci_address: pci.as_ref().map(ToString::to_string).unwrap_or_default(),
        serial: text(serial),
        driver_version: text(driver),
        part: of.as_ref().map(part),
        divided: *is_divided,
        shares: shares.iter().map(share).collect(),
        unattributed_memory_bytes: *unattributed_memory,
        unattributed_utilization: *unattributed_busy,
        counts: Some(device_counts(counts)),
        ..v1::GpuDevice::default()
    };
    with_state(told, state)
}

fn with_state(told: v1::GpuDevice, state: &DeviceState) -> v1::GpuDevice {
    match state {
        DeviceState::Sampled(of) => {
            v1::GpuDevice { state: v1::GpuState::Ok.into(), sample: Some(sample(of)), ..told }
        }
        DeviceState::Lost { reason, since } => v1::GpuDevice {
            state: v1::GpuState::Lost.into(),
            state_reason: reason.clone(),
            lost_since_ns: since.0,
            ..told
        },
        DeviceState::Silent { reason } => v1::GpuDevice {
            state: v1::GpuState::Silent.into(),
            state_reason: reason.clone(),
            ..told
        },
    }
}

fn part(part: &Part) -> v1::GpuPart {
    let Part { parent, gpu_instance, compute_instance, profile } = part;
    v1::GpuPart {
        parent: parent.to_string(),
        gpu_instance: *gpu_instance,
        compute_instance: *compute_instance,
        profile: profile.clone(),
    }
}

fn device_counts(counts: &DeviceCounts) -> v1::GpuCounts {
    let DeviceCounts {
        xids,
        xid_times,
        last_xid,
        last_xid_time,
        throttled: held,
        energy_mj,
        lost,
        silent,
    } = counts;
    let xid = |(code, count): (&u32, &u64)| v1::GpuXidCount {
        xid: Some(told_xid(&xid::describe(*code))),
        count: *count,
        last_ns: xid_times.get(code).map_or(0, |time| time.0),
    };
    v1::GpuCounts {
        xids: xids.iter().map(xid).collect(),
        throttled: throttled_by_reason(held),
        energy_joules: joules(*energy_mj),
        lost: *lost,
        silent: *silent,
        last_xid: *last_xid,
        last_xid_ns: last_xid_time.0,
    }
}

fn throttled_by_reason(times: &BTreeMap<ThrottleReason, Duration>) -> Vec<v1::GpuThrottled> {
    times.iter().map(|(reason, time)| throttled(*reason, *time)).collect()
}

fn throttled(reason: ThrottleReason, time: Duration) -> v1::GpuThrottled {
    v1::GpuThrottled { reason: throttle_reason(reason).into(), time: duration(time) }
}

fn sample(sample: &Sample) -> v1::GpuSample {
    let Sample {
        time,
        busy,
        memory,
        temperature,
        power,
        clocks,
        throttle: held,
        pcie,
        nvlink: links,
        ecc: errors,
        rows: remapped,
        performance_state,
        persistence_mode,
    } = sample;
    let told = v1::GpuSample {
        time_ns: time.0,
        throttle: throttle(held),
        nvlink: links.as_ref().map(nvlink),
        ecc: errors.as_ref().map(ecc),
        remapped_rows: remapped.as_ref().map(rows),
        performance_state: performance_state.map(Into::into),
        persistence_mode: *persistence_mode,
        ..v1::GpuSample::default()
    };
    let told = with_pcie(with_clocks(with_busy(told, busy), clocks), pcie);
    with_power(with_memory(told, memory), temperature, power)
}

fn with_busy(told: v1::GpuSample, busy: &Busy) -> v1::GpuSample {
    let Busy {
        gpu,
        memory,
        encoder,
        decoder,
        engine,
        sm,
        sm_occupancy,
        tensor,
        fp64,
        fp32,
        fp16,
        dram,
    } = *busy;
    v1::GpuSample {
        utilization: gpu,
        memory_utilization: memory,
        encoder_utilization: encoder,
        decoder_utilization: decoder,
        engine_active: engine,
        sm_active: sm,
        sm_occupancy,
        tensor_active: tensor,
        fp64_active: fp64,
        fp32_active: fp32,
        fp16_active: fp16,
        dram_active: dram,
        ..told
    }
}

fn with_memory(told: v1::GpuSample, memory: &Memory) -> v1::GpuSample {
    let Memory { total, used, reserved, free } = *memory;
    v1::GpuSample {
        memory_total_bytes: total,
        memory_used_bytes: used,
        memory_reserved_bytes: reserved,
        memory_free_bytes: free,
        ..told
    }
}

fn with_power(told: v1::GpuSample, temperature: &Temperature, power: &Power) -> v1::GpuSample {
    let Temperature { gpu, memory, slowdown, shutdown } = *temperature;
    let Power { draw, limit, energy_mj } = *power;
    v1::GpuSample {
        temperature: gpu,
        memory_temperature: memory,
        slowdown_temperature: slowdown,
        shutdown_temperature: shutdown,
        power_watts: draw,
        power_limit_watts: limit,
        energy_joules: energy_mj.map(joules),
        ..told
    }
}

fn with_clocks(told: v1::GpuSample, clocks: &Clocks) -> v1::GpuSample {
    let Clocks { sm, memory, video, max_sm, max_memory } = *clocks;
    v1::GpuSample {
        sm_clock: sm,
        memory_clock: memory,
        video_clock: video,
        max_sm_clock: max_sm,
        max_memory_clock: max_memory,
        ..told
    }
}

fn with_pcie(told: v1::GpuSample, pcie: &Pcie) -> v1::GpuSample {
    let Pcie { tx_rate, rx_rate, replays, generation, width, max_generation, max_width } = *pcie;
    v1::GpuSample {
        pcie_tx_bytes_per_second: tx_rate,
        pcie_rx_bytes_per_second: rx_rate,
        pcie_replays: replays,
        pcie_generation: generation,
        pcie_width: width,
        pcie_max_generation: max_generation,
        pcie_max_width: max_width,
        ..told
    }
}

/// Nothing where the device tells nothing of it.
fn throttle(held: &Throttle) -> Option<v1::GpuThrottle> {
    let Throttle { reasons, lost } = held;
    if reasons.is_none() && lost.is_empty() {
        return None;
    }
    let word = |reason: &ThrottleReason| throttle_reason(*reason).into();
    Some(v1::GpuThrottle {
        reasons: reasons.iter().flatten().map(word).collect(),
        lost: lost.iter().map(|(reason, time)| throttled(*reason, *time)).collect(),
        reasons_unknown: reasons.is_none(),
    })
}

const fn nvlink(links: &NvLink) -> v1::GpuNvLink {
    let NvLink {
        links,
        active,
        tx_bytes,
        rx_bytes,
        tx_rate,
        rx_rate,
        crc_errors,
        replays,
        recoveries,
    } = *links;
    v1::GpuNvLink {
        links,
        active,
        tx_bytes,
        rx_bytes,
        tx_bytes_per_second: tx_rate,
        rx_bytes_per_second: rx_rate,
        crc_errors,
        replays,
        recoveries,
    }
}

const fn ecc(errors: &Ecc) -> v1::GpuEcc {
    let Ecc { is_enabled, corrected, uncorrected, corrected_lifetime, uncorrected_lifetime } =
        *errors;
    v1::GpuEcc {
        enabled: is_enabled,
        corrected,
        uncorrected,
        corrected_lifetime,
        uncorrected_lifetime,
    }
}

const fn rows(remapped: &RemappedRows) -> v1::GpuRemappedRows {
    let RemappedRows { correctable, uncorrectable, is_pending, has_failed } = *remapped;
    v1::GpuRemappedRows { correctable, uncorrectable, pending: is_pending, failed: has_failed }
}
