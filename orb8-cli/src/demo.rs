//! `orb8 demo gpu`: a node with eight GPUs that are none, and the real agent on it.
//!
//! ```text
//! pods (cgroups, gpu-workload) ─▶ libcuda, libnccl ◀─uprobes─┐
//!   │                        └──▶ libnvidia-ml ◀─────────────┼─ agent ◀─ a command, other terminals
//!   ├─▶ API server ◀─────────────────────────────────────────┤
//!   └─▶ PodResources server ◀────────────────────────────────┘
//! ```
//! Libraries and servers are stand-ins; everything that is shown has gone the way that it goes on a
//! node. It ends with the command, and leaves nothing behind; what is left of one that was killed, the
//! next one removes.

mod cgroups;
mod folder;
mod pods;

use std::io::Write as _;
use std::time::Duration;

use orb8_k8s::testing::{ApiServer, objects};
use orb8_proto::v1::{QueryGpuResponse, Workload};
use orb8_standins::pod_resources::PodResources;
use tokio::time::{Instant, sleep};

use crate::args::{Cli, DemoGpuArgs, GlobalArgs, OutputFormat};
use crate::commands;
use crate::console::Console;
use crate::error::{CliError, Exit};
use crate::standalone::Served;
use cgroups::Cgroups;
use folder::Folder;
use pods::{Pod, Running};

/// The node that it is.
const NODE: &str = "gpu-node-1";

/// What is played where nothing else is asked for.
const SCENARIO: &str = "demo";

/// How long the agent may take to know all devices and to see calls.
const PATIENCE: Duration = Duration::from_secs(15);

/// Everything that the agent is to find. It ends when it is dropped.
struct Node {
    // In this order: processes end before their cgroups, and all of them before the files.
    _workloads: Vec<Running>,
    cgroups: Cgroups,
    _pod_resources: PodResources,
    _api: ApiServer,
    paths: orb8_standins::Paths,
    folder: Folder,
}

/// Makes the node, starts an agent on it, and runs a command of ours that asks it.
pub(crate) async fn run(
    global: &GlobalArgs,
    args: &DemoGpuArgs,
    console: &mut Console,
) -> Result<Exit, CliError> {
    let (scenario, pods) = scenario(args)?;
    let folder = Folder::make().map_err(failed("make a folder"))?;
    let socket = folder.path().join("agent.sock");
    let mut asked = match command(args, &socket, console) {
        Ok(asked) => asked,
        Err(error) => return Ok(console.usage(&error)),
    };
    console.apply(&asked.global);
    // What is said of output before the command holds for it too.
    if asked.global.output == OutputFormat::Table {
        asked.global.output = global.output;
    }
    let node = Node::start(folder, &scenario, &pods).await?;
    let mut agent = Served::start(&node.settings(&socket)).await?;
    let interrupt = console.interrupt.clone();
    let ready = tokio::select! {
        ready = wait(&mut agent, &socket, &pods) => ready.map(Some),
        () = interrupt.cancelled() => Ok(None),
    };
    let outcome = match ready {
        Ok(Some(())) => {
            console.note(&format!(
                "a node of stand-ins; from another terminal: sudo orb8 --agent unix:{} gpu pods",
                socket.display()
            ));
            Box::pin(commands::run(asked, console)).await
        }
        Ok(None) => Ok(Exit::Success),
        Err(error) => Err(error),
    };
    agent.shutdown().await;
    drop(node);
    console.out.flush()?;
    outcome
}

/// What is played, and who is on the node. A file of somebody's own is played as it is, without pods.
fn scenario(args: &DemoGpuArgs) -> Result<(String, Vec<Pod>), CliError> {
    let name = args.scenario.as_deref().unwrap_or(SCENARIO);
    if let Some(scenario) = orb8_standins::scenario(name) {
        return Ok(match scenario.name {
            SCENARIO => (scenario.text.to_owned(), pods::of_demo()),
            _ => pods::of_scenario(scenario.text),
        });
    }
    let text = std::fs::read_to_string(name).map_err(|error| {
        let known: Vec<&str> = orb8_standins::scenarios().iter().map(|known| known.name).collect();
        CliError::Usage(format!(
            "--scenario {name} is none of {}, and no file: {error}",
            known.join(", ")
        ))
    })?;
    Ok((text, Vec::new()))
}

/// The command line of what is run: `gpu --watch` for who looks, `gpu` for who reads.
fn command(
    args: &DemoGpuArgs,
    socket: &std::path::Path,
    console: &Console,
) -> Result<Cli, clap::Error> {
    let default: &[&str] = if console.terminal.is_some() { &["gpu", "--watch"] } else { &["gpu"] };
    let words: Vec<String> = match args.command.is_empty() {
        true => default.iter().map(|word| (*word).to_owned()).collect(),
        false => args.command.clone(),
    };
    let agent = format!("unix:{}", socket.display());
    let line = ["orb8".to_owned(), "--agent".to_owned(), agent].into_iter().chain(words);
    let cli = crate::parse(line.map(Into::into))?;
    if matches!(cli.command, crate::args::Command::Demo { .. }) {
        let message = "a demonstration of the demonstration is not to be had";
        return Err(crate::command().error(clap::error::ErrorKind::InvalidValue, message));
    }
    Ok(cli)
}

/// Waits until the agent has read the devices twice since it knows who is on them and sees calls; or
/// says why it does not.
async fn wait(agent: &mut Served, socket: &std::path::Path, pods: &[Pod]) -> Result<(), CliError> {
    let start = Instant::now();
    let mut known_at = None;
    loop {
        if let Some(error) = agent.failure().await {
            return Err(error);
        }
        let answer = crate::standalone::gpu(socket).await?;
        if pods.is_empty() && !answer.devices.is_empty() || knows_all(&answer) {
            // What is found by difference takes a second reading.
            if *known_at.get_or_insert(answer.time_ns) != answer.time_ns {
                return Ok(());
            }
        }
        if start.elapsed() > PATIENCE {
            // Some scenarios are about what does not work.
            if !answer.devices.is_empty() {
                return Ok(());
            }
            let problems: Vec<&str> =
                answer.sources.iter().map(|source| source.problem.as_str()).collect();
            let problem = format!("the agent does not see the stand-ins: {}", problems.join("; "));
            return Err(CliError::Failed(problem));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Whether the agent knows who holds devices, who uses them, and what they call.
fn knows_all(answer: &QueryGpuResponse) -> bool {
    let shares = || answer.devices.iter().flat_map(|device| &device.shares);
    let is_held = shares().any(|share| !share.resource.is_empty());
    let has_name = |owner: &Workload| !owner.pod.is_empty() || !owner.unit.is_empty();
    let is_named = answer.processes.iter().all(|it| it.owner.as_ref().is_some_and(has_name));
    let is_seen = answer.watching.as_ref().is_none_or(|watching| {
        !watching.on || !answer.activity.is_empty() || !watching.problems.is_empty()
    });
    is_held && is_named && is_seen && !answer.processes.is_empty()
}

impl Node {
    async fn start(folder: Folder, scenario: &str, pods: &[Pod]) -> Result<Self, CliError> {
        let paths = orb8_standins::install(&folder.path().join("libraries"))
            .map_err(failed("write the stand-ins"))?;
        paths.play(scenario).map_err(failed("write the scenario"))?;
        let api = ApiServer::start().await.map_err(failed("start the API server's stand-in"))?;
        api.apply(objects::node(NODE, &["127.0.0.1"]));
        for pod in pods {
            pod.objects(NODE).into_iter().for_each(|object| api.apply(object));
        }
        api.write_kubeconfig(&folder.path().join("kubeconfig"))
            .map_err(failed("write a kubeconfig"))?;
        let pod_resources =
            PodResources::start(folder.path().join("kubelet.sock"), pods::given(pods))
                .map_err(failed("start the kubelet's stand-in"))?;
        let cgroups = Cgroups::make(folder.name())?;
        let mut workloads = Vec::new();
        for pod in pods {
            workloads.extend(pod.start(&paths, &cgroups)?);
        }
        Ok(Self {
            _workloads: workloads,
            cgroups,
            _pod_resources: pod_resources,
            _api: api,
            paths,
            folder,
        })
    }

    /// The agent's settings: shorter times than a node's, since nobody looks for ten minutes.
    fn settings(&self, socket: &std::path::Path) -> Vec<(&'static str, String)> {
        let path = |path: &std::path::Path| path.display().to_string();
        let folder = self.folder.path();
        vec![
            ("listen", "off".to_owned()),
            ("admin-listen", "off".to_owned()),
            ("socket", path(socket)),
            ("signals", "gpu".to_owned()),
            ("node-name", NODE.to_owned()),
            ("cgroup-root", path(self.cgroups.root())),
            ("kubernetes", "kubeconfig".to_owned()),
            ("kubeconfig", path(&folder.join("kubeconfig"))),
            ("gpu-sources", "nvml".to_owned()),
            ("gpu-nvml-library", path(&self.paths.nvml)),
            ("gpu-pod-resources", path(&folder.join("kubelet.sock"))),
            ("gpu-idle-after", "15s".to_owned()),
            ("gpu-leak-window", "3s".to_owned()),
        ]
    }
}

/// Says what could not be done.
fn failed(what: &'static str) -> impl Fn(std::io::Error) -> CliError {
    move |error| CliError::Failed(format!("cannot {what}: {error}"))
}
