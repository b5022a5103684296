//! What the agent's own metrics are read from, all of it at one moment.

use std::sync::Arc;

use orb8_k8s::watch::WatchHealth;

use super::family::Text;
use crate::cost::OwnCost;
use crate::event::Signal;
use crate::otlp::{self, Cause, KindStatus, OtlpStatus};
use crate::pipeline::{Accounting, PipelineTotals, SharedPipeline, lock};
use crate::sources::flow::PROBE as NETWORK_RING;
use crate::status::{BpfRun, EngineStatus, RingStatus, SourceState, StatusBoard, watch_name};

/// A way to lose something. Each has a unit of its own.
pub(super) struct Loss {
    pub(super) cause: &'static str,
    count: fn(&Snapshot) -> u64,
    pub(super) what: &'static str,
}

macro_rules! losses {
    ($($cause:literal, $count:expr, $what:literal;)*) => {
        /// Every loss but those of rings.
        pub(super) const LOSSES: &[Loss] =
            &[$(Loss { cause: $cause, count: $count, what: $what }),*];
    };
}

losses! {
    "kernel_table", |at| at.accounting.lost.packets,
        "packets that neither the kernel's flow table nor the ring had room for";
    "undecoded", Snapshot::undecoded,
        "records of rings that do not decode";
    "unread_dns", |at| at.status.dns.unread,
        "DNS packets of which too little could be read";
    "evicted_query", |at| at.status.dns.evicted,
        "DNS queries that made room for others before an answer came";
    "evicted_flow", |at| at.accounting.evicted.flows,
        "flows that the full store let go before they ended; their counts are in all totals";
    "evicted_name", |at| at.totals.evicted_names,
        "names of DNS answers that were forgotten early for want of room";
    "untracked_connection", |at| at.totals.untracked + at.status.tcp.untracked,
        "TCP connections without figures for want of room";
    "subscriber", |at| at.totals.subscriber_lost,
        "events that slow subscribers did not get";
    "otlp", |at| at.export_drops().iter().map(|(_, count)| count).sum(),
        "log records and data points that the OTLP collector did not get";
    "admin", |at| at.status.admin.refusals().iter().map(|(_, count)| count).sum(),
        "connections to the admin address and scrapes that were refused or given up";
}

/// Rings have causes of their own, by probe.
pub(super) const RING_CAUSE: &str = "ring_";

/// Everything that the agent's own metrics are made of, read at once.
pub(super) struct Snapshot {
    pub(super) status: EngineStatus,
    pub(super) totals: PipelineTotals,
    pub(super) accounting: Accounting,
    pub(super) own: OwnCost,
}

impl Snapshot {
    pub(super) fn read(pipeline: &SharedPipeline, board: &StatusBoard) -> Self {
        let (status, totals) = (board.read(), lock(pipeline).totals());
        let accounting = Accounting::new(&status.kernel_counters, &totals);
        Self { status, totals, accounting, own: OwnCost::read() }
    }

    pub(super) fn rings<T>(&self, value: impl Fn(&RingStatus) -> T) -> Vec<(Text, T)> {
        self.status.rings.iter().map(|ring| (ring.probe.into(), value(ring))).collect()
    }

    pub(super) fn watches<T>(&self, value: impl Fn(&WatchHealth) -> T) -> Vec<(Text, T)> {
        let watches = &self.status.kubernetes.watches;
        watches.iter().map(|watch| (watch_name(watch).into(), value(watch))).collect()
    }

    pub(super) fn sources(&self) -> Vec<(Text, f64)> {
        // What this machine does not have is not down.
        let up = |state: &SourceState| match state {
            SourceState::Running => Some(1.0),
            SourceState::Skipped { .. } => Some(0.0),
            SourceState::Absent { .. } => None,
        };
        let sources = self.status.sources.iter();
        sources.filter_map(|source| Some((source.name.into(), up(&source.state)?))).collect()
    }

    pub(super) fn programs(&self, value: impl Fn(&BpfRun) -> u64) -> Vec<(Text, u64)> {
        let programs = self.status.programs.iter().filter(|program| program.run.runs > 0);
        programs.map(|program| (Arc::clone(&program.name).into(), value(&program.run))).collect()
    }

    pub(super) fn refusals(&self) -> Vec<(Text, u64)> {
        let refusals = self.status.admin.refusals();
        refusals.iter().map(|(cause, count)| ((*cause).into(), *count)).collect()
    }

    pub(super) fn drops(&self) -> Vec<(Text, u64)> {
        let ring = |ring: &RingStatus| {
            let cause: Arc<str> = format!("{RING_CAUSE}{}", ring.probe).into();
            (Text::from(cause), ring.drops)
        };
        let rings = self.status.rings.iter().map(ring);
        rings.chain(LOSSES.iter().map(|loss| (loss.cause.into(), (loss.count)(self)))).collect()
    }

    /// How the export to a collector fares; `None` where there is none.
    pub(super) const fn export(&self) -> Option<&OtlpStatus> {
        self.status.otlp.as_ref()
    }

    pub(super) fn exported<T>(&self, value: impl Fn(&KindStatus) -> T) -> Vec<(Text, T)> {
        let kinds = self.export().into_iter().flat_map(|otlp| {
            otlp::Kind::ALL.into_iter().map(|kind| (Text::from(kind.word()), otlp.of(kind)))
        });
        kinds.map(|(kind, status)| (kind, value(status))).collect()
    }

    pub(super) fn export_drops(&self) -> Vec<([Text; 2], u64)> {
        let by_kind = self.exported(|kind| kind.dropped);
        let by_cause = |(kind, dropped): (Text, [u64; Cause::ALL.len()])| {
            let causes = Cause::ALL.into_iter().zip(dropped);
            causes.map(move |(cause, count)| ([kind.clone(), cause.word().into()], count))
        };
        by_kind.into_iter().flat_map(by_cause).collect()
    }

    /// Records that the rings took and that told nothing.
    fn undecoded(&self) -> u64 {
        let EngineStatus { kernel_counters, dns, tcp, rings, .. } = &self.status;
        let lost = kernel_counters.lost_moments + dns.lost + tcp.lost;
        let signals = [NETWORK_RING, Signal::Dns.name(), Signal::Tcp.name()];
        let rings = rings.iter().filter(|ring| signals.contains(&ring.probe));
        lost.saturating_sub(rings.map(|ring| ring.drops).sum())
    }
}
