//! What reading eight devices each second costs, with a stand-in for NVIDIA's library. In a process of
//! its own, so that nothing else is counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use orb8_agent::config::Config;
use orb8_agent::cost::OwnCost;
use orb8_agent::gpu::GpuConfig;
use orb8_agent::gpu::collector::Collector;
use orb8_agent::gpu::config::TraceMode;
use orb8_agent::pipeline::{LocalAddresses, Pipeline, lock};
use tokio_util::sync::CancellationToken;

/// Readings, one a second.
const READINGS: u32 = 8;
/// Of a core. The stand-in's own part of it is as small as a driver's.
const BUDGET: f64 = 0.005;

#[test]
fn reading_eight_devices_is_cheap() {
    let directory = tempfile::tempdir().unwrap();
    let paths = orb8_standins::install(directory.path()).unwrap();
    paths.play(orb8_standins::scenario("h100x8").unwrap().text).unwrap();
    let pipeline =
        Pipeline::new(&Config::in_process().unwrap(), LocalAddresses::default()).shared();
    let board = lock(&pipeline).gpu();
    let config = GpuConfig {
        nvml_library: Some(paths.nvml),
        pod_resources: None,
        trace: TraceMode::Off,
        ..GpuConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cancel = CancellationToken::new();
        let mut collector = Collector::new(&config, Arc::clone(&pipeline), board, cancel);
        collector.add_all();
        // Opening libraries and the first walk of the cgroups are not what each second costs.
        for answer in [3, 1] {
            collector.round(Duration::from_secs(answer)).await;
        }
        let (began, before) = (Instant::now(), OwnCost::read());
        for _ in 0..READINGS {
            tokio::time::sleep(config.interval).await;
            let view = collector.round(Duration::from_millis(900)).await;
            assert_eq!(view.devices.len(), 8, "{:?}", view.sources);
        }
        let used = OwnCost::read().cpu_ns - before.cpu_ns;
        let part = used as f64 / began.elapsed().as_nanos() as f64;
        let each = Duration::from_nanos(used) / READINGS;
        println!("eight devices at 1 Hz: {:.3} % of a core, {each:?} a reading", part * 100.0);
        assert!(part < BUDGET, "{part}");
    });
}
