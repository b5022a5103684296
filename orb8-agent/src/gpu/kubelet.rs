//! Asks the kubelet who was given which device (PodResources v1).
//!
//! ```text
//! each 10 s, or when somebody uses what nobody holds
//!   └─▶ List or Get ──▶ Listing: what was given, and what is wrong
//! GetAllocatableResources, each 5 minutes ─▶ whether devices are given here at all
//! ```
//! A kubelet that starts again makes its socket anew, and the connection with it. One that hangs or is
//! away changes nothing for a while: what was last known stays.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use orb8_proto::podresources::v1::{
    AllocatableResourcesRequest, GetPodResourcesRequest, ListPodResourcesRequest, PodResources,
    pod_resources_lister_client::PodResourcesListerClient,
};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::names;
use crate::error::chain;
use given::{Bounded, take};

mod given;

#[cfg(test)]
mod tests;

pub use super::names::claim::Claimed;
pub use given::{Given, PodName, What};

/// A pod starts, and is seen to hold its device no later; who uses one before is asked for at once.
const LIST_INTERVAL: Duration = Duration::from_secs(10);
/// Whether devices are given at all changes when a device plugin is installed.
const ALLOCATABLE_INTERVAL: Duration = Duration::from_mins(5);
/// All callers of a kubelet together may ask 100 times a second.
const REST: Duration = Duration::from_secs(1);
/// A kubelet answers within milliseconds, or it is in trouble.
const DEADLINE: Duration = Duration::from_secs(2);
/// An upgrade of a kubelet takes less, and of what holds a device few change meanwhile.
const KEEP: Duration = Duration::from_mins(5);
/// What a kubelet sends at most.
const MAX_MESSAGE: usize = 16 << 20;

type Client = PodResourcesListerClient<Channel>;

/// What is known of who was given what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// What was given to containers; shared, and another one when anything changed.
    pub given: Arc<[Given]>,
    /// When the kubelet said so; `None` where it never did, or that is too long ago.
    pub read: Option<Instant>,
    /// Why it does not say so now, and what to do.
    pub problem: Option<String>,
    /// Whether it gives accelerators at all: without a device plugin, who uses one was not given any.
    pub gives: bool,
    /// Whether it is not to be asked, by the settings.
    pub is_off: bool,
}

/// Where the last [`Listing`] is, and how a new one is asked for.
#[derive(Debug)]
pub struct Holders {
    listing: watch::Receiver<Listing>,
    wanted: mpsc::Sender<Option<PodName>>,
}

impl Holders {
    /// Returns what is known.
    #[must_use]
    pub fn listing(&self) -> Listing {
        self.listing.borrow().clone()
    }

    /// Asks anew, soon: of one pod where it is known which.
    pub fn want(&self, pod: Option<PodName>) {
        // One that waits already is as good.
        let _ = self.wanted.try_send(pod);
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Kubelet {
    socket: PathBuf,
    connection: Option<Connection>,
    /// The socket may be there and serve nothing of this.
    offers_get: bool,
    offers_allocatable: bool,
    next_allocatable: Option<Instant>,
    listing: Listing,
}

#[derive(Debug)]
struct Connection {
    client: Client,
    /// Inode of the socket: a new kubelet has a new one.
    socket: u64,
}

/// Why the kubelet did not tell.
#[derive(Debug, thiserror::Error)]
enum KubeletError {
    #[error(
        "no kubelet socket at {0}: mount its directory into the agent, or set --gpu-pod-resources"
    )]
    NoSocket(PathBuf),
    #[error("cannot connect to the kubelet at {socket}: {source}{remedy}", remedy = remedy(source))]
    Connect { socket: PathBuf, source: io::Error },
    #[error("cannot connect to the kubelet: {}", chain(.0))]
    Transport(#[from] tonic::transport::Error),
    #[error("the kubelet has not answered within {} s: see its log", DEADLINE.as_secs())]
    Late,
    #[error("the kubelet has no PodResources v1: it needs Kubernetes 1.20 or later")]
    Old,
    #[error("the connection to the kubelet broke: {}", .0.message())]
    Broken(#[source] Box<Status>),
    #[error("the kubelet answered with an error: {}", .0.message())]
    Refused(#[source] Box<Status>),
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run the agent as root",
        io::ErrorKind::ConnectionRefused => "; it is not running, or it is starting",
        _ => "",
    }
}

impl Kubelet {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            connection: None,
            offers_get: true,
            offers_allocatable: true,
            next_allocatable: None,
            listing: Listing::default(),
        }
    }

    /// Asks from now on, until it is cancelled.
    pub fn start(self, cancel: CancellationToken) -> Holders {
        let (sender, listing) = watch::channel(self.listing.clone());
        let (wanted, wants) = mpsc::channel(1);
        tokio::spawn(self.run(sender, wants, cancel));
        Holders { listing, wanted }
    }

    async fn run(
        mut self,
        listing: watch::Sender<Listing>,
        mut wants: mpsc::Receiver<Option<PodName>>,
        cancel: CancellationToken,
    ) {
        let mut pod = None;
        loop {
            let asked = cancel.run_until_cancelled(self.ask(pod.take(), Instant::now())).await;
            if asked.is_none() {
                return;
            }
            listing.send_if_modified(|known| {
                let is_new = *known != self.listing;
                known.clone_from(&self.listing);
                is_new
            });
            let next = tokio::time::Instant::now() + LIST_INTERVAL;
            // One that is in trouble is left alone.
            let rest = if self.listing.problem.is_some() { LIST_INTERVAL } else { REST };
            if cancel.run_until_cancelled(tokio::time::sleep(rest)).await.is_none() {
                return;
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep_until(next) => {}
                wanted = wants.recv() => match wanted {
                    Some(wanted) => pod = wanted,
                    None => return,
                },
            }
        }
    }

    /// Asks once, about one pod or all.
    pub async fn ask(&mut self, pod: Option<PodName>, now: Instant) -> &Listing {
        match self.told(pod, now).await {
            Ok((Bounded { given, problem }, read)) => {
                self.note_given(given);
                self.listing.read = read;
                self.listing.problem = problem;
                self.look_at_allocatable(now).await;
            }
            Err(error) => self.fail(&error, now),
        }
        &self.listing
    }

    /// Returns what was given, and of when the last list is. One pod's answer says nothing about the
    /// others: what they gave back, and what they were given meanwhile, shows in a list alone.
    async fn told(
        &mut self,
        pod: Option<PodName>,
        now: Instant,
    ) -> Result<(Bounded, Option<Instant>), KubeletError> {
        let read = self.listing.read;
        let is_recent =
            read.is_some_and(|read| now.saturating_duration_since(read) < LIST_INTERVAL);
        if let Some(pod) = pod.filter(|_| self.offers_get && is_recent)
            && let Some(got) = self.get(pod).await?
        {
            return Ok((got, read));
        }
        Ok((self.list().await?, Some(now)))
    }

    fn note_given(&mut self, given: Vec<Given>) {
        self.listing.gives |= !given.is_empty();
        if *self.listing.given != *given {
            self.listing.given = given.into();
        }
    }

    /// Keeps what was known for a while, and says so.
    fn fail(&mut self, error: &KubeletError, now: Instant) {
        let age = self.listing.read.map(|read| now.saturating_duration_since(read));
        let consequence = match age {
            Some(age) if age < KEEP => {
                format!("; who holds devices is as it was {} s ago", age.as_secs())
            }
            _ => {
                self.listing.read = None;
                self.listing.given = Arc::default();
                "; who holds devices is not known".to_owned()
            }
        };
        tracing::debug!(%error, "the kubelet was asked who holds devices");
        self.listing.problem = Some(format!("{error}{consequence}"));
    }

    async fn list(&mut self) -> Result<Bounded, KubeletError> {
        let pods = self
            .call(|mut client| async move {
                Ok(client.list(ListPodResourcesRequest {}).await?.into_inner().pod_resources)
            })
            .await?;
        Ok(take(pods))
    }

    /// Asks about one pod, and leaves the others as they are known; `None` where that tells nothing
    /// new, so that the list has to say.
    async fn get(&mut self, pod: PodName) -> Result<Option<Bounded>, KubeletError> {
        let PodName { namespace: pod_namespace, pod: pod_name } = pod.clone();
        let request = GetPodResourcesRequest { pod_name, pod_namespace };
        let told = self
            .call(|mut client| {
                let request = request.clone();
                async move { Ok(client.get(request).await?.into_inner().pod_resources) }
            })
            .await;
        match told {
            Ok(found) => {
                let mut bounded = take(found.into_iter().collect());
                let others = self.listing.given.iter().filter(|given| given.pod != pod);
                bounded.given.extend(others.cloned());
                bounded.given.sort_unstable();
                Ok(Some(bounded).filter(|got| *got.given != *self.listing.given))
            }
            // It is not offered, or switched off, or the pod is gone.
            Err(KubeletError::Old) => {
                self.offers_get = false;
                Ok(None)
            }
            Err(KubeletError::Refused(status)) => {
                self.offers_get = !status.message().contains("disabled");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Looks now and then whether there is anything to give. Claims (DRA) are not in it, and a resource
    /// that was given once shows that there is.
    async fn look_at_allocatable(&mut self, now: Instant) {
        let is_due = self.next_allocatable.is_none_or(|next| now >= next);
        if !is_due || !self.offers_allocatable {
            return;
        }
        self.next_allocatable = Some(now + ALLOCATABLE_INTERVAL);
        let told = self
            .call(|mut client| async move {
                let request = AllocatableResourcesRequest {};
                Ok(client.get_allocatable_resources(request).await?.into_inner().devices)
            })
            .await;
        match told {
            Ok(devices) => {
                self.listing.gives |= devices.iter().any(|of| {
                    of.device_ids.iter().any(|id| names::is_accelerator(&of.resource_name, id))
                });
            }
            Err(KubeletError::Old | KubeletError::Refused(_)) => self.offers_allocatable = false,
            Err(error) => tracing::debug!(%error, "the kubelet did not say what it can give"),
        }
    }

    /// Calls it, once more where the connection was an old one.
    async fn call<T, F>(&mut self, call: impl Fn(Client) -> F) -> Result<T, KubeletError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let was_open = self.connection.is_some();
        let first = self.call_once(&call).await;
        if matches!(first, Err(KubeletError::Broken(_))) && was_open {
            return self.call_once(&call).await;
        }
        first
    }

    async fn call_once<T, F>(&mut self, call: &impl Fn(Client) -> F) -> Result<T, KubeletError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let client = match timeout(DEADLINE, self.connect()).await {
            Ok(client) => client?,
            Err(_) => return Err(KubeletError::Late),
        };
        let result = match timeout(DEADLINE, call(client)).await {
            Ok(Ok(told)) => return Ok(told),
            Ok(Err(status)) => of_status(status),
            Err(_) => KubeletError::Late,
        };
        if matches!(result, KubeletError::Late | KubeletError::Broken(_)) {
            self.connection = None;
        }
        Err(result)
    }

    /// Returns a client on the socket that is there now.
    async fn connect(&mut self) -> Result<Client, KubeletError> {
        let found = std::fs::metadata(&self.socket);
        let socket = match found {
            Ok(found) => found.ino(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget_offers();
                return Err(KubeletError::NoSocket(self.socket.clone()));
            }
            Err(source) => {
                return Err(KubeletError::Connect { socket: self.socket.clone(), source });
            }
        };
        if let Some(Connection { client, .. }) =
            self.connection.as_ref().filter(|open| open.socket == socket)
        {
            return Ok(client.clone());
        }
        self.forget_offers();
        let channel = open(&self.socket).await?;
        let client = Client::new(channel).max_decoding_message_size(MAX_MESSAGE);
        self.connection = Some(Connection { client: client.clone(), socket });
        Ok(client)
    }

    /// The next kubelet may be another version.
    fn forget_offers(&mut self) {
        self.connection = None;
        self.offers_get = true;
        self.offers_allocatable = true;
        self.next_allocatable = None;
    }
}

/// Connects once: a connection that breaks is made anew by who sees where the socket is by then.
async fn open(socket: &Path) -> Result<Channel, KubeletError> {
    let connected = UnixStream::connect(socket).await;
    let stream =
        connected.map_err(|source| KubeletError::Connect { socket: socket.to_owned(), source })?;
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        std::future::ready(stream.take().ok_or(io::Error::from(io::ErrorKind::NotConnected)))
    });
    // The kubelet does not look at the name.
    Ok(Endpoint::from_static("http://localhost").connect_with_connector(connector).await?)
}

fn of_status(status: Status) -> KubeletError {
    let is_ours = std::error::Error::source(&status).is_some();
    match status.code() {
        Code::Unimplemented => KubeletError::Old,
        Code::DeadlineExceeded => KubeletError::Late,
        Code::Unavailable => KubeletError::Broken(Box::new(status)),
        Code::Unknown | Code::Cancelled if is_ours => KubeletError::Broken(Box::new(status)),
        _ => KubeletError::Refused(Box::new(status)),
    }
}
