//! A signal has one name everywhere. Every place that lists signals must list the same ones, so that
//! one which is added or dropped later cannot be forgotten in any of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use orb8_agent::{ebpf, sources};

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
    PerSignal { folder: "orb8-common/src", ending: ".rs", others: &["lib", "packet"] },
    PerSignal {
        folder: "orb8-probes/src/bin",
        ending: ".rs",
        // For measurements: no agent loads it.
        others: &["bench"],
    },
    PerSignal {
        folder: "orb8-proto/proto/orb8/v1",
        ending: ".proto",
        // The service.
        others: &["agent"],
    },
    PerSignal { folder: "orb8-agent/src/sources", ending: ".rs", others: &[] },
    PerSignal { folder: "orb8-agent/src/ebpf/objects", ending: ".bpf.o", others: &[] },
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
    sources::NAMES.iter().map(|name| (*name).to_owned()).collect()
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
        assert_eq!(found, names(), "{folder} against sources::NAMES");
    }
}

#[test]
fn every_signal_has_its_own_object_embedded() {
    for name in sources::NAMES {
        let embedded = match name {
            "flow" => ebpf::FLOW_OBJECT,
            other => panic!("which embedded object is {other}'s? add its row here"),
        };
        let path = format!("{}/src/ebpf/objects/{name}.bpf.o", env!("CARGO_MANIFEST_DIR"));
        assert!(fs::read(path).unwrap() == embedded, "{name}");
    }
}

#[test]
fn every_signal_is_declared_rebuilt_and_generated() {
    if !is_checkout() {
        return;
    }
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let (common, probes) = (read("orb8-common/src/lib.rs"), read("xtask/src/probes.rs"));
    let api = orb8_proto::FILE_DESCRIPTOR_SET;
    for name in sources::NAMES {
        assert!(common.contains(&format!("pub mod {name};")), "orb8-common: {name}");
        assert!(probes.contains(&format!("bin: \"{name}\"")), "cargo xtask probes: {name}");
        let path = format!("orb8/v1/{name}.proto");
        let is_generated = api.windows(path.len()).any(|part| part == path.as_bytes());
        assert!(is_generated, "cargo xtask codegen: {path}");
    }
}

#[test]
fn no_signal_is_listed_twice() {
    assert_eq!(names().len(), sources::NAMES.len());
}
