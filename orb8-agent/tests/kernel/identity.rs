//! Who is at both ends: pods in fake kubepods cgroups behind a bridge, Services translated by nftables,
//! and an API server in the test's own process.

use orb8_agent::config::{AttachStrategy, Config, KubernetesConfig};
use orb8_k8s::{client::Access, testing::ApiServer};
use orb8_proto::v1::KubernetesState;

use super::support::{
    PATIENCE,
    agent::{self, Agent},
    cluster::{BERT, CACHE, DB, DNS, EXPORTER_HASH, HERE, PROXY, WEB},
    container::Container,
    node::{
        Kubepods, Layout, MACHINE4, NAMED4, NAMELESS4, NODE4, NODE6, Network, OTHER4, REMOTE4,
        REMOTE6,
    },
};

mod answers;
mod changes;
mod metrics;
mod traffic;

/// A runtime in this process's own namespace.
fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(test);
}

/// Starts an agent that knows what the server tells.
async fn start(pods: &Kubepods, api: &ApiServer) -> Agent {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kubeconfig");
    api.write_kubeconfig(&path).expect("a kubeconfig");
    let access = Access::Kubeconfig { path: Some(path), context: None };
    let config = agent::config(AttachStrategy::Cgroup, Some(pods.root()));
    let mut agent = Agent::start(Config {
        node_name: HERE.into(),
        kubernetes: KubernetesConfig { access, remote_pods: true },
        ..config
    })
    .await;
    let started = std::time::Instant::now();
    loop {
        let kubernetes = agent.status().await.kubernetes.expect("its state");
        if kubernetes.state() == KubernetesState::Connected {
            return agent;
        }
        assert!(started.elapsed() < PATIENCE, "{kubernetes:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Who talks in the tests of what is known from the start.
struct Cast {
    web: Container,
    helper: Container,
    db: Container,
    setup: Container,
    sidecar: Container,
    debug: Container,
    bert: Container,
    dns: Container,
    proxy: Container,
    exporter: Container,
    /// All that is not on this node.
    beyond: Container,
}

impl Cast {
    fn new(network: &Network, here: &mut Kubepods, away: &mut Kubepods) -> Self {
        let [web, db, bert, dns] = [10, 11, 12, 13].map(|number| network.pod(number));
        let mut cast = Self {
            web: here.start(&web, Layout::SystemdBurstable, WEB.uid, "main"),
            helper: here.start(&web, Layout::SystemdBurstable, WEB.uid, "helper"),
            db: here.start(&db, Layout::CgroupfsBesteffort, DB.uid, "main"),
            setup: here.start(&db, Layout::CgroupfsBesteffort, DB.uid, "setup"),
            sidecar: here.start(&db, Layout::CgroupfsBesteffort, DB.uid, "proxy"),
            debug: here.start(&db, Layout::CgroupfsBesteffort, DB.uid, "debug"),
            bert: here.start(&bert, Layout::CgroupfsGuaranteed, BERT.uid, "main"),
            dns: here.start(&dns, Layout::SystemdGuaranteed, DNS.uid, "main"),
            proxy: here.start(&network.node, Layout::SystemdBurstable, PROXY.uid, "main"),
            exporter: here.start(&network.node, Layout::CgroupfsGuaranteed, EXPORTER_HASH, "main"),
            beyond: away.start(&network.beyond, Layout::SystemdBurstable, CACHE.uid, "main"),
        };
        cast.serve();
        cast
    }

    fn serve(&mut self) {
        self.web.serve("[::]:8080");
        self.db.serve("[::]:5432");
        self.bert.serve("[::]:8080");
        self.dns.names("[::]:53");
        for at in [NODE4, "127.0.0.1"] {
            self.exporter.serve(&format!("{at}:9100"));
        }
        self.exporter.serve(&format!("[{NODE6}]:9100"));
        for pod in [&mut self.helper, &mut self.sidecar] {
            pod.serve("127.0.0.1:9000");
            pod.serve("[::1]:9000");
        }
        for at in [REMOTE4, OTHER4, MACHINE4, NAMED4, NAMELESS4] {
            self.beyond.serve(&format!("{at}:6443"));
        }
        self.beyond.serve(&format!("[{REMOTE6}]:6443"));
    }
}
