//! Who is on the node: the pods, what they were given, and what they do with it.

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};

use orb8_k8s::testing::objects;
use orb8_standins::Paths;
use orb8_standins::pod_resources::{Answers, Container, Devices, Pod as Given};
use serde_json::{Value, json};

use super::cgroups::Cgroups;
use crate::error::CliError;

mod made;
mod table;

pub(super) use made::of_scenario;

/// One of what runs.
pub(super) struct Pod {
    /// Empty of what is no pod: a service of the node, which nobody gave anything.
    namespace: String,
    name: String,
    container: String,
    /// Kind and name of what made it.
    controller: (String, String),
    /// What was asked for.
    resource: String,
    /// What was given for it.
    ids: Vec<String>,
    processes: Vec<Process>,
}

/// One process of it.
struct Process {
    /// Of `gpu-workload`, without those that are the same for all.
    arguments: Vec<String>,
    /// What NVML's stand-in says of it.
    line: String,
}

/// Returns those of the scenario that is made for this.
pub(super) fn of_demo() -> Vec<Pod> {
    table::pods()
}

/// A process of a pod; it ends when it is dropped, or when this process ends however that may be.
pub(super) struct Running {
    child: Child,
    /// It ends when this is closed.
    input: Option<ChildStdin>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the kubelet says of all pods.
pub(super) fn given(pods: &[Pod]) -> Answers {
    let given = |pod: &Pod| Given {
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        containers: vec![Container {
            name: pod.container.clone(),
            devices: vec![Devices {
                resource_name: pod.resource.clone(),
                device_ids: pod.ids.clone(),
                ..Devices::default()
            }],
            ..Container::default()
        }],
    };
    let pods = pods.iter().filter(|pod| !pod.is_service()).map(given).collect();
    Answers { pod_resources: pods, ..Answers::default() }
}

impl Pod {
    fn is_service(&self) -> bool {
        self.namespace.is_empty()
    }

    /// What tells it from others of its name: made of its name, as there is one of each.
    fn uid(&self) -> String {
        let number = self.number();
        format!("{:08x}-0000-4000-8000-{:012x}", number >> 32, number & 0xffff_ffff_ffff)
    }

    fn container_id(&self) -> String {
        format!("{:016x}", self.number()).repeat(4)
    }

    /// A number made of its name.
    fn number(&self) -> u64 {
        let mix = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        self.name.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
    }

    /// What the API server says of it.
    pub(super) fn objects(&self, node: &str) -> Vec<Value> {
        if self.is_service() {
            return Vec::new();
        }
        let address = format!("10.244.1.{}", 2 + self.number() % 250);
        let pod = objects::pod(&self.namespace, &self.name, node, &[&address]);
        let mut pod = objects::with_uid(pod, &self.uid());
        pod["spec"]["containers"] = json!([{"name": self.container, "image": "example.org/app"}]);
        pod["status"]["containerStatuses"][0]["name"] = self.container.as_str().into();
        pod["status"]["containerStatuses"][0]["containerID"] =
            format!("containerd://{}", self.container_id()).into();
        let (kind, name) = &self.controller;
        vec![objects::owned(pod, kind, name, &format!("{}-owner", self.uid()))]
    }

    /// Starts its processes in its cgroup; they begin once they are in it.
    pub(super) fn start(&self, paths: &Paths, cgroups: &Cgroups) -> Result<Vec<Running>, CliError> {
        let cgroup = match self.is_service() {
            true => cgroups.unit(&self.name)?,
            false => cgroups.container(&self.uid(), &self.container_id())?,
        };
        let mut running = Vec::new();
        for Process { arguments, line } in &self.processes {
            let mut command = Command::new(&paths.workload);
            command.args(arguments).args(["--pid-line", line]).arg("--pid-file");
            command.arg(&paths.processes).args(["--seconds", "86400", "--wait", "--attached"]);
            command.args(["--devices", "8", "--memory-mib", "81559"]);
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().map_err(super::failed("start a stand-in's program"))?;
            let input = child.stdin.take();
            let mut child = Running { child, input };
            std::fs::write(cgroup.join("cgroup.procs"), child.child.id().to_string())
                .map_err(super::failed("put a process into its cgroup"))?;
            if let Some(input) = &mut child.input {
                // One that has ended already is seen not to be there.
                let _ = input.write_all(b"\n");
            }
            running.push(child);
        }
        Ok(running)
    }
}
