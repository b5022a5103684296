//! The tables: printed as they come, and put between markers into `docs/benchmarks.md`.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::{Part, targets::Target};

/// A value beside its target, and the words for the value where the target names another thing.
pub(crate) type Checked = (&'static str, f64, Target);

/// One part's figures.
pub(crate) struct Table {
    part: Part,
    header: &'static [&'static str],
    note: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// The header lacks the two columns that every table ends with.
    pub(crate) fn new(part: Part, note: String, header: &'static [&'static str]) -> Self {
        Self { part, header, note, rows: Vec::new() }
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
    pub(crate) fn render(&self) -> String {
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

    /// `page` with this table in the place of the part's last one.
    pub(crate) fn put_into(&self, page: &str) -> Result<String> {
        let name = format!("{:?}", self.part).to_lowercase();
        let (begin, end) = (format!("<!-- begin {name} "), format!("<!-- end {name} -->"));
        let lost = || format!("the page has no `{begin}…` or no `{end}`");
        let (before, rest) = page.split_once(&begin).with_context(lost)?;
        let (marker, rest) = rest.split_once("-->\n").with_context(lost)?;
        let (_, after) = rest.split_once(&end).with_context(lost)?;
        Ok(format!("{before}{begin}{marker}-->\n\n{}\n{end}{after}", self.render()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::targets::{CPU_IDLE, RSS_IDLE};

    fn table() -> Table {
        let mut table = Table::new(Part::Cost, "A note.".to_owned(), &["what", "value"]);
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
    fn a_table_replaces_its_own_part_of_the_page() {
        let page =
            "# T\n<!-- begin cost (x) -->\nold\n<!-- end cost -->\n<!-- begin rate (x) -->\nr\n";
        let put = table().put_into(page).unwrap();
        assert!(put.starts_with("# T\n<!-- begin cost (x) -->\n\nA note.\n"), "{put}");
        assert!(put.ends_with("|\n\n<!-- end cost -->\n<!-- begin rate (x) -->\nr\n"), "{put}");
        assert_eq!(table().put_into(&put).unwrap(), put, "again and again");
        assert!(table().put_into("no markers").is_err());
    }
}
