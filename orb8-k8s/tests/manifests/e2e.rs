//! `e2e/run` against stand-ins of kubectl, kind and docker: every check passes where the agents name
//! everyone, a wrong name fails, and the cluster goes whatever happens.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::documents::{documents, root};
use super::kustomize::KindCluster;

/// A cluster that is not there.
struct Fake {
    folder: TempDir,
}

/// What a run of the script did.
struct Run {
    succeeded: bool,
    said: String,
    calls: String,
    /// Clusters that are left.
    clusters: String,
}

const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests/e2e");
const WEB: (&str, &str) = ("10.244.0.5", "fd00:10:244::5");
const CLIENT: (&str, &str) = ("10.244.1.4", "fd00:10:244:1::4");
const SERVICE: (&str, &str) = ("10.96.8.1", "fd00:10:96::8:1");
const NEAR_POD: &str = "10.244.1.3";
const NEAR: &str = "172.18.0.3";
const FAR: &str = "172.18.0.2";

impl Fake {
    fn new() -> Self {
        let fake = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(fake.path("cluster")).unwrap();
        let addresses = Path::new(TOOLS).join("addresses.json");
        fs::copy(addresses, fake.path("cluster/addresses.json")).unwrap();
        fake.write("clusters", "");
        fake.write("calls", "");
        let web = "web.orb8-e2e.svc.cluster.local";
        fake.put("near-status", &[status("orb8-e2e-worker")])
            .put("far-status", &[status("orb8-e2e-control-plane")])
            .put("near-flows", &seen_by_clients())
            .put("far-flows", &seen_by_servers())
            .put("pods", &[json!({"namespace": "orb8-e2e", "node_name": "orb8-e2e-control-plane"})])
            .put("dns", &[json!({"name": web, "workload": pod("client")})])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Writes what an agent answers, a line each.
    fn put(self, name: &str, lines: &[Value]) -> Self {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.write(&format!("cluster/{name}.json"), &text);
        self
    }

    fn run(&self, variables: &[(&str, &str)]) -> Run {
        let path = format!("{TOOLS}:{}", std::env::var("PATH").unwrap());
        let output = Command::new(root().join("e2e/run"))
            .env("PATH", path)
            .env("FAKE", self.folder.path())
            .env("E2E_PATIENCE", "0")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let read = |name| fs::read_to_string(self.path(name)).unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        Run {
            succeeded: output.status.success(),
            said: said.concat(),
            calls: read("calls"),
            clusters: read("clusters"),
        }
    }
}

fn status(node: &str) -> Value {
    json!({"node_name": node, "kubernetes": {"state": "connected"},
        "sources": [{"name": "dns", "state": "skipped"}, {"name": "flow", "state": "running"}]})
}

fn pod(app: &str) -> Value {
    json!({"namespace": "orb8-e2e", "pod": format!("{app}-5d9c7b8f6-x2x4z"),
        "controller": {"kind": "Deployment", "name": app}})
}

/// An end: its address, its port, and what else is known.
fn end(ip: &str, port: u16, known: &Value) -> Value {
    let mut end = known.clone();
    end["ip"] = ip.into();
    end["port"] = port.into();
    end
}

fn of_pod(app: &str) -> Value {
    json!({"workload": pod(app)})
}

fn of_node(name: &str) -> Value {
    json!({"node": name})
}

fn of_service() -> Value {
    json!({"workload": pod("web"), "service": {"namespace": "orb8-e2e", "name": "web"},
        "translated": {"ip": WEB.0, "port": 8080}})
}

fn flow(direction: &str, source: Value, destination: Value) -> Value {
    json!({"type": "flow", "direction": direction, "source": source, "destination": destination})
}

fn seen_by_clients() -> Vec<Value> {
    let from = |ip, app| end(ip, 40_000, &of_pod(app));
    let to = |ip, port, known: Value| end(ip, port, &known);
    let out = |source, destination| flow("egress", source, destination);
    let far = || of_node("orb8-e2e-control-plane");
    vec![
        out(from(CLIENT.0, "client"), to(WEB.0, 8080, of_pod("web"))),
        out(from(CLIENT.0, "client"), to(NEAR_POD, 8080, of_pod("near"))),
        flow("ingress", from(CLIENT.0, "client"), to(NEAR_POD, 8080, of_pod("near"))),
        out(from(CLIENT.1, "client"), to(WEB.1, 8080, of_pod("web"))),
        out(from(CLIENT.0, "client"), to(SERVICE.0, 80, of_service())),
        out(from(CLIENT.1, "client"), to(SERVICE.1, 80, of_service())),
        out(from(CLIENT.0, "client"), to(FAR, 18_080, far())),
        out(from(NEAR, "host-client"), to(WEB.0, 8080, of_pod("web"))),
        out(from(NEAR, "host-client"), to(FAR, 18_080, far())),
        out(from(NEAR, "host-client"), to(SERVICE.0, 80, of_service())),
    ]
}

fn seen_by_servers() -> Vec<Value> {
    let into = |source, ip, port, app: &str| flow("ingress", source, end(ip, port, &of_pod(app)));
    let client = |ip| end(ip, 40_000, &of_pod("client"));
    let near = || end(NEAR, 40_000, &of_node("orb8-e2e-worker"));
    vec![
        into(client(CLIENT.0), WEB.0, 8080, "web"),
        into(client(CLIENT.1), WEB.1, 8080, "web"),
        into(near(), FAR, 18_080, "host-server"),
        into(near(), WEB.0, 8080, "web"),
    ]
}

/// Says so where a program is missing.
fn lacks(program: &str, test: &str) -> bool {
    let lacks = Command::new(program).arg("--version").output().is_err();
    if lacks {
        // Not a macro: the harness keeps to itself what a test that passes prints by one.
        let told = writeln!(std::io::stderr(), "SKIPPED {test}: {program} is not installed");
        told.expect("standard error");
    }
    lacks
}

fn failures(run: &Run) -> Vec<&str> {
    run.said.lines().filter_map(|line| line.strip_prefix("FAILED  ")).collect()
}

#[test]
fn every_mode_passes_where_the_agents_name_everyone() {
    if lacks("jq", "every_mode_passes_where_the_agents_name_everyone") {
        return;
    }
    let run = Fake::new().run(&[]);
    assert!(run.succeeded && failures(&run).is_empty(), "{}", run.said);
    let passed = run.said.lines().filter(|line| line.starts_with("ok ")).count();
    // Nine modes, four checks where the server's node is asked as well; the agents, and DNS.
    assert_eq!(passed, 9 * 3 + 6 + 7 + 2, "{}", run.said);
    assert!(run.said.ends_with(&format!("==> {passed} passed, 0 failed\n")), "{}", run.said);
    assert_eq!(run.clusters, "", "the cluster is gone");
    for call in [
        "kind create cluster --config e2e/kind.yaml",
        "docker build --target agent --tag ghcr.io/ignoramuss/orb8-agent:e2e .",
        "kind load docker-image ghcr.io/ignoramuss/orb8-agent:e2e --name orb8-e2e",
        "kubectl --context kind-orb8-e2e apply --kustomize e2e",
        "http://[fd00:10:96::8:1]:80/hostname",
    ] {
        assert!(run.calls.contains(call), "{call} in {}", run.calls);
    }
    assert!(run.calls.trim_end().ends_with("kind delete cluster --name orb8-e2e"));
}

#[test]
fn wrong_and_missing_names_fail() {
    if lacks("jq", "wrong_and_missing_names_fail") {
        return;
    }
    // An IP-only lookup takes the host network's client for some other pod of the node.
    let mut flows = seen_by_clients();
    flows[7]["source"]["workload"] = pod("kube-proxy");
    let run = Fake::new().put("near-flows", &flows).run(&[]);
    let wrong = ["names both ends", "names nobody else"]
        .map(|what| format!("host network to pod: the client's node {what}"));
    assert_eq!(
        (failures(&run), run.succeeded),
        (wrong.each_ref().map(String::as_str).to_vec(), false)
    );
    assert!(run.calls.contains("logs --selector app=orb8-agent"), "what was there is shown");
    assert_eq!(run.clusters, "", "the cluster is gone");

    let mut flows = seen_by_servers();
    flows[2]["source"] = end(NEAR, 40_000, &of_pod("client"));
    let run = Fake::new().put("far-flows", &flows).run(&[]);
    assert_eq!(failures(&run).len(), 2, "the address is the node's: {}", run.said);

    let mut flows = seen_by_clients();
    flows[4]["destination"].as_object_mut().unwrap().remove("workload");
    let run = Fake::new().put("near-flows", &flows).run(&[]);
    assert_eq!(failures(&run), ["pod to Service: the client's node names both ends"]);

    let run = Fake::new().put("near-flows", &[]).put("pods", &[]).put("dns", &[]).run(&[]);
    assert_eq!(failures(&run).len(), 9 + 1 + 1 + 1, "{}", run.said);
}

#[test]
fn a_cluster_is_kept_where_that_is_asked_for_and_never_taken_from_others() {
    if lacks("jq", "a_cluster_is_kept_where_that_is_asked_for_and_never_taken_from_others") {
        return;
    }
    let fake = Fake::new();
    fake.write("clusters", "orb8-e2e\n");
    let run = fake.run(&[]);
    assert!(!run.succeeded && run.said.contains("E2E_KEEP=1"), "{}", run.said);
    assert_eq!(run.clusters, "orb8-e2e\n", "it is not this run's");
    let run = fake.run(&[("E2E_KEEP", "1")]);
    assert!(run.succeeded, "{}", run.said);
    assert!(run.calls.contains("kind export kubeconfig --name orb8-e2e"));
    assert_eq!(run.clusters, "orb8-e2e\n");
}

#[test]
fn the_script_means_the_cluster_that_kind_makes() {
    let cluster: KindCluster = documents("e2e/kind.yaml")[0].read();
    let script = fs::read_to_string(root().join("e2e/run")).unwrap();
    assert!(script.contains(&format!("CLUSTER={} ", cluster.name)));
    let nodes: Vec<String> =
        cluster.nodes.iter().map(|node| format!("{}-{}", cluster.name, node.role)).collect();
    assert_eq!(nodes, ["orb8-e2e-control-plane", "orb8-e2e-worker"]);
    assert!(nodes.iter().all(|node| script.contains(&format!("={node}"))), "{nodes:?}");
    let mode = fs::metadata(root().join("e2e/run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "it is run as it is");
}

/// The stand-in answers in the CLI's own words: each key is a field of what the CLI writes.
#[test]
fn what_the_script_reads_is_what_the_cli_writes() {
    fn keys(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.keys().cloned());
                fields.values().for_each(|value| keys(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }
    let fake = Fake::new();
    let cluster = fake.path("cluster");
    let mut found = BTreeSet::new();
    for file in ["near-flows", "far-flows", "near-status", "pods", "dns"] {
        let lines = fs::read_to_string(cluster.join(format!("{file}.json"))).unwrap();
        lines.lines().for_each(|line| keys(&serde_json::from_str(line).unwrap(), &mut found));
    }
    let output = sources(&root().join("orb8-cli/src/output"));
    assert!(found.len() > 10, "{found:?}");
    for key in found {
        let field = if key == "type" { "r#type: ".to_owned() } else { format!("    {key}: ") };
        assert!(output.contains(&field), "the CLI writes no {key}");
    }
}

/// The Rust below a folder.
fn sources(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        if path.is_dir() { sources(&path) } else { fs::read_to_string(path).unwrap() }
    };
    entries.map(read).collect()
}

/// `make envtest` runs a test by its name; without such a one it would pass.
#[test]
fn envtest_names_a_test_that_is_there() {
    let script = fs::read_to_string(root().join("e2e/envtest")).unwrap();
    let command = script.lines().find(|line| line.contains("cargo test")).unwrap();
    let name = command.split_whitespace().find(|word| word.starts_with("scenarios_")).unwrap();
    let tests = fs::read_to_string(root().join("orb8-k8s/tests/scenarios.rs")).unwrap();
    assert!(tests.contains(&format!("fn {name}()")), "{name}");
}

#[test]
fn the_scripts_have_no_faults_that_shellcheck_knows() {
    if lacks("shellcheck", "the_scripts_have_no_faults_that_shellcheck_knows") {
        return;
    }
    let scripts = ["e2e/run", "e2e/envtest"].map(|script| root().join(script));
    let tools = ["kubectl", "kind", "docker"].map(|tool| Path::new(TOOLS).join(tool));
    let output = Command::new("shellcheck").args(scripts).args(tools).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
