//! `StreamTcp`.

use orb8_proto::filter::TcpMatcher;
use orb8_proto::v1::StreamTcpResponse;

use super::Selection;
use crate::api::convert::Converter;
use crate::pipeline::{Happened, StreamItem, TcpEvent, TcpView};

/// Which events of connections a subscriber wants.
#[derive(Clone, Debug)]
pub(in crate::api) struct TcpSelection {
    pub(in crate::api) matcher: TcpMatcher,
    pub(in crate::api) include_self_traffic: bool,
}

impl Selection for TcpSelection {
    type Event = TcpEvent;
    type Response = StreamTcpResponse;

    fn wants(&self, item: &StreamItem<TcpEvent>, converter: &Converter) -> bool {
        match &item.happened {
            Happened::Event(event) => {
                (self.include_self_traffic || !event.self_traffic)
                    && self.matcher.matches(&TcpView { event, interfaces: &converter.interfaces })
            }
            Happened::Lost(_) => true,
        }
    }

    fn tell(&self, item: &StreamItem<TcpEvent>, converter: &Converter) -> StreamTcpResponse {
        converter.tcp_event(item)
    }
}
