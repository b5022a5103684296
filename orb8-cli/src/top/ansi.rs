//! What commands print, for a screen that is drawn: colours become styles.

use anstyle::{AnsiColor, Color as Painted, Effects};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// The palette of terminals, in the order of its codes.
const COLORS: [(AnsiColor, Color); 8] = [
    (AnsiColor::Black, Color::Black),
    (AnsiColor::Red, Color::Red),
    (AnsiColor::Green, Color::Green),
    (AnsiColor::Yellow, Color::Yellow),
    (AnsiColor::Blue, Color::Blue),
    (AnsiColor::Magenta, Color::Magenta),
    (AnsiColor::Cyan, Color::Cyan),
    (AnsiColor::White, Color::Gray),
];

/// Returns the style that [`output::style`](crate::output::style) has, where there are colours.
pub(super) fn style(of: anstyle::Style, colors: bool) -> Style {
    if !colors {
        return Style::new();
    }
    let mut style = Style::new();
    if let Some(Painted::Ansi(color)) = of.get_fg_color() {
        style.fg = COLORS.iter().find(|(painted, _)| *painted == color).map(|(_, color)| *color);
    }
    for (effect, modifier) in [(Effects::BOLD, Modifier::BOLD), (Effects::DIMMED, Modifier::DIM)] {
        if of.get_effects().contains(effect) {
            style = style.add_modifier(modifier);
        }
    }
    style
}

/// Reads a line that was painted with such styles.
pub(super) fn line(text: &str) -> Line<'static> {
    let mut spans = Vec::new();
    let mut style = Style::new();
    let mut parts = text.split("\x1b[");
    push(&mut spans, parts.next().unwrap_or_default(), style);
    for part in parts {
        let (codes, rest) = part.split_once('m').unwrap_or_default();
        style = codes.split(';').fold(style, apply);
        push(&mut spans, rest, style);
    }
    Line::from(spans)
}

fn push(spans: &mut Vec<Span<'static>>, text: &str, style: Style) {
    if !text.is_empty() {
        spans.push(Span::styled(text.to_owned(), style));
    }
}

fn apply(style: Style, code: &str) -> Style {
    match code.parse::<usize>() {
        Ok(1) => style.add_modifier(Modifier::BOLD),
        Ok(2) => style.add_modifier(Modifier::DIM),
        Ok(code @ 30..=37) => style.fg(COLORS[code - 30].1),
        // 0, and nothing, which means the same.
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::style as painted;

    #[test]
    fn what_is_painted_is_read_back() {
        for of in [painted::HEADER, painted::QUIET, painted::GOOD, painted::WARN, painted::BAD] {
            let text = format!("a {} c", painted::paint("b", of, true));
            let line = line(&text);
            assert_eq!(line.to_string(), "a b c");
            let styles: Vec<Style> = line.spans.iter().map(|span| span.style).collect();
            assert_eq!(styles, [Style::new(), style(of, true), Style::new()]);
            assert_eq!(style(of, false), Style::new());
        }
    }

    #[test]
    fn plain_text_is_one_span() {
        assert_eq!(line("plain").spans.len(), 1);
        assert!(line("").spans.is_empty());
        assert_eq!(line("a\x1b[").to_string(), "a", "cut in the middle of a code");
    }
}
