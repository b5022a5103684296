use orb8_standins::pod_resources::{Answers, Calls, Manner, PodResources};
use tempfile::TempDir;

use super::*;

/// A kubelet in a folder of its own, as it is mounted.
struct Node {
    directory: TempDir,
    server: Option<PodResources>,
    start: Instant,
}

const TRAINING: &str = r#"{"pod_resources": [
    {"name": "train-0", "namespace": "ml", "containers": [
        {"name": "main", "devices": [{"resource_name": "nvidia.com/gpu", "device_ids": ["GPU-1"]},
                                     {"resource_name": "rdma/hca", "device_ids": ["mlx5_0"]}]},
        {"name": "sidecar"}]},
    {"name": "claims", "namespace": "dra", "containers": [{"name": "main", "dynamic_resources": [
        {"claim_name": "gpu", "claim_namespace": "dra", "claim_resources": [
            {"cdi_devices": [{"name": "k8s.gpu.nvidia.com/claim=1-gpu-0"}], "driver_name": "gpu.nvidia.com",
             "pool_name": "node", "device_name": "gpu-0", "share_id": "7"},
            {"driver_name": "compute-domain.nvidia.com", "pool_name": "node", "device_name": "channel-0"}]}]}]}]}"#;
const NONE: &str = r#"{"pod_resources": [{"name": "web", "namespace": "default", "containers": [{"name": "app"}]}]}"#;

impl Node {
    fn without_kubelet() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, server: None, start: Instant::now() }
    }

    fn new(answers: &str) -> Self {
        let mut node = Self::without_kubelet();
        let server = PodResources::start(node.socket(), Answers::parse(answers).unwrap());
        node.server = Some(server.unwrap());
        node
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("kubelet.sock")
    }

    fn server(&mut self) -> &mut PodResources {
        self.server.as_mut().unwrap()
    }

    fn calls(&self) -> (u64, u64, u64) {
        let Calls { list, get, allocatable } = self.server.as_ref().unwrap().calls();
        (list, get, allocatable)
    }

    fn after(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }
}

fn given(listing: &Listing) -> Vec<String> {
    let one = |Given { pod, container, what }: &Given| {
        format!("{}/{}/{container} {} {}", pod.namespace, pod.pod, what.resource(), what.id())
    };
    listing.given.iter().map(one).collect()
}

fn pod(namespace: &str, pod: &str) -> PodName {
    PodName { namespace: namespace.into(), pod: pod.into() }
}

#[tokio::test]
async fn tells_which_container_was_given_which_accelerator() {
    let node = Node::new(TRAINING);
    let mut kubelet = Kubelet::new(node.socket());
    let listing = kubelet.ask(None, node.start).await;
    let expected = ["dra/claims/main gpu.nvidia.com gpu-0", "ml/train-0/main nvidia.com/gpu GPU-1"];
    assert_eq!(given(listing), expected);
    assert_eq!((listing.read, &listing.problem, listing.gives), (Some(node.start), &None, true));
    let What::Claimed { claim, device } = &listing.given[0].what else { panic!("no claim") };
    assert_eq!((claim.as_str(), device.is_share), ("dra/gpu", true));
    assert_eq!(node.calls(), (1, 0, 1));
    let before = Arc::clone(&listing.given);
    let listing = kubelet.ask(None, node.after(10)).await;
    assert!(Arc::ptr_eq(&before, &listing.given), "nothing changed");
    assert_eq!(node.calls(), (2, 0, 1));
    kubelet.ask(None, node.after(301)).await;
    assert_eq!(node.calls(), (3, 0, 2));
}

#[tokio::test]
async fn one_pod_is_asked_about_where_that_is_offered() {
    let mut node = Node::new(TRAINING);
    let mut kubelet = Kubelet::new(node.socket());
    kubelet.ask(None, node.start).await;
    let more = TRAINING.replace("\"GPU-1\"", "\"GPU-1\", \"GPU-2\"").replace("gpu-0", "gpu-5");
    node.server().set(Answers::parse(&more).unwrap());
    let listing = kubelet.ask(Some(pod("ml", "train-0")), node.after(1)).await;
    let expected = [
        "dra/claims/main gpu.nvidia.com gpu-0",
        "ml/train-0/main nvidia.com/gpu GPU-1",
        "ml/train-0/main nvidia.com/gpu GPU-2",
    ];
    assert_eq!(given(listing), expected, "others are as they were");
    assert_eq!(listing.read, Some(node.start), "nobody has asked about the others");
    assert_eq!(node.calls(), (1, 1, 1));
    let listing = kubelet.ask(Some(pod("ml", "train-0")), node.after(2)).await;
    assert_eq!(listing.read, Some(node.after(2)), "nothing new: the list has to say");
    assert_eq!(given(listing)[0], "dra/claims/main gpu.nvidia.com gpu-5");
    assert_eq!(node.calls(), (2, 2, 1));
    // One that is gone is not held against it.
    kubelet.ask(Some(pod("ml", "gone")), node.after(3)).await;
    assert_eq!(node.calls(), (3, 3, 1));
    // Who asks about single pods all the time gets a list all the same.
    kubelet.ask(Some(pod("ml", "train-0")), node.after(13)).await;
    assert_eq!(node.calls(), (4, 3, 1));
    for (manner, gets) in [(Manner::GetOff, 4), (Manner::ListOnly, 5)] {
        node.server().set_manner(manner);
        for _ in 0..3 {
            kubelet.ask(Some(pod("ml", "train-0")), node.after(14)).await;
        }
        assert_eq!(node.calls().1, gets, "{manner:?} is remembered");
        // Until there is another kubelet.
        node.server().restart().unwrap();
    }
}

#[tokio::test]
async fn an_old_kubelet_has_lists_alone() {
    let mut node = Node::new(NONE);
    node.server().set_manner(Manner::ListOnly);
    let mut kubelet = Kubelet::new(node.socket());
    let listing = kubelet.ask(None, node.start).await;
    assert_eq!((listing.read, listing.gives), (Some(node.start), false));
    kubelet.ask(None, node.after(301)).await;
    assert_eq!(node.calls(), (2, 0, 1), "asked once");
    // Devices that can be given say that somebody gives them.
    node.server().set_manner(Manner::Well);
    let more = r#"{"allocatable": [{"resource_name": "nvidia.com/gpu", "device_ids": ["GPU-1"]}]}"#;
    node.server().set(Answers::parse(more).unwrap());
    node.server().restart().unwrap();
    assert!(kubelet.ask(None, node.after(302)).await.gives);
}

#[tokio::test]
async fn a_kubelet_that_starts_again_is_found_again() {
    let mut node = Node::new(TRAINING);
    let mut kubelet = Kubelet::new(node.socket());
    kubelet.ask(None, node.start).await;
    node.server().restart().unwrap();
    let listing = kubelet.ask(None, node.after(10)).await;
    assert_eq!((listing.read, &listing.problem), (Some(node.after(10)), &None));
    node.server().stop();
    let listing = kubelet.ask(None, node.after(20)).await.clone();
    let problem = listing.problem.unwrap();
    assert!(problem.starts_with("no kubelet socket at /"), "{problem}");
    assert!(problem.ends_with("who holds devices is as it was 10 s ago"), "{problem}");
    assert_eq!(listing.given.len(), 2);
    let listing = kubelet.ask(None, node.after(310)).await;
    assert_eq!((listing.given.len(), listing.read), (0, None));
    let problem = listing.problem.as_ref().unwrap();
    assert!(problem.ends_with("; who holds devices is not known"), "{problem}");
    node.server().restart().unwrap();
    assert_eq!(kubelet.ask(None, node.after(320)).await.given.len(), 2);
}

#[tokio::test]
async fn a_kubelet_that_hangs_or_fails_is_told() {
    let mut node = Node::new(TRAINING);
    let mut kubelet = Kubelet::new(node.socket());
    node.server().set_manner(Manner::Hang);
    let began = Instant::now();
    let problem = kubelet.ask(None, node.start).await.problem.clone().unwrap();
    // It hangs for good.
    assert!(began.elapsed() < DEADLINE * 10, "{:?}", began.elapsed());
    assert!(problem.starts_with("the kubelet has not answered within 2 s"), "{problem}");
    node.server().set_manner(Manner::Fail);
    let problem = kubelet.ask(None, node.after(1)).await.problem.clone().unwrap();
    assert!(problem.contains("the checkpoint is damaged"), "{problem}");
    node.server().set_manner(Manner::Well);
    assert_eq!(kubelet.ask(None, node.after(2)).await.problem, None);
}

#[tokio::test]
async fn what_is_no_kubelet_is_told() {
    let node = Node::without_kubelet();
    let mut kubelet = Kubelet::new(node.socket());
    let problem = kubelet.ask(None, node.start).await.problem.clone().unwrap();
    assert!(problem.contains("--gpu-pod-resources"), "{problem}");
    // A socket that a dead one left behind.
    drop(std::os::unix::net::UnixListener::bind(node.socket()).unwrap());
    let problem = kubelet.ask(None, node.start).await.problem.clone().unwrap();
    assert!(problem.contains("it is not running, or it is starting"), "{problem}");
    // Something that closes each connection.
    std::fs::remove_file(node.socket()).unwrap();
    let listener = tokio::net::UnixListener::bind(node.socket()).unwrap();
    let closing = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let problem = kubelet.ask(None, node.start).await.problem.clone().unwrap();
    assert!(problem.contains("who holds devices is not known"), "{problem}");
    closing.abort();
}

#[tokio::test]
async fn it_is_asked_no_more_than_once_a_second() {
    let node = Node::new(TRAINING);
    let cancel = CancellationToken::new();
    let holders = Kubelet::new(node.socket()).start(cancel.clone());
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        holders.want(None);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(holders.listing().given.len(), 2);
    let (list, ..) = node.calls();
    assert!((2..=3).contains(&list), "{list} calls in 2.5 s");
    cancel.cancel();
}

#[test]
fn what_a_kubelet_tells_is_bounded() {
    let devices = (0..10_000).map(|at| format!("GPU-{at}")).collect();
    let devices = vec![orb8_proto::podresources::v1::ContainerDevices {
        resource_name: "nvidia.com/gpu".into(),
        device_ids: devices,
        topology: None,
    }];
    let container =
        orb8_proto::podresources::v1::ContainerResources { devices, ..Default::default() };
    let pod = super::PodResources { containers: vec![container], ..Default::default() };
    let Bounded { given, problem } = take(vec![pod]);
    assert_eq!(given.len(), 4096);
    assert!(problem.unwrap().contains("5904 devices more"));
}
