//! The part of the Helm chart's schema that is the table of settings.

use std::fs;
use std::path::Path;

use orb8_agent::config::settings::{ENV_PREFIX, SETTINGS, Setting};
use serde_json::{Map, Value, json};

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/orb8/values.schema.json");
const AT: &str = "/properties/agent/properties/settings/properties";

/// Settings that other values of the chart decide, or that the pod does.
const DECIDED: [&str; 9] = [
    "admin-listen",
    "insecure-listen",
    "kubernetes",
    "listen",
    "node-name",
    "socket",
    "tls-cert",
    "tls-client-ca",
    "tls-key",
];

/// What may be written. YAML's `off` is a boolean, so that only switches are.
fn schema_of(setting: &Setting) -> Value {
    let mut schema = if setting.is_switch() {
        json!({"type": "boolean"})
    } else if setting.doc.contains("comma-separated") {
        json!({"type": ["string", "integer", "array"], "items": {"type": ["string", "integer"]}})
    } else {
        json!({"type": ["string", "integer"]})
    };
    schema["description"] = setting.doc.into();
    schema
}

fn settings() -> Value {
    let taken = SETTINGS.iter().filter(|setting| !DECIDED.contains(&setting.name));
    let properties = taken.map(|setting| (setting.key(), schema_of(setting)));
    Value::Object(properties.collect::<Map<_, _>>())
}

#[test]
fn the_charts_settings_are_the_agents() {
    let mut schema: Value = serde_json::from_str(&fs::read_to_string(SCHEMA).unwrap()).unwrap();
    let known = schema.pointer_mut(AT).unwrap();
    if *known == settings() {
        return;
    }
    assert!(
        std::env::var_os("ORB8_BLESS").is_some(),
        "values.schema.json is stale; run `ORB8_BLESS=1 cargo test -p orb8-agent --test manifests chart`"
    );
    *known = settings();
    let text = serde_json::to_string_pretty(&schema).unwrap();
    fs::write(Path::new(SCHEMA), text + "\n").unwrap();
}

/// The chart makes a setting's variable of its key.
#[test]
fn variables_are_the_keys_in_capitals() {
    for setting in SETTINGS {
        assert_eq!(setting.env, format!("{ENV_PREFIX}{}", setting.key().to_uppercase()));
    }
    for name in DECIDED {
        assert!(SETTINGS.iter().any(|setting| setting.name == name), "{name}");
    }
}
