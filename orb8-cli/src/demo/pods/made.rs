//! Who is on the node of any other scenario: what it says of processes, as pods that are there.

use super::{Pod, Process};

/// Returns what is played in its place, and the pods: one for each process that the scenario names,
/// with a process that is there, and given the device or the part of one that it is on.
pub(in crate::demo) fn of_scenario(text: &str) -> (String, Vec<Pod>) {
    let (named, others): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("pid="));
    let mut played = others.join("\n");
    if !others.contains(&"file=processes") {
        played.push_str("\n[processes]\nfile=processes");
    }
    let named: Vec<Named<'_>> = named.iter().filter_map(|line| Named::read(line)).collect();
    let mut pods = Vec::new();
    for (at, process) in named.iter().enumerate() {
        let on_it = |other: &&Named<'_>| other.place() == process.place();
        let sharers = named.iter().filter(on_it).count();
        let slice = named[..at].iter().filter(on_it).count();
        pods.push(process.pod(at, (sharers > 1).then_some(slice)));
    }
    let mut devices: Vec<u32> = named.iter().map(|process| process.device).collect();
    devices.sort_unstable();
    devices.dedup();
    for device in devices {
        // What the kubelet gives is known beforehand.
        played.push_str(&format!("\n[device {device}]\nuuid = {}", uuid(device)));
    }
    (played + "\n", pods)
}

/// A process that a scenario names.
struct Named<'a> {
    name: &'a str,
    device: u32,
    gpu_instance: Option<u32>,
    compute_instance: u32,
    /// Everything that is said of it, but for its number and device.
    line: String,
}

fn uuid(device: u32) -> String {
    format!("GPU-6c1fa7b2-{device:04x}-4d1b-9a5e-0f8c2b7d9e00")
}

impl<'a> Named<'a> {
    /// Reads `pid=4 device=0 gi=7 memory=2GiB name=server`.
    fn read(line: &'a str) -> Option<Self> {
        let mut process = Self {
            name: "worker",
            device: 0,
            gpu_instance: None,
            compute_instance: 0,
            line: String::new(),
        };
        let mut kept = Vec::new();
        for word in line.split_whitespace() {
            match word.split_once('=')? {
                ("pid", _) => continue,
                ("name", name) => {
                    process.name = name;
                    continue;
                }
                ("device", device) => {
                    process.device = device.parse().ok()?;
                    continue;
                }
                ("gi", number) => process.gpu_instance = Some(number.parse().ok()?),
                ("ci", number) => process.compute_instance = number.parse().ok()?,
                _ => {}
            }
            kept.push(word);
        }
        process.line = kept.join(" ");
        Some(process)
    }

    fn place(&self) -> (u32, Option<u32>) {
        (self.device, self.gpu_instance)
    }

    fn pod(&self, at: usize, slice: Option<usize>) -> Pod {
        let device = uuid(self.device);
        let (resource, id) = match (self.gpu_instance, slice) {
            (Some(instance), _) => {
                ("nvidia.com/mig", format!("MIG-{device}/{instance}/{}", self.compute_instance))
            }
            (None, Some(slice)) => ("nvidia.com/gpu.shared", format!("{device}::{slice}")),
            (None, None) => ("nvidia.com/gpu", device),
        };
        let name = self.name.to_ascii_lowercase();
        let is_idle = self.line.split(' ').any(|word| word == "sm=0");
        let work: &[&str] =
            if is_idle { &["hold"] } else { &["launches", "--rate", "10", "--launches", "50"] };
        let arguments = work.iter().map(|word| (*word).to_owned());
        let arguments = arguments.chain(["--device".to_owned(), self.device.to_string()]).collect();
        Pod {
            namespace: "demo".to_owned(),
            name: format!("{name}-{at}"),
            container: name.clone(),
            controller: ("StatefulSet".to_owned(), name),
            resource: resource.to_owned(),
            ids: vec![id],
            processes: vec![Process { arguments, line: self.line.clone() }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_of_a_scenario_becomes_a_pod_that_was_given_its_device() {
        for scenario in orb8_standins::scenarios() {
            let (played, pods) = of_scenario(scenario.text);
            let named = scenario.text.lines().filter(|line| line.starts_with("pid=")).count();
            assert_eq!(pods.len(), named, "{}", scenario.name);
            assert!(!played.contains("\npid="), "{}", scenario.name);
            assert_eq!(played.matches("file=processes").count(), 1, "{}", scenario.name);
        }
    }

    #[test]
    fn parts_and_shared_devices_are_given_as_such() {
        let text = "[processes]\npid=1 device=0 gi=7 ci=0 memory=6GiB name=python3\n\
                    pid=2 device=1 memory=1GiB sm=0\npid=3 device=1 memory=1GiB sm=5 name=Xorg\n";
        let (played, pods) = of_scenario(text);
        let ids: Vec<&str> = pods.iter().map(|pod| &*pod.ids[0]).collect();
        let device = |number| uuid(number);
        assert_eq!(
            ids,
            [
                format!("MIG-{}/7/0", device(0)),
                format!("{}::0", device(1)),
                format!("{}::1", device(1)),
            ]
        );
        assert_eq!(pods[0].processes[0].line, "gi=7 ci=0 memory=6GiB");
        assert_eq!(pods[1].processes[0].arguments, ["hold", "--device", "1"]);
        assert_eq!((&*pods[1].name, &*pods[2].name), ("worker-1", "xorg-2"));
        assert!(played.contains(&format!("[device 1]\nuuid = {}", device(1))));
    }
}
