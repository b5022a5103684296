//! Accelerators: every device with its meters, and below who has what of them.

use std::fmt::Write as _;

use orb8_proto::columns::Subject;
use orb8_proto::columns::gpu::{DeviceRow, Devices, METERS, WIDE_METERS};
use orb8_proto::gpu::Places;
use orb8_proto::v1::{GpuState, QueryGpuResponse};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Widget, Wrap};

use super::areas::Gpu;
use super::rows::{self, Rows};
use super::{Canvas, areas, cut, put, quiet, styled};
use crate::output::style;
use crate::top::model::Model;

/// From this width on, there is room for more of each device.
const WIDE: u16 = 140;

pub(super) fn draw(model: &Model, canvas: &mut Canvas, size: (u16, u16), buffer: &mut Buffer) {
    let answer = model.gpu.answer.as_ref().map(|told| told.answer());
    let is_filtered = !model.gpu.filter.text.is_empty();
    if let Some(answer) = answer.filter(|answer| answer.devices.is_empty() && !is_filtered) {
        return draw_absence(answer, model, areas::body_area(size), buffer);
    }
    let Gpu { devices, notes, shares } = model.gpu_areas(size);
    if let Some(answer) = answer.filter(|answer| !answer.devices.is_empty()) {
        draw_devices(answer, model, canvas, devices, buffer);
        draw_notes(model, notes, buffer);
    }
    rows::list(&model.gpu, model, &mut canvas.list, shares, buffer);
}

fn draw_devices(
    answer: &QueryGpuResponse,
    model: &Model,
    canvas: &mut Canvas,
    area: Rect,
    buffer: &mut Buffer,
) {
    let places = Places::new(&answer.devices);
    let row = |device| DeviceRow { device, parent: places.parent(device) };
    let room = usize::from(area.height.saturating_sub(1));
    let is_all = answer.devices.len() <= room;
    // The last line says how many there is no room for.
    let shown = if is_all { answer.devices.len() } else { room.saturating_sub(1) };
    let first = first_shown(answer, model, shown);
    let seen = first..first + shown;
    let rows: Vec<<Devices as Subject>::Row<'_>> =
        answer.devices.iter().skip(first).take(shown).map(row).collect();
    let view = if area.width >= WIDE { &WIDE_METERS } else { &METERS };
    let rows = Rows { view, rows, selected: None, mark: None, trails: None, most: None };
    rows::draw(&rows, "", model, &mut canvas.devices, area, buffer);
    if !is_all && room > 0 {
        let hidden = answer.devices.iter().enumerate().filter(|(at, _)| !seen.contains(at));
        let (text, is_amiss) = more(hidden.map(|(_, device)| device.state()));
        let of = if is_amiss { style::BAD } else { style::QUIET };
        put(&Line::from(styled(text, of, model)), area.height - 1, area, buffer);
    }
}

/// Where there are more devices than lines, the one of the selected share is among those that are shown.
fn first_shown(answer: &QueryGpuResponse, model: &Model, shown: usize) -> usize {
    let selected = model.gpu.selected().map(|row| &row.of.device.id);
    let is_its = |id: &String| answer.devices.iter().position(|device| device.id == *id);
    selected.and_then(is_its).map_or(0, |at| (at + 1).saturating_sub(shown))
}

/// Says how many devices are not shown, and how many of them do not do what they should.
fn more(hidden: impl Iterator<Item = GpuState>) -> (String, bool) {
    let [mut count, mut lost, mut silent] = [0_usize; 3];
    for state in hidden {
        count += 1;
        lost += usize::from(state == GpuState::Lost);
        silent += usize::from(state == GpuState::Silent);
    }
    let mut text = format!("… {count} more");
    for (amiss, word) in [(lost, "lost"), (silent, "silent")] {
        if amiss > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, ", {amiss} {word}");
        }
    }
    (text, lost + silent > 0)
}

fn draw_notes(model: &Model, area: Rect, buffer: &mut Buffer) {
    let notes = model.gpu_notes();
    let room = usize::from(area.height);
    for (at, note) in (0..area.height).zip(&notes) {
        let hidden = notes.len().saturating_sub(room);
        let is_last = usize::from(at) + 1 == room;
        let more =
            if is_last && hidden > 0 { format!(" (and {hidden} more)") } else { String::new() };
        let width = usize::from(area.width).saturating_sub(more.chars().count());
        let text = format!("{}{more}", cut(note, width));
        put(&Line::from(styled(text, style::WARN, model)), at, area, buffer);
    }
}

/// Says why there is nothing to see, and what to do.
fn draw_absence(answer: &QueryGpuResponse, model: &Model, area: Rect, buffer: &mut Buffer) {
    let mut lines = vec![Line::from(styled("no accelerators are seen here", style::HEADER, model))];
    let notes = model.gpu_notes();
    match model.gpu_absence() {
        // Of what it never read, sources say nothing.
        Some(reason) if notes.is_empty() || answer.time_ns == 0 => {
            lines.push(Line::from(format!("the agent does not run the gpu signal: {reason}")));
        }
        _ => {
            let remedy =
                "`orb8 diagnose` shows what was looked for; --gpu-sources asks for one by name";
            lines.push(Line::from(quiet(remedy, model)));
            lines.extend(notes.into_iter().map(|note| Line::from(format!("- {note}"))));
        }
    }
    Paragraph::new(lines).wrap(Wrap { trim: true }).render(area, buffer);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_and_amiss_is_said() {
        let ok = [GpuState::Ok; 3];
        assert_eq!(more(ok.into_iter()), ("… 3 more".to_owned(), false));
        let amiss = [GpuState::Lost, GpuState::Ok, GpuState::Silent, GpuState::Lost];
        assert_eq!(more(amiss.into_iter()), ("… 4 more, 2 lost, 1 silent".to_owned(), true));
    }
}
