//! The dashboards as they are checked in, and their queries as Grafana would send them.

use std::fs;

use serde_json::Value;

use super::server::deployed;

/// A query of a panel, or a variable's.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// Dashboard, panel and query, for who reads a failure.
    pub(super) at: String,
    pub(super) expression: String,
    /// What the panel says when it is empty.
    pub(super) without_data: String,
}

/// A variable: the label whose values it offers, and the series that have it.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub(super) at: String,
    pub(super) label: String,
    pub(super) selector: String,
}

/// What is chosen at the top of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) node: &'static str,
    pub(super) namespace: &'static str,
    pub(super) workload: &'static str,
}

impl Choice {
    /// What Grafana puts in place of variables. The window holds some 20 scrapes.
    fn put_into(self, expression: &str) -> String {
        let Self { node, namespace, workload } = self;
        let filled = expression.replace("$__rate_interval", "20s").replace("$node", node);
        let filled = filled.replace("$namespace", namespace).replace("$workload", workload);
        assert!(!filled.contains('$'), "a variable that nobody fills in: {filled}");
        filled
    }
}

fn pages() -> Vec<Value> {
    let folder = deployed("grafana/dashboards");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the dashboards")
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    let read = |path| fs::read_to_string(path).expect("a dashboard");
    files.iter().map(read).map(|text| serde_json::from_str(&text).expect("JSON")).collect()
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The queries of the dashboards whose id `wanted` picks.
pub(super) fn queries(choice: Choice, wanted: impl Fn(&str) -> bool) -> Vec<Query> {
    let mut found = Vec::new();
    for page in pages().iter().filter(|page| wanted(&text(page, "/uid"))) {
        for panel in list(page, "/panels") {
            for target in list(panel, "/targets") {
                let at = [(page, "/uid"), (panel, "/title"), (target, "/refId")];
                found.push(Query {
                    at: at.map(|(value, pointer)| text(value, pointer)).join(" / "),
                    expression: choice.put_into(&text(target, "/expr")),
                    without_data: text(panel, "/fieldConfig/defaults/noValue"),
                });
            }
        }
    }
    found
}

/// The variables of all dashboards.
pub(super) fn variables(choice: Choice) -> Vec<Variable> {
    let mut found = Vec::new();
    for page in pages() {
        let variables = list(&page, "/templating/list");
        for variable in variables.filter(|variable| variable["type"] == "query") {
            let query = text(variable, "/query/query");
            let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (selector, label) =
                inner.and_then(|inner| inner.rsplit_once(", ")).expect("its form");
            found.push(Variable {
                at: format!("{} / ${}", text(&page, "/uid"), text(variable, "/name")),
                label: label.to_owned(),
                selector: choice.put_into(selector),
            });
        }
    }
    found
}
