//! Scenarios of `scenarios/*.toml`: what happens at the API server, and what the index then says.
//!
//! They run against the in-process server, and against a real kube-apiserver and etcd when
//! `KUBEBUILDER_ASSETS` names a folder with both. Without them that is skipped, and fails where
//! `ORB8_REQUIRE` names `kube-apiserver`.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use orb8_k8s::index::Index;
use orb8_k8s::watch::{Timing, WatchConfig, Watches};
use tokio_util::sync::CancellationToken;

#[path = "scenarios/expect.rs"]
mod expect;
#[path = "scenarios/proxy.rs"]
mod proxy;
#[path = "scenarios/real.rs"]
mod real;
#[path = "scenarios/script.rs"]
mod script;
#[path = "scenarios/server.rs"]
mod server;

use expect::World;
use script::{Scenario, Step};
use server::Server;

/// The node that the agent of a scenario runs on.
const NODE: &str = "n1";

type Outcome = Result<(), Box<dyn Error>>;

#[test]
fn scenarios_in_process() {
    let failures: Vec<_> = scenarios().iter().filter_map(|path| failure(path, None)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn scenarios_with_a_real_api_server() {
    let binaries = match real::Binaries::find() {
        Ok(binaries) => binaries,
        Err(reason) => {
            let required = std::env::var("ORB8_REQUIRE").unwrap_or_default();
            let is_required = required.split(',').any(|name| name == "kube-apiserver");
            assert!(!is_required, "kube-apiserver is required: {reason}");
            return skipped("scenarios with a real API server", &reason);
        }
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(real::Cluster::start(&binaries)).unwrap();
    let run = |path: &PathBuf| failure(path, Some((&runtime, &cluster)));
    let failures: Vec<_> = scenarios().iter().filter_map(run).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Not by a macro: the harness keeps to itself what a test that passes prints by one.
fn skipped(what: &str, reason: &str) {
    writeln!(std::io::stderr(), "SKIPPED {what}: {reason}").expect("standard error");
}

fn scenarios() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no scenarios");
    files
}

/// Runs a scenario; what went wrong.
fn failure(
    path: &Path,
    real: Option<(&tokio::runtime::Runtime, &real::Cluster)>,
) -> Option<String> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let begun = Instant::now();
    let outcome = match real {
        None => tokio::runtime::Runtime::new().unwrap().block_on(async {
            let scenario = Scenario::read(path)?;
            run(&scenario, &mut Server::in_process(&scenario).await?).await
        }),
        Some((runtime, cluster)) => runtime.block_on(async {
            let scenario = Scenario::read(path)?;
            if let Some(reason) = cluster.cannot_run(&scenario).await {
                skipped(&format!("scenario {name} with a real API server"), &reason);
                return Ok(());
            }
            let mut server = Server::real(cluster).await?;
            let outcome = run(&scenario, &mut server).await;
            outcome.and(server.clean_up().await)
        }),
    };
    println!("scenario {name}: {} ms", begun.elapsed().as_millis());
    outcome.err().map(|error| format!("{name}: {error}"))
}

async fn run(scenario: &Scenario, server: &mut Server) -> Outcome {
    let (index, writer) = Index::new();
    let config = WatchConfig {
        node_name: Some(NODE.to_owned()),
        remote_pods: true,
        timing: timing(scenario, server.is_real()),
    };
    let cancel = CancellationToken::new();
    let writer = Arc::new(Mutex::new(writer));
    let mut watches = None;
    for (at, step) in scenario.step.iter().enumerate() {
        let outcome = match step {
            Step::Start {} => {
                let client = server.client().await?;
                watches = Some(Watches::start(&client, &config, Arc::clone(&writer), &cancel));
                Ok(())
            }
            Step::Expect(expected) => {
                let watches = watches.as_ref().ok_or("`expect` before `start`")?;
                expected.met(&World { index: &index, health: watches.health() }).await
            }
            step => server.act(step).await,
        };
        outcome.map_err(|error| format!("step {}, {}: {error}", at + 1, step.name()))?;
    }
    if let Some(watches) = watches {
        watches.stop().await;
    }
    Ok(())
}

/// Short times where they are waited for, and long ones where a slow machine could exceed them. The
/// in-process server sends bookmarks each 100 ms, a real one each minute.
fn timing(scenario: &Scenario, real: bool) -> Timing {
    let ms = Duration::from_millis;
    let quiet = if real { ms(150_000) } else { ms(10_000) };
    Timing {
        backoff: (ms(20), ms(200)),
        relist: ms(2000),
        retry_after: ms(2000),
        lasting: ms(500),
        server_timeout: (ms(2000), ms(3000)),
        grace: ms(10_000),
        quiet: scenario.quiet_ms.map_or(quiet, ms),
        answer: scenario.answer_ms.map_or(ms(10_000), ms),
        skipped: ms(300),
    }
}
