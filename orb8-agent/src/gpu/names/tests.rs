use proptest::prelude::*;

use super::claim::Claimed;
use super::*;
use crate::gpu::samples;

const FIRST: &str = "GPU-0aa7c3f1-1111-4e5a-9c1b-000000000000";
const SECOND: &str = "GPU-1bb7c3f1-2222-4e5a-9c1b-000000000001";
const SLICED: &str = "GPU-2cc7c3f1-3333-4e5a-9c1b-000000000002";

fn device(id: &str, vendor: Vendor, index: u32, minor: Option<u32>, pci: &str) -> Device {
    let pci = PciAddress::parse(pci);
    Device { vendor, index: Some(index), minor, pci, ..samples::device(id) }
}

fn part(id: &str, parent: &str, index: u32, gpu_instance: u32, profile: &str) -> Device {
    let part = samples::part(id, parent, gpu_instance, profile);
    Device { index: Some(index), minor: None, ..part }
}

/// The files' numbers are not the devices' own, as on many nodes.
fn node() -> Vec<Device> {
    vec![
        device(FIRST, Vendor::Nvidia, 0, Some(1), "0000:1b:00.0"),
        part("MIG-5c89852c-d268-5f9c-0000-000000000011", FIRST, 0, 3, "1g.10gb"),
        part("MIG-5c89852c-d268-5f9c-0000-000000000013", FIRST, 1, 11, "3g.40gb"),
        device(SECOND, Vendor::Nvidia, 1, Some(0), "0000:43:00.0"),
        part("MIG-5c89852c-d268-5f9c-0000-000000000021", SECOND, 0, 3, "7g.80gb"),
        device(SLICED, Vendor::Nvidia, 2, Some(2), "0000:52:00.0"),
        device("pci-0000:83:00.0", Vendor::Amd, 0, Some(129), "0000:83:00.0"),
        device("pci-0000:03:00.0", Vendor::Intel, 0, Some(128), "0000:03:00.0"),
        device("neuroncore-0", Vendor::Aws, 0, Some(0), ""),
        device("neuroncore-1", Vendor::Aws, 1, Some(0), ""),
        device("neuroncore-2", Vendor::Aws, 2, Some(1), ""),
        device("tpu-0", Vendor::Google, 0, None, ""),
        device("tpu-1", Vendor::Google, 1, None, ""),
    ]
}

fn find(resource: &str, id: &str) -> (Vec<String>, bool) {
    let node = node();
    let Found { devices, is_shared } = Names::new(&node).find(resource, id);
    (devices.iter().map(ToString::to_string).collect(), is_shared)
}

#[test]
fn every_form_of_an_id_finds_its_device() {
    const GPU: &str = "nvidia.com/gpu";
    const MIG_11: &str = "MIG-5c89852c-d268-5f9c-0000-000000000011";
    const MIG_13: &str = "MIG-5c89852c-d268-5f9c-0000-000000000013";
    const MIG_21: &str = "MIG-5c89852c-d268-5f9c-0000-000000000021";
    let old = format!("MIG-{FIRST}/11/0");
    let table: &[(&str, &str, &[&str], bool)] = &[
        (GPU, FIRST, &[FIRST], false),
        (GPU, &FIRST.to_ascii_uppercase(), &[FIRST], false),
        ("nvidia.com/mig-1g.10gb", MIG_11, &[MIG_11], false),
        ("nvidia.com/mig-3g.40gb.shared", &format!("{MIG_13}::7"), &[MIG_13], true),
        (GPU, &format!("{SLICED}::0"), &[SLICED], true),
        ("nvidia.com/gpu.shared", &format!("{SLICED}::3"), &[SLICED], true),
        ("nvidia.com/gpu.shared", SLICED, &[SLICED], true),
        // Renamed by the plugin's configuration: the id tells.
        ("example.com/h100", FIRST, &[FIRST], false),
        (GPU, &old, &[MIG_13], false),
        (GPU, &format!("MIG-{FIRST}/11/1"), &[], false),
        (GPU, "nvidia0", &[SECOND], false),
        (GPU, "/dev/nvidia1", &[FIRST], false),
        (GPU, "nvidia0/gi3", &[MIG_21], false),
        (GPU, "nvidia2/vgpu2", &[SLICED], true),
        (GPU, "nvidia1/gi3/vgpu1", &[MIG_11], true),
        (GPU, "nvidia7", &[], false),
        (GPU, "nvidia0/gi9", &[], false),
        (GPU, "nvidiactl", &[], false),
        (GPU, "0", &[FIRST], false),
        (GPU, "0:1", &[MIG_13], false),
        (GPU, "2::1", &[SLICED], true),
        ("amd.com/gpu", "0000:83:00.0", &["pci-0000:83:00.0"], false),
        ("amd.com/gpu", "0", &["pci-0000:83:00.0"], false),
        ("gpu.intel.com/i915", "card0-0", &["pci-0000:03:00.0"], false),
        ("gpu.intel.com/i915", "card0-1", &["pci-0000:03:00.0"], true),
        ("gpu.intel.com/xe", "renderD128", &["pci-0000:03:00.0"], false),
        ("aws.amazon.com/neuroncore", "1", &["neuroncore-1"], false),
        ("aws.amazon.com/neuron", "0", &["neuroncore-0", "neuroncore-1"], false),
        ("aws.amazon.com/neurondevice", "1", &["neuroncore-2"], false),
        ("google.com/tpu", "1", &["tpu-1"], false),
        ("google.com/tpu", "accel0", &["tpu-0"], false),
        ("google.com/tpu", "tpu-1", &["tpu-1"], false),
        ("nvidia.com/gpu", "", &[], false),
        ("rdma/hca", "0", &[], false),
    ];
    for (resource, id, devices, is_shared) in table {
        let expected = devices.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(find(resource, id), (expected, *is_shared), "{resource} {id}");
    }
}

#[test]
fn a_claims_device_is_found_by_what_its_driver_calls_it() {
    let node = node();
    let names = Names::new(&node);
    let found = |driver: &str, device: &str, cdi: &str| {
        let claimed = Claimed {
            driver: driver.into(),
            pool: "node-1".into(),
            device: device.into(),
            cdi: vec![cdi.into()],
            is_share: false,
        };
        names.find_claimed(&claimed).devices.first().map(ToString::to_string)
    };
    let mig = |last: &str| Some(format!("MIG-5c89852c-d268-5f9c-0000-0000000000{last}"));
    let nvidia = |device: &str, cdi: &str| found("gpu.nvidia.com", device, cdi);
    assert_eq!(nvidia("gpu-0", "k8s.gpu.nvidia.com/claim=0f7d-gpu-0").as_deref(), Some(SECOND));
    assert_eq!(nvidia("x", &format!("nvidia.com/gpu={FIRST}")).as_deref(), Some(FIRST));
    assert_eq!(nvidia(&FIRST.to_ascii_uppercase(), "").as_deref(), Some(FIRST));
    assert_eq!(nvidia("x", "nvidia.com/gpu=0:1"), mig("13"));
    assert_eq!(nvidia("gpu-0-mig-0-0-8", ""), mig("21"), "the only one");
    assert_eq!(nvidia("gpu-1-mig-19-4-1", ""), None, "one of two");
    assert_eq!(nvidia("gpu-1-mig-1g10gb-19-4", ""), mig("11"));
    assert_eq!(nvidia("gpu-9", ""), None);
    assert_eq!(nvidia("gpu-", "="), None);
    assert_eq!(found("gpu.amd.com", "gpu-1-129", "").as_deref(), Some("pci-0000:83:00.0"));
    assert_eq!(
        found("gpu.intel.com", "0000-03-00-0-0x56c0", "").as_deref(),
        Some("pci-0000:03:00.0")
    );
    assert_eq!(found("tpu.google.com", "tpu-1", "").as_deref(), Some("tpu-1"));
    assert_eq!(found("neuron.aws.com", "neuroncore2", "").as_deref(), Some("neuroncore-2"));
    assert_eq!(found("dra.example.com", "gpu-0", ""), None, "not an accelerator's driver");
}

#[test]
fn other_resources_are_no_accelerators() {
    for (resource, id, expected) in [
        ("nvidia.com/gpu", "x", true),
        ("nvidia.com/mig-1g.10gb", "x", true),
        ("example.com/h100", FIRST, true),
        ("nvidia.com/hostdev", "0000:1b:00.0", false),
        ("rdma/hca", "0", false),
        ("intel.com/sriov_net", "0000:3b:02.0", false),
        ("smarter-devices/nvme", "nvme0", false),
    ] {
        assert_eq!(is_accelerator(resource, id), expected, "{resource} {id}");
    }
}

proptest! {
    #[test]
    fn no_id_is_too_strange(
        resource in "(nvidia.com/gpu|amd.com/gpu|aws.amazon.com/neuron|\\PC{0,12})",
        id in "(GPU-|MIG-|MIG-GPU-|nvidia|card|renderD|accel)?[-:/.0-9a-fgiuv]{0,40}|\\PC{0,40}",
        driver in "(gpu.nvidia.com|gpu.amd.com|gpu.intel.com|tpu.google.com|x)",
    ) {
        let node = node();
        let names = Names::new(&node);
        let found = names.find(&resource, &id);
        prop_assert!(found.devices.iter().all(|id| node.iter().any(|it| it.id == *id)));
        let cdi = vec![format!("x={id}")];
        let claimed = Claimed { driver, pool: resource, device: id, cdi, is_share: false };
        names.find_claimed(&claimed);
    }
}

#[test]
fn the_first_part_of_amds_is_given_out_by_the_address_of_the_whole() {
    let whole = device("pci-0000:83:00.0", Vendor::Amd, 0, Some(128), "0000:83:00.0");
    let whole = Device { is_divided: true, ..whole };
    let first = part("pci-0000:83:00.0/xcp0", "pci-0000:83:00.0", 0, 0, "cpx");
    let other = part("amdgpu_xcp_30", "pci-0000:83:00.0", 1, 1, "cpx");
    let node = [whole, first, other];
    for (id, expected) in
        [("0000:83:00.0", "pci-0000:83:00.0/xcp0"), ("amdgpu_xcp_30", "amdgpu_xcp_30")]
    {
        let found = Names::new(&node).find("amd.com/gpu", id);
        assert_eq!(found.devices, [DeviceId::new(expected)], "{id}");
    }
}
