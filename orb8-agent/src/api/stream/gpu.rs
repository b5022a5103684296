//! `StreamGpu`.

use orb8_proto::filter::GpuEventMatcher;
use orb8_proto::v1::{StreamGpuResponse, Workload};

use super::Selection;
use crate::api::convert::{self, Converter};
use crate::gpu::{Board, GpuEvent};
use crate::pipeline::{Happened, StreamItem};

/// Which events of accelerators a subscriber wants.
#[derive(Clone, Debug)]
pub(in crate::api) struct GpuSelection {
    pub(in crate::api) matcher: GpuEventMatcher,
    /// Where devices are among the others.
    pub(in crate::api) board: Board,
}

impl Selection for GpuSelection {
    type Event = GpuEvent;
    type Response = StreamGpuResponse;

    fn wants(&self, item: &StreamItem<GpuEvent>, _: &Converter) -> bool {
        let Happened::Event(event) = &item.happened else {
            return self.matcher.wants_kind(convert::gpu_kind(&item.happened), None);
        };
        let action = convert::gpu_action(event);
        self.matcher.wants_kind(convert::gpu_kind(&item.happened), action)
            && self.wants_device(event)
            && self.wants_owners(event)
    }

    fn tell(&self, item: &StreamItem<GpuEvent>, converter: &Converter) -> StreamGpuResponse {
        converter.gpu_event(item, &self.board.read())
    }
}

impl GpuSelection {
    fn wants_device(&self, event: &GpuEvent) -> bool {
        self.matcher.wants_all_devices() || {
            let view = self.board.read();
            self.matcher.wants_device(&convert::GpuPlace::new(event, &view).key())
        }
    }

    fn wants_owners(&self, event: &GpuEvent) -> bool {
        self.matcher.wants_all_owners() || {
            let owners: Vec<Workload> =
                event.owners.iter().filter_map(convert::gpu_owner).collect();
            self.matcher.wants_owners(&owners)
        }
    }
}
