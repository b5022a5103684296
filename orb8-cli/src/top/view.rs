//! Drawing what the model has.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::Tab;
use super::ansi;
use super::model::{Model, Overlay};
use crate::output::style;

mod agent;
pub(super) mod areas;
mod ascii;
mod edge;
mod focus;
mod gpu;
mod overlay;
mod overview;
mod rows;
#[cfg(test)]
mod tests;

pub(super) use ascii::Charset;
use rows::Widths;

/// What is remembered from one frame to the next, so that columns do not jump.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    list: Widths,
    peers: Widths,
    devices: Widths,
    charset: Charset,
}

impl Canvas {
    pub(super) fn new(charset: Charset) -> Self {
        Self { charset, ..Self::default() }
    }
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, canvas: &mut Canvas) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    let (width, height) = areas::LEAST;
    if area.width < width || area.height < height {
        too_small(area, buffer);
    } else {
        // As of the frame: the model may not have heard of a new size yet.
        let size = (area.width, area.height);
        edge::tabs(model, area, buffer);
        edge::status(model, area, buffer);
        body(model, canvas, size, buffer);
        edge::last_line(model, area, buffer);
    }
    ascii::replace(buffer, canvas.charset);
}

fn body(model: &Model, canvas: &mut Canvas, size: (u16, u16), buffer: &mut Buffer) {
    let area = areas::body_area(size);
    if model.focus.is_some() {
        focus::draw(model, canvas, size, buffer);
    } else {
        match model.tab {
            Tab::Overview => overview::draw(model, &mut canvas.list, size, buffer),
            Tab::Flows => rows::list(&model.flows, model, &mut canvas.list, area, buffer),
            Tab::Workloads => rows::list(&model.workloads, model, &mut canvas.list, area, buffer),
            Tab::Dns => rows::list(&model.dns, model, &mut canvas.list, area, buffer),
            Tab::Tcp => rows::list(&model.tcp, model, &mut canvas.list, area, buffer),
            Tab::Gpu => gpu::draw(model, canvas, size, buffer),
            Tab::Agent => agent::draw(model, area, buffer),
        }
    }
    match &model.overlay {
        Some(Overlay::Help(cursor)) => overlay::help(*cursor, model, area, buffer),
        Some(Overlay::Details { title, rows, cursor }) => {
            overlay::details(title, rows, *cursor, model, area, buffer);
        }
        None => {}
    }
}

fn too_small(area: Rect, buffer: &mut Buffer) {
    let (width, height) = areas::LEAST;
    let text =
        format!("orb8 top needs {width}x{height}, this is {}x{}; q quits", area.width, area.height);
    Paragraph::new(text).wrap(Wrap { trim: true }).render(area, buffer);
}

/// Writes a line of an area, where it has that line.
fn put(line: &Line<'_>, at: u16, area: Rect, buffer: &mut Buffer) {
    let area = area.intersection(*buffer.area());
    if at < area.height {
        buffer.set_line(area.x, area.y + at, line, area.width);
    }
}

/// Styles a text as commands do.
fn styled(text: impl Into<String>, of: anstyle::Style, model: &Model) -> Span<'static> {
    Span::styled(text.into(), ansi::style(of, model.settings.colors))
}

fn quiet(text: impl Into<String>, model: &Model) -> Span<'static> {
    styled(text, style::QUIET, model)
}

/// What keys act on; without colours too.
const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Cuts a text that has no room.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain(['…']).collect()
}
