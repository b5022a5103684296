//! Prometheus scrapes agents while pods of their node talk to each other and use its GPUs: one of its
//! servers keeps classic histograms and the agents' default labels, the other native ones and peers.

use std::{fs::File, time::Duration};

use aya::sys::{Stats, enable_stats};
use orb8_k8s::testing::ApiServer;
use tempfile::TempDir;

use super::{
    agent::Agent,
    dashboards::{self, Choice, Query},
    gpus::Gpus,
    rules,
    server::{Histograms, Prometheus, until_nothing_is_missing},
    traffic::{SERVER_PORT, Worker, find_cgroup},
};
use crate::kernel::support::{
    PATIENCE,
    cluster::{self, DB, DNS, HERE, WEB},
    container::Container,
    engine::btf,
    eventually,
    netns::{Counted, Netns},
    node::{Kubepods, Layout, Network, apart, container_id},
    program::has_programs,
    reference::Reference,
    skip,
    tcp::counter,
};

const SERVER: &str = "10.244.1.11";
const NAMES: &str = "10.244.1.13";

/// A collector that is away: exports fail, and are told of.
const EXPORTS: [&str; 3] =
    ["--otlp-endpoint=http://127.0.0.1:9", "--otlp-interval=1s", "--otlp-logs=alerts"];
const PEERS: &str = "--metrics-labels=namespace,workload,peer-namespace,peer-workload";

/// What panels say that need labels which an agent does not have by default.
const NEEDS_PEERS: &str = "needs peer-namespace";

const ALL: Choice = Choice { node: HERE, namespace: ".*", workload: ".*" };
const ONE: Choice = Choice { node: HERE, namespace: "shop", workload: "web" };

#[test]
fn panels_and_rules_have_data_and_values_are_the_kernels() {
    apart(|| {
        if !has_programs(&["prometheus", "promtool"]) {
            return;
        }
        if btf().is_none() {
            return skip("BTF", "the agent does without TCP, and panels without their data");
        }
        let mut pods = Kubepods::new();
        let Some(network) = Network::new("") else { return };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let api = runtime.block_on(ApiServer::start()).expect("an API server");
        cluster::fill(&api);
        let shop = Shop::start(&network, &mut pods);
        // What a program's run takes is told only where the kernel measures it.
        let _statistics = enable_stats(Stats::RunTime).expect("run statistics");
        let gpus = Gpus::start(&pods);
        let node = Node::start(&pods, &api, &gpus);
        let kernel = Kernel::attach(&pods);
        let client = Worker::client(&shop.web, &kernel.web_cgroup, SERVER, NAMES);
        node.check_panels();
        node.check_rules();
        client.stop();
        kernel.check(&shop, &node);
    });
}

/// Two pods that talk, and one that knows names.
struct Shop {
    web: Netns,
    db: Netns,
    _clogged: Worker,
    _containers: [Container; 3],
}

impl Shop {
    fn start(network: &Network, pods: &mut Kubepods) -> Self {
        let [web, db, dns] = [10, 11, 13].map(|number| network.pod(number));
        let layout = Layout::SystemdBurstable;
        let idle = pods.start(&web, layout, WEB.uid, "main");
        let mut server = pods.start(&db, layout, DB.uid, "main");
        let mut names = pods.start(&dns, layout, DNS.uid, "main");
        server.serve(&format!("{SERVER}:{SERVER_PORT}"));
        names.names(&format!("{NAMES}:53"));
        let of_db = find_cgroup(pods.root().path(), &container_id(DB.uid, "main"));
        let clogged = Worker::clogged(&db, &of_db.expect("its cgroup"), SERVER);
        Self { web, db, _clogged: clogged, _containers: [idle, server, names] }
    }
}

/// Agents of one node, and a Prometheus for each.
struct Node {
    agents: [Agent; 2],
    classic: Prometheus,
    native: Prometheus,
    _kubeconfig: TempDir,
}

impl Node {
    fn start(pods: &Kubepods, api: &ApiServer, gpus: &Gpus) -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("kubeconfig");
        api.write_kubeconfig(&path).expect("a kubeconfig");
        let gpus = gpus.settings();
        let more: Vec<&str> = EXPORTS.into_iter().chain(gpus.iter().map(String::as_str)).collect();
        let with_peers: Vec<&str> = more.iter().copied().chain([PEERS]).collect();
        let agents = [(9091, &more), (9092, &with_peers)]
            .map(|(port, more)| Agent::start(port, pods.root(), &path, HERE, more));
        let classic = Prometheus::start(9101, 9091, HERE, Histograms::Classic);
        let native = Prometheus::start(9102, 9092, HERE, Histograms::Native);
        let mut node = Self { agents, classic, native, _kubeconfig: folder };
        for (agent, server) in node.agents.iter_mut().zip([&node.classic, &node.native]) {
            eventually("an agent that observes and knows the pods", || {
                agent.expect_running();
                let all = |of: &str| server.value(&format!("sum({of}) == count({of})"));
                all("orb8_agent_source_up").and(all("orb8_k8s_watch_connected"))
            });
        }
        node
    }

    fn servers(&self) -> [&Prometheus; 2] {
        [&self.classic, &self.native]
    }

    /// Every variable has values, and every query of every panel has data.
    fn check_panels(&self) {
        let mut left: Vec<(&Prometheus, Query)> = Vec::new();
        for server in self.servers() {
            let is_classic = std::ptr::eq(server, &raw const self.classic);
            let all = dashboards::queries(ALL, |_| true);
            let one = dashboards::queries(ONE, |uid| uid == "orb8-workload");
            assert!(all.len() > 80 && one.len() > 20, "{} and {} queries", all.len(), one.len());
            let has_peers = |query: &Query| query.without_data.starts_with(NEEDS_PEERS);
            let queries = all.into_iter().chain(one);
            left.extend(
                queries
                    .filter(|query| !(is_classic && has_peers(query)))
                    .map(|query| (server, query)),
            );
        }
        until_nothing_is_missing(2 * PATIENCE, || {
            left.retain(|(server, query)| !has_data(server, query));
            left.iter().map(|(_, query)| format!("{}: {}", query.at, query.expression)).collect()
        });
        for server in self.servers() {
            for variable in dashboards::variables(ALL) {
                let values = server.label_values(&variable.selector, &variable.label);
                assert!(!values.is_empty(), "{}: no values", variable.at);
            }
        }
    }

    /// Every rule is evaluated without an error, recording rules record, and what alerts compare is
    /// there.
    fn check_rules(&self) {
        let mut wanted = Vec::new();
        for rule in rules::all() {
            let expression = rule["expr"].as_str().expect("an expression");
            match rule["record"].as_str() {
                Some(record) => wanted.push(record.to_owned()),
                None => wanted.extend(rules::selectors(expression)),
            }
        }
        wanted.sort();
        wanted.dedup();
        for server in self.servers() {
            until_nothing_is_missing(PATIENCE, || {
                let is_there = |of: &String| server.query(of).is_ok_and(|found| !found.is_empty());
                wanted.iter().filter(|of| !is_there(of)).cloned().collect()
            });
            let rules = server.rules();
            assert_eq!(rules.len(), rules::all().len());
            for rule in rules {
                assert_eq!(rule["health"], "ok", "{rule:#}");
                for alert in rule["alerts"].as_array().into_iter().flatten() {
                    let told = alert["annotations"].to_string();
                    let is_whole =
                        !told.contains("<no value>") && !told.contains("error expanding");
                    assert!(is_whole, "{alert:#}");
                }
            }
            eventually("an alert, since the collector is away", || {
                let alerts = server.query(r#"ALERTS{alertname="Orb8OtlpExportFailing"}"#);
                alerts.ok().filter(|found| !found.is_empty())
            });
        }
    }
}

fn has_data(server: &Prometheus, query: &Query) -> bool {
    match server.query(&query.expression) {
        Ok(values) => values.iter().any(|value| value.is_finite()),
        Err(error) => panic!("{}: {}: {error}", query.at, query.expression),
    }
}

/// What the kernel counted itself: programs that read no header, and the network stack.
struct Kernel {
    all: Reference,
    web: Reference,
    web_cgroup: std::path::PathBuf,
}

impl Kernel {
    fn attach(pods: &Kubepods) -> Self {
        let root = pods.root();
        let web_cgroup =
            find_cgroup(root.path(), &container_id(WEB.uid, "main")).expect("its cgroup");
        let opened = File::open(&web_cgroup).expect("the cgroup's directory");
        Self {
            all: Reference::on_sockets(&root.open()),
            web: Reference::on_sockets(&opened),
            web_cgroup,
        }
    }

    /// Compares the values as both servers have them once all is drained and scraped.
    fn check(&self, shop: &Shop, node: &Node) {
        eventually("an end of the traffic", || {
            let before = self.all.total();
            std::thread::sleep(Duration::from_millis(500));
            (self.all.total() == before).then_some(())
        });
        for server in node.servers() {
            until_nothing_is_missing(PATIENCE, || self.differences(shop, server));
        }
        // The same events, in buckets of either kind.
        let classic = node.classic.value(r#"sum(orb8_dns_latency_seconds_count{side="client"})"#);
        let native = r#"histogram_count(sum(orb8_dns_latency_seconds{side="client"}))"#;
        assert_eq!(node.native.value(native), classic);
        assert!(classic > Some(10.0), "{classic:?}");
    }

    fn differences(&self, shop: &Shop, server: &Prometheus) -> Vec<String> {
        let web = r#"namespace="shop", workload="web""#;
        let db = r#"namespace="shop", workload="db""#;
        let mut wanted = Vec::new();
        let mut traffic = |matchers: &str, counted: Counted| {
            let Counted { packets, bytes } = counted;
            wanted.push((format!("sum(orb8_flow_packets_total{{{matchers}}})"), packets));
            wanted.push((format!("sum(orb8_flow_bytes_total{{{matchers}}})"), bytes));
        };
        traffic(r#"direction="egress""#, self.all.egress());
        traffic(r#"direction="ingress""#, self.all.ingress());
        traffic(&format!(r#"direction="egress", {web}"#), self.web.egress());
        traffic(&format!(r#"direction="ingress", {web}"#), self.web.ingress());
        let asked_for = format!(
            "sum(orb8_tcp_connects_total{{{web}}}) + sum(orb8_tcp_connect_failures_total{{{web}}})"
        );
        wanted.push((asked_for, counter(&shop.web, "TcpActiveOpens")));
        let again = format!("sum(orb8_tcp_retransmitted_segments_total{{{web}}})");
        wanted.push((again, counter(&shop.web, "TcpRetransSegs")));
        let overflows = format!("sum(orb8_tcp_listener_overflows_total{{{db}}})");
        wanted.push((overflows, counter(&shop.db, "TcpExtListenOverflows")));
        let differs = |(expression, counted): (String, u64)| {
            let told = server.value(&expression);
            (counted == 0 || told != Some(counted as f64))
                .then(|| format!("{expression}: {told:?}, and the kernel has {counted}"))
        };
        wanted.into_iter().filter_map(differs).collect()
    }
}
