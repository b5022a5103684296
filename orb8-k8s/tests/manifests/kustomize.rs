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
    resources: Vec<PathBuf>,
    #[serde(default)]
    patches: Vec<Patch>,
    #[serde(default)]
    labels: Vec<Labels>,
    #[serde(default)]
    pub(super) images: Vec<Image>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    path: PathBuf,
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
/// Read by kind itself.
const NO_RESOURCES: [&str; 1] = ["e2e/kind.yaml"];

fn folders() -> Vec<PathBuf> {
    let all = ["deploy", "e2e"].into_iter().flat_map(files);
    all.filter(|file| file.ends_with(FILE)).map(|file| file.parent().unwrap().to_owned()).collect()
}

#[test]
fn kustomizations_list_every_file_beside_them_and_no_other() {
    let folders = folders();
    assert!(folders.contains(&"deploy".into()) && folders.contains(&"e2e".into()), "{folders:?}");
    for folder in folders {
        let kustomization: Kustomization = documents(folder.join(FILE))[0].read();
        let patches = kustomization.patches.iter().map(|patch| &patch.path);
        let (listed, bases): (BTreeSet<_>, BTreeSet<_>) = (kustomization.resources.iter())
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
        for resource in kustomization.resources {
            let base = fs::canonicalize(user.join(&resource)).unwrap();
            assert!(!user.starts_with(&base), "{} in {}", resource.display(), folder.display());
        }
    }
}
