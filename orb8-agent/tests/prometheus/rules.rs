//! The rules: promtool finds them right, every one is tested, and all tests pass.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;

use super::server::deployed;
use crate::kernel::support::program::has_programs;

/// Every rule, as it is checked in.
pub(super) fn all() -> Vec<Value> {
    let mut rules = Vec::new();
    for file in ["recording", "alerts"] {
        let parsed = yaml(&deployed(&format!("prometheus/rules/{file}.yaml")));
        let groups = parsed["groups"].as_array().expect("groups").iter();
        rules.extend(groups.flat_map(|group| group["rules"].as_array().expect("rules")).cloned());
    }
    rules
}

pub(super) fn yaml(path: &str) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The selectors of an expression: names of orb8's series, and of `up`, with their matchers.
pub(super) fn selectors(expression: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = BTreeSet::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_name) {
        rest = &rest[start..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        if name == "up" || name.contains("orb8_") {
            let matchers = after.find('}').filter(|_| after.starts_with('{'));
            let matchers = matchers.map_or("", |end| &after[..=end]);
            found.insert(format!("{name}{matchers}"));
        } else if let Some(end) = after.find('}').filter(|_| after.starts_with('{')) {
            rest = &after[end..];
        }
    }
    found
}

pub(super) fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).output().expect("promtool runs");
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "promtool {}:\n{}", arguments.join(" "), said.concat());
}

#[test]
fn promtool_finds_them_right() {
    if !has_programs(&["promtool"]) {
        return;
    }
    let files =
        ["recording", "alerts"].map(|file| deployed(&format!("prometheus/rules/{file}.yaml")));
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", &files[0], &files[1]]);
}

#[test]
fn promtool_tests_pass() {
    if !has_programs(&["promtool"]) {
        return;
    }
    let files = ["agents", "workloads", "gpu"];
    let files = files.map(|file| deployed(&format!("prometheus/tests/{file}.yaml")));
    promtool(&["test", "rules", &files[0], &files[1], &files[2]]);
}

/// Fires and does not, for each alert; and a value for each recording rule.
#[test]
fn every_rule_is_tested() {
    let mut tested = BTreeSet::new();
    let folder = fs::read_dir(deployed("prometheus/tests")).expect("the tests");
    for file in folder {
        let file = yaml(&file.expect("a file").path().display().to_string());
        for test in file["tests"].as_array().expect("tests") {
            let of = |list: &str| test[list].as_array().cloned().unwrap_or_default();
            for alert in of("alert_rule_test") {
                let fires = alert["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
                let name = alert["alertname"].as_str().expect("a name");
                tested.insert(format!("{name} {}", if fires { "fires" } else { "does not fire" }));
            }
            for expression in of("promql_expr_test") {
                let expression = expression["expr"].as_str().expect("an expression").to_owned();
                tested.extend(selectors(&expression).iter().map(|found| bare(found).to_owned()));
            }
        }
    }
    let mut missing = Vec::new();
    for rule in all() {
        let wanted = match (rule["alert"].as_str(), rule["record"].as_str()) {
            (Some(name), _) => vec![format!("{name} fires"), format!("{name} does not fire")],
            (None, name) => vec![name.expect("an alert or a record").to_owned()],
        };
        missing.extend(wanted.into_iter().filter(|wanted| !tested.contains(wanted)));
    }
    assert!(missing.is_empty(), "deploy/prometheus/tests lacks: {missing:#?}");
}

/// What whoever is woken needs, and nothing that a template could not fill in.
#[test]
fn alerts_say_what_to_do() {
    for rule in all().iter().filter(|rule| rule.get("alert").is_some()) {
        let name = rule["alert"].as_str().expect("a name");
        let severity = rule["labels"]["severity"].as_str();
        assert!(matches!(severity, Some("critical" | "warning" | "info")), "{name}: {severity:?}");
        for annotation in ["summary", "description", "runbook_url"] {
            let text = rule["annotations"][annotation].as_str();
            assert!(text.is_some_and(|text| !text.is_empty()), "{name} has no {annotation}");
        }
    }
}

fn bare(selector: &str) -> &str {
    selector.split('{').next().unwrap_or(selector)
}

#[test]
fn selectors_are_found_with_their_matchers() {
    let expression = r#"sum by (node) (rate(orb8_a_total{side="x", b!~"c|d"}[5m])) / a:orb8_b:c > 1
        and on (job) up offset 10m == 1 or absent(up{job="orb8-agent"} == 1)"#;
    let found: Vec<_> = selectors(expression).into_iter().collect();
    let expected =
        ["a:orb8_b:c", r#"orb8_a_total{side="x", b!~"c|d"}"#, "up", r#"up{job="orb8-agent"}"#];
    assert_eq!(found, expected);
}
