//! The overview: rates, who moves most, and what goes wrong.

use orb8_proto::columns::Tone;
use orb8_proto::units;
use orb8_proto::v1::{KubernetesState, Traffic};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::areas::{self, Overview};
use super::rows::{self, Widths, below};
use super::{cut, put, quiet, styled};
use crate::output::style;
use crate::top::model::Model;
use crate::top::trail::Trail;

/// Columns of a meter's name and value.
const LABEL: u16 = 17;

pub(super) fn draw(model: &Model, widths: &mut Widths, size: (u16, u16), buffer: &mut Buffer) {
    let Overview { meters, meter_height, workloads, problems } = areas::overview(size);
    draw_meters(model, meters, meter_height, buffer);
    rows::list(&model.overview, model, widths, workloads, buffer);
    draw_problems(model, problems, buffer);
}

fn draw_meters(model: &Model, area: Rect, height: u16, buffer: &mut Buffer) {
    let totals = model.totals.as_ref();
    let traffic = |way: Option<Traffic>| way.unwrap_or_default();
    let sent = totals.map(|totals| traffic(totals.sent));
    let received = totals.map(|totals| traffic(totals.received));
    let bytes = |way: Option<Traffic>| way.map(|way| units::byte_rate(way.bytes_per_second));
    let packets = sent.zip(received).map(|(sent, received)| {
        let both = sent.packets_per_second.saturating_add(received.packets_per_second);
        format!("{}/s", units::packets(both))
    });
    let count = |rate: Option<u64>| rate.map(|rate| format!("{}/s", units::packets(rate)));
    let history = &model.history;
    let lines: [&[(&str, Option<String>, &Trail)]; 2] = [
        &[("sent", bytes(sent), &history.sent), ("received", bytes(received), &history.received)],
        &[
            ("packets", packets, &history.packets),
            ("queries", count(history.queries_rate), &history.queries),
            ("resent", count(history.resent_rate), &history.resent),
        ],
    ];
    for (line, meters) in (0..).zip(lines) {
        let area = below(area, line * height);
        let width = area.width / meters.len() as u16;
        for (at, (name, value, trail)) in (0..).zip(meters) {
            let area = Rect { x: area.x + at * width, width: width.saturating_sub(1), ..area };
            let area = Rect { height: height.min(area.height), ..area };
            draw_meter(name, value.as_deref(), trail, model, area, buffer);
        }
    }
}

fn draw_meter(
    name: &str,
    value: Option<&str>,
    trail: &Trail,
    model: &Model,
    area: Rect,
    buffer: &mut Buffer,
) {
    let value = value.unwrap_or("-");
    let label =
        Line::from(vec![quiet(name, model), Span::raw(" "), styled(value, style::HEADER, model)]);
    put(&label, 0, area, buffer);
    let room = area.width.saturating_sub(LABEL);
    rows::sparkline(
        trail,
        None,
        Rect { x: area.x + LABEL.min(area.width), width: room, ..area },
        model,
        buffer,
    );
}

fn draw_problems(model: &Model, area: Rect, buffer: &mut Buffer) {
    let heading = Line::from(vec![styled("problems", style::HEADER, model), kubernetes(model)]);
    put(&heading, 0, area, buffer);
    let area = below(area, 1);
    if model.problems.is_empty() && model.status.is_some() {
        let text = "no losses, no DNS errors, no retransmits, all signals run";
        put(&Line::from(styled(cut(text, area.width.into()), style::GOOD, model)), 0, area, buffer);
    }
    let room = usize::from(area.height);
    let hidden = model.problems.len().saturating_sub(room);
    // The last line says how many there is no room for.
    let shown = if hidden > 0 { room.saturating_sub(1) } else { room };
    for (at, problem) in (0..).zip(model.problems.iter().take(shown)) {
        let of = style::of(problem.tone, &problem.text);
        let bullet = if problem.tone == Tone::Bad { "! " } else { "- " };
        let text = cut(&format!("{bullet}{}", problem.text), area.width.into());
        put(&Line::from(styled(text, of, model)), at, area, buffer);
    }
    if hidden > 0 && room > 0 {
        let more = format!("  and {} more", model.problems.len() - shown);
        put(&Line::from(quiet(more, model)), area.height - 1, area, buffer);
    }
}

/// What the watches are at, where they are used.
fn kubernetes(model: &Model) -> Span<'static> {
    let known = model.status.as_ref().and_then(|status| status.kubernetes.as_ref());
    let Some(kubernetes) = known else { return Span::raw("") };
    let (text, of) = match kubernetes.state() {
        KubernetesState::Connected => ("connected", style::GOOD),
        KubernetesState::Syncing => ("syncing", style::WARN),
        KubernetesState::Disconnected => ("disconnected", style::BAD),
        KubernetesState::Off | KubernetesState::Unspecified => ("off", style::QUIET),
    };
    styled(format!("  Kubernetes {text}"), of, model)
}
