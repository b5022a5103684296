//! An open workload: what it does, its peers, its flows.

use orb8_proto::columns::workload::{LIST, PEERS};
use orb8_proto::units;
use orb8_proto::v1::WorkloadSummary;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::rows::{self, Rows, below};
use super::{Canvas, areas, cut, put, quiet, styled};
use crate::output::style;
use crate::top::focus::{Focus, Pane};
use crate::top::model::Model;

pub(super) fn draw(model: &Model, canvas: &mut Canvas, size: (u16, u16), buffer: &mut Buffer) {
    let Some(focus) = &model.focus else { return };
    draw_summary(focus, model, areas::body_area(size), buffer);
    let (peers, flows) = areas::focus(size);
    draw_peers(focus, model, canvas, peers, buffer);
    let title = rows::title(&focus.flows, model, flows.width.into());
    put(&heading(title, focus.pane == Pane::Flows), 0, flows, buffer);
    let is_active = focus.pane == Pane::Flows;
    let widths = &mut canvas.list;
    rows::body(&focus.flows, is_active, model, widths, below(flows, 1), buffer);
}

fn draw_summary(focus: &Focus, model: &Model, area: Rect, buffer: &mut Buffer) {
    let width = usize::from(area.width);
    let mut name = vec![styled(cut(&focus.name, width), style::HEADER, model)];
    if focus.is_gone {
        name.push(styled("  gone: these are its last figures", style::WARN, model));
    }
    put(&Line::from(name), 0, area, buffer);
    for (at, columns) in (1..).zip(LINES) {
        let line = figures(columns, &focus.summary, model);
        put(&Line::from(line), at, area, buffer);
    }
}

/// Columns of the list whose cells say what it does.
const LINES: [&[&str]; 2] = [
    &["rate_sent", "rate_received", "bytes", "packets", "flows", "pods"],
    &[
        "connections",
        "retransmits",
        "rtt_p99",
        "queries",
        "errors",
        "timeouts",
        "latency",
        "served",
    ],
];

fn figures(columns: &[&str], summary: &WorkloadSummary, model: &Model) -> Vec<Span<'static>> {
    let format = model.format();
    let known = columns.iter().filter_map(|name| {
        let column = LIST.wide.iter().find(|column| column.name == *name)?;
        let value = (column.value)(summary, &format)?;
        let of = style::of((column.tone)(summary), &value);
        let label = column.header.to_lowercase();
        Some([quiet(format!("{label} "), model), styled(format!("{value}   "), of, model)])
    });
    known.flatten().collect()
}

fn draw_peers(focus: &Focus, model: &Model, canvas: &mut Canvas, area: Rect, buffer: &mut Buffer) {
    let (told, all) = (focus.summary.peers.len(), focus.summary.peer_count);
    let count = match told as u64 {
        told if told < all => format!("{} of {} peers", units::count(told), units::count(all)),
        1 => "1 peer".to_owned(),
        told => format!("{} peers", units::count(told)),
    };
    let title = vec![styled(format!("{count} by bytes"), style::HEADER, model)];
    put(&heading(title, focus.pane == Pane::Peers), 0, area, buffer);
    let area = below(area, 1);
    let page = usize::from(area.height.saturating_sub(1));
    let from = focus.peers.offset.min(told);
    let rows = Rows {
        view: &PEERS,
        rows: focus.summary.peers[from..told.min(from + page)].iter().collect(),
        selected: (focus.pane == Pane::Peers).then(|| focus.peers.selected.saturating_sub(from)),
        mark: None,
        trails: None,
        most: None,
    };
    rows::draw(&rows, "", model, &mut canvas.peers, area, buffer);
}

/// A list's title, with a sign where keys act on it.
fn heading(mut title: Vec<Span<'static>>, is_active: bool) -> Line<'static> {
    title.insert(0, Span::raw(if is_active { "> " } else { "  " }));
    Line::from(title)
}
