//! What is where, by the terminal's size alone: keys and clicks need to know it too.
//!
//! ```text
//! tabs
//! status
//! ┌ body: a list has its title, its header and its rows
//! │
//! └
//! prompt, message or keys
//! ```

use std::ops::Range;

use ratatui::layout::Rect;

use crate::top::Tab;

/// Below this there is only a message.
pub(in crate::top) const LEAST: (u16, u16) = (40, 10);

/// Lines above the body, and below it.
const ABOVE: u16 = 2;
const BELOW: u16 = 1;

/// Title and header of a list.
const HEAD: u16 = 2;

/// From this height on, sparklines have several lines.
const TALL: u16 = 35;

/// From this width on, lists stand side by side.
const WIDE: u16 = 120;

/// What the first line begins with.
pub(in crate::top) const NAME: &str = "orb8 ";

/// Lines of the body.
pub(in crate::top) const fn body((_, height): (u16, u16)) -> u16 {
    height.saturating_sub(ABOVE + BELOW)
}

/// The body.
pub(super) const fn body_area(size: (u16, u16)) -> Rect {
    Rect { x: 0, y: ABOVE, width: size.0, height: body(size) }
}

/// Rows of a list that fills the body.
pub(in crate::top) const fn rows(size: (u16, u16)) -> u16 {
    body(size).saturating_sub(HEAD)
}

/// Lines inside what is above the body.
pub(in crate::top) const fn overlay_rows(size: (u16, u16)) -> u16 {
    body(size).saturating_sub(2)
}

/// Parts of the overview.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overview {
    /// Two lines of meters, one or three lines high each.
    pub(super) meters: Rect,
    pub(super) meter_height: u16,
    pub(super) workloads: Rect,
    pub(super) problems: Rect,
}

pub(super) fn overview(size: (u16, u16)) -> Overview {
    let area = body_area(size);
    let meter_height = if size.1 >= TALL { 3 } else { 1 };
    let meters = Rect { height: (2 * meter_height).min(area.height), ..area };
    let used = (meters.height + 1).min(area.height);
    let rest = Rect { y: area.y + used, height: area.height - used, ..area };
    let (workloads, problems) = if size.0 >= WIDE {
        let left = size.0 * 3 / 5;
        let right = Rect { x: left + 2, width: size.0.saturating_sub(left + 2), ..rest };
        (Rect { width: left, ..rest }, right)
    } else {
        let below = (rest.height / 3).max(3).min(rest.height);
        let above = rest.height - below;
        (Rect { height: above, ..rest }, Rect { y: rest.y + above, height: below, ..rest })
    };
    Overview { meters, meter_height, workloads, problems }
}

/// Rows of the overview's list.
pub(in crate::top) fn overview_rows(size: (u16, u16)) -> u16 {
    overview(size).workloads.height.saturating_sub(HEAD)
}

/// Parts of the accelerators' tab: every device, what is not known, and who has what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::top) struct Gpu {
    pub(super) devices: Rect,
    pub(super) notes: Rect,
    pub(super) shares: Rect,
}

/// Lines for what is not known: two say what it is about.
const NOTES: u16 = 2;

/// Divides the body; devices take three fifths of it at most.
pub(in crate::top) fn gpu(size: (u16, u16), devices: usize, notes: usize) -> Gpu {
    let area = body_area(size);
    let wanted = |lines: usize| u16::try_from(lines).unwrap_or(u16::MAX);
    let most = area.height * 3 / 5;
    let notes = wanted(notes).min(NOTES).min(most / 4);
    let devices = wanted(devices.saturating_add(1)).min(most - notes);
    let part = |from: u16, height: u16| Rect { y: area.y + from, height, ..area };
    // A blank line where there is one to spare.
    let above = devices + notes;
    let blank = u16::from(above + 1 < most);
    Gpu {
        devices: part(0, devices),
        notes: part(devices, notes),
        shares: part(above + blank, area.height - above - blank),
    }
}

impl Gpu {
    /// Rows of its list.
    pub(in crate::top) const fn rows(self) -> u16 {
        self.shares.height.saturating_sub(HEAD)
    }

    /// Returns which row of its list is in a line of the screen.
    pub(in crate::top) fn row_at(self, line: u16) -> Option<u16> {
        let row = line.checked_sub(self.shares.y + HEAD)?;
        (row < self.rows()).then_some(row)
    }
}

/// Lines that say what an open workload is.
pub(super) const SUMMARY: u16 = 4;

/// An open workload's peers and flows.
pub(super) fn focus(size: (u16, u16)) -> (Rect, Rect) {
    let area = body_area(size);
    let used = SUMMARY.min(area.height);
    let rest = Rect { y: area.y + used, height: area.height - used, ..area };
    let above = (rest.height * 2 / 5).max(4).min(rest.height);
    let flows = Rect { y: rest.y + above, height: rest.height - above, ..rest };
    (Rect { height: above, ..rest }, flows)
}

/// Rows of both lists.
pub(in crate::top) fn focus_rows(size: (u16, u16)) -> (u16, u16) {
    let (peers, flows) = focus(size);
    (peers.height.saturating_sub(HEAD), flows.height.saturating_sub(HEAD))
}

/// Where each tab's name is in the first line: `1 overview`.
pub(super) fn tabs() -> impl Iterator<Item = (Range<u16>, Tab, String)> {
    let mut from = NAME.len() as u16;
    (1..).zip(Tab::ALL).map(move |(number, tab)| {
        let text = format!(" {number} {} ", tab.word());
        let at = from..from + text.len() as u16;
        from = at.end;
        (at, tab, text)
    })
}

/// Returns the tab whose name is in a column of the first line.
pub(in crate::top) fn tab_at(column: u16) -> Option<Tab> {
    tabs().find(|(at, ..)| at.contains(&column)).map(|(_, tab, _)| tab)
}

/// Returns which row of a list that fills the body is in a line of the screen.
pub(in crate::top) fn row_at(size: (u16, u16), line: u16) -> Option<u16> {
    let row = line.checked_sub(ABOVE + HEAD)?;
    (row < rows(size)).then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_outside_of_any_terminal() {
        for width in 0..200 {
            for height in 0..80 {
                let size = (width, height);
                let screen = Rect { x: 0, y: 0, width, height };
                let Overview { meters, workloads, problems, .. } = overview(size);
                let (peers, flows) = focus(size);
                let gpus = [(0, 0), (1, 9), (8, 1), (500, 3)].map(|(d, n)| gpu(size, d, n));
                let gpus = gpus.into_iter().flat_map(|of| [of.devices, of.notes, of.shares]);
                let areas = [body_area(size), meters, workloads, problems, peers, flows];
                for area in areas.into_iter().chain(gpus) {
                    let is_inside = screen.union(area) == screen || area.is_empty();
                    assert!(is_inside, "{area:?} of {size:?}");
                }
                assert!(workloads.intersection(problems).is_empty());
                assert!(peers.intersection(flows).is_empty());
            }
        }
    }

    #[test]
    fn clicks_find_what_they_are_on() {
        assert_eq!(tab_at(0), None);
        assert_eq!(tab_at(NAME.len() as u16), Some(Tab::Overview));
        assert_eq!(tab_at(200), None);
        let last = tabs().last().unwrap();
        assert_eq!(tab_at(last.0.end - 1), Some(Tab::Agent));
        assert!(last.0.end < 80, "they fit the usual terminal");
        assert_eq!((row_at((80, 24), 3), row_at((80, 24), 4)), (None, Some(0)));
        assert_eq!((row_at((80, 24), 22), row_at((80, 24), 23)), (Some(18), None));
    }
}
