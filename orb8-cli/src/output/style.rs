//! Colours, few and quiet. They come from the terminal's own palette.

use anstyle::{AnsiColor, Style};
use orb8_proto::columns::{HOST, Tone};

/// Headers and headings.
pub(crate) const HEADER: Style = Style::new().bold();
/// There when looked for.
pub(crate) const QUIET: Style = Style::new().dimmed();
/// As it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Worth a look.
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
/// Wrong.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();

const PLAIN: Style = Style::new();
const OWNER: Style = AnsiColor::Cyan.on_default();

/// Returns the style of a cell.
pub(crate) fn of(tone: Tone, text: &str) -> Style {
    match tone {
        Tone::Plain => PLAIN,
        Tone::Quiet => QUIET,
        // Nobody in particular.
        Tone::Owner if text == HOST => QUIET,
        Tone::Owner => OWNER,
        Tone::Good => GOOD,
        Tone::Warn => WARN,
        Tone::Bad => BAD,
    }
}

/// Puts the style around the text, where there are colours.
pub(crate) fn paint(text: &str, style: Style, colors: bool) -> String {
    if colors && style != PLAIN { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nobodys_is_quiet() {
        assert_eq!(of(Tone::Owner, HOST), QUIET);
        assert_eq!(of(Tone::Owner, "ml/trainer-0"), OWNER);
    }
}
