//! The probes, and what they told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use orb8_agent::ebpf::{GpuObject, GpuOptions, GpuSums, RingReader};
use orb8_agent::gpu::config::Roots;
use orb8_agent::gpu::cuda::Attachments;
use orb8_common::gpu::{Collectives, CollectivesKey, Counter, Process, Record};

/// Attached probes with what reads them.
pub(super) struct Watch {
    pub(super) attachments: Attachments,
    pub(super) sums: GpuSums,
    ring: RingReader,
    /// A time that goes on as the test wants.
    pub(super) now: Instant,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self::with(&GpuOptions::default())
    }

    pub(super) fn with(options: &GpuOptions) -> Self {
        let GpuObject { probes, sums, ring } = GpuObject::load(options).expect("the object");
        let attachments = Attachments::new(probes, &Roots::default());
        Self { attachments, sums, ring, now: Instant::now() }
    }

    /// Follows processes until they have so many libraries that are watched.
    pub(super) fn follow(&mut self, pids: &[u32], libraries: usize) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            self.now += Duration::from_secs(33);
            self.attachments.follow(pids, self.now);
            let has_all = |pid: &u32| self.attachments.coverage(*pid).libraries.len() == libraries;
            if pids.iter().all(has_all) {
                return;
            }
            let coverage: Vec<_> = pids.iter().map(|pid| self.attachments.coverage(*pid)).collect();
            assert!(Instant::now() < until, "{coverage:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What a process did.
    pub(super) fn process(&mut self, pid: u32) -> Option<Process> {
        let mut found = None;
        let read = self.sums.processes(|tgid, process| {
            if tgid == pid {
                found = Some(*process);
            }
        });
        read.expect("the sums");
        found
    }

    pub(super) fn collectives(&mut self, pid: u32) -> BTreeMap<(u64, u32), Collectives> {
        let mut found = BTreeMap::new();
        let read = self.sums.collectives(|CollectivesKey { communicator, tgid, kind }, counted| {
            if tgid == pid {
                found.insert((communicator, kind), *counted);
            }
        });
        read.expect("the sums");
        found
    }

    /// Everything that was told since the last time.
    pub(super) fn records(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        self.ring.read(|bytes| records.push(Record::read(bytes).expect("a record")));
        records
    }

    pub(super) fn counter(&self, counter: Counter) -> u64 {
        self.sums.counters().expect("the counters")[counter as usize]
    }
}
