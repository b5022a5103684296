//! Whether the pipeline waits while the index is filled anew.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use orb8_agent::{
    agent::{Agent, Prepared},
    config::{Config, Environment, RawConfig, settings},
    pipeline::{FlowEvent, FlowStep, Happened, Reader, SharedPipeline, lock},
};
use tokio::runtime::Runtime;

use super::{
    cluster::{Cluster, Lists, on, runtime_at},
    manifests,
};
use crate::bench::{
    footprint::HELD,
    interrupt::pause,
    lab::Lab,
    plan::Plan,
    report::Table,
    stats::percentile,
    targets,
    workload::{Load, Place, Workload},
};

/// As many threads as the agent has.
const WORKERS: usize = 2;

/// Each connection is four new flows: both directions, at both ends.
const CONNECTIONS: u64 = 250;

/// A list goes on after it was asked for.
const LISTED: Duration = Duration::from_secs(4);

/// How long the engine may take to know all pods.
const PATIENCE: Duration = Duration::from_secs(60);

/// The agent's engine in this process, where its lock can be tried.
struct Engine {
    agent: Agent,
    pipeline: SharedPipeline,
    runtime: Runtime,
}

/// What was seen in a window, milliseconds.
#[derive(Default)]
struct Seen {
    /// From the kernel's time of a new flow to a subscriber.
    ages: Vec<f64>,
    /// For the pipeline's lock, each millisecond.
    waits: Vec<f64>,
}

type Notes = Arc<Mutex<Seen>>;

pub(super) fn measure(lab: &Lab, plan: &Plan, cluster: &Cluster) -> Result<Table> {
    let note = format!(
        "**While everything is listed again**, since the API server answers 410 to all watches: time \
         from the kernel's time of a new flow to a subscriber, with {} new flows a second, and the wait \
         of a thread that takes the pipeline's lock each millisecond. The engine runs in this process; \
         the API server shares the machine.",
        4 * CONNECTIONS,
    );
    let header = &[
        "flows held",
        "meanwhile",
        "new flows",
        "p50",
        "p99",
        "longest",
        "longest wait for the lock",
    ];
    let mut table = Table::new(note, header);
    for held in [None, Some(HELD)] {
        measure_with(lab, plan, cluster, held, &mut table)?;
    }
    Ok(table)
}

fn measure_with(
    lab: &Lab,
    plan: &Plan,
    cluster: &Cluster,
    held: Option<u32>,
    table: &mut Table,
) -> Result<()> {
    // Whoever was refused a streamed list does not ask for one again.
    cluster.offer(Lists::Streamed);
    let engine = Engine::start(lab, cluster)?;
    let watch = Watch::start(&engine);
    let many = held.map(|flows| Workload::UdpUnconnected { flows: flows / 2 });
    let many = many.map(|many| Load::start(lab, many, Place::Pods, 20_000)).transpose()?;
    let connections = Load::start(lab, Workload::TcpShort, Place::Pods, CONNECTIONS)?;
    pause(if many.is_some() { plan.held / 2 } else { LISTED })?;
    let name = held.map_or("few".to_owned(), |flows| flows.to_string());
    report(table, &name, "nothing", &watch.window(|| pause(plan.loaded / 2))?);
    for lists in Lists::BOTH {
        eprintln!("identity: all is listed again, {}, {name} flows", lists.name());
        cluster.offer(lists);
        let seen = watch.window(|| {
            cluster.force_relist()?;
            pause(LISTED)
        })?;
        report(table, &name, &format!("lists {}", lists.name()), &seen);
    }
    drop((connections, many));
    watch.stop();
    engine.stop()
}

fn report(table: &mut Table, held: &str, meanwhile: &str, seen: &Seen) {
    let of = |values: &[f64], percent| percentile(values, percent).unwrap_or(f64::NAN);
    let [p50, p99, longest] = [50.0, 99.0, 100.0].map(|percent| of(&seen.ages, percent));
    let wait = of(&seen.waits, 100.0);
    let shown = |ms: f64| format!("{ms:.1} ms");
    let cells = vec![
        held.to_owned(),
        meanwhile.to_owned(),
        seen.ages.len().to_string(),
        shown(p50),
        shown(p99),
        shown(longest),
        shown(wait),
    ];
    table.row(cells, &[("longest", longest, targets::STALL), ("wait", wait, targets::STALL)]);
}

impl Engine {
    fn start(lab: &Lab, cluster: &Cluster) -> Result<Self> {
        let config = config(lab, cluster)?;
        let runtime = runtime_at(&lab.node, WORKERS)?;
        let prepared = Prepared::new(&config)?;
        let (pipeline, board) = (prepared.pipeline(), prepared.board());
        let agent = on(&runtime, async move { prepared.start(&config).await })??;
        let engine = Self { agent, pipeline, runtime };
        let start = Instant::now();
        while board.read().kubernetes.counts.pods < u64::from(manifests::PODS) {
            ensure!(start.elapsed() < PATIENCE, "the engine does not know all pods");
            pause(Duration::from_millis(100))?;
        }
        Ok(engine)
    }

    fn stop(self) -> Result<()> {
        on(&self.runtime, self.agent.stop())
    }
}

fn config(lab: &Lab, cluster: &Cluster) -> Result<Config> {
    let root = lab.pods.path().display().to_string();
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let flags = [
        (settings::LISTEN, settings::OFF),
        (settings::ADMIN_LISTEN, settings::OFF),
        (settings::SOCKET, settings::OFF),
        (settings::CGROUP_ROOT, &root),
        (settings::ATTACH, "cgroup"),
        (settings::MAX_FLOWS, "131072"),
        (settings::KUBERNETES, "kubeconfig"),
        (settings::KUBECONFIG, &kubeconfig),
        (settings::NODE_NAME, manifests::NODE),
    ];
    let raw = RawConfig::default();
    let raw = flags.into_iter().fold(raw, |raw, (setting, value)| raw.with(setting, value));
    Ok(raw.load(&Environment::of_machine())?)
}

/// Who subscribes, and who tries the lock.
struct Watch {
    notes: Notes,
    over: Arc<AtomicBool>,
    tries: JoinHandle<()>,
}

impl Watch {
    fn start(engine: &Engine) -> Self {
        let (notes, over) = (Notes::default(), Arc::new(AtomicBool::new(false)));
        let reader = lock(&engine.pipeline).subscribe().reader;
        engine.runtime.spawn(subscribe(reader, Arc::clone(&notes)));
        let tries = thread::spawn({
            let (notes, over) = (Arc::clone(&notes), Arc::clone(&over));
            let pipeline = Arc::clone(&engine.pipeline);
            move || try_lock(&pipeline, &notes, &over)
        });
        Self { notes, over, tries }
    }

    /// What was seen while something happened.
    fn window(&self, happen: impl FnOnce() -> Result<()>) -> Result<Seen> {
        take(&self.notes);
        happen()?;
        Ok(take(&self.notes))
    }

    fn stop(self) {
        self.over.store(true, Relaxed);
        self.tries.join().expect("a thread that measures does not panic");
    }
}

/// Reads on the engine's own threads, as the API does.
async fn subscribe(mut reader: Reader<FlowEvent>, notes: Notes) {
    while let Some(received) = poll_fn(|context| reader.poll_next(context)).await {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let ages = received.batch.items.iter().filter_map(|item| match &item.happened {
            Happened::Event(FlowEvent { step: FlowStep::New, row, .. }) => {
                (row.flow.key.protocol == TCP).then(|| (now as f64 - item.time.0 as f64) / 1e6)
            }
            Happened::Event(_) | Happened::Lost(_) => None,
        });
        note(&notes, |seen| seen.ages.extend(ages));
    }
}

const TCP: u8 = 6;

fn try_lock(pipeline: &SharedPipeline, notes: &Notes, over: &AtomicBool) {
    while !over.load(Relaxed) {
        thread::sleep(Duration::from_millis(1));
        let start = Instant::now();
        drop(lock(pipeline));
        let waited = start.elapsed().as_secs_f64() * 1e3;
        note(notes, |seen| seen.waits.push(waited));
    }
}

fn note(notes: &Notes, add: impl FnOnce(&mut Seen)) {
    add(&mut notes.lock().unwrap_or_else(PoisonError::into_inner));
}

fn take(notes: &Notes) -> Seen {
    std::mem::take(&mut notes.lock().unwrap_or_else(PoisonError::into_inner))
}
