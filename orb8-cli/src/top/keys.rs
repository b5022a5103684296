//! Every key, one row each: what the screen does, its help, its last line and the README derive from
//! it.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::Tab;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Help,
    Quit,
    NextTab,
    PreviousTab,
    Show(Tab),
    Move(Step),
    Enter,
    Back,
    Filter,
    Sort,
    SortBack,
    Reverse,
    Group,
    Pane,
    Pause,
    Problems,
    Export,
    Mouse,
    Redraw,
}

/// A way through rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
}

/// Keys that do the same.
#[derive(Debug)]
pub(super) struct Binding {
    keys: &'static [Key],
    /// As help names them.
    pub(super) shown: &'static str,
    action: Action,
    /// What they do.
    pub(super) doc: &'static str,
    /// The same in a word, for the last line; empty where it is not there.
    pub(super) hint: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Plain(KeyCode),
    Control(char),
}

use Key::{Control, Plain};

const fn key(c: char) -> Key {
    Plain(KeyCode::Char(c))
}

const fn row(
    keys: &'static [Key],
    shown: &'static str,
    action: Action,
    doc: &'static str,
    hint: &'static str,
) -> Binding {
    Binding { keys, shown, action, doc, hint }
}

/// In the order of help; the last line has those with a hint, as many as there is room for.
pub(super) static BINDINGS: &[Binding] = &[
    row(&[key('?'), key('h')], "? h", Action::Help, "This help", "help"),
    row(&[key('q'), Control('c')], "q Ctrl-C", Action::Quit, "Quit", "quit"),
    row(
        &[key('/')],
        "/",
        Action::Filter,
        "Filter: command-line flags (-n ml), NS/POD, or text of a row",
        "filter",
    ),
    row(&[key('s')], "s", Action::Sort, "Sort by the next column", "sort"),
    row(&[key('S')], "S", Action::SortBack, "Sort by the column before", ""),
    row(&[key('r')], "r", Action::Reverse, "Reverse the order", ""),
    row(&[key(' ')], "Space", Action::Pause, "Pause, and go on", "pause"),
    row(
        &[Plain(KeyCode::Enter)],
        "Enter",
        Action::Enter,
        "Open the row: a workload's flows and peers, else its details",
        "open",
    ),
    row(
        &[Plain(KeyCode::Esc), Plain(KeyCode::Backspace)],
        "Esc",
        Action::Back,
        "Go back; with nothing to go back from, remove the filter",
        "",
    ),
    row(&[key('g')], "g", Action::Group, "Group workloads by controller, by pod, by container", ""),
    row(&[key('o')], "o", Action::Pane, "Go to the other list of an open workload", ""),
    row(&[key('p')], "p", Action::Problems, "All problems that the overview found", ""),
    row(&[key('e')], "e", Action::Export, "Export this view as JSON, YAML or CSV", "export"),
    row(&[key('1')], "1", Action::Show(Tab::Overview), "Overview", ""),
    row(&[key('2')], "2", Action::Show(Tab::Flows), "Flows", ""),
    row(&[key('3')], "3", Action::Show(Tab::Workloads), "Workloads", ""),
    row(&[key('4')], "4", Action::Show(Tab::Dns), "DNS by owner and name", ""),
    row(&[key('5')], "5", Action::Show(Tab::Tcp), "TCP connections", ""),
    row(&[key('6')], "6", Action::Show(Tab::Gpu), "Accelerators, and who has what of them", ""),
    row(&[key('7')], "7", Action::Show(Tab::Agent), "The agent itself", ""),
    row(
        &[Plain(KeyCode::Tab), Plain(KeyCode::Right)],
        "Tab →",
        Action::NextTab,
        "The next tab",
        "",
    ),
    row(
        &[Plain(KeyCode::BackTab), Plain(KeyCode::Left)],
        "Shift-Tab ←",
        Action::PreviousTab,
        "The tab before",
        "",
    ),
    row(&[Plain(KeyCode::Up), key('k')], "↑ k", Action::Move(Step::Up), "Up", ""),
    row(&[Plain(KeyCode::Down), key('j')], "↓ j", Action::Move(Step::Down), "Down", ""),
    row(&[Plain(KeyCode::PageUp)], "PgUp", Action::Move(Step::PageUp), "A page up", ""),
    row(&[Plain(KeyCode::PageDown)], "PgDn", Action::Move(Step::PageDown), "A page down", ""),
    row(&[Plain(KeyCode::Home)], "Home", Action::Move(Step::First), "The first row", ""),
    row(&[Plain(KeyCode::End), key('G')], "End G", Action::Move(Step::Last), "The last row", ""),
    row(
        &[key('m')],
        "m",
        Action::Mouse,
        "Let the mouse choose tabs and rows, or leave it to the terminal",
        "",
    ),
    row(&[Control('l')], "Ctrl-L", Action::Redraw, "Draw everything anew", ""),
];

/// Returns what a key asks for.
pub(super) fn action(event: KeyEvent) -> Option<Action> {
    let key = match event.code {
        KeyCode::Char(c) if event.modifiers.contains(KeyModifiers::CONTROL) => {
            Control(c.to_ascii_lowercase())
        }
        _ if event.modifiers.contains(KeyModifiers::ALT) => return None,
        code => Plain(code),
    };
    BINDINGS.iter().find(|binding| binding.keys.contains(&key)).map(|binding| binding.action)
}

/// Renders the table as Markdown.
#[cfg(test)]
pub(crate) fn markdown() -> String {
    use std::fmt::Write as _;

    let mut text = String::from("| keys | what they do |\n|---|---|\n");
    for Binding { shown, doc, .. } in BINDINGS {
        let keys: Vec<String> = shown.split(' ').map(|key| format!("`{key}`")).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} | {doc} |", keys.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_does_two_things() {
        let keys: Vec<&Key> = BINDINGS.iter().flat_map(|binding| binding.keys).collect();
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key), "{key:?}");
        }
    }

    #[test]
    fn help_fits_the_usual_terminal() {
        let widest = BINDINGS.iter().map(|binding| binding.shown.chars().count()).max().unwrap();
        for Binding { doc, .. } in BINDINGS {
            assert!(widest + 2 + doc.chars().count() <= 78, "{doc}");
        }
    }

    #[test]
    fn every_tab_has_its_number() {
        for (number, tab) in ('1'..).zip(Tab::ALL) {
            let event = KeyEvent::new(KeyCode::Char(number), KeyModifiers::NONE);
            assert_eq!(action(event), Some(Action::Show(tab)));
        }
    }

    #[test]
    fn modifiers_make_another_key() {
        let with = |modifiers| action(KeyEvent::new(KeyCode::Char('c'), modifiers));
        assert_eq!(with(KeyModifiers::CONTROL), Some(Action::Quit));
        assert_eq!(with(KeyModifiers::NONE), None);
        assert_eq!(action(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::ALT)), None);
    }
}
