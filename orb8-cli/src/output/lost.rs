//! Losses as objects.

use orb8_proto::v1::Lost;
use serde::Serialize;

use super::value::{Word, timestamp};

/// Something lost.
#[derive(Debug, Serialize)]
pub(crate) struct LostObject<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    node_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Word,
    events: u64,
    packets: u64,
    bytes: u64,
}

impl<'a> LostObject<'a> {
    pub(crate) fn new(lost: &Lost) -> Self {
        let Lost { events, packets, bytes, .. } = *lost;
        Self {
            r#type: "lost",
            time: None,
            node_name: "",
            source: lost.source().word(),
            events,
            packets,
            bytes,
        }
    }

    /// Says when and where it was lost.
    pub(super) fn at(self, time_ns: u64, node_name: &'a str) -> Self {
        Self { time: timestamp(time_ns), node_name, ..self }
    }
}
