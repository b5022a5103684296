//! Each scenario, and what it shows.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use nvml_wrapper::Device;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{Clock, PcieUtilCounter, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::gpm::gpm_metrics_get;
use nvml_wrapper::structs::device::FieldId;
use orb8_standins::scenarios;

use crate::node::Node;

/// What `nvidia-smi` shows of a device, checked for what must hold on any.
fn look(device: &Device<'_>) {
    let memory = device.memory_info().unwrap();
    assert_eq!(memory.used + memory.reserved + memory.free, memory.total, "{memory:?}");
    assert!(!device.name().unwrap().is_empty());
    let uuid = device.uuid().unwrap();
    assert!(uuid.starts_with("GPU-") && uuid.len() == 40, "{uuid}");
    assert!(device.power_usage().unwrap() <= device.enforced_power_limit().unwrap() + 10_000);
    assert!(device.temperature(TemperatureSensor::Gpu).unwrap() < 95);
    assert!(device.clock_info(Clock::SM).unwrap() <= device.max_clock_info(Clock::SM).unwrap());
    assert!(device.current_pcie_link_gen().unwrap() <= device.max_pcie_link_gen().unwrap());
    let processes: u64 = processes(device).iter().map(|(_, memory)| memory).sum();
    assert!(processes <= memory.used, "{processes} {memory:?}");
}

/// Numbers and memory of all processes on a device.
fn processes(device: &Device<'_>) -> Vec<(u32, u64)> {
    let all = [
        device.running_compute_processes().unwrap(),
        device.running_graphics_processes().unwrap(),
        device.mps_running_compute_processes().unwrap(),
    ];
    let known = all.iter().flatten().map(|process| match process.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => (process.pid, bytes),
        UsedGpuMemory::Unavailable => (process.pid, 0),
    });
    known.collect()
}

fn field(device: &Device<'_>, id: u32) -> Result<u64, NvmlError> {
    let value = device.field_values_for(&[FieldId(id)]).unwrap().remove(0)?.value?;
    match value {
        nvml_wrapper::enums::device::SampleValue::U64(value) => Ok(value),
        nvml_wrapper::enums::device::SampleValue::U32(value) => Ok(value.into()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_scenario_begins_with_devices_that_make_sense() {
    for scenario in scenarios() {
        let node = Node::at(scenario.name, 0.0);
        let nvml = match node.try_init() {
            Ok(nvml) => nvml,
            Err(NvmlError::LibRmVersionMismatch) if scenario.name == "driver-mismatch" => continue,
            Err(error) => panic!("{}: {error}", scenario.name),
        };
        assert!(nvml.sys_driver_version().unwrap().contains('.'));
        let count = nvml.device_count().unwrap();
        assert!(count > 0, "{}", scenario.name);
        let mut uuids = HashSet::new();
        for index in 0..count {
            let device = nvml.device_by_index(index).unwrap();
            assert_eq!(device.index().unwrap(), index);
            look(&device);
            assert!(uuids.insert(device.uuid().unwrap()), "{}: twice", scenario.name);
            let again = nvml.device_by_uuid(device.uuid().unwrap()).unwrap();
            assert_eq!(again.index().unwrap(), index);
            let pci = device.pci_info().unwrap().bus_id;
            assert_eq!(nvml.device_by_pci_bus_id(pci).unwrap().index().unwrap(), index);
        }
        assert!(nvml.device_by_index(count).is_err());
    }
}

#[test]
fn eight_h100s_work() {
    let node = Node::at("h100x8", 22.0);
    let nvml = node.init();
    assert_eq!(nvml.device_count().unwrap(), 8);
    assert_eq!(nvml.sys_cuda_driver_version().unwrap(), 12080);
    let first = nvml.device_by_index(0).unwrap();
    let used = first.memory_info().unwrap().used;
    assert_eq!(used, 71 << 30, "its process has as much");
    let busy = first.utilization_rates().unwrap();
    assert!((70..=99).contains(&busy.gpu), "{busy:?}");
    assert!(first.pcie_throughput(PcieUtilCounter::Receive).unwrap() > 0);
    let reasons = first.current_throttle_reasons_strict().unwrap();
    assert_eq!(reasons.bits(), 0x4, "the power cap holds it back now");
    assert_eq!(field(&first, 91).unwrap(), 18, "links");
    assert!(field(&first, 138).unwrap() > 0, "NVLink has sent something");
    assert!(first.link_wrapper_for(0).is_active().unwrap());
    let (idle, nobodys) = (nvml.device_by_index(6).unwrap(), nvml.device_by_index(7).unwrap());
    assert_eq!(idle.utilization_rates().unwrap().gpu, 0);
    assert_eq!(processes(&idle), [(4_000_007, 33 << 30)]);
    assert_eq!(processes(&nobodys), []);
    assert_eq!(nvml.sys_process_name(4_000_001, 64).unwrap(), "python3");
}

#[test]
fn energy_agrees_with_power_and_never_goes_back() {
    let node = Node::at("dies", 0.0);
    let nvml = node.init();
    let device = nvml.device_by_index(0).unwrap();
    let read = || {
        let before = std::time::Instant::now();
        let energy = device.total_energy_consumption().unwrap();
        (before, energy, std::time::Instant::now())
    };
    let (first, second) = (read(), {
        std::thread::sleep(Duration::from_millis(300));
        read()
    });
    // However long the readings themselves took.
    let least = second.0.duration_since(first.2).as_secs_f64() * 500.0 - 2.0;
    let most = second.2.duration_since(first.0).as_secs_f64() * 500.0 + 2.0;
    let difference = (second.1 - first.1) as f64 / 1e3;
    assert!((least..most).contains(&difference), "{difference} J of {least} J to {most} J");
}

#[test]
fn profiling_tells_the_time_between_two_samples() {
    let node = Node::at("h100x8", 40.0);
    let nvml = node.init();
    let (serves, trains) = (nvml.device_by_index(4).unwrap(), nvml.device_by_index(0).unwrap());
    assert!(serves.gpm_support().unwrap());
    let first = serves.gpm_sample().unwrap();
    let first_of_other = trains.gpm_sample().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let second = serves.gpm_sample().unwrap();
    let ids = [GpmMetricId::GraphicsUtil, GpmMetricId::SmUtil, GpmMetricId::NvlinkTotalTxPerSec];
    let values = |first, second| -> Vec<f64> {
        let metrics = gpm_metrics_get(&nvml, first, second, &ids).unwrap();
        metrics.into_iter().map(|metric| metric.unwrap().value).collect()
    };
    let served = values(&first, &second);
    assert!((served[0] - 45.0).abs() < 1e-6, "{served:?}");
    assert!((served[1] - 45.0 * 0.85).abs() < 1e-6, "{served:?}");
    assert_eq!(served[2], 0.0);
    let trained = values(&first_of_other, &trains.gpm_sample().unwrap());
    assert!(trained[2] > 9000.0, "MiB a second: {trained:?}");
    let mixed = gpm_metrics_get(&nvml, &first_of_other, &second, &ids);
    assert!(matches!(mixed, Err(NvmlError::InvalidArg)), "samples of two devices");
    let backwards = gpm_metrics_get(&nvml, &second, &first, &ids);
    assert!(matches!(backwards, Err(NvmlError::InvalidArg)));
}

#[test]
fn an_a100_has_no_profiling_and_fails_in_time() {
    let node = Node::at("a100", 19.5);
    let nvml = node.init();
    let devices: Vec<Device<'_>> =
        (0..4).map(|index| nvml.device_by_index(index).unwrap()).collect();
    assert!(!devices[0].gpm_support().unwrap());
    assert!(matches!(devices[0].gpm_sample(), Err(NvmlError::NotSupported)));
    assert_eq!(devices[2].current_pcie_link_width().unwrap(), 8);
    assert!(!devices[2].link_wrapper_for(3).is_active().unwrap());
    assert!(field(&devices[2], 52).unwrap() > 20, "replays of all links");
    assert_eq!(field(&devices[3], 144).unwrap(), 0);
    let set = nvml.create_event_set().unwrap();
    let set = devices[3].register_events(EventTypes::CRITICAL_XID_ERROR, set).unwrap();
    let codes: Vec<u32> = (0..2).map(|_| xid(set.wait(3000).unwrap().event_data)).collect();
    assert_eq!(codes, [48, 63], "both, in the order of the file");
    assert_eq!(field(&devices[3], 144).unwrap(), 1, "a row waits to be remapped");
    assert!(matches!(set.wait(100), Err(NvmlError::Timeout)));
}

fn xid(error: Option<XidError>) -> u32 {
    match error {
        Some(XidError::Value(code)) => code as u32,
        other => panic!("{other:?}"),
    }
}

#[test]
fn instances_are_devices_with_a_parent() {
    let node = Node::at("mig", 1.0);
    let nvml = node.init();
    let parent = nvml.device_by_index(0).unwrap();
    assert_eq!(parent.mig_mode().unwrap().current, 1);
    assert!(matches!(parent.utilization_rates(), Err(NvmlError::NotSupported)));
    assert!(matches!(parent.process_utilization_stats(0), Err(NvmlError::NotSupported)));
    let instances: Vec<Device<'_>> =
        (0..7).map(|index| parent.mig_device_by_index(index).unwrap()).collect();
    let uuids: BTreeSet<String> = instances.iter().map(|it| it.uuid().unwrap()).collect();
    assert_eq!(uuids.len(), 7);
    assert!(uuids.iter().all(|uuid| uuid.starts_with("MIG-")));
    let second = &instances[1];
    assert_eq!(second.name().unwrap(), "NVIDIA H100 80GB HBM3 MIG 1g.10gb");
    assert_eq!(second.mig_parent_device().unwrap().uuid().unwrap(), parent.uuid().unwrap());
    let memory = second.memory_info().unwrap();
    assert_eq!(memory.used, 7 << 30);
    assert_eq!(memory.used + memory.reserved + memory.free, memory.total);
    assert_eq!(second.attributes().unwrap().gpu_instance_slice_count, 1);
    let parts: u64 = instances.iter().map(|it| it.memory_info().unwrap().used).sum();
    assert_eq!(parts, parent.memory_info().unwrap().used);
    let processes = parent.running_compute_processes().unwrap();
    assert_eq!(processes.len(), 4);
    assert_eq!(processes[1].gpu_instance_id, Some(8));
    assert_eq!(second.running_compute_processes().unwrap().len(), 1);
    let (first, later) = {
        let first = parent.gpm_mig_sample(9).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        (first, parent.gpm_mig_sample(9).unwrap())
    };
    let busy = gpm_metrics_get(&nvml, &first, &later, &[GpmMetricId::GraphicsUtil]).unwrap();
    assert!((busy[0].as_ref().unwrap().value - 30.0).abs() < 1e-6, "its process's part of it");
    let whole = nvml.device_by_index(2).unwrap();
    assert_eq!(whole.mig_mode().unwrap().current, 0);
    assert!(matches!(whole.mig_device_by_index(0), Err(NvmlError::NotFound)));
}

#[test]
fn a_device_is_divided_anew() {
    let node = Node::at("mig-reconfigured", 0.0);
    let nvml = node.init();
    let device = nvml.device_by_index(0).unwrap();
    assert_eq!(device.utilization_rates().unwrap().gpu, 70);
    assert!(matches!(device.mig_device_by_index(0), Err(NvmlError::NotFound)));
    node.jump("mig-reconfigured", 4.0);
    let old = device.mig_device_by_index(0).unwrap();
    assert_eq!(
        device.mig_device_by_index(6).unwrap().name().unwrap().split(' ').next_back(),
        Some("1g.10gb")
    );
    node.jump("mig-reconfigured", 7.0);
    assert!(matches!(old.uuid(), Err(NvmlError::InvalidArg)), "its handle is no more");
    assert!(device.mig_device_by_index(0).unwrap().name().unwrap().ends_with("3g.40gb"));
    assert!(matches!(device.mig_device_by_index(2), Err(NvmlError::NotFound)));
    node.jump("mig-reconfigured", 10.0);
    assert_eq!(device.mig_mode().unwrap().current, 0);
    assert_eq!(device.utilization_rates().unwrap().gpu, 0);
}

#[test]
fn several_share_a_device() {
    let node = Node::at("time-sliced", 4.0);
    let nvml = node.init();
    let device = nvml.device_by_index(0).unwrap();
    let sharing = device.running_compute_processes().unwrap();
    assert_eq!(sharing.len(), 4);
    assert!(matches!(sharing[3].used_gpu_memory, UsedGpuMemory::Unavailable));
    let samples = device.process_utilization_stats(None).unwrap();
    let pids: BTreeSet<u32> = samples.iter().map(|sample| sample.pid).collect();
    assert!(pids.contains(&4_300_008), "it has ended, and 0 asks for all samples that are kept");
    assert!(!pids.contains(&4_300_003), "who does nothing has none");
    let newest = samples.iter().map(|sample| sample.timestamp).max().unwrap();
    assert!(matches!(device.process_utilization_stats(newest), Err(NvmlError::NotFound)));
    std::thread::sleep(Duration::from_millis(200));
    let next = device.process_utilization_stats(newest).unwrap();
    assert!(next.iter().all(|sample| sample.timestamp > newest && sample.pid != 4_300_008));
    let sum: u32 = next.iter().map(|sample| sample.sm_util).sum();
    assert_eq!(sum, device.utilization_rates().unwrap().gpu);
    let other = nvml.device_by_index(1).unwrap();
    assert_eq!(other.mps_running_compute_processes().unwrap().len(), 2);
    assert_eq!(other.running_graphics_processes().unwrap().len(), 1);
}
