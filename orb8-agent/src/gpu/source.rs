//! What every place that devices can be read from has in common.

use std::future::Future;

use super::device::SourceKind;
use super::reading::Reading;

/// Reads devices, and who uses them, from one place.
///
/// The collector reads each source in a task of its own and waits for it no longer than a second; a
/// source that is late is told as such and read again when it is done.
pub trait Source: Send {
    /// Returns where it reads.
    fn kind(&self) -> SourceKind;

    /// Reads everything once, in less than a second: what blocks is left behind.
    ///
    /// # Errors
    ///
    /// [`SourceError::Absent`] where there is nothing to read, [`SourceError::Failed`] where there is
    /// and it could not be read this time.
    fn read(&mut self) -> impl Future<Output = Result<Reading, SourceError>> + Send;

    /// Returns how many values it left out since start since they made no sense.
    fn invalid(&self) -> u64 {
        0
    }

    /// Returns the values that it asked for and was not told since start, other than those that its
    /// devices do not have.
    fn unread(&self) -> Unread {
        Unread::default()
    }
}

/// Values that were asked for and not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// How many.
    pub count: u64,
    /// What was asked for last, and what went wrong.
    pub last: Option<String>,
}

impl Unread {
    /// Says what there was no room for.
    pub(super) fn beyond(count: u64, what: impl FnOnce() -> String) -> Self {
        Self { count, last: (count > 0).then(what) }
    }

    /// Adds what another place did not tell.
    pub(super) fn and(self, other: Self) -> Self {
        Self { count: self.count + other.count, last: other.last.or(self.last) }
    }
}

/// Why a source tells nothing, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It is not there. It is asked again every 30 s.
    #[error("{0}")]
    Absent(String),
    /// It is there and could not be read. It is asked again in the next interval.
    #[error("{0}")]
    Failed(String),
}
