use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use tokio::time::sleep;

use super::*;

const REPORT: &str = include_str!("testdata/report.json");
const TICK: Duration = Duration::from_millis(20);
const NOW: UnixNanos = UnixNanos(5);

/// Writes a monitor: a script.
fn source(folder: &Path, script: &str) -> NeuronSource {
    fs::write(folder.join("report"), format!("{REPORT}\n")).unwrap();
    let program = folder.join("neuron-monitor");
    fs::write(&program, format!("#!/bin/sh\ncd {}\n{script}\n", folder.display())).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    NeuronSource::new(&GpuConfig { neuron_monitor: Some(program), ..GpuConfig::default() })
}

/// Reads until something is told.
async fn told(source: &mut NeuronSource) -> Result<Reading, SourceError> {
    for _ in 0..500 {
        match source.read().await {
            Ok(reading) if reading.devices.is_empty() => sleep(TICK).await,
            told => return told,
        }
    }
    panic!("the monitor told nothing");
}

fn interpret(report: &str) -> (Reading, u64) {
    let mut source = NeuronSource::new(&GpuConfig::default());
    let reading = source.interpret(&serde_json::from_str(report).unwrap(), NOW);
    (reading, source.invalid())
}

#[test]
fn a_recorded_report_is_read() {
    let (reading, invalid) = interpret(REPORT);
    assert_eq!(invalid, 0);
    assert_eq!(reading.devices.len(), 64, "16 boards with 4 cores each");
    let Seen { device, state } = &reading.devices[0];
    assert_eq!((device.id.as_str(), device.vendor), ("neuroncore-0", Vendor::Aws));
    assert_eq!((device.model.as_str(), device.minor), ("AWS trainium2", Some(0)));
    assert_eq!(reading.devices[5].device.minor, Some(1));
    let sample = state.sample().unwrap();
    assert_eq!(sample.busy.gpu, Some(0.4201));
    let used = 193_986_816 + 176_285_056 + 20_971_520;
    assert_eq!(sample.memory.used, Some(used));
    assert_eq!(sample.memory.total, Some(103_079_215_104 / 4));
    assert_eq!(sample.memory.free, Some(103_079_215_104 / 4 - used));
    assert_eq!(sample.ecc.unwrap().uncorrected, Some(0));
    let unused = reading.devices[63].state.sample().unwrap();
    assert_eq!((unused.busy.gpu, unused.memory.used, unused.ecc), (Some(0.0), Some(0), None));
    let processes: Vec<_> = reading
        .processes
        .iter()
        .map(|used| (used.device.as_str(), used.pid, used.memory, used.busy))
        .collect();
    assert_eq!(
        processes,
        [
            ("neuroncore-0", 4321, Some(used), Some(0.4201)),
            ("neuroncore-1", 4321, Some(used), Some(0.0)),
        ]
    );
}

#[test]
fn what_is_missing_or_null_is_none() {
    let (reading, _) = interpret("{}");
    assert!(reading.devices.is_empty());
    let (reading, invalid) = interpret(
        r#"{"neuron_runtime_data":null,"system_data":{"neuron_hw_counters":{"neuron_devices":null}},
            "neuron_hardware_info":{"neuron_device_count":1,"neuroncore_per_device_count":2,"error":""}}"#,
    );
    assert_eq!((reading.devices.len(), invalid), (2, 0));
    assert_eq!(reading.devices[0].state.sample().unwrap().memory.total, None);
}

#[test]
fn nonsense_is_left_out_and_counted() {
    let (reading, invalid) = interpret(
        r#"{"neuron_runtime_data":[{"pid":7,"report":{"neuroncore_counters":{"neuroncores_in_use":
            {"0":{"neuroncore_utilization":-3},"x":{"neuroncore_utilization":5},
             "4000000000":{"neuroncore_utilization":5}}},
            "memory_used":{"neuron_runtime_used_bytes":{"usage_breakdown":{"neuroncore_memory_usage":
            {"0":{"tensors":1e300}}}}}}}],
            "neuron_hardware_info":{"neuron_device_count":4000000000,"neuroncore_per_device_count":2}}"#,
    );
    assert_eq!(reading.devices.len(), 1024, "bounded");
    assert_eq!(invalid, 3);
    let [used] = &reading.processes[..] else { panic!("{:?}", reading.processes) };
    assert_eq!((used.busy, used.memory), (None, None));
}

#[tokio::test]
async fn without_the_program_it_is_absent() {
    let config = GpuConfig { neuron_monitor: Some("/nonexistent".into()), ..GpuConfig::default() };
    let error = NeuronSource::new(&config).read().await.unwrap_err();
    let is_told = |why: &str| why.contains("/nonexistent") && why.contains("--gpu-neuron-monitor");
    assert!(matches!(&error, SourceError::Absent(why) if is_told(why)), "{error}");
}

#[tokio::test]
async fn a_monitor_is_run_with_settings_and_ends_with_the_source() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo $$ > pid; cp \"$2\" settings; while cat report; do sleep 1; done";
    let mut source = source(folder.path(), script);
    let reading = told(&mut source).await.unwrap();
    assert_eq!(reading.devices.len(), 64);
    let settings = fs::read_to_string(folder.path().join("settings")).unwrap();
    let settings: serde_json::Value = serde_json::from_str(&settings).unwrap();
    assert_eq!(settings["period"], "1s");
    let pid = fs::read_to_string(folder.path().join("pid")).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    assert!(process.exists());
    drop(source);
    for _ in 0..500 {
        if !process.exists() {
            return;
        }
        sleep(TICK).await;
    }
    panic!("the monitor goes on without the source");
}

#[tokio::test]
async fn one_that_ends_is_told_and_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let script = "if [ -e once ]; then cat report; sleep 60; fi; touch once; exit 3";
    let mut source = source(folder.path(), script);
    let error = told(&mut source).await.unwrap_err();
    assert!(
        matches!(&error, SourceError::Failed(why) if why.contains("exit status: 3")),
        "{error}"
    );
    for _ in 0..500 {
        if source.read().await.is_ok_and(|reading| !reading.devices.is_empty()) {
            return;
        }
        sleep(TICK).await;
    }
    panic!("it was not started again");
}

#[tokio::test]
async fn lines_that_are_no_reports_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo starting; echo '{\"neuron_runtime_data\": 5}'; echo; cat report; sleep 60";
    let mut source = source(folder.path(), script);
    told(&mut source).await.unwrap();
    assert_eq!(source.invalid(), 2);
}

#[tokio::test]
async fn a_line_without_an_end_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = source(folder.path(), "exec tr '\\0' x < /dev/zero");
    let error = told(&mut source).await.unwrap_err();
    assert!(matches!(&error, SourceError::Failed(why) if why.contains("started again")), "{error}");
    assert!(source.invalid() > 0);
}

#[tokio::test]
async fn a_machine_without_devices_is_told_in_the_monitors_words() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"echo '{"neuron_hardware_info":{"error":"no driver"}}'; sleep 60"#;
    let error = told(&mut source(folder.path(), script)).await.unwrap_err();
    assert!(matches!(&error, SourceError::Failed(why) if why.contains("no driver")), "{error}");
}
