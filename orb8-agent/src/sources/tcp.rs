//! The `tcp` source: the kernel's records of connections become [`Event`]s.
//!
//! ```text
//! ring ──(AsyncFd, rests between reads)──▶ opened, closed, reset, retransmitted, dropped ─┐
//! socket storage ──(timer)──▶ figures of live connections, full queues of listeners ──────┴─▶ pipeline
//! ```

mod convert;
mod symbols;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use orb8_common::tcp::{Control, Counter};
use tokio::{io::unix::AsyncFd, sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{DrainQueue, DrainRequests, Inflow, dns::DnsInlet, readable};
use crate::{
    clock::Clock,
    ebpf::{EbpfError, RingReader, TcpObject},
    error::{AgentError, chain},
    event::{Event, Loss, Payload, Signal, UnixNanos},
    pipeline::{self, SharedPipeline},
    status::{BpfRun, RingStatus, StatusBoard, TcpCounters},
};
pub use convert::Converter;

/// Time between two reads of the ring: as for flows, it bounds wake-ups and adds at most this much to
/// an event's way to subscribers.
const REST: Duration = Duration::from_millis(4);

/// Chunks of sockets that may wait to be taken in: each is one read of the kernel's, 32 KiB.
const CHUNKS: usize = 4;

/// See the [module](self).
pub struct TcpSource {
    object: SharedTcpObject,
    ring: AsyncFd<RingReader>,
    ring_size: u32,
    interval: Duration,
    pipeline: SharedPipeline,
    inflow: Inflow,
    board: StatusBoard,
    converter: Converter,
    batch: Vec<Event>,
    counters: [u64; Counter::COUNT],
    ring_records: u64,
    fullest: usize,
    control: Control,
    /// Whether the ring lost something since sockets were read.
    has_lost: bool,
    requests: (DrainRequests, DrainQueue),
}

/// The loaded object, shared with the thread that reads its sockets.
type SharedTcpObject = Arc<Mutex<TcpObject>>;

fn lock(object: &SharedTcpObject) -> MutexGuard<'_, TcpObject> {
    object.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TcpSource {
    /// Takes the ring of a loaded object. Call it within a runtime.
    ///
    /// # Errors
    /// [`AgentError`] when the ring was taken before, or cannot be waited on.
    pub fn build(
        mut object: TcpObject,
        ring_size: u32,
        interval: Duration,
        pipeline: SharedPipeline,
        names: Option<DnsInlet>,
        board: StatusBoard,
    ) -> Result<Self, AgentError> {
        let reader = object.take_ring().map_err(AgentError::ebpf("read the ring"))?;
        let ring = reader.wait_on().map_err(AgentError::io("wait for the ring"))?;
        let map_bytes = object.map_bytes();
        board.update(|status| status.map_bytes.set(Signal::Tcp, map_bytes));
        Ok(Self {
            converter: Converter::new(Clock::system(), object.reasons()),
            object: Arc::new(Mutex::new(object)),
            ring,
            ring_size,
            interval,
            inflow: Inflow::new(Arc::clone(&pipeline), names),
            pipeline,
            board,
            batch: Vec::new(),
            counters: [0; Counter::COUNT],
            ring_records: 0,
            fullest: 0,
            control: Control::default(),
            has_lost: false,
            requests: DrainRequests::channel(),
        })
    }

    /// What asks this source to drain.
    #[must_use]
    pub fn drain_requests(&self) -> DrainRequests {
        self.requests.0.clone()
    }

    /// Delivers until it is cancelled, and then what happened until that moment.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut timer = tokio::time::interval(self.interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rest = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                _ = timer.tick() => self.read_all().await,
                Some(done) = self.requests.1.recv() => {
                    self.read_all().await;
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
                }
            }
        }
        self.read_all().await;
    }

    async fn read_all(&mut self) {
        self.read_ring();
        self.read_sockets().await;
        self.find_symbols().await;
        if let Err(error) = self.read_counters() {
            tracing::error!(error = chain(&error), "the counters cannot be read");
        }
        self.follow_interest();
        self.inflow.take_in(&mut self.batch);
    }

    fn read_ring(&mut self) {
        let Self { ring, converter, batch, ring_records, .. } = self;
        let bytes = ring.get_mut().read(|record| {
            *ring_records += 1;
            converter.ring(record, batch);
        });
        self.fullest = self.fullest.max(bytes);
        self.inflow.take_in(&mut self.batch);
    }

    /// Runs what takes a while on a thread that may block, and reads the ring all the while: it has room
    /// for some tens of milliseconds.
    async fn run_beside<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        let mut running = tokio::task::spawn_blocking(work);
        loop {
            tokio::select! {
                done = &mut running => return done,
                () = tokio::time::sleep(REST) => self.read_ring(),
            }
        }
    }

    async fn find_symbols(&mut self) {
        self.converter.sync_clock();
        let Some(search) = self.converter.symbols.search() else { return };
        match self.run_beside(search).await {
            Ok(found) => self.converter.symbols.learn(found),
            Err(error) => tracing::error!(%error, "the kernel's symbols cannot be read"),
        }
    }

    /// Reads the figures of live sockets: the kernel goes over all of them. After a loss it hands over
    /// all, and a connection that is not among them has closed without a word.
    async fn read_sockets(&mut self) {
        let everything = std::mem::take(&mut self.has_lost);
        let started = self.converter.now();
        self.set_control(Control { everything: u32::from(everything), ..self.control });
        self.converter.begin_reading();
        let (sender, mut chunks) = mpsc::channel(CHUNKS);
        let object = Arc::clone(&self.object);
        let mut running = tokio::task::spawn_blocking(move || {
            lock(&object).read_sockets(|records| sender.blocking_send(records).is_ok())
        });
        let mut live = HashSet::new();
        loop {
            tokio::select! {
                chunk = chunks.recv() => {
                    let Some(records) = chunk else { break };
                    live.extend(records.iter().filter(|_| everything).map(|record| record.cookie));
                    for record in &records {
                        self.converter.socket(record, &mut self.batch);
                    }
                    self.inflow.take_in(&mut self.batch);
                }
                () = tokio::time::sleep(REST) => self.read_ring(),
            }
        }
        self.converter.end_reading();
        match (&mut running).await {
            Ok(Ok(undecodable)) => {
                self.converter.count_undecodable(undecodable);
                if everything {
                    self.forget_missing(&live, started);
                }
            }
            Ok(Err(error)) => tracing::error!(error = chain(&error), "sockets cannot be read"),
            Err(error) => tracing::error!(%error, "sockets cannot be read"),
        }
        self.set_control(Control { everything: 0, ..self.control });
    }

    fn forget_missing(&self, live: &HashSet<u64>, before: UnixNanos) {
        let mut pipeline = pipeline::lock(&self.pipeline);
        pipeline.close_missing_connections(&|cookie| live.contains(&cookie), before);
    }

    fn set_control(&mut self, control: Control) {
        if control == self.control {
            return;
        }
        match lock(&self.object).set_control(control) {
            Ok(()) => self.control = control,
            Err(error) => tracing::warn!(error = chain(&error), "the programs cannot be told"),
        }
    }

    fn read_counters(&mut self) -> Result<(), EbpfError> {
        let object = lock(&self.object);
        let (now, drops) = (object.counters()?, object.drops()?);
        let programs = object.run_times();
        drop(object);
        let of = |counter: Counter| now[counter as usize];
        let lost = of(Counter::Lost) - self.counters[Counter::Lost as usize];
        if lost > 0 {
            self.has_lost = true;
            let loss = Loss { signal: Signal::Tcp, moments: lost, ..Loss::default() };
            let time = self.converter.now();
            self.batch.push(Event { time, subject: None, payload: Payload::Loss(loss) });
        }
        self.counters = now;
        let counters = TcpCounters {
            lost: of(Counter::Lost) + self.converter.undecodable(),
            untracked: of(Counter::Untracked),
            resets_sent: of(Counter::ResetsSent),
            resets_received: of(Counter::ResetsReceived),
            drops: self.converter.name_drops(&drops),
        };
        let ring = self.ring_status(of(Counter::Lost));
        self.board.update(|status| {
            status.tcp = counters;
            status.set_ring(ring);
            status.bpf_run.set(Signal::Tcp, BpfRun::sum(&programs));
            status.set_programs(programs);
        });
        Ok(())
    }

    /// Changes of state are told by the kernel only while somebody follows the signal.
    fn follow_interest(&mut self) {
        let wanted = pipeline::lock(&self.pipeline).tcp_subscribers() > 0;
        self.set_control(Control { states: u32::from(wanted), ..self.control });
    }

    fn ring_status(&mut self, drops: u64) -> RingStatus {
        let fullest = std::mem::take(&mut self.fullest);
        RingStatus {
            probe: Signal::Tcp.name(),
            size_bytes: u64::from(self.ring_size),
            events: self.ring_records,
            drops,
            utilization: (fullest as f64 / f64::from(self.ring_size)).min(1.0),
        }
    }
}
