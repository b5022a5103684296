//! Who is on the node of the scenario that is made for this.

use super::{Pod, Process};

/// One of what runs.
struct Row {
    namespace: &'static str,
    name: &'static str,
    container: &'static str,
    /// Kind and name of what made it.
    controller: (&'static str, &'static str),
    /// What was asked for, and the ids that were given for it.
    given: (&'static str, &'static [&'static str]),
    /// A process for each: arguments of `gpu-workload`, and what NVML's stand-in says of it.
    processes: &'static [(&'static str, &'static str)],
}

/// A pod that is none: a service of the node, which nobody gave anything.
const SERVICE: &str = "crypto-check.service";

macro_rules! gpu {
    ($number:literal) => {
        concat!("GPU-6c1fa7b2-0", $number, "3e-4d1b-9a5e-0f8c2b7d9e", $number, $number)
    };
}

/// What the ranks of one job do.
const TRAIN: &str = "--rate 40 --launches 60 --copy 4194304 --bytes 64424509440 --allreduce \
                     67108864 --ranks 4 --id 6f72623864656d6f";

/// Four that train together, two that take turns, one that does nothing, one that loses memory, and
/// two on parts of a device.
const ROWS: &[Row] = &[
    Row {
        namespace: "ml-training",
        name: "llama-ft-worker-0",
        container: "trainer",
        controller: ("PyTorchJob", "llama-ft"),
        given: ("nvidia.com/gpu", &[gpu!("0"), gpu!("1"), gpu!("2"), gpu!("3")]),
        processes: &[
            ("train --rank 0", "memory=61GiB sm=sine(70,99,20s,0s)"),
            ("train --rank 1", "memory=61GiB sm=sine(70,99,20s,1s)"),
            ("train --rank 2", "memory=61GiB sm=sine(70,99,20s,2s)"),
            ("train --rank 3", "memory=61GiB sm=sine(70,99,20s,3s)"),
        ],
    },
    Row {
        namespace: "team-a",
        name: "ranker-7c9d5f6b4-x2x7p",
        container: "server",
        controller: ("Deployment", "ranker"),
        given: ("nvidia.com/gpu.shared", &[concat!(gpu!("4"), "::0")]),
        processes: &[(
            "launches --rate 20 --launches 200 --bytes 12884901888 --device 4",
            "memory=12GiB sm=sine(30,55,15s)",
        )],
    },
    Row {
        namespace: "team-b",
        name: "search-6d8f9c7b5-q8rvk",
        container: "server",
        controller: ("Deployment", "search"),
        given: ("nvidia.com/gpu.shared", &[concat!(gpu!("4"), "::1")]),
        processes: &[(
            "graphs --rate 10 --launches 80 --bytes 8589934592 --device 4",
            "memory=8GiB sm=sine(10,30,15s)",
        )],
    },
    Row {
        namespace: "research",
        name: "notebook-0",
        container: "jupyter",
        controller: ("StatefulSet", "notebook"),
        given: ("nvidia.com/gpu", &[gpu!("5")]),
        processes: &[("hold --bytes 35433480192 --device 5", "memory=33GiB sm=0")],
    },
    Row {
        namespace: "research",
        name: "etl-28811-kx4wz",
        container: "main",
        controller: ("Job", "etl-28811"),
        given: ("nvidia.com/gpu", &[gpu!("6")]),
        processes: &[(
            "leak --rate 4 --bytes 33554432 --device 6",
            "memory=ramp(2GiB,60GiB,8m) sm=35",
        )],
    },
    Row {
        namespace: "inference",
        name: "embedder-5f7b6c9d8-2mzgt",
        container: "server",
        controller: ("Deployment", "embedder"),
        given: ("nvidia.com/mig-3g.40gb", &["MIG-8d2f1c64-5a70-4b1e-9c3d-7e2a9b5f0c01"]),
        processes: &[(
            "launches --rate 10 --launches 100 --bytes 21474836480 --device 7",
            "gi=1 ci=0 memory=20GiB sm=60",
        )],
    },
    Row {
        namespace: "inference",
        name: "tagger-84b5d7c6f-9wlhd",
        container: "server",
        controller: ("Deployment", "tagger"),
        given: ("nvidia.com/mig-1g.10gb", &["MIG-8d2f1c64-5a70-4b1e-9c3d-7e2a9b5f0c02"]),
        processes: &[],
    },
    Row {
        namespace: "",
        name: SERVICE,
        container: "",
        controller: ("", ""),
        given: ("", &[]),
        processes: &[(
            "launches --rate 5 --launches 20 --bytes 2147483648 --device 4",
            "memory=2GiB sm=8",
        )],
    },
];

/// Returns them.
pub(super) fn pods() -> Vec<Pod> {
    ROWS.iter().map(Row::pod).collect()
}

impl Row {
    fn pod(&self) -> Pod {
        let Self { namespace, name, container, controller, given, processes } = *self;
        let process = |(arguments, line): &(&str, &str)| {
            let mut arguments: Vec<&str> = arguments.split_whitespace().collect();
            if arguments[0] == "train" {
                arguments.extend(TRAIN.split_whitespace());
            }
            let arguments = arguments.into_iter().map(str::to_owned).collect();
            Process { arguments, line: (*line).to_owned() }
        };
        Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            container: container.to_owned(),
            controller: (controller.0.to_owned(), controller.1.to_owned()),
            resource: given.0.to_owned(),
            ids: given.1.iter().map(|id| (*id).to_owned()).collect(),
            processes: processes.iter().map(process).collect(),
        }
    }
}
