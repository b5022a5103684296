use super::*;

/// A pod with one container.
fn pod_with(name: &str, container: &str, previous: Option<&str>) -> Value {
    let mut pod = pod(name, "10.1.0.1", 0);
    let last = previous.map(|id| json!({"terminated": {"containerID": format!("cri-o://{id}")}}));
    pod["status"]["containerStatuses"] = json!([
        {"name": "main", "containerID": format!("cri-o://{container}"), "lastState": last}
    ]);
    pod
}

fn container(world: &World, id: &str) -> Option<String> {
    let (pod, name, kind) = world.index.container(id)?;
    Some(format!("{}/{name} {kind:?}", pod.name))
}

#[test]
fn a_pod_is_found_by_uid_and_container() {
    let mut world = World::synced();
    world.apply(Source::LocalPods, &pod_with("a", "c1", None));
    world.apply(Source::RemotePods, &pod_with("b", "c2", None));
    assert_eq!(&*world.index.pod("a").unwrap().name, "a");
    assert_eq!(container(&world, "c1").as_deref(), Some("a/main Main"));
    assert_eq!(world.index.pod("a").unwrap().containers.len(), 1);
    // Containers of other nodes are nobody's business here.
    assert_eq!(container(&world, "c2"), None);
    assert!(world.index.pod("b").unwrap().containers.is_empty());
    let counts = world.index.counts();
    assert_eq!((counts.pods, counts.local_pods), (2, 1));
    let mut names: Vec<_> = world.index.pods().iter().map(|pod| pod.name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn a_restarted_container_is_found_by_both_ids() {
    let mut world = World::synced();
    world.apply(Source::LocalPods, &pod_with("a", "c1", None));
    world.apply(Source::LocalPods, &pod_with("a", "c3", Some("c2")));
    for id in ["c1", "c2", "c3"] {
        assert_eq!(container(&world, id).as_deref(), Some("a/main Main"));
    }
    world.set_time(599);
    world.writer.expire();
    assert!(container(&world, "c1").is_some());
    world.set_time(600);
    world.writer.expire();
    assert_eq!(container(&world, "c1"), None);
    assert!(container(&world, "c2").is_some());
}

#[test]
fn a_pod_of_this_node_stays_known_a_while() {
    let mut world = World::synced();
    let mut gone = pod_with("a", "c1", None);
    gone["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    let gone = owned(gone, "Node", "node-a");
    world.apply(Source::LocalPods, &gone);
    assert_eq!(&*world.index.pod("hash").unwrap().uid, "a");
    world.delete(Source::LocalPods, &gone);
    assert!(world.index.pods().is_empty());
    assert_eq!(world.index.counts().pods, 0);
    assert!(world.index.pod("a").is_some() && world.index.pod("hash").is_some());
    assert!(container(&world, "c1").is_some());
    world.set_time(600);
    world.writer.expire();
    assert!(world.index.pod("a").is_none() && world.index.pod("hash").is_none());
    assert_eq!(container(&world, "c1"), None);
}

#[test]
fn a_mirror_that_is_made_anew_keeps_its_static_pod() {
    let mut world = World::synced();
    world.apply(Source::LocalPods, &mirror("m1", "hash"));
    world.list(Source::LocalPods, &[&mirror("m2", "hash")]);
    world.set_time(700);
    world.writer.expire();
    assert_eq!(&*world.index.pod("hash").unwrap().uid, "m2");
}

#[test]
fn a_static_pod_is_only_its_mirrors() {
    let mut world = World::synced();
    let found = |world: &World| world.index.pod("hash").map(|pod| pod.name.to_string());
    world.apply(Source::LocalPods, &mirror("etcd", "hash"));
    // One of another node may have the same manifest; one that only says so is none.
    world.apply(Source::RemotePods, &mirror("etcd-there", "hash"));
    let mut alike = pod("alike", "", 0);
    alike["metadata"]["annotations"] =
        json!({"kubernetes.io/config.hash": "hash", "kubernetes.io/config.mirror": "hash"});
    world.apply(Source::LocalPods, &alike);
    assert_eq!(found(&world).as_deref(), Some("etcd"));
    world.delete(Source::LocalPods, &alike);
    world.list(Source::RemotePods, &[]);
    assert_eq!(found(&world).as_deref(), Some("etcd"));
    world.apply(Source::LocalPods, &mirror("etcd", "other"));
    assert_eq!(found(&world), None);
    assert!(world.index.pod("other").is_some());
    world.delete(Source::LocalPods, &object("etcd"));
    world.apply(Source::RemotePods, &mirror("etcd", "other"));
    assert!(world.index.0.static_pods.is_empty());
}

#[test]
fn a_pod_that_cannot_be_read_stays() {
    let mut world = World::synced();
    world.apply(Source::LocalPods, &pod("a", "10.1.0.1", 0));
    world.writer.begin(Source::LocalPods);
    world.writer.keep(Source::LocalPods, "a");
    world.writer.keep(Source::LocalPods, "never-read");
    world.writer.finish(Source::LocalPods);
    assert_eq!(world.pod_at("10.1.0.1", 1).as_deref(), Some("a"));
    assert_eq!(world.index.counts().local_pods, 1);
    world.list(Source::LocalPods, &[]);
    assert!(world.index.pods().is_empty());
}

#[test]
fn a_pod_that_comes_back_is_not_forgotten() {
    let mut world = World::synced();
    let a = pod_with("a", "c1", None);
    world.apply(Source::LocalPods, &a);
    assert!(world.index.has_pod("a"));
    world.delete(Source::LocalPods, &a);
    assert!(world.index.pod("a").is_some() && !world.index.has_pod("a"));
    let mut ended = a.clone();
    ended["status"]["phase"] = json!("Succeeded");
    world.apply(Source::LocalPods, &ended);
    assert!(!world.index.has_pod("a"), "it is there, and has ended");
    world.apply(Source::LocalPods, &a);
    world.set_time(700);
    world.writer.expire();
    assert!(world.index.pod("a").is_some() && container(&world, "c1").is_some());
    assert_eq!(world.pod_at("10.1.0.1", 700).as_deref(), Some("a"));
}

#[test]
fn a_pod_that_is_scheduled_to_this_node_moves() {
    let mut pending = pod("a", "", 0);
    pending["spec"]["nodeName"] = json!("");
    let here = pod_with("a", "c1", None);
    for remote_first in [true, false] {
        let mut world = World::synced();
        world.apply(Source::RemotePods, &pending);
        if remote_first {
            world.delete(Source::RemotePods, &pending);
        }
        world.apply(Source::LocalPods, &here);
        if !remote_first {
            // What that watch still tells is old.
            world.apply(Source::RemotePods, &pending);
            world.list(Source::RemotePods, &[]);
        }
        assert_eq!(world.index.pod("a").unwrap().node.as_deref(), Some("node-a"));
        assert_eq!(world.pod_at("10.1.0.1", 0).as_deref(), Some("a"));
        assert!(container(&world, "c1").is_some());
        assert_eq!(world.index.pods().len(), 1);
    }
}

#[test]
fn a_list_takes_only_its_own() {
    let mut world = World::synced();
    let (local, remote) = (pod("a", "10.1.0.1", 0), pod("b", "10.1.0.2", 0));
    world.apply(Source::LocalPods, &local);
    world.apply(Source::RemotePods, &remote);
    world.list(Source::LocalPods, &[]);
    assert_eq!(world.pod_at("10.1.0.1", 1), None);
    assert_eq!(world.pod_at("10.1.0.2", 1).as_deref(), Some("b"));
    // Until it is complete, a list takes nothing; one that broke off counts for nothing.
    world.writer.begin(Source::RemotePods);
    world.writer.begin(Source::RemotePods);
    assert!(world.index.pod("b").is_some());
    world.apply(Source::RemotePods, &remote);
    world.writer.finish(Source::RemotePods);
    assert!(world.index.pod("b").is_some());
}

#[test]
fn what_readers_cannot_see_is_no_change() {
    let mut world = World::synced();
    let a = pod("a", "10.1.0.1", 0);
    world.apply(Source::LocalPods, &a);
    let generation = world.index.generation();
    let mut touched = a.clone();
    touched["metadata"]["resourceVersion"] = json!("17");
    touched["status"]["conditions"] = json!([{"type": "Ready"}]);
    world.apply(Source::LocalPods, &touched);
    world.list(Source::LocalPods, &[&a]);
    world.writer.current(Source::LocalPods);
    world.delete(Source::LocalPods, &object("other"));
    assert_eq!(world.index.generation(), generation);
    world.delete(Source::LocalPods, &a);
    assert_ne!(world.index.generation(), generation);
}

#[test]
fn objects_without_identity_are_counted() {
    let mut world = World::synced();
    world.apply(Source::LocalPods, &json!({"metadata": {"name": "a"}}));
    world.apply(Source::LocalPods, &json!({"metadata": {"uid": "", "name": "a"}}));
    world.apply(Source::LocalPods, &json!({"metadata": {"uid": "u"}}));
    world.writer.apply(Source::Services, parse(Source::Nodes, &object("n")));
    let nowhere = json!({"metadata": {"uid": "u", "name": "a"}});
    for source in [Source::LocalPods, Source::Services, Source::EndpointSlices] {
        world.apply(source, &nowhere);
    }
    world.apply(Source::Nodes, &nowhere);
    world.apply(Source::LocalPods, &pod("a", "nonsense", 0));
    let counts = world.index.counts();
    assert_eq!((counts.skipped_objects, counts.skipped_addresses), (7, 1));
    assert_eq!((counts.pods, counts.services, counts.nodes), (1, 0, 1));
}

#[test]
fn pods_share_what_they_have_in_common() {
    let mut world = World::synced();
    for name in ["a", "b"] {
        let mut labelled = pod(name, "", 0);
        labelled["metadata"]["labels"] = json!({"app": "web", "tier": "front"});
        world.apply(Source::RemotePods, &labelled);
    }
    let [a, b] = ["a", "b"].map(|uid| world.index.pod(uid).unwrap());
    assert!(Arc::ptr_eq(&a.labels, &b.labels) && Arc::ptr_eq(&a.namespace, &b.namespace));
    assert!(Arc::ptr_eq(a.node.as_ref().unwrap(), b.node.as_ref().unwrap()));
}
