//! From events to records that wait to be sent.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orb8_proto::filter::Matcher;
use prost::bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::flows::Ledger;
use super::health::{Cause, Health, Kind};
use super::logs::{self, Record};
use super::queue::Queue;
use super::{LogKind, OtlpConfig, Tasks};
use crate::clock::Clock;
use crate::event::{Signal, UnixNanos};
use crate::gpu::GpuEvent;
use crate::pipeline::{
    DnsEvent, FlowEvent, FlowStep, Happened, Lost, SharedPipeline, StreamItem, Subscription,
    TcpEvent, lock,
};
use crate::status::StatusBoard;
use crate::store::{FlowRow, InterfaceNames, Query, SortKey, StoreConfig};

/// Interfaces come and go, and their names with them.
const RENAME: Duration = Duration::from_secs(1);

/// Everything that collecting needs.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) config: OtlpConfig,
    pub(super) store: StoreConfig,
    pub(super) pipeline: SharedPipeline,
    pub(super) board: StatusBoard,
    pub(super) queue: Queue,
    pub(super) health: Health,
}

impl Collector {
    /// Follows the signals that are wanted.
    pub(super) fn spawn(&self, tasks: &mut Tasks) {
        let wants = |kind| self.config.logs.contains(&kind);
        let (alerts, mut pipeline) = (wants(LogKind::Alerts), lock(&self.pipeline));
        if wants(LogKind::Flow) || alerts {
            let ledger = || Ledger::new(self.config.flow_interval, self.store);
            let ledger = wants(LogKind::Flow).then(ledger);
            let follower = self.follower(Signal::Flow, Flows { ledger });
            let subscription = pipeline.subscribe();
            tasks.spawn("flow", &self.health, |stop| follower.run(subscription, stop));
        }
        if wants(LogKind::Dns) || alerts {
            let all = wants(LogKind::Dns);
            let follower = self.follower(Signal::Dns, Dns { all });
            let subscription = pipeline.subscribe_dns();
            tasks.spawn("dns", &self.health, |stop| follower.run(subscription, stop));
        }
        if wants(LogKind::Tcp) || alerts {
            let all = wants(LogKind::Tcp);
            let follower = self.follower(Signal::Tcp, Tcp { all });
            let subscription = pipeline.subscribe_tcp();
            tasks.spawn("tcp", &self.health, |stop| follower.run(subscription, stop));
        }
        if wants(LogKind::Gpu) || alerts {
            let all = wants(LogKind::Gpu);
            let follower = self.follower(Signal::Gpu, Gpu { all });
            let subscription = pipeline.subscribe_gpu();
            tasks.spawn("gpu", &self.health, |stop| follower.run(subscription, stop));
        }
    }

    fn follower<T: Tell>(&self, signal: Signal, tell: T) -> Follower<T> {
        Follower {
            signal,
            tell,
            clock: Clock::system(),
            interfaces: self.board.interfaces(),
            named: Instant::now(),
            board: self.board.clone(),
            pipeline: Arc::clone(&self.pipeline),
            queue: self.queue.clone(),
            health: self.health.clone(),
        }
    }
}

/// What of a signal becomes a record.
trait Tell: Send + 'static {
    /// What the signal's hub carries.
    type Event: Send + Sync + 'static;

    /// Returns the record of an event, if it has one.
    fn tell(
        &mut self,
        item: &StreamItem<Self::Event>,
        event: &Self::Event,
        interfaces: &InterfaceNames,
    ) -> Option<Record>;

    /// Returns records of what goes on and was not told yet, when nothing more will be.
    fn rest(&mut self, _: &SharedPipeline, _: UnixNanos, _: &InterfaceNames) -> Vec<Record> {
        Vec::new()
    }
}

/// Flows, or of them nothing but what was lost.
struct Flows {
    ledger: Option<Ledger>,
}

impl Tell for Flows {
    type Event = FlowEvent;

    fn tell(
        &mut self,
        item: &StreamItem<FlowEvent>,
        event: &FlowEvent,
        interfaces: &InterfaceNames,
    ) -> Option<Record> {
        let ledger = self.ledger.as_mut().filter(|_| !event.row.flow.self_traffic)?;
        let added = ledger.note(item.time, event)?;
        Some(logs::flow(item.time, event, added, interfaces))
    }

    fn rest(
        &mut self,
        pipeline: &SharedPipeline,
        now: UnixNanos,
        interfaces: &InterfaceNames,
    ) -> Vec<Record> {
        let Some(ledger) = &mut self.ledger else { return Vec::new() };
        let query = Query {
            matcher: Matcher::default(),
            include_self_traffic: false,
            start: None,
            end: None,
            sort: SortKey::default(),
            // The largest last: if there is no room for all, theirs are worth most.
            ascending: true,
            limit: usize::MAX,
        };
        let rows = lock(pipeline).query(&query, interfaces).rows;
        let record = |row: FlowRow| {
            let added = ledger.rest(&row.flow)?;
            let event = FlowEvent { step: FlowStep::Update, row, packets: 0, bytes: 0 };
            Some(logs::flow(now, &event, added, interfaces))
        };
        rows.into_iter().filter_map(record).collect()
    }
}

/// DNS exchanges: all of them, or alerts.
struct Dns {
    all: bool,
}

impl Tell for Dns {
    type Event = DnsEvent;

    fn tell(
        &mut self,
        item: &StreamItem<DnsEvent>,
        event: &DnsEvent,
        interfaces: &InterfaceNames,
    ) -> Option<Record> {
        let record = logs::exchange(item.time, event, interfaces);
        Some(record).filter(|record| self.all || record.is_alert())
    }
}

/// TCP events: all of them, or alerts.
struct Tcp {
    all: bool,
}

impl Tell for Tcp {
    type Event = TcpEvent;

    fn tell(
        &mut self,
        item: &StreamItem<TcpEvent>,
        event: &TcpEvent,
        interfaces: &InterfaceNames,
    ) -> Option<Record> {
        let record = Some(event).filter(|event| !event.self_traffic);
        let record = record.and_then(|event| logs::event(item.time, event, interfaces));
        record.filter(|record| self.all || record.is_alert())
    }
}

/// What happens to accelerators: all of it, or alerts.
struct Gpu {
    all: bool,
}

impl Tell for Gpu {
    type Event = GpuEvent;

    fn tell(
        &mut self,
        item: &StreamItem<GpuEvent>,
        event: &GpuEvent,
        _: &InterfaceNames,
    ) -> Option<Record> {
        let record = logs::accelerator(item.time, event);
        Some(record).filter(|record| self.all || record.is_alert())
    }
}

/// Reads one signal's events.
struct Follower<T> {
    signal: Signal,
    tell: T,
    clock: Clock,
    interfaces: Arc<InterfaceNames>,
    named: Instant,
    board: StatusBoard,
    pipeline: SharedPipeline,
    queue: Queue,
    health: Health,
}

impl<T: Tell> Follower<T> {
    /// Reads until `stop` is cancelled and everything that was there is read.
    async fn run(mut self, subscription: Subscription<T::Event>, stop: CancellationToken) {
        let Subscription { recent, mut reader } = subscription;
        for batch in recent {
            self.take(&batch.items, 0);
        }
        loop {
            let received = tokio::select! {
                biased;
                received = poll_fn(|context| reader.poll_next(context)) => received,
                () = stop.cancelled() => None,
            };
            let Some(received) = received else { break };
            self.take(&received.batch.items, received.missing);
            // There can be more events than a worker has time for, and others need it too.
            tokio::task::coop::consume_budget().await;
        }
        let now = self.clock.now();
        let rest = self.tell.rest(&self.pipeline, now, &self.interfaces);
        self.push(rest.into_iter().map(|record| record.encode(now)).collect());
    }

    fn take(&mut self, items: &[StreamItem<T::Event>], missing: u64) {
        if self.named.elapsed() >= RENAME {
            self.named = Instant::now();
            self.interfaces = self.board.interfaces();
        }
        let observed = self.clock.now();
        let mut records: Vec<Bytes> = Vec::new();
        if let Some(next) = items.first().filter(|_| missing > 0) {
            self.health.dropped(Kind::Logs, Cause::Behind, missing);
            let lost = Lost::Subscriber { events: missing };
            records.push(logs::lost(next.time, Some(self.signal), lost).encode(observed));
        }
        for item in items {
            let record = match &item.happened {
                Happened::Event(event) => self.tell.tell(item, event, &self.interfaces),
                Happened::Lost(lost) => Some(logs::lost(item.time, Some(self.signal), *lost)),
            };
            records.extend(record.map(|record| record.encode(observed)));
        }
        self.push(records);
    }

    fn push(&self, records: Vec<Bytes>) {
        if !records.is_empty() {
            let dropped = self.queue.push(records);
            self.health.dropped(Kind::Logs, Cause::Queue, dropped);
            let (records, bytes) = self.queue.len();
            self.health.queued(records, bytes);
        }
    }
}
