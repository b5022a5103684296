//! Tables that fit where they are read.
//!
//! Columns are as wide as their widest cell so far. Where they do not fit, flexible columns shrink
//! to their comfort, extra columns go, the others shrink to their least, and then they go too, the
//! least important first.

use orb8_proto::columns::{Align, Column, Cut, EXTRA, Format, Subject, Tone, View, Width};

use super::style;

/// Below this, one blank between columns must do.
const ROOMY: usize = 120;

/// By how much a column of a stream grows: a header for each new length would be noise.
const STEP: usize = 4;

/// What a cell with nothing to tell says.
const NOTHING: &str = "-";

/// A table that is being printed.
pub(crate) struct Table<S: Subject> {
    view: &'static View<S>,
    columns: &'static [&'static Column<S>],
    format: Format,
    colors: bool,
    /// Characters per line; `None` where nobody counts them.
    room: Option<usize>,
    /// Widest cell of each column so far.
    widest: Vec<usize>,
    layout: Layout,
    /// What the header of one column ends with, by the column's position.
    mark: Option<(usize, char)>,
}

/// The width of each column, `None` for those without room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Layout(Vec<Option<usize>>);

/// The cells of one row, and whether it is one that matters less.
pub(crate) struct Cells {
    texts: Vec<Option<String>>,
    tones: Vec<Tone>,
    quiet: bool,
}

/// How a row changed the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Not at all.
    None,
    /// Columns moved: a header above would be out of line.
    Layout,
}

impl<S: Subject> Table<S> {
    pub(crate) fn new(
        view: &'static View<S>,
        wide: bool,
        format: Format,
        room: Option<u16>,
        colors: bool,
    ) -> Self {
        let columns = if wide { view.wide } else { view.columns };
        let widest: Vec<usize> = columns.iter().map(|column| usual(view, column)).collect();
        let room = room.map(usize::from);
        let layout = Layout::fit(columns, &widest, room);
        Self { view, columns, format, colors, room, widest, layout, mark: None }
    }

    /// Ends the header of a column with a mark, where the table has that column.
    pub(crate) fn marked(mut self, column: &str, mark: char) -> Self {
        if let Some(at) = self.columns.iter().position(|of| of.name == column) {
            self.mark = Some((at, mark));
            self.widest[at] = self.widest[at].max(self.header_of(at).chars().count());
            self.layout = Layout::fit(self.columns, &self.widest, self.room);
        }
        self
    }

    /// Makes columns at least as wide as they were in an earlier table of the same kind.
    pub(crate) fn not_narrower(mut self, widest: &[usize]) -> Self {
        self.widest.iter_mut().zip(widest).for_each(|(own, other)| *own = (*own).max(*other));
        self.layout = Layout::fit(self.columns, &self.widest, self.room);
        self
    }

    /// Returns the widest cell of each column so far.
    pub(crate) fn widest(&self) -> &[usize] {
        &self.widest
    }

    /// Makes the cells of a row.
    pub(crate) fn cells(&self, row: S::Row<'_>) -> Cells {
        let texts: Vec<_> = self
            .columns
            .iter()
            .map(|column| (column.value)(row, &self.format).map(printable))
            .collect();
        let tones = self.columns.iter().map(|column| (column.tone)(row)).collect();
        Cells { texts, tones, quiet: S::is_quiet(row) }
    }

    /// Makes room for a row. Do it before [`Self::line`].
    pub(crate) fn admit(&mut self, cells: &Cells) -> Change {
        let mut grown = false;
        let columns = self.columns.iter();
        for ((widest, text), column) in self.widest.iter_mut().zip(&cells.texts).zip(columns) {
            let length = text.as_deref().unwrap_or(NOTHING).chars().count();
            if length > *widest {
                grown = true;
                *widest = match column.width {
                    Width::Flexible(..) if self.view.is_stream => length.next_multiple_of(STEP),
                    Width::Flexible(..) | Width::Natural(_) => length,
                };
            }
        }
        if !grown {
            return Change::None;
        }
        let layout = Layout::fit(self.columns, &self.widest, self.room);
        let moved = layout.starts() != self.layout.starts();
        self.layout = layout;
        if moved { Change::Layout } else { Change::None }
    }

    /// Returns the header line.
    pub(crate) fn header(&self) -> String {
        let text = |i: usize| {
            let header = self.header_of(i);
            let fits = self.layout.0[i].is_some_and(|width| header.chars().count() <= width);
            if fits { header } else { self.columns[i].short_header().to_owned() }
        };
        let line = self.assemble(text, |_| None);
        style::paint(&line, style::HEADER, self.colors)
    }

    fn header_of(&self, column: usize) -> String {
        let mut header = self.view.header(self.columns[column]).to_owned();
        header.extend(self.mark.filter(|(at, _)| *at == column).map(|(_, mark)| mark));
        header
    }

    /// Returns the line of a row.
    pub(crate) fn line(&self, cells: &Cells) -> String {
        let text = |i: usize| cells.texts[i].clone().unwrap_or_else(|| NOTHING.to_owned());
        if cells.quiet {
            return style::paint(&self.assemble(text, |_| None), style::QUIET, self.colors);
        }
        self.assemble(text, |i| {
            Some(if cells.texts[i].is_some() { cells.tones[i] } else { Tone::Quiet })
        })
    }

    fn assemble(
        &self,
        text: impl Fn(usize) -> String,
        tone: impl Fn(usize) -> Option<Tone>,
    ) -> String {
        let columns = self.columns;
        let shown: Vec<(usize, usize)> = self
            .layout
            .0
            .iter()
            .enumerate()
            .filter_map(|(i, width)| Some((i, (*width)?)))
            .collect();
        let gutter = " ".repeat(gutter(self.room));
        let mut line = String::new();
        for (position, (i, width)) in shown.iter().enumerate() {
            let last = position + 1 == shown.len();
            let text = cut(text(*i), *width, columns[*i].width);
            let padding = " ".repeat(width.saturating_sub(text.chars().count()));
            let painted = match tone(*i) {
                Some(tone) => style::paint(&text, style::of(tone, &text), self.colors),
                None => text,
            };
            match columns[*i].align {
                Align::Right => line.extend([padding.as_str(), &painted]),
                Align::Left if last => line.push_str(&painted),
                Align::Left => line.extend([painted.as_str(), &padding]),
            }
            if !last {
                line.push_str(&gutter);
            }
        }
        line
    }
}

impl Layout {
    /// Returns the widths that decide where columns start: all but the last one's.
    fn starts(&self) -> Vec<(usize, usize)> {
        let mut shown: Vec<(usize, usize)> =
            self.0.iter().enumerate().filter_map(|(i, width)| Some((i, (*width)?))).collect();
        if let Some((_, width)) = shown.last_mut() {
            *width = 0;
        }
        shown
    }

    fn fit<S: Subject>(columns: &[&Column<S>], widest: &[usize], room: Option<usize>) -> Self {
        let Some(room) = room else {
            return Self(widest.iter().copied().map(Some).collect());
        };
        let gutter = gutter(Some(room));
        let mut widths: Vec<Option<usize>> = columns
            .iter()
            .zip(widest)
            .map(|(column, widest)| match column.width {
                Width::Natural(_) => Some(*widest),
                Width::Flexible(least, _) => {
                    Some((*widest).min(usize::from(least.max(column.comfort))))
                }
            })
            .collect();
        while used(&widths, gutter) > room {
            let extra = |i: &usize| widths[*i].is_some() && columns[*i].priority >= EXTRA;
            let Some(last) = (0..columns.len()).filter(extra).max_by_key(|i| columns[*i].priority)
            else {
                break;
            };
            widths[last] = None;
        }
        while used(&widths, gutter) > room && shrink(columns, &mut widths) {}
        while used(&widths, gutter) > room && widths.iter().flatten().count() > 1 {
            let shown = (0..columns.len()).filter(|i| widths[*i].is_some());
            let Some(last) = shown.max_by_key(|i| columns[*i].priority) else {
                break;
            };
            widths[last] = None;
        }
        let mut left = room.saturating_sub(used(&widths, gutter));
        let mut by_priority: Vec<usize> = (0..columns.len()).collect();
        by_priority.sort_by_key(|i| columns[*i].priority);
        for i in by_priority {
            if let Some(width) = &mut widths[i] {
                let missing = widest[i] - *width;
                let more = match columns[i].width {
                    // A part of it would tell nothing.
                    Width::Flexible(_, Cut::Silent) if missing > left => 0,
                    Width::Flexible(..) | Width::Natural(_) => missing.min(left),
                };
                *width += more;
                left -= more;
            }
        }
        Self(widths)
    }
}

/// Returns the width that a column has before any row. A list knows all its rows before it is
/// printed; a stream does not, and should not move at every row.
fn usual<S: Subject>(view: &View<S>, column: &Column<S>) -> usize {
    let header = view.header(column).chars().count();
    match column.width {
        Width::Natural(least) => header.max(usize::from(least)),
        Width::Flexible(..) if view.is_stream => header.max(usize::from(column.usual)),
        Width::Flexible(..) => header,
    }
}

/// Takes a character from the widest column that can spare one, of two the less important.
fn shrink<S: Subject>(columns: &[&Column<S>], widths: &mut [Option<usize>]) -> bool {
    let can_spare = |i: &usize| match columns[*i].width {
        Width::Flexible(least, _) => widths[*i].is_some_and(|width| width > usize::from(least)),
        Width::Natural(_) => false,
    };
    let widest =
        (0..columns.len()).filter(can_spare).max_by_key(|i| (widths[*i], columns[*i].priority));
    let Some(width) = widest.and_then(|i| widths[i].as_mut()) else {
        return false;
    };
    *width -= 1;
    true
}

fn used(widths: &[Option<usize>], gutter: usize) -> usize {
    let shown = widths.iter().flatten().count();
    widths.iter().flatten().sum::<usize>() + gutter * shown.saturating_sub(1)
}

const fn gutter(room: Option<usize>) -> usize {
    match room {
        Some(..ROOMY) => 1,
        Some(_) | None => 2,
    }
}

/// Cuts a text to a width. A header has no rule of its own: its column's serves.
fn cut(text: String, width: usize, rule: Width) -> String {
    let length = text.chars().count();
    if length <= width {
        return text;
    }
    if let Width::Flexible(_, Cut::Words) = rule {
        let blanks = text.char_indices().take(width + 1).filter(|(_, c)| *c == ' ');
        if let Some((end, _)) = blanks.last() {
            return text[..end].to_owned();
        }
    }
    let kept = width.saturating_sub(1);
    let tail = match rule {
        Width::Flexible(_, Cut::Silent) => return text.chars().take(width).collect(),
        Width::Flexible(_, Cut::Middle) => kept / 2,
        Width::Flexible(_, Cut::End | Cut::Words) | Width::Natural(_) => 0,
    };
    let head = text.chars().take(kept - tail);
    head.chain(['…']).chain(text.chars().skip(length - tail)).collect()
}

/// Names come from whoever named them: nothing in them may steer the terminal.
pub(crate) fn printable(text: String) -> String {
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use orb8_proto::columns::{dns, flow, tcp};

    use super::*;

    #[test]
    fn text_is_cut_where_it_says_least() {
        let middle = Width::Flexible(0, Cut::Middle);
        let end = Width::Flexible(0, Cut::End);
        assert_eq!(cut("abcdefghij".into(), 7, end), "abcdef…");
        assert_eq!(cut("abcdefghij".into(), 7, middle), "abc…hij");
        assert_eq!(cut("12:34:56.789".into(), 8, Width::Flexible(0, Cut::Silent)), "12:34:56");
        let words = Width::Flexible(0, Cut::Words);
        assert_eq!(cut("ICMPv6 echo-reply".into(), 16, words), "ICMPv6");
        assert_eq!(cut("ICMPv6 echo-reply".into(), 6, words), "ICMPv6");
        assert_eq!(cut("ICMPv6 echo-reply".into(), 5, words), "ICMP…");
        assert_eq!(cut("a b c".into(), 4, words), "a b");
        assert_eq!(cut("abc".into(), 3, end), "abc");
        assert_eq!(cut("abc".into(), 0, end), "…");
    }

    #[test]
    fn names_do_not_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n".into()), "a\u{fffd}[2Jb\u{fffd}");
    }

    fn fits<S: Subject>(columns: &[&Column<S>]) {
        let widest: Vec<usize> = (0..columns.len()).map(|i| 20 + i).collect();
        for room in 21..400 {
            let layout = Layout::fit(columns, &widest, Some(room));
            let used = used(&layout.0, gutter(Some(room)));
            assert!(used <= room, "{room}: {used}");
        }
    }

    #[test]
    fn nothing_is_wider_than_the_terminal() {
        fits(flow::EVENTS.wide);
        fits(dns::EXCHANGES.wide);
        fits(tcp::EVENTS.wide);
        fits(tcp::TOP.columns);
    }

    #[test]
    fn without_a_terminal_everything_is_there() {
        let columns = flow::EVENTS.columns;
        let widest = vec![100; columns.len()];
        let layout = Layout::fit(columns, &widest, None);
        assert!(layout.0.iter().all(|width| *width == Some(100)));
    }
}
