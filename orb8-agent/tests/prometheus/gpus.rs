//! A node's accelerators, which are stand-ins: devices that have everything that panels show, and pods
//! that train, idle, and use what they were not given.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
};

use orb8_standins::{
    Paths,
    pod_resources::{Answers, Container, Devices, Pod, PodResources},
};
use tempfile::TempDir;

use super::traffic::find_cgroup;
use crate::kernel::support::{
    cluster::{DB, DNS, PodSpec, WEB},
    node::{Kubepods, container_id},
};

/// Two devices that are trained on and have trouble, one that is held for nothing, one that is taken,
/// one in parts.
const SCENARIO: &str = "
[device 0-4]
model = NVIDIA H100 80GB HBM3
architecture = hopper
mig = yes
memory = 81559MiB
temperature.memory = 60
pcie.tx = 1GB
pcie.rx = 2GB
pcie.replays = ramp(0,100,100s)
nvlink.links = 18
nvlink.tx = 20GB
nvlink.rx = 10GB
nvlink.crc = ramp(0,100,100s)
rows.correctable = 1
ecc.uncorrected = steps(0,5s:1)
[device 0]
uuid = GPU-6f726238-0000-4000-8000-000000000000
[device 1]
uuid = GPU-6f726238-0000-4000-8000-000000000001
[device 2]
uuid = GPU-6f726238-0000-4000-8000-000000000002
[mig 4]
1g.10gb x 2
[processes]
file=processes
[events]
from 0s throttled hardware-thermal on 0
at 3s every 5s xid 31 on 0
at 4s every 5s xid 48 on 1
";

/// Who is given what: nobody device 3 and the parts.
const GIVEN: [(PodSpec, &[&str]); 2] = [
    (
        WEB,
        &["GPU-6f726238-0000-4000-8000-000000000000", "GPU-6f726238-0000-4000-8000-000000000001"],
    ),
    (DB, &["GPU-6f726238-0000-4000-8000-000000000002"]),
];

/// What runs in whose container: two ranks on the first devices, and one that helps itself. Few calls a
/// second: other tests' times are not to change.
const PROGRAMS: [(PodSpec, &str, &str); 2] = [
    (WEB, "train --ranks 2 --rate 10 --launches 10", "device=0,1 memory=2GiB sm=60"),
    (DNS, "launches --rate 5 --launches 5 --device 3", "memory=1GiB sm=20"),
];

/// They last as long as this.
pub(super) struct Gpus {
    // In this order: processes end before the files that they have open.
    _programs: Vec<Program>,
    _pod_resources: PodResources,
    paths: Paths,
    folder: TempDir,
}

impl Gpus {
    /// Starts them, with processes in pods' containers.
    pub(super) fn start(pods: &Kubepods) -> Self {
        let folder = TempDir::new().expect("a folder");
        let paths = orb8_standins::install(&folder.path().join("libraries")).expect("stand-ins");
        paths.play(SCENARIO).expect("the scenario");
        let socket = folder.path().join("kubelet.sock");
        let pod_resources = PodResources::start(socket, given()).expect("the kubelet's stand-in");
        let programs = PROGRAMS.map(|(pod, arguments, line)| {
            let cgroup = find_cgroup(pods.root().path(), &container_id(pod.uid, "main"));
            Program::start(&paths, &cgroup.expect("its cgroup"), arguments, line)
        });
        Self { _programs: programs.into(), _pod_resources: pod_resources, paths, folder }
    }

    /// What an agent is told, so that it finds them and no real ones.
    pub(super) fn settings(&self) -> Vec<String> {
        vec![
            "--gpu-sources=nvml".to_owned(),
            format!("--gpu-nvml-library={}", self.paths.nvml.display()),
            format!("--gpu-pod-resources={}", self.folder.path().join("kubelet.sock").display()),
            "--gpu-idle-after=10s".to_owned(),
        ]
    }
}

fn given() -> Answers {
    let pod = |(pod, devices): &(PodSpec, &[&str])| {
        let devices = Devices {
            resource_name: "nvidia.com/gpu".to_owned(),
            device_ids: devices.iter().map(|id| (*id).to_owned()).collect(),
            ..Devices::default()
        };
        let container =
            Container { name: "main".to_owned(), devices: vec![devices], ..Container::default() };
        Pod {
            name: pod.name.to_owned(),
            namespace: pod.namespace.to_owned(),
            containers: vec![container],
        }
    };
    Answers { pod_resources: GIVEN.iter().map(pod).collect(), ..Answers::default() }
}

/// A process that calls CUDA. It is ended when it is dropped, and ends by itself where this one does.
struct Program(Child);

impl Program {
    fn start(paths: &Paths, cgroup: &Path, arguments: &str, line: &str) -> Self {
        let mut command = Command::new(&paths.workload);
        command.args(arguments.split(' ')).args(["--wait", "--attached", "--seconds", "3600"]);
        command.args(["--pid-line", line, "--pid-file"]).arg(&paths.processes);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut program = Self(command.spawn().expect("the program runs"));
        let pid = program.0.id().to_string();
        fs::write(cgroup.join("cgroup.procs"), pid).expect("it is in its cgroup");
        let input = program.0.stdin.as_mut().expect("its input");
        input.write_all(b"\n").expect("it waits");
        program
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails when it ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
