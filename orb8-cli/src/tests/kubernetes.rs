//! Names of Kubernetes in what is printed, and `orb8 pods`.

use insta::assert_snapshot;
use orb8_proto::v1::Kubernetes;

use super::agent::{FakeAgent, Script};
use super::{Outcome, Surroundings, samples::kubernetes};
use crate::error::Exit;

fn script() -> Script {
    Script {
        flows: kubernetes::flows(),
        exchanges: kubernetes::exchanges(),
        tcp_events: kubernetes::tcp_events(),
        connections: kubernetes::connections(),
        pods: kubernetes::pods(),
        kubernetes: Some(kubernetes::connected()),
        ..Script::default()
    }
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

/// Every table in one snapshot: they have the same ends.
async fn tables(surroundings: Surroundings, flags: &str) -> String {
    let mut text = String::new();
    for command in ["flows", "trace dns --last 9", "trace tcp --last 9", "tcp top", "pods"] {
        let printed = succeed(surroundings.clone(), &format!("{command} {flags}")).await;
        text.push_str(&format!("$ orb8 {command} {flags}\n{printed}\n"));
    }
    text
}

#[tokio::test]
async fn in_80_columns() {
    let text = tables(Surroundings::terminal(80), "").await;
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_snapshot!(text);
}

#[tokio::test]
async fn in_120_columns() {
    assert_snapshot!(tables(Surroundings::terminal(120), "").await);
}

#[tokio::test]
async fn wide() {
    assert_snapshot!(tables(Surroundings::piped(), "-o wide").await);
}

#[tokio::test]
async fn flow_yaml() {
    assert_snapshot!(succeed(Surroundings::piped(), "flows -o yaml --limit 1").await);
}

#[tokio::test]
async fn pods_yaml() {
    assert_snapshot!(succeed(Surroundings::piped(), "pods -o yaml").await);
}

#[tokio::test]
async fn numbers_are_numbers() {
    let text = succeed(Surroundings::piped(), "flows --numeric").await;
    assert!(text.contains("10.96.14.2:5432") && !text.contains("svc:"), "{text}");
    assert!(text.contains("192.168.0.12:33100") && !text.contains("node:"), "{text}");
}

#[tokio::test]
async fn filters_reach_the_agent() {
    for (command, rows) in [
        ("flows --service db", 2),
        ("flows --service shop/ --pod db-0", 1),
        ("flows -n shop --service web", 0),
        ("flows --to-workload sts/db", 2),
        ("flows --from-workload deploy/web -l app=db", 2),
        ("flows --from-label app=web,!gpu --to-node worker-2", 2),
        ("flows --to-label app=web", 1),
        ("flows --not --from-node worker-1", 2),
        ("flows --node worker-2 --to-pod web-*", 1),
        ("trace dns --last 9 --to-service kube-system/kube-dns", 1),
        ("trace tcp --last 9 --selector app!=web", 1),
        ("trace tcp --last 9 --to-selector app!=db", 0),
        ("tcp top --workload deployments/web --service shop/db", 0),
        ("tcp top --from-workload deployments/web --to-service shop/db", 1),
        ("pods", 4),
        ("pods --local", 3),
        ("pods -l app", 2),
        ("pods -n shop --not --workload sts/", 1),
        ("pods --node worker-2", 1),
        ("pods --ip fd00::/8 --container proxy", 1),
        ("pods --limit 2", 2),
    ] {
        let text = succeed(Surroundings::piped(), command).await;
        assert_eq!(text.lines().skip(1).count(), rows, "{command}: {text}");
    }
}

#[tokio::test]
async fn flags_become_a_query() {
    let agent = FakeAgent::start(script());
    let command = "pods --local --limit 7 -l app=web,tier!=db -l gpu --not -n kube*";
    let outcome = Surroundings::piped().run(&agent.ask(command)).await;
    assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
    let query = agent.heard.pod_queries.lock().unwrap().remove(0);
    assert!(query.local && query.limit == 7);
    assert_eq!(query.include[0].label, ["app=web,tier!=db", "gpu"], "a comma is a selector's own");
    assert_eq!(query.exclude[0].namespace, ["kube*"]);
}

#[tokio::test]
async fn an_empty_list_says_why() {
    let note = |pods: bool, kubernetes: Kubernetes| async move {
        let pods = if pods { kubernetes::pods() } else { Vec::new() };
        let kubernetes = Some(kubernetes);
        let agent = FakeAgent::start(Script { pods, kubernetes, ..Script::default() });
        let outcome = Surroundings::piped().run(&agent.ask("pods")).await;
        assert_eq!(outcome.exit, Exit::Success, "{}", outcome.err);
        outcome.err
    };
    assert_eq!(
        note(false, kubernetes::off()).await,
        "no pods match\nthe Kubernetes API is not asked, and no cgroup of this node is a pod's\n  \
         this is no pod, and there is no kubeconfig: name one with --kubeconfig\n"
    );
    let off = note(true, kubernetes::off()).await;
    assert!(off.starts_with("the Kubernetes API is not asked: these are told by"), "{off}");
    let down = note(true, kubernetes::disconnected()).await;
    assert!(down.contains("not connected: what was known stays known\n  1 of 2 watches"), "{down}");
    assert_eq!(note(false, kubernetes::connected()).await, "no pods match\n");
    assert_eq!(note(true, kubernetes::connected()).await, "");
}

#[tokio::test]
async fn an_old_agent_is_called_one() {
    let agent = FakeAgent::start(Script { is_old: true, ..script() });
    let outcome = Surroundings::piped().run(&agent.ask("pods")).await;
    assert_eq!(outcome.exit, Exit::Unavailable, "{}", outcome.err);
    assert!(outcome.err.contains("is no orb8 agent, or an older one"), "{}", outcome.err);
}

#[tokio::test]
async fn pods_refresh_in_place() {
    let agent = FakeAgent::start(script());
    let line = agent.ask("pods -w --interval 100ms --duration 250ms");
    let outcome = Surroundings::terminal(100).run(&line).await;
    let first = outcome.out.lines().next().unwrap();
    assert!(first.contains("  4 pods by name, 3 on worker-1; Ctrl-C ends"), "{first:?}");
}
