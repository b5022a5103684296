//! Which libraries are probed, where, and until when.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use orb8_agent::gpu::cuda::Group;

use super::{Node, Watch, turn_beside};
use crate::kernel::support::skip;

/// Copies the libraries into a folder, `cuda` as the driver's.
fn copy_libraries(node: &Node, cuda: &Path, folder: &Path) -> PathBuf {
    fs::create_dir_all(folder).expect("a folder");
    for (from, to) in [(cuda, "libcuda.so.1"), (&node.paths.nccl, "libnccl.so.2")] {
        fs::copy(from, folder.join(to)).expect("a copy");
    }
    folder.to_owned()
}

#[test]
fn two_copies_of_a_library_are_two_libraries() {
    let _turn = turn_beside();
    let node = Node::new();
    let folder = tempfile::tempdir().expect("a folder");
    let other = copy_libraries(&node, &node.paths.cuda, &folder.path().join("other"));
    let mut watch = Watch::new();
    let mut workloads =
        [node.start("launches --steps 3"), node.start_with(&other, "launches --steps 3")];
    let pids = workloads.each_ref().map(|workload| workload.pid);
    watch.follow(&pids[..1], 1);
    let probes = watch.attachments.probes();
    watch.follow(&pids, 1);
    assert_eq!(watch.attachments.probes(), 2 * probes);
    for workload in &mut workloads {
        let report = workload.run();
        let launches = watch.process(workload.pid).expect("it called").launches;
        assert_eq!(Some(launches), report["driver"]["launches"].as_u64());
    }
}

#[test]
fn a_library_of_one_image_in_two_containers_is_one() {
    let _turn = turn_beside();
    let node = Node::new();
    let folder = tempfile::tempdir().expect("a folder");
    let image = copy_libraries(&node, &node.paths.cuda, &folder.path().join("image"));
    let mounts = ["one", "two"].map(|name| match Overlay::new(folder.path(), &image, name) {
        Ok(overlay) => Some(overlay),
        Err(error) => {
            skip("overlay", &format!("overlayfs cannot be mounted: {error}"));
            None
        }
    });
    let [Some(one), Some(two)] = mounts else { return };
    let mut watch = Watch::new();
    let mut workloads =
        [&one, &two].map(|overlay| node.start_with(&overlay.merged, "launches --steps 3"));
    let pids = workloads.each_ref().map(|workload| workload.pid);
    watch.follow(&pids, 1);
    for workload in &mut workloads {
        let report = workload.run();
        let launches = watch.process(workload.pid).expect("it called").launches;
        assert_eq!(Some(launches), report["driver"]["launches"].as_u64(), "counted once");
    }
    workloads.into_iter().for_each(super::Workload::end);
}

/// What a container has of an image.
struct Overlay {
    merged: PathBuf,
}

impl Overlay {
    fn new(folder: &Path, image: &Path, name: &str) -> nix::Result<Self> {
        let part = |part: &str| {
            let path = folder.join(format!("{name}-{part}"));
            fs::create_dir_all(&path).expect("a folder");
            path
        };
        // A layer cannot lie on an overlay itself, which a container's own root is.
        let (upper, work, merged) = (part("upper"), part("work"), part("merged"));
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            image.display(),
            upper.display(),
            work.display()
        );
        let flags = MsFlags::empty();
        mount(Some("overlay"), &merged, Some("overlay"), flags, Some(options.as_str()))?;
        Ok(Self { merged })
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = umount2(&self.merged, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_library_that_was_deleted_is_probed() {
    let _turn = turn_beside();
    let node = Node::new();
    let folder = tempfile::tempdir().expect("a folder");
    let other = copy_libraries(&node, &node.paths.cuda, &folder.path().join("other"));
    let mut watch = Watch::new();
    let mut workload = node.start_with(&other, "launches --steps 3");
    fs::remove_dir_all(&other).expect("removed");
    watch.follow(&[workload.pid], 1);
    let report = workload.run();
    let launches = watch.process(workload.pid).expect("it called").launches;
    assert_eq!(Some(launches), report["driver"]["launches"].as_u64());
    workload.end();
}

#[test]
fn dear_probes_wait_for_a_window() {
    let _turn = turn_beside();
    let node = Node::new();
    let folder = tempfile::tempdir().expect("a folder");
    let foreign = copy_libraries(&node, &node.paths.cuda_foreign, &folder.path().join("foreign"));
    let mut watch = Watch::new();
    let mut workload = node.start_with(&foreign, "every --steps 3");
    watch.follow(&[workload.pid], 1);
    let expensive = watch.attachments.expensive_groups();
    assert!(expensive.iter().any(|is_expensive| *is_expensive), "{expensive:?}");
    let coverage = watch.attachments.coverage(workload.pid);
    assert!(coverage.missing.iter().any(|why| why.contains("window")), "{coverage:?}");
    let before = watch.attachments.probes();
    for group in Group::ALL {
        watch.attachments.set(group, false);
        watch.attachments.set(group, true);
    }
    assert!(watch.attachments.probes() > before);
    assert!(watch.attachments.expensive() > 0);
    let coverage = watch.attachments.coverage(workload.pid);
    assert!(!coverage.missing.iter().any(|why| why.contains("window")), "{coverage:?}");
    let report = workload.run();
    let process = watch.process(workload.pid).expect("it called");
    assert_eq!(Some(process.launches), report["driver"]["launches"].as_u64());
    let copies: u64 = process.copies.iter().map(|copies| copies.count).sum();
    let expected = report["driver"]["copies"].as_object().expect("rows").values();
    let expected: u64 = expected.filter_map(|row| row["count"].as_u64()).sum();
    assert_eq!(copies, expected);
    workload.end();
}

#[test]
fn functions_that_are_missing_are_told_and_the_others_counted() {
    let _turn = turn_beside();
    let node = Node::new();
    let folder = tempfile::tempdir().expect("a folder");
    let partial = copy_libraries(&node, &node.paths.cuda_partial, &folder.path().join("partial"));
    let mut watch = Watch::new();
    let mut workload = node.start_with(&partial, "launches --steps 3");
    watch.follow(&[workload.pid], 1);
    let missing = watch.attachments.coverage(workload.pid).missing;
    assert!(!missing.is_empty());
    assert!(missing.iter().all(|why| why.ends_with("not in libcuda.so.1")), "{missing:?}");
    let report = workload.run();
    let launches = watch.process(workload.pid).expect("it called").launches;
    assert_eq!(Some(launches), report["driver"]["launches"].as_u64());
    workload.end();
}

#[test]
fn what_is_no_library_of_cudas_is_told() {
    let _turn = turn_beside();
    let node = Node::new();
    let folder = tempfile::tempdir().expect("a folder");
    // It has the name, and none of the functions.
    let stripped = copy_libraries(&node, &node.paths.nvml, &folder.path().join("stripped"));
    let mut watch = Watch::new();
    let mut workload = node.start_preloaded(&stripped.join("libcuda.so.1"), "launches --steps 3");
    // The real one, by the same name.
    watch.follow(&[workload.pid], 1);
    let coverage = watch.attachments.coverage(workload.pid);
    let problems = watch.attachments.problems();
    assert!(coverage.missing.iter().any(|why| why.contains("stripped")), "{coverage:?}");
    assert!(problems.iter().any(|why| why.contains("stripped")), "{problems:?}");
    let report = workload.run();
    let launches = watch.process(workload.pid).expect("it called").launches;
    assert_eq!(Some(launches), report["driver"]["launches"].as_u64());
    workload.end();
}

#[test]
fn a_library_is_left_a_while_after_its_last_process() {
    let _turn = turn_beside();
    let node = Node::new();
    let mut watch = Watch::new();
    let mut first = node.start("launches --steps 2");
    watch.follow(&[first.pid], 1);
    first.run();
    let pid = first.pid;
    first.end();
    watch.attachments.follow(&[pid], watch.now);
    assert_eq!(watch.attachments.coverage(pid).libraries, [], "it is gone");
    assert!(watch.attachments.probes() > 0);
    // Its sums stay until they are forgotten, and then nothing of it is left.
    assert!(watch.process(pid).is_some());
    watch.sums.forget(pid).expect("removed");
    assert!(watch.process(pid).is_none());
    watch.sums.forget(pid).expect("nothing to remove");

    // One that starts meanwhile is seen from its first call on, before anybody looks at it.
    let mut second = node.start("launches --steps 2");
    let report = second.run();
    let launches = watch.process(second.pid).expect("it called").launches;
    assert_eq!(Some(launches), report["driver"]["launches"].as_u64());
    second.end();

    watch.attachments.follow(&[], watch.now + Duration::from_secs(59));
    assert!(watch.attachments.probes() > 0);
    watch.attachments.follow(&[], watch.now + Duration::from_secs(61));
    assert_eq!(watch.attachments.probes(), 0);
    let mut third = node.start("launches --steps 2");
    third.run();
    assert!(watch.process(third.pid).is_none());
    third.end();
}
