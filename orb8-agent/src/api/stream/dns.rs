//! `StreamDns`.

use orb8_proto::filter::DnsMatcher;
use orb8_proto::v1::StreamDnsResponse;

use super::Selection;
use crate::api::convert::Converter;
use crate::pipeline::{DnsEvent, DnsView, Happened, StreamItem};

/// Which exchanges a subscriber wants.
#[derive(Clone, Debug)]
pub(in crate::api) struct DnsSelection {
    pub(in crate::api) matcher: DnsMatcher,
}

impl Selection for DnsSelection {
    type Event = DnsEvent;
    type Response = StreamDnsResponse;

    fn wants(&self, item: &StreamItem<DnsEvent>, converter: &Converter) -> bool {
        match &item.happened {
            Happened::Event(event) => {
                self.matcher.matches(&DnsView { event, interfaces: &converter.interfaces })
            }
            Happened::Lost(_) => true,
        }
    }

    fn tell(&self, item: &StreamItem<DnsEvent>, converter: &Converter) -> StreamDnsResponse {
        converter.dns_event(item)
    }
}
