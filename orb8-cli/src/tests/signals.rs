//! DNS and TCP: streams and lists against the fake agent.

use insta::assert_snapshot;
use orb8_proto::v1::{DnsSortBy, SourceStatus, TcpEventKind, TcpSortBy};

use super::agent::{End, FakeAgent, Script};
use super::{Surroundings, samples};
use crate::error::Exit;

fn script() -> Script {
    Script {
        exchanges: samples::dns::exchanges(),
        summaries: samples::dns::summaries(),
        dns_totals: samples::dns::totals(),
        tcp_events: samples::tcp::events(),
        connections: samples::tcp::connections(),
        tcp_totals: samples::tcp::totals(),
        ..Script::default()
    }
}

async fn succeed(surroundings: Surroundings, command: &str) -> String {
    let agent = FakeAgent::start(script());
    let outcome = surroundings.run(&agent.ask(command)).await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    assert!(surroundings_fit(&outcome.out), "{}", outcome.out);
    outcome.out
}

/// Nothing that came from outside steers the terminal.
fn surroundings_fit(text: &str) -> bool {
    text.lines().all(|line| !line.chars().any(|c| c.is_control() && c != '\x1b'))
}

const TRACE_TCP: &str =
    "trace tcp --last 99 --events connect,state,close,retransmit,reset,drop,overflow";

#[tokio::test]
async fn dns_in_80_columns() {
    let text = succeed(Surroundings::terminal(80), "trace dns --last 99").await;
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_snapshot!(text);
}

#[tokio::test]
async fn dns_in_120_columns() {
    assert_snapshot!(succeed(Surroundings::terminal(120), "trace dns --last 99").await);
}

#[tokio::test]
async fn dns_wide() {
    assert_snapshot!(succeed(Surroundings::terminal(80), "trace dns --last 99 -o wide").await);
}

#[tokio::test]
async fn dns_json() {
    assert_snapshot!(succeed(Surroundings::piped(), "trace dns --last 99 -o json").await);
}

#[tokio::test]
async fn dns_in_color() {
    let surroundings = Surroundings { colors: true, ..Surroundings::terminal(120) };
    let text = succeed(surroundings, "trace dns --last 99").await;
    assert_snapshot!(text.replace('\x1b', "␛"));
}

#[tokio::test]
async fn dns_top_in_80_columns() {
    let text = succeed(Surroundings::terminal(80), "dns top").await;
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_snapshot!(text);
}

#[tokio::test]
async fn dns_top_in_120_columns() {
    assert_snapshot!(succeed(Surroundings::terminal(120), "dns top").await);
}

#[tokio::test]
async fn dns_top_wide() {
    assert_snapshot!(succeed(Surroundings::terminal(80), "dns top -o wide").await);
}

#[tokio::test]
async fn dns_top_json() {
    assert_snapshot!(succeed(Surroundings::piped(), "dns top -o json").await);
}

#[tokio::test]
async fn tcp_in_80_columns() {
    let text = succeed(Surroundings::terminal(80), TRACE_TCP).await;
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_snapshot!(text);
}

#[tokio::test]
async fn tcp_in_120_columns() {
    assert_snapshot!(succeed(Surroundings::terminal(120), TRACE_TCP).await);
}

#[tokio::test]
async fn tcp_wide() {
    let command = format!("{TRACE_TCP} -o wide");
    assert_snapshot!(succeed(Surroundings::terminal(80), &command).await);
}

#[tokio::test]
async fn tcp_json() {
    let command = format!("{TRACE_TCP} -o json");
    assert_snapshot!(succeed(Surroundings::piped(), &command).await);
}

#[tokio::test]
async fn tcp_yaml() {
    let command = "trace tcp --last 99 -o yaml --limit 1";
    assert_snapshot!(succeed(Surroundings::piped(), command).await);
}

#[tokio::test]
async fn tcp_top_in_80_columns() {
    let text = succeed(Surroundings::terminal(80), "tcp top").await;
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_snapshot!(text);
}

#[tokio::test]
async fn tcp_top_in_120_columns() {
    assert_snapshot!(succeed(Surroundings::terminal(120), "tcp top").await);
}

#[tokio::test]
async fn tcp_top_wide() {
    assert_snapshot!(succeed(Surroundings::terminal(80), "tcp top -o wide").await);
}

#[tokio::test]
async fn tcp_top_json() {
    assert_snapshot!(succeed(Surroundings::piped(), "tcp top -o json").await);
}

#[tokio::test]
async fn every_json_line_is_an_object_with_a_type() {
    for (command, types) in [
        ("trace dns --last 9", ["dns", "lost"]),
        ("trace tcp --last 9", ["tcp", "lost"]),
        ("dns top", ["dns_summary", "dns_totals"]),
        ("tcp top", ["tcp_connection", "tcp_totals"]),
    ] {
        let text = succeed(Surroundings::piped(), &format!("{command} -o json")).await;
        for line in text.lines() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(types.iter().any(|name| object["type"] == *name), "{line}");
        }
    }
}

#[tokio::test]
async fn filters_reach_the_agent() {
    let rows = |command: &'static str| async move {
        let text = succeed(Surroundings::piped(), command).await;
        text.lines().filter(|line| !line.starts_with("EVENTS")).skip(1).count()
    };
    assert_eq!(rows("trace dns --last 9 --rcode NXDOMAIN").await, 1);
    assert_eq!(rows("trace dns --last 9 --name *.svc").await, 1);
    assert_eq!(rows("trace dns --last 9 --slow 100ms").await, 3, "a timeout is slow");
    assert_eq!(rows("trace dns --last 9 -n ml").await, 3);
    assert_eq!(rows("trace dns --last 9 --not -n ml").await, 3);
    assert_eq!(rows("trace tcp --last 9").await, 7, "all but the state");
    assert_eq!(rows("trace tcp --last 9 --events connect").await, 2, "one failed");
    assert_eq!(rows("trace tcp --last 9 --reason NETFILTER*").await, 1);
    assert_eq!(rows("tcp top --state closed").await, 1);
}

#[tokio::test]
async fn flags_become_requests() {
    let agent = FakeAgent::start(script());
    for command in [
        "trace dns --last 5 --limit 2 --type AAAA",
        "trace tcp --since 1m -f --limit 1 --include-self --events state",
        "dns top --sort latency --ascending --limit 3",
        "tcp top --sort rtt --limit 2 --include-self --slow 1ms",
    ] {
        let outcome = Surroundings::piped().run(&agent.ask(command)).await;
        assert_eq!(outcome.exit, Exit::Success, "{command}: {}", outcome.err);
    }
    let dns = agent.heard.dns_streams.lock().unwrap().remove(0);
    assert!(dns.no_follow && dns.last == 5);
    assert_eq!(dns.include[0].query_type, ["AAAA"]);
    let tcp = agent.heard.tcp_streams.lock().unwrap().remove(0);
    assert!(!tcp.no_follow && tcp.since_time_ns.is_some() && tcp.include_self_traffic);
    assert_eq!(tcp.include[0].kind, [i32::from(TcpEventKind::State)]);
    let names = agent.heard.dns_queries.lock().unwrap().remove(0);
    assert_eq!((names.sort_by(), names.ascending, names.limit), (DnsSortBy::Latency, true, 3));
    let connections = agent.heard.tcp_queries.lock().unwrap().remove(0);
    assert_eq!((connections.sort_by(), connections.limit), (TcpSortBy::Rtt, 2));
    assert!(connections.include_self_traffic);
    assert_eq!(connections.include[0].min_latency_ns, Some(1_000_000));
}

#[tokio::test]
async fn summaries_and_totals_are_notes() {
    let agent = FakeAgent::start(script());
    for (command, note) in [
        ("trace dns --last 9", "6 exchanges, 2 errors, 1 timeout, 17 events lost\n"),
        (
            "trace tcp --last 9",
            "7 events (1 connect, 1 fail, 1 close, 1 retransmit, 1 reset, 1 drop, 1 overflow), \
             17 events lost\n",
        ),
        (
            "dns top --limit 3",
            "3 of 4 names; --limit shows more\nsince the start: 164,001 queries, 163,985 responses, \
             8 timeouts, 1 unasked response, 2 malformed messages\n",
        ),
        ("tcp top", "since the start: 120 connects, 3 accepts, 4 failures, 110 closes, "),
    ] {
        let outcome = Surroundings::piped().run(&agent.ask(command)).await;
        assert!(outcome.err.starts_with(note), "{command}: {}", outcome.err);
        let quiet = Surroundings::piped().run(&agent.ask(&format!("{command} -q"))).await;
        assert!(quiet.err.is_empty(), "{}", quiet.err);
    }
}

fn agent_with(sources: Vec<SourceStatus>) -> FakeAgent {
    FakeAgent::start(Script { sources, ..Script::default() })
}

#[tokio::test]
async fn a_signal_that_does_not_run_is_no_silence() {
    let running = samples::running("flow", "");
    let skipped = vec![running.clone(), samples::skipped("dns"), samples::skipped("tcp")];
    for (sources, reason) in [
        (skipped, "the kernel has no ring buffer"),
        (vec![running], "it runs flow only; --signals chooses"),
    ] {
        let agent = agent_with(sources);
        for (command, signal) in
            [("trace dns", "dns"), ("dns top", "dns"), ("trace tcp", "tcp"), ("tcp top", "tcp")]
        {
            let outcome = Surroundings::piped().run(&agent.ask(command)).await;
            assert_eq!(outcome.exit, Exit::Unavailable, "{command}: {}", outcome.err);
            let expected = format!("error: {command}: the agent at unix:");
            assert!(outcome.err.starts_with(&expected), "{}", outcome.err);
            let expected = format!("does not run the {signal} signal: {reason}");
            assert!(outcome.err.contains(&expected), "{}", outcome.err);
            assert!(outcome.out.is_empty(), "{}", outcome.out);
        }
        let flows = Surroundings::piped().run(&agent.ask("trace network --last 1")).await;
        assert_eq!(flows.exit, Exit::Success, "{}", flows.err);
    }
}

#[tokio::test]
async fn what_a_signal_lacks_is_a_note() {
    let agent = agent_with(vec![samples::running("tcp", "skb:kfree_skb: permission denied")]);
    let outcome = Surroundings::piped().run(&agent.ask("trace tcp --last 1")).await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    let note = "runs not all of the tcp signal: skb:kfree_skb: permission denied\n";
    assert!(outcome.err.contains(note), "{}", outcome.err);
}

#[tokio::test]
async fn an_old_agent_is_called_one() {
    let sources = vec![samples::running("flow", "")];
    let old = FakeAgent::start(Script { is_old: true, sources, ..script() });
    for command in ["trace dns", "dns top", "trace tcp", "tcp top --watch"] {
        let outcome = Surroundings::piped().run(&old.ask(command)).await;
        assert_eq!(outcome.exit, Exit::Unavailable, "{command}: {}", outcome.err);
        assert!(outcome.err.contains("signal: it is version 0.1.0, older"), "{}", outcome.err);
    }
}

#[tokio::test]
async fn nothing_is_an_answer() {
    let agent = FakeAgent::start(Script::default());
    for (command, note) in [("dns top", "no names match\n"), ("tcp top", "no connections match\n")]
    {
        let outcome = Surroundings::piped().run(&agent.ask(command)).await;
        assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Success, note));
    }
}

#[tokio::test]
async fn streams_end_as_those_of_flows_do() {
    for signal in ["dns", "tcp"] {
        let agent = FakeAgent::start(Script { end: End::Fails, ..script() });
        let run = |flags: &str| {
            let line = agent.ask(&format!("trace {signal} {flags}"));
            async move { Surroundings::piped().run(&line).await }
        };
        let gone = run("").await;
        assert_eq!(gone.exit, Exit::Unavailable);
        assert!(gone.err.contains("went away: the agent is shutting down"), "{}", gone.err);
        let limited = run("--limit 2 -q").await;
        assert_eq!((limited.exit, limited.out.lines().count()), (Exit::Success, 3));

        let silent = FakeAgent::start(Script { end: End::Silent, ..script() });
        let line = silent.ask(&format!("trace {signal} --timeout 200ms"));
        let outcome = Surroundings::piped().run(&line).await;
        assert!(outcome.err.contains("did not answer in time"), "{}", outcome.err);
    }
}

#[tokio::test]
async fn tops_refresh_in_place() {
    let agent = FakeAgent::start(script());
    for (command, title) in [
        ("dns top", "  4 names by queries, 164,001 queries, 8 timeouts; Ctrl-C ends"),
        ("tcp top", "  3 connections by retransmits, 1,237 segments sent again; Ctrl-C ends"),
    ] {
        let line = agent.ask(&format!("{command} -f --interval 100ms --duration 250ms"));
        let outcome = Surroundings::terminal(100).run(&line).await;
        assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
        assert!(outcome.out.starts_with("\x1b[?25l\x1b[2J\x1b[H"), "{:?}", outcome.out);
        let first = outcome.out.lines().next().unwrap();
        assert!(first.contains(title), "{first:?}");
    }
}
