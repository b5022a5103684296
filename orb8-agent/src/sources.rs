//! Where events come from: one module per signal, and `cgroup`, which tells whose they are.

pub mod cgroup;
pub mod dns;
pub mod flow;
pub mod gpu;
pub mod tcp;

use std::{io, os::fd::AsRawFd};

use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use crate::event::Event;
use crate::pipeline::{self, SharedPipeline};
use dns::DnsInlet;

/// Asks a running source to take in what was counted until now.
#[derive(Clone, Debug)]
pub struct DrainRequests(mpsc::Sender<oneshot::Sender<()>>);

/// The source's end of [`DrainRequests`].
pub(crate) type DrainQueue = mpsc::Receiver<oneshot::Sender<()>>;

impl DrainRequests {
    /// Makes both ends. One request is served and one waits; who asks more often waits to ask.
    pub(crate) fn channel() -> (Self, DrainQueue) {
        let (sender, queue) = mpsc::channel(1);
        (Self(sender), queue)
    }

    /// Waits until what was counted before the call is in the pipeline, or the source ended.
    pub async fn drain(&self) {
        let (done, drained) = oneshot::channel();
        if self.0.send(done).await.is_ok() {
            // The source drains once more when it ends, and then drops the sender.
            let _ = drained.await;
        }
    }
}

/// The way into the pipeline for what should find names there: what the `dns` ring holds goes first,
/// so that a connection to an address that was just looked up has its name.
struct Inflow {
    pipeline: SharedPipeline,
    names: Option<DnsInlet>,
}

impl Inflow {
    const fn new(pipeline: SharedPipeline, names: Option<DnsInlet>) -> Self {
        Self { pipeline, names }
    }

    /// Takes in a batch that was read just now, and leaves it empty.
    fn take_in(&self, batch: &mut Vec<Event>) {
        if batch.is_empty() {
            return;
        }
        // Read after the batch was: the answer that led to what is in it is there by now.
        if let Some(names) = &self.names {
            names.take_into(&self.pipeline);
        }
        pipeline::lock(&self.pipeline).ingest(batch);
    }
}

/// Waits until the rest is over and the ring has something.
async fn readable<R: AsRawFd>(
    ring: &AsyncFd<R>,
    rest: std::pin::Pin<&mut tokio::time::Sleep>,
) -> io::Result<()> {
    if !rest.is_elapsed() {
        rest.await;
    }
    // What comes after this is signalled again, and what came before is read next.
    ring.readable().await?.clear_ready();
    Ok(())
}
