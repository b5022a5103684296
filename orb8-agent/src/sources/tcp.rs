//! The `tcp` source: the kernel's records of connections become [`Event`]s.
//!
//! ```text
//! ring ──(AsyncFd, rests between reads)──▶ opened, closed, reset, retransmitted, dropped ─┐
//! socket storage ──(timer)──▶ figures of live connections, full queues of listeners ──────┴─▶ pipeline
//! ```

mod convert;
mod symbols;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use orb8_common::tcp::Counter;
use tokio::{io::unix::AsyncFd, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{DrainQueue, DrainRequests, Inflow, dns::DnsInlet, readable};
use crate::{
    clock::Clock,
    ebpf::{EbpfError, RingReader, TcpObject},
    error::{AgentError, chain},
    event::{Event, Loss, Payload, Signal},
    pipeline::{self, SharedPipeline},
    status::{BpfRun, RingStatus, StatusBoard, TcpCounters},
};
pub use convert::Converter;

/// Time between two reads of the ring: as for flows, it bounds wake-ups and adds at most this much to
/// an event's way to subscribers.
const REST: Duration = Duration::from_millis(4);

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
    tells_states: bool,
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
            tells_states: false,
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

    /// Reads the figures of live sockets: the kernel goes over all of them.
    async fn read_sockets(&mut self) {
        let object = Arc::clone(&self.object);
        self.converter.begin_reading();
        let read = self.run_beside(move || {
            let mut records = Vec::new();
            let result = lock(&object).read_sockets(|record| records.push(*record));
            (records, result)
        });
        match read.await {
            Ok((records, result)) => {
                for record in &records {
                    self.converter.socket(record, &mut self.batch);
                }
                match result {
                    Ok(undecodable) => self.converter.count_undecodable(undecodable),
                    Err(error) => tracing::error!(error = chain(&error), "sockets cannot be read"),
                }
            }
            Err(error) => tracing::error!(%error, "sockets cannot be read"),
        }
        self.converter.end_reading();
    }

    fn read_counters(&mut self) -> Result<(), EbpfError> {
        let object = lock(&self.object);
        let (now, drops) = (object.counters()?, object.drops()?);
        let (run_ns, runs) = object.run_time();
        drop(object);
        let of = |counter: Counter| now[counter as usize];
        let lost = of(Counter::Lost) - self.counters[Counter::Lost as usize];
        if lost > 0 {
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
            status.bpf_run.set(Signal::Tcp, BpfRun { run_ns, runs });
        });
        Ok(())
    }

    /// Changes of state are told by the kernel only while somebody follows the signal.
    fn follow_interest(&mut self) {
        let wanted = pipeline::lock(&self.pipeline).tcp_subscribers() > 0;
        if wanted == self.tells_states {
            return;
        }
        match lock(&self.object).tell_states(wanted) {
            Ok(()) => self.tells_states = wanted,
            Err(error) => tracing::warn!(error = chain(&error), "changes of state are not told"),
        }
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
