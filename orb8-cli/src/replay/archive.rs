//! A recording's snapshots and events, found by time.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use orb8_proto::v1::{
    GetStatusResponse, QueryDnsResponse, QueryFlowsResponse, QueryGpuResponse, QueryPodsResponse,
    QueryTcpResponse, QueryWorkloadsResponse, RecordingSnapshot, WorkloadGroup,
};
use prost::Message;

use crate::recording::{Frame, Frames, Kind, Recording, VERSION, Version};

/// Kinds of which a snapshot is made.
const PARTS: [Kind; 10] = [
    Kind::Flows,
    Kind::Dns,
    Kind::Tcp,
    Kind::Gpu,
    Kind::Pods,
    Kind::Status,
    Kind::Workloads,
    Kind::WorkloadPods,
    Kind::WorkloadContainers,
    Kind::Snapshot,
];

/// Bytes of rows in one message, at most: many times as many as are written.
const MAX_PART: usize = 1 << 20;

/// Rows of a snapshot, at most: of each list as many as an agent tells at once.
const MAX_ROWS: usize = 8 * 100_000;

/// A recording, with where its snapshots are.
pub(super) struct Archive {
    recording: Recording<File>,
    /// Oldest first.
    snapshots: Vec<Place>,
    /// The last one that was read, with its number.
    read: Mutex<Option<(usize, Arc<Snapshot>)>>,
}

/// Where a snapshot is.
#[derive(Clone, Copy, Debug)]
struct Place {
    time_ns: u64,
    /// Its first and its last block.
    blocks: (usize, usize),
}

/// What all queries answered at one time.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) flows: Option<QueryFlowsResponse>,
    pub(super) dns: Option<QueryDnsResponse>,
    pub(super) tcp: Option<QueryTcpResponse>,
    pub(super) gpu: Option<QueryGpuResponse>,
    pub(super) pods: Option<QueryPodsResponse>,
    pub(super) status: Option<GetStatusResponse>,
    workloads: [Option<QueryWorkloadsResponse>; 3],
}

impl Archive {
    pub(super) fn new(recording: Recording<File>) -> Self {
        let snapshots = find_snapshots(&recording);
        Self { recording, snapshots, read: Mutex::new(None) }
    }

    /// Returns when it begins and ends, Unix time in nanoseconds.
    pub(super) fn span(&self) -> (u64, u64) {
        let begin = self.recording.header().started_ns;
        let last = self.recording.blocks().checked_sub(1);
        let end = last.and_then(|last| self.recording.times(last)).map_or(begin, |(_, end)| end);
        (begin.min(end), end)
    }

    pub(super) fn node_name(&self) -> &str {
        &self.recording.header().node_name
    }

    /// Returns the signals that are in it.
    pub(super) fn signals(&self) -> &[String] {
        &self.recording.header().signals
    }

    pub(super) const fn version(&self) -> Version {
        self.recording.version()
    }

    /// Whether it may have messages that this build does not know.
    pub(super) fn has_unknown(&self) -> bool {
        self.recording.version().minor > VERSION.minor
    }

    /// Returns the numbers of the blocks that have a kind of message.
    pub(super) fn blocks_with(&self, kind: Kind) -> Vec<usize> {
        (0..self.recording.blocks()).filter(|block| self.recording.has(*block, kind)).collect()
    }

    /// Returns the frames of a block, for [`Frames`].
    pub(super) fn block(&self, block: usize) -> io::Result<Vec<u8>> {
        self.recording.block(block)
    }

    /// Returns the last complete snapshot of a time or before it, or else the first one; `None` where
    /// there is none.
    pub(super) fn snapshot(&self, time_ns: u64) -> io::Result<Option<Arc<Snapshot>>> {
        let after = self.snapshots.partition_point(|place| place.time_ns <= time_ns);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        for number in (0..after).rev().chain(after..self.snapshots.len()) {
            if let Some((_, snapshot)) = read.as_ref().filter(|(of, _)| *of == number) {
                return Ok(Some(Arc::clone(snapshot)));
            }
            if let Some(snapshot) = self.load(self.snapshots[number])? {
                let snapshot = Arc::new(snapshot);
                *read = Some((number, Arc::clone(&snapshot)));
                return Ok(Some(snapshot));
            }
        }
        Ok(None)
    }

    /// Reads a snapshot; `None` where a part of it is missing.
    fn load(&self, place: Place) -> io::Result<Option<Snapshot>> {
        let (first, last) = place.blocks;
        let mut snapshot = Snapshot::default();
        let (mut messages, mut rows) = (0, 0);
        for block in first..=last {
            let raw = self.block(block)?;
            for frame in Frames::new(&raw).filter(|frame| frame.time_ns == place.time_ns) {
                match frame.kind {
                    Some(Kind::Snapshot) => {
                        let end = decode::<RecordingSnapshot>(&frame)?;
                        return Ok((end.messages == messages).then_some(snapshot));
                    }
                    // Of a newer version; it is counted all the same.
                    None => messages += 1,
                    Some(kind) if PARTS.contains(&kind) => {
                        messages += 1;
                        rows += snapshot.add(kind, &frame)?;
                        if rows > MAX_ROWS {
                            return Err(too_large());
                        }
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(None)
    }
}

impl Snapshot {
    /// Returns the workloads as they were grouped.
    pub(super) fn workloads(&self, group: WorkloadGroup) -> Option<&QueryWorkloadsResponse> {
        let number = match group {
            WorkloadGroup::Unspecified | WorkloadGroup::Workload => 0,
            WorkloadGroup::Pod => 1,
            WorkloadGroup::Container => 2,
        };
        self.workloads[number].as_ref()
    }

    /// Adds a part of an answer, and returns its rows.
    fn add(&mut self, kind: Kind, frame: &Frame<'_>) -> io::Result<usize> {
        if kind != Kind::Status && frame.message.len() > MAX_PART {
            return Err(too_large());
        }
        let [workloads, pods, containers] = &mut self.workloads;
        match kind {
            Kind::Flows => add(&mut self.flows, frame, |answer| &mut answer.flows),
            Kind::Dns => add(&mut self.dns, frame, |answer| &mut answer.summaries),
            Kind::Tcp => add(&mut self.tcp, frame, |answer| &mut answer.connections),
            Kind::Gpu => add_gpu(&mut self.gpu, decode(frame)?),
            Kind::Pods => add(&mut self.pods, frame, |answer| &mut answer.pods),
            Kind::Workloads => add(workloads, frame, |answer| &mut answer.workloads),
            Kind::WorkloadPods => add(pods, frame, |answer| &mut answer.workloads),
            Kind::WorkloadContainers => add(containers, frame, |answer| &mut answer.workloads),
            Kind::Status => {
                self.status = Some(decode(frame)?);
                Ok(0)
            }
            Kind::FlowEvent
            | Kind::DnsEvent
            | Kind::TcpEvent
            | Kind::GpuEvent
            | Kind::Snapshot
            | Kind::End => Ok(0),
        }
    }
}

/// The first part has the totals, all of them have rows.
fn add<M: Message + Default, R>(
    answer: &mut Option<M>,
    frame: &Frame<'_>,
    rows: impl Fn(&mut M) -> &mut Vec<R>,
) -> io::Result<usize> {
    let mut part: M = decode(frame)?;
    let count = rows(&mut part).len();
    match answer {
        Some(answer) => rows(answer).append(rows(&mut part)),
        None => *answer = Some(part),
    }
    Ok(count)
}

/// The first part has what is no list, each has rows of one.
fn add_gpu(answer: &mut Option<QueryGpuResponse>, part: QueryGpuResponse) -> io::Result<usize> {
    let count = part.devices.len() + part.processes.len() + part.activity.len();
    match answer {
        Some(answer) => {
            answer.devices.extend(part.devices);
            answer.processes.extend(part.processes);
            answer.activity.extend(part.activity);
        }
        None => *answer = Some(part),
    }
    Ok(count)
}

fn too_large() -> io::Error {
    io::Error::other("a snapshot of the recording is larger than any that orb8 writes")
}

/// Reads a message.
pub(super) fn decode<M: Message + Default>(frame: &Frame<'_>) -> io::Result<M> {
    M::decode(frame.message).map_err(|error| {
        io::Error::other(format!("a message of the recording cannot be read: {error}"))
    })
}

/// A snapshot has blocks of its own, all of its time.
fn find_snapshots(recording: &Recording<File>) -> Vec<Place> {
    let mut found = Vec::new();
    let mut begun: Option<(u64, usize)> = None;
    for block in 0..recording.blocks() {
        let is_part = PARTS.iter().any(|kind| recording.has(block, *kind));
        let Some((first_ns, last_ns)) = recording.times(block).filter(|_| is_part) else {
            begun = None;
            continue;
        };
        if begun.is_none_or(|(time_ns, _)| time_ns != first_ns) {
            begun = Some((first_ns, block));
        }
        if recording.has(block, Kind::Snapshot)
            && let Some((time_ns, first)) = begun.take()
            && time_ns == last_ns
        {
            found.push(Place { time_ns, blocks: (first, block) });
        }
    }
    found
}
