//! Terminals that have nothing but ASCII.

use std::ffi::OsString;

use ratatui::buffer::Buffer;

/// What a terminal can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::top) enum Charset {
    #[default]
    Unicode,
    Ascii,
}

impl Charset {
    /// Returns what the locale says. Where it says nothing, as over SSH and in containers, terminals of
    /// today have Unicode.
    pub(in crate::top) fn of_locale(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &&str| variable(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set);
        let Some(locale) = locale else { return Self::Unicode };
        let locale = locale.to_string_lossy().to_lowercase().replace('-', "");
        if locale.contains("utf8") { Self::Unicode } else { Self::Ascii }
    }
}

/// What stands for what is drawn; anything else is a `?`.
const REPLACEMENTS: &[(&str, &str)] = &[
    ("▁", "_"),
    ("▂", "."),
    ("▃", ":"),
    ("▄", "-"),
    ("▅", "="),
    ("▆", "+"),
    ("▇", "*"),
    ("█", "#"),
    ("▌", "="),
    ("░", "."),
    ("▼", "v"),
    ("▲", "^"),
    ("…", "~"),
    ("─", "-"),
    ("│", "|"),
    ("┌", "+"),
    ("┐", "+"),
    ("└", "+"),
    ("┘", "+"),
    ("µ", "u"),
    ("→", ">"),
    ("←", "<"),
    ("↑", "^"),
    ("↓", "v"),
    ("–", "-"),
    ("°", " "),
    ("÷", "/"),
    ("×", "x"),
];

/// Replaces what the terminal cannot show.
pub(super) fn replace(buffer: &mut Buffer, charset: Charset) {
    if charset == Charset::Unicode {
        return;
    }
    for cell in &mut buffer.content {
        if !cell.symbol().is_ascii() {
            let found = REPLACEMENTS.iter().find(|(drawn, _)| *drawn == cell.symbol());
            cell.set_symbol(found.map_or("?", |(_, ascii)| ascii));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_says_what_can_be_shown() {
        let of = |name: &'static str, value: &'static str| {
            Charset::of_locale(move |asked| (asked == name).then(|| value.into()))
        };
        assert_eq!(of("LANG", "de_DE.UTF-8"), Charset::Unicode);
        assert_eq!(of("LC_ALL", "C.utf8"), Charset::Unicode);
        assert_eq!((of("LANG", "C"), of("LC_CTYPE", "de_DE")), (Charset::Ascii, Charset::Ascii));
        assert_eq!(of("LANG", ""), Charset::Unicode);
    }
}
