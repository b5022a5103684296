//! How the watches fare, for status, readiness and metrics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::{index::Source, resources::Resource};

/// The health of all watches; cloning shares it.
#[derive(Clone, Debug)]
pub struct Health(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    watches: Box<[Mutex<WatchHealth>]>,
    synced: watch::Sender<bool>,
}

/// The health of one watch.
#[derive(Clone, Debug)]
pub struct WatchHealth {
    /// Which one.
    pub source: Source,
    /// What it watches.
    pub resource: &'static Resource,
    /// Where it is.
    pub state: WatchState,
    /// Its first list is complete.
    pub synced: bool,
    /// Lists that were asked for: one at the start, and one whenever there was no version to go on
    /// from.
    pub lists: u64,
    /// Watches that were opened again after one failed; the server's own timeouts do not count,
    /// unless they come at once.
    pub reconnections: u64,
    /// Watches that were given up for their silence.
    pub stalls: u64,
    /// Objects that could not be understood, and were left out.
    pub bad_objects: u64,
    /// Unix seconds of the last event or bookmark.
    pub last_sync: Option<u64>,
    /// Objects that the server has.
    pub objects: u64,
    /// What is wrong, and what to do; of the last failure while it lasts.
    pub error: Option<String>,
}

/// Where a watch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchState {
    /// It was not connected yet.
    Starting,
    /// It is open.
    Connected,
    /// It failed, and is tried again.
    Disconnected,
    /// The server does not have the resource.
    Skipped,
}

impl Health {
    pub(super) fn new(watches: impl IntoIterator<Item = (Source, &'static Resource)>) -> Self {
        let watches = watches.into_iter();
        let watches =
            watches.map(|(source, resource)| Mutex::new(WatchHealth::new(source, resource)));
        let (synced, _) = watch::channel(false);
        Self(Arc::new(Shared { watches: watches.collect(), synced }))
    }

    /// Each watch, in the order of the table of resources.
    pub fn watches(&self) -> Vec<WatchHealth> {
        self.0.watches.iter().map(|watch| lock(watch).clone()).collect()
    }

    /// One watch, if it runs.
    pub fn watch(&self, source: Source) -> Option<WatchHealth> {
        self.0.watches.iter().map(|watch| lock(watch).clone()).find(|watch| watch.source == source)
    }

    /// Whether every required watch is open. What the server lacks is not waited for:
    /// [`Self::lacking`] tells of it.
    pub fn is_connected(&self) -> bool {
        self.required(WatchHealth::is_connected)
    }

    /// What is lost because the server lacks a required resource.
    pub fn lacking(&self) -> Option<String> {
        let mut watches = self.0.watches.iter().map(|watch| lock(watch));
        watches.find_map(|watch| {
            let lacks = watch.resource.is_required() && watch.state == WatchState::Skipped;
            watch.error.clone().filter(|_| lacks)
        })
    }

    /// Whether the first list of every required resource is complete that the server has.
    pub fn is_synced(&self) -> bool {
        *self.0.synced.borrow()
    }

    /// Pods that the server has, of this node and of the others.
    pub fn pods_tracked(&self) -> u64 {
        let pods = [Source::LocalPods, Source::RemotePods];
        let watches = self.0.watches.iter().map(|watch| lock(watch));
        watches.filter(|watch| pods.contains(&watch.source)).map(|watch| watch.objects).sum()
    }

    /// Waits for the first lists; false when that takes longer.
    pub async fn synced(&self, within: Duration) -> bool {
        let mut synced = self.0.synced.subscribe();
        let waited = tokio::time::timeout(within, synced.wait_for(|synced| *synced)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// Changes what is known of a watch; what it was is handed out.
    pub(super) fn update<T>(&self, at: usize, change: impl FnOnce(&mut WatchHealth) -> T) -> T {
        let changed = change(&mut lock(&self.0.watches[at]));
        if !self.is_synced() && self.required(|watch| watch.synced) {
            self.0.synced.send_replace(true);
        }
        changed
    }

    fn required(&self, mut holds: impl FnMut(&WatchHealth) -> bool) -> bool {
        let mut watches = self.0.watches.iter().map(|watch| lock(watch));
        watches.all(|watch| {
            let is_waited_for = watch.resource.is_required() && watch.state != WatchState::Skipped;
            !is_waited_for || holds(&watch)
        })
    }
}

impl WatchHealth {
    fn new(source: Source, resource: &'static Resource) -> Self {
        Self {
            source,
            resource,
            state: WatchState::Starting,
            synced: false,
            lists: 0,
            reconnections: 0,
            stalls: 0,
            bad_objects: 0,
            last_sync: None,
            objects: 0,
            error: None,
        }
    }

    /// Whether it is open.
    pub fn is_connected(&self) -> bool {
        self.state == WatchState::Connected
    }

    /// Something came from the server.
    pub(super) fn heard(&mut self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.last_sync = now.ok().map(|since| since.as_secs());
    }
}

fn lock(watch: &Mutex<WatchHealth>) -> MutexGuard<'_, WatchHealth> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::RESOURCES;

    fn health() -> Health {
        Health::new([(Source::LocalPods, &RESOURCES[0]), (Source::Jobs, &RESOURCES[6])])
    }

    #[tokio::test]
    async fn what_is_required_decides() {
        let health = health();
        assert!(!health.is_connected() && !health.is_synced());
        health.update(0, |pods| {
            pods.state = WatchState::Connected;
            pods.objects = 4;
        });
        // Jobs are not waited for.
        assert!(health.is_connected() && !health.is_synced());
        assert!(!health.synced(Duration::from_millis(1)).await);
        health.update(0, |pods| pods.synced = true);
        assert!(health.synced(Duration::ZERO).await);
        assert_eq!(health.pods_tracked(), 4);
    }

    #[test]
    fn a_sync_once_made_stays_made() {
        let health = health();
        health.update(0, |pods| pods.synced = true);
        health.update(0, |pods| pods.state = WatchState::Disconnected);
        assert!(health.is_synced() && !health.is_connected());
    }

    #[test]
    fn what_the_server_lacks_is_not_waited_for_but_told() {
        let health = health();
        let skip = |watch: &mut WatchHealth| {
            watch.state = WatchState::Skipped;
            watch.error = Some(format!("no {}", watch.resource.plural));
        };
        health.update(1, skip);
        assert_eq!(health.lacking(), None);
        health.update(0, skip);
        assert!(health.is_connected() && health.is_synced());
        assert_eq!(health.lacking().as_deref(), Some("no pods"));
    }
}
