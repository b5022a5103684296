//! Places in a program that ask for memory, and what is outstanding of each.

use hashbrown::HashMap;

use super::leak::SCALES;
use super::stacks::{Frames, Stack};
use crate::gpu::activity::Site;

/// Places of one process that are told apart. What has no row is in no site.
const MAX_SITES: usize = 256;
/// Places that are told.
const TOLD: usize = 16;
/// Lowest marks that are kept of each, at each scale.
const MARKS: usize = 8;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Sites {
    rows: Vec<Row>,
    places: HashMap<Stack, u32>,
    windows: usize,
}

#[derive(Debug)]
struct Row {
    stack: Stack,
    outstanding: u64,
    count: u64,
    is_pinned: bool,
    /// By scale: the lowest mark until now, and those before, the latest last.
    lows: [u64; SCALES.len()],
    marks: [[u64; MARKS]; SCALES.len()],
}

impl Sites {
    /// Adds an allocation to its place. Returns the place's number; `None` without room.
    pub(super) fn take(&mut self, stack: Stack, bytes: u64, is_pinned: bool) -> Option<u32> {
        let number = match self.places.get(&stack) {
            Some(number) => *number,
            None => self.add(stack, is_pinned)?,
        };
        let row = &mut self.rows[number as usize];
        row.outstanding = row.outstanding.saturating_add(bytes);
        row.count += 1;
        Some(number)
    }

    /// Takes an allocation from its place.
    pub(super) fn give_back(&mut self, number: u32, bytes: u64) {
        let row = &mut self.rows[number as usize];
        row.outstanding = row.outstanding.saturating_sub(bytes);
        row.count = row.count.saturating_sub(1);
        row.lows = row.lows.map(|low| low.min(row.outstanding));
    }

    /// Begins the first window of the verdict on leaks: what is there was there before.
    pub(super) fn begin_window(&mut self) {
        self.windows = 0;
        for row in &mut self.rows {
            row.lows = [row.outstanding; _];
            row.marks = [[row.outstanding; MARKS]; _];
        }
    }

    /// Ends a window of the verdict on leaks.
    pub(super) fn end_window(&mut self) {
        self.windows += 1;
        for row in &mut self.rows {
            for (scale, together) in SCALES.into_iter().enumerate() {
                if self.windows.is_multiple_of(together) {
                    row.marks[scale].rotate_left(1);
                    row.marks[scale][MARKS - 1] = row.lows[scale];
                    row.lows[scale] = row.outstanding;
                }
            }
        }
    }

    /// Returns the places with most outstanding, and what that is in all, bytes.
    pub(super) fn largest(&self, frames: &mut Frames<'_>) -> (Vec<Site>, u64) {
        let mut rows = Vec::from_iter(self.rows.iter().filter(|row| row.outstanding > 0));
        rows.sort_by_key(|row| std::cmp::Reverse(row.outstanding));
        rows.truncate(TOLD);
        let named = rows.iter().map(|row| row.outstanding).sum();
        (rows.into_iter().map(|row| row.site(frames)).collect(), named)
    }

    /// Returns the place of device memory whose lowest mark grew most over the last windows of a scale.
    pub(super) fn grown(
        &self,
        scale: usize,
        windows: u32,
        frames: &mut Frames<'_>,
    ) -> Option<Site> {
        let first = MARKS.saturating_sub(1 + windows as usize);
        let grown = |row: &Row| row.marks[scale][MARKS - 1].saturating_sub(row.marks[scale][first]);
        let rows = self.rows.iter().filter(|row| !row.is_pinned && grown(row) > 0);
        rows.max_by_key(|row| grown(row)).map(|row| row.site(frames))
    }

    fn add(&mut self, stack: Stack, is_pinned: bool) -> Option<u32> {
        let number = if self.rows.len() < MAX_SITES {
            self.rows.len()
        } else {
            // One whose memory was given back makes room.
            let free = self.rows.iter().position(|row| row.count == 0)?;
            self.places.remove(&self.rows[free].stack);
            free
        };
        let row = Row {
            stack: stack.clone(),
            outstanding: 0,
            count: 0,
            is_pinned,
            lows: [0; _],
            marks: [[0; MARKS]; _],
        };
        match self.rows.get_mut(number) {
            Some(free) => *free = row,
            None => self.rows.push(row),
        }
        let number = u32::try_from(number).ok()?;
        self.places.insert(stack, number);
        Some(number)
    }
}

impl Row {
    fn site(&self, frames: &mut Frames<'_>) -> Site {
        Site { frames: frames.of(&self.stack), outstanding: self.outstanding, count: self.count }
    }
}

#[cfg(test)]
mod tests;
