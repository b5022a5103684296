use std::path::Path;
use std::time::Instant;

use orb8_k8s::client::{Access, Located, locate};
use orb8_k8s::testing::{ApiServer, objects};

use super::*;
use crate::pipeline::Pipeline;

const HERE: &str = "localhost";

/// A node that has 10.0.0.1, and what it says of the Kubernetes API.
struct Bench {
    api: ApiServer,
    folder: tempfile::TempDir,
    pipeline: SharedPipeline,
    board: StatusBoard,
    tasks: JoinSet<()>,
    cancel: CancellationToken,
}

impl Bench {
    async fn new() -> Self {
        let config = Config::in_process().unwrap();
        Self {
            api: ApiServer::start().await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
            pipeline: Pipeline::new(&config, LocalAddresses::default()).shared(),
            board: StatusBoard::default(),
            tasks: JoinSet::new(),
            cancel: CancellationToken::new(),
        }
    }

    fn kubernetes(&self) -> Kubernetes {
        let addresses = LocalAddresses::default();
        addresses.set(["10.0.0.1".parse().unwrap()]);
        let mut config = Config::in_process().unwrap();
        config.node_name = HERE.into();
        Kubernetes::new(&config, addresses, Arc::clone(&self.pipeline), self.board.clone())
    }

    /// Writes a kubeconfig, changes it, and reads what it leads to.
    async fn way(&self, access: &Access, change: impl Fn(String) -> String) -> Result<Way, String> {
        let path = self.folder.path().join("kubeconfig");
        self.api.write_kubeconfig(&path).unwrap();
        std::fs::write(&path, change(std::fs::read_to_string(&path).unwrap())).unwrap();
        match locate(&named(&path)).await.unwrap() {
            Located::At(target) => Way::new(target, access),
            Located::Nowhere { reason } => panic!("{reason}"),
        }
    }

    /// Runs as with a kubeconfig that was found.
    async fn run(&mut self) {
        let way = self.way(&Access::Auto, |text| text).await.unwrap();
        self.tasks.spawn(self.kubernetes().run(way, self.cancel.clone()));
    }

    async fn status(&self, is_it: impl Fn(&KubernetesStatus) -> bool) -> KubernetesStatus {
        let started = Instant::now();
        loop {
            let status = self.board.read().kubernetes;
            if is_it(&status) {
                return status;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{status:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What is asked of the server, but for nodes.
    fn is_watched(&self) -> bool {
        self.api.asked().iter().any(|(verb, resource, _)| verb == "watch" || resource != "nodes")
    }

    async fn stop(mut self) {
        self.cancel.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(5), ended).await.expect("it ends when it is told");
    }
}

fn named(path: &Path) -> Access {
    Access::Kubeconfig { path: Some(path.to_owned()), context: None }
}

/// With a program that makes credentials, and never does.
fn with_plugin(text: String) -> String {
    let exec = "exec: { apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, \
                command: sleep, args: [\"30\"] }";
    text.replace("token: test", exec)
}

#[tokio::test]
async fn a_cluster_without_this_node_is_not_watched() {
    let mut bench = Bench::new().await;
    bench.api.apply(objects::node("other", &["10.0.0.1"]));
    bench.run().await;
    let status = bench.status(|status| status.reason.is_some()).await;
    assert_eq!(status.state, KubernetesState::Off);
    assert!(status.reason.unwrap().contains("has no node `localhost`"));
    assert!(!bench.is_watched() && bench.tasks.try_join_next().is_none(), "off, and not failed");
    bench.stop().await;
}

#[tokio::test]
async fn a_node_of_the_same_name_is_not_enough() {
    let mut bench = Bench::new().await;
    bench.api.apply(objects::node(HERE, &["10.0.0.2"]));
    bench.run().await;
    let status = bench.status(|status| status.reason.is_some()).await;
    assert!(status.reason.unwrap().contains("none of this machine's addresses"));
    assert!(status.state == KubernetesState::Off && !bench.is_watched());
    bench.stop().await;
}

#[tokio::test]
async fn the_cluster_of_this_node_is_watched_once_it_tells() {
    let mut bench = Bench::new().await;
    bench.api.apply(objects::node(HERE, &["10.0.0.1"]));
    bench.api.refuse_all(503);
    bench.run().await;
    let status = bench.status(|status| status.reason.is_some()).await;
    assert_eq!(status.state, KubernetesState::Syncing);
    assert!(status.reason.unwrap().contains("does not tell of the node `localhost`"));
    assert!(!bench.is_watched(), "it is not known whose it is");
    bench.api.permit();
    bench.status(|status| status.state == KubernetesState::Connected).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_plugin_is_run_where_it_was_asked_for() {
    let bench = Bench::new().await;
    let reason = bench.way(&Access::Auto, with_plugin).await.unwrap_err();
    assert!(reason.contains("--kubernetes kubeconfig"), "{reason}");
    assert!(bench.way(&named(Path::new("named")), with_plugin).await.is_ok());
}

#[tokio::test]
async fn a_plugin_that_hangs_keeps_nobody_waiting() {
    let mut bench = Bench::new().await;
    let way = bench.way(&named(Path::new("named")), with_plugin).await.unwrap();
    bench.tasks.spawn(bench.kubernetes().run(way, bench.cancel.clone()));
    bench.status(|status| status.state == KubernetesState::Syncing).await;
    bench.stop().await;

    let bench = Bench::new().await;
    let mut way = bench.way(&named(Path::new("named")), with_plugin).await.unwrap();
    way.patience = Duration::from_millis(100);
    let reason = way.connect(&bench.kubernetes().node, |_| {}).await.unwrap_err();
    assert!(reason.contains("does not end"), "{reason}");
}

#[tokio::test]
async fn wrong_settings_that_were_asked_for_end_the_start() {
    let mut bench = Bench::new().await;
    let mut config = Config::in_process().unwrap();
    config.kubernetes.access = named(&bench.folder.path().join("missing"));
    let started = bench.kubernetes().start(&config, &mut bench.tasks, &bench.cancel).await;
    assert!(matches!(started, Err(AgentError::Kubernetes(_))));
}
