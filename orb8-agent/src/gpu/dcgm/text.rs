//! Prometheus' text, as far as an exporter of DCGM's fields writes it.
//!
//! Written by whoever listens at the URL: nothing in it is trusted, and a line that makes no sense
//! takes no other one along.

use std::borrow::Cow;

/// A line beyond that is no series of a device.
const LONGEST_LINE: usize = 16 << 10;

/// dcgm-exporter has about 15, and as many as a pod's labels where those are asked for.
const MOST_LABELS: usize = 128;

/// Name and value of each label, in the order of the text.
pub type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// One value of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<'a> {
    /// The metric.
    pub name: &'a str,
    /// What tells the series from the metric's other ones.
    pub labels: Labels<'a>,
    /// As it is written: NaN and infinity are values here.
    pub value: f64,
}

impl Row<'_> {
    /// Returns a label's value; an empty one is none.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        let (_, value) = self.labels.iter().find(|(label, _)| *label == name)?;
        (!value.is_empty()).then_some(value)
    }
}

/// A line that is no row, comment or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads each row whose name begins with a prefix; others may be of formats that are not known here.
pub fn rows<'a>(
    text: &'a [u8],
    prefix: &'static str,
) -> impl Iterator<Item = Result<Row<'a>, Malformed>> {
    text.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(move |line| line.starts_with(prefix.as_bytes()))
        .map(|line| row(line).ok_or(Malformed))
}

fn row(line: &[u8]) -> Option<Row<'_>> {
    let line = std::str::from_utf8(line).ok().filter(|line| line.len() <= LONGEST_LINE)?;
    let end = line.find(|letter: char| !is_name(letter)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words.next()?.parse().ok()?;
    // A timestamp may follow, of no interest: what is not a number in its place is no row.
    if let Some(timestamp) = words.next() {
        timestamp.parse::<f64>().ok()?;
    }
    words.next().is_none().then_some(Row { name, labels, value })
}

/// Reads labels up to the closing brace, and returns what follows it.
fn labels(mut rest: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::with_capacity(16);
    loop {
        rest = rest.trim_start();
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, value) = rest.split_once('=')?;
        let name = name.trim();
        if name.is_empty() || !name.chars().all(is_name) || labels.len() == MOST_LABELS {
            return None;
        }
        let (value, after) = quoted(value.trim_start().strip_prefix('"')?)?;
        labels.push((name, value));
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return None,
        }
    }
}

/// Reads up to the closing quote, and returns what follows it.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = text.find(['"', '\\'])?;
    if text.as_bytes()[end] == b'"' {
        return Some((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = text[..end].to_owned();
    let mut letters = text[end..].char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((Cow::Owned(value), &text[end + at + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                escaped => escaped,
            }),
            letter => value.push(letter),
        }
    }
    None
}

fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<Result<Row<'_>, Malformed>> {
        rows(text.as_bytes(), "D").collect()
    }

    #[test]
    fn rows_are_read_and_what_is_none_is_told() {
        let text = "# HELP D_A what D is\n\nD_A{a=\"1\",b=\"x\\\"y\\\\z\\n\",} 2.5\n  D_B  7 1700000000 \n\
                    go_info{version=\"go1\"} 1\nD_C{} NaN\nD_D{a=\"1\" 2\nD_E{a=1} 2\nD_F\nD_G x\n\
                    D_H{a=\"1\"} 2 3 4\nD_I{=\"1\"} 2\nD_J{a=\"1} 2\nD_K 1 now\n";
        let rows = read(text);
        let first = rows[0].as_ref().unwrap();
        assert_eq!((first.name, first.value), ("D_A", 2.5));
        assert_eq!(first.label("a"), Some("1"));
        assert_eq!(first.label("b"), Some("x\"y\\z\n"));
        assert_eq!(first.label("c"), None);
        let second = Row { name: "D_B", labels: Vec::new(), value: 7.0 };
        assert_eq!(rows[1], Ok(second));
        assert!(rows[2].as_ref().unwrap().value.is_nan());
        assert_eq!(rows[3..], [const { Err(Malformed) }; 8]);
    }

    #[test]
    fn a_label_without_a_value_is_none() {
        assert_eq!(read("D{pod=\"\"} 1")[0].as_ref().unwrap().label("pod"), None);
    }

    #[test]
    fn lines_and_labels_are_bounded() {
        let long = format!("D{{a=\"{}\"}} 1", "x".repeat(LONGEST_LINE));
        let many = format!("D{{{}}} 1", "a=\"1\",".repeat(MOST_LABELS + 1));
        assert_eq!(read(&long), [Err(Malformed)]);
        assert_eq!(read(&many), [Err(Malformed)]);
        assert!(read(&format!("D{{{}}} 1", "a=\"1\",".repeat(MOST_LABELS)))[0].is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in any::<Vec<u8>>()) {
            rows(&text, "").for_each(drop);
        }

        #[test]
        fn what_is_written_is_read(
            name in "D[A-Z_]{1,20}",
            labels in proptest::collection::vec(("[a-zA-Z_][a-zA-Z0-9_]{0,8}", "\\PC{0,12}"), 0..6),
            value in -1e12_f64..1e12,
        ) {
            let written: Vec<String> = labels
                .iter()
                .map(|(name, value)| {
                    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
                    format!("{name}=\"{value}\"")
                })
                .collect();
            let line = format!("{name}{{{}}} {value}", written.join(","));
            let rows = read(&line);
            let row = rows[0].as_ref().unwrap();
            prop_assert_eq!((row.name, row.value), (name.as_str(), value));
            let read: Vec<_> = row.labels.iter().map(|(n, v)| (*n, v.as_ref())).collect();
            let expected: Vec<_> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            prop_assert_eq!(read, expected);
        }
    }
}
