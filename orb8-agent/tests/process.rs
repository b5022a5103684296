//! What only a process shows: one message and the exit status for what an operator can get wrong.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Everything off that could meet another agent of this machine.
const ALONE: [&str; 6] = ["--listen", "off", "--admin-listen", "off", "--socket", "off"];

/// Runs the agent, which must fail, and returns its status and what it says.
fn fail(args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_orb8-agent"))
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.stdout.is_empty(), "{args:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{said}");
    (output.status.code().unwrap(), said)
}

/// Whether the machine lets the agent come as far as its listeners.
fn is_privileged((status, said): &(i32, String)) -> bool {
    if *status == 77 {
        println!("SKIPPED: {said}");
    }
    *status != 77
}

#[test]
fn wrong_settings_are_all_named() {
    let (status, said) =
        fail(&["--attach", "x", "--flow-table-size", "7", "--ring-buffer-size", "3"]);
    assert_eq!(status, 64);
    let lines: Vec<&str> = said.lines().collect();
    for (line, at) in lines.iter().zip(["--attach", "--flow-table-size", "--ring-buffer-size"]) {
        assert!(line.contains(at) && line.contains("must be"), "{line}");
    }
    assert_eq!(lines.len(), 3, "{said}");
}

#[test]
fn an_unknown_key_is_named_with_its_file() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("agent.toml");
    std::fs::write(&file, "flow_tabel_size = 5\n").unwrap();
    let file = file.to_str().unwrap();
    let (status, said) = fail(&["--config", file]);
    assert_eq!((status, said.lines().count()), (64, 1), "{said}");
    assert!(said.contains("flow_tabel_size") && said.contains(file), "{said}");
    assert_eq!(fail(&["--config", "/nonexistent.toml"]).0, 64);
}

#[test]
fn a_cgroup_root_that_does_not_serve_is_no_reason_to_do_something_else() {
    for (root, why) in
        [("/nonexistent", "cannot be read"), ("/tmp", "cgroup v2"), ("a", "absolute")]
    {
        let (status, said) = fail(&[&ALONE[..], &["--cgroup-root", root]].concat());
        assert_eq!((status, said.lines().count()), (64, 1), "{said}");
        assert!(said.contains("--cgroup-root") && said.contains(why), "{said}");
    }
}

#[test]
fn a_port_in_use_is_one_message() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for setting in ["--listen", "--admin-listen"] {
        let mut args = ALONE;
        let at = args.iter().position(|arg| *arg == setting).unwrap();
        args[at + 1] = &address;
        let outcome = fail(&args);
        if is_privileged(&outcome) {
            let (status, said) = outcome;
            assert_eq!((status, said.lines().count()), (1, 1), "{said}");
            assert!(said.contains(&address) && said.contains(setting), "{said}");
        }
    }
}

#[test]
fn tls_files_that_are_missing_are_named() {
    let tls = ["--tls-cert", "/nonexistent.pem", "--tls-key", "/nonexistent.key"];
    let outcome = fail(&[&["--listen", "127.0.0.1:0"], &ALONE[2..], &tls].concat());
    if is_privileged(&outcome) {
        let (status, said) = outcome;
        assert_eq!((status, said.lines().count()), (64, 1), "{said}");
        assert!(said.contains("/nonexistent.pem") && said.contains("--tls-cert"), "{said}");
    }
}
