use super::super::prologue::Step;
use super::*;

#[test]
fn a_process_is_looked_at_less_and_less_often() {
    let began = Instant::now();
    let mut process = Followed::new(7, began);
    let mut looks = Vec::new();
    while process.next_look < began + Duration::from_mins(2) {
        let now = process.next_look;
        looks.push(now.duration_since(began).as_millis());
        process.wait(now);
    }
    assert_eq!(looks, [0, 500, 1500, 3500, 7500, 15_500, 31_500, 63_500, 95_500]);
}

#[test]
fn what_no_library_tells_is_said() {
    let maps = |names: &[&str]| {
        let line = |name: &&str| format!("1-2 r-xp 0 8:1 {} /usr/lib/{name}\n", name.len());
        let proc = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(proc.path().join("7")).expect("a process");
        let lines: String = names.iter().map(line).collect();
        std::fs::write(proc.path().join("7/maps"), lines).expect("its mappings");
        libraries::of_process(proc.path(), 7).expect("mappings")
    };
    assert_eq!(no_driver(&maps(&["libcuda.so.1"])), None);
    let why = no_driver(&maps(&["libcudart.so.12"])).expect("not yet");
    assert!(why.contains("not opened"), "{why}");
    let why = no_driver(&maps(&["libvulkan.so.1"])).expect("never");
    assert!(why.contains("no libcuda"), "{why}");
}

#[test]
fn the_dear_are_left_for_a_window() {
    let function = super::super::functions::function_of(Kind::Driver, "cuLaunchKernel");
    let site = |step| Site { function: function.expect("a function"), offset: 0, step };
    for step in [Step::Emulated, Step::Nop] {
        assert!(Which::Cheap.has(&site(step)));
    }
    assert!(!Which::Cheap.has(&site(Step::Stepped)));
    assert!(Which::All.has(&site(Step::Stepped)));
}
