//! Metrics, settings, variables and flags that pages name are in the tables that they come from.

use std::collections::BTreeSet;
use std::fs;

use orb8_agent::config::{Environment, RawConfig};

use super::pages::{Page, all, book, root};

/// The first cell's code of each row of a page's tables.
fn first_cells(path: &str) -> BTreeSet<String> {
    cells(path, 1)
}

fn cells(path: &str, column: usize) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(path)).unwrap();
    let cell = |row: &str| Some(row.split('`').nth(2 * column - 1)?.to_owned());
    text.lines().filter(|line| line.starts_with("| `")).filter_map(cell).collect()
}

/// Runs of what names are made of.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "_-*".contains(c)))
}

/// Names in code that begin so, with the page that has them.
fn named<'a>(pages: &'a [Page], start: &'a str) -> impl Iterator<Item = (&'a Page, &'a str)> {
    let of_page = move |page: &'a Page| {
        let words = page.code().flat_map(words).filter(move |word| word.starts_with(start));
        words.map(move |word| (page, word))
    };
    pages.iter().flat_map(of_page)
}

fn is_crate(name: &str) -> bool {
    root().join(name.replace('_', "-")).join("Cargo.toml").exists()
}

/// What Prometheus makes of a histogram.
const PARTS: [&str; 4] = ["_bucket", "_sum", "_count", "_created"];

#[test]
fn every_metric_that_is_named_exists() {
    let known = first_cells("docs/metrics.md");
    let is_known = |name: &str| {
        let begins = |start: &str| known.iter().any(|known| known.starts_with(start));
        let is_part = PARTS
            .iter()
            .filter_map(|part| name.strip_suffix(part))
            .any(|name| known.contains(name));
        match name.strip_suffix('*') {
            Some(start) => begins(start),
            // What stands before an alternative: `orb8_flow_{bytes,packets}_total`.
            None if name.ends_with('_') => begins(name),
            None => known.contains(name) || is_part,
        }
    };
    assert!(is_known("orb8_agent_lost_packets_total") && !is_known("orb8_agent_lost_packets"));
    let pages = all();
    let unknown: BTreeSet<String> = named(&pages, "orb8_")
        // Packages have versions: orb8_0.1.0.
        .filter(|(_, name)| name["orb8_".len()..].starts_with(|c: char| c.is_ascii_alphabetic()))
        .filter(|(_, name)| !is_crate(name) && !is_known(name))
        .map(|(page, name)| format!("{}: {name}", page.name()))
        .collect();
    assert!(unknown.is_empty(), "metrics that are not in docs/metrics.md: {unknown:#?}");
}

#[test]
fn every_variable_that_is_named_exists() {
    let settings = cells("docs/configuration.md", 2);
    let others = first_cells("docs/configuration.md");
    let pages = all();
    let unknown: BTreeSet<String> = named(&pages, "ORB8_")
        .filter(|(_, name)| {
            *name != "ORB8_" && !settings.contains(*name) && !others.contains(*name)
        })
        .map(|(page, name)| format!("{}: {name}", page.name()))
        .collect();
    assert!(settings.contains("ORB8_LISTEN") && others.contains("ORB8_AGENT"));
    assert!(unknown.is_empty(), "variables that are not in docs/configuration.md: {unknown:#?}");
}

/// All long flags of the command line.
fn flags(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(clap::Arg::get_long_and_visible_aliases);
    let own = own.flatten().map(|name| format!("--{name}"));
    own.chain(command.get_subcommands().flat_map(flags)).collect()
}

/// These tell of other programs' flags too.
const OF_OTHERS: [&str; 2] = ["docs/benchmarks.md", "docs/deployment.md"];

/// Flags of others that are told of elsewhere.
const FOREIGN: [&str; 3] = ["--locked", "--no-default-features", "--enable-feature"];

#[test]
fn every_flag_that_is_named_exists() {
    let mut command = crate::command();
    command.build();
    let mut known = flags(&command);
    known.extend(first_cells("docs/configuration.md"));
    known.extend(["--help", "--version", "--config", "--not"].map(str::to_owned));
    let pages = book();
    let pages = pages.iter().filter(|page| !OF_OTHERS.contains(&page.name().as_str()));
    let codes = pages.flat_map(|page| page.codes.iter().map(move |code| (page, code)));
    let named: BTreeSet<(String, &str)> = codes
        .filter(|(_, code)| code.starts_with("--"))
        .map(|(page, code)| (page.name(), code.split([' ', '=']).next().unwrap()))
        .collect();
    assert!(named.len() > 40, "{named:?}");
    let is_known = |flag| known.contains(flag) || FOREIGN.contains(&flag);
    let unknown: Vec<_> = named.iter().filter(|(_, flag)| !is_known(flag)).collect();
    assert!(unknown.is_empty(), "flags that nothing has: {unknown:#?}");
}

#[test]
fn every_cause_of_loss_is_explained() {
    let metrics = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let causes = metrics.split("| cause | what is lost |").nth(1).expect("the table of causes");
    let explained = first_cells("docs/troubleshooting.md");
    for row in causes.lines().filter_map(|line| line.strip_prefix("| `")) {
        let cause = row.split('`').next().unwrap();
        // Rings have one for each probe.
        let is_explained = match cause.strip_suffix("<probe>") {
            Some(start) => explained.iter().any(|known| known.starts_with(start)),
            None => explained.contains(cause),
        };
        assert!(is_explained, "docs/troubleshooting.md does not explain {cause}");
    }
}

#[test]
fn every_capability_that_the_agent_has_is_explained() {
    let manifest = fs::read_to_string(root().join("deploy/base/daemonset.yaml")).unwrap();
    let added = manifest.split("add:").nth(1).unwrap().split("volumeMounts:").next().unwrap();
    let added: BTreeSet<&str> =
        added.lines().filter_map(|line| line.trim().strip_prefix("- ")).collect();
    assert!(added.contains("BPF"), "{added:?}");
    let explained = first_cells("docs/security.md");
    for capability in added {
        assert!(explained.contains(capability), "docs/security.md does not explain {capability}");
    }
}

/// Settings files are ones that the agent takes.
#[test]
fn every_settings_file_is_taken() {
    let pages = book();
    let files = pages.iter().flat_map(|page| page.blocks.iter().map(move |block| (page, block)));
    let mut taken = 0;
    for (page, block) in files.filter(|(_, block)| block.language == "toml") {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &block.text).unwrap();
        let environment = Environment {
            page_size: 4096,
            host_name: Some("node-1".to_owned()),
            ..Environment::default()
        };
        let config = RawConfig::default().with_file(file.path()).load(&environment);
        assert!(config.is_ok(), "{}: {}\n{}", page.name(), config.unwrap_err(), block.text);
        taken += 1;
    }
    assert!(taken > 0, "no page shows a settings file");
}
