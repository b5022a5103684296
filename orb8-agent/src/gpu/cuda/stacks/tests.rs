use std::time::{Duration, Instant};

use super::*;
use crate::gpu::cuda::process::start_time;

fn own() -> ProcessKey {
    let home = std::path::Path::new("/proc/self");
    ProcessKey { pid: std::process::id(), start: start_time(home).unwrap() }
}

/// Waits until the thread has answered.
fn settle(names: &mut Names) {
    let begin = Instant::now();
    while names.waiting > 0 && begin.elapsed() < Duration::from_secs(20) {
        names.take_in();
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(names.waiting, 0);
}

#[test]
fn frames_are_addresses_until_they_have_names() {
    let mut names = Names::start("/proc".into());
    let here = settle as fn(&mut Names) as usize as u64 + 1;
    let stack: Stack = Arc::from([here, 0x20]);
    let process = own();
    assert_eq!(*names.frames(process).of(&stack)[0], *format!("{here:#x}"));
    names.ask();
    settle(&mut names);
    let frames = names.frames(process).of(&stack);
    assert!(frames[0].contains("settle+0x1"), "{frames:?}");
    assert_eq!(&*frames[1], "0x20");
    // Everything is answered: nothing is asked again.
    names.ask();
    assert_eq!((names.waiting, names.problem()), (0, None));
}

#[test]
fn one_question_for_a_process_at_a_time() {
    let mut names = Names::start("/proc".into());
    let stack: Stack = Arc::from(Vec::from_iter(1..2_000_u64));
    names.frames(own()).of(&stack);
    for _ in 0..10 {
        names.ask();
    }
    assert_eq!(names.waiting, 1);
    for _ in 0..4 {
        settle(&mut names);
        names.ask();
    }
    settle(&mut names);
    assert!(names.processes[&own()].wanted.is_empty());
}

#[test]
fn a_process_that_is_forgotten_takes_no_room() {
    let mut names = Names::start("/proc".into());
    names.frames(own()).of(&Arc::from([0x10]));
    names.ask();
    names.retain(|process| process != own());
    settle(&mut names);
    assert!(names.processes.is_empty());
}

#[test]
fn names_of_a_process_are_bounded() {
    let mut names = Names::start("/proc".into());
    let mut known = Known::default();
    for round in 0..20_u64 {
        let found = (0..500).map(|i| (round * 500 + i, Arc::from("x"))).collect();
        known.take_in(found);
        assert!(known.names.len() <= MAX_NAMES);
    }
    let stack: Stack = Arc::from(Vec::from_iter(0..10_000_u64));
    names.frames(own()).of(&stack);
    assert!(names.processes[&own()].wanted.len() <= MAX_NAMES);
}
