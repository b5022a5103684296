//! `StreamEvents`.

use orb8_proto::filter::Matcher;
use orb8_proto::v1::{EventKind, StreamEventsResponse};

use super::Selection;
use crate::api::convert::{self, Converter};
use crate::pipeline::{FlowEvent, Happened, StreamItem};
use crate::store::FlowView;

/// Which events of flows a subscriber wants.
#[derive(Clone, Debug)]
pub(in crate::api) struct FlowSelection {
    pub(in crate::api) matcher: Matcher,
    pub(in crate::api) include_self_traffic: bool,
    /// All but closings, when empty.
    pub(in crate::api) kinds: Vec<EventKind>,
}

impl Selection for FlowSelection {
    type Event = FlowEvent;
    type Response = StreamEventsResponse;

    fn wants(&self, item: &StreamItem<FlowEvent>, converter: &Converter) -> bool {
        let kind = convert::kind(item);
        let is_wanted = if self.kinds.is_empty() {
            kind != EventKind::FlowClosing
        } else {
            self.kinds.contains(&kind)
        };
        if !is_wanted {
            return false;
        }
        let Happened::Event(FlowEvent { row, .. }) = &item.happened else {
            return true;
        };
        let view = FlowView { flow: &row.flow, interfaces: &converter.interfaces };
        (self.include_self_traffic || !row.flow.self_traffic)
            && (self.matcher.is_empty() || self.matcher.matches(&view))
    }

    fn tell(&self, item: &StreamItem<FlowEvent>, converter: &Converter) -> StreamEventsResponse {
        converter.flow_event(item)
    }
}
