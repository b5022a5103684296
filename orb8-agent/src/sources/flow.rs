//! The `flow` source: the kernel's flow records become [`Event`]s.
//!
//! ```text
//! ring ──(AsyncFd, rests between reads)──▶ moments ─┐
//! tables, sockets ──(timer, or pressure)──▶ counts ─┴─▶ pipeline
//! ```

mod convert;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use orb8_common::flow::Counter;
use tokio::{io::unix::AsyncFd, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    ebpf::{Drained, EbpfError, FlowObject, RingReader},
    error::AgentError,
    event::{Event, Loss, Payload, Signal},
    pipeline::{self, SharedPipeline},
    sources::{DrainQueue, DrainRequests, Inflow, dns::DnsInlet, readable},
    status::{BpfRun, KernelCounters, RingStatus, StatusBoard},
};
pub use convert::Converter;

/// The ring's name in metrics, which the project's dashboards have always used.
pub(crate) const PROBE: &str = "network";

/// Time between two reads of the ring. The programs wake the reader only when it has read
/// everything, so this bounds wake-ups at 250 a second, and adds at most this much to a moment's
/// way to subscribers.
const REST: Duration = Duration::from_millis(4);

/// Cycles between two readings of the programs' run time, which costs a call per program.
const RUN_TIME_CYCLES: u32 = 10;

/// The loaded object, shared with who attaches it.
pub type SharedObject = Arc<Mutex<FlowObject>>;

/// Locks a shared object. A panic elsewhere leaves it usable: the kernel keeps its state.
pub fn lock(object: &SharedObject) -> MutexGuard<'_, FlowObject> {
    object.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the [module](self).
pub struct FlowSource {
    object: SharedObject,
    ring: AsyncFd<RingReader>,
    ring_size: u32,
    interval: Duration,
    pipeline: SharedPipeline,
    inflow: Inflow,
    board: StatusBoard,
    converter: Converter,
    drained: Drained,
    batch: Vec<Event>,
    counters: [u64; Counter::COUNT],
    ring_records: u64,
    fullest: usize,
    cycle: u32,
    pressed: bool,
    requests: (DrainRequests, DrainQueue),
}

impl FlowSource {
    /// Takes the ring of a loaded object. Call it within a runtime.
    ///
    /// # Errors
    /// [`AgentError`] when the ring was taken before, or cannot be waited on.
    pub fn build(
        object: SharedObject,
        ring_size: u32,
        interval: Duration,
        pipeline: SharedPipeline,
        names: Option<DnsInlet>,
        board: StatusBoard,
    ) -> Result<Self, AgentError> {
        let reader = lock(&object).take_ring().map_err(AgentError::ebpf("read the ring"))?;
        let ring = reader.wait_on().map_err(AgentError::io("wait for the ring"))?;
        let map_bytes = lock(&object).map_bytes();
        board.update(|status| status.map_bytes.set(Signal::Flow, map_bytes));
        Ok(Self {
            object,
            ring,
            ring_size,
            interval,
            inflow: Inflow::new(Arc::clone(&pipeline), names),
            pipeline,
            board,
            converter: Converter::new(Clock::system()),
            drained: Drained::default(),
            batch: Vec::new(),
            counters: [0; Counter::COUNT],
            ring_records: 0,
            fullest: 0,
            cycle: 0,
            pressed: false,
            requests: DrainRequests::channel(),
        })
    }

    /// What asks this source to drain.
    #[must_use]
    pub fn drain_requests(&self) -> DrainRequests {
        self.requests.0.clone()
    }

    /// Delivers until it is cancelled, and then what was counted until that moment.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut timer = tokio::time::interval(self.interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rest = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                _ = timer.tick() => self.drain().await,
                Some(done) = self.requests.1.recv() => {
                    self.read_ring();
                    self.drain().await;
                    // Who asked may have gone.
                    let _ = done.send(());
                }
                readable = readable(&self.ring, rest.as_mut()) => {
                    if let Err(error) = readable {
                        tracing::error!(%error, "the ring cannot be waited on");
                        tokio::time::sleep(self.interval).await;
                    }
                    self.read_ring();
                    rest.as_mut().reset(tokio::time::Instant::now() + REST);
                    if self.pressed {
                        self.drain().await;
                    }
                }
            }
        }
        self.read_ring();
        self.drain().await;
    }

    /// Takes in what the ring holds, and remembers when the programs ask for a drain.
    fn read_ring(&mut self) {
        let Self { ring, converter, batch, ring_records, pressed, .. } = self;
        let bytes = ring.get_mut().read(|record| {
            *ring_records += 1;
            *pressed |= converter.ring(record, batch);
        });
        self.fullest = self.fullest.max(bytes);
        self.inflow.take_in(&mut self.batch);
    }

    /// Drains, and again as long as the tables fill up meanwhile.
    async fn drain(&mut self) {
        loop {
            self.pressed = false;
            self.drain_once().await;
            if !self.pressed && !lock(&self.object).is_pressed() {
                break;
            }
        }
    }

    /// Takes in what was counted since the last drain, and moments all the while: a drain under
    /// load takes longer than the ring has room for.
    async fn drain_once(&mut self) {
        let object = Arc::clone(&self.object);
        let mut drained = std::mem::take(&mut self.drained);
        let mut drain = tokio::task::spawn_blocking(move || {
            let result = lock(&object).drain(&mut drained);
            (drained, result)
        });
        let drained = loop {
            tokio::select! {
                drained = &mut drain => break drained,
                () = tokio::time::sleep(REST) => {
                    self.read_ring();
                }
            }
        };
        match drained {
            Ok((drained, result)) => {
                self.drained = drained;
                if let Err(error) = result {
                    tracing::error!(error = crate::error::chain(&error), "draining failed");
                }
            }
            Err(error) => tracing::error!(%error, "draining failed"),
        }
        self.take_in();
    }

    fn take_in(&mut self) {
        // Counts come after the moments of the same packets: a connection that opened and closed while
        // the tables were drained would else be taken for two.
        self.read_ring();
        let drained = std::mem::take(&mut self.drained);
        let ticks = lock(&self.object).ticks();
        self.converter.begin_cycle();
        for part in drained.parts(PART) {
            self.converter.drained(&part, |tick| ticks.monotonic_ns(tick), &mut self.batch);
            self.inflow.take_in(&mut self.batch);
            self.read_ring();
        }
        self.drained = drained;
        self.drained.clear();
        if let Err(error) = self.read_counters() {
            tracing::error!(error = crate::error::chain(&error), "the counters cannot be read");
        }
        let mut pipeline = pipeline::lock(&self.pipeline);
        pipeline.ingest(&mut self.batch);
        pipeline.end_of_cycle(Instant::now());
    }

    fn read_counters(&mut self) -> Result<(), EbpfError> {
        let object = lock(&self.object);
        let now = object.counters()?;
        let run = self.cycle.is_multiple_of(RUN_TIME_CYCLES).then(|| object.run_times());
        drop(object);
        self.cycle = self.cycle.wrapping_add(1);
        let added = |counter: Counter| now[counter as usize] - self.counters[counter as usize];
        let loss = Loss {
            signal: Signal::Flow,
            packets: added(Counter::LostPackets),
            bytes: added(Counter::LostBytes),
            moments: added(Counter::LostMoments),
        };
        if loss != Loss::default() {
            let event =
                Event { time: self.converter.now(), subject: None, payload: Payload::Loss(loss) };
            self.batch.push(event);
        }
        self.counters = now;
        let ring = self.ring_status(&now);
        self.board.update(|status| {
            status.kernel_counters = kernel_counters(&now, self.converter.undecodable());
            status.set_ring(ring);
            if let Some(programs) = run {
                status.bpf_run.set(Signal::Flow, BpfRun::sum(&programs));
                status.set_programs(programs);
            }
        });
        Ok(())
    }

    fn ring_status(&mut self, counters: &[u64; Counter::COUNT]) -> RingStatus {
        let fullest = std::mem::take(&mut self.fullest);
        RingStatus {
            probe: PROBE,
            size_bytes: u64::from(self.ring_size),
            events: self.ring_records,
            drops: counters[Counter::LostMoments as usize],
            utilization: (fullest as f64 / f64::from(self.ring_size)).min(1.0),
        }
    }
}

/// Records that are taken in at a time, between two looks at the ring.
const PART: usize = 4096;

fn kernel_counters(counters: &[u64; Counter::COUNT], undecodable: u64) -> KernelCounters {
    let of = |counter: Counter| counters[counter as usize];
    KernelCounters {
        lost_packets: of(Counter::LostPackets),
        lost_bytes: of(Counter::LostBytes),
        lost_moments: of(Counter::LostMoments) + undecodable,
        other_packets: of(Counter::OtherPackets),
        other_bytes: of(Counter::OtherBytes),
        malformed_packets: of(Counter::MalformedPackets),
        malformed_bytes: of(Counter::MalformedBytes),
        owned_packets: of(Counter::OwnedPackets),
        owned_bytes: of(Counter::OwnedBytes),
    }
}
