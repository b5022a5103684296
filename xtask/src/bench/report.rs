//! The tables: printed as they come, and put between markers into `docs/benchmarks.md`.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::{Part, targets::Target};

/// A value beside its target, and the words for the value where the target names another thing.
pub(crate) type Checked = (&'static str, f64, Target);

/// Figures of one kind; a part has one such table or more.
pub(crate) struct Table {
    header: &'static [&'static str],
    note: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// The header lacks the two columns that every table ends with.
    pub(crate) fn new(note: String, header: &'static [&'static str]) -> Self {
        Self { header, note, rows: Vec::new() }
    }

    /// Adds a row, and says in it what its targets are and whether it meets them.
    pub(crate) fn row(&mut self, mut cells: Vec<String>, checked: &[Checked]) {
        assert_eq!(cells.len(), self.header.len(), "a cell per column");
        let list = |name: &str, text: &str| format!("{name} {text}").trim().to_owned();
        let targets = checked.iter().map(|(name, _, target)| list(name, &target.to_string()));
        let missed: Vec<_> = checked
            .iter()
            .filter(|(_, value, target)| !target.is_met_by(*value))
            .map(|(name, ..)| *name)
            .collect();
        let verdict = match (checked, missed.as_slice()) {
            ([], _) => "–".to_owned(),
            (_, []) => "yes".to_owned(),
            (_, missed) => format!("**{}**", list("no:", &missed.join(", "))).replace(":**", "**"),
        };
        let targets = targets.collect::<Vec<_>>().join("; ");
        cells.push(if targets.is_empty() { "–".to_owned() } else { targets });
        cells.push(verdict);
        self.rows.push(cells);
    }

    /// The note and the table, as Markdown.
    fn render(&self) -> String {
        let mut text = format!("{}\n\n", self.note);
        let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
        let header = [self.header, &["target", "met"]].concat();
        text += &line(&header);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "|{}", "---|".repeat(header.len()));
        for row in &self.rows {
            text += &line(&row.iter().map(String::as_str).collect::<Vec<_>>());
        }
        text
    }
}

/// All tables of a part, as Markdown.
pub(crate) fn render(tables: &[Table]) -> String {
    tables.iter().map(Table::render).collect::<Vec<_>>().join("\n")
}

/// `page` with what was rendered in the place of what the part had before.
pub(crate) fn put_into(page: &str, part: Part, rendered: &str) -> Result<String> {
    put_between(page, &format!("{part:?}").to_lowercase(), rendered)
}

/// The same between the markers of a name.
pub(crate) fn put_between(page: &str, name: &str, rendered: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- begin {name} "), format!("<!-- end {name} -->"));
    let lost = || format!("the page has no `{begin}…` or no `{end}`");
    let (before, rest) = page.split_once(&begin).with_context(lost)?;
    let (marker, rest) = rest.split_once("-->\n").with_context(lost)?;
    let (_, after) = rest.split_once(&end).with_context(lost)?;
    Ok(format!("{before}{begin}{marker}-->\n\n{rendered}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::targets::{CPU_IDLE, RSS_IDLE};

    fn table() -> Table {
        let mut table = Table::new("A note.".to_owned(), &["what", "value"]);
        let cells = |name: &str| vec![name.to_owned(), "1".to_owned()];
        table.row(cells("none"), &[]);
        table.row(cells("good"), &[("", 0.1, CPU_IDLE)]);
        table.row(cells("bad"), &[("", 0.2, CPU_IDLE)]);
        table.row(cells("half"), &[("CPU", 0.1, CPU_IDLE), ("RSS", 24.0, RSS_IDLE)]);
        table
    }

    #[test]
    fn rows_tell_their_targets_and_which_are_missed() {
        let expected = "\
A note.

| what | value | target | met |
|---|---|---|---|
| none | 1 | – | – |
| good | 1 | ≤ 0.12 % | yes |
| bad | 1 | ≤ 0.12 % | **no** |
| half | 1 | CPU ≤ 0.12 %; RSS ≤ 23 MiB | **no: RSS** |
";
        assert_eq!(table().render(), expected);
    }

    #[test]
    fn tables_of_a_part_stand_apart() {
        let both = render(&[table(), table()]);
        assert_eq!(both, format!("{}\n{}", table().render(), table().render()));
    }

    #[test]
    fn a_part_replaces_what_it_had_on_the_page() {
        let page =
            "# T\n<!-- begin cost (x) -->\nold\n<!-- end cost -->\n<!-- begin rate (x) -->\nr\n";
        let put = |page| put_into(page, Part::Cost, &render(&[table()]));
        let first = put(page).unwrap();
        assert!(first.starts_with("# T\n<!-- begin cost (x) -->\n\nA note.\n"), "{first}");
        assert!(first.ends_with("|\n\n<!-- end cost -->\n<!-- begin rate (x) -->\nr\n"), "{first}");
        assert_eq!(put(&first).unwrap(), first, "again and again");
        assert!(put("no markers").is_err());
    }
}
