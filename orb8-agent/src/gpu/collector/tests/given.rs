//! Every form in which a kubelet tells of devices, from its socket to the device.

use orb8_standins::pod_resources::{Answers, PodResources};

use super::*;
use crate::gpu::collector::holdings::Holdings;
use crate::gpu::device::{Device, DeviceId, PciAddress};
use crate::gpu::kubelet::Kubelet;
use crate::gpu::reading::Seen;
use crate::gpu::samples::{self, Everyone, sampled};

const WHOLE: &str = "GPU-0aa7c3f1-1111-4e5a-9c1b-000000000000";
const SLICED: &str = "GPU-2cc7c3f1-3333-4e5a-9c1b-000000000002";

fn devices() -> Vec<Seen> {
    let device = |id: &str, vendor, index| Device {
        vendor,
        index: Some(index),
        minor: Some(index),
        pci: PciAddress::parse(id.trim_start_matches("pci-")),
        ..samples::device(id)
    };
    let part = |last: &str, gpu_instance| {
        let id = format!("MIG-5c89852c-d268-5f9c-0000-0000000000{last}");
        samples::part(&id, WHOLE, gpu_instance, "1g.10gb")
    };
    let all = [
        device(WHOLE, Vendor::Nvidia, 0),
        part("11", 3),
        part("13", 11),
        device(SLICED, Vendor::Nvidia, 2),
        device("pci-0000:83:00.0", Vendor::Amd, 0),
        device("neuroncore-0", Vendor::Aws, 0),
        device("neuroncore-1", Vendor::Aws, 1),
    ];
    all.into_iter().map(|device| sampled(device, |_| {})).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_finds_its_device() {
    let directory = tempfile::tempdir().unwrap();
    let answers = Answers::parse(include_str!("../testdata/pod_resources.json")).unwrap();
    let server = PodResources::start(directory.path().join("kubelet.sock"), answers).unwrap();
    let listing = Kubelet::new(server.socket().to_owned()).ask(None, Instant::now()).await.clone();
    let devices = devices();
    let found = Holdings::find(&listing, vec![], &devices, &mut Everyone::default());
    let mut told: Vec<String> = Vec::new();
    for (device, holders) in &found.by_device {
        for holder in holders {
            let shared = if holder.held.is_shared { " shared" } else { "" };
            let claim = holder.held.claim.as_deref().map(|it| format!(" by {it}"));
            let pod = holder.owner.pod.as_deref().unwrap();
            told.push(format!("{pod}: {device}{shared}{}", claim.unwrap_or_default()));
        }
    }
    told.sort();
    let mig = |last: &str| format!("MIG-5c89852c-d268-5f9c-0000-0000000000{last}");
    let expected = [
        "amd-a: pci-0000:83:00.0".to_owned(),
        format!("dra-a: {WHOLE} shared by dra/dra-a-gpu-abcde"),
        format!("gke-mig: {} shared", mig("11")),
        format!("gke-ts: {WHOLE} shared"),
        format!("llama-ft-0: {WHOLE} shared"),
        format!("mig-mixed: {} shared", mig("11")),
        format!("mig-shared: {} shared", mig("13")),
        "neuron-a: neuroncore-0".to_owned(),
        "neuron-a: neuroncore-1".to_owned(),
        format!("old-mig-driver: {} shared", mig("13")),
        format!("ts-a: {SLICED} shared"),
        format!("ts-b: {SLICED} shared"),
    ];
    assert_eq!(told, expected);
    assert_eq!(found.health.unmatched, Vec::<String>::new());
    // On a node that has none of them, all of them are told as missing.
    let found = Holdings::find(&listing, vec![], &[], &mut Everyone::default());
    assert_eq!((found.by_device.len(), found.health.unmatched.len()), (0, 12));
    assert!(found.health.unmatched.contains(&"gpu-0".to_owned()));
    let id = DeviceId::new(WHOLE);
    assert!(found.health.unmatched.contains(&id.to_string()));
}
