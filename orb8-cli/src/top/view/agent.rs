//! The agent's own state, as `orb8 status` prints it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::{put, quiet};
use crate::top::ansi;
use crate::top::model::Model;

pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    if model.report.is_empty() {
        return put(&Line::from(quiet("waiting for the agent …", model)), 0, area, buffer);
    }
    for (at, line) in (0..area.height).zip(model.report.iter().skip(model.report_cursor.offset)) {
        put(&ansi::line(line), at, area, buffer);
    }
}
