//! `orb8 trace gpu`: what happens to accelerators, and what is done with them.

use std::collections::BTreeMap;
use std::io;

use orb8_proto::columns::View;
use orb8_proto::columns::gpu::EVENTS;
use orb8_proto::units;
use orb8_proto::v1::{GpuEventKind, StreamGpuRequest, StreamGpuResponse};
use tonic::{Response, Status, Streaming};

use super::summary::Tally;
use super::{Stream, Told};
use crate::args::{GpuEventsArgs, StreamArgs};
use crate::commands::{GPU_LOST_IN_RING, counted};
use crate::connection::Connection;
use crate::output::{Machine, gpu};

impl Stream for GpuEventsArgs {
    const SIGNAL: &'static str = "gpu";
    const LOST_IN_RING: &'static str = GPU_LOST_IN_RING;
    const VIEW: &'static View<StreamGpuResponse> = &EVENTS;
    type Subject = StreamGpuResponse;
    type Message = StreamGpuResponse;
    type Tally = GpuTally;

    fn args(&self) -> &StreamArgs {
        &self.stream
    }

    async fn subscribe(
        &self,
        connection: &mut Connection,
    ) -> Result<Response<Streaming<StreamGpuResponse>>, Status> {
        let request = StreamGpuRequest {
            include: self.which.filters.include.clone(),
            exclude: self.which.filters.exclude.clone(),
            devices: self.which.device.clone(),
            kinds: self.kinds(),
            at_least: self.at_least().into(),
            last: self.stream.last.unwrap_or(0),
            no_follow: self.stream.is_past(),
            since_time_ns: self.stream.since.map(|since| connection.moment(since)),
        };
        connection.client.stream_gpu(request).await
    }

    fn told(event: &StreamGpuResponse) -> Told<'_, StreamGpuResponse> {
        match (event.kind(), &event.lost) {
            (_, Some(lost)) => Told::Lost(lost),
            (GpuEventKind::Unspecified | GpuEventKind::Lost, None) => Told::Nothing,
            (_, None) => Told::Row(event),
        }
    }

    fn write(
        machine: Machine,
        out: &mut dyn io::Write,
        event: &StreamGpuResponse,
    ) -> io::Result<()> {
        gpu::write_event(machine, out, event)
    }
}

/// How many events of each kind went by.
#[derive(Default)]
pub(crate) struct GpuTally {
    events: u64,
    /// By the kind's number: what befalls devices before what is done with them.
    kinds: BTreeMap<i32, u64>,
}

impl Tally<StreamGpuResponse> for GpuTally {
    fn add(&mut self, event: &StreamGpuResponse) {
        if let Told::Row(event) = GpuEventsArgs::told(event) {
            self.events += 1;
            *self.kinds.entry(event.kind).or_default() += 1;
        }
    }

    fn text(&self) -> String {
        let kind = |(kind, count): (&i32, &u64)| {
            let word = GpuEventKind::try_from(*kind).ok()?.word()?;
            Some(format!("{} {word}", units::count(*count)))
        };
        let kinds: Vec<String> = self.kinds.iter().filter_map(kind).collect();
        let events = counted(self.events, "event", "events");
        if kinds.is_empty() { events } else { format!("{events} ({})", kinds.join(", ")) }
    }
}
