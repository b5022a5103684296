//! The grammar of cgroup paths.
//!
//! Kubernetes (`<q>` is `burstable` or `besteffort`, left out for guaranteed pods):
//! ```text
//! systemd   /kubepods.slice/kubepods-<q>.slice/kubepods-<q>-pod<uid>.slice/<runtime>-<id>.scope
//! cgroupfs  /kubepods/<q>/pod<uid>/[<runtime>-]<id>
//! ```
//! Both may lie below other directories (kind, `--cgroup-root`), and the kubelet's slices may bear
//! a prefix (`kubelet-kubepods-…`). A uid's dashes are underscores in slices; static pods have a
//! hash without dashes instead.
//!
//! Other containers: `docker-<id>.scope`, `/docker/<id>`, `libpod-<id>.scope`, `nerdctl-<id>.scope`,
//! `/<containerd namespace>/<id>`, `/<any parent>/<id>`. Everything else belongs to a systemd unit, or to nobody known.

use super::Runtime;

/// What a cgroup path tells. Nested containers are their outermost one: it is the one that this
/// node's runtime started and can name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathParts {
    /// Pod uid as the API server prints it.
    pub pod_uid: Option<String>,
    /// Container id, in full.
    pub container_id: Option<String>,
    /// The runtime, where the path names it.
    pub runtime: Option<Runtime>,
    /// Innermost systemd unit, as `systemctl` prints it. Only outside containers.
    pub unit: Option<String>,
}

/// Words before a container id, with their runtimes.
const PREFIXES: &[(&str, Runtime)] = &[
    ("cri-containerd", Runtime::Containerd),
    ("nerdctl", Runtime::Containerd),
    ("crio", Runtime::Crio),
    ("docker", Runtime::Docker),
    ("libpod", Runtime::Podman),
    ("libpod-payload", Runtime::Podman),
];

/// Directories directly above a bare container id that name its runtime.
const PARENTS: &[(&str, Runtime)] = &[
    ("docker", Runtime::Docker),
    ("default", Runtime::Containerd),
    ("k8s.io", Runtime::Containerd),
];

/// Below it, a bare id is Podman's kind of pod.
const PODMAN_PARENT: &str = "libpod_parent";

/// Endings of systemd units that hold processes.
const UNITS: &[&str] = &[".service", ".scope", ".socket", ".mount", ".swap"];

/// Hexadecimal digits of a container id.
const ID: usize = 64;
/// The shortest id that a prefix makes credible.
const SHORTEST_ID: usize = 12;

/// Reads a path below the cgroup v2 root.
#[must_use]
pub fn parse(path: &str) -> PathParts {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let pod = pod(&segments);
    // A pod's containers are below it, or in the same segment: `<slice>:cri-containerd:<id>`.
    let from = pod.as_ref().map_or(0, |(at, _)| *at);
    let (container_id, runtime) = container(&segments[from..]).unzip();
    let unit = if pod.is_none() && container_id.is_none() { unit(&segments) } else { None };
    PathParts { pod_uid: pod.map(|(_, uid)| uid), container_id, runtime: runtime.flatten(), unit }
}

/// Finds the outermost pod: where it is, and its uid.
fn pod(segments: &[&str]) -> Option<(usize, String)> {
    let mut below_kubepods = false;
    for (at, segment) in segments.iter().enumerate() {
        let slice = segment.split(':').next().unwrap_or(segment);
        let uid = match slice.strip_suffix(".slice") {
            Some(slice) if slice.contains("kubepods") => {
                slice.rsplit_once("-pod").map(|(_, uid)| uid.replace('_', "-"))
            }
            Some(_) => None,
            None => segment.strip_prefix("pod").filter(|_| below_kubepods).map(str::to_owned),
        };
        if let Some(uid) = uid.map(|uid| unescape(&uid)).filter(|uid| is_uid(uid)) {
            return Some((at, uid));
        }
        below_kubepods |= *segment == "kubepods" || segment.ends_with("-kubepods");
    }
    None
}

/// Finds the outermost container: its id, and its runtime where the path names it.
fn container(segments: &[&str]) -> Option<(String, Option<Runtime>)> {
    let parents = std::iter::once("").chain(segments.iter().copied());
    segments.iter().zip(parents).find_map(|(segment, parent)| {
        prefixed(segment).map(|(id, runtime)| (id, Some(runtime))).or_else(|| bare(parent, segment))
    })
}

/// `<runtime>-<id>.scope`, `<runtime>-<id>` or `<slice>:<runtime>:<id>`.
fn prefixed(segment: &str) -> Option<(String, Runtime)> {
    let name = unescape(segment.strip_suffix(".scope").unwrap_or(segment));
    let (prefix, id) = name.rsplit_once([':', '-'])?;
    let prefix = prefix.rsplit(':').next().unwrap_or(prefix);
    let (_, runtime) = PREFIXES.iter().find(|(word, _)| *word == prefix)?;
    (id.len() >= SHORTEST_ID && is_id(id)).then(|| (id.to_owned(), *runtime))
}

/// `<id>` alone, in full.
fn bare(parent: &str, segment: &str) -> Option<(String, Option<Runtime>)> {
    if segment.len() != ID || !is_id(segment) || parent == PODMAN_PARENT {
        return None;
    }
    let runtime = PARENTS.iter().find(|(name, _)| *name == parent).map(|(_, runtime)| *runtime);
    Some((segment.to_owned(), runtime))
}

/// The innermost unit. A manager's own `init.scope` is the manager.
fn unit(segments: &[&str]) -> Option<String> {
    let is_unit = |segment: &&&str| UNITS.iter().any(|ending| segment.ends_with(ending));
    let mut units = segments.iter().rev().filter(is_unit);
    let innermost = units.next()?;
    let named = match *innermost {
        "init.scope" => units.next().unwrap_or(innermost),
        _ => innermost,
    };
    // systemd escapes names that the kernel would take for control files with an underscore.
    Some(named.strip_prefix('_').unwrap_or(named).to_owned())
}

fn is_id(text: &str) -> bool {
    text.len() <= ID
        && text.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
}

/// A pod uid: `8-4-4-4-12` hexadecimal digits, or 32 without dashes (static pods).
fn is_uid(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes: Vec<usize> = text.match_indices('-').map(|(at, _)| at).collect();
    digits == 32
        && digits + dashes.len() == text.len()
        && (dashes.is_empty() || dashes == [8, 13, 18, 23])
}

/// Undoes systemd's `\x2d` escapes. What is no escape stays.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        let byte = rest.get(at + 2..at + 4).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let Some(byte) = byte.filter(u8::is_ascii) else {
            plain.push_str(&rest[..at + 2]);
            rest = &rest[at + 2..];
            continue;
        };
        plain.push_str(&rest[..at]);
        plain.push(char::from(byte));
        rest = &rest[at + 4..];
    }
    plain + rest
}

#[cfg(test)]
mod tests;
