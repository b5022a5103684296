//! `orb8 workloads` against the fake agent.

use insta::assert_snapshot;
use orb8_proto::v1::{WorkloadGroup, WorkloadSortBy};

use super::agent::{FakeAgent, Script};
use super::{Surroundings, samples};
use crate::error::Exit;

fn script() -> Script {
    Script { workloads: samples::workloads::answer(), ..Script::default() }
}

async fn succeed(surroundings: Surroundings, command: &str) -> String {
    let agent = FakeAgent::start(script());
    let outcome = surroundings.run(&agent.ask(command)).await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    outcome.out
}

#[tokio::test]
async fn in_80_columns() {
    let text = succeed(Surroundings::terminal(80), "workloads").await;
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_snapshot!(text);
}

#[tokio::test]
async fn in_120_columns() {
    assert_snapshot!(succeed(Surroundings::terminal(120), "workloads").await);
}

#[tokio::test]
async fn wide() {
    assert_snapshot!(succeed(Surroundings::terminal(80), "workloads -o wide").await);
}

#[tokio::test]
async fn json() {
    assert_snapshot!(succeed(Surroundings::piped(), "workloads -o json").await);
}

#[tokio::test]
async fn flags_become_a_query() {
    let agent = FakeAgent::start(script());
    let command = "workloads --by pod --sort errors --ascending --peers 7 -n ml --not --unit ssh* \
                   --limit 2 --include-self";
    let outcome = Surroundings::piped().run(&agent.ask(command)).await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    let query = agent.heard.workload_queries.lock().unwrap().remove(0);
    assert_eq!(query.group_by(), WorkloadGroup::Pod);
    assert_eq!(query.sort_by(), WorkloadSortBy::Errors);
    assert!(query.ascending && query.include_self_traffic);
    assert_eq!((query.peers, query.limit), (7, 2));
    assert_eq!(query.include[0].namespace, ["ml"]);
    assert_eq!(query.exclude[0].unit, ["ssh*"]);
}

#[tokio::test]
async fn what_only_traffic_has_is_refused() {
    let outcome = Surroundings::piped().run("workloads --port 443").await;
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.err.contains("workloads have no such thing"), "{}", outcome.err);
}

#[tokio::test]
async fn an_older_agent_is_named() {
    let agent = FakeAgent::start(Script { is_old: true, ..script() });
    let outcome = Surroundings::piped().run(&agent.ask("workloads")).await;
    assert_eq!(outcome.exit, Exit::Unavailable);
    assert!(outcome.err.contains("or an older one"), "{}", outcome.err);
}
