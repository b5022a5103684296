//! What a trace says of itself when it ends.

use std::time::Instant;

use orb8_proto::units;

use super::{Stream, Told};

/// Counts what goes by, beyond what is lost.
pub(crate) trait Tally<M>: Default {
    fn add(&mut self, message: &M);

    /// Says what went by: `5 flows, 1.2MB`.
    fn text(&self) -> String;
}

/// What went by.
pub(super) struct Summary<S: Stream> {
    /// `None` where nothing was waited for: the past is read in no time.
    began: Option<Instant>,
    tally: S::Tally,
    lost_events: u64,
    lost_packets: u64,
}

impl<S: Stream> Summary<S> {
    pub(super) fn new(is_past: bool) -> Self {
        Self {
            began: (!is_past).then(Instant::now),
            tally: S::Tally::default(),
            lost_events: 0,
            lost_packets: 0,
        }
    }

    pub(super) fn add(&mut self, message: &S::Message) {
        if let Told::Lost(lost) = S::told(message) {
            self.lost_events = self.lost_events.saturating_add(lost.events);
            self.lost_packets = self.lost_packets.saturating_add(lost.packets);
        }
        self.tally.add(message);
    }

    pub(super) fn text(&self) -> String {
        let lost = match (self.lost_events, self.lost_packets) {
            (0, 0) => "nothing lost".to_owned(),
            (events, 0) => format!("{} events lost", units::count(events)),
            (0, packets) => format!("{} packets lost", units::count(packets)),
            (events, packets) => {
                format!(
                    "{} events and {} packets lost",
                    units::count(events),
                    units::count(packets)
                )
            }
        };
        let took = self.began.map(|began| format!(" in {}", units::duration(began.elapsed())));
        format!("{}, {lost}{}", self.tally.text(), took.unwrap_or_default())
    }
}
