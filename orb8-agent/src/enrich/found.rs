//! The owners of the sockets that were found at one end. Those that are gone count only where there is
//! no other.

use std::sync::Arc;

use crate::identity::Workload;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) workload: Option<Arc<Workload>>,
    is_present: bool,
    /// Whether all of them are that one's.
    pub(super) is_one: bool,
}

impl Found {
    /// Adds one of them.
    pub(super) fn add(&mut self, workload: Arc<Workload>, is_present: bool) {
        let is_first = self.workload.is_none() || (is_present && !self.is_present);
        if !is_first && (self.is_present && !is_present) {
            return;
        }
        let is_same = self.workload.as_ref().is_some_and(|known| Arc::ptr_eq(known, &workload));
        self.is_one = is_first || (self.is_one && is_same);
        (self.workload, self.is_present) = (Some(workload), is_present);
    }
}
