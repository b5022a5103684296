//! What flows moved in the last minutes, bounded by age and by bytes.
//!
//! ```text
//! counts ──add──▶ open segment ──5 s, or a question──▶ segment ┐
//!                                                      segment ┼ chapter ──1 min──▶ chapter, chapter, …
//!                                                              ┘        oldest go first, by age and bytes
//! ```
//! A segment has what each flow added while it was open; a chapter has each of its flows described
//! once, whatever the number of segments that it moved in, so that nothing is allocated for a flow and
//! a chapter goes as a whole. Closed segments do not change any more: a question takes references under
//! the pipeline's lock and adds up outside of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::{FlowSample, UnixNanos};
use crate::store::Flow;
use segment::{Described, Open, Segment};

mod past;
mod segment;

pub use past::{Past, Window};

/// How exactly a window can be asked for, and what a flow that moves all the time costs: 24 bytes.
const SEGMENT: Duration = Duration::from_secs(5);

/// Chapters last between these. Each describes its flows anew, with 128 bytes.
const CHAPTER: (Duration, Duration) = (SEGMENT, Duration::from_secs(60));

/// Parts of the whole time that a chapter has.
const CHAPTERS_IN_TIME: u32 = 15;

/// Parts of the bytes that a chapter may have, and so what goes at once.
const CHAPTERS_IN_BYTES: usize = 8;

/// Parts of the bytes that the open segment may have.
const SEGMENTS_IN_BYTES: usize = 16;

/// Bounds of a [`History`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryConfig {
    /// How far it reaches back.
    pub keep: Duration,
    /// Bytes that it may have.
    pub bytes: usize,
}

/// See the [module](self).
#[derive(Debug)]
pub struct History {
    config: HistoryConfig,
    /// Complete ones, oldest first.
    chapters: VecDeque<Arc<Chapter>>,
    /// The one that segments are added to.
    chapter: Chapter,
    chapter_since: Instant,
    open: Open,
    open_since: Instant,
    /// Since when everything is known.
    start: UnixNanos,
}

/// Consecutive segments that share descriptions.
#[derive(Clone, Debug, Default)]
struct Chapter {
    segments: Vec<Arc<Segment>>,
    /// Flows described in them.
    flows: u32,
    bytes: usize,
    closed: Option<Instant>,
}

impl Chapter {
    /// Returns a description by its number in the chapter.
    fn described(&self, at: u32) -> Option<&Described> {
        let of =
            self.segments.partition_point(|segment| segment.first_flow <= at).checked_sub(1)?;
        let segment = &self.segments[of];
        segment.flows.get((at - segment.first_flow) as usize)
    }

    fn end(&self) -> Option<UnixNanos> {
        self.segments.last().map(|segment| segment.end)
    }
}

impl History {
    /// Makes an empty one that begins now.
    #[must_use]
    pub fn new(config: HistoryConfig, unix: UnixNanos, now: Instant) -> Self {
        Self {
            config,
            chapters: VecDeque::new(),
            chapter: Chapter::default(),
            chapter_since: now,
            open: Open::new(unix),
            open_since: now,
            start: unix,
        }
    }

    /// Adds what was counted for a flow, which has it already.
    pub fn add(&mut self, flow: &mut Flow, sample: &FlowSample) {
        if sample.packets == 0 && sample.bytes == 0 {
            return;
        }
        let at = self.describe(flow);
        self.open.add(at, sample);
        if self.open.used() >= self.config.bytes / SEGMENTS_IN_BYTES {
            // Earlier than the drain's end, which may bring any number of flows.
            self.close_segment(sample.last);
            self.close_chapter_if_large();
            self.trim_bytes();
        }
    }

    /// Ends a drain cycle: closes what is old enough, and lets go what is too old or too much.
    pub fn end_cycle(&mut self, unix: UnixNanos, now: Instant) {
        if now.saturating_duration_since(self.open_since) >= SEGMENT {
            self.close_segment(unix);
            self.open_since = now;
        }
        let (least, most) = CHAPTER;
        let length = (self.config.keep / CHAPTERS_IN_TIME).clamp(least, most);
        if now.saturating_duration_since(self.chapter_since) >= length {
            self.close_segment(unix);
            self.close_chapter(now);
        }
        self.close_chapter_if_large();
        while let Some(chapter) = self.chapters.front()
            && chapter.closed.is_some_and(|closed| now.duration_since(closed) >= self.config.keep)
        {
            self.forget_oldest();
        }
        self.trim_bytes();
    }

    /// Takes references to what happened in a window, and closes the open segment, so that a later
    /// window can begin here.
    pub fn look_back(
        &mut self,
        start: Option<UnixNanos>,
        end: Option<UnixNanos>,
        unix: UnixNanos,
    ) -> Past {
        self.close_segment(unix);
        let is_wanted = |chapter: &&Chapter| {
            start.is_none_or(|start| chapter.end().is_some_and(|end| end > start))
        };
        let complete = self.chapters.iter().map(|chapter| &**chapter);
        let chapters = complete.chain([&self.chapter]).filter(is_wanted);
        let chapters = chapters.map(|chapter| chapter.segments.clone()).collect();
        Past::new(chapters, start, end, Window { start: self.start, end: unix })
    }

    /// Returns the bytes that it has, reserved ones included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let complete: usize = self.chapters.iter().map(|chapter| chapter.bytes).sum();
        complete + self.chapter.bytes + self.open.bytes()
    }

    /// Returns since when it knows everything.
    #[must_use]
    pub const fn start(&self) -> UnixNanos {
        self.start
    }

    /// Returns the number of the flow's description in the open chapter, as the flow is now.
    fn describe(&mut self, flow: &mut Flow) -> u32 {
        let begins = flow.described == Flow::NOT_DESCRIBED;
        let first_open = self.chapter.flows;
        let at = flow.described;
        // The number may be one of an earlier chapter, where it was another flow's: the key tells.
        match at.checked_sub(first_open) {
            Some(open) => {
                if let Some(known) = self.open.flows.get_mut(open as usize)
                    && known.key == flow.key
                {
                    known.learn(flow);
                    return at;
                }
            }
            None => {
                if let Some(known) = self.chapter.described(at)
                    && known.key == flow.key
                    && known.is_current(flow)
                {
                    return at;
                }
            }
        }
        let at = first_open + self.open.flows.len() as u32;
        self.open.flows.push(Described::new(flow, begins));
        flow.described = at;
        at
    }

    fn close_segment(&mut self, unix: UnixNanos) {
        let Some(segment) = self.open.close(self.chapter.flows, unix) else { return };
        self.chapter.flows += segment.flows.len() as u32;
        self.chapter.bytes += segment.bytes();
        self.chapter.segments.push(Arc::new(segment));
    }

    fn close_chapter_if_large(&mut self) {
        let is_large = self.chapter.bytes >= self.config.bytes / CHAPTERS_IN_BYTES;
        // What is open refers to the chapter's descriptions.
        if is_large && self.open.is_empty() {
            self.close_chapter(self.open_since);
        }
    }

    /// Call it right after a segment was closed.
    fn close_chapter(&mut self, now: Instant) {
        self.chapter_since = now;
        if self.chapter.segments.is_empty() {
            return;
        }
        let mut chapter = std::mem::take(&mut self.chapter);
        chapter.closed = Some(now);
        chapter.segments.shrink_to_fit();
        self.open.forget_places();
        self.chapters.push_back(Arc::new(chapter));
    }

    fn trim_bytes(&mut self) {
        while self.bytes() > self.config.bytes && !self.chapters.is_empty() {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(chapter) = self.chapters.pop_front()
            && let Some(end) = chapter.end()
        {
            self.start = end;
        }
    }
}

#[cfg(test)]
mod tests;
