//! What C programs rely on: symbols, sizes, versions, and null pointers.

use std::ffi::c_uint;
use std::mem;
use std::ptr;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper_sys::bindings::*;

use crate::node::Node;

/// Asserts that the library has a function, or not.
macro_rules! exports {
    ($library:expr, $method:ident: $($name:ident)*) => {
        $(assert!($library.$name.as_ref().$method(), "{}", stringify!($name));)*
    };
}

macro_rules! newer {
    ($library:expr, $method:ident) => {
        exports!($library, $method:
            nvmlDeviceGetMemoryInfo_v2 nvmlDeviceGetNumGpuCores nvmlDeviceGetPcieSpeed
            nvmlDeviceGetCurrentClocksEventReasons nvmlDeviceGetSramEccErrorStatus
            nvmlDeviceGetComputeRunningProcesses_v3 nvmlDeviceGetGraphicsRunningProcesses_v3
            nvmlDeviceGetMPSComputeRunningProcesses_v3 nvmlDeviceGetProcessesUtilizationInfo
            nvmlDeviceGetRunningProcessDetailList nvmlDeviceGetGpuFabricInfo
            nvmlDeviceGetGpuFabricInfoV nvmlGpmQueryDeviceSupport nvmlGpmQueryIfStreamingEnabled
            nvmlGpmSetStreamingEnabled nvmlGpmSampleAlloc nvmlGpmSampleGet nvmlGpmMigSampleGet
            nvmlGpmMetricsGet nvmlGpmSampleFree
        );
    };
}

macro_rules! always {
    ($library:expr) => {
        exports!($library, is_ok:
            nvmlInit_v2 nvmlInitWithFlags nvmlShutdown nvmlErrorString nvmlSystemGetDriverVersion
            nvmlSystemGetNVMLVersion nvmlSystemGetCudaDriverVersion_v2 nvmlSystemGetProcessName
            nvmlDeviceGetCount_v2 nvmlDeviceGetHandleByIndex_v2 nvmlDeviceGetHandleByUUID
            nvmlDeviceGetHandleByPciBusId_v2 nvmlDeviceGetUUID nvmlDeviceGetName
            nvmlDeviceGetIndex nvmlDeviceGetMinorNumber nvmlDeviceGetPciInfo_v3
            nvmlDeviceGetSerial nvmlDeviceGetBrand nvmlDeviceGetArchitecture
            nvmlDeviceGetCudaComputeCapability nvmlDeviceGetVbiosVersion
            nvmlDeviceGetUtilizationRates nvmlDeviceGetEncoderUtilization
            nvmlDeviceGetDecoderUtilization nvmlDeviceGetMemoryInfo nvmlDeviceGetBAR1MemoryInfo
            nvmlDeviceGetTemperature nvmlDeviceGetTemperatureThreshold nvmlDeviceGetPowerUsage
            nvmlDeviceGetEnforcedPowerLimit nvmlDeviceGetPowerManagementLimit
            nvmlDeviceGetTotalEnergyConsumption nvmlDeviceGetClockInfo nvmlDeviceGetMaxClockInfo
            nvmlDeviceGetPerformanceState nvmlDeviceGetCurrentClocksThrottleReasons
            nvmlDeviceGetSupportedClocksThrottleReasons nvmlDeviceGetViolationStatus
            nvmlDeviceGetPersistenceMode nvmlDeviceGetComputeMode nvmlDeviceGetPcieThroughput
            nvmlDeviceGetCurrPcieLinkGeneration nvmlDeviceGetCurrPcieLinkWidth
            nvmlDeviceGetMaxPcieLinkGeneration nvmlDeviceGetMaxPcieLinkWidth
            nvmlDeviceGetPcieReplayCounter nvmlDeviceGetNvLinkState nvmlDeviceGetNvLinkVersion
            nvmlDeviceGetNvLinkErrorCounter nvmlDeviceGetNvLinkRemotePciInfo_v2
            nvmlDeviceGetEccMode nvmlDeviceGetTotalEccErrors nvmlDeviceGetMemoryErrorCounter
            nvmlDeviceGetRemappedRows nvmlDeviceGetRetiredPages_v2
            nvmlDeviceGetRetiredPagesPendingStatus nvmlDeviceGetFieldValues
            nvmlDeviceGetProcessUtilization nvmlDeviceGetSamples nvmlDeviceGetAccountingMode
            nvmlDeviceGetAccountingPids nvmlDeviceGetAccountingStats nvmlDeviceGetMigMode
            nvmlDeviceGetMaxMigDeviceCount nvmlDeviceGetMigDeviceHandleByIndex
            nvmlDeviceGetDeviceHandleFromMigDeviceHandle nvmlDeviceIsMigDeviceHandle
            nvmlDeviceGetGpuInstanceId nvmlDeviceGetComputeInstanceId
            nvmlDeviceGetAttributes_v2 nvmlEventSetCreate nvmlDeviceGetSupportedEventTypes
            nvmlDeviceRegisterEvents nvmlEventSetWait_v2 nvmlEventSetFree
            nvmlDeviceGetComputeRunningProcesses_v2 nvmlDeviceGetGraphicsRunningProcesses_v2
        );
    };
}

#[test]
fn the_newer_library_has_all_functions_and_the_older_one_those_of_its_time() {
    let node = Node::at("h100x8", 0.0);
    let nvml = node.init();
    always!(nvml.lib());
    newer!(nvml.lib(), is_ok);
    let old = Nvml::builder().lib_path(node.paths.nvml_old.as_os_str()).init().unwrap();
    always!(old.lib());
    newer!(old.lib(), is_err);
    let device = old.device_by_index(0).unwrap();
    assert!(matches!(device.memory_info(), Err(NvmlError::FailedToLoadSymbol(_))));
    assert_eq!(device.running_compute_processes_v2().unwrap()[0].pid, 4_000_001);
}

#[test]
fn an_old_driver_names_instances_by_their_place() {
    let node = Node::at("mig", 0.0);
    let old = Nvml::builder().lib_path(node.paths.nvml_old.as_os_str()).init().unwrap();
    let parent = old.device_by_index(0).unwrap();
    let uuid = parent.mig_device_by_index(0).unwrap().uuid().unwrap();
    assert_eq!(uuid, format!("MIG-{}/7/0", parent.uuid().unwrap()));
}

#[test]
fn nothing_is_answered_before_the_beginning_and_after_the_end() {
    let node = Node::at("dies", 0.0);
    // SAFETY: it is the stand-in, whose beginning does nothing.
    let library = unsafe { NvmlLib::new(&node.paths.nvml) }.unwrap();
    let mut count = 0;
    // SAFETY: the pointers are those of variables here.
    unsafe {
        assert_eq!(library.nvmlDeviceGetCount_v2(&raw mut count), 1, "not begun");
        assert_eq!(library.nvmlShutdown(), 1);
        assert_eq!(library.nvmlInit_v2(), 0);
        assert_eq!(library.nvmlInit_v2(), 0);
        assert_eq!(library.nvmlShutdown(), 0);
        assert_eq!(library.nvmlDeviceGetCount_v2(&raw mut count), 0, "once more begun than ended");
        assert_eq!(library.nvmlShutdown(), 0);
        assert_eq!(library.nvmlDeviceGetCount_v2(&raw mut count), 1);
    }
}

#[test]
fn null_and_nonsense_are_invalid_arguments() {
    let node = Node::at("mig", 0.0);
    let nvml = node.init();
    let library = nvml.lib();
    let device = nvml.device_by_index(1).unwrap();
    let mut number: c_uint = 0;
    // SAFETY: pointers are null, which the functions allow for, or those of variables here; the
    // stand-in looks whether a handle is one of its own before it uses it.
    unsafe {
        let handle = device.handle();
        assert_eq!(library.nvmlDeviceGetPowerUsage(handle, ptr::null_mut()), 2);
        assert_eq!(library.nvmlDeviceGetCount_v2(ptr::null_mut()), 2);
        assert_eq!(library.nvmlDeviceGetPowerUsage(ptr::null_mut(), &raw mut number), 2);
        let nonsense: nvmlDevice_t = ptr::without_provenance_mut(0xdead_beef);
        assert_eq!(library.nvmlDeviceGetPowerUsage(nonsense, &raw mut number), 2);
        assert_eq!(library.nvmlDeviceGetTemperature(handle, 7, &raw mut number), 2);
        assert_eq!(library.nvmlDeviceGetHandleByUUID(ptr::null(), ptr::null_mut()), 2);
        let unknown = c"GPU-none".as_ptr();
        let mut found: nvmlDevice_t = ptr::null_mut();
        assert_eq!(library.nvmlDeviceGetHandleByUUID(unknown, &raw mut found), 6);
        assert_eq!(library.nvmlEventSetFree(ptr::without_provenance_mut(99)), 2);
        assert_eq!(library.nvmlGpmSampleFree(ptr::without_provenance_mut(99)), 2);
        let mut name = [0; 5];
        assert_eq!(library.nvmlDeviceGetName(handle, name.as_mut_ptr(), 5), 7, "no room");
        let text = std::ffi::CStr::from_ptr(library.nvmlErrorString(15));
        assert_eq!(text, c"GPU is lost");
    }
}

#[test]
fn structures_of_another_version_are_refused() {
    let node = Node::at("h100x8", 0.0);
    let nvml = node.init();
    let library = nvml.lib();
    let device = nvml.device_by_index(0).unwrap();
    // SAFETY: the structures are integers and null pointers, and live as long as the calls.
    unsafe {
        let handle = device.handle();
        let mut memory: nvmlMemory_v2_t = mem::zeroed();
        assert_eq!(library.nvmlDeviceGetMemoryInfo_v2(handle, &raw mut memory), 25);
        let mut support: nvmlGpmSupport_t = mem::zeroed();
        assert_eq!(library.nvmlGpmQueryDeviceSupport(handle, &raw mut support), 25);
        let mut list: nvmlProcessDetailList_t = mem::zeroed();
        assert_eq!(library.nvmlDeviceGetRunningProcessDetailList(handle, &raw mut list), 25);
        list.version = version::<nvmlProcessDetailList_t>(1);
        assert_eq!(library.nvmlDeviceGetRunningProcessDetailList(handle, &raw mut list), 7);
        assert_eq!(list.numProcArrayEntries, 1, "as much room as it takes");
        let mut details: [nvmlProcessDetail_v1_t; 1] = mem::zeroed();
        list.procArray = details.as_mut_ptr();
        assert_eq!(library.nvmlDeviceGetRunningProcessDetailList(handle, &raw mut list), 0);
        assert_eq!((details[0].pid, details[0].usedGpuMemory), (4_000_001, 71 << 30));
        assert_eq!(details[0].gpuInstanceId, u32::MAX);
        let mut fabric: nvmlGpuFabricInfoV_t = mem::zeroed();
        assert_eq!(library.nvmlDeviceGetGpuFabricInfoV(handle, &raw mut fabric), 25);
        fabric.version = version::<nvmlGpuFabricInfoV_t>(3);
        assert_eq!(library.nvmlDeviceGetGpuFabricInfoV(handle, &raw mut fabric), 0);
        let mut sram: nvmlEccSramErrorStatus_t = mem::zeroed();
        sram.version = version::<nvmlEccSramErrorStatus_t>(1);
        assert_eq!(library.nvmlDeviceGetSramEccErrorStatus(handle, &raw mut sram), 0);
    }
}

#[test]
fn an_event_says_on_which_instance_it_was() {
    let node = Node::at("mig", 14.8);
    let nvml = node.init();
    let library = nvml.lib();
    let device = nvml.device_by_index(0).unwrap();
    // SAFETY: the pointers are those of variables here.
    unsafe {
        let mut set: nvmlEventSet_t = ptr::null_mut();
        assert_eq!(library.nvmlEventSetCreate(&raw mut set), 0);
        let answer = library.nvmlDeviceRegisterEvents(device.handle(), 0x8000_0000, set);
        assert_eq!(answer, 3, "no such events");
        assert_eq!(library.nvmlDeviceRegisterEvents(device.handle(), 8, set), 0);
        let mut data: nvmlEventData_t = mem::zeroed();
        assert_eq!(library.nvmlEventSetWait_v2(set, &raw mut data, 10), 10, "a timeout");
        assert_eq!(library.nvmlEventSetWait_v2(set, &raw mut data, 3000), 0);
        assert_eq!((data.eventType, data.eventData), (8, 94));
        assert_eq!((data.gpuInstanceId, data.computeInstanceId), (9, 0));
        assert_eq!(data.device, device.handle());
        assert_eq!(library.nvmlEventSetFree(set), 0);
    }
}

/// `NVML_STRUCT_VERSION` of nvml.h.
fn version<T>(number: u32) -> u32 {
    size_of::<T>() as u32 | number << 24
}

#[test]
fn too_little_room_is_told_with_how_much_it_takes() {
    let node = Node::at("time-sliced", 0.0);
    let nvml = node.init();
    let library = nvml.lib();
    let device = nvml.device_by_index(0).unwrap();
    let (mut corrected, mut uncorrected, mut pending, mut failed) = (0, 0, 0, 0);
    // SAFETY: the pointers are those of variables here, and null where that is allowed.
    unsafe {
        let handle = device.handle();
        let mut count = 1;
        let mut one: nvmlProcessInfo_t = mem::zeroed();
        let answer =
            library.nvmlDeviceGetComputeRunningProcesses_v3(handle, &raw mut count, &raw mut one);
        assert_eq!((answer, count), (7, 4));
        let rows = library.nvmlDeviceGetRemappedRows(
            handle,
            &raw mut corrected,
            &raw mut uncorrected,
            &raw mut pending,
            &raw mut failed,
        );
        assert_eq!(rows, 3, "a Turing cannot remap");
        let mut info: nvmlProcessesUtilizationInfo_t = mem::zeroed();
        info.version = version::<nvmlProcessesUtilizationInfo_t>(1);
        std::thread::sleep(std::time::Duration::from_millis(200));
        let answer = library.nvmlDeviceGetProcessesUtilizationInfo(handle, &raw mut info);
        assert_eq!(
            (answer, info.processSamplesCount),
            (7, 3),
            "two servers, and one who hardly works"
        );
    }
    let pages = device
        .retired_pages(nvml_wrapper::enum_wrappers::device::RetirementCause::DoubleBitEccError);
    assert_eq!(pages.unwrap().len(), 2);
}
