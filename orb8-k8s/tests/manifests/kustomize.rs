//! What kustomize and kind read, as far as it is used here, and that nothing is left out of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::documents::{documents, files, root};

/// `kustomization.yaml`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Kustomization {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<PathBuf>,
    #[serde(default)]
    components: Vec<PathBuf>,
    #[serde(default)]
    patches: Vec<Patch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(default)]
    config_map_generator: Vec<ConfigMapGenerator>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generator_options: Option<GeneratorOptions>,
    #[serde(default)]
    labels: Vec<Labels>,
    #[serde(default)]
    pub(super) images: Vec<Image>,
}

/// By a file, or in place.
#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Patch {
    File { path: PathBuf },
    Inline { target: Target, patch: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    group: String,
    kind: String,
    name: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigMapGenerator {
    name: String,
    files: Vec<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    options: Option<GeneratorOptions>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GeneratorOptions {
    labels: Map<String, Value>,
    #[serde(default)]
    annotations: Map<String, Value>,
    #[serde(default)]
    disable_name_suffix_hash: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    pairs: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) new_tag: String,
}

/// kind's cluster.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct KindCluster {
    api_version: String,
    kind: String,
    pub(super) name: String,
    networking: Networking,
    pub(super) nodes: Vec<KindNode>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Networking {
    ip_family: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KindNode {
    pub(super) role: String,
}

const FILE: &str = "kustomization.yaml";
/// Read by kind and by Prometheus themselves, and one of two that exclude each other.
const NO_RESOURCES: [&str; 3] =
    ["e2e/kind.yaml", "deploy/prometheus/podmonitor.yaml", "deploy/prometheus/scrape.yaml"];

pub(super) fn folders() -> Vec<PathBuf> {
    let all = ["deploy", "e2e"].into_iter().flat_map(files);
    all.filter(|file| file.ends_with(FILE)).map(|file| file.parent().unwrap().to_owned()).collect()
}

#[test]
fn kustomizations_list_every_file_beside_them_and_no_other() {
    let folders = folders();
    assert!(folders.contains(&"deploy".into()) && folders.contains(&"e2e".into()), "{folders:?}");
    for folder in folders {
        let kustomization: Kustomization = documents(folder.join(FILE))[0].read();
        let patches = kustomization.patches.iter().filter_map(|patch| match patch {
            Patch::File { path } => Some(path),
            Patch::Inline { .. } => None,
        });
        let generated = kustomization.config_map_generator.iter().flat_map(|map| &map.files);
        for file in generated {
            assert!(root().join(&folder).join(file).is_file(), "{}", file.display());
        }
        let (listed, bases): (BTreeSet<_>, BTreeSet<_>) = (kustomization.resources.iter())
            .chain(&kustomization.components)
            .chain(patches)
            .map(|path| folder.join(path))
            .partition(|path| root().join(path).is_file());
        for base in bases {
            assert!(root().join(&base).join(FILE).is_file(), "{}: no {FILE}", base.display());
        }
        assert_eq!(listed, beside(&folder), "{}", folder.display());
    }
}

fn beside(folder: &Path) -> BTreeSet<PathBuf> {
    files(folder)
        .into_iter()
        .filter(|file| file.parent() == Some(folder) && !file.ends_with(FILE))
        .filter(|file| !NO_RESOURCES.iter().any(|other| file.ends_with(other)))
        .collect()
}

/// kustomize refuses a base that contains who uses it.
#[test]
fn no_base_contains_its_user() {
    for folder in folders() {
        let kustomization: Kustomization = documents(folder.join(FILE))[0].read();
        let user = fs::canonicalize(root().join(&folder)).unwrap();
        for resource in kustomization.resources.into_iter().chain(kustomization.components) {
            let base = fs::canonicalize(user.join(&resource)).unwrap();
            assert!(!user.starts_with(&base), "{} in {}", resource.display(), folder.display());
        }
    }
}
