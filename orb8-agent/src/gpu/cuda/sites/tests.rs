use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::gpu::cuda::process::ProcessKey;
use crate::gpu::cuda::stacks::Names;

fn place(number: u64) -> Stack {
    Arc::from([number])
}

fn largest(sites: &Sites) -> (Vec<Site>, u64) {
    let mut names = Names::start(PathBuf::from("/nowhere"));
    sites.largest(&mut names.frames(ProcessKey { pid: 1, start: 1 }))
}

#[test]
fn places_without_memory_make_room() {
    let mut sites = Sites::default();
    let numbers: Vec<_> = (0..MAX_SITES as u64).map(|i| sites.take(place(i), 10, false)).collect();
    assert!(numbers.iter().all(Option::is_some));
    assert_eq!(sites.take(place(9_999), 10, false), None);
    sites.give_back(7, 10);
    assert_eq!(sites.take(place(9_999), 50, false), Some(7));
    assert_eq!(sites.take(place(7), 10, false), None, "it is another place's row now");
    assert_eq!(largest(&sites).0[0].outstanding, 50);
}

#[test]
fn only_places_with_memory_are_told() {
    let mut sites = Sites::default();
    sites.take(place(1), 10, false);
    sites.take(place(2), 20, true);
    sites.give_back(0, 10);
    let (told, named) = largest(&sites);
    assert_eq!((told.len(), told[0].outstanding, named), (1, 20, 20));
}

#[test]
fn the_machines_memory_is_no_sign_of_a_leak() {
    let mut sites = Sites::default();
    for _ in 0..10 {
        sites.take(place(1), 1_000, true);
        sites.take(place(2), 10, false);
        sites.end_window();
    }
    let mut names = Names::start(PathBuf::from("/nowhere"));
    let mut frames = names.frames(ProcessKey { pid: 1, start: 1 });
    for scale in [0, 1] {
        assert_eq!(&*sites.grown(scale, 5, &mut frames).unwrap().frames[0], "0x2");
    }
    assert_eq!(sites.grown(2, 5, &mut frames), None, "not so long yet");
}
