//! How flows, DNS exchanges and TCP connections read in a table: one row here per column, from which
//! tables, wide tables and docs derive.
//!
//! A [`View`] is a table that some command prints; [`flow`], [`dns`], [`tcp`] and [`gpu`] have theirs.

use std::fmt::{Debug, Write as _};

use jiff::tz::TimeZone;

mod cells;
pub mod dns;
mod ends;
pub mod flow;
pub mod gpu;
pub mod pod;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod workload;

pub use cells::{HOST, owner};

/// What a table is about.
pub trait Subject: Debug + Sized + 'static {
    /// What the cells of a row are made from.
    type Row<'a>: Copy + Debug;

    /// Whether a row matters less than others.
    fn is_quiet(_: Self::Row<'_>) -> bool {
        false
    }
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column<S: Subject> {
    /// The name, unique among its subject's, as docs have it.
    pub name: &'static str,
    /// The header in a list.
    pub header: &'static str,
    /// The header in a stream, where room is scarcer, and in a list without room, where it is
    /// another one.
    pub short_header: Option<&'static str>,
    /// How wide it is.
    pub width: Width,
    /// How wide it usually is: what a stream, which does not know its rows yet, begins with.
    pub usual: u16,
    /// How wide it stays, where its text is that wide, while columns of [`EXTRA`] priority are shown.
    pub comfort: u16,
    /// Which side its text leans to.
    pub align: Align,
    /// Which column goes first where there is no room: the one with the largest number.
    pub priority: u8,
    /// What a cell looks like.
    pub tone: for<'a> fn(S::Row<'a>) -> Tone,
    /// What it holds.
    pub doc: &'static str,
    /// The text of a cell, `None` where there is nothing to tell.
    pub value: for<'a> fn(S::Row<'a>, &Format) -> Option<String>,
}

/// Columns of this priority and above go before another gets less than its comfort.
pub const EXTRA: u8 = 8;

/// How wide a column is, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// As wide as its widest text, and at least this.
    Natural(u16),
    /// As wide as its widest text where there is room, else cut, but not below this.
    Flexible(u16, Cut),
}

/// Where a text is cut that has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The beginning stays.
    End,
    /// Both ends stay.
    Middle,
    /// The beginning stays, and nothing tells that there was more.
    Silent,
    /// Whole words stay, as many as there is room for; the first one at least.
    Words,
}

/// Which side a text leans to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// What a cell is to the eye. The colours are the terminal's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Most text.
    Plain,
    /// There when looked for.
    Quiet,
    /// Whose traffic it is.
    Owner,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
}

/// Choices of the reader.
#[derive(Clone, Debug)]
pub struct Format {
    /// Print ports as numbers, even those with a name.
    pub numeric: bool,
    /// Print the name of who is at an end, or by which its address was found, instead of the address.
    pub names: bool,
    /// Where the clock hangs.
    pub time_zone: TimeZone,
    /// What it shows: Unix time in nanoseconds.
    pub now_ns: u64,
}

/// A table that a command prints.
#[derive(Clone, Copy, Debug)]
pub struct View<S: Subject> {
    /// The command, without the program's name.
    pub command: &'static str,
    /// Its columns, in order.
    pub columns: &'static [&'static Column<S>],
    /// Its columns where all are wanted.
    pub wide: &'static [&'static Column<S>],
    /// Whether rows come one by one.
    pub is_stream: bool,
}

impl<S: Subject> View<S> {
    /// Returns the header that a column has here.
    #[must_use]
    pub fn header(&self, column: &Column<S>) -> &'static str {
        if self.is_stream { column.short_header() } else { column.header }
    }

    fn shows(&self, column: &Column<S>) -> bool {
        self.wide.iter().any(|shown| shown.name == column.name)
    }
}

impl<S: Subject> Column<S> {
    /// What most columns are: words of their own width, the first to go.
    pub(crate) const WORDS: Self = Self {
        name: "",
        header: "",
        short_header: None,
        width: Width::Natural(0),
        usual: 0,
        comfort: 0,
        align: Align::Left,
        priority: 20,
        tone: |_| Tone::Quiet,
        doc: "",
        value: |_, _| None,
    };

    /// Numbers, right-aligned.
    pub(crate) const NUMBER: Self =
        Self { align: Align::Right, tone: |_| Tone::Plain, ..Self::WORDS };

    /// An end: an address is 15 characters at most, a port 5; usually they are fewer.
    pub(crate) const END: Self = Self {
        width: Width::Flexible(14, Cut::Middle),
        usual: 16,
        comfort: 20,
        tone: |_| Tone::Plain,
        ..Self::WORDS
    };

    /// Whose socket it is.
    pub(crate) const OWNER: Self = Self {
        name: "owner",
        header: "NAMESPACE/POD",
        short_header: Some("OWNER"),
        width: Width::Flexible(14, Cut::End),
        usual: 13,
        priority: 0,
        tone: |_| Tone::Owner,
        ..Self::WORDS
    };

    /// When something happened.
    pub(crate) const TIME: Self = Self {
        name: "time",
        header: "TIME",
        width: Width::Flexible(8, Cut::Silent),
        usual: 12,
        priority: 4,
        doc: "When it happened, local time; without milliseconds where there is no room.",
        ..Self::WORDS
    };

    /// Returns the header where room is scarce.
    #[must_use]
    pub fn short_header(&self) -> &'static str {
        self.short_header.unwrap_or(self.header)
    }
}

/// Renders the columns of a subject's views as Markdown.
#[must_use]
pub fn markdown<S: Subject>(views: &[&View<S>]) -> String {
    let mut text = String::from("| column |");
    for view in views {
        // Writing to a String cannot fail.
        let _ = write!(text, " `{}` |", view.command);
    }
    let _ =
        writeln!(text, " wide only | what it holds |\n|---|{}---|---|", "---|".repeat(views.len()));
    for column in all(views) {
        let _ = write!(text, "| {} |", column.name);
        for view in views {
            let _ = match view.shows(column) {
                true => write!(text, " `{}` |", view.header(column)),
                false => write!(text, " – |"),
            };
        }
        let narrow = views.iter().flat_map(|view| view.columns);
        let wide_only = !narrow.into_iter().any(|shown| shown.name == column.name);
        let _ = writeln!(text, " {} | {} |", if wide_only { "yes" } else { "" }, column.doc);
    }
    text
}

/// Returns every column of some views once, in the order in which they come up.
pub(crate) fn all<S: Subject>(views: &[&View<S>]) -> Vec<&'static Column<S>> {
    let mut columns: Vec<&Column<S>> = Vec::new();
    for column in views.iter().flat_map(|view| view.wide) {
        if !columns.iter().any(|known| known.name == column.name) {
            columns.push(column);
        }
    }
    columns
}
