//! An agent that answers from a recording: every command asks it as it asks any other.
//!
//! ```text
//! file ──▶ Recording ──▶ Archive ─┬ snapshots ──▶ queries  ┐
//!                          clock ─┴ events ─────▶ streams ─┴▶ OrbitAgentService ──▶ Client
//! ```
//! Lists answer as of the recording's end. What is watched answers as of a clock that goes from the
//! recording's beginning to its end at the pace at which it was made, and stays there.

use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use orb8_proto::units;
use orb8_proto::v1::orbit_agent_service_server::OrbitAgentServiceServer;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tonic::transport::{Channel, Endpoint, Server};

use crate::error::CliError;
use crate::recording::{Damage, Recording, RecordingError};
use archive::Archive;
pub(crate) use clock::{Clock, Pace, parse_speed};
use service::Service;

mod archive;
mod clock;
mod order;
mod past;
mod query;
mod service;
mod stream;
mod workloads;

/// Bytes on their way inside the process.
const BUFFER: usize = 256 << 10;

/// A recording that answers. It ends when this is dropped.
pub(crate) struct Replay {
    pub(crate) channel: Channel,
    pub(crate) clock: Clock,
    /// What of it cannot be read, for those who ask it.
    pub(crate) warning: Option<String>,
    server: JoinHandle<()>,
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Replay {
    /// Opens a recording. Call it within a runtime.
    pub(crate) async fn open(path: &Path, pace: Pace) -> Result<Self, CliError> {
        let owned = path.to_owned();
        // All of the file is read once.
        let opened = tokio::task::spawn_blocking(move || Recording::open(&owned)).await;
        let recording = match opened {
            Ok(Ok(recording)) => recording,
            Ok(Err(error)) => return Err(cannot_open(path, &error.problem)),
            Err(error) => return Err(CliError::Failed(format!("cannot replay: {error}"))),
        };
        let damage = recording.damage();
        let archive = Archive::new(recording);
        let (begin, end) = archive.span();
        let clock = Clock::new(begin, end, pace);
        let warning = warning(path, damage, &archive);
        let service = Service::new(Arc::new(archive), clock.clone());
        let (channel, server) = serve(service);
        Ok(Self { channel, clock, warning, server })
    }
}

/// Answers this process, and returns how to ask.
fn serve(service: Service) -> (Channel, JoinHandle<()>) {
    let (client, server) = tokio::io::duplex(BUFFER);
    let mut client = Some(TokioIo::new(client));
    let connector = tower::service_fn(move |_| {
        let gone = || std::io::Error::other("the replay in this process has stopped");
        std::future::ready(client.take().ok_or_else(gone))
    });
    // The name goes nowhere: the connector has the connection.
    let channel = Endpoint::from_static("http://replay").connect_with_connector_lazy(connector);
    // Never ends: the server would close its connections with it.
    let incoming =
        tokio_stream::once(Ok::<_, std::io::Error>(server)).chain(tokio_stream::pending());
    let serve = Server::builder()
        .add_service(OrbitAgentServiceServer::new(service))
        .serve_with_incoming(incoming);
    let server = tokio::spawn(async {
        // Who asks is told by the connection.
        let _ = serve.await;
    });
    (channel, server)
}

fn cannot_open(path: &Path, problem: &RecordingError) -> CliError {
    let remedy = match problem {
        RecordingError::NotARecording => "\n  name a file that `orb8 record -o FILE` made",
        RecordingError::Empty
        | RecordingError::NoHeader(_)
        | RecordingError::DamagedHeader
        | RecordingError::Newer { .. }
        | RecordingError::TooLarge(_)
        | RecordingError::Io(_) => "",
    };
    CliError::Failed(format!("cannot replay {}: {problem}{remedy}", path.display()))
}

/// Says what is missing of a recording, and what is there.
fn warning(path: &Path, damage: Damage, archive: &Archive) -> Option<String> {
    if damage.is_none() && !archive.has_unknown() {
        return None;
    }
    let Damage { cut_at, first_damaged, damaged, has_no_end } = damage;
    let mut problems = Vec::new();
    if let Some(at) = cut_at {
        problems.push(format!("it is cut off within the block at byte {at}"));
    }
    if let Some(at) = first_damaged {
        let blocks = if damaged == 1 { "a block is" } else { "blocks are" };
        problems.push(format!(
            "{blocks} damaged ({} in all, the first at byte {at}) and left out: copy the file again \
             where that can be",
            units::count(damaged),
        ));
    }
    if has_no_end && cut_at.is_none() {
        problems.push("it has no end: whoever recorded was killed, or still records".to_owned());
    }
    if archive.has_unknown() {
        problems.push(format!(
            "it has format {}, and some of its messages are of kinds that this orb8 leaves out: \
             update orb8",
            archive.version(),
        ));
    }
    let (begin, end) = archive.span();
    let length = units::duration(std::time::Duration::from_nanos(end - begin));
    Some(format!("{}: {}; {length} of it can be read", path.display(), problems.join("; ")))
}
