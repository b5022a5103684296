//! The lines around the body: tabs, status, and the last one.

use std::time::Duration;

use jiff::Timestamp;
use orb8_proto::units;
use orb8_proto::v1::{GetStatusResponse, Health, Traffic};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{SELECTED, areas, cut, put, quiet, styled};
use crate::output::style;
use crate::top::export::FileFormat;
use crate::top::keys::BINDINGS;
use crate::top::model::{Model, Prompt};

pub(super) fn tabs(model: &Model, area: Rect, buffer: &mut Buffer) {
    let mut spans = vec![styled(areas::NAME, style::HEADER, model)];
    let mut used = areas::NAME.len();
    for (_, tab, text) in areas::tabs() {
        used += text.len();
        spans.push(match tab == model.tab {
            true => Span::styled(text, SELECTED),
            false => Span::raw(text),
        });
    }
    let node = model.status.as_ref().map_or("", |status| status.node_name.as_str());
    let room = usize::from(area.width).saturating_sub(used + 1);
    let node = cut(node, room);
    let gap = room.saturating_sub(node.chars().count()) + 1;
    spans.push(Span::raw(" ".repeat(gap)));
    spans.push(Span::raw(node));
    put(&Line::from(spans), 0, area, buffer);
}

pub(super) fn status(model: &Model, area: Rect, buffer: &mut Buffer) {
    let right = state(model);
    let room = usize::from(area.width).saturating_sub(right.width() + 1);
    put(&Line::from(figures(model, room)), 1, area, buffer);
    let width = (right.width() as u16).min(area.width);
    let at = Rect { x: area.right().saturating_sub(width), y: area.y + 1, width, height: 1 };
    put(&right, 0, at, buffer);
}

/// How the data is: live, paused, or old.
fn state(model: &Model) -> Line<'static> {
    if let Some(waited) = model.overdue() {
        let waited = units::duration(Duration::from_secs(waited / 1_000_000_000));
        let text = match model.link.heard_ns {
            0 => format!("no answer from {} for {waited}", model.settings.agent),
            _ => format!("NO ANSWER for {waited}"),
        };
        return Line::from(styled(text, style::BAD, model));
    }
    if model.is_paused {
        return Line::from(styled("PAUSED", style::WARN, model));
    }
    let time = Timestamp::from_nanosecond(i128::from(model.now_ns)).unwrap_or_default();
    let time = time.to_zoned(model.settings.time_zone.clone());
    Line::from(quiet(time.strftime("%H:%M:%S").to_string(), model))
}

/// What all workloads do, and what is lost; the first ones, as many as there is room for.
fn figures(model: &Model, room: usize) -> Vec<Span<'static>> {
    let mut spans = Vec::new();
    let Some(status) = &model.status else {
        let who = format!("asking {} …", model.settings.agent);
        spans.push(quiet(cut(&who, room), model));
        return spans;
    };
    let (health, of) = match status.health() {
        // Nobody knows how it is now.
        _ if model.overdue().is_some() => ("old", style::WARN),
        Health::Ok => ("ok", style::GOOD),
        Health::Degraded => ("degraded", style::WARN),
        Health::Unspecified => ("-", style::QUIET),
    };
    let mut parts = vec![(health.to_owned(), of)];
    let lost = lost(status);
    if lost > 0 {
        parts.push((format!("{} lost", units::count(lost)), style::BAD));
    }
    let plain = anstyle::Style::new();
    if let Some(totals) = &model.totals {
        let rate = |traffic: Option<Traffic>| {
            units::byte_rate(traffic.unwrap_or_default().bytes_per_second)
        };
        parts.push((format!("sent {}", rate(totals.sent)), plain));
        parts.push((format!("received {}", rate(totals.received)), plain));
    }
    parts.push((format!("{} flows", units::count(status.active_flows)), plain));
    parts.push((format!("up {}", units::duration(Duration::from_nanos(status.uptime_ns))), plain));
    let mut used = 0;
    for (text, of) in parts {
        used += text.chars().count() + 2;
        if used > room + 2 {
            break;
        }
        spans.push(styled(text, of, model));
        spans.push(Span::raw("  "));
    }
    spans
}

fn lost(status: &GetStatusResponse) -> u64 {
    let packets = status.accounting.map_or(0, |accounting| accounting.lost_packets);
    packets.saturating_add(status.events_dropped)
}

pub(super) fn last_line(model: &Model, area: Rect, buffer: &mut Buffer) {
    let bottom = area.height.saturating_sub(1);
    let width = usize::from(area.width);
    let line = match (&model.prompt, &model.note, &model.link.silence) {
        (Some(Prompt::Filter { text, error }), ..) => {
            if let Some(error) = error {
                let error = styled(cut(error, width), style::BAD, model);
                put(&Line::from(" ".repeat(width)), bottom - 1, area, buffer);
                put(&Line::from(error), bottom - 1, area, buffer);
            }
            // The end of a long one is where someone types.
            let hidden = text.chars().count().saturating_sub(width.saturating_sub(2));
            let end: String = text.chars().skip(hidden).collect();
            Line::from(vec![Span::raw("/"), Span::raw(end), Span::styled(" ", SELECTED)])
        }
        (Some(Prompt::Export), ..) => {
            let choices =
                FileFormat::ALL.map(|format| format!("{} {}", format.key(), format.word()));
            Line::from(format!("export as  {}   any other key leaves", choices.join("   ")))
        }
        (None, Some((note, _)), _) => Line::from(cut(note, width)),
        (None, None, Some(silence)) => Line::from(styled(cut(silence, width), style::BAD, model)),
        (None, None, None) => Line::from(quiet(hints(width), model)),
    };
    put(&line, bottom, area, buffer);
}

/// The most useful keys, as many as there is room for.
fn hints(width: usize) -> String {
    let mut text = String::new();
    for binding in BINDINGS.iter().filter(|binding| !binding.hint.is_empty()) {
        let key = binding.shown.split(' ').next().unwrap_or_default();
        let hint = format!("{key} {}", binding.hint);
        let gap = if text.is_empty() { "" } else { "   " };
        if text.chars().count() + gap.len() + hint.chars().count() > width {
            break;
        }
        text.extend([gap, &hint]);
    }
    text
}
