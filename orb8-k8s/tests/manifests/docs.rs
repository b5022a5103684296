//! docs/deployment.md says what the manifests do.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

use orb8_k8s::resources::{Part, RESOURCES};

use super::daemonset::{CAPABILITIES, host_mounts};
use super::documents::{daemonset, documents, root, text};

const PAGE: &str = "docs/deployment.md";

fn access_table() -> String {
    let mut table = String::from("| resource | verbs | of each | why |\n|---|---|---|---|\n");
    for row in &RESOURCES {
        let verbs = row.verbs.join(", ");
        let part = match row.part {
            Part::Whole => "all of it",
            Part::Metadata => "metadata",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(table, "| `{}` | {verbs} | {part} | {} |", row.name(), row.why);
    }
    table
}

#[test]
fn the_table_of_what_is_asked_is_up_to_date() {
    let old = text(PAGE);
    let begin = old.find("<!-- begin access").expect("begin marker");
    let begin = begin + old[begin..].find("-->").expect("marker's end") + "-->\n".len();
    let end = old.find("<!-- end access").expect("end marker");
    let new = format!("{}\n{}\n{}", &old[..begin], access_table(), &old[end..]);
    if std::env::var_os("ORB8_BLESS").is_some() {
        fs::write(root().join(PAGE), &new).unwrap();
        return;
    }
    assert!(
        old == new,
        "{PAGE} is stale; run `ORB8_BLESS=1 cargo test -p orb8-k8s --test manifests docs`"
    );
}

/// The rows of the first table whose header begins so, as their cells.
fn rows(page: &str, header: &str) -> Vec<Vec<String>> {
    let lines = page.lines().skip_while(|line| !line.starts_with(header)).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split(" | ");
        cells.map(|cell| cell.trim().trim_matches('`').to_owned()).collect::<Vec<_>>()
    };
    rows.map(cells).collect()
}

#[test]
fn every_capability_is_explained_and_none_that_is_not_granted() {
    let page = text(PAGE);
    let explained = rows(&page, "| capability | what needs it |");
    let named: Vec<&str> = explained.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(named, CAPABILITIES);
    let denied = rows(&page, "| capability | what it would add |");
    assert!(denied.iter().all(|row| !CAPABILITIES.contains(&row[0].as_str())), "{denied:?}");
    assert!(explained.iter().chain(&denied).all(|row| row.iter().all(|cell| !cell.is_empty())));
}

#[test]
fn every_mount_of_the_nodes_files_is_explained() {
    let rows = rows(&text(PAGE), "| path on the node | path in the container |");
    let explained: BTreeSet<(String, String)> = rows
        .into_iter()
        .map(|row| {
            let inside = if row[1] == "the same" { &row[0] } else { &row[1] };
            (row[0].clone(), inside.clone())
        })
        .collect();
    let mounted: BTreeSet<(String, String)> = host_mounts(&daemonset()).into_iter().collect();
    assert_eq!(explained, mounted);
}

/// Files and folders that the page leads to.
#[test]
fn what_the_page_names_is_there() {
    let page = text(PAGE);
    let mut led = 0;
    for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        // A place on this page, or on the other one.
        let file = link.split('#').next().unwrap_or(link);
        assert!(root().join("docs").join(file).exists(), "{link}");
        led += 1;
    }
    let words = page.split(|c: char| c.is_whitespace() || "`();:,".contains(c));
    for path in words.filter(|word| word.starts_with("deploy/")) {
        assert!(root().join(path).exists(), "{path}");
        led += 1;
    }
    assert!(led > 5, "{led}");
    let namespace = documents("deploy/base/namespace.yaml")[0].clone();
    assert_eq!(namespace.value["metadata"]["name"], "orb8-system");
}
