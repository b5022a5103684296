//! One reading of a device.

use orb8_proto::v1::{GpuEcc, GpuNvLink, GpuRemappedRows, GpuSample, GpuThrottle, GpuThrottled};

use super::{nanos, objects, sparse, timestamp};

sparse! {
    pub(super) struct SampleObject {
        time: String,
        utilization: f64,
        memory_utilization: f64,
        encoder_utilization: f64,
        decoder_utilization: f64,
        engine_active: f64,
        sm_active: f64,
        sm_occupancy: f64,
        tensor_active: f64,
        fp64_active: f64,
        fp32_active: f64,
        fp16_active: f64,
        dram_active: f64,
        memory_total_bytes: u64,
        memory_used_bytes: u64,
        memory_reserved_bytes: u64,
        memory_free_bytes: u64,
        temperature: f64,
        memory_temperature: f64,
        slowdown_temperature: f64,
        shutdown_temperature: f64,
        power_watts: f64,
        power_limit_watts: f64,
        energy_joules: f64,
        sm_clock: u32,
        memory_clock: u32,
        video_clock: u32,
        max_sm_clock: u32,
        max_memory_clock: u32,
        throttle: ThrottleObject,
        pcie_tx_bytes_per_second: u64,
        pcie_rx_bytes_per_second: u64,
        pcie_replays: u64,
        pcie_generation: u32,
        pcie_width: u32,
        pcie_max_generation: u32,
        pcie_max_width: u32,
        nvlink: NvLinkObject,
        ecc: EccObject,
        remapped_rows: RowsObject,
        performance_state: u32,
        persistence_mode: bool,
    }

    pub(super) struct ThrottleObject {
        reasons: Vec<&'static str>,
        lost: Vec<ThrottledObject>,
    }

    pub(super) struct ThrottledObject {
        reason: &'static str,
        time_ns: u64,
    }

    pub(super) struct NvLinkObject {
        links: u32,
        active: u32,
        tx_bytes: u64,
        rx_bytes: u64,
        tx_bytes_per_second: u64,
        rx_bytes_per_second: u64,
        crc_errors: u64,
        replays: u64,
        recoveries: u64,
    }

    pub(super) struct EccObject {
        enabled: bool,
        corrected: u64,
        uncorrected: u64,
        corrected_lifetime: u64,
        uncorrected_lifetime: u64,
    }

    pub(super) struct RowsObject {
        correctable: u64,
        uncorrectable: u64,
        pending: bool,
        failed: bool,
    }
}

impl SampleObject {
    pub(super) fn new(sample: &GpuSample) -> Self {
        let GpuSample {
            time_ns,
            utilization,
            memory_utilization,
            encoder_utilization,
            decoder_utilization,
            engine_active,
            sm_active,
            sm_occupancy,
            tensor_active,
            fp64_active,
            fp32_active,
            fp16_active,
            dram_active,
            memory_total_bytes,
            memory_used_bytes,
            memory_reserved_bytes,
            memory_free_bytes,
            temperature,
            memory_temperature,
            slowdown_temperature,
            shutdown_temperature,
            power_watts,
            power_limit_watts,
            energy_joules,
            sm_clock,
            memory_clock,
            video_clock,
            max_sm_clock,
            max_memory_clock,
            throttle,
            pcie_tx_bytes_per_second,
            pcie_rx_bytes_per_second,
            pcie_replays,
            pcie_generation,
            pcie_width,
            pcie_max_generation,
            pcie_max_width,
            nvlink,
            ecc,
            remapped_rows,
            performance_state,
            persistence_mode,
        } = sample.clone();
        Self {
            time: timestamp(time_ns),
            utilization,
            memory_utilization,
            encoder_utilization,
            decoder_utilization,
            engine_active,
            sm_active,
            sm_occupancy,
            tensor_active,
            fp64_active,
            fp32_active,
            fp16_active,
            dram_active,
            memory_total_bytes,
            memory_used_bytes,
            memory_reserved_bytes,
            memory_free_bytes,
            temperature,
            memory_temperature,
            slowdown_temperature,
            shutdown_temperature,
            power_watts,
            power_limit_watts,
            energy_joules,
            sm_clock,
            memory_clock,
            video_clock,
            max_sm_clock,
            max_memory_clock,
            throttle: throttle.as_ref().map(ThrottleObject::new),
            pcie_tx_bytes_per_second,
            pcie_rx_bytes_per_second,
            pcie_replays,
            pcie_generation,
            pcie_width,
            pcie_max_generation,
            pcie_max_width,
            nvlink: nvlink.as_ref().map(NvLinkObject::new),
            ecc: ecc.as_ref().map(EccObject::new),
            remapped_rows: remapped_rows.as_ref().map(RowsObject::new),
            performance_state,
            persistence_mode,
        }
    }
}

impl ThrottleObject {
    pub(super) fn new(throttle: &GpuThrottle) -> Self {
        let GpuThrottle { reasons: _, lost, reasons_unknown } = throttle;
        let words = || throttle.reasons().filter_map(|reason| reason.word()).collect();
        Self { reasons: (!reasons_unknown).then(words), lost: objects(lost, ThrottledObject::new) }
    }
}

impl ThrottledObject {
    pub(super) fn new(throttled: &GpuThrottled) -> Self {
        let GpuThrottled { reason: _, time } = throttled;
        Self { reason: throttled.reason().word(), time_ns: nanos(time.as_ref()) }
    }
}

impl NvLinkObject {
    pub(super) const fn new(nvlink: &GpuNvLink) -> Self {
        let GpuNvLink {
            links,
            active,
            tx_bytes,
            rx_bytes,
            tx_bytes_per_second,
            rx_bytes_per_second,
            crc_errors,
            replays,
            recoveries,
        } = *nvlink;
        Self {
            links: Some(links),
            active: Some(active),
            tx_bytes,
            rx_bytes,
            tx_bytes_per_second,
            rx_bytes_per_second,
            crc_errors,
            replays,
            recoveries,
        }
    }
}

impl EccObject {
    pub(super) const fn new(ecc: &GpuEcc) -> Self {
        let GpuEcc { enabled, corrected, uncorrected, corrected_lifetime, uncorrected_lifetime } =
            *ecc;
        let enabled = Some(enabled);
        Self { enabled, corrected, uncorrected, corrected_lifetime, uncorrected_lifetime }
    }
}

impl RowsObject {
    pub(super) const fn new(rows: &GpuRemappedRows) -> Self {
        let GpuRemappedRows { correctable, uncorrectable, pending, failed } = *rows;
        Self {
            correctable: Some(correctable),
            uncorrectable: Some(uncorrectable),
            pending: Some(pending),
            failed: Some(failed),
        }
    }
}
