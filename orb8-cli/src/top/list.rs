//! A list on the screen: its rows, and which of them someone looks at.

use orb8_proto::columns::{Format, Subject, View};

use super::filter::Filter;
use super::keys::Step;
use super::listed::{Listed, Order, RowId, Sort};
use super::poll::Part;
use super::trail::Trails;

/// Where someone is in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The row that keys act on.
    pub(super) selected: usize,
    /// The first row on the screen.
    pub(super) offset: usize,
}

/// One list, as it is asked for and as it is shown.
#[derive(Debug)]
pub(super) struct ListTab<L: Listed> {
    sort: usize,
    pub(super) ascending: bool,
    pub(super) filter: Filter<L::Filter>,
    pub(super) cursor: Cursor,
    pub(super) answer: Option<L::Answer>,
    /// Why there is no answer.
    pub(super) refusal: Option<String>,
    /// Positions of the rows that the filter's text leaves.
    pub(super) shown: Vec<usize>,
    /// Of the shown rows, in their order.
    pub(super) ids: Vec<RowId>,
    pub(super) trails: Trails<RowId>,
    /// How often the rows were forgotten: who forgot them wants others, whatever is asked for.
    pub(super) forgotten: u64,
}

impl<L: Listed> Default for ListTab<L> {
    fn default() -> Self {
        Self {
            sort: 0,
            ascending: false,
            filter: Filter::default(),
            cursor: Cursor::default(),
            answer: None,
            refusal: None,
            shown: Vec::new(),
            ids: Vec::new(),
            trails: Trails::default(),
            forgotten: 0,
        }
    }
}

impl Cursor {
    pub(super) fn step(&mut self, step: Step, rows: usize, page: usize) {
        let last = rows.saturating_sub(1);
        self.selected = match step {
            Step::Up => self.selected.saturating_sub(1),
            Step::Down => self.selected + 1,
            Step::PageUp => self.selected.saturating_sub(page.max(1)),
            Step::PageDown => self.selected + page.max(1),
            Step::First => 0,
            Step::Last => last,
        }
        .min(last);
        self.follow(rows, page);
    }

    /// Keeps the selected row on the screen, and the screen full.
    pub(super) fn follow(&mut self, rows: usize, page: usize) {
        let page = page.max(1);
        self.selected = self.selected.min(rows.saturating_sub(1));
        self.offset = self.offset.min(self.selected).min(rows.saturating_sub(page));
        if self.selected >= self.offset + page {
            self.offset = self.selected + 1 - page;
        }
    }

    /// Moves through lines, of which none is selected.
    pub(super) fn scroll(&mut self, step: Step, lines: usize, page: usize) {
        let last = lines.saturating_sub(page.max(1));
        self.offset = match step {
            Step::Up => self.offset.saturating_sub(1),
            Step::Down => self.offset + 1,
            Step::PageUp => self.offset.saturating_sub(page.max(1)),
            Step::PageDown => self.offset + page.max(1),
            Step::First => 0,
            Step::Last => last,
        }
        .min(last);
    }
}

impl<L: Listed> ListTab<L> {
    pub(super) fn sort(&self) -> Sort {
        L::SORTS[self.sort]
    }

    pub(super) fn next_sort(&mut self, by: usize) {
        self.sort = (self.sort + by) % L::SORTS.len();
        self.cursor = Cursor::default();
    }

    pub(super) fn previous_sort(&mut self) {
        self.next_sort(L::SORTS.len() - 1);
    }

    pub(super) fn reverse(&mut self) {
        self.ascending = !self.ascending;
        self.cursor = Cursor::default();
    }

    pub(super) fn request(&self, include_self: bool, group: i32) -> L::Request {
        let order = Order { sort: self.sort(), ascending: self.ascending, include_self, group };
        L::request(&self.filter, order)
    }

    /// Filters by what was typed, or says what is wrong with it.
    pub(super) fn set_filter(&mut self, text: &str) -> Result<(), String> {
        self.filter = Filter::parse(text)?;
        self.cursor = Cursor::default();
        // What was there was asked for otherwise.
        self.forget();
        Ok(())
    }

    /// Forgets the rows, until there are others.
    pub(super) fn forget(&mut self) {
        (self.answer, self.refusal) = (None, None);
        self.forgotten += 1;
        self.shown.clear();
        self.ids.clear();
    }

    /// Takes an answer. Where someone has moved to a row, that row stays selected.
    pub(super) fn take(&mut self, part: Part<L::Answer>, format: &Format, page: usize) {
        match part {
            Ok(answer) => (self.answer, self.refusal) = (Some(answer), None),
            Err(refusal) => {
                self.answer = None;
                self.refusal = Some(refusal);
            }
        }
        self.arrange(format, page);
        let rows = self.answer.as_ref().map(L::rows).unwrap_or_default();
        let rates = self.shown.iter().zip(&self.ids);
        let rates: Vec<(RowId, u64)> =
            rates.filter_map(|(at, id)| Some((*id, L::rate(rows[*at])?))).collect();
        self.trails.push(rates.into_iter());
    }

    /// Shows the rows that are wanted, in the answer's order.
    pub(super) fn arrange(&mut self, format: &Format, page: usize) {
        let selected = self.selected_id();
        let rows = self.answer.as_ref().map(L::rows).unwrap_or_default();
        let is_wanted =
            |row| self.filter.words.is_empty() || self.filter.wants(&text_of(L::VIEW, row, format));
        self.shown = (0..rows.len()).filter(|at| is_wanted(rows[*at])).collect();
        self.ids = self.shown.iter().map(|at| L::id(rows[*at])).collect();
        if self.cursor != Cursor::default()
            && let Some(at) = self.ids.iter().position(|id| Some(*id) == selected)
        {
            self.cursor.selected = at;
        }
        self.cursor.follow(self.shown.len(), page);
    }

    fn selected_id(&self) -> Option<RowId> {
        self.ids.get(self.cursor.selected).copied()
    }

    /// Returns the row that keys act on.
    pub(super) fn selected(&self) -> Option<<L::Subject as Subject>::Row<'_>> {
        let at = *self.shown.get(self.cursor.selected)?;
        L::rows(self.answer.as_ref()?).get(at).copied()
    }

    /// Returns all that is known of the selected row, by column.
    pub(super) fn details(&self, format: &Format) -> Option<Vec<(&'static str, String)>> {
        let row = self.selected()?;
        let columns = L::VIEW.wide.iter();
        let known = columns.filter_map(|column| Some((column.name, (column.value)(row, format)?)));
        Some(known.collect())
    }

    /// Returns the answer with the rows that are shown alone.
    pub(super) fn shown_only(&self) -> Option<L::Answer> {
        Some(L::only(self.answer.as_ref()?, &self.shown))
    }
}

/// All that a row says, in lower case.
fn text_of<S: Subject>(view: &View<S>, row: S::Row<'_>, format: &Format) -> String {
    let mut text = String::new();
    for column in view.wide {
        if let Some(value) = (column.value)(row, format) {
            text.push_str(&value.to_lowercase());
            text.push(' ');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selected_row_is_always_on_the_screen() {
        let mut cursor = Cursor::default();
        let mut at = |step| {
            cursor.step(step, 100, 10);
            (cursor.selected, cursor.offset)
        };
        assert_eq!(at(Step::Down), (1, 0));
        assert_eq!(at(Step::PageDown), (11, 2));
        assert_eq!(at(Step::Last), (99, 90));
        assert_eq!(at(Step::Down), (99, 90));
        assert_eq!(at(Step::PageUp), (89, 89));
        assert_eq!(at(Step::First), (0, 0));
        assert_eq!(at(Step::Up), (0, 0));
    }

    #[test]
    fn fewer_rows_move_it() {
        let mut cursor = Cursor { selected: 99, offset: 90 };
        cursor.follow(5, 10);
        assert_eq!(cursor, Cursor { selected: 4, offset: 0 });
        cursor.follow(0, 10);
        assert_eq!(cursor, Cursor::default());
        cursor.step(Step::Down, 0, 0);
        assert_eq!(cursor, Cursor::default());
    }
}
