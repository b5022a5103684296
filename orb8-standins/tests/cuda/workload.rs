//! The workload says what it did, and the driver counted the same.

use serde_json::{Value, json};

use crate::node::{Workload, paths, report};

/// Asserts that a run went well and that the driver was asked what the program says.
#[track_caller]
fn agrees(report: &Value) -> &Value {
    assert_eq!(report["failure"], Value::Null, "{report:#}");
    let (program, driver) = (&report["program"], &report["driver"]);
    for field in [
        "launches",
        "captured",
        "graph_launches",
        "allocations",
        "outstanding",
        "outstanding_pinned",
        "failed_allocations",
    ] {
        assert_eq!(program[field], driver[field], "{field}");
    }
    for kind in ["host-to-device", "device-to-host", "device-to-device", "peer", "unified"] {
        for field in ["count", "bytes"] {
            assert_eq!(program["copies"][kind][field], driver["copies"][kind][field], "{kind}");
        }
    }
    for kind in ["stream", "event", "context"] {
        assert_eq!(program["waits"][kind]["count"], driver["waits"][kind]["count"], "{kind}");
    }
    assert_eq!(driver["refused_frees"], 0);
    driver
}

#[test]
fn training_adds_up_at_every_layer() {
    for layer in ["driver", "per-thread", "runtime"] {
        let report = report(&format!(
            "train --layer {layer} --steps 7 --launches 3 --copy 4096 --bytes 1000000"
        ));
        let driver = agrees(&report);
        assert_eq!(driver["launches"], 21, "{layer}");
        for kind in ["host-to-device", "device-to-host"] {
            assert_eq!(driver["copies"][kind]["count"], 7, "{layer}");
            assert_eq!(driver["copies"][kind]["bytes"], 7 * 4096, "{layer}");
        }
        assert_eq!(driver["waits"]["stream"]["count"], 7, "{layer}");
        assert_eq!(driver["modules"]["count"], 1, "{layer}");
        let taken = json!({
            "count": 3, "bytes": 1_000_000 + (2 << 20),
            "freed_count": 3, "freed_bytes": 1_000_000 + (2 << 20),
        });
        assert_eq!(driver["allocations"]["device"], taken, "{layer}");
        assert_eq!(driver["outstanding"], 0);
    }
}

#[test]
fn everything_adds_up_with_every_driver() {
    for (cuda, layer, missing) in [
        ("libcuda.so.1", "driver", json!([])),
        ("libcuda.so.1", "per-thread", json!([])),
        ("libcuda.so.1", "runtime", json!(["alloc"])),
        ("libcuda-foreign.so.1", "driver", json!([])),
        ("libcuda-foreign.so.1", "runtime", json!(["alloc"])),
        ("libcuda-partial.so.1", "driver", json!(["alloc"])),
        ("libcuda-partial.so.1", "per-thread", json!(["alloc"])),
        ("libcuda-partial.so.1", "runtime", json!(["alloc"])),
    ] {
        let report = report(&format!("every --cuda {cuda} --layer {layer} --steps 4"));
        let driver = agrees(&report);
        let name = format!("{cuda} {layer}");
        assert_eq!(report["missing"], missing, "{name}");
        assert_eq!(driver["launches"], 4 * (10 + 10) + 10, "{name}");
        assert_eq!((&driver["captured"], &driver["graph_launches"]), (&json!(10), &json!(4)));
        for kind in ["device-to-device", "peer", "unified"] {
            assert_eq!(driver["copies"][kind]["count"], 8, "{name} {kind}");
        }
        assert_eq!(driver["waits"]["context"]["count"], 4, "{name}");
    }
}

#[test]
fn a_leak_is_outstanding_and_scratch_is_not() {
    let report = report("leak --steps 12 --bytes 5000");
    let driver = agrees(&report);
    assert_eq!(driver["outstanding"], 12 * 5000);
    assert_eq!(driver["allocations"]["device"]["count"], 24);
    assert_eq!(driver["allocations"]["device"]["freed_count"], 12);
}

#[test]
fn memory_that_is_full_fails() {
    let report = report("fill --memory-mib 16 --bytes 4194304 --steps 10");
    let driver = agrees(&report);
    assert_eq!(driver["allocations"]["device"]["count"], 4);
    assert_eq!(driver["failed_allocations"], 6);
}

#[test]
fn waiting_takes_as_long_as_the_work() {
    let report = report("launches --steps 5 --launches 4 --kernel-us 2000");
    let driver = agrees(&report);
    let waited = driver["waits"]["stream"]["ns"].as_u64().unwrap();
    let longest = driver["waits"]["stream"]["longest_ns"].as_u64().unwrap();
    assert!(waited >= 5 * 4 * 1_900_000, "{waited}");
    assert!((7_600_000..=waited).contains(&longest), "{longest}");
}

#[test]
fn copies_take_as_long_as_their_bytes() {
    let report = report("copies --steps 2 --copy 1048576 --copy-mib-s 100");
    let driver = agrees(&report);
    for (kind, row) in driver["copies"].as_object().unwrap() {
        let waited = row["waited_ns"].as_u64().unwrap();
        assert!(waited >= 2 * 10_000_000, "{kind}: {waited}");
    }
}

#[test]
fn loading_takes_its_time() {
    let report = report("load --jit-ms 15 --steps 3");
    let driver = agrees(&report);
    assert_eq!(driver["modules"]["count"], 4, "one at the start");
    assert!(driver["modules"]["ns"].as_u64().unwrap() >= 4 * 15_000_000);
    assert_eq!(report["program"]["modules"]["count"], 3);
}

#[test]
fn threads_work_at_the_same_time() {
    for layer in ["driver", "per-thread", "runtime"] {
        let report = report(&format!("every --threads 4 --steps 5 --layer {layer}"));
        let driver = agrees(&report);
        assert_eq!(driver["launches"], 4 * (5 * 20 + 10), "{layer}");
        assert_eq!(driver["graph_launches"], 20, "{layer}");
    }
}

#[test]
fn it_waits_for_a_line_with_its_libraries_loaded() {
    let mut workload = Workload::start("train --layer runtime --wait --hold --keep --steps 1");
    let maps = format!("/proc/{}/maps", workload.pid());
    let is_mapped = |name: &str| std::fs::read_to_string(&maps).unwrap().contains(name);
    assert!(is_mapped("libcuda.so.1") && is_mapped("libcudart.so.12"));
    workload.go_on();
    let report = workload.report();
    assert_eq!(agrees(&report)["outstanding"], 3 << 20, "it keeps its memory");
    assert!(workload.ends_well());
}

#[test]
fn its_pid_is_in_a_file_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("processes");
    std::fs::write(&file, "1 device=3\n").unwrap();
    let line = format!("hold --steps 1 --hold --device 2 --pid-file {}", file.display());
    let mut workload = Workload::start(&(line + " --pid-line sm=60"));
    workload.report();
    let expected = format!("1 device=3\n{} device=2 sm=60\n", workload.pid());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
    assert!(workload.ends_well());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "1 device=3\n");
}

#[test]
fn the_rate_and_the_time_are_kept() {
    let report = report("launches --rate 100 --seconds 0.3");
    let steps = report["steps"].as_u64().unwrap();
    assert!((15..=31).contains(&steps), "{steps}");
}

#[test]
fn what_is_wrong_is_told() {
    let run = |line: &str| {
        let output = std::process::Command::new(&paths().workload)
            .args(line.split_whitespace())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run("dance").0, Some(64));
    let (code, text) = run("train --libraries /nowhere");
    assert_eq!(code, Some(1));
    assert!(text.contains("/nowhere/libcuda.so.1"), "{text}");
    let (code, _) = run("train --device 8");
    assert_eq!(code, Some(1), "there is no ninth device");
}
