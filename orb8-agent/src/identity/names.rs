//! Names of containers and pods, from the files that runtimes leave on the node.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Runtime;

/// A container's configuration is a few tens of kilobytes; more than this is not one.
const MAX_FILE: u64 = 4 << 20;

/// Where Docker keeps `<id>/config.v2.json`.
const DOCKER: &[&str] =
    &["var/lib/docker/containers", "var/snap/docker/common/var-lib-docker/containers"];
/// Where containerd keeps `<namespace>/<id>/config.json`.
const CONTAINERD: &[&str] = &[
    "run/containerd/io.containerd.runtime.v2.task",
    "run/k3s/containerd/io.containerd.runtime.v2.task",
    "var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task",
];
/// Where CRI-O and Podman keep `<id>/userdata/config.json`.
const CONTAINERS_RUN: &str = "run/containers/storage/overlay-containers";
/// Podman's list of containers.
const CONTAINERS_LIST: &str = "var/lib/containers/storage/overlay-containers/containers.json";

/// What a runtime calls a container. What it does not tell is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Kubernetes namespace.
    pub namespace: Option<String>,
    /// Pod name.
    pub pod: Option<String>,
    /// Container name.
    pub container: Option<String>,
    /// The runtime whose files these are.
    pub runtime: Option<Runtime>,
}

impl Names {
    /// Looks a container up below `root` (`/` but for tests), in the files of its runtime, or of
    /// every runtime where it is not known.
    #[must_use]
    pub fn look_up(root: &Path, runtime: Option<Runtime>, id: &str) -> Self {
        let found = match runtime {
            Some(Runtime::Containerd) => containerd(root, id),
            Some(Runtime::Crio) => crio(root, id),
            Some(Runtime::Docker) => docker(root, id),
            Some(Runtime::Podman) => podman(root, id),
            None => containerd(root, id).or_else(|| crio(root, id)).or_else(|| docker(root, id)),
        };
        found.unwrap_or_default()
    }

    /// Reads what the CRI runtimes and cri-dockerd write as annotations and labels.
    fn from_labels(labels: &mut HashMap<String, String>, keys: &LabelKeys) -> Self {
        let mut take = |key: &str| labels.remove(key).filter(|value| !value.is_empty());
        Self {
            namespace: take(keys.namespace),
            pod: take(keys.pod),
            container: take(keys.container),
            runtime: None,
        }
    }
}

struct LabelKeys {
    namespace: &'static str,
    pod: &'static str,
    container: &'static str,
}

/// containerd's CRI plugin.
const CRI_KEYS: LabelKeys = LabelKeys {
    namespace: "io.kubernetes.cri.sandbox-namespace",
    pod: "io.kubernetes.cri.sandbox-name",
    container: "io.kubernetes.cri.container-name",
};

/// CRI-O and cri-dockerd, as the kubelet names them.
const KUBELET_KEYS: LabelKeys = LabelKeys {
    namespace: "io.kubernetes.pod.namespace",
    pod: "io.kubernetes.pod.name",
    container: "io.kubernetes.container.name",
};

/// nerdctl's name of a container.
const NERDCTL_NAME: &str = "nerdctl/name";

/// An OCI bundle's `config.json`.
#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    annotations: HashMap<String, String>,
}

fn containerd(root: &Path, id: &str) -> Option<Names> {
    let namespaces = CONTAINERD.iter().filter_map(|base| fs::read_dir(root.join(base)).ok());
    let mut bundles = namespaces.flatten().flatten().map(|entry| entry.path().join(id));
    let mut bundle: Bundle = bundles.find_map(|bundle| read_json(&bundle.join("config.json")))?;
    let names = Names::from_labels(&mut bundle.annotations, &CRI_KEYS);
    let container = names.container.or_else(|| bundle.annotations.remove(NERDCTL_NAME));
    Some(Names { container, runtime: Some(Runtime::Containerd), ..names })
}

fn crio(root: &Path, id: &str) -> Option<Names> {
    let file = root.join(CONTAINERS_RUN).join(id).join("userdata/config.json");
    let mut bundle: Bundle = read_json(&file)?;
    let names = Names::from_labels(&mut bundle.annotations, &KUBELET_KEYS);
    // Podman keeps its bundles there as well, without a pod.
    names.pod.is_some().then_some(Names { runtime: Some(Runtime::Crio), ..names })
}

/// `config.v2.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerContainer {
    name: Option<String>,
    config: Option<DockerConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerConfig {
    labels: Option<HashMap<String, String>>,
}

fn docker(root: &Path, id: &str) -> Option<Names> {
    let file = |base: &&str| read_json(&root.join(base).join(id).join("config.v2.json"));
    let DockerContainer { name, config } = DOCKER.iter().find_map(file)?;
    let mut labels = config.and_then(|config| config.labels).unwrap_or_default();
    let names = Names::from_labels(&mut labels, &KUBELET_KEYS);
    let own_name = || name.map(|name| name.trim_start_matches('/').to_owned());
    let container = names.container.or_else(own_name);
    Some(Names { container, runtime: Some(Runtime::Docker), ..names })
}

#[derive(Deserialize)]
struct PodmanContainer {
    id: String,
    #[serde(default)]
    names: Vec<String>,
}

fn podman(root: &Path, id: &str) -> Option<Names> {
    let containers: Vec<PodmanContainer> = read_json(&root.join(CONTAINERS_LIST))?;
    let container = containers.into_iter().find(|container| container.id == id)?;
    let name = container.names.into_iter().next();
    Some(Names { container: name, runtime: Some(Runtime::Podman), ..Names::default() })
}

/// Reads a file of bounded size. One that is absent, too large or not what it should be gives
/// no names.
fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(MAX_FILE).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "7f3c1a9be2d84460a5c1f0e9d8b7a695847362514f3e2d1c0b9a8f7e6d5c4b3a";

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file.replace("ID", ID));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn names(pod: Option<(&str, &str)>, container: &str, runtime: Runtime) -> Names {
        Names {
            namespace: pod.map(|(namespace, _)| namespace.to_owned()),
            pod: pod.map(|(_, name)| name.to_owned()),
            container: Some(container.to_owned()),
            runtime: Some(runtime),
        }
    }

    #[test]
    fn containerd_names_pod_and_container() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            "run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json",
            r#"{"ociVersion":"1.1.0","annotations":{
                "io.kubernetes.cri.container-name":"trainer",
                "io.kubernetes.cri.container-type":"container",
                "io.kubernetes.cri.sandbox-name":"bert-0",
                "io.kubernetes.cri.sandbox-namespace":"ml"}}"#,
        );
        let expected = names(Some(("ml", "bert-0")), "trainer", Runtime::Containerd);
        assert_eq!(Names::look_up(root.path(), Some(Runtime::Containerd), ID), expected);
        assert_eq!(Names::look_up(root.path(), None, ID), expected, "runtime not in the path");
        assert_eq!(Names::look_up(root.path(), Some(Runtime::Docker), ID), Names::default());
    }

    #[test]
    fn nerdctl_names_its_containers() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            "run/containerd/io.containerd.runtime.v2.task/default/ID/config.json",
            r#"{"annotations":{"nerdctl/name":"redis"}}"#,
        );
        let expected = names(None, "redis", Runtime::Containerd);
        assert_eq!(Names::look_up(root.path(), Some(Runtime::Containerd), ID), expected);
    }

    #[test]
    fn crio_names_pod_and_container() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            "run/containers/storage/overlay-containers/ID/userdata/config.json",
            r#"{"annotations":{
                "io.kubernetes.container.name":"api",
                "io.kubernetes.pod.name":"web-1",
                "io.kubernetes.pod.namespace":"shop"}}"#,
        );
        let expected = names(Some(("shop", "web-1")), "api", Runtime::Crio);
        assert_eq!(Names::look_up(root.path(), Some(Runtime::Crio), ID), expected);
        assert_eq!(Names::look_up(root.path(), None, ID), expected);
    }

    #[test]
    fn docker_names_its_containers_and_the_kubelets() {
        let root = tempfile::tempdir().unwrap();
        let file = "var/lib/docker/containers/ID/config.v2.json";
        write(root.path(), file, r#"{"Name":"/web","Config":{"Labels":null}}"#);
        let expected = names(None, "web", Runtime::Docker);
        assert_eq!(Names::look_up(root.path(), Some(Runtime::Docker), ID), expected);
        write(
            root.path(),
            file,
            r#"{"Name":"/k8s_api_web-1_shop_uid_0","Config":{"Labels":{
                "io.kubernetes.container.name":"api",
                "io.kubernetes.pod.name":"web-1",
                "io.kubernetes.pod.namespace":"shop"}}}"#,
        );
        let expected = names(Some(("shop", "web-1")), "api", Runtime::Docker);
        assert_eq!(Names::look_up(root.path(), None, ID), expected);
    }

    #[test]
    fn podman_names_its_containers() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            "var/lib/containers/storage/overlay-containers/containers.json",
            &format!(r#"[{{"id":"other","names":["x"]}},{{"id":"{ID}","names":["db"]}}]"#),
        );
        let expected = names(None, "db", Runtime::Podman);
        assert_eq!(Names::look_up(root.path(), Some(Runtime::Podman), ID), expected);
    }

    #[test]
    fn broken_files_give_no_names() {
        let root = tempfile::tempdir().unwrap();
        let file = "var/lib/docker/containers/ID/config.v2.json";
        for text in ["", "{", "[]", r#"{"Name":5}"#] {
            write(root.path(), file, text);
            assert_eq!(Names::look_up(root.path(), None, ID), Names::default(), "{text}");
        }
    }
}
