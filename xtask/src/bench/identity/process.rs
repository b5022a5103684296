//! What the agent's process needs to know a cluster: time to start, and processor time.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use orb8_proto::v1::{QueryPodsRequest, orbit_agent_service_client::OrbitAgentServiceClient};
use tokio::runtime;
use tonic::transport::{Channel, Endpoint};

use super::{
    cluster::{Cluster, Lists},
    manifests,
};
use crate::bench::{
    agent::{Agent, Signals},
    footprint::HOLDS_MORE,
    interrupt::pause,
    lab::Lab,
    plan::Plan,
    programs::Hook,
    report::Table,
    stats::median,
};

/// How long the agent may take to know all pods.
const PATIENCE: Duration = Duration::from_secs(60);

/// A list goes on after it was asked for, and what it took is given back a little later.
pub(super) const LISTED: Duration = Duration::from_secs(4);

/// Pods that are replaced a second.
const CHURN: u32 = 100;

pub(super) fn times(lab: &Lab, plan: &Plan, cluster: &Cluster) -> Result<Table> {
    let note = "**From the agent's start** until it observes, and until it knows every pod; medians. The \
                API server, which shares the machine and writes each object anew, is part of the latter."
        .to_owned();
    let mut table = Table::new(note, &["lists", "observes", "knows all pods"]);
    for lists in Lists::BOTH {
        eprintln!("identity: start, lists {}", lists.name());
        cluster.offer(lists);
        let (mut observes, mut knows) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds.min(STARTS) {
            let begun = Instant::now();
            let agent = start(lab, cluster)?;
            observes.push(begun.elapsed().as_secs_f64());
            wait_for_answer(&agent)?;
            knows.push(begun.elapsed().as_secs_f64());
        }
        let [observes, knows] = [observes, knows].map(|values| median(&values).unwrap_or(f64::NAN));
        let cells =
            vec![lists.name().to_owned(), format!("{observes:.2} s"), format!("{knows:.2} s")];
        table.row(cells, &[]);
    }
    Ok(table)
}

/// More of them would tell nothing new.
const STARTS: u32 = 3;

pub(super) fn processor(lab: &Lab, plan: &Plan, cluster: &Cluster) -> Result<Table> {
    let note = format!(
        "**Processor time** of the agent's process, per cent of a core. A pod that is replaced is one \
         that is deleted, and one that is made, starts, and gets an address: {} events a second.",
        3 * CHURN,
    );
    let mut table = Table::new(note, &["cluster", "CPU", "events"]);
    let mut row = |cluster: &str, cpu: f64, events: String| {
        table.row(vec![cluster.to_owned(), format!("{cpu:.2} %"), events], &[]);
    };
    eprintln!("identity: processor time, idle");
    let agent = Agent::start(lab, Hook::Socket, Signals::All, &HOLDS_MORE)?;
    pause(LISTED)?;
    row("none", cpu_percent(&agent, plan.loaded)?, "–".to_owned());
    drop(agent);
    cluster.offer(Lists::Streamed);
    let agent = start(lab, cluster)?;
    wait_for_pods(&agent)?;
    pause(LISTED)?;
    row("5,000 pods, nothing changes", cpu_percent(&agent, plan.loaded)?, "–".to_owned());
    eprintln!("identity: processor time, {CHURN} pods replaced a second");
    let (over, rounds) = (AtomicBool::new(false), AtomicU32::new(0));
    let churn = thread::scope(|scope| {
        scope.spawn(|| churn(cluster, &over, &rounds));
        let churn = cpu_percent(&agent, plan.loaded);
        over.store(true, Relaxed);
        churn
    })?;
    let name = format!("5,000 pods, {CHURN} replaced a second");
    row(&name, churn, (3 * rounds.load(Relaxed)).to_string());
    Ok(table)
}

fn churn(cluster: &Cluster, over: &AtomicBool, rounds: &AtomicU32) {
    let start = Instant::now();
    while !over.load(Relaxed) {
        let due = (start.elapsed().as_secs_f64() * f64::from(CHURN)) as u32;
        for round in rounds.load(Relaxed)..due {
            cluster.replace_pod(round);
        }
        rounds.store(due, Relaxed);
        thread::sleep(Duration::from_millis(5));
    }
}

fn cpu_percent(agent: &Agent, time: Duration) -> Result<f64> {
    let (before, start) = (agent.cpu()?, Instant::now());
    pause(time)?;
    Ok((agent.cpu()? - before).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0)
}

pub(super) fn start(lab: &Lab, cluster: &Cluster) -> Result<Agent> {
    let flags = cluster.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(HOLDS_MORE).collect();
    Agent::start(lab, Hook::Socket, Signals::All, &flags)
}

/// Waits by the agent's metrics, which are up to a second late and cost it little.
pub(super) fn wait_for_pods(agent: &Agent) -> Result<()> {
    let start = Instant::now();
    while agent.metrics()?.get("orb8_k8s_pods_tracked")? < f64::from(manifests::PODS) {
        ensure!(start.elapsed() < PATIENCE, "the agent does not know all pods");
        pause(Duration::from_millis(100))?;
    }
    Ok(())
}

/// Waits by asking for the pods, which is never late.
fn wait_for_answer(agent: &Agent) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let uri = format!("unix://{}", agent.socket().display());
        let channel = Endpoint::from_shared(uri)?.connect().await.context("the agent's socket")?;
        let mut client = OrbitAgentServiceClient::new(channel);
        let start = Instant::now();
        while known_pods(&mut client).await? < u64::from(manifests::PODS) {
            ensure!(start.elapsed() < PATIENCE, "the agent does not know all pods");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Ok(())
    })
}

async fn known_pods(client: &mut OrbitAgentServiceClient<Channel>) -> Result<u64> {
    let request = QueryPodsRequest { limit: 1, ..QueryPodsRequest::default() };
    Ok(client.query_pods(request).await?.into_inner().total_matched)
}
