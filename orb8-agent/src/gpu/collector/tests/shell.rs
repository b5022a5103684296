//! Sources that answer, hang, fail and come back.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::*;
use crate::config::Config;
use crate::gpu::config::TraceMode;
use crate::gpu::reading::Reading;
use crate::gpu::samples::{device, reading, sampled};
use crate::gpu::source::SourceError;
use crate::pipeline::{Happened, LocalAddresses, Lost, Pipeline};

/// Does what a test says.
#[derive(Clone)]
struct Told {
    kind: SourceKind,
    how: Arc<Mutex<How>>,
    reads: Arc<AtomicU64>,
    followed: Arc<Mutex<Vec<u32>>>,
}

#[derive(Clone, Copy)]
enum How {
    Well,
    Hangs,
    Fails,
    Panics,
    IsAbsent,
}

impl Told {
    fn new(kind: SourceKind, how: How) -> Self {
        let how = Arc::new(Mutex::new(how));
        Self { kind, how, reads: Arc::default(), followed: Arc::default() }
    }

    fn set(&self, how: How) {
        *self.how.lock().unwrap() = how;
    }

    fn follow(&mut self, pids: &[u32]) {
        *self.followed.lock().unwrap() = pids.to_owned();
    }
}

impl Source for Told {
    fn kind(&self) -> SourceKind {
        self.kind
    }

    async fn read(&mut self) -> Result<Reading, SourceError> {
        self.reads.fetch_add(1, Relaxed);
        let how = *self.how.lock().unwrap();
        match how {
            How::Well => {}
            How::Hangs => std::future::pending().await,
            How::Fails => return Err(SourceError::Failed("it is damaged".into())),
            How::Panics => panic!("an error of its own"),
            How::IsAbsent => return Err(SourceError::Absent("it is not there".into())),
        }
        let mut seen = sampled(device(self.kind.word()), |_| {});
        seen.device.source = self.kind;
        Ok(reading(self.kind, vec![seen], vec![]))
    }

    fn invalid(&self) -> u64 {
        3
    }
}

fn collector() -> Collector {
    let mut config = Config::in_process().unwrap();
    config.cgroup_root = None;
    let pipeline = Pipeline::new(&config, LocalAddresses::default()).shared();
    let gpu = GpuConfig { pod_resources: None, trace: TraceMode::Off, ..GpuConfig::default() };
    Collector::new(&gpu, pipeline, Board::default(), CancellationToken::new())
}

/// What status says of each source.
fn problems(view: &View) -> Vec<(SourceKind, String)> {
    let of =
        |it: &crate::gpu::view::SourceHealth| (it.kind, it.problem.clone().unwrap_or_default());
    view.sources.iter().map(of).collect()
}

/// For those that hang. Those that answer do so at once, on a machine that has too much to do as well.
const ANSWER: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn one_that_hangs_holds_nobody_up() {
    let mut collector = collector();
    let (well, hangs) =
        (Told::new(SourceKind::Dcgm, How::Well), Told::new(SourceKind::Nvml, How::Hangs));
    collector.add(hangs.clone(), Told::follow);
    collector.add(well.clone(), Told::follow);
    let began = Instant::now();
    let view = collector.round(ANSWER).await;
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert_eq!(view.devices.len(), 1);
    assert!(problems(&view)[0].1.starts_with("no answer for "), "{:?}", problems(&view));
    let began = Instant::now();
    for _ in 0..5 {
        collector.round(ANSWER).await;
    }
    assert!(began.elapsed() < ANSWER * 4, "it is not waited for again: {:?}", began.elapsed());
    assert_eq!((hangs.reads.load(Relaxed), well.reads.load(Relaxed)), (1, 6));
    assert_eq!(collector.board.read().sources[1].invalid, 3);
    // The view stays what it is between two readings.
    assert!(Arc::ptr_eq(&collector.board.read(), &collector.board.read()));
}

#[tokio::test]
async fn one_that_is_late_is_taken_when_it_comes() {
    struct Slow(Arc<tokio::sync::Notify>);
    impl Source for Slow {
        fn kind(&self) -> SourceKind {
            SourceKind::Nvml
        }
        async fn read(&mut self) -> Result<Reading, SourceError> {
            self.0.notified().await;
            Ok(reading(SourceKind::Nvml, vec![sampled(device("GPU-1"), |_| {})], vec![]))
        }
    }
    let mut collector = collector();
    let is_done = Arc::new(tokio::sync::Notify::new());
    collector.add(Slow(Arc::clone(&is_done)), |_, _| {});
    let short = Duration::from_millis(100);
    assert_eq!(collector.round(short).await.devices.len(), 0);
    is_done.notify_one();
    // What is late is taken where it is there, and not waited for.
    tokio::time::sleep(short).await;
    let view = collector.round(short).await;
    assert_eq!((view.devices.len(), &*problems(&view)[0].1), (1, ""));
    assert!(view.sources[0].took >= short);
}

#[tokio::test]
async fn one_that_fails_or_ends_says_so() {
    let mut collector = collector();
    let source = Told::new(SourceKind::Amd, How::Fails);
    collector.add(source.clone(), Told::follow);
    assert_eq!(problems(&*collector.round(PATIENCE).await)[0].1, "it is damaged");
    source.set(How::Well);
    assert_eq!(problems(&*collector.round(PATIENCE).await)[0].1, "");
    source.set(How::Panics);
    for _ in 0..2 {
        let view = collector.round(PATIENCE).await;
        assert!(problems(&view)[0].1.contains("an error of orb8's own"), "{:?}", problems(&view));
        assert_eq!(view.devices.len(), 1, "its device was there");
    }
}

#[tokio::test]
async fn one_that_is_absent_is_asked_again_seldom() {
    let mut collector = collector();
    let source = Told::new(SourceKind::Tpu, How::IsAbsent);
    collector.add(source.clone(), Told::follow);
    let began = Instant::now();
    let mut view = collector.round(PATIENCE).await;
    for _ in 0..3 {
        view = collector.round(PATIENCE).await;
    }
    assert_eq!(source.reads.load(Relaxed), 1);
    assert_eq!(problems(&view)[0].1, "it is not there");
    let next = collector.next(&view, began).saturating_duration_since(began);
    assert!(next > Duration::from_secs(29) && next <= REST, "{next:?}");
}

#[tokio::test]
async fn a_loop_that_is_cancelled_ends() {
    let mut collector = collector();
    collector.add(Told::new(SourceKind::Nvml, How::Hangs), Told::follow);
    let cancel = collector.cancel.clone();
    let (sender, mut beat) = watch::channel(Beat { next: Instant::now(), view: None });
    let running = tokio::spawn(collector.run(sender));
    tokio::time::timeout(PATIENCE, beat.changed()).await.unwrap().unwrap();
    assert!(beat.borrow().view.is_some());
    cancel.cancel();
    tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_lost_is_told_once_in_the_stream() {
    let mut collector = collector();
    let mut subscription = pipeline::lock(&collector.pipeline).subscribe_gpu();
    for lost in [0, 3, 3, 5] {
        collector.tell_lost(lost, UnixNanos(lost));
    }
    let mut told = Vec::new();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while let std::task::Poll::Ready(Some(received)) = subscription.reader.poll_next(&mut context) {
        told.extend(received.batch.items.iter().map(|item| (item.time, item.happened.clone())));
    }
    let lost = |time, events| (UnixNanos(time), Happened::Lost(Lost::Ring { events }));
    assert_eq!(told, [lost(3, 3), lost(5, 2)]);
}
