//! What keys and clicks make of the model.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use orb8_proto::columns::Tone;
use orb8_proto::v1::WorkloadGroup;

use super::{Effect, Model, Overlay, Prompt};
use crate::top::Tab;
use crate::top::export::FileFormat;
use crate::top::focus::{Focus, Pane};
use crate::top::keys::{self, Action, BINDINGS, Step};
use crate::top::list::Cursor;
use crate::top::problems::Problem;
use crate::top::view::areas;

/// Rows that a turn of the wheel moves.
const WHEEL: usize = 3;

/// Does the same to the list that the tab shows, where it shows one.
macro_rules! on_list {
    ($model:expr, |$list:ident| $body:expr) => {
        match $model.tab {
            Tab::Overview => {
                let $list = &mut $model.overview;
                Some($body)
            }
            Tab::Flows => {
                let $list = &mut $model.flows;
                Some($body)
            }
            Tab::Workloads => {
                let $list = &mut $model.workloads;
                Some($body)
            }
            Tab::Dns => {
                let $list = &mut $model.dns;
                Some($body)
            }
            Tab::Tcp => {
                let $list = &mut $model.tcp;
                Some($body)
            }
            Tab::Gpu => {
                let $list = &mut $model.gpu;
                Some($body)
            }
            Tab::Agent => None,
        }
    };
}

impl Model {
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Effect> {
        if key.modifiers.contains(KeyModifiers::ALT) {
            // Over a slow line, Esc and the key after it look like this.
            self.press(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE));
            return self.press(KeyEvent::new(key.code, key.modifiers - KeyModifiers::ALT));
        }
        let is_interrupt =
            keys::action(key) == Some(Action::Quit) && key.code != KeyCode::Char('q');
        match self.prompt.take() {
            Some(_) if is_interrupt => Some(Effect::Quit),
            Some(Prompt::Filter { text, .. }) => {
                self.type_filter(text, key);
                None
            }
            Some(Prompt::Export) => export_format(key).map(Effect::Export),
            None => self.act(keys::action(key)?),
        }
    }

    fn act(&mut self, action: Action) -> Option<Effect> {
        match action {
            Action::Quit => return Some(Effect::Quit),
            Action::Redraw => return Some(Effect::Clear),
            Action::Mouse => {
                self.mouse = !self.mouse;
                return Some(Effect::Mouse(self.mouse));
            }
            Action::Help => self.toggle_help(),
            Action::Show(tab) => self.show(tab),
            Action::NextTab => self.show(self.tab.next()),
            Action::PreviousTab => self.show(self.tab.previous()),
            Action::Move(step) => self.step(step),
            Action::Enter => self.enter(),
            Action::Back => self.back(),
            Action::Filter => self.ask_filter(),
            Action::Sort => self.sort(|list| list.next_sort(1)),
            Action::SortBack => self.sort(|list| list.previous_sort()),
            Action::Reverse => self.sort(|list| list.reverse()),
            Action::Group => self.regroup(),
            Action::Pane => self.change_pane(),
            Action::Pause => self.is_paused = !self.is_paused,
            Action::Problems => self.list_problems(),
            Action::Export => self.prompt = Some(Prompt::Export),
        }
        None
    }

    fn list_problems(&mut self) {
        let row = |problem: &Problem| {
            (if problem.tone == Tone::Bad { "!" } else { "-" }, problem.text.clone())
        };
        let mut rows: Vec<_> = self.problems.iter().map(row).collect();
        if rows.is_empty() {
            let has_looked = self.overview.answer.is_some() || self.overview.refusal.is_some();
            let none = if has_looked { "none" } else { "not looked for yet: 1 shows the overview" };
            rows.push(("", none.to_owned()));
        }
        self.overlay = Some(self.details("problems".to_owned(), rows));
    }

    /// Puts all that is known of something above the tab; what is long takes several lines.
    fn details(&self, title: String, rows: Vec<(&'static str, String)>) -> Overlay {
        let names = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        // Two borders, two blanks.
        let room = usize::from(self.size.0).saturating_sub(names + 4);
        let wrapped = rows.into_iter().flat_map(|(name, value)| {
            let names = std::iter::once(name).chain(std::iter::repeat(""));
            names.zip(wrap(&value, room))
        });
        Overlay::Details { title, rows: wrapped.collect(), cursor: Cursor::default() }
    }

    fn toggle_help(&mut self) {
        self.overlay = match self.overlay {
            Some(Overlay::Help(_)) => None,
            _ => Some(Overlay::Help(Cursor::default())),
        };
    }

    fn show(&mut self, tab: Tab) {
        (self.tab, self.focus, self.overlay) = (tab, None, None);
    }

    pub(super) fn step(&mut self, step: Step) {
        let (page, size) = (self.page(), self.size);
        match &mut self.overlay {
            Some(Overlay::Help(cursor)) => {
                return cursor.scroll(step, BINDINGS.len(), areas::overlay_rows(size).into());
            }
            Some(Overlay::Details { rows, cursor, .. }) => {
                return cursor.scroll(step, rows.len(), areas::overlay_rows(size).into());
            }
            None => {}
        }
        if let Some(focus) = &mut self.focus {
            let (peers, flows) = areas::focus_rows(size);
            return match focus.pane {
                Pane::Peers => focus.peers.step(step, focus.summary.peers.len(), peers.into()),
                Pane::Flows => {
                    focus.flows.cursor.step(step, focus.flows.shown.len(), flows.into());
                }
            };
        }
        let page = match self.tab {
            Tab::Overview => areas::overview_rows(size).into(),
            Tab::Gpu => self.gpu_page(),
            Tab::Flows | Tab::Workloads | Tab::Dns | Tab::Tcp | Tab::Agent => page,
        };
        let moved = on_list!(self, |list| list.cursor.step(step, list.shown.len(), page));
        if moved.is_none() {
            self.report_cursor.scroll(step, self.report.len(), areas::body(size).into());
        }
    }

    fn enter(&mut self) {
        if self.overlay.is_some() {
            return;
        }
        let format = self.format();
        if let Some(focus) = &self.focus {
            self.overlay = match focus.pane {
                Pane::Peers => focus.summary.peers.get(focus.peers.selected).map(|peer| {
                    let columns = orb8_proto::columns::workload::PEERS.wide.iter();
                    let rows = columns
                        .filter_map(|column| Some((column.name, (column.value)(peer, &format)?)));
                    self.details(format!("peer of {}", focus.name), rows.collect())
                }),
                Pane::Flows => {
                    focus.flows.details(&format).map(|rows| self.details("flow".to_owned(), rows))
                }
            };
            return;
        }
        let workload = match self.tab {
            Tab::Overview => self.overview.selected(),
            Tab::Workloads => self.workloads.selected(),
            Tab::Flows | Tab::Dns | Tab::Tcp | Tab::Gpu | Tab::Agent => None,
        };
        if let Some(summary) = workload {
            self.focus = Some(Focus::new(summary, self.group.into()));
            return;
        }
        let (title, rows) = match self.tab {
            Tab::Flows => ("flow", self.flows.details(&format)),
            Tab::Dns => ("DNS name", self.dns.details(&format)),
            Tab::Tcp => ("TCP connection", self.tcp.details(&format)),
            Tab::Gpu => ("part of a device", self.gpu_details(&format)),
            Tab::Overview | Tab::Workloads | Tab::Agent => ("", None),
        };
        if let Some(rows) = rows {
            self.overlay = Some(self.details(title.to_owned(), rows));
        }
    }

    fn back(&mut self) {
        if self.overlay.take().is_some() || self.focus.take().is_some() {
            return;
        }
        // An empty filter is never refused.
        let _ = on_list!(self, |list| list.set_filter(""));
    }

    fn ask_filter(&mut self) {
        if self.focus.is_some() || self.overlay.is_some() {
            return;
        }
        if let Some(text) = on_list!(self, |list| list.filter.text.clone()) {
            self.prompt = Some(Prompt::Filter { text, error: None });
        }
    }

    fn type_filter(&mut self, mut text: String, key: KeyEvent) {
        let has_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Esc => return,
            KeyCode::Enter => {
                let error = on_list!(self, |list| list.set_filter(&text)).and_then(Result::err);
                self.prompt = error.map(|error| Prompt::Filter { text, error: Some(error) });
                return;
            }
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Char('u') if has_control => text.clear(),
            KeyCode::Char('w') if has_control => {
                let kept = text.trim_end().rfind(' ').map_or(0, |at| at + 1);
                text.truncate(kept);
            }
            KeyCode::Char(c) if !has_control && text.len() < MAX_TYPED => text.push(c),
            _ => {}
        }
        self.prompt = Some(Prompt::Filter { text, error: None });
    }

    fn sort(&mut self, change: impl Fn(&mut dyn Sorted)) {
        match &mut self.focus {
            Some(focus) => change(&mut focus.flows),
            None => drop(on_list!(self, |list| change(list))),
        }
        if self.tab == Tab::Gpu {
            self.sort_gpu();
        }
    }

    fn regroup(&mut self) {
        if self.focus.is_some() {
            return;
        }
        self.group = match self.group {
            WorkloadGroup::Workload | WorkloadGroup::Unspecified => WorkloadGroup::Pod,
            WorkloadGroup::Pod => WorkloadGroup::Container,
            WorkloadGroup::Container => WorkloadGroup::Workload,
        };
        self.overview.forget();
        self.workloads.forget();
    }

    fn change_pane(&mut self) {
        if let Some(focus) = &mut self.focus {
            focus.pane = match focus.pane {
                Pane::Peers => Pane::Flows,
                Pane::Flows => Pane::Peers,
            };
        }
    }

    pub(super) fn wheel(&mut self, is_up: bool) {
        let step = if is_up { Step::Up } else { Step::Down };
        (0..WHEEL).for_each(|_| self.step(step));
    }

    pub(super) fn click(&mut self, column: u16, row: u16) {
        if row == 0 {
            if let Some(tab) = areas::tab_at(column) {
                self.show(tab);
            }
            return;
        }
        let is_list = !matches!(self.tab, Tab::Overview | Tab::Agent);
        if self.overlay.is_some() || self.focus.is_some() || !is_list {
            return;
        }
        let is_gpu = self.tab == Tab::Gpu;
        let (page, line) = match is_gpu {
            true => (self.gpu_page(), self.gpu_areas(self.size).row_at(row)),
            false => (self.page(), areas::row_at(self.size, row)),
        };
        let Some(line) = line else { return };
        let _ = on_list!(self, |list| {
            let at = list.cursor.offset + usize::from(line);
            if at < list.shown.len() {
                list.cursor.selected = at;
                list.cursor.follow(list.shown.len(), page);
            }
        });
    }
}

/// Text that a filter may have.
const MAX_TYPED: usize = 1_000;

/// What of a list has nothing to do with its rows.
trait Sorted {
    fn next_sort(&mut self, by: usize);
    fn previous_sort(&mut self);
    fn reverse(&mut self);
}

impl<L: crate::top::listed::Listed> Sorted for crate::top::list::ListTab<L> {
    fn next_sort(&mut self, by: usize) {
        Self::next_sort(self, by);
    }

    fn previous_sort(&mut self) {
        Self::previous_sort(self);
    }

    fn reverse(&mut self) {
        Self::reverse(self);
    }
}

/// Lines that one value takes at most.
const MAX_LINES: usize = 20;

/// Breaks a text into lines, between words where there are any.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        while let Some(line) = lines.last_mut().filter(|_| !word.is_empty()) {
            let (used, blank) = (line.chars().count(), usize::from(!line.is_empty()));
            if used + blank + word.len() <= width {
                line.extend(std::iter::repeat_n(' ', blank).chain(word.drain(..)));
            } else if used == 0 {
                line.extend(word.drain(..width.min(word.len())));
            } else {
                lines.push(String::new());
            }
        }
    }
    lines.truncate(MAX_LINES);
    lines
}

fn export_format(key: KeyEvent) -> Option<FileFormat> {
    let KeyCode::Char(typed) = key.code else { return None };
    FileFormat::ALL.into_iter().find(|format| format.key() == typed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_take_several_lines() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap(&"x".repeat(500), 0).len(), MAX_LINES);
    }
}
