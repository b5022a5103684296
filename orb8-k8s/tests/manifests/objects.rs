//! Sets of objects, and what two of them differ in.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::documents::Document;

/// Objects by kind and name.
pub(super) type Objects = BTreeMap<String, Value>;

/// Labels that Helm's users expect, and kustomize's do not.
const HELM_LABELS: [&str; 4] = [
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
];

/// Takes away what means nothing: order where Kubernetes has none, and Helm's labels.
pub(super) fn objects(documents: Vec<Document>) -> Objects {
    let mut objects = Objects::new();
    for document in documents {
        let kind = document.kind();
        let mut value = document.value;
        for label in HELM_LABELS {
            if let Some(Value::Object(labels)) = value.pointer_mut("/metadata/labels") {
                labels.remove(label);
            }
        }
        sort_lists(&mut value);
        let name = value["metadata"]["name"].as_str().unwrap().to_owned();
        let twice = objects.insert(format!("{kind} {name}"), value);
        assert!(twice.is_none(), "{kind} {name} is there twice");
    }
    objects
}

/// Lists whose items have names become maps by these.
fn sort_lists(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.iter_mut().for_each(sort_lists);
            let name = |item: &Value| item.get("name").and_then(Value::as_str).map(str::to_owned);
            if !items.is_empty() && items.iter().all(|item| name(item).is_some()) {
                let count = items.len();
                let named: Map<String, Value> =
                    items.drain(..).map(|item| (name(&item).unwrap(), item)).collect();
                assert_eq!(named.len(), count, "a name is there twice: {named:?}");
                *value = Value::Object(named);
            }
        }
        Value::Object(fields) => fields.values_mut().for_each(sort_lists),
        _ => {}
    }
}

/// Says what two sets differ in, a line each.
pub(super) fn differences(one: &Objects, other: &Objects) -> String {
    let set = |objects: &Objects| {
        let objects = objects.iter().map(|(name, value)| (name.clone(), value.clone()));
        Value::Object(objects.collect())
    };
    let mut lines = Vec::new();
    compare(&set(one), &set(other), "", &mut lines);
    lines.join("\n")
}

fn compare(one: &Value, other: &Value, at: &str, lines: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let side = |fields: &Map<String, Value>| fields.get(key).cloned();
                let at = format!("{at}/{key}");
                match (side(one), side(other)) {
                    (Some(one), Some(other)) => compare(&one, &other, &at, lines),
                    (one, other) => lines.push(format!("{at}: {one:?} and {other:?}")),
                }
            }
        }
        (one, other) if one == other => {}
        (one, other) => lines.push(format!("{at}: {one} and {other}")),
    }
}
