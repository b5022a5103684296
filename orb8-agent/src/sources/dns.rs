//! The `dns` source: the kernel's copies of DNS messages become [`Event`]s, one for each exchange.
//!
//! ```text
//! ring ──▶ DnsInlet ──▶ convert ──(TCP: stream)──▶ message ──▶ exchange ──▶ pipeline
//!             ├── this source: when the ring has something, and when a query waited too long
//!             └── the flow source: before it tells of flows, so that their names are known
//! ```

mod convert;
mod exchange;
mod message;
#[cfg(test)]
mod samples;
mod stream;
mod table;

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use orb8_common::dns::Counter;
use tokio::{io::unix::AsyncFd, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{DrainQueue, DrainRequests, readable};
use crate::{
    clock::Clock,
    ebpf::{DnsObject, EbpfError, RingReader},
    error::{AgentError, chain},
    event::{Event, Loss, Payload, Signal},
    pipeline::{self, SharedPipeline},
    status::{BpfRun, DnsCounters, RingStatus, StatusBoard},
};
pub use convert::Converter;
pub use exchange::Matching;
pub use message::{MAX_ANSWERS, Message, NoMessage};
pub use stream::MAX_STREAMS;
pub use table::MAX_WAITING;

/// Time between two reads of the ring: as for flows, it bounds wake-ups and adds at most this much
/// to an event's way to subscribers.
const REST: Duration = Duration::from_millis(4);

/// How late a timeout is told at most.
const TIMEOUT_TICK: Duration = Duration::from_millis(100);

/// A record may come into the ring this much later than the packet's time says: nothing is taken for
/// missing sooner.
const SETTLE_NS: u64 = 10_000_000;

/// What the source is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// The servers' ports.
    pub ports: Vec<u16>,
    /// How long a query waits before a timeout is told.
    pub timeout: Duration,
}

/// The loaded object, shared with who attaches it.
pub type SharedDnsObject = Arc<Mutex<DnsObject>>;

fn lock(object: &SharedDnsObject) -> MutexGuard<'_, DnsObject> {
    object.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where records become events, shared by who reads them. Cloning shares it.
#[derive(Clone)]
pub struct DnsInlet(Arc<Mutex<Inlet>>);

struct Inlet {
    ring: RingReader,
    converter: Converter,
    clock: Clock,
    /// What was read and is not in the pipeline yet.
    batch: Vec<Event>,
    records: u64,
    fullest: usize,
}

impl DnsInlet {
    fn lock(&self) -> MutexGuard<'_, Inlet> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings what the ring holds, and what waited too long, into the pipeline. An empty ring costs
    /// next to nothing.
    ///
    /// It is there when this returns, whoever read it: the inlet is locked until then. Who has the
    /// pipeline locked must not call this.
    pub fn take_into(&self, pipeline: &SharedPipeline) {
        let mut inlet = self.lock();
        inlet.read();
        inlet.deliver(pipeline);
    }

    fn is_waiting(&self) -> bool {
        self.lock().converter.is_waiting()
    }
}

/// See the [module](self).
pub struct DnsSource {
    object: SharedDnsObject,
    ring: AsyncFd<OwnedFd>,
    inlet: DnsInlet,
    ring_size: u32,
    interval: Duration,
    pipeline: SharedPipeline,
    board: StatusBoard,
    counters: [u64; Counter::COUNT],
    requests: (DrainRequests, DrainQueue),
}

impl DnsSource {
    /// Takes the ring of a loaded object. Call it within a runtime.
    ///
    /// # Errors
    /// [`AgentError`] when the ring was taken before, or cannot be waited on.
    pub fn build(
        object: SharedDnsObject,
        config: &DnsConfig,
        both_hooks: bool,
        ring_size: u32,
        interval: Duration,
        pipeline: SharedPipeline,
        board: StatusBoard,
    ) -> Result<Self, AgentError> {
        let reader = lock(&object).take_ring().map_err(AgentError::ebpf("read the ring"))?;
        let ring = reader.waiter().map_err(AgentError::io("wait for the ring"))?;
        let map_bytes = lock(&object).map_bytes();
        board.update(|status| status.map_bytes.set(Signal::Dns, map_bytes));
        let clock = Clock::system();
        let matching =
            Matching { timeout: config.timeout, both_hooks, started_ns: clock.monotonic_ns() };
        let converter = Converter::new(&matching, config.ports.clone(), clock.clone());
        let inlet =
            Inlet { ring: reader, converter, clock, batch: Vec::new(), records: 0, fullest: 0 };
        Ok(Self {
            object,
            ring,
            inlet: DnsInlet(Arc::new(Mutex::new(inlet))),
            ring_size,
            interval,
            pipeline,
            board,
            counters: [0; Counter::COUNT],
            requests: DrainRequests::channel(),
        })
    }

    /// What others read the ring through.
    #[must_use]
    pub fn inlet(&self) -> DnsInlet {
        self.inlet.clone()
    }

    /// What asks this source to read what is there.
    #[must_use]
    pub fn drain_requests(&self) -> DrainRequests {
        self.requests.0.clone()
    }

    /// Delivers until it is cancelled, and then what was seen until that moment.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut timer = tokio::time::interval(self.interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rest = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        loop {
            let waits = self.inlet.is_waiting();
            tokio::select! {
                () = cancel.cancelled() => break,
                _ = timer.tick() => self.end_cycle(),
                Some(done) = self.requests.1.recv() => {
                    self.end_cycle();
                    // Who asked may have gone.
                    let _ = done.send(());
                }
                () = tokio::time::sleep(TIMEOUT_TICK), if waits => self.read(),
                readable = readable(&self.ring, rest.as_mut()) => {
                    if let Err(error) = readable {
                        tracing::error!(%error, "the ring cannot be waited on");
                        tokio::time::sleep(self.interval).await;
                    }
                    self.read();
                    rest.as_mut().reset(tokio::time::Instant::now() + REST);
                }
            }
        }
        self.end_cycle();
    }

    fn read(&self) {
        self.inlet.take_into(&self.pipeline);
    }

    fn end_cycle(&mut self) {
        self.inlet.lock().sync_clock();
        self.read();
        if let Err(error) = self.read_counters() {
            tracing::error!(error = chain(&error), "the counters cannot be read");
        }
    }

    fn read_counters(&mut self) -> Result<(), EbpfError> {
        let object = lock(&self.object);
        let now = object.counters()?;
        let programs = object.run_times();
        drop(object);
        let of = |counter: Counter| now[counter as usize];
        let lost = of(Counter::Lost) - self.counters[Counter::Lost as usize];
        self.counters = now;
        let mut inlet = self.inlet.lock();
        if lost > 0 {
            let loss = Loss { signal: Signal::Dns, moments: lost, ..Loss::default() };
            let time = inlet.clock.now();
            inlet.batch.push(Event { time, subject: None, payload: Payload::Loss(loss) });
            inlet.deliver(&self.pipeline);
            inlet.distrust();
        }
        let counters = inlet.counters(&now);
        let ring = inlet.ring_status(self.ring_size, of(Counter::Lost));
        drop(inlet);
        self.board.update(|status| {
            status.dns = counters;
            status.set_ring(ring);
            status.bpf_run.set(Signal::Dns, BpfRun::sum(&programs));
            status.set_programs(programs);
        });
        Ok(())
    }
}

impl Inlet {
    fn read(&mut self) {
        let Self { ring, converter, clock, batch, records, fullest } = self;
        // Before the ring is read: what answers a query in time is then in it.
        let now_ns = clock.monotonic_ns();
        let bytes = ring.read(|record| {
            *records += 1;
            converter.record(record, batch);
        });
        *fullest = (*fullest).max(bytes);
        converter.expire(now_ns.saturating_sub(SETTLE_NS), batch);
    }

    fn deliver(&mut self, pipeline: &SharedPipeline) {
        if !self.batch.is_empty() {
            pipeline::lock(pipeline).ingest(&mut self.batch);
        }
    }

    fn sync_clock(&mut self) {
        self.clock.sync();
        self.converter.sync_clock();
    }

    fn distrust(&mut self) {
        let now_ns = self.clock.monotonic_ns();
        self.converter.distrust(now_ns);
    }

    fn counters(&self, kernel: &[u64; Counter::COUNT]) -> DnsCounters {
        let of = |counter: Counter| kernel[counter as usize];
        DnsCounters {
            packets: of(Counter::Packets),
            lost: of(Counter::Lost) + self.converter.undecodable(),
            evicted: self.converter.evicted(),
            unread: of(Counter::Unread) + self.converter.unread(),
            malformed: self.converter.malformed(),
        }
    }

    fn ring_status(&mut self, ring_size: u32, drops: u64) -> RingStatus {
        let fullest = std::mem::take(&mut self.fullest);
        RingStatus {
            probe: Signal::Dns.name(),
            size_bytes: u64::from(ring_size),
            events: self.records,
            drops,
            utilization: (fullest as f64 / f64::from(ring_size)).min(1.0),
        }
    }
}
