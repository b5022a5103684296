//! Lists: the tables that commands print, with a selected row and sparklines.

use std::hash::{DefaultHasher, Hash, Hasher};

use orb8_proto::columns::{Subject, View};
use orb8_proto::units;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Sparkline, Widget};

use super::{SELECTED, cut, put, quiet, styled};
use crate::output::style;
use crate::output::table::Table;
use crate::top::ansi;
use crate::top::list::ListTab;
use crate::top::listed::Listed;
use crate::top::model::Model;
use crate::top::trail::Trail;

/// Columns of a sparkline in a row: a fraction of the line, within these.
const SPARK: (u16, u16) = (8, 24);

/// The widest cells so far of a table that is drawn again and again.
#[derive(Debug, Default)]
pub(super) struct Widths {
    /// What the table is of: another one begins anew.
    of: u64,
    widest: Vec<usize>,
}

/// What is drawn of a list.
pub(super) struct Rows<'a, S: Subject> {
    pub(super) view: &'static View<S>,
    /// Those on the screen.
    pub(super) rows: Vec<S::Row<'a>>,
    /// Which of them keys act on.
    pub(super) selected: Option<usize>,
    /// The column that sorts them.
    pub(super) mark: Option<(&'static str, char)>,
    /// Their sparklines; `None` where there is no room for any.
    pub(super) trails: Option<Vec<Option<&'a Trail>>>,
    /// What fills a sparkline's height; `None` where its own largest value does.
    pub(super) most: Option<u64>,
}

/// Draws a list that fills an area: title, header, rows.
pub(super) fn list<L: Listed>(
    list: &ListTab<L>,
    model: &Model,
    widths: &mut Widths,
    area: Rect,
    buffer: &mut Buffer,
) {
    put(&Line::from(title(list, model, area.width.into())), 0, area, buffer);
    body(list, true, model, widths, below(area, 1), buffer);
}

/// Draws the header and the rows of a list.
pub(super) fn body<L: Listed>(
    list: &ListTab<L>,
    is_active: bool,
    model: &Model,
    widths: &mut Widths,
    area: Rect,
    buffer: &mut Buffer,
) {
    let page = usize::from(area.height.saturating_sub(1));
    let from = list.cursor.offset.min(list.shown.len());
    let window = from..list.shown.len().min(from + page);
    let all = list.answer.as_ref().map(L::rows).unwrap_or_default();
    let rows = list.shown[window.clone()].iter().filter_map(|at| all.get(*at).copied()).collect();
    let trails = (area.width >= L::SPARKS_FROM)
        .then(|| list.ids[window].iter().map(|id| list.trails.get(id)).collect());
    let mark = if list.ascending { '▲' } else { '▼' };
    let rows = Rows {
        view: L::VIEW,
        rows,
        selected: is_active.then(|| list.cursor.selected.saturating_sub(from)),
        mark: Some((list.sort().column, mark)),
        trails,
        most: L::SPARK_MOST,
    };
    draw(&rows, &list.filter.text, model, widths, area, buffer);
    if list.shown.is_empty() {
        let text = match (&list.refusal, &list.answer) {
            (Some(refusal), _) => styled(refusal.clone(), style::BAD, model),
            (None, None) => quiet("waiting for the agent …", model),
            (None, Some(_)) if list.filter.text.is_empty() => {
                let none = || format!("no {} yet", L::NOUN[1]);
                quiet(L::NONE.map_or_else(none, str::to_owned), model)
            }
            (None, Some(_)) => quiet(format!("no {} match the filter", L::NOUN[1]), model),
        };
        put(&Line::from(text), 1, area, buffer);
    }
}

/// Draws a header and rows.
pub(super) fn draw<S: Subject>(
    of: &Rows<'_, S>,
    filter: &str,
    model: &Model,
    widths: &mut Widths,
    area: Rect,
    buffer: &mut Buffer,
) {
    let spark = match of.trails {
        Some(_) => (area.width / 8).clamp(SPARK.0, SPARK.1),
        None => 0,
    };
    let room = area.width.saturating_sub(if spark > 0 { spark + 1 } else { 0 });
    let colors = model.settings.colors;
    let mut table = Table::new(of.view, true, model.format(), Some(room), colors);
    if let Some((column, mark)) = of.mark {
        table = table.marked(column, mark);
    }
    let kind = kind(of, filter, room);
    if widths.of == kind {
        table = table.not_narrower(&widths.widest);
    }
    let cells: Vec<_> = of.rows.iter().map(|row| table.cells(*row)).collect();
    for row in &cells {
        table.admit(row);
    }
    *widths = Widths { of: kind, widest: table.widest().to_vec() };
    put(&ansi::line(&table.header()), 0, Rect { width: room, ..area }, buffer);
    for (at, row) in (1..).zip(&cells) {
        put(&ansi::line(&table.line(row)), at, Rect { width: room, ..area }, buffer);
        let trail = of.trails.as_ref().and_then(|trails| trails.get(usize::from(at) - 1).copied());
        if let Some(trail) = trail.flatten() {
            let right = Rect { x: area.x + room + 1, width: spark, ..area };
            sparkline(trail, of.most, line_of(right, at), model, buffer);
        }
        if of.selected == Some(usize::from(at) - 1) {
            buffer.set_style(line_of(area, at).intersection(*buffer.area()), SELECTED);
        }
    }
}

/// Draws the latest values of a trail, as high as the area is where they are so much, or the largest.
pub(super) fn sparkline(
    trail: &Trail,
    most: Option<u64>,
    area: Rect,
    model: &Model,
    buffer: &mut Buffer,
) {
    let area = area.intersection(*buffer.area());
    let values = trail.last(area.width.into());
    let style = ansi::style(style::GOOD, model.settings.colors);
    let line = Sparkline::default().data(&values).style(style);
    match most {
        Some(most) => line.max(most).render(area, buffer),
        None => line.render(area, buffer),
    }
}

/// Says how many rows there are, in which order, and which are left out.
pub(super) fn title<L: Listed>(
    list: &ListTab<L>,
    model: &Model,
    width: usize,
) -> Vec<Span<'static>> {
    let [one, more] = L::NOUN;
    let total = list.answer.as_ref().map_or(0, L::total_matched);
    let shown = list.shown.len() as u64;
    let rows = match (shown, total) {
        (shown, total) if shown < total => {
            format!("{} of {} {more}", units::count(shown), units::count(total))
        }
        _ if list.answer.is_none() => more.to_owned(),
        (1, _) => format!("1 {one}"),
        (_, total) => format!("{} {more}", units::count(total)),
    };
    let order = if list.ascending { ", ascending" } else { "" };
    let text = format!("{rows} by {}{order}", list.sort().word);
    let filter = match list.filter.text.as_str() {
        "" => String::new(),
        filter => cut(&format!("  filter: {filter}"), width.saturating_sub(text.chars().count())),
    };
    vec![styled(cut(&text, width), style::HEADER, model), styled(filter, style::WARN, model)]
}

pub(super) fn below(area: Rect, lines: u16) -> Rect {
    let lines = lines.min(area.height);
    Rect { y: area.y + lines, height: area.height - lines, ..area }
}

const fn line_of(area: Rect, at: u16) -> Rect {
    let is_inside = at < area.height;
    Rect { y: area.y + at, height: if is_inside { 1 } else { 0 }, ..area }
}

fn kind<S: Subject>(of: &Rows<'_, S>, filter: &str, room: u16) -> u64 {
    let mut hasher = DefaultHasher::new();
    (of.view.command, of.mark, filter, room).hash(&mut hasher);
    hasher.finish()
}
