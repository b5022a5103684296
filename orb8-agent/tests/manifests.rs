//! The agent as `deploy/` starts it: the settings are ones that it takes, and what its container may
//! do is enough.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use orb8_agent::config::{Config, Environment, RawConfig};
use orb8_k8s::client::Access;
use orb8_proto::v1::orbit_agent_service_client::OrbitAgentServiceClient;
use orb8_proto::v1::{GetStatusRequest, QueryFlowsRequest, SourceState};
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

mod manifests {
    mod chart;
    mod package;
    mod unit;
}

const BASE: &str = include_str!("../../deploy/base/daemonset.yaml");
const METRICS: &str = include_str!("../../deploy/components/metrics/daemonset.yaml");
const MTLS: &str = include_str!("../../deploy/components/mtls/daemonset.yaml");
/// Overlays, each with the components that it has.
const OVERLAYS: [(&str, &str, &[&str]); 3] = [
    ("minimal", include_str!("../../deploy/overlays/minimal/daemonset.yaml"), &[]),
    (
        "production",
        include_str!("../../deploy/overlays/production/daemonset.yaml"),
        &[METRICS, MTLS],
    ),
    ("dev", include_str!("../../deploy/overlays/dev/daemonset.yaml"), &[METRICS]),
];
/// What the downward API would say.
const NODE: &str = "node-1";
const NODE_ADDRESS: &str = "10.0.0.7";

fn container(manifest: &str) -> Value {
    let manifest: Value = serde_saphyr::from_str(manifest).unwrap();
    manifest["spec"]["template"]["spec"]["containers"][0].clone()
}

/// The variables of a container, as the kubelet sets them.
fn variables(container: &Value) -> BTreeMap<String, String> {
    let variable = |variable: &Value| {
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("spec.nodeName") => NODE.to_owned(),
            Some("status.hostIP") => NODE_ADDRESS.to_owned(),
            Some(other) => panic!("{other}"),
            None => variable["value"].as_str().unwrap().replace("$(HOST_IP)", NODE_ADDRESS),
        };
        (variable["name"].as_str().unwrap().to_owned(), value)
    };
    container["env"].as_array().unwrap().iter().map(variable).collect()
}

fn load(variables: BTreeMap<String, String>) -> Config {
    let host_name = Some("not-the-nodes-name".to_owned());
    let environment =
        Environment { variables, host_name, page_size: 4096, ..Environment::default() };
    RawConfig::default().load(&environment).unwrap()
}

fn mount_paths(container: &Value) -> Vec<&Path> {
    let mounts = container["volumeMounts"].as_array().unwrap();
    mounts.iter().map(|mount| Path::new(mount["mountPath"].as_str().unwrap())).collect()
}

#[test]
fn the_settings_are_the_agents() {
    let container = container(BASE);
    let Config { node_name, api, kubernetes, .. } = load(variables(&container));
    assert_eq!((node_name.as_str(), kubernetes.access), (NODE, Access::InCluster));
    assert!(api.listen.unwrap().ip().is_loopback(), "without TLS the flows stay on the node");
    assert!(api.admin.unwrap().ip().is_loopback(), "metrics tell how much each workload moves");
    let socket = api.socket.unwrap();
    assert!(mount_paths(&container).contains(&socket.parent().unwrap()), "the rest is read-only");
}

/// The variables of the base with those of patches, as kustomize merges them.
fn patched(patches: &[&str]) -> BTreeMap<String, String> {
    let mut all = variables(&container(BASE));
    for patch in patches {
        all.extend(variables(&container(patch)));
    }
    all
}

#[test]
fn metrics_are_served_on_the_nodes_own_address() {
    let api = load(patched(&[METRICS])).api;
    assert_eq!(api.admin.unwrap().to_string(), format!("{NODE_ADDRESS}:9091"));
}

#[test]
fn every_overlay_has_settings_that_the_agent_takes() {
    for (name, patch, components) in OVERLAYS {
        let patches: Vec<&str> = components.iter().copied().chain([patch]).collect();
        let config = load(patched(&patches));
        let is_open = !config.api.listen.unwrap().ip().is_loopback();
        assert_eq!(is_open, name != "minimal", "{name}");
        assert_eq!(config.api.tls.is_some(), name == "production", "{name}");
        assert_eq!(config.kubernetes.access == Access::Off, name == "minimal", "{name}");
    }
}

#[test]
fn mtls_opens_the_api_to_who_has_a_certificate() {
    let patch = container(MTLS);
    let api = load(patched(&[MTLS])).api;
    assert!(api.listen.unwrap().ip().is_unspecified());
    let tls = api.tls.unwrap();
    for file in [&tls.certificate, &tls.key, &tls.client_ca.unwrap()] {
        assert!(mount_paths(&patch).contains(&file.parent().unwrap()), "{}", file.display());
    }
}

/// A node's part of the hierarchy, with a cgroup for the agent's pod and one for another.
struct Node(PathBuf);

impl Node {
    fn new(mount: &Path, test: &str) -> Self {
        let name = format!("orb8-test-manifests-{test}-{}", std::process::id());
        let node = Self(mount.join(name));
        for cgroup in [&node.0, &node.pod(), &node.other()] {
            fs::create_dir(cgroup).unwrap();
        }
        node
    }

    fn root(&self) -> &Path {
        &self.0
    }

    fn pod(&self) -> PathBuf {
        self.0.join("pod")
    }

    fn other(&self) -> PathBuf {
        self.0.join("other")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for cgroup in [self.pod(), self.other(), self.0.clone()] {
            // A process that just ended may still count as a member.
            let removed = (0..100).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                fs::remove_dir(&cgroup).is_ok()
            });
            if !removed {
                eprintln!("cannot remove {}", cgroup.display());
            }
        }
    }
}

/// What a runtime makes of the pod: the host mount read-only, a cgroup namespace with its own mount,
/// none of the node's mounts, the capabilities and no others. The rest of the node is as it is, since
/// the pod has its network and processes.
const RUNTIME: &str = r#"
set -e
node=$1 mount=$2 folder=$3 capabilities=$4 agent=$5
echo $$ > "$node/pod/cgroup.procs"
exec unshare --cgroup --mount --propagation private bash -ec '
    node=$1 mount=$2 folder=$3 capabilities=$4 agent=$5
    mount --bind "$node" "$folder/host"
    mount -o remount,bind,ro "$folder/host"
    mount -t cgroup2 none "$folder/own"
    umount --lazy "$mount"
    exec setpriv --no-new-privs --inh-caps=-all --bounding-set="-all$capabilities" "$agent"
' pod "$node" "$mount" "$folder" "$capabilities" "$agent"
"#;

struct Agent(Child);

impl Agent {
    fn of(child: Child) -> Self {
        Self(child)
    }

    fn start(node: &Node, mount: &Path, folder: &Path) -> Self {
        let container = container(BASE);
        let added = container["securityContext"]["capabilities"]["add"].as_array().unwrap();
        let capabilities: String = added
            .iter()
            .map(|name| format!(",+{}", name.as_str().unwrap().to_lowercase()))
            .collect();
        for mount_point in ["host", "own"] {
            fs::create_dir(folder.join(mount_point)).unwrap();
        }
        let path = std::env::var("PATH").unwrap();
        let socket = folder.join("agent.sock");
        let child = Command::new("bash")
            .args(["-c", RUNTIME, "runtime"])
            .args([&node.0, mount, folder])
            .args([&capabilities, env!("CARGO_BIN_EXE_orb8-agent")])
            .env_clear()
            .envs(variables(&container))
            .env("PATH", path)
            // There is no API server, and the ports may be somebody's.
            .env("ORB8_KUBERNETES", "off")
            .env("ORB8_LISTEN", "off")
            .env("ORB8_ADMIN_LISTEN", "off")
            .env("ORB8_SOCKET", socket)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id().try_into().unwrap()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Sends a datagram over loopback from another cgroup.
fn send_from(cgroup: &Path, port: u16) {
    let script = format!("echo $$ > \"$0/cgroup.procs\"; echo hello > /dev/udp/127.0.0.1/{port}");
    let status = Command::new("bash").args(["-c", &script]).arg(cgroup).status().unwrap();
    assert!(status.success());
}

type Client = OrbitAgentServiceClient<Channel>;

async fn connect(socket: &Path) -> Client {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match endpoint.connect().await {
            Ok(channel) => return Client::new(channel),
            Err(error) if Instant::now() > deadline => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Waits until every signal runs whose subject is here, and fails with the reasons of those that do not.
async fn wait_for_signals(client: &mut Client, node: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let status = client.get_status(GetStatusRequest {}).await.unwrap().into_inner();
        let skipped = status.sources.iter().any(|source| source.state() == SourceState::Skipped);
        if let (false, [_, ..], Some(attachment)) = (skipped, &*status.sources, &status.attachment)
        {
            assert_eq!((status.node_name.as_str(), &*attachment.in_force), (NODE, "cgroup"));
            assert_eq!(Path::new(&attachment.cgroup_root), node, "not the pod's own cgroup");
            return;
        }
        assert!(Instant::now() < deadline, "{:?}", status.sources);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The mount of cgroup v2, where this process may attach programs to it.
fn hierarchy(test: &str) -> Option<PathBuf> {
    let mount = Environment::of_machine().cgroup_mount.filter(|_| geteuid().is_root());
    if mount.is_none() {
        // Not a macro: the harness keeps to itself what a test that passes prints by one.
        let told = writeln!(std::io::stderr(), "SKIPPED {test}: needs root and cgroup v2");
        told.expect("standard error");
    }
    mount
}

/// Needs root, cgroup v2, and util-linux (`unshare`, `setpriv`).
#[tokio::test]
async fn what_the_container_may_do_is_enough() {
    let Some(mount) = hierarchy("what_the_container_may_do_is_enough") else { return };
    let (node, folder) = (Node::new(&mount, "pod"), TempDir::new().unwrap());
    let _agent = Agent::start(&node, &mount, folder.path());
    let mut client = connect(&folder.path().join("agent.sock")).await;
    wait_for_signals(&mut client, &folder.path().join("host")).await;
    sees_traffic(&mut client, &node).await;
}

/// Waits until a datagram of another cgroup is seen, with that cgroup for its owner.
async fn sees_traffic(client: &mut Client, node: &Node) {
    // Of another pod of the node.
    let other = fs::metadata(node.other()).unwrap().ino();
    const PORT: u16 = 9;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        send_from(&node.other(), PORT);
        let flows = client.query_flows(QueryFlowsRequest::default()).await.unwrap().into_inner();
        let mut ends = flows.flows.iter().filter_map(|flow| {
            let to = flow.destination.as_ref()?;
            (to.port == u32::from(PORT)).then_some((flow.cgroup_id, flow.source.as_ref()?))
        });
        let seen = ends.find(|(cgroup, _)| *cgroup == other);
        if let Some(workload) = seen.and_then(|(_, source)| source.workload.as_ref()) {
            assert_eq!(workload.cgroup_path, "/other", "paths begin at the node");
            return;
        }
        assert!(Instant::now() < deadline, "not seen, or without its owner: {:?}", flows.flows);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
