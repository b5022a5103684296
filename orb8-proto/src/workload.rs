//! Reading a [`WorkloadSummary`] as filters do.

use crate::filter::End;
use crate::flow::{owners_alone, present};
use crate::v1::{Workload, WorkloadSummary};

impl WorkloadSummary {
    /// It is whose both ends would be; only who that is can be asked.
    fn workload(&self, _: End) -> Option<&Workload> {
        self.workload.as_ref()
    }
}

owners_alone! { WorkloadSummary }
