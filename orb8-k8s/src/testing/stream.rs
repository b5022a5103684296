//! Watches: one line of JSON per event.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    State,
    answer::{status, trimmed},
    lock,
    selector::Selector,
    store::{self, Change},
};

/// What is to be sent.
pub(super) enum Pending {
    /// What happened to an object.
    Object(&'static str, Arc<Value>),
    /// A bookmark or an error.
    Event(Value),
}

/// A watch that is served.
pub(super) struct Watch {
    pub(super) state: Arc<State>,
    pub(super) resource: String,
    pub(super) selector: Selector,
    pub(super) metadata_only: bool,
    pub(super) bookmarks: bool,
    /// The server's timeout.
    pub(super) until: Instant,
    /// Everything up to it was sent.
    pub(super) version: u64,
    pub(super) pending: VecDeque<Pending>,
    pub(super) changed: watch::Receiver<u64>,
    pub(super) frozen: watch::Receiver<bool>,
    pub(super) next_bookmark: Instant,
    /// After the pending ones nothing comes.
    pub(super) over: bool,
}

impl Watch {
    /// Its lines; it ends with the server's timeout.
    pub(super) fn lines(self) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
        futures::stream::unfold(self, |mut watch| async move {
            let event = watch.next().await?;
            let mut line = event.to_string();
            line.push('\n');
            Some((Ok(Frame::data(Bytes::from(line))), watch))
        })
    }

    /// Sends the objects that there are, and a bookmark at the end if that is wanted.
    pub(super) fn send_initial(&mut self, with_end: bool) {
        let (objects, version) = self.state.store.list(&self.resource, None);
        let objects = objects.into_iter().filter(|(_, object)| self.selector.matches(object));
        self.pending.extend(objects.map(|(_, object)| Pending::Object("ADDED", object)));
        self.version = version;
        if with_end {
            let mut end = self.bookmark();
            end["object"]["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
            self.pending.push_back(Pending::Event(end));
        }
    }

    /// Sends that the version is too old, and no more.
    pub(super) fn send_too_old(&mut self) {
        self.send_error(status(410, "Expired", "too old resource version"));
    }

    /// Sends a status, and no more.
    pub(super) fn send_error(&mut self, status: Value) {
        let event = json!({"type": "ERROR", "object": status});
        self.pending.push_back(Pending::Event(event));
        self.over = true;
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            // A frozen server does not even end a watch.
            self.frozen.wait_for(|frozen| !frozen).await.ok()?;
            if let Some(event) = self.pending.pop_front() {
                let slow = lock(&self.state.faults).slow;
                if !slow.is_zero() {
                    sleep(slow).await;
                }
                return Some(self.event(event));
            }
            if self.over || Instant::now() >= self.until {
                return None;
            }
            self.catch_up();
            if self.pending.is_empty() {
                self.wait().await;
            }
        }
    }

    fn catch_up(&mut self) {
        // As etcd does it: nothing comes before the version.
        if self.state.store.is_ahead(self.version) {
            return;
        }
        match self.state.store.since(&self.resource, self.version) {
            Ok((changes, version)) => {
                let events = changes.iter().filter_map(|change| self.change(change));
                self.pending = events.collect();
                self.version = version;
            }
            Err(store::TooOld) => self.send_too_old(),
        }
    }

    /// Waits for a change, the time of a bookmark, the end, or a freeze.
    async fn wait(&mut self) {
        let every = lock(&self.state.faults).bookmarks.filter(|_| self.bookmarks);
        let every = every.filter(|_| !self.state.store.is_ahead(self.version));
        let bookmark = async {
            match every {
                Some(_) => sleep_until(self.next_bookmark).await,
                None => std::future::pending().await,
            }
        };
        let due = tokio::select! {
            _ = self.changed.changed() => false,
            _ = self.frozen.changed() => false,
            () = sleep_until(self.until) => false,
            () = bookmark => true,
        };
        if due {
            self.next_bookmark = Instant::now() + every.unwrap_or(Duration::MAX);
            let bookmark = self.bookmark();
            self.pending.push_back(Pending::Event(bookmark));
        }
    }

    /// What a change is to who sees only the objects of the selector.
    fn change(&self, change: &Change) -> Option<Pending> {
        let was = change.before.as_deref().is_some_and(|object| self.selector.matches(object));
        let is = !change.deleted && self.selector.matches(&change.object);
        let kind = match (was, is) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => {
                // The object as it was when it matched, with the version of the change.
                let mut last = change.before.as_deref().cloned()?;
                last["metadata"]["resourceVersion"] = json!(change.version.to_string());
                return Some(Pending::Object("DELETED", Arc::new(last)));
            }
            (false, false) => return None,
        };
        Some(Pending::Object(kind, Arc::clone(&change.object)))
    }

    fn event(&self, pending: Pending) -> Value {
        match pending {
            Pending::Object(kind, object) => {
                json!({"type": kind, "object": trimmed(&object, self.metadata_only)})
            }
            Pending::Event(event) => event,
        }
    }

    fn bookmark(&self) -> Value {
        let (version, kind) = store::kind(&self.resource).unwrap_or_default();
        let metadata = json!({"resourceVersion": self.version.to_string()});
        json!({"type": "BOOKMARK", "object": {"kind": kind, "apiVersion": version, "metadata": metadata}})
    }
}

/// Waits while the server is frozen.
pub(super) async fn thawed(mut frozen: watch::Receiver<bool>) {
    // An error says that the server is gone, and its connections with it.
    drop(frozen.wait_for(|frozen| !frozen).await);
}
