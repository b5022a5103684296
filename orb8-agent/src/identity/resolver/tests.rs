use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use orb8_k8s::index::Source;
use orb8_k8s::wire::PodObject;
use serde_json::json;
use tempfile::TempDir;

use super::cgroups::PathOf;
use super::*;
use crate::identity::{Change, Runtime, handle};

mod changes;

const ID: &str = "7f3c1a9be2d84460a5c1f0e9d8b7a695847362514f3e2d1c0b9a8f7e6d5c4b3a";
const UID: &str = "3f2b7c1e-9d4a-4c55-8e0b-1a2b3c4d5e6f";

/// A tree of directories in the place of cgroupfs, and one in the place of `/`.
struct Node {
    cgroups: TempDir,
    files: TempDir,
    start: Instant,
}

impl Node {
    fn new() -> Self {
        let temporary = || tempfile::tempdir().unwrap();
        Self { cgroups: temporary(), files: temporary(), start: Instant::now() }
    }

    fn resolver(&self) -> Resolver {
        let cgroup_root = Some(self.cgroups.path().to_owned());
        Resolver::new(ResolverConfig { cgroup_root, files: self.files.path().to_owned() })
    }

    /// One that finds paths in another way than by handles.
    fn resolver_by(&self, path_of: PathOf) -> Resolver {
        let mut resolver = self.resolver();
        resolver.cgroups.path_of = path_of;
        resolver
    }

    /// Makes a cgroup and returns its id.
    fn cgroup(&self, path: &str) -> u64 {
        let path = self.cgroups.path().join(path);
        fs::create_dir_all(&path).unwrap();
        fs::metadata(path).unwrap().ino()
    }

    fn write(&self, root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn after(&self, milliseconds: u64) -> Instant {
        self.start + Duration::from_millis(milliseconds)
    }
}

#[test]
fn a_pod_has_all_its_names() {
    let node = Node::new();
    let id = node.cgroup(&format!("kubepods/burstable/pod{UID}/{ID}"));
    node.write(
        node.files.path(),
        &format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"),
        r#"{"annotations":{"io.kubernetes.cri.container-name":"trainer",
            "io.kubernetes.cri.sandbox-name":"bert-0","io.kubernetes.cri.sandbox-namespace":"ml"}}"#,
    );
    let mut resolver = node.resolver();
    let workload = resolver.resolve(id, node.start).unwrap();
    let expected = Workload {
        namespace: Some("ml".into()),
        pod: Some("bert-0".into()),
        pod_uid: Some(UID.into()),
        api: None,
        container: Some("trainer".into()),
        container_kind: None,
        container_id: Some(ID.into()),
        runtime: Some(Runtime::Containerd),
        unit: None,
        cgroup_id: id,
        cgroup_path: format!("/kubepods/burstable/pod{UID}/{ID}"),
        process: None,
        is_named_by_runtime: true,
        host_network: false,
    };
    assert_eq!(*workload, expected);
    assert!(Arc::ptr_eq(&workload, &resolver.resolve(id, node.start).unwrap()), "shared");
    let pause = node.cgroup(&format!("kubepods/burstable/pod{UID}/{}", ID.replace('7', "8")));
    resolver.resolve(pause, node.after(5_000)).unwrap();
    assert_eq!((resolver.workloads(), resolver.pods()), (2, 1));
    assert_eq!(resolver.problem(), None);
}

#[test]
fn a_containers_id_goes_before_a_uid() {
    let node = Node::new();
    let id = node.cgroup(&format!("kubepods/burstable/pod{UID}/{ID}"));
    let (index, mut writer) = Index::new();
    let mirror = |name: &str, container: &str| -> PodObject {
        let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "n", "controller": true});
        let id = format!("containerd://{container}");
        let object = json!({
            "metadata": {"namespace": "ns", "name": name, "uid": name, "ownerReferences": [owner],
                         "annotations": {"kubernetes.io/config.mirror": UID}},
            "status": {"containerStatuses": [{"name": "main", "containerID": id}]},
        });
        serde_json::from_value(object).unwrap()
    };
    let mut resolver = node.resolver();
    resolver.set_kubernetes(index, Duration::ZERO);
    let mut told = |object, milliseconds| {
        writer.apply(Source::LocalPods, object);
        resolver.resolve(id, node.after(milliseconds)).unwrap().pod.clone()
    };
    assert_eq!(told(mirror("claims", "other"), 0).as_deref(), Some("claims"));
    assert_eq!(told(mirror("etcd", ID), 2_000).as_deref(), Some("etcd"));
    assert_eq!(told(mirror("claims", "another"), 4_000).as_deref(), Some("etcd"));
}

#[test]
fn a_container_without_a_name_is_called_by_its_short_id() {
    let node = Node::new();
    let id = node.cgroup(&format!("docker/{ID}"));
    let workload = node.resolver().resolve(id, node.start).unwrap();
    assert_eq!((workload.container.as_deref(), workload.runtime), (None, Some(Runtime::Docker)));
    assert_eq!(workload.container_label(), Some("7f3c1a9be2d8"));
}

#[test]
fn a_cgroup_of_nobody_is_called_by_its_first_process() {
    let node = Node::new();
    let id = node.cgroup("jobs/one");
    node.write(node.cgroups.path(), "jobs/one/cgroup.procs", "0\n4711\n4712\n");
    node.write(node.files.path(), "proc/4711/comm", "iperf3\n");
    let unit = node.cgroup("system.slice/sshd.service");
    node.write(node.cgroups.path(), "system.slice/sshd.service/cgroup.procs", "4711\n");
    let mut resolver = node.resolver();
    let workload = resolver.resolve(id, node.start).unwrap();
    assert_eq!(workload.process.as_deref(), Some("iperf3"));
    assert_eq!((workload.unit.as_deref(), workload.cgroup_path.as_str()), (None, "/jobs/one"));
    let workload = resolver.resolve(unit, node.start).unwrap();
    assert_eq!(
        (workload.unit.as_deref(), workload.process.as_deref()),
        (Some("sshd.service"), None)
    );
}

#[test]
fn the_root_is_everyones() {
    let node = Node::new();
    node.write(node.cgroups.path(), "cgroup.procs", "1\n");
    node.write(node.files.path(), "proc/1/comm", "init\n");
    let id = fs::metadata(node.cgroups.path()).unwrap().ino();
    let workload = node.resolver().resolve(id, node.start).unwrap();
    let root = Workload { cgroup_id: id, cgroup_path: "/".into(), ..Workload::default() };
    assert_eq!(*workload, root);
}

#[test]
fn new_cgroups_are_found_by_the_next_walk_that_may_be_made() {
    let node = Node::new();
    let mut resolver = node.resolver();
    resolver.cgroups.walk(node.start);
    let id = node.cgroup("system.slice/new.service");
    assert_eq!(resolver.resolve(id, node.after(100)), None, "the last walk was just now");
    assert!(resolver.resolve(id, node.after(5_000)).is_some());
    assert_eq!(resolver.resolve(0, node.after(5_000)), None);
}

#[test]
fn an_id_without_a_directory_does_not_walk_again_and_again() {
    let node = Node::new();
    let mut resolver = node.resolver();
    assert_eq!(resolver.resolve(u64::MAX, node.start), None);
    assert_eq!(resolver.resolve(u64::MAX, node.after(5_000)), None);
    assert_eq!(resolver.walks(), 1);
    assert_eq!(resolver.resolve(u64::MAX, node.after(10_001)), None);
    assert_eq!(resolver.walks(), 2, "it is looked for again at last");
    assert_eq!(resolver.resolve(u64::MAX - 1, node.after(20_000)), None);
    assert_eq!(resolver.walks(), 3, "another id is another question");
}

#[test]
fn a_vanished_cgroup_keeps_its_owner_for_a_minute() {
    let node = Node::new();
    let id = node.cgroup("system.slice/job.service");
    let mut resolver = node.resolver();
    resolver.cgroups.walk(node.start);
    fs::remove_dir(node.cgroups.path().join("system.slice/job.service")).unwrap();
    resolver.cgroups.walk(node.after(10_000));
    let unit = |resolver: &mut Resolver, at| {
        resolver.resolve(id, at).and_then(|workload| workload.unit.clone())
    };
    assert_eq!(unit(&mut resolver, node.after(10_000)).as_deref(), Some("job.service"));
    resolver.cgroups.walk(node.after(60_000));
    assert_eq!(unit(&mut resolver, node.after(60_000)).as_deref(), Some("job.service"));
    resolver.cgroups.walk(node.after(80_000));
    assert_eq!(unit(&mut resolver, node.after(80_000)), None);
}

#[test]
fn without_cgroups_the_reason_is_there() {
    let mut resolver = Resolver::new(ResolverConfig::new(None));
    assert_eq!(resolver.resolve(5, Instant::now()), None);
    assert!(resolver.problem().unwrap().contains("--cgroup-root"));

    let mut resolver = Resolver::new(ResolverConfig::new(Some("/nonexistent/cgroup".into())));
    assert_eq!(resolver.resolve(5, Instant::now()), None);
    assert!(
        resolver.problem().unwrap().contains("/nonexistent/cgroup"),
        "{:?}",
        resolver.problem()
    );
}

/// Stands in for handles: the cgroup's name is its id.
fn by_name(root: &Path, id: u64) -> io::Result<Option<String>> {
    Ok(root.join(id.to_string()).is_dir().then(|| format!("/{id}")))
}

#[test]
fn a_handle_tells_a_new_cgroups_owner_at_once() {
    let node = Node::new();
    let mut resolver = node.resolver_by(by_name);
    assert_eq!(resolver.resolve(1 << 60, node.start), None);
    assert_eq!(resolver.walks(), 1, "the first question");
    node.cgroup(&(1_u64 << 61).to_string());
    let found = resolver.resolve(1 << 61, node.after(1)).unwrap();
    assert_eq!(found.cgroup_path, format!("/{}", 1_u64 << 61));
    node.cgroup(&(1_u64 << 60).to_string());
    assert_eq!(resolver.resolve(1 << 60, node.after(2)), None, "not looked for again so soon");
    assert!(resolver.resolve(1 << 60, node.after(10_001)).is_some());
    assert_eq!(resolver.walks(), 1);
    // The real ids are others: a walk takes these for gone.
    resolver.resolve(1 << 62, node.after(30_000));
    assert_eq!(resolver.walks(), 2);
    assert!(resolver.resolve(1 << 61, node.after(89_000)).is_some());
    resolver.resolve(1 << 63, node.after(90_000));
    assert!(!resolver.cgroups.known.contains_key(&(1 << 61)), "a minute after it vanished");
}

#[test]
fn without_the_capability_walks_serve() {
    let node = Node::new();
    let refused = |_: &Path, _| Err(io::Error::from_raw_os_error(libc::EPERM));
    let mut resolver = node.resolver_by(refused);
    let id = node.cgroup("system.slice/new.service");
    assert!(resolver.resolve(id, node.start).is_some());
    assert!(resolver.cgroups.needs_walks);
    let id = node.cgroup("system.slice/newer.service");
    assert_eq!(resolver.resolve(id, node.after(199)), None);
    assert!(resolver.resolve(id, node.after(5_000)).is_some());
}

#[test]
fn this_machines_new_cgroups_resolve_at_once() {
    let Some(mount) = crate::config::Environment::of_machine().cgroup_mount else {
        eprintln!("skipped: no cgroup v2 hierarchy is mounted here");
        return;
    };
    let root = mount.join(format!("orb8-resolver-{}", std::process::id()));
    let inner = root.join("inner.service");
    if let Err(error) = fs::create_dir_all(&inner) {
        eprintln!("skipped: cannot make a cgroup: {error}");
        return;
    }
    let id = |path: &Path| fs::metadata(path).unwrap().ino();
    let (root_id, inner_id, mount_id) = (id(&root), id(&inner), id(&mount));
    let of = |id| handle::path_of(&root, id);
    let found = [root_id, inner_id, mount_id].map(of);
    fs::remove_dir(&inner).unwrap();
    let gone = of(inner_id);
    fs::remove_dir(&root).unwrap();
    if found[0].as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
        eprintln!("skipped: no CAP_DAC_READ_SEARCH");
        return;
    }
    let found = found.map(Result::unwrap);
    let expected = [Some("/".to_owned()), Some("/inner.service".to_owned()), None];
    assert_eq!(found, expected, "paths are below the root that is asked for");
    assert_eq!(gone.unwrap(), None);
}

#[test]
fn this_machines_own_cgroups_resolve() {
    let Some(root) = crate::config::Environment::of_machine().cgroup_mount else {
        eprintln!("skipped: no cgroup v2 hierarchy is mounted here");
        return;
    };
    let id = fs::metadata(&root).unwrap().ino();
    let mut resolver = Resolver::new(ResolverConfig::new(Some(root)));
    let workload = resolver.resolve(id, Instant::now()).unwrap();
    assert_eq!(workload.cgroup_path, "/");
}

#[test]
fn a_cgroup_shares_our_network_when_all_its_processes_do() {
    let node = Node::new();
    let network = |pid: &str, name: &str| {
        let namespaces = node.files.path().join("proc").join(pid).join("ns");
        fs::create_dir_all(&namespaces).unwrap();
        std::os::unix::fs::symlink(name, namespaces.join("net")).unwrap();
    };
    network("self", "net:[1]");
    network("10", "net:[1]");
    network("11", "net:[1]");
    network("20", "net:[2]");
    let shares = |path: &str, pids: &str| {
        let id = node.cgroup(path);
        node.write(node.cgroups.path(), &format!("{path}/cgroup.procs"), pids);
        node.resolver().resolve(id, node.start).unwrap().host_network
    };
    assert!(shares("host", "10\n11\n"));
    assert!(!shares("mixed", "10\n20\n"));
    assert!(!shares("unreadable", "10\n30\n"));
    assert!(!shares("of-another-pid-namespace", "0\n"));
    assert!(!shares("empty", ""));
    node.write(node.cgroups.path(), "cgroup.procs", "10\n");
    let root = fs::metadata(node.cgroups.path()).unwrap().ino();
    let root = node.resolver().resolve(root, node.start).unwrap();
    assert!(!root.host_network, "the root's sockets are anybody's");
}

#[test]
fn a_pod_that_the_runtime_names_is_awaited_only_while_there_will_be_word_of_it() {
    let node = Node::new();
    let named = node.cgroup(&format!("kubepods/burstable/pod{UID}/{ID}"));
    let unnamed = node.cgroup(&format!("kubepods/burstable/pod{UID}/{}", "a".repeat(64)));
    node.write(
        node.files.path(),
        &format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"),
        r#"{"annotations":{"io.kubernetes.cri.sandbox-name":"bert-0",
            "io.kubernetes.cri.sandbox-namespace":"ml"}}"#,
    );
    let mut resolver = node.resolver();
    resolver.set_kubernetes(Index::new().0, Duration::from_secs(10));
    let mut is_pending = |are_told| {
        resolver.set_pods_are_told(are_told);
        [named, unnamed].map(|id| {
            resolver.resolve(id, node.start);
            resolver.is_pending(id, node.after(9_000))
        })
    };
    assert_eq!(is_pending(true), [true, true]);
    assert_eq!(is_pending(false), [false, true], "its files may be about to be written");
    assert_eq!(is_pending(true), [true, true]);
}

/// The status of a container comes after its pod, and says more of it than was looked at once.
#[test]
fn a_containers_name_and_its_network_are_told_late() {
    let node = Node::new();
    let id = node.cgroup(&format!("kubepods/burstable/pod{UID}/{ID}"));
    let (index, mut writer) = Index::new();
    let pod = |host_network: bool, statuses: serde_json::Value| -> PodObject {
        let object = json!({
            "metadata": {"namespace": "ml", "name": "bert-0", "uid": UID},
            "spec": {"hostNetwork": host_network, "containers": [{"name": "main"}]},
            "status": {"containerStatuses": statuses},
        });
        serde_json::from_value(object).unwrap()
    };
    let mut resolver = node.resolver();
    resolver.set_kubernetes(index, Duration::from_secs(10));
    let container = |workload: &Workload| workload.container.clone();
    writer.apply(Source::LocalPods, pod(true, json!([])));
    let early = resolver.resolve(id, node.start).unwrap();
    assert_eq!((container(&early), early.host_network), (None, true));
    assert!(early.awaits_names() && resolver.is_pending(id, node.start));
    assert!(!resolver.is_pending(id, node.after(10_000)), "as a sandbox's would");
    node.write(
        node.files.path(),
        &format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"),
        r#"{"annotations":{"io.kubernetes.cri.container-name":"of-its-file"}}"#,
    );
    let named = resolver.resolve(id, node.after(1_500)).unwrap();
    assert_eq!(container(&named).as_deref(), Some("of-its-file"), "though its pod is told");
    assert!(named.api.is_some() && !resolver.is_pending(id, node.after(1_500)));
    let status = json!([{"name": "main", "containerID": format!("containerd://{ID}")}]);
    writer.apply(Source::LocalPods, pod(false, status));
    let told = resolver.resolve(id, node.after(1_600)).unwrap();
    assert_eq!((container(&told).as_deref(), told.host_network), (Some("main"), false));
    assert!(!told.awaits_names());
}
