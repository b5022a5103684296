//! A node of stand-ins: NVML, a kubelet, the Kubernetes API, cgroups and processes.

use std::fs;

use orb8_k8s::index::{Index, IndexWriter, Source as From};
use orb8_standins::Paths;
use orb8_standins::pod_resources::{Answers, PodResources};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::config::Config;
use crate::gpu::config::{Roots, SourceSelection, TraceMode};
use crate::gpu::device::DeviceId;
use crate::gpu::event::{GpuEvent, GpuEventKind};
use crate::gpu::reading::DeviceState;
use crate::gpu::share::{Basis, Share, Shares, Standing};
use crate::pipeline::{Happened, LocalAddresses, Pipeline, Subscription};

/// One device whole, one sliced, one divided, one given by a claim, and one that nobody has.
const SCENARIO: &str = "
[driver]
version = 570.124.06
nvml = 12.570.124.06
[device 0-4]
model = NVIDIA H100 80GB HBM3
architecture = hopper
mig = yes
memory = 80GiB
memory.other = 100MiB
uuid = GPU-00000000-0000-0000-0000-00000000000$i
[device 1]
utilization = 60
[mig 2]
1g.10gb gi=9 ci=0 uuid=MIG-00000000-0000-0000-0000-000000000021 busy=70
3g.40gb gi=1 ci=0 uuid=MIG-00000000-0000-0000-0000-000000000022 busy=0
[processes]
pid=101 device=0 memory=60GiB sm=80
pid=102 device=1 memory=10GiB sm=40
pid=103 device=1 memory=5GiB sm=20
pid=104 device=1 memory=1GiB sm=5
pid=105 device=2 gi=9 ci=0 memory=2GiB
[events]
at 1s xid 31 on 0
";

/// What the kubelet gave. `thief` was given nothing.
const GIVEN: &str = r#"{"pod_resources": [
  {"name": "train", "namespace": "ml", "containers": [{"name": "main", "devices": [
    {"resource_name": "nvidia.com/gpu", "device_ids": ["GPU-00000000-0000-0000-0000-000000000000"]}]}]},
  {"name": "slice-a", "namespace": "ml", "containers": [{"name": "main", "devices": [
    {"resource_name": "nvidia.com/gpu", "device_ids": ["GPU-00000000-0000-0000-0000-000000000001::0"]}]}]},
  {"name": "slice-b", "namespace": "ml", "containers": [{"name": "main", "devices": [
    {"resource_name": "nvidia.com/gpu", "device_ids": ["nvidia1/vgpu3"]}]}]},
  {"name": "part", "namespace": "ml", "containers": [{"name": "main", "devices": [
    {"resource_name": "nvidia.com/mig-1g.10gb", "device_ids": ["MIG-00000000-0000-0000-0000-000000000021"]}]}]},
  {"name": "claims", "namespace": "ml", "containers": [{"name": "main", "dynamic_resources": [
    {"claim_name": "gpu", "claim_namespace": "ml", "claim_resources": [
      {"cdi_devices": [{"name": "k8s.gpu.nvidia.com/claim=0f7d-gpu-3"}], "driver_name": "gpu.nvidia.com",
       "pool_name": "node", "device_name": "gpu-3"}]}]}]}]}"#;

struct Node {
    directory: TempDir,
    pipeline: SharedPipeline,
    pods: IndexWriter,
    _kubelet: PodResources,
    nvml: Paths,
}

impl Node {
    fn new(scenario: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["proc", "cgroups"] {
            fs::create_dir(at(name)).unwrap();
        }
        let nvml = orb8_standins::install(&at("nvidia")).unwrap();
        nvml.play(scenario).unwrap();
        let kubelet = PodResources::start(at("kubelet.sock"), Answers::parse(GIVEN).unwrap());
        let mut config = Config::in_process().unwrap();
        config.cgroup_root = Some(at("cgroups"));
        let mut pipeline = Pipeline::new(&config, LocalAddresses::default());
        let (index, pods) = Index::new();
        pipeline.set_kubernetes(index);
        let pipeline = pipeline.shared();
        let mut node = Self { directory, pipeline, pods, _kubelet: kubelet.unwrap(), nvml };
        let pods = ["train", "slice-a", "slice-b", "thief", "part", "claims"];
        for (pid, pod) in (101..).zip(pods) {
            node.run_pod(pid, pod);
        }
        node
    }

    /// Makes a container with one process, and has the Kubernetes API tell of it.
    fn run_pod(&mut self, pid: u32, pod: &str) {
        let uid = format!("3f2b7c1e-9d4a-4c55-8e0b-{pid:012}");
        let id = format!("{pid:064x}");
        let cgroup = format!("kubepods/burstable/pod{uid}/{id}");
        let at = self.directory.path().join("cgroups").join(&cgroup);
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("cgroup.procs"), format!("{pid}\n")).unwrap();
        let proc = self.directory.path().join("proc").join(pid.to_string());
        fs::create_dir(&proc).unwrap();
        let stat = format!("{pid} (python3) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 77 0");
        fs::write(proc.join("stat"), stat).unwrap();
        fs::write(proc.join("cgroup"), format!("0::/{cgroup}\n")).unwrap();
        let object: orb8_k8s::wire::PodObject = serde_json::from_value(json!({
            "metadata": {"namespace": "ml", "name": pod, "uid": uid},
            "status": {"containerStatuses": [
                {"name": "main", "containerID": format!("containerd://{id}")}]},
        }))
        .unwrap();
        self.pods.apply(From::LocalPods, object);
    }

    fn collector(&self) -> Collector {
        let at = |name: &str| self.directory.path().join(name);
        let config = GpuConfig {
            sources: SourceSelection::Only(vec![SourceKind::Nvml]),
            nvml_library: Some(self.nvml.nvml.clone()),
            pod_resources: Some(at("kubelet.sock")),
            trace: TraceMode::Off,
            roots: Roots { proc: at("proc"), ..Roots::default() },
            ..GpuConfig::default()
        };
        let board = pipeline::lock(&self.pipeline).gpu();
        let pipeline = Arc::clone(&self.pipeline);
        let mut collector = Collector::new(&config, pipeline, board, CancellationToken::new());
        collector.add_all();
        collector
    }
}

fn shares<'a>(view: &'a View, id: &str) -> &'a Shares {
    &view.device(&DeviceId::new(id)).unwrap_or_else(|| panic!("{id}: {view:#?}")).shares
}

fn of<'a>(shares: &'a Shares, pod: &str) -> &'a Share {
    let found = shares.shares.iter().find(|share| share.owner.pod.as_deref() == Some(pod));
    found.unwrap_or_else(|| panic!("{pod}: {shares:#?}"))
}

fn told(subscription: &mut Subscription<GpuEvent>) -> Vec<GpuEvent> {
    let mut events = Vec::new();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while let std::task::Poll::Ready(Some(received)) = subscription.reader.poll_next(&mut context) {
        events.extend(received.batch.items.iter().map(|item| match &item.happened {
            Happened::Event(event) => event.clone(),
            Happened::Lost(lost) => panic!("{lost:?}"),
        }));
    }
    events
}

const GIB: u64 = 1 << 30;

/// For what takes two seconds on a machine that has nothing else to do.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_device_has_its_owners() {
    let node = Node::new(SCENARIO);
    let mut subscription = pipeline::lock(&node.pipeline).subscribe_gpu();
    let mut collector = node.collector();
    let mut events = Vec::new();
    let mut view = collector.round(FIRST_ANSWER).await;
    // The kubelet is asked for the thief once its rest of a second is over.
    let is_judged = |events: &[GpuEvent]| {
        let is = |wanted: fn(&GpuEventKind) -> bool| events.iter().any(|it| wanted(&it.kind));
        is(|kind| matches!(kind, GpuEventKind::Unallocated { .. }))
            && is(|kind| matches!(kind, GpuEventKind::Xid(_)))
    };
    let deadline = Instant::now() + PATIENCE;
    while !is_judged(&events) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(250)).await;
        view = collector.round(ANSWER).await;
        events.extend(told(&mut subscription));
    }
    assert_eq!(view.sources[0].problem, None);
    assert_eq!((view.devices.len(), view.sources[0].devices), (7, 7), "{view:#?}");
    assert_eq!((&view.holders.problem, view.holders.unmatched.len()), (&None, 0));

    let whole = shares(&view, "GPU-00000000-0000-0000-0000-000000000000");
    let train = of(whole, "train");
    assert_eq!(train.memory, Some((60 * GIB, Basis::Exact)));
    assert_eq!((train.busy.unwrap().1, train.standing), (Basis::Exact, Standing::Active));
    assert_eq!(whole.unattributed_memory, Some(100 << 20), "{whole:#?}");
    assert_eq!(train.owner.workload.as_ref().unwrap().container.as_deref(), Some("main"));

    let sliced = shares(&view, "GPU-00000000-0000-0000-0000-000000000001");
    let [a, b, thief] = ["slice-a", "slice-b", "thief"].map(|pod| of(sliced, pod));
    assert_eq!(a.memory, Some((10 * GIB, Basis::Exact)));
    assert_eq!(b.memory, Some((5 * GIB, Basis::Exact)));
    assert!(a.holds.as_ref().unwrap().is_shared && b.holds.as_ref().unwrap().is_shared);
    assert_eq!((&thief.holds, thief.standing), (&None, Standing::Unallocated));
    let parts = [a, b, thief].map(|share| share.busy.unwrap());
    assert!(parts.iter().all(|(_, basis)| *basis == Basis::Estimated), "{parts:?}");
    let sum: f64 = parts.iter().map(|(busy, _)| busy).sum();
    assert!((sum + sliced.unattributed_busy.unwrap() - 0.6).abs() < 1e-9, "{parts:?}");
    assert!(parts[0].0 > parts[1].0 && parts[1].0 > parts[2].0, "{parts:?}");

    let part = shares(&view, "MIG-00000000-0000-0000-0000-000000000021");
    let owner = of(part, "part");
    assert_eq!(owner.memory, Some((2 * GIB, Basis::Exact)));
    assert_eq!((owner.busy.unwrap().1, owner.standing), (Basis::Exact, Standing::Active));
    let divided = view.device(&DeviceId::new("GPU-00000000-0000-0000-0000-000000000002")).unwrap();
    assert!(divided.seen.device.is_divided && divided.shares.shares.is_empty());

    let claimed = of(shares(&view, "GPU-00000000-0000-0000-0000-000000000003"), "claims");
    assert_eq!(claimed.holds.as_ref().unwrap().claim.as_deref(), Some("ml/gpu"));
    assert!(matches!(claimed.standing, Standing::Idle { is_long: false, .. }), "{claimed:?}");
    assert!(shares(&view, "GPU-00000000-0000-0000-0000-000000000004").shares.is_empty());

    let began = |event: &&GpuEvent| event.kind == GpuEventKind::Unallocated { began: true };
    let thief = events.iter().find(began).expect("an event");
    assert_eq!(thief.owners[0].pod.as_deref(), Some("thief"));
    let is_xid = |event: &&GpuEvent| matches!(event.kind, GpuEventKind::Xid(xid) if xid.code == 31);
    let xid = events.iter().find(is_xid).unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!(xid.owners[0].pod.as_deref(), Some("train"));
    assert_eq!(view.devices[0].counts.xids[&31], 1);
    assert!(Arc::ptr_eq(&view, &pipeline::lock(&node.pipeline).gpu().read()), "for who asks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_dies_is_told_with_who_had_it_and_takes_nothing_along() {
    const FIRST: &str = "GPU-00000000-0000-0000-0000-000000000000";
    let dying = format!("{SCENARIO}at 1500ms xid 79 on 0\nfrom 2s lost on 0\n");
    let node = Node::new(&dying);
    let mut subscription = pipeline::lock(&node.pipeline).subscribe_gpu();
    let mut collector = node.collector();
    let mut view = collector.round(FIRST_ANSWER).await;
    let mut events = Vec::new();
    let is_dead = |view: &View| {
        let dead = view.device(&DeviceId::new(FIRST)).unwrap();
        dead.counts.lost > 0 && dead.counts.xids.contains_key(&79)
    };
    let deadline = Instant::now() + PATIENCE;
    while !is_dead(&view) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(250)).await;
        view = collector.round(ANSWER).await;
        events.extend(told(&mut subscription));
    }
    // What is lost stays so, and is told once.
    for _ in 0..2 {
        view = collector.round(ANSWER).await;
        events.extend(told(&mut subscription));
    }
    let lost = |event: &&GpuEvent| matches!(event.kind, GpuEventKind::Lost { .. });
    let lost: Vec<&GpuEvent> = events.iter().filter(lost).collect();
    let [lost] = lost.as_slice() else { panic!("{events:#?}") };
    assert_eq!((lost.device.as_ref().unwrap().as_str(), lost.index), (FIRST, Some(0)));
    assert_eq!(lost.owners[0].pod.as_deref(), Some("train"));
    let dead = view.device(&DeviceId::new(FIRST)).unwrap();
    assert!(matches!(dead.seen.state, DeviceState::Lost { .. }), "{:?}", dead.seen.state);
    assert_eq!(dead.counts.lost, 1);
    assert_eq!(dead.counts.xids.get(&79), Some(&1), "{events:#?}");
    let train = of(&dead.shares, "train");
    assert_eq!((train.memory, train.busy), (None, None), "nothing is known of it");
    assert_eq!(train.standing, Standing::Lost);
    let others = view.devices.iter().filter(|it| it.seen.device.id.as_str() != FIRST);
    assert!(others.clone().all(|it| it.seen.state.sample().is_some()), "{view:#?}");
    assert_eq!(others.count(), 6);
}
