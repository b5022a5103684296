//! The tables of the README come from the code.

use std::fmt::Write;
use std::fs;

use orb8_proto::columns::{dns, flow, gpu, markdown, pod, tcp, workload};

use crate::error::Exit;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

pub(super) fn fill(page: &str, name: &str, content: &str) -> String {
    let begin = page.find(&format!("<!-- begin {name}")).unwrap();
    let begin = begin + page[begin..].find("-->\n").unwrap() + "-->\n".len();
    let end = page.find(&format!("<!-- end {name} -->")).unwrap();
    format!("{}\n{content}\n{}", &page[..begin], &page[end..])
}

pub(super) fn exits() -> String {
    let mut text = String::from("| status | meaning |\n|---|---|\n");
    for (exit, meaning) in Exit::TABLE {
        writeln!(text, "| {} | {meaning} |", exit as u8).unwrap();
    }
    text
}

#[test]
fn it_is_up_to_date() {
    let old = fs::read_to_string(README).unwrap();
    let tables = [
        ("flow columns", markdown(&[&flow::LIST, &flow::EVENTS])),
        ("dns columns", markdown(&[&dns::EXCHANGES])),
        ("dns top columns", markdown(&[&dns::TOP])),
        ("tcp columns", markdown(&[&tcp::EVENTS])),
        ("tcp top columns", markdown(&[&tcp::TOP])),
        ("workload columns", markdown(&[&workload::LIST])),
        ("pod columns", markdown(&[&pod::LIST])),
        ("gpu columns", markdown(&[&gpu::LIST])),
        ("gpu pods columns", markdown(&[&gpu::SHARES, &gpu::IDLE])),
        ("gpu processes columns", markdown(&[&gpu::PROCESSES])),
        ("gpu health columns", markdown(&[&gpu::HEALTH])),
        ("gpu leaks columns", markdown(&[&gpu::LEAKS])),
        ("gpu events columns", markdown(&[&gpu::EVENTS])),
        ("keys", crate::top::keys_markdown()),
        ("exits", exits()),
    ];
    let new = tables.iter().fold(old.clone(), |page, (name, table)| fill(&page, name, table));
    if std::env::var_os("ORB8_BLESS").is_some() {
        fs::write(README, &new).unwrap();
        return;
    }
    assert!(old == new, "stale; run `ORB8_BLESS=1 cargo test -p orb8-cli --lib readme`");
}
