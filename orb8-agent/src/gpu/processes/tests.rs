use std::os::unix::fs::MetadataExt;

use orb8_k8s::index::{Index, Source};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::config::Config;
use crate::pipeline::{LocalAddresses, Pipeline};

const ID: &str = "7f3c1a9be2d84460a5c1f0e9d8b7a695847362514f3e2d1c0b9a8f7e6d5c4b3a";
const UID: &str = "3f2b7c1e-9d4a-4c55-8e0b-1a2b3c4d5e6f";

/// Directories in the place of `/proc` and of cgroupfs.
struct Node {
    proc: TempDir,
    cgroups: TempDir,
    pipeline: SharedPipeline,
    start: Instant,
}

impl Node {
    fn new() -> Self {
        let (proc, cgroups) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut config = Config::in_process().unwrap();
        config.cgroup_root = Some(cgroups.path().to_owned());
        let pipeline = Pipeline::new(&config, LocalAddresses::default()).shared();
        Self { proc, cgroups, pipeline, start: Instant::now() }
    }

    fn processes(&self) -> Processes {
        Processes::new(self.proc.path().to_owned(), Arc::clone(&self.pipeline), self.start)
    }

    fn cgroup(&self, path: &str) -> u64 {
        let path = self.cgroups.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(&path).unwrap();
        fs::metadata(path).unwrap().ino()
    }

    fn process(&self, pid: u32, name: &str, start: u64, cgroup: &str) {
        let directory = self.proc.path().join(pid.to_string());
        fs::create_dir_all(&directory).unwrap();
        let between = "S 1 1 1 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0";
        fs::write(directory.join("stat"), format!("{pid} ({name}) {between} {start} 99 1"))
            .unwrap();
        fs::write(directory.join("cgroup"), cgroup).unwrap();
    }

    fn after(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }
}

#[test]
fn names_and_start_times_are_read() {
    let stat =
        |name: &str| format!("7 ({name}) S 1 1 1 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 55 9");
    assert_eq!(parse_stat(&stat("python3")), Some(("python3".into(), 55)));
    assert_eq!(parse_stat(&stat("a) S 1 (b")), Some(("a) S 1 (b".into(), 55)));
    for bad in ["", "7 (python3", "7 (x) S 1", "7 x S 1 1 1", ")("] {
        assert_eq!(parse_stat(bad), None, "{bad}");
    }
}

#[test]
fn a_process_is_its_containers() {
    let node = Node::new();
    let path = format!("/kubepods/burstable/pod{UID}/{ID}");
    let id = node.cgroup(&path);
    node.process(10, "python3", 5, &format!("0::{path}\n"));
    node.process(11, "Xorg", 6, "0::/system.slice/gdm.service\n");
    node.cgroup("/system.slice/gdm.service");
    let mut processes = node.processes();
    let Process { pid, name, workload } = processes.process(10);
    let workload = workload.unwrap();
    assert_eq!((pid, &*name), (10, "python3"));
    assert_eq!((workload.pod_uid.as_deref(), workload.cgroup_id), (Some(UID), id));
    let unit = processes.process(11).workload.unwrap();
    assert_eq!(unit.unit.as_deref(), Some("gdm.service"));
    let unknown = processes.process(12);
    assert_eq!((&*unknown.name, unknown.workload, processes.unread()), ("", None, 1));
    processes.begin(node.after(1));
    assert_eq!(processes.unread(), 0);
    assert_eq!(workload, processes.process(10).workload.unwrap());
}

#[test]
fn a_process_that_ended_keeps_its_owner_for_a_while() {
    let node = Node::new();
    let path = format!("/kubepods/pod{UID}/{ID}");
    node.cgroup(&path);
    node.process(10, "python3", 5, &format!("0::{path}\n"));
    let mut processes = node.processes();
    processes.process(10);
    fs::remove_dir_all(node.proc.path().join("10")).unwrap();
    fs::remove_dir_all(node.cgroups.path().join("kubepods")).unwrap();
    processes.begin(node.after(30));
    let ended = processes.process(10);
    assert_eq!((&*ended.name, ended.workload.is_some()), ("python3", true));
    processes.begin(node.after(89));
    assert_eq!(&*processes.process(10).name, "python3", "it was asked for");
    processes.begin(node.after(149));
    assert_eq!((&*processes.process(10).name, processes.known()), ("", 0));
}

#[test]
fn a_number_that_is_used_again_is_another_process() {
    let node = Node::new();
    let path = format!("/kubepods/pod{UID}/{ID}");
    node.cgroup(&path);
    node.cgroup("/jobs");
    node.process(10, "python3", 5, &format!("0::{path}\n"));
    let mut processes = node.processes();
    assert!(processes.process(10).workload.unwrap().pod_uid.is_some());
    node.process(10, "other", 6, "0::/jobs\n");
    processes.begin(node.after(1));
    let other = processes.process(10);
    assert_eq!((&*other.name, &*other.workload.unwrap().cgroup_path), ("other", "/jobs"));
    // The same one, moved and renamed.
    node.process(10, "renamed", 6, &format!("0::{path}\n"));
    processes.begin(node.after(12));
    let moved = processes.process(10);
    assert_eq!((&*moved.name, moved.workload.unwrap().pod_uid.is_some()), ("renamed", true));
}

#[test]
fn the_hierarchy_that_has_containers_is_looked_at() {
    let node = Node::new();
    let path = format!("/kubepods/besteffort/pod{UID}/{ID}");
    let id = node.cgroup(&path);
    let root = fs::metadata(node.cgroups.path()).unwrap().ino();
    let hierarchy = Hierarchy::told_from(node.cgroups.path(), "/");
    let parse = |text: &str| Membership::parse(text, Some(&hierarchy));
    assert_eq!(parse(&format!("0::{path}\n")), Membership::Cgroup(id));
    assert_eq!(parse(&format!("0::{path} (deleted)\n")), Membership::Cgroup(id));
    // Hybrid: the container is in v1 as well, or there alone.
    assert_eq!(parse(&format!("4:memory:{path}\n0::/\n")), Membership::Cgroup(id));
    let alone = path.replace(UID, &UID.replace('3', "4"));
    assert_eq!(parse(&format!("4:memory:{alone}\n0::/\n")), Membership::Path(alone.clone()));
    assert_eq!(parse("4:memory:/jobs\n0::/\n"), Membership::Cgroup(root));
    assert_eq!(Membership::parse(&format!("4:memory:{alone}\n"), None), Membership::Path(alone));
    assert_eq!(parse("0::/gone\n"), Membership::Unknown);
    for bad in ["", "nonsense", "0::", "::::", "0:/x", "4:memory"] {
        assert!(matches!(parse(bad), Membership::Unknown | Membership::Cgroup(_)), "{bad}");
    }
}

#[test]
fn paths_are_told_from_the_agents_own_container() {
    let node = Node::new();
    let path = format!("/kubepods/besteffort/pod{UID}/{ID}");
    let id = node.cgroup(&path);
    let own = "/kubepods/burstable/podx/agent";
    let init = node.cgroup("/init.scope");
    let agent = node.cgroup(own);
    let hierarchy = Hierarchy::told_from(node.cgroups.path(), own);
    let parse = |text: &str| Membership::parse(text, Some(&hierarchy));
    let other = format!("0::/../../../besteffort/pod{UID}/{ID}\n");
    assert_eq!(parse(&other), Membership::Cgroup(id));
    assert_eq!(parse("0::/../../../../init.scope\n"), Membership::Cgroup(init));
    assert_eq!(parse("0::/\n"), Membership::Cgroup(agent));
    assert_eq!(parse("0::/../../../../../above\n"), Membership::Unknown);
}

#[test]
fn containers_are_found_by_the_names_that_the_kubelet_has() {
    let node = Node::new();
    let path = format!("/kubepods/pod{UID}/{ID}");
    node.cgroup(&path);
    let below = node.cgroups.path().join(path.trim_start_matches('/'));
    fs::create_dir(below.join("inner")).unwrap();
    fs::write(below.join("cgroup.procs"), "10\n0\n").unwrap();
    fs::write(below.join("inner/cgroup.procs"), "11\nx\n").unwrap();
    let mut processes = node.processes();
    let workload = {
        // As its runtime would name it.
        let mut pipeline = pipeline::lock(&node.pipeline);
        let id = fs::metadata(&below).unwrap().ino();
        pipeline.identity().resolve(id, node.start).unwrap()
    };
    assert_eq!(processes.of_container(&workload), [10, 11]);
    assert_eq!(processes.of_container(&Workload::default()), Vec::<u32>::new());
    let pod = PodName { namespace: "ml".into(), pod: "train-0".into() };
    assert_eq!(processes.container(&pod, "main"), None, "nobody named it");
    processes.begin(node.after(1));
    assert_eq!(processes.container(&pod, "main"), None);
}

#[test]
fn holders_are_found_once_they_run_and_until_they_ended() {
    let node = Node::new();
    let (index, mut writer) = Index::new();
    pipeline::lock(&node.pipeline).set_kubernetes(index);
    let mut tell = |name: &str, uid: &str, id: &str, phase: &str| {
        let object: orb8_k8s::wire::PodObject = serde_json::from_value(json!({
            "metadata": {"namespace": "ml", "name": name, "uid": uid},
            "status": {"phase": phase, "containerStatuses": [
                {"name": "main", "containerID": format!("containerd://{id}")}]},
        }))
        .unwrap();
        writer.apply(Source::LocalPods, object);
    };
    let over = UID.replace('3', "4");
    tell("train-0", UID, ID, "Running");
    tell("job", &over, &ID.replace('7', "8"), "Succeeded");
    let pod = |pod: &str| PodName { namespace: "ml".into(), pod: pod.into() };
    let mut processes = node.processes();
    let mut at = |seconds: u64| {
        processes.begin(node.after(seconds));
        let found = processes.container(&pod("train-0"), "main").map(|it| it.cgroup_id);
        processes.container(&pod("job"), "main");
        (found, processes.has_ended(&pod("job")), processes.has_ended(&pod("train-0")))
    };
    assert_eq!(at(0), (None, false, false), "nobody looked yet");
    assert_eq!(at(1), (None, true, false));
    let id = node.cgroup(&format!("/kubepods/pod{UID}/{ID}"));
    let found = (2..60).map(&mut at).find(|found| found.0.is_some());
    assert_eq!(found, Some((Some(id), true, false)));
}

#[test]
fn this_process_is_where_the_kernel_says() {
    let Some(root) = crate::config::Environment::of_machine().cgroup_mount else {
        println!("SKIPPED this_process_is_where_the_kernel_says: no cgroup v2");
        return;
    };
    let mut config = Config::in_process().unwrap();
    config.cgroup_root = Some(root);
    let pipeline = Pipeline::new(&config, LocalAddresses::default()).shared();
    let mut processes = Processes::new("/proc".into(), pipeline, Instant::now());
    let process = processes.process(std::process::id());
    assert!(!process.name.is_empty());
    let workload = process.workload.expect("a cgroup");
    assert!(processes.of_container(&workload).contains(&std::process::id()), "{workload:?}");
}

#[test]
fn what_is_remembered_is_bounded() {
    let node = Node::new();
    node.cgroup("/jobs");
    node.process(1, "x", 1, "0::/jobs\n");
    let mut processes = node.processes();
    for pid in 1..5000 {
        if pid > 1 {
            let of = |pid: u32| node.proc.path().join(pid.to_string());
            std::os::unix::fs::symlink(of(1), of(pid)).unwrap();
        }
        assert!(processes.process(pid).workload.is_some());
    }
    assert_eq!(processes.known(), 4096);
}
