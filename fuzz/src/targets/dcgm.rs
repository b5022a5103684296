//! dcgm-exporter's text: whoever listens on its port writes it.

use orb8_agent::event::UnixNanos;
use orb8_agent::gpu::dcgm::{DcgmSource, text};
use orb8_agent::gpu::{GpuConfig, Reading};

/// Reads any text.
pub fn run(data: &[u8]) {
    for row in text::rows(data, "DCGM_FI_").flatten() {
        assert!(row.name.starts_with("DCGM_FI_"), "{:?}", row.name);
        for (name, value) in &row.labels {
            assert!(!name.is_empty());
            assert_eq!(row.label(name).is_none(), first(&row, name).is_empty(), "{name}: {value}");
        }
    }
    let mut source = DcgmSource::new(&GpuConfig::default());
    if let Ok(reading) = source.interpret(data, UnixNanos(1)) {
        check(&reading);
    }
}

/// A label that is there twice is the first one.
fn first<'a>(row: &'a text::Row<'_>, name: &str) -> &'a str {
    row.labels.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
}

fn check(reading: &Reading) {
    for seen in &reading.devices {
        let Some(sample) = seen.state.sample() else { continue };
        let busy = sample.busy;
        for part in [busy.gpu, busy.memory, busy.engine, busy.sm, busy.tensor, busy.dram] {
            assert!(part.is_none_or(|part| (0.0..=1.0).contains(&part)), "{part:?}");
        }
        assert!(sample.power.draw.is_none_or(|watts| watts >= 0.0), "{:?}", sample.power);
        if let Some(part) = &seen.device.part {
            let is_parent = |seen: &orb8_agent::gpu::Seen| seen.device.id == part.parent;
            assert!(reading.devices.iter().any(is_parent), "{} has no parent", seen.device.id);
        }
    }
    for holding in &reading.holdings {
        assert!(!holding.pod.is_empty() && !holding.namespace.is_empty());
        let is_it = |seen: &orb8_agent::gpu::Seen| Some(&seen.device.id) == holding.device.as_ref();
        assert!(reading.devices.iter().any(is_it), "{holding:?} holds what is not there");
    }
}

/// Each shape that exporters write.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).\n\
         DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-a\",pci_bus_id=\"00000000:1B:00.0\",device=\"nvidia0\",Hostname=\"n\"} 97\n\
         DCGM_FI_DEV_FB_USED{gpu=\"0\",UUID=\"GPU-a\",container=\"c\",namespace=\"n\",pod=\"p\",vgpu=\"0\"} 20480\n",
        "DCGM_FI_DEV_FB_USED{gpu=\"1\",UUID=\"GPU-b\",GPU_I_PROFILE=\"1g.10gb\",GPU_I_ID=\"11\",pod=\"\"} 2062\n\
         DCGM_FI_DEV_POWER_USAGE{gpu=\"1\",UUID=\"GPU-b\",GPU_I_PROFILE=\"1g.10gb\",GPU_I_ID=\"13\"} 112.334\n",
        "DCGM_FI_DEV_XID_ERRORS{gpu=\"0\",UUID=\"GPU-a\",err_msg=\"a \\\"b\\\\\"} 79 1700000000\n\
         DCGM_FI_PROF_SM_ACTIVE{gpu=\"0\",UUID=\"GPU-a\"} NaN\n\
         DCGM_FI_DEV_SM_CLOCK{gpu=\"0\",UUID=\"GPU-a\"} 2147483632\n",
        "DCGM_FI_DEV_GPU_TEMP{gpu=\"0\",UUID=\"GPU-a\",exported_pod=\"p\",exported_namespace=\"n\",\
         dra_claim_name=\"x\",dra_driver_name=\"gpu.nvidia.com\",dra_device_name=\"gpu-0\"} -5\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
