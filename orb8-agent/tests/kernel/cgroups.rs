//! Cgroups that come and go: whose they were is known, however short they lived.

use std::{
    fs,
    net::UdpSocket,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use orb8_agent::{
    config::AttachStrategy,
    ebpf::CgroupObject,
    identity::{Change, Changes, Resolver, ResolverConfig},
    sources::cgroup::CgroupChanges,
};

use super::support::{
    Lab,
    agent::{Agent, config, in_runtime},
    cgroup::Cgroup,
    engine::btf,
    eventually,
    netns::SERVER4,
    skip, turn,
};

/// The object, where this kernel takes it.
fn start() -> Option<CgroupObject> {
    let Some(btf) = btf() else {
        skip("btf", "offsets of the kernel's cgroups are not known");
        return None;
    };
    Some(CgroupObject::start(btf).unwrap_or_else(|error| {
        panic!("the object does not start: {error}: {:?}", std::error::Error::source(&error))
    }))
}

/// A resolver of the cgroups below a root that the object tells.
fn follow(object: &mut CgroupObject, root: &Path) -> Resolver {
    let mut resolver = Resolver::new(ResolverConfig::new(Some(root.to_owned())));
    resolver.follow(Box::new(CgroupChanges::of(object).expect("the ring")));
    resolver
}

fn path(resolver: &mut Resolver, id: u64) -> Option<String> {
    resolver.resolve(id, Instant::now()).map(|workload| workload.cgroup_path.clone())
}

/// Makes a cgroup, sends from it, and removes it at once.
fn send_from_short_lived(lab: &Lab, name: &str) {
    let cgroup = lab.cgroup.child(name);
    {
        let _joined = cgroup.join();
        lab.pair.client.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket.send_to(&[0; 100], (SERVER4, 9)).expect("sending");
        });
    }
    drop(cgroup);
}

#[test]
fn a_cgroup_that_lives_for_milliseconds_is_named() {
    let lab = Lab::new();
    if start().is_none() {
        return;
    }
    let config = config(AttachStrategy::Cgroup, Some(&lab.cgroup));
    in_runtime(&lab.pair.client, async || {
        let mut agent = Agent::start(config).await;
        let checks = agent.status().await.checks;
        let check = checks.iter().find(|check| check.name == "cgroup changes").expect("its row");
        assert!(check.detail.contains("the kernel tells"), "{check:?}");
        for number in 0..20 {
            let name = format!("short-{number}");
            send_from_short_lived(&lab, &name);
        }
        agent.drain().await;
        let flows =
            agent.flows_with(20, |flow| flow.destination.as_ref().is_some_and(|end| end.port == 9));
        let mut paths: Vec<String> = flows
            .await
            .into_iter()
            .map(|flow| flow.source.and_then(|end| end.workload).expect("an owner").cgroup_path)
            .collect();
        paths.sort_by_key(|path| (path.len(), path.clone()));
        let expected: Vec<String> = (0..20).map(|number| format!("/short-{number}")).collect();
        assert_eq!(paths, expected);
        agent.stop().await;
    });
}

#[test]
fn hundreds_at_once_are_known_without_a_walk() {
    let _turn = turn();
    let Some(mut object) = start() else { return };
    let root = Cgroup::new();
    let mut resolver = follow(&mut object, root.path());
    assert_eq!(path(&mut resolver, root.id()).as_deref(), Some("/"));
    assert_eq!(resolver.walks(), 1, "for those that are older");
    let names = (0..300).map(|number| format!("{number:0>60}"));
    let made: Vec<(u64, String)> = names
        .map(|name| {
            let cgroup = root.child(&name);
            (cgroup.id(), format!("/{name}"))
        })
        .collect();
    for (id, expected) in &made {
        assert_eq!(path(&mut resolver, *id).as_ref(), Some(expected));
    }
    assert_eq!((resolver.walks(), object.lost().expect("the counters")), (1, 0));
    assert_eq!(path(&mut resolver, u64::MAX), None);
    assert_eq!(resolver.walks(), 1, "an id that nobody has is not looked for in the tree");
}

#[test]
fn what_the_ring_had_no_room_for_is_counted_and_found() {
    let _turn = turn();
    let Some(mut object) = start() else { return };
    let root = Cgroup::new();
    let mut resolver = follow(&mut object, root.path());
    path(&mut resolver, root.id());
    let cgroups: Vec<Cgroup> = (0..600).map(|number| root.child(&number.to_string())).collect();
    assert!(object.lost().expect("the counters") > 0);
    // A walk's rest is over by then.
    std::thread::sleep(Duration::from_millis(300));
    resolver.distrust();
    for (number, cgroup) in cgroups.iter().enumerate() {
        assert_eq!(path(&mut resolver, cgroup.id()), Some(format!("/{number}")));
    }
    assert_eq!(resolver.walks(), 2);
}

/// One after another below each other, so that the path is as long as it is to be.
fn nested(root: &Cgroup, count: usize) -> Vec<Cgroup> {
    let mut nested: Vec<Cgroup> = Vec::new();
    for _ in 0..count {
        let parent = nested.last().unwrap_or(root);
        nested.push(parent.child(&"x".repeat(200)));
    }
    nested
}

/// From the innermost on: a cgroup with others inside cannot be removed.
fn remove(mut nested: Vec<Cgroup>) {
    while nested.pop().is_some() {}
}

#[test]
fn paths_of_any_length_are_found() {
    let _turn = turn();
    let Some(mut object) = start() else { return };
    let mut changes = CgroupChanges::of(&mut object).expect("the ring");
    let root = Cgroup::new();
    let made = nested(&root, 6);
    let mut told = Vec::new();
    changes.read(&mut |change| {
        if let Change::Made { id, path } = change {
            told.push((id, path.map(str::len)));
        }
    });
    let prefix = 1 + root.path().file_name().expect("its name").len();
    let mut expected = vec![(root.id(), Some(prefix))];
    for (depth, cgroup) in (1..).zip(&made) {
        let length = prefix + depth * 201;
        // The kernel's own bound.
        expected.push((cgroup.id(), (length < 1023).then_some(length)));
    }
    // Others may make cgroups meanwhile.
    told.retain(|(id, _)| expected.iter().any(|(ours, _)| ours == id));
    assert_eq!(told, expected);
    assert!(expected.last().expect("the innermost").1.is_none());

    let mut resolver = Resolver::new(ResolverConfig::new(Some(root.path().to_owned())));
    resolver.follow(Box::new(changes));
    let innermost = made.last().expect("the innermost").id();
    assert_eq!(path(&mut resolver, innermost).map(|path| path.len()), Some(6 * 201));
    remove(made);
}

/// A hierarchy of v1 without a controller, in which a shell runs for as long as it is mounted.
fn in_v1(name: &str, script: &str) -> Result<(), String> {
    let place = tempfile::tempdir().expect("a folder");
    let mount = format!("mount -t cgroup -o none,name={name} none \"$0\" && {script}");
    let mut command = Command::new("unshare");
    let output = command.args(["-m", "sh", "-c", &mount]).arg(place.path()).output();
    let output = output.expect("a shell");
    let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    output.status.success().then_some(()).ok_or_else(said)
}

#[test]
fn hierarchies_of_v1_have_ids_of_their_own() {
    let _turn = turn();
    let Some(mut object) = start() else { return };
    let mut changes = CgroupChanges::of(&mut object).expect("the ring");
    let name = format!("orb8-test-{}", std::process::id());
    if let Err(reason) = in_v1(&name, "mkdir \"$0/of-v1\" && rmdir \"$0/of-v1\"") {
        return skip("cgroup-v1", &reason);
    }
    let of_v2 = Cgroup::new();
    let id = of_v2.id();
    drop(of_v2);
    // Others may make cgroups meanwhile.
    let (mut told, mut is_of_v1_told) = (Vec::new(), false);
    changes.read(&mut |change| match change {
        Change::Made { id: made, path } => {
            is_of_v1_told |= path == Some("/of-v1");
            told.extend((made == id).then_some("made"));
        }
        Change::Removed { id: removed } => told.extend((removed == id).then_some("removed")),
    });
    assert_eq!(told, ["made", "removed"]);
    assert!(!is_of_v1_told);
    // The kernel removes a hierarchy when it is unmounted and has no cgroups, some of which go late.
    eventually("the end of the hierarchy", || {
        std::thread::sleep(Duration::from_millis(200));
        let all = fs::read_to_string("/proc/self/cgroup").expect("the hierarchies");
        if !all.contains(&name) {
            return Some(());
        }
        in_v1(&name, "true").expect("it mounts again");
        None
    });
}

/// As in a container that sees only a part of the hierarchy: changes have paths from its root.
#[test]
fn a_part_of_the_hierarchy_is_enough() {
    let _turn = turn();
    let Some(mut object) = start() else { return };
    let part = Cgroup::new();
    let place = tempfile::tempdir().expect("a folder");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("mounts of our own");
            let none: Option<&Path> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
            mount(Some(part.path()), place.path(), none, MsFlags::MS_BIND, none).expect("a mount");
            let mut resolver = follow(&mut object, place.path());
            path(&mut resolver, 1);
            let first = part.child("first");
            assert_eq!(path(&mut resolver, first.id()).as_deref(), Some("/first"));
            let short = part.child("short");
            let id = short.id();
            drop(short);
            assert_eq!(path(&mut resolver, id).as_deref(), Some("/short"));
            let elsewhere = Cgroup::new();
            assert_eq!(path(&mut resolver, elsewhere.id()), None);
            assert_eq!(resolver.walks(), 1);
        });
        thread.join().expect("the thread with mounts of its own");
    });
}
