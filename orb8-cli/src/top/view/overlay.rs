//! What is above the body: help, and all that is known of a row.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Widget};

use super::{cut, put, quiet, styled};
use crate::output::style;
use crate::top::keys::BINDINGS;
use crate::top::list::Cursor;
use crate::top::model::Model;

pub(super) fn help(cursor: Cursor, model: &Model, area: Rect, buffer: &mut Buffer) {
    let rows = BINDINGS.iter().map(|binding| (binding.shown, binding.doc));
    table("keys", rows, cursor, model, area, buffer);
}

pub(super) fn details(
    title: &str,
    rows: &[(&'static str, String)],
    cursor: Cursor,
    model: &Model,
    area: Rect,
    buffer: &mut Buffer,
) {
    table(title, rows.iter().map(|(name, value)| (*name, &**value)), cursor, model, area, buffer);
}

fn table<'a>(
    title: &str,
    rows: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    cursor: Cursor,
    model: &Model,
    area: Rect,
    buffer: &mut Buffer,
) {
    Clear.render(area, buffer);
    let count = rows.clone().count();
    let page = usize::from(area.height.saturating_sub(2));
    let last = (cursor.offset + page).min(count);
    let more = if last < count { format!(" {} more below ", count - last) } else { String::new() };
    let block = Block::bordered()
        .title(styled(format!(" {title} "), style::HEADER, model))
        .title_bottom(quiet(more, model))
        .title_bottom(Line::from(quiet(" Esc goes back ", model)).right_aligned());
    let inside = block.inner(area);
    block.render(area, buffer);
    let names = rows.clone().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let room = usize::from(inside.width).saturating_sub(names + 2);
    for (at, (name, value)) in (0..inside.height).zip(rows.skip(cursor.offset)) {
        let name = styled(format!("{name:names$}"), style::HEADER, model);
        let line = Line::from(vec![name, Span::raw("  "), Span::raw(cut(value, room))]);
        put(&line, at, inside, buffer);
    }
}
