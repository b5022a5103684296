//! Readers beside a writer.

use std::sync::atomic::AtomicBool;
use std::thread;

use serde_json::{Value, json};

use super::super::tests::{object, owned, pod, service};
use super::*;

const ADDRESSES: u8 = 8;

fn ip(number: u8) -> IpAddr {
    IpAddr::from([10, 1, 0, number])
}

/// A pod whose address, container and owner go with its number.
fn numbered(name: &str, number: u8) -> Value {
    let mut pod = owned(pod(name, &ip(number).to_string(), 0), "Job", &format!("job-{number}"));
    let id = format!("containerd://{name}-{number}");
    pod["status"]["containerStatuses"] = json!([{"name": format!("c{number}"), "containerID": id}]);
    pod
}

/// One round of what happens to a cluster; `stays` is there throughout.
fn churn(world: &mut World, round: u8) {
    let stays = numbered("stays", 0);
    world.list(Source::LocalPods, &[&stays]);
    let number = 1 + round % (ADDRESSES - 1);
    let passing = numbered("passing", number);
    world.apply(Source::LocalPods, &passing);
    let job = object(&format!("job-{number}"));
    world.apply(Source::Jobs, &owned(job, "CronJob", &format!("cron-{number}")));
    world.apply(Source::LocalPods, &numbered("stays", 0));
    let other = numbered("other", number);
    world.apply(Source::RemotePods, &other);
    let ports = json!([{"name": format!("p{number}"), "port": 80}]);
    let service = service(&format!("s{number}"), &format!("10.96.0.{number}"), &ports);
    world.apply(Source::Services, &service);
    // Its address changes, its port does not.
    let moved = self::service(&format!("s{number}"), &format!("10.97.0.{number}"), &ports);
    world.apply(Source::Services, &moved);
    world.delete(Source::LocalPods, &passing);
    world.delete(Source::RemotePods, &other);
}

fn check_all(index: &Index) {
    assert!(index.pod("stays").is_some(), "a pod vanished in a list");
    let (_, name, _) = index.container("stays-0").expect("a container vanished");
    assert_eq!(&*name, "c0");
    assert_eq!(&*index.pod_at(ip(0), u64::MAX - 1).expect("an address vanished").uid, "stays");
    for number in 0..ADDRESSES {
        if let Some(pod) = index.pod_at(ip(number), u64::MAX - 1) {
            assert!(pod.ips.contains(&ip(number)), "{pod:?}");
            let owner = pod.controller.as_ref().unwrap();
            assert!(owner.name.ends_with(&number.to_string()), "{pod:?}");
        }
        if let Some((pod, name, _)) = index.container(&format!("passing-{number}")) {
            assert!(pod.containers.iter().any(|container| container.name == name), "{pod:?}");
        }
        for net in [96, 97] {
            let at = IpAddr::from([10, net, 0, number]);
            if let Some(found) = index.service_at(at, 6, 80) {
                assert_eq!(&*found.service.name, format!("s{number}"));
                assert_eq!(found.port_name.as_deref(), Some(&*format!("p{number}")));
            }
        }
    }
    for pod in index.pods() {
        assert!(&*pod.uid != "passing" || !pod.containers.is_empty(), "{pod:?}");
    }
}

#[test]
fn readers_see_each_change_whole() {
    let mut world = World::synced();
    churn(&mut world, 0);
    let index = world.index.clone();
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        let readers = [(); 2].map(|()| {
            threads.spawn(|| {
                let mut generation = 0;
                let mut reads = 0_u64;
                while !done.load(Ordering::Acquire) {
                    check_all(&index);
                    assert!(index.generation() >= generation);
                    generation = index.generation();
                    reads += 1;
                }
                reads
            })
        });
        for round in 0..2_000_u32 {
            churn(&mut world, (round % 251) as u8);
            if readers.iter().any(|reader| reader.is_finished()) {
                break;
            }
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
}
