//! The YAML documents of a folder.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::DaemonSet;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One document of a file.
#[derive(Clone, Debug)]
pub(super) struct Document {
    /// From the checkout's root.
    pub(super) path: PathBuf,
    pub(super) value: Value,
}

impl Document {
    /// `apiVersion/kind`.
    pub(super) fn kind(&self) -> String {
        let text = |key: &str| self.value.get(key).and_then(Value::as_str).unwrap_or("?");
        format!("{}/{}", text("apiVersion"), text("kind"))
    }

    pub(super) fn read<T: DeserializeOwned>(&self) -> T {
        serde_json::from_value(self.value.clone())
            .unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }
}

/// The checkout's root.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Reads a file of the checkout.
pub(super) fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Says why a test does not run. What `ORB8_REQUIRE` names has to be there.
pub(super) fn skip(test: &str, program: &str, reason: &str) {
    let required = std::env::var("ORB8_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == program), "{program} is required: {reason}");
    // Not a macro: the harness keeps to itself what a test that passes prints by one.
    writeln!(std::io::stderr(), "SKIPPED {test}: {reason}").expect("standard error");
}

/// Lists the YAML files below a folder of the checkout.
pub(super) fn files(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let folder = folder.as_ref();
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = folder.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|ending| ending == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Reads the documents of a file.
pub(super) fn documents(path: impl AsRef<Path>) -> Vec<Document> {
    let path = path.as_ref();
    let values: Vec<Value> = serde_saphyr::from_multiple(&text(path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(!values.is_empty(), "{} is empty", path.display());
    values.into_iter().map(|value| Document { path: path.to_owned(), value }).collect()
}

/// Read by Helm, and by Prometheus itself.
const NO_OBJECTS: [&str; 4] = [
    "deploy/helm",
    "deploy/prometheus/rules",
    "deploy/prometheus/scrape.yaml",
    "deploy/prometheus/tests",
];

/// Reads all documents that a person writes for a cluster.
pub(super) fn all() -> Vec<Document> {
    let files = ["deploy", "e2e"].into_iter().flat_map(files);
    let objects = files.filter(|file| !NO_OBJECTS.iter().any(|other| file.starts_with(other)));
    objects.flat_map(documents).collect()
}

/// The only document of a kind in `deploy/base`.
pub(super) fn only<T: DeserializeOwned>(kind: &str) -> T {
    let base: Vec<Document> = files("deploy/base").into_iter().flat_map(documents).collect();
    let mut matching = base.iter().filter(|document| document.kind() == kind);
    let found = matching.next().unwrap_or_else(|| panic!("no {kind} in deploy/base"));
    assert!(matching.next().is_none(), "several of {kind} in deploy/base");
    found.read()
}

pub(super) fn daemonset() -> DaemonSet {
    only("apps/v1/DaemonSet")
}
