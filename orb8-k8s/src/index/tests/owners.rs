use super::*;

fn replica_set(name: &str, deployment: &str) -> Value {
    owned(object(name), "Deployment", deployment)
}

#[test]
fn a_chain_is_climbed_to_its_top() {
    let mut world = World::synced();
    world.apply(Source::ReplicaSets, &replica_set("web-1", "web"));
    world.apply(Source::ReplicaSets, &owned(object("canary-1"), "Rollout", "canary"));
    world.apply(Source::Jobs, &owned(object("nightly-1"), "CronJob", "nightly"));
    world.apply(Source::Jobs, &object("once"));
    for (kind, owner, top) in [
        ("ReplicaSet", "web-1", "Deployment/web"),
        ("ReplicaSet", "canary-1", "Rollout/canary"),
        ("Job", "nightly-1", "CronJob/nightly"),
        ("Job", "once", "Job/once"),
        ("DaemonSet", "agent", "DaemonSet/agent"),
        ("PyTorchJob", "train", "PyTorchJob/train"),
    ] {
        world.apply(Source::LocalPods, &owned(pod("pod", "10.1.0.1", 0), kind, owner));
        assert_eq!(world.controller("pod").as_deref(), Some(top));
    }
    world.apply(Source::LocalPods, &pod("pod", "10.1.0.1", 0));
    assert_eq!(world.controller("pod"), None);
    world.apply(Source::LocalPods, &owned(pod("static", "10.1.0.2", 0), "Node", "node-a"));
    assert_eq!(world.controller("static"), None);
}

#[test]
fn a_leader_pod_is_part_of_the_chain() {
    // LeaderWorkerSet: worker -> its StatefulSet -> leader pod -> the leaders' StatefulSet.
    let worker = owned(pod("lws-0-1", "10.1.0.2", 0), "StatefulSet", "lws-0");
    let workers = owned(object("lws-0"), "Pod", "lws-0-leader");
    let leader = owned(pod("lws-0-leader", "10.1.0.1", 0), "StatefulSet", "lws");
    let leaders = owned(object("lws"), "LeaderWorkerSet", "set");
    let mut world = World::synced();
    world.apply(Source::LocalPods, &worker);
    assert_eq!(world.controller("lws-0-1").as_deref(), Some("StatefulSet/lws-0"));
    world.apply(Source::StatefulSets, &leaders);
    world.apply(Source::StatefulSets, &workers);
    assert_eq!(world.controller("lws-0-1").as_deref(), Some("Pod/lws-0-leader"));
    world.apply(Source::RemotePods, &leader);
    assert_eq!(world.controller("lws-0-1").as_deref(), Some("LeaderWorkerSet/set"));
    assert_eq!(world.controller("lws-0-leader").as_deref(), Some("LeaderWorkerSet/set"));
}

#[test]
fn an_owner_that_comes_late_names_its_pods_everywhere() {
    let mut world = World::synced();
    let mut seen = owned(pod("a", "10.1.0.1", 0), "Job", "train-1");
    seen["status"]["containerStatuses"] =
        json!([{"name": "main", "containerID": "containerd://c"}]);
    world.apply(Source::LocalPods, &seen);
    let generation = world.index.generation();
    world.apply(Source::Jobs, &owned(object("train-1"), "JobSet", "train"));
    assert_ne!(world.index.generation(), generation);
    let expected = world.index.pod("a").unwrap();
    assert_eq!(world.controller("a").as_deref(), Some("JobSet/train"));
    assert_eq!(world.index.pod_at("10.1.0.1".parse().unwrap(), at(0)), Some(expected.clone()));
    assert_eq!(world.index.container("c").unwrap().0, expected);
}

#[test]
fn an_owner_that_goes_first_stays_named() {
    let mut world = World::synced();
    let owner = replica_set("web-1", "web");
    let pods = ["a", "b"].map(|name| owned(pod(name, "", 0), "ReplicaSet", "web-1"));
    world.apply(Source::ReplicaSets, &owner);
    world.apply(Source::LocalPods, &pods[0]);
    world.apply(Source::LocalPods, &pods[1]);
    world.delete(Source::ReplicaSets, &owner);
    assert_eq!(world.index.counts().owners, 0);
    // The pods end: they still change, and one starts late.
    let mut ending = pods[0].clone();
    ending["status"]["phase"] = json!("Failed");
    world.apply(Source::LocalPods, &ending);
    assert_eq!(world.controller("a").as_deref(), Some("Deployment/web"));
    world.delete(Source::LocalPods, &ending);
    world.delete(Source::LocalPods, &pods[1]);
    // The last of them is gone, and with it what was kept for them.
    world.apply(Source::LocalPods, &pods[1]);
    assert_eq!(world.controller("b").as_deref(), Some("ReplicaSet/web-1"));
}

#[test]
fn an_orphan_is_believed() {
    let mut world = World::synced();
    world.apply(Source::ReplicaSets, &replica_set("web-1", "web"));
    let mut labelled = owned(pod("a", "", 0), "ReplicaSet", "web-1");
    labelled["metadata"]["labels"] = json!({"pod-template-hash": "1"});
    world.apply(Source::LocalPods, &labelled);
    world.apply(Source::ReplicaSets, &object("web-1"));
    assert_eq!(world.controller("a").as_deref(), Some("ReplicaSet/web-1"));
}

#[test]
fn the_template_hash_tells_the_deployment_of_a_replica_set_that_is_not_known() {
    let mut world = World::new();
    for (hash, owner, top) in [
        ("7d4b9c", "web-api-7d4b9c", "Deployment/web-api"),
        ("7d4b9c", "web-7d4b9cd", "ReplicaSet/web-7d4b9cd"),
        ("7d4b9c", "-7d4b9c", "ReplicaSet/-7d4b9c"),
        ("7d4b9c", "web7d4b9c", "ReplicaSet/web7d4b9c"),
        ("", "web-", "ReplicaSet/web-"),
    ] {
        let mut labelled = owned(pod("a", "", 0), "ReplicaSet", owner);
        labelled["metadata"]["labels"] = json!({"pod-template-hash": hash});
        world.apply(Source::LocalPods, &labelled);
        assert_eq!(world.controller("a").as_deref(), Some(top));
    }
}

#[test]
fn the_template_hash_tells_nothing_of_another_groups_replica_set() {
    let mut world = World::new();
    let mut labelled = owned(pod("a", "", 0), "ReplicaSet", "web-7d4b9c");
    labelled["metadata"]["labels"] = json!({"pod-template-hash": "7d4b9c"});
    labelled["metadata"]["ownerReferences"][0]["apiVersion"] = json!("apps.example.org/v1");
    world.apply(Source::LocalPods, &labelled);
    assert_eq!(world.controller("a").as_deref(), Some("ReplicaSet/web-7d4b9c"));
}

#[test]
fn circles_and_endless_chains_end() {
    let mut world = World::synced();
    let job = |name: &str, owner: &str| owned(object(name), "Job", owner);
    world.apply(Source::LocalPods, &owned(pod("a", "", 0), "Job", "j0"));
    world.apply(Source::Jobs, &job("j0", "j1"));
    world.apply(Source::Jobs, &job("j1", "j0"));
    assert!(world.controller("a").unwrap().starts_with("Job/j"));
    world.apply(Source::Jobs, &job("j1", "j1"));
    assert_eq!(world.controller("a").as_deref(), Some("Job/j1"));
    for n in 0..100 {
        world.apply(Source::Jobs, &job(&format!("j{n}"), &format!("j{}", n + 1)));
    }
    assert_eq!(world.controller("a").as_deref(), Some("Job/j7"));
    world.apply(Source::Jobs, &job("j1", "j0"));
    // Nothing of a circle stays when it is gone.
    world.list(Source::Jobs, &[]);
    world.delete(Source::LocalPods, &pod("a", "", 0));
    assert!(world.writer.owners.is_empty());
}
