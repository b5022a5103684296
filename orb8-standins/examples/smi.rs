//! What `nvidia-smi` shows, of a scenario: `cargo run -p orb8-standins --example smi -- h100x8`.
//! It sees the stand-in as any program sees the real library.

use std::error::Error;

use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use orb8_standins::{install, scenario, scenarios};

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "h100x8".into());
    let names: Vec<&str> = scenarios().iter().map(|scenario| scenario.name).collect();
    let scenario = scenario(&name).ok_or_else(|| format!("there are {}", names.join(", ")))?;
    let folder = tempfile::tempdir()?;
    let node = install(folder.path())?;
    node.play(scenario.text)?;
    let nvml = Nvml::builder().lib_path(node.nvml.as_os_str()).init()?;
    println!("driver {}, NVML {}", nvml.sys_driver_version()?, nvml.sys_nvml_version()?);
    for index in 0..nvml.device_count()? {
        let device = nvml.device_by_index(index)?;
        show(&device, &format!("{index}"))?;
        for part in 0..device.mig_device_count()? {
            match device.mig_device_by_index(part) {
                Ok(instance) => show(&instance, &format!("{index}.{part}"))?,
                Err(NvmlError::NotFound) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Prints a line for a device, and one for each of its processes.
fn show(device: &Device<'_>, number: &str) -> Result<(), NvmlError> {
    let memory = device.memory_info()?;
    println!(
        "{number:>4} {:<34} {:>6} {:>4} {:>5} {:>6} / {:>6} MiB",
        device.name()?,
        value(device.power_usage(), |milliwatts| format!("{} W", milliwatts / 1000)),
        value(device.temperature(TemperatureSensor::Gpu), |degrees| format!("{degrees} C")),
        value(device.utilization_rates(), |busy| format!("{} %", busy.gpu)),
        memory.used >> 20,
        memory.total >> 20,
    );
    for process in device.running_compute_processes()? {
        let memory = match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => format!("{} MiB", bytes >> 20),
            UsedGpuMemory::Unavailable => "-".into(),
        };
        println!("     {:>8} {memory:>10}", process.pid);
    }
    Ok(())
}

/// Returns a value, or `-` where the device does not have it.
fn value<T>(answer: Result<T, NvmlError>, text: impl Fn(T) -> String) -> String {
    answer.map_or_else(|_| "-".into(), text)
}
