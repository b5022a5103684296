//! What a scrape costs where 5,000 pods have series of everything.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use orb8_agent::{
    agent::Prepared,
    api::{Api, Tasks},
    config::{Config, Environment, RawConfig, settings},
    pipeline::{SharedPipeline, lock},
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use super::{
    interrupt::pause,
    plan::Plan,
    report::Table,
    stats::{median, percentile},
    targets,
};

mod pods;

/// Pods on one node: far more than a kubelet runs.
const PODS: u32 = 5_000;

/// Formats, and what a scraper sends for them.
const FORMATS: [(&str, &str); 4] = [
    ("text", ""),
    ("OpenMetrics", "accept: application/openmetrics-text;version=1.0.0\r\n"),
    (
        "protobuf, native histograms",
        "accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
         encoding=delimited\r\n",
    ),
    ("text, gzip", "accept-encoding: gzip\r\n"),
];

/// As many threads as the agent has.
const WORKERS: usize = 2;

const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn measure(plan: &Plan) -> Result<Vec<Table>> {
    eprintln!("metrics: making the pods");
    let engine = Engine::start()?;
    let note = format!(
        "{} **A scrape** over loopback, from the connection to the last byte, of an engine in this process \
         that has flows, DNS and TCP health of {PODS} pods, each a label set of its own: medians of \
         rounds. Meanwhile a thread takes the pipeline's lock each millisecond.",
        plan.machine,
    );
    let header = &["format", "size", "scrape", "longest", "longest wait for the lock"];
    let mut table = Table::new(note, header);
    let quiet = longest_wait(&engine.pipeline, || pause(Duration::from_secs(1)))?;
    let none = || "–".to_owned();
    table.row(vec!["no scrape".to_owned(), none(), none(), none(), shown(quiet)], &[]);
    for (format, accept) in FORMATS {
        eprintln!("metrics: {format}");
        let (mut times, mut size) = (Vec::new(), 0);
        let wait = longest_wait(&engine.pipeline, || {
            for _ in 0..plan.rounds {
                pause(Duration::from_millis(200))?;
                let begun = Instant::now();
                size = engine.scrape(accept)?;
                times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            Ok(())
        })?;
        let scrape = median(&times).unwrap_or(f64::NAN);
        let longest = percentile(&times, 100.0).unwrap_or(f64::NAN);
        let size = format!("{:.1} MiB", size as f64 / 1_048_576.0);
        let cells = vec![format.to_owned(), size, shown(scrape), shown(longest), shown(wait)];
        let checked = [("scrape", scrape, targets::SCRAPE), ("wait", wait, targets::SCRAPE_WAIT)];
        table.row(cells, &checked);
    }
    engine.stop()?;
    Ok(vec![table])
}

fn shown(ms: f64) -> String {
    format!("{ms:.1} ms")
}

/// Returns how long a thread waited at most for the pipeline's lock while something happened,
/// milliseconds.
fn longest_wait(pipeline: &SharedPipeline, happen: impl FnOnce() -> Result<()>) -> Result<f64> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let tries = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !over.load(Relaxed) {
                thread::sleep(Duration::from_millis(1));
                let start = Instant::now();
                drop(lock(pipeline));
                longest = longest.max(start.elapsed());
            }
            longest
        });
        let happened = happen();
        over.store(true, Relaxed);
        let longest = tries.join().expect("a thread that measures does not panic");
        happened.map(|()| longest.as_secs_f64() * 1e3)
    })
}

/// The agent's engine without programs, and its admin address.
struct Engine {
    pipeline: SharedPipeline,
    at: SocketAddr,
    tasks: Tasks,
    shutdown: CancellationToken,
    runtime: Runtime,
    _cgroups: TempDir,
}

impl Engine {
    fn start() -> Result<Self> {
        let cgroups = tempfile::tempdir()?;
        let config = config(cgroups.path())?;
        let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
        let prepared = Prepared::new(&config)?;
        let pipeline = prepared.pipeline();
        let inside = runtime.enter();
        let api = runtime.block_on(Api::build(&config, prepared.pipeline(), prepared.board()))?;
        let at = api.bound().admin.context("an admin address")?;
        let shutdown = CancellationToken::new();
        let tasks = api.run(&shutdown);
        // All of them first: what is made later is not looked for at once.
        let ids: Result<Vec<u64>> = (0..PODS).map(|pod| make_cgroup(cgroups.path(), pod)).collect();
        for (pod, cgroup_id) in (0..).zip(ids?) {
            lock(&pipeline).ingest(&mut pods::events(pod, cgroup_id));
        }
        let sets = lock(&pipeline).totals().traffic.sets;
        ensure!(sets == u64::from(PODS), "{sets} label sets instead of {PODS}");
        drop(inside);
        Ok(Self { pipeline, at, tasks, shutdown, runtime, _cgroups: cgroups })
    }

    /// Scrapes, and returns how many bytes came.
    fn scrape(&self, accept: &str) -> Result<usize> {
        let mut stream = TcpStream::connect(self.at)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nhost: agent\r\n{accept}connection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "no page");
        Ok(answer.len())
    }

    fn stop(self) -> Result<()> {
        let Self { mut tasks, shutdown, runtime, .. } = self;
        shutdown.cancel();
        runtime.block_on(async {
            while let Some(ended) = tasks.join_next().await {
                ended??;
            }
            Ok(())
        })
    }
}

fn config(cgroups: &Path) -> Result<Config> {
    let flags = [
        (settings::LISTEN, settings::OFF),
        (settings::ADMIN_LISTEN, "127.0.0.1:0"),
        (settings::SOCKET, settings::OFF),
        (settings::MAX_FLOWS, "131072"),
        (settings::EVENT_BUFFER, "0"),
        (settings::KUBERNETES, settings::OFF),
    ];
    let raw = RawConfig::default();
    let raw = flags.into_iter().fold(raw, |raw, (setting, value)| raw.with(setting, value));
    let config = raw.load(&Environment::of_machine())?;
    // Directories are enough to tell who owns what.
    Ok(Config { cgroup_root: Some(cgroups.to_owned()), ..config })
}

/// Makes a container's directory, and returns its id.
fn make_cgroup(root: &Path, pod: u32) -> Result<u64> {
    // Containers without a name have the beginning of their id for one.
    let id = format!("{pod:012x}{:052x}", 0);
    let path = format!("kubepods/besteffort/pod0a1b2c3d-0000-4000-8000-{pod:012x}/{id}");
    let path = root.join(path);
    fs::create_dir_all(&path)?;
    Ok(fs::metadata(&path)?.ino())
}
