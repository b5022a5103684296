//! Cgroups that the kernel tells of.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::*;
use crate::identity::Changes;

/// Stands in for the kernel's ring.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<VecDeque<Record>>>);

/// An id, and the path of one that was made.
type Record = (u64, Option<&'static str>);

impl Told {
    /// Without a path where that is empty.
    fn made(&self, id: u64, path: &'static str) {
        self.0.lock().unwrap().push_back((id, Some(path)));
    }

    fn removed(&self, id: u64) {
        self.0.lock().unwrap().push_back((id, None));
    }
}

impl Changes for Told {
    fn read(&mut self, visit: &mut dyn FnMut(Change<'_>)) {
        for (id, path) in self.0.lock().unwrap().drain(..) {
            visit(match path {
                Some(path) => Change::Made { id, path: Some(path).filter(|path| !path.is_empty()) },
                None => Change::Removed { id },
            });
        }
    }
}

/// A resolver whose root is the hierarchy's, and what it is told. No directory has an id.
fn told(node: &Node) -> (Resolver, Told) {
    let mut resolver = node.resolver_by(|_, _| Ok(None));
    resolver.cgroups.prefix = Some(String::new());
    let told = Told::default();
    resolver.follow(Box::new(told.clone()));
    (resolver, told)
}

fn path(resolver: &mut Resolver, id: u64, at: Instant) -> Option<String> {
    resolver.resolve(id, at).map(|workload| workload.cgroup_path.clone())
}

#[test]
fn a_cgroup_that_is_gone_already_is_known() {
    let node = Node::new();
    let (mut resolver, told) = told(&node);
    told.made(7, "/jobs/short");
    told.removed(7);
    assert_eq!(path(&mut resolver, 7, node.start).as_deref(), Some("/jobs/short"));
    assert_eq!(path(&mut resolver, 7, node.after(59_999)).as_deref(), Some("/jobs/short"));
    resolver.catch_up(node.after(60_000));
    assert_eq!(path(&mut resolver, 7, node.after(60_000)), None, "a minute after it vanished");
}

#[test]
fn an_id_that_was_missing_is_known_once_it_is_told() {
    let node = Node::new();
    let (mut resolver, told) = told(&node);
    assert_eq!(path(&mut resolver, 7, node.start), None);
    told.made(7, "/jobs/late");
    assert_eq!(path(&mut resolver, 7, node.after(1)).as_deref(), Some("/jobs/late"));
}

#[test]
fn what_is_told_needs_no_walks() {
    let node = Node::new();
    let old = node.cgroup("system.slice/old.service");
    let (mut resolver, told) = told(&node);
    assert_eq!(path(&mut resolver, 1, node.start), None);
    assert_eq!(resolver.walks(), 1, "for those that are older");
    assert!(path(&mut resolver, old, node.start).is_some());
    for minute in 1..60 {
        let now = node.after(minute * 60_000);
        told.made(minute << 40, "/jobs/some");
        assert!(path(&mut resolver, minute << 40, now).is_some());
        told.removed(minute << 40);
        assert_eq!(path(&mut resolver, u64::MAX - minute, now), None);
    }
    assert_eq!(resolver.walks(), 1);
    assert!(resolver.cgroups.known.len() < 6, "the vanished are forgotten");
    assert!(path(&mut resolver, old, node.after(3_600_000)).is_some());
}

#[test]
fn a_loss_is_worth_one_walk() {
    let node = Node::new();
    let (mut resolver, told) = told(&node);
    path(&mut resolver, 1, node.start);
    told.made(1 << 60, "/jobs/removed-without-a-word");
    assert!(path(&mut resolver, 1 << 60, node.after(1)).is_some());
    let lost = node.cgroup("system.slice/lost.service");
    assert_eq!(path(&mut resolver, lost, node.after(10_000)), None);
    resolver.distrust();
    resolver.catch_up(node.after(20_001));
    assert!(resolver.cgroups.known[&(1 << 60)].is_gone(), "though nobody asks");
    assert!(path(&mut resolver, lost, node.after(20_001)).is_some());
    assert_eq!(path(&mut resolver, 2, node.after(60_000)), None);
    assert_eq!(resolver.walks(), 2);
    resolver.catch_up(node.after(80_001));
    assert!(!resolver.cgroups.known.contains_key(&(1 << 60)), "the walk did not see it");
}

#[test]
fn without_handles_only_what_is_not_told_needs_a_walk() {
    let node = Node::new();
    let (mut resolver, told) = told(&node);
    resolver.cgroups.path_of = |_, _| Err(io::Error::from_raw_os_error(libc::EPERM));
    path(&mut resolver, 1, node.start);
    let id = node.cgroup("long");
    assert_eq!(path(&mut resolver, 2, node.after(1_000)), None);
    assert_eq!(resolver.walks(), 1);
    told.made(id, "");
    assert_eq!(path(&mut resolver, id, node.after(2_000)).as_deref(), Some("/long"));
    assert_eq!(resolver.walks(), 2);
}

#[test]
fn paths_are_below_the_root_that_is_looked_at() {
    let node = Node::new();
    let (mut resolver, told) = told(&node);
    resolver.cgroups.prefix = Some("/outer/ours".into());
    told.made(1, "/outer/ours/jobs/a");
    told.made(2, "/outer/ours-not");
    told.made(3, "/elsewhere/b");
    told.made(4, "/outer/ours");
    assert_eq!(path(&mut resolver, 1, node.start).as_deref(), Some("/jobs/a"));
    for id in 2..5 {
        assert_eq!(path(&mut resolver, id, node.start), None, "{id}");
    }
}

#[test]
fn a_root_in_a_namespace_is_found_in_the_hierarchy() {
    let node = Node::new();
    let (mut resolver, told) = told(&node);
    resolver.cgroups.prefix = None;
    // Below the root of the namespace, which is somewhere in the hierarchy.
    resolver.cgroups.path_of = |_, id| Ok((id == 2).then(|| "/jobs/b".to_owned()));
    told.made(1, "/elsewhere/a");
    told.made(2, "/outer/ours/jobs/b");
    told.made(3, "/outer/ours/jobs/c");
    assert_eq!(path(&mut resolver, 3, node.start).as_deref(), Some("/jobs/c"));
    assert_eq!(path(&mut resolver, 2, node.start).as_deref(), Some("/jobs/b"));
    assert_eq!(path(&mut resolver, 1, node.start), None);
}

#[test]
fn the_vanished_make_room() {
    let node = Node::new();
    let (mut resolver, told) = told(&node);
    for id in 1..=70_000_u64 {
        told.made(id << 30, "/jobs/one");
        if id > 10 {
            told.removed((id - 10) << 30);
        }
    }
    assert!(path(&mut resolver, 70_000 << 30, node.start).is_some());
    assert_eq!(path(&mut resolver, 1 << 30, node.start), None);
    assert!(resolver.cgroups.known.len() <= 65_536);
}
