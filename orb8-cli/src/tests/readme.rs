//! The tables of the README come from the code.

use std::fmt::Write;
use std::fs;

use crate::error::Exit;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

fn fill(page: &str, name: &str, content: &str) -> String {
    let begin = page.find(&format!("<!-- begin {name}")).unwrap();
    let begin = begin + page[begin..].find("-->\n").unwrap() + "-->\n".len();
    let end = page.find(&format!("<!-- end {name} -->")).unwrap();
    format!("{}\n{content}\n{}", &page[..begin], &page[end..])
}

fn exits() -> String {
    let mut text = String::from("| status | meaning |\n|---|---|\n");
    for (exit, meaning) in Exit::TABLE {
        writeln!(text, "| {} | {meaning} |", exit as u8).unwrap();
    }
    text
}

#[test]
fn it_is_up_to_date() {
    let old = fs::read_to_string(README).unwrap();
    let new = fill(&old, "columns", &orb8_proto::columns::markdown());
    let new = fill(&new, "exits", &exits());
    if std::env::var_os("ORB8_BLESS").is_some() {
        fs::write(README, &new).unwrap();
        return;
    }
    assert!(old == new, "stale; run `ORB8_BLESS=1 cargo test -p orb8-cli --lib readme`");
}
