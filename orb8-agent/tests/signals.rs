//! A signal has one name everywhere. Every place that lists signals must list the same ones, so that
//! one which is added or dropped later cannot be forgotten in any of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use orb8_agent::config::settings;
use orb8_agent::ebpf;
use orb8_agent::event::Signal;

type Names = BTreeSet<String>;

/// A folder with one file per signal, from the checkout's root.
struct PerSignal {
    folder: &'static str,
    /// What a file's name ends with.
    ending: &'static str,
    /// Files there that are no signal's.
    others: &'static [&'static str],
}

const FOLDERS: [PerSignal; 5] = [
    PerSignal { folder: "orb8-common/src", ending: ".rs", others: &["cgroup", "lib", "packet"] },
    PerSignal {
        folder: "orb8-probes/src/bin",
        ending: ".rs",
        // Whose the signals' events are; and for measurements, which no agent loads.
        others: &["bench", "cgroup"],
    },
    PerSignal {
        folder: "orb8-proto/proto/orb8/v1",
        ending: ".proto",
        // The service, what several signals share, and a recording's own records.
        others: &[
            "agent",
            "endpoint",
            "filter",
            "histogram",
            "lost",
            "pod",
            "recording",
            "workload",
        ],
    },
    PerSignal { folder: "orb8-agent/src/sources", ending: ".rs", others: &["cgroup"] },
    PerSignal { folder: "orb8-agent/src/ebpf/objects", ending: ".bpf.o", others: &["cgroup"] },
];

fn root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().expect("the crate lies in a folder").to_owned()
}

/// Whether the rest of the checkout is there; a packaged crate is alone.
fn is_checkout() -> bool {
    let found = root().join("orb8-probes").is_dir();
    if !found {
        println!("SKIPPED: a packaged crate has no other crates to compare with");
    }
    found
}

fn names() -> Names {
    Signal::ALL.map(|signal| signal.name().to_owned()).into()
}

#[test]
fn every_folder_has_a_file_per_signal_and_no_other() {
    if !is_checkout() {
        return;
    }
    for PerSignal { folder, ending, others } in FOLDERS {
        let files = fs::read_dir(root().join(folder)).unwrap_or_else(|error| {
            panic!("{folder}: {error}");
        });
        let found: Names = files
            .filter_map(|file| {
                let name = file.unwrap().file_name().into_string().unwrap();
                name.strip_suffix(ending).map(str::to_owned)
            })
            .filter(|name| !others.contains(&name.as_str()))
            .collect();
        assert_eq!(found, names(), "{folder} against Signal::ALL");
    }
}

#[test]
fn every_signal_has_its_own_object_embedded() {
    for signal in Signal::ALL {
        let embedded = match signal {
            Signal::Flow => ebpf::FLOW_OBJECT,
            Signal::Dns => ebpf::DNS_OBJECT,
            Signal::Tcp => ebpf::TCP_OBJECT,
            Signal::Gpu => ebpf::GPU_OBJECT,
        };
        let name = signal.name();
        let path = format!("{}/src/ebpf/objects/{name}.bpf.o", env!("CARGO_MANIFEST_DIR"));
        assert!(fs::read(path).unwrap() == embedded, "{name}");
    }
}

#[test]
fn every_signal_can_be_asked_for() {
    let setting = settings::SETTINGS.iter().find(|setting| setting.name == "signals").unwrap();
    for name in names() {
        assert!(setting.doc.contains(&format!("`{name}`")), "--signals: {name}: {}", setting.doc);
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_signal_is_declared_rebuilt_and_generated() {
    if !is_checkout() {
        return;
    }
    let (common, probes) = (read("orb8-common/src/lib.rs"), read("xtask/src/probes.rs"));
    let api = orb8_proto::FILE_DESCRIPTOR_SET;
    for name in names() {
        assert!(common.contains(&format!("pub mod {name};")), "orb8-common: {name}");
        assert!(probes.contains(&format!("bin: \"{name}\"")), "cargo xtask probes: {name}");
        let path = format!("orb8/v1/{name}.proto");
        let is_generated = api.windows(path.len()).any(|part| part == path.as_bytes());
        assert!(is_generated, "cargo xtask codegen: {path}");
    }
}

/// The matches have no arm for what comes after: who adds a signal says here what it is called there.
#[test]
fn every_signal_has_its_rows() {
    if !is_checkout() {
        return;
    }
    let service = read("orb8-proto/proto/orb8/v1/agent.proto");
    let (cli, fuzz) = (read("orb8-cli/src/args.rs"), read("fuzz/Cargo.toml"));
    let (events, pipeline) = (read("orb8-agent/src/event.rs"), read("orb8-agent/src/pipeline.rs"));
    for signal in Signal::ALL {
        let (variant, trace, fuzzed) = match signal {
            Signal::Flow => ("Flow", "Network(NetworkArgs)", "packet"),
            Signal::Dns => ("Dns", "Dns(DnsArgs)", "dns"),
            Signal::Tcp => ("Tcp", "Tcp(TcpArgs)", "tcp"),
            // `GpuArgs` are those of a command by that name.
            Signal::Gpu => ("Gpu", "Gpu(GpuEventsArgs)", "dcgm"),
        };
        let (query, stream) = match signal {
            Signal::Flow => ("QueryFlows", "StreamEvents"),
            Signal::Dns => ("QueryDns", "StreamDns"),
            Signal::Tcp => ("QueryTcp", "StreamTcp"),
            Signal::Gpu => ("QueryGpu", "StreamGpu"),
        };
        for rpc in [query, stream] {
            assert!(service.contains(&format!("rpc {rpc}({rpc}Request)")), "the API: {rpc}");
        }
        assert!(events.contains(&format!("    {variant}(")), "Payload: {variant}");
        assert!(pipeline.contains(&format!("Payload::{variant}(")), "the pipeline: {variant}");
        assert!(cli.contains(&format!("    {trace},")), "orb8 trace: {trace}");
        assert!(fuzz.contains(&format!("name = \"{fuzzed}\"")), "cargo xtask fuzz: {fuzzed}");
    }
}

#[test]
fn no_signal_is_listed_twice() {
    assert_eq!(names().len(), Signal::ALL.len());
}
