//! Whoever is woken by an alert finds its section.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::pages::{Page, root};

const PAGE: &str = "docs/troubleshooting.md";

/// Every text file below a folder.
fn texts(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => texts(&path),
            false => fs::read_to_string(path).into_iter().collect(),
        })
        .collect()
}

/// Headings that files lead to.
fn led_to(text: &str) -> impl Iterator<Item = &str> {
    let links = text.split("troubleshooting.md#").skip(1);
    links.filter_map(|rest| rest.split(|c: char| !(c.is_alphanumeric() || "-_".contains(c))).next())
}

#[test]
fn every_alert_has_its_section_and_every_section_its_alert() {
    let texts = texts(&root().join("deploy"));
    let named: BTreeSet<&str> = texts
        .iter()
        .flat_map(|text| led_to(text))
        .filter(|name| name.starts_with("alert-"))
        .collect();
    let page = Page::read(PAGE);
    let sections: BTreeSet<&str> = page
        .anchors
        .iter()
        .map(String::as_str)
        .filter(|anchor| anchor.starts_with("alert-"))
        .collect();
    assert!(named.len() > 5, "{named:?}");
    let without: Vec<_> = named.difference(&sections).collect();
    assert!(without.is_empty(), "{PAGE} has no sections for {without:?}");
    let stale: Vec<_> = sections.difference(&named).collect();
    assert!(stale.is_empty(), "{PAGE} has sections of alerts that do not exist: {stale:?}");
}

#[test]
fn every_rule_that_alerts_leads_to_a_section() {
    for text in texts(&root().join("deploy/prometheus")) {
        let is_rule =
            |line: &&str| line.trim_start().trim_start_matches("- ").starts_with("alert: ");
        let (rules, links) =
            (text.lines().filter(is_rule).count(), text.matches("runbook_url: ").count());
        // Tests of rules have links and no rules.
        assert!(rules == 0 || rules == links, "{rules} alerts, {links} runbooks in:\n{text}");
    }
}
