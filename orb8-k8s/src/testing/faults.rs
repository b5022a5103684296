//! What goes wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

/// What the server makes of `sendInitialEvents`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamingLists {
    /// It streams lists, as servers since 1.32.
    #[default]
    Offered,
    /// The parameters are not valid: 422, as servers since 1.19.
    Refused,
    /// It does not know them, as older servers and some proxies: the list has no end.
    Ignored,
    /// It ends the watch within the list, as a server or a proxy that is short of time.
    Cut,
}

pub(super) struct Faults {
    /// By verb and resource.
    pub(super) refused: BTreeMap<(String, String), u16>,
    pub(super) refused_all: Option<u16>,
    /// What refusals ask for.
    pub(super) retry_after: Option<Duration>,
    /// Most objects of a list, where the rest has to be asked for.
    pub(super) page: Option<usize>,
    pub(super) streaming: StreamingLists,
    pub(super) slow: Duration,
    pub(super) bookmarks: Option<Duration>,
    pub(super) frozen: watch::Sender<bool>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            refused: BTreeMap::new(),
            refused_all: None,
            retry_after: None,
            page: None,
            streaming: StreamingLists::default(),
            slow: Duration::ZERO,
            // A real server's minute would be too long for a test.
            bookmarks: Some(Duration::from_millis(100)),
            frozen: watch::channel(false).0,
        }
    }
}

impl Faults {
    /// The status that a verb on a resource gets.
    pub(super) fn refusal(&self, verb: &str, resource: &str) -> Option<u16> {
        let one = self.refused.get(&(verb.to_owned(), resource.to_owned())).copied();
        self.refused_all.or(one)
    }
}
