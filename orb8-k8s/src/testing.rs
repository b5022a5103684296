//! A Kubernetes API server in the test's own process: objects, lists, watches, and faults.
//!
//! It serves what [`RESOURCES`](crate::resources::RESOURCES) names over HTTP on a port of
//! 127.0.0.1, to whoever asks, and remembers what was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::task::AbortOnDropHandle;

mod answer;
mod faults;
pub mod objects;
mod selector;
mod store;
mod stream;

pub use faults::StreamingLists;

use faults::Faults;
use store::Store;

/// The server; it ends with the last clone.
#[derive(Clone)]
pub struct ApiServer(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    state: Arc<State>,
    /// The task that accepts and serves, while the port is open.
    serving: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// The parameters of a request, by name.
pub type Parameters = BTreeMap<String, String>;

/// What the server's connections share.
struct State {
    store: Store,
    faults: Mutex<Faults>,
    /// What it was asked for, by verb and resource: the parameters of each request.
    asked: Mutex<BTreeMap<(String, String), Vec<Parameters>>>,
    /// Resources of which it was asked for more than metadata.
    asked_whole: Mutex<BTreeSet<String>>,
    connections: Mutex<Vec<AbortHandle>>,
}

impl ApiServer {
    /// Starts it without objects.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            store: Store::default(),
            faults: Mutex::default(),
            asked: Mutex::default(),
            asked_whole: Mutex::default(),
            connections: Mutex::default(),
        });
        let serving = Mutex::new(Some(serve(listener, Arc::clone(&state))));
        Ok(Self(Arc::new(Inner { address, state, serving })))
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// A client for it, made as the agent makes its own.
    ///
    /// # Panics
    /// Not for a URL of its own.
    pub fn client(&self) -> Client {
        let url = self.url().parse().expect("a URL of an address");
        crate::client::client(&Config::new(url)).expect("a client without credentials")
    }

    /// Writes a kubeconfig with one context, `test`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_kubeconfig(&self, path: &Path) -> io::Result<()> {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters:\n- name: test\n  cluster: {{ server: \"{}\" }}\n\
             contexts:\n- name: test\n  context: {{ cluster: test, user: test }}\n\
             users:\n- name: test\n  user: {{ token: test }}\n",
            self.url()
        );
        std::fs::write(path, text)
    }

    /// Creates an object or replaces it. What the server would add is added: uid, version, time.
    ///
    /// # Panics
    /// When it has no kind or name, or the kind is not served.
    pub fn apply(&self, object: Value) {
        self.0.state.store.apply(object);
    }

    /// Deletes an object by the plural name of its resource; an empty namespace is none. False if
    /// there was none.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> bool {
        self.0.state.store.delete(resource, namespace, name)
    }

    /// Forgets what happened so far: versions that are older get 410.
    pub fn compact(&self) {
        self.0.state.store.compact();
    }

    /// Begins again without objects and with old versions, as after etcd was restored from a backup.
    pub fn restore(&self) {
        self.0.state.store.restore();
    }

    /// Answers a verb on a resource with a status from now on.
    pub fn refuse(&self, verb: &str, resource: &str, code: u16) {
        self.faults().refused.insert((verb.to_owned(), resource.to_owned()), code);
    }

    /// Answers everything with a status from now on: 401 is an expired token, 503 a server that
    /// starts.
    pub fn refuse_all(&self, code: u16) {
        self.faults().refused_all = Some(code);
    }

    /// Asks with each refusal to be left alone for so long, in whole seconds; `None`: does not.
    pub fn set_retry_after(&self, wanted: Option<Duration>) {
        self.faults().retry_after = wanted;
    }

    /// Gives lists by pages of so many objects, whatever was asked for; `None`: does not.
    pub fn set_page(&self, objects: Option<usize>) {
        self.faults().page = objects;
    }

    /// Ends all refusals.
    pub fn permit(&self) {
        let mut faults = self.faults();
        faults.refused.clear();
        faults.refused_all = None;
    }

    /// Says whether lists can be streamed; they can be, at first.
    pub fn set_streaming_lists(&self, streaming: StreamingLists) {
        self.faults().streaming = streaming;
    }

    /// Waits before each event of a watch.
    pub fn slow_down(&self, per_event: Duration) {
        self.faults().slow = per_event;
    }

    /// Sends bookmarks so often; `None`: never.
    pub fn send_bookmarks(&self, every: Option<Duration>) {
        self.faults().bookmarks = every;
    }

    /// Falls silent: connections stay, and are accepted, but nothing comes.
    pub fn freeze(&self) {
        self.faults().frozen.send_replace(true);
    }

    /// Ends the silence.
    pub fn thaw(&self) {
        self.faults().frozen.send_replace(false);
    }

    /// Ends all connections, in the middle of what they send.
    pub fn cut(&self) {
        lock(&self.0.state.connections).drain(..).for_each(|connection| connection.abort());
    }

    /// Closes the port and all connections.
    pub fn close(&self) {
        drop(lock(&self.0.serving).take());
        self.cut();
    }

    /// Opens the same port again.
    ///
    /// # Errors
    /// When somebody else has taken it.
    pub async fn open(&self) -> io::Result<()> {
        let listener = rebind(self.0.address).await?;
        *lock(&self.0.serving) = Some(serve(listener, Arc::clone(&self.0.state)));
        Ok(())
    }

    /// What was asked for so far: verb, resource as in `jobs.batch`, and how often.
    pub fn asked(&self) -> Vec<(String, String, u64)> {
        let asked = lock(&self.0.state.asked);
        let times = |((verb, name), requests): (&(String, String), &Vec<_>)| {
            (verb.clone(), name.clone(), requests.len() as u64)
        };
        asked.iter().map(times).collect()
    }

    /// How often a verb was asked for on a resource.
    pub fn times_asked(&self, verb: &str, resource: &str) -> u64 {
        self.parameters(verb, resource).len() as u64
    }

    /// The parameters of each request for a verb on a resource.
    pub fn parameters(&self, verb: &str, resource: &str) -> Vec<Parameters> {
        let key = (verb.to_owned(), resource.to_owned());
        lock(&self.0.state.asked).get(&key).cloned().unwrap_or_default()
    }

    /// Resources of which more than metadata was asked for.
    pub fn asked_whole(&self) -> BTreeSet<String> {
        lock(&self.0.state.asked_whole).clone()
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.0.state.faults)
    }
}

/// Listens on an address again, for which the task that did so may have to end first.
///
/// # Errors
/// When it is still taken after a second.
pub async fn rebind(address: SocketAddr) -> io::Result<TcpListener> {
    for _ in 0..100 {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            listening => return listening,
        }
    }
    TcpListener::bind(address).await
}

/// Accepts connections and serves them until it is dropped; they are cut then.
fn serve(listener: TcpListener, state: Arc<State>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let served = Arc::clone(&state);
            let service = service_fn(move |request| answer::answer(Arc::clone(&served), request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A connection that fails is one that its client, or a test, has ended.
            let handle = connections.spawn(async move { drop(connection.await) });
            let mut live = lock(&state.connections);
            live.retain(|connection| !connection.is_finished());
            live.push(handle);
            while connections.try_join_next().is_some() {}
        }
    }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
