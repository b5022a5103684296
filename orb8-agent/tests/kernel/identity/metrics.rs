//! What a scrape says of pods: to the byte what was sent, and all in all what the kernel counted.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use orb8_agent::{
    agent::{Agent, Prepared},
    api::{Api, Tasks},
    config::{AttachStrategy, Config, KubernetesConfig},
    metrics::traffic::{LabelChoice, TrafficConfig},
};
use orb8_k8s::{client::Access, testing::ApiServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{
    super::support::{
        PATIENCE, agent,
        cluster::{self, HERE, RULES},
        netns::Counted,
        node::{Kubepods, Network, apart},
        reference::Reference,
    },
    Cast, block_on,
};

/// Datagrams and their payload, as containers send them.
const DATAGRAMS: u64 = 2;
const PAYLOAD: u64 = 100;
/// IPv4 and UDP.
const HEADERS: u64 = 28;

/// An agent with an admin address.
struct Scraped {
    agent: Agent,
    tasks: Tasks,
    shutdown: CancellationToken,
    at: SocketAddr,
}

impl Scraped {
    async fn start(pods: &Kubepods, api: &ApiServer) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kubeconfig");
        api.write_kubeconfig(&path).expect("a kubeconfig");
        let access = Access::Kubeconfig { path: Some(path), context: None };
        let labels = LabelChoice::parse("namespace,workload,pod").expect("labels");
        let mut config = Config {
            node_name: HERE.into(),
            kubernetes: KubernetesConfig { access, remote_pods: true },
            metrics: TrafficConfig { labels, max_series: 1000 },
            ..agent::config(AttachStrategy::Cgroup, Some(pods.root()))
        };
        config.api.admin = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let prepared = Prepared::new(&config).expect("privileges");
        let api = Api::build(&config, prepared.pipeline(), prepared.board()).await.expect("an API");
        let at = api.bound().admin.expect("an admin address");
        let shutdown = CancellationToken::new();
        let tasks = api.run(&shutdown);
        let agent = prepared.start(&config).await.expect("the engine starts");
        Self { agent, tasks, shutdown, at }
    }

    /// Takes in what was counted until now, and scrapes.
    async fn scrape(&self) -> Page {
        self.agent.drain().await;
        let mut stream = TcpStream::connect(self.at).await.expect("connecting");
        let request = b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.expect("asking");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("a page");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        Page::read(body)
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Page) -> bool) -> Page {
        let started = Instant::now();
        loop {
            let page = self.scrape().await;
            if is_so(&page) {
                return page;
            }
            assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}: {page:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn stop(self) {
        let Self { agent, mut tasks, shutdown, .. } = self;
        agent.stop().await;
        shutdown.cancel();
        while tasks.join_next().await.is_some() {}
    }
}

/// Values by name and labels, as they are written.
#[derive(Debug)]
struct Page(HashMap<String, f64>);

impl Page {
    fn read(text: &str) -> Self {
        let value = |line: &str| {
            let (id, value) = line.rsplit_once(' ').expect("a value");
            (id.to_owned(), value.parse().expect("a number"))
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).map(value).collect())
    }

    fn get(&self, id: &str) -> u64 {
        self.0.get(id).copied().unwrap_or(0.0) as u64
    }

    fn of(&self, name: &str, pod: &str, labels: &str) -> u64 {
        self.get(&format!("{name}{{{pod}{labels}}}"))
    }

    /// Packets and bytes of all flows, those of the agent's own API too.
    fn flows(&self) -> Counted {
        let sum = |name: &str| {
            let own = self.get(&format!("orb8_agent_self_{name}_total"));
            let of = format!("orb8_flow_{name}_total{{");
            let series = self.0.iter().filter(|(id, _)| id.starts_with(&of));
            own + series.map(|(_, value)| *value as u64).sum::<u64>()
        };
        Counted::new(sum("packets"), sum("bytes"))
    }
}

const WEB: &str = r#"namespace="shop",workload="web",pod="web-7d4b9c6f5-x2x4k""#;
const DB: &str = r#"namespace="shop",workload="db",pod="db-0""#;
const BERT: &str = r#"namespace="ml",workload="bert",pod="bert-worker-0""#;
const NAMES: &str = r#"namespace="kube-system",workload="coredns",pod="coredns-5dd5756b68-abcde""#;

#[test]
fn series_are_what_was_sent() {
    apart(|| {
        let (mut here, mut away) = (Kubepods::new(), Kubepods::new());
        let Some(network) = Network::new(RULES) else { return };
        let mut cast = Cast::new(&network, &mut here, &mut away);
        let reference = Reference::on_sockets(&here.root().open());
        block_on(async {
            let api = ApiServer::start().await.expect("an API server");
            cluster::fill(&api);
            let scraped = Scraped::start(&here, &api).await;
            let pods = "orb8_k8s_pods_tracked";
            scraped.until("the pods", |page| page.get(pods) >= 7).await;
            let (before, counted) = (scraped.scrape().await.flows(), reference.total());

            cast.web.send(21_001, "10.244.1.11:5432");
            cast.bert.call(21_002, "10.244.1.10:8080");
            cast.bert.fail(21_003, "10.244.1.10:81");
            cast.db.ask(21_004, "10.244.1.13:53", "a.test");

            let sent = DATAGRAMS * (PAYLOAD + HEADERS);
            let egress = r#",direction="egress",protocol="UDP""#;
            let ingress = r#",direction="ingress",protocol="UDP""#;
            let page = scraped
                .until("the datagrams", |page| {
                    page.of("orb8_flow_bytes_total", WEB, egress) >= sent
                        && page.of("orb8_dns_queries_total", DB, r#",side="client""#) > 0
                        && page.of("orb8_tcp_connects_total", BERT, "") > 0
                        && page.of("orb8_tcp_closes_total", BERT, "") > 0
                        && page.of("orb8_tcp_accepts_total", WEB, "") > 0
                })
                .await;
            for (labels, packets, bytes) in [(egress, DATAGRAMS, sent), (ingress, DATAGRAMS, sent)]
            {
                assert_eq!(page.of("orb8_flow_bytes_total", WEB, labels), bytes, "{labels}");
                assert_eq!(page.of("orb8_flow_packets_total", WEB, labels), packets, "{labels}");
            }
            health(&page);

            // All that the kernel handed to sockets of these cgroups meanwhile is in a series.
            let settled = at_rest(&reference).await;
            let all = settled - counted;
            scraped.until("all of it", |page| page.flows() - before == all).await;
            scraped.stop().await;
        });
    });
}

/// Connections and exchanges, each counted for whose socket it is.
fn health(page: &Page) {
    assert_eq!(page.of("orb8_tcp_connects_total", BERT, ""), 1);
    assert_eq!(page.of("orb8_tcp_accepts_total", WEB, ""), 1);
    let refused = r#",errno="ECONNREFUSED""#;
    assert_eq!(page.of("orb8_tcp_connect_failures_total", BERT, refused), 1);
    assert_eq!(page.of("orb8_tcp_handshake_seconds_count", BERT, ""), 1);
    assert!(page.of("orb8_tcp_rtt_seconds_count", BERT, "") > 0);
    for (pod, side) in [(DB, r#",side="client""#), (NAMES, r#",side="server""#)] {
        assert_eq!(page.of("orb8_dns_queries_total", pod, side), 1, "{side}");
        assert_eq!(page.of("orb8_dns_latency_seconds_count", pod, side), 1, "{side}");
        let answered = format!(r#"{side},rcode="NOERROR""#);
        assert_eq!(page.of("orb8_dns_responses_total", pod, &answered), 1, "{side}");
    }
    assert_eq!(page.get(r#"orb8_agent_drops_total{cause="kernel_table"}"#), 0);
    assert_eq!(page.get("orb8_metrics_overflow_total"), 0);
}

/// What the kernel counted, once it counts no more.
async fn at_rest(reference: &Reference) -> Counted {
    let mut before = reference.total();
    loop {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let now = reference.total();
        if now == before {
            return now;
        }
        before = now;
    }
}
