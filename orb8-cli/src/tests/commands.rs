//! Commands against the fake agent.

use std::io::{self, Write};

use insta::assert_snapshot;
use orb8_proto::v1::{Accounting, SortBy};

use super::agent::{End, FakeAgent, Script, line};
use super::{Outcome, Sink, Surroundings, samples};
use crate::error::Exit;

fn script() -> Script {
    Script { flows: samples::flows(), events: samples::events(), ..Script::default() }
}

async fn ask(surroundings: Surroundings, command: &str) -> Outcome {
    let agent = FakeAgent::start(script());
    surroundings.run(&agent.ask(command)).await
}

async fn succeed(surroundings: Surroundings, command: &str) -> String {
    let outcome = ask(surroundings, command).await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    outcome.out
}

#[tokio::test]
async fn flows_in_80_columns() {
    assert_snapshot!(succeed(Surroundings::terminal(80), "flows").await);
}

#[tokio::test]
async fn flows_in_160_columns() {
    assert_snapshot!(succeed(Surroundings::terminal(160), "flows").await);
}

#[tokio::test]
async fn flows_wide() {
    assert_snapshot!(succeed(Surroundings::terminal(80), "flows -o wide").await);
}

#[tokio::test]
async fn flows_json() {
    assert_snapshot!(succeed(Surroundings::terminal(80), "flows -o json").await);
}

#[tokio::test]
async fn flows_yaml() {
    assert_snapshot!(succeed(Surroundings::piped(), "flows -o yaml --limit 2").await);
}

#[tokio::test]
async fn events_in_80_columns() {
    assert_snapshot!(succeed(Surroundings::terminal(80), "trace network --last 99").await);
}

#[tokio::test]
async fn events_in_160_columns() {
    assert_snapshot!(succeed(Surroundings::terminal(160), "trace network --last 99").await);
}

#[tokio::test]
async fn events_in_a_pipe() {
    assert_snapshot!(succeed(Surroundings::piped(), "trace network --last 99 --numeric").await);
}

#[tokio::test]
async fn events_wide() {
    assert_snapshot!(succeed(Surroundings::terminal(80), "trace network --last 99 -o wide").await);
}

#[tokio::test]
async fn events_json() {
    assert_snapshot!(succeed(Surroundings::piped(), "trace network --last 99 -o json").await);
}

#[tokio::test]
async fn events_yaml() {
    assert_snapshot!(
        succeed(Surroundings::piped(), "trace network --last 99 -o yaml --limit 1").await
    );
}

#[tokio::test]
async fn events_in_color() {
    let surroundings = Surroundings { colors: true, ..Surroundings::terminal(160) };
    let text = succeed(surroundings, "trace network --last 99").await;
    assert_snapshot!(text.replace('\x1b', "␛"));
}

#[tokio::test]
async fn color_is_a_flag() {
    let color = Surroundings { colors: true, ..Surroundings::terminal(80) };
    assert!(!succeed(color, "flows --color never").await.contains('\x1b'));
    assert!(succeed(Surroundings::piped(), "flows --color always").await.contains('\x1b'));
}

#[tokio::test]
async fn status() {
    assert_snapshot!(succeed(Surroundings::piped(), "status").await);
}

#[tokio::test]
async fn status_json() {
    assert_snapshot!(succeed(Surroundings::piped(), "status -o json").await);
}

#[tokio::test]
async fn status_yaml() {
    assert_snapshot!(succeed(Surroundings::piped(), "status -o yaml").await);
}

#[tokio::test]
async fn diagnose() {
    let outcome = ask(Surroundings::piped(), "diagnose").await;
    assert_eq!(outcome.exit, Exit::Failure, "a check failed");
    assert_snapshot!(outcome.out);
}

#[tokio::test]
async fn diagnose_in_48_columns() {
    let text = ask(Surroundings::terminal(48), "diagnose").await.out;
    assert!(text.lines().all(|line| line.chars().count() <= 48), "{text}");
    assert_snapshot!(text);
}

#[tokio::test]
async fn diagnose_json() {
    assert_snapshot!(ask(Surroundings::piped(), "diagnose -o json").await.out);
}

#[tokio::test]
async fn version_json() {
    let version = succeed(Surroundings::piped(), "version -o json").await;
    assert!(version.starts_with(r#"{"type":"version","version":""#), "{version}");
}

#[tokio::test]
async fn every_json_line_is_an_object_with_a_type() {
    for command in ["flows", "trace network --last 99", "status", "diagnose", "version"] {
        let outcome = ask(Surroundings::piped(), &format!("{command} -o json")).await;
        assert!(!outcome.out.is_empty(), "{command}");
        for line in outcome.out.lines() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(object["type"].is_string(), "{line}");
        }
    }
}

#[tokio::test]
async fn filters_reach_the_agent() {
    let only = |command: &'static str| async move {
        let text = succeed(Surroundings::piped(), command).await;
        text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let dns = only("flows --port dns --protocol udp").await;
    assert!(matches!(dns.as_slice(), [line] if line.contains("UDP")), "{dns:?}");
    let not_tcp = only("flows --not --protocol tcp").await;
    assert_eq!(not_tcp.len(), 2, "{not_tcp:?}");
    let two = only("flows -4 --not --protocol icmp --not --ip 127.0.0.0/8").await;
    assert_eq!(two.len(), 3, "{two:?}");
    assert!(two[0].contains("llama-trainer-0") && two[1].contains("ssh.service"), "{two:?}");
    assert!(two[2].contains("models.example.com:https"), "{two:?}");
}

#[tokio::test]
async fn flags_become_a_query() {
    let agent = FakeAgent::start(script());
    let command =
        "flows --sort rate --ascending --limit 2 --since 5m --include-self --not -n kube*";
    let outcome = Surroundings::piped().run(&agent.ask(command)).await;
    assert_eq!(outcome.exit, Exit::Success);
    assert!(outcome.err.contains("2 of 6 flows"), "{}", outcome.err);
    let query = agent.heard.queries.lock().unwrap().remove(0);
    assert_eq!(query.sort_by(), SortBy::Rate);
    assert!(query.ascending && query.include_self_traffic);
    assert_eq!(query.limit, 2);
    assert!(query.start_time_ns.is_some());
    assert_eq!(query.exclude[0].namespace, ["kube*"]);

    let last = Surroundings::piped().run(&agent.ask("flows --last 3")).await;
    assert!(last.err.contains("3 of 6 flows\n"), "{}", last.err);
    let query = agent.heard.queries.lock().unwrap().remove(0);
    assert_eq!((query.sort_by(), query.limit), (SortBy::LastSeen, 3));
}

#[tokio::test]
async fn flags_become_a_subscription() {
    let agent = FakeAgent::start(script());
    let run = |command: &'static str| {
        let line = agent.ask(command);
        async move { assert_eq!(Surroundings::piped().run(&line).await.exit, Exit::Success) }
    };
    run("trace network --limit 1").await;
    run("trace network --last 10 --event new,end").await;
    run("trace network --since 1m -f --limit 1").await;
    let past = Surroundings::piped().run(&agent.ask("trace network --last 5")).await;
    assert!(past.err.ends_with("packets lost\n"), "no duration: {}", past.err);
    let requests = agent.heard.streams.lock().unwrap();
    assert!(!requests[0].no_follow && requests[0].kinds.is_empty());
    assert!(requests[1].no_follow);
    assert_eq!((requests[1].last, requests[1].kinds.as_slice()), (10, [1, 3].as_slice()));
    assert!(!requests[2].no_follow && requests[2].since_time_ns.is_some());
}

#[tokio::test]
async fn loss_is_shown_with_the_flows() {
    let accounting = Accounting { lost_packets: 1234, lost_bytes: 98_765, ..Accounting::default() };
    let agent = FakeAgent::start(Script { accounting, ..script() });
    let table = Surroundings::piped().run(&agent.ask("flows --limit 1")).await.out;
    assert!(
        table.ends_with("EVENTS LOST: KERNEL 1,234 packets, 98.8KB are in no flow\n"),
        "{table}"
    );
    let json = Surroundings::piped().run(&agent.ask("flows --limit 1 -o json")).await.out;
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["packets"]), (&"lost".into(), &1234.into()));
}

#[tokio::test]
async fn an_agent_that_is_away_is_one_message() {
    let dir = tempfile::tempdir().unwrap();
    let command = line(&dir.path().join("none.sock"), "flows");
    let outcome = Surroundings::piped().run(&command).await;
    assert_eq!(outcome.exit, Exit::Unavailable);
    assert!(outcome.err.starts_with("error: no agent answers at unix:"), "{}", outcome.err);
    assert!(outcome.err.contains("do without: sudo orb8 … --standalone"), "{}", outcome.err);
    assert!(outcome.out.is_empty());

    let outcome = Surroundings::piped().run("--agent 127.0.0.1:1 status").await;
    assert_eq!(outcome.exit, Exit::Unavailable);
    assert!(outcome.err.contains("127.0.0.1:1: Connection refused"), "{}", outcome.err);
}

#[tokio::test]
async fn the_local_agent_is_found() {
    let agent = FakeAgent::start(script());
    let surroundings = Surroundings::piped().with_local(&agent.socket());
    let outcome = surroundings.run("status").await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    let dir = tempfile::tempdir().unwrap();
    let none = Surroundings::piped().with_local(&dir.path().join("none.sock"));
    let outcome = none.run("status").await;
    assert_eq!(outcome.exit, Exit::Unavailable);
    assert!(outcome.err.contains("none.sock\n  start one (sudo orb8-agent)"), "{}", outcome.err);
    assert!(!outcome.err.contains("--standalone"), "it has no status: {}", outcome.err);
}

#[tokio::test]
async fn who_listens_but_is_no_agent_is_not_asked() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
        }
    });
    let local_agents = vec![address.to_string()];
    let outcome = Surroundings { local_agents, ..Surroundings::piped() }.run("status").await;
    assert_eq!(outcome.exit, Exit::Unavailable, "{}", outcome.err);
}

#[tokio::test]
async fn watching_refreshes_in_place() {
    let agent = FakeAgent::start(script());
    let command = agent.ask("flows --watch --interval 100ms --duration 350ms");
    let outcome = Surroundings::terminal(80).run(&command).await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    assert!(outcome.out.starts_with("\x1b[?25l\x1b[2J\x1b[H"), "{:?}", outcome.out);
    assert!(outcome.out.ends_with("\x1b[J\x1b[?25h"), "{:?}", outcome.out);
    assert!(agent.heard.queries.lock().unwrap().len() >= 2);
    let title = outcome.out.lines().next().unwrap();
    assert!(title.contains("  6 flows by bytes, 1.2GB/s; Ctrl-C ends"), "{title:?}");
    let many = outcome.out.split("\x1b[H").nth(1).unwrap();
    assert!(many.lines().count() < 24, "it scrolls: {many}");

    let piped = Surroundings::piped().run(&command).await.out;
    assert!(!piped.contains('\x1b'));
    assert!(piped.matches("NAMESPACE/POD").count() >= 2, "{piped}");
}

/// A reader that is gone, as `head` is after its lines.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_that_is_gone_ends_it_quietly() {
    let agent = FakeAgent::start(Script { end: End::Stays, ..script() });
    for command in ["flows", "trace network", "trace network -o json", "status", "version"] {
        let err = Sink::default();
        let line = agent.ask(command);
        let exit = Surroundings::piped().run_to(&line, Box::new(Gone), err.clone()).await;
        assert_eq!(exit, Exit::Success, "{command}");
        assert!(err.text().is_empty(), "{command}: {}", err.text());
    }
}
