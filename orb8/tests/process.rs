//! What only a process shows: exit statuses, closed pipes, streams kept apart.

use std::process::{Command, Output, Stdio};

fn orb8(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orb8"));
    command
        .args(args)
        .env_remove("ORB8_AGENT")
        .stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    orb8(args).output().unwrap()
}

#[test]
fn results_go_to_stdout_and_nothing_else_does() {
    let output = output(&["version", "-o", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let expected = format!(
        "{{\"type\":\"version\",\"version\":\"{}\"}}\n",
        env!("CARGO_PKG_VERSION")
    );
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
    assert!(
        message.starts_with("error: no agent answers at unix:/nonexistent"),
        "{message}"
    );
    assert!(
        !message.contains('\x1b'),
        "no colours where nobody looks: {message:?}"
    );
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
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
