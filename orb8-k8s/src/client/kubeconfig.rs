//! Kubeconfig files.

use std::io;
use std::path::{Path, PathBuf};

use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use super::ConnectError;

/// Whether there is one to take when none is named.
pub(super) fn is_there() -> bool {
    let files = usual();
    std::env::var_os("KUBECONFIG").is_some_and(|paths| !paths.is_empty())
        || files.iter().any(|file| file.exists())
}

/// Reads the file, or the usual ones, and takes a context: the configuration, and its origin for
/// status.
pub(super) async fn load(
    path: Option<PathBuf>,
    context: Option<String>,
) -> Result<(Config, String), ConnectError> {
    let files = path.map_or_else(usual, |path| vec![path]);
    let merged = read(&files)?;
    let path = shown(&files);
    let known: Vec<String> = merged.contexts.iter().map(|context| context.name.clone()).collect();
    let context = match context.or_else(|| merged.current_context.clone()) {
        Some(context) if known.contains(&context) => context,
        Some(context) => return Err(ConnectError::UnknownContext { path, context, known }),
        None => return Err(ConnectError::NoContext { path, known }),
    };
    if let Some(proxy) = proxy_of(&merged, &context) {
        return Err(ConnectError::Proxy { path, proxy });
    }
    let options = KubeConfigOptions { context: Some(context.clone()), ..Default::default() };
    match Config::from_custom_kubeconfig(merged, &options).await {
        Ok(config) => Ok((config, format!("kubeconfig {path} ({context})"))),
        Err(error) => Err(ConnectError::Invalid { path, problem: error.to_string() }),
    }
}

/// The first file wins where two say something, and one of several may be missing, as with kubectl.
fn read(files: &[PathBuf]) -> Result<Kubeconfig, ConnectError> {
    let mut merged = None;
    let mut missing = None;
    for file in files {
        match Kubeconfig::read_from(file) {
            Err(KubeconfigError::ReadConfig(source, path))
                if source.kind() == io::ErrorKind::NotFound =>
            {
                missing.get_or_insert(ConnectError::Read { path, source });
            }
            next => {
                let next = next.map_err(|error| unreadable(file, error))?;
                let before: Kubeconfig = merged.take().unwrap_or_default();
                merged = Some(before.merge(next).map_err(|error| unreadable(file, error))?);
            }
        }
    }
    merged.ok_or(missing.unwrap_or(ConnectError::NoKubeconfig))
}

/// The proxy that a context's cluster is behind.
fn proxy_of(kubeconfig: &Kubeconfig, context: &str) -> Option<String> {
    let context =
        kubeconfig.contexts.iter().find(|named| named.name == context)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|named| named.name == context.cluster)?;
    let proxy = cluster.cluster.as_ref()?.proxy_url.clone();
    proxy.filter(|proxy| !proxy.is_empty())
}

fn unreadable(file: &Path, error: KubeconfigError) -> ConnectError {
    match error {
        KubeconfigError::ReadConfig(source, path) => ConnectError::Read { path, source },
        error => {
            ConnectError::Invalid { path: file.display().to_string(), problem: error.to_string() }
        }
    }
}

/// Those of `$KUBECONFIG`, else `~/.kube/config`.
fn usual() -> Vec<PathBuf> {
    if let Some(paths) = std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty()) {
        return std::env::split_paths(&paths).filter(|path| !path.as_os_str().is_empty()).collect();
    }
    std::env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect()
}

fn shown(files: &[PathBuf]) -> String {
    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    files.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_of_several_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let [missing, there] = ["missing", "there"].map(|name| folder.path().join(name));
        std::fs::write(&there, "current-context: home\n").unwrap();
        for files in [[missing.clone(), there.clone()], [there, missing.clone()]] {
            assert_eq!(read(&files).unwrap().current_context.as_deref(), Some("home"));
        }
        let error = read(&[missing.clone(), folder.path().join("other")]).unwrap_err();
        assert!(matches!(&error, ConnectError::Read { path, .. } if *path == missing), "{error}");
        assert!(matches!(read(&[]), Err(ConnectError::NoKubeconfig)));
    }
}
