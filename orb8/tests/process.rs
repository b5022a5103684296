//! What only a process shows: exit statuses, closed pipes, streams kept apart.

use std::process::{Command, Output, Stdio};

fn orb8(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orb8"));
    command.args(args).env_remove("ORB8_AGENT").stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    orb8(args).output().unwrap()
}

#[test]
fn results_go_to_stdout_and_nothing_else_does() {
    let output = output(&["version", "-o", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let expected =
        format!("{{\"type\":\"version\",\"version\":\"{}\"}}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert!(output.stderr.is_empty());
}

#[test]
fn wrong_usage_is_64() {
    let output = output(&["flows", "-o", "jsn"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("table, wide, json, yaml"));
}

#[test]
fn an_agent_that_is_away_is_69() {
    let output = output(&["--agent", "unix:/nonexistent/agent.sock", "flows"]);
    assert_eq!(output.status.code(), Some(69));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.starts_with("error: no agent answers at unix:/nonexistent"), "{message}");
    assert!(!message.contains('\x1b'), "no colours where nobody looks: {message:?}");
}

#[test]
fn an_agent_that_says_nothing_is_69() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let output = output(&["--agent", &address, "--timeout", "300ms", "status"]);
    assert_eq!(output.status.code(), Some(69));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        message.contains("did not answer in time") && message.contains("--timeout"),
        "{message}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn bad_engine_flags_are_64_and_all_named() {
    let flags = ["--attach", "x", "--flow-table-size", "7"];
    let output = output(&[&["trace", "network", "--standalone"][..], &flags].concat());
    assert_eq!(output.status.code(), Some(64));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(message.lines().count(), 2, "{message}");
    assert!(message.starts_with("error: --attach: ") && message.contains("\n--flow-table-size: "));
}

#[cfg(target_os = "linux")]
#[test]
fn without_privileges_it_says_how_to_get_them() {
    use std::os::unix::process::CommandExt;

    const NOBODY: u32 = 65_534;
    // Where nobody can reach it: the build's folder may be root's alone.
    let copy = std::env::temp_dir().join(format!("orb8-{}", std::process::id()));
    std::fs::copy(env!("CARGO_BIN_EXE_orb8"), &copy).unwrap();
    let mut command = Command::new(&copy);
    command.args(["trace", "network", "--standalone"]);
    let is_root = std::fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t");
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.stdin(Stdio::null()).output();
    std::fs::remove_file(&copy).unwrap();
    let output = output.unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(77), "{message}");
    assert!(message.starts_with("error: missing privileges: CAP_BPF"), "{message}");
    assert!(message.contains("sudo") && message.contains("sudo setcap cap_bpf"), "{message}");
    assert!(!message.contains("panicked"), "{message}");
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let mut child = orb8(&["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
