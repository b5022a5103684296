//! What flows moved in a part of time: asked of the history, without holding the pipeline for it.

use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;

use super::{Pipeline, SharedPipeline, lock};
use crate::event::UnixNanos;
use crate::history::{Past, Window};
use crate::identity::Workload;
use crate::store::{FlowRow, InterfaceNames, Page, Query};

/// Owners that are looked at again before others have the pipeline.
const NAMES_AT_ONCE: usize = 64;

/// Rows whose connections are looked up before others have the pipeline.
const ROWS_AT_ONCE: usize = 1_024;

/// An answer from the history.
#[derive(Clone, Debug)]
pub struct PastPage {
    /// The flows, with what they moved in the window.
    pub page: Page,
    /// What their counts are of.
    pub window: Window,
    /// Since when everything is known.
    pub reaches_back_to: UnixNanos,
}

/// Returns the flows that moved in a query's window; `None` where there is no history.
///
/// The pipeline is locked for moments only, but the answer takes its time: call it where that holds up
/// nobody.
#[must_use]
pub fn query_past(
    pipeline: &SharedPipeline,
    query: &Query,
    interfaces: &InterfaceNames,
) -> Option<PastPage> {
    let past = lock(pipeline).look_back(query)?;
    let mut names = HashMap::new();
    for cgroups in past.unnamed().chunks(NAMES_AT_ONCE) {
        lock(pipeline).find_owners(cgroups, &mut names);
    }
    let mut page = past.page(query, interfaces, &names);
    // How connections are is known of now.
    if query.end.is_none() {
        for rows in page.rows.chunks_mut(ROWS_AT_ONCE) {
            lock(pipeline).add_health(rows);
        }
    }
    Some(PastPage { page, window: past.window(), reaches_back_to: past.reaches_back_to() })
}

impl Pipeline {
    fn look_back(&mut self, query: &Query) -> Option<Past> {
        let now = self.clock.now();
        Some(self.history.as_mut()?.look_back(query.start, query.end, now))
    }

    fn find_owners(&mut self, cgroups: &[u64], owners: &mut HashMap<u64, Arc<Workload>>) {
        let now = Instant::now();
        let found = cgroups.iter().filter_map(|id| Some((*id, self.enrich.owner(*id, now)?)));
        owners.extend(found);
    }

    fn add_health(&self, rows: &mut [FlowRow]) {
        for row in rows {
            row.tcp = self.connections.health_of(&row.flow);
        }
    }
}
