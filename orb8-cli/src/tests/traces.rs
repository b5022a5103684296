//! How a trace ends.

use std::time::{Duration, Instant};

use super::agent::{End, FakeAgent, Script};
use super::{Surroundings, samples};
use crate::error::Exit;

fn script() -> Script {
    Script { events: samples::events(), ..Script::default() }
}

#[tokio::test]
async fn interrupting_a_trace_prints_a_summary() {
    let agent = FakeAgent::start(Script { end: End::Stays, ..script() });
    let surroundings = Surroundings::piped();
    let interrupt = surroundings.interrupt.clone();
    let line = agent.ask("trace network");
    let run = tokio::spawn(async move { surroundings.run(&line).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!run.is_finished());
    interrupt.cancel();
    let outcome = run.await.unwrap();
    assert_eq!(outcome.exit, Exit::Success);
    let summary = "5 flows, 1.2MB, 34 events and 1,234 packets lost in ";
    assert!(outcome.err.starts_with(summary), "{}", outcome.err);
    assert_eq!(outcome.out.lines().count(), 10);
}

#[tokio::test]
async fn duration_and_limit_end_a_trace() {
    let agent = FakeAgent::start(Script { end: End::Stays, ..script() });
    let timed = Surroundings::piped().run(&agent.ask("trace network --duration 200ms")).await;
    assert_eq!(timed.exit, Exit::Success);
    let limited = Surroundings::piped().run(&agent.ask("trace network --limit 2 -q")).await;
    assert_eq!(limited.out.lines().count(), 3, "{}", limited.out);
    assert!(limited.err.is_empty(), "{}", limited.err);
}

#[tokio::test]
async fn an_agent_that_goes_away_is_an_error() {
    let agent = FakeAgent::start(Script { end: End::Fails, ..script() });
    let outcome = Surroundings::piped().run(&agent.ask("trace network")).await;
    assert_eq!(outcome.exit, Exit::Unavailable);
    assert!(outcome.err.contains("went away: the agent is shutting down"), "{}", outcome.err);
    assert_eq!(outcome.out.lines().count(), 10, "what came before is printed");
    let (summary, error) = (outcome.err.find("5 flows, "), outcome.err.find("error: "));
    assert!(summary.is_some() && summary < error, "{}", outcome.err);
}

#[tokio::test]
async fn a_stream_that_the_agent_ends_is_an_error() {
    let agent = FakeAgent::start(script());
    for command in ["trace network", "trace network --limit 99", "trace network --last 5 -f"] {
        let outcome = Surroundings::piped().run(&agent.ask(command)).await;
        assert_eq!(outcome.exit, Exit::Unavailable, "{command}: {}", outcome.err);
        let summary = outcome.err.find("5 flows, ");
        let error = outcome.err.find("ended the stream\n  see its log");
        assert!(summary.is_some() && summary < error, "{command}: {}", outcome.err);
    }
    let past = Surroundings::piped().run(&agent.ask("trace network --last 5")).await;
    assert_eq!(past.exit, Exit::Success, "{}", past.err);
}

#[tokio::test]
async fn an_agent_that_never_begins_is_not_waited_for() {
    let agent = FakeAgent::start(Script { end: End::Silent, ..script() });
    let began = Instant::now();
    let ask = |flags: &str| agent.ask(&format!("trace network {flags}"));
    let outcome = Surroundings::piped().run(&ask("--timeout 200ms")).await;
    assert_eq!(outcome.exit, Exit::Unavailable);
    assert!(outcome.err.contains("did not answer in time"), "{}", outcome.err);
    let outcome = Surroundings::piped().run(&ask("--duration 200ms")).await;
    assert_eq!(outcome.exit, Exit::Unavailable, "{}", outcome.err);

    // Nor who accepts and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("--agent {} trace network", listener.local_addr().unwrap());
    for line in [ask(""), silent] {
        let surroundings = Surroundings::piped();
        let interrupt = surroundings.interrupt.clone();
        let run = tokio::spawn(async move { surroundings.run(&line).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!run.is_finished());
        interrupt.cancel();
        assert_eq!(run.await.unwrap().exit, Exit::Success);
    }
    assert!(began.elapsed() < Duration::from_secs(3), "nobody waits for --timeout");
}
