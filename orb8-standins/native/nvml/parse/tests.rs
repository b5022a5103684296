//! What scenarios say, and what is wrong with them.

use std::path::Path;

use super::super::curve::Curve;
use super::super::scenario::{Devices, Failure, Pattern, Quantity, What};
use super::super::status::Status;
use super::*;

fn read(text: &str) -> Scenario {
    parse(text, Path::new("/scenarios")).unwrap()
}

const H100S: &str = "
# Two devices.
[driver]
version = 580.82.07
cuda = 13.0
start = written

[device 0-1]
model = NVIDIA H100 80GB HBM3
architecture = hopper
serial = 16$i
memory = 81559MiB
power = sine(100,700,60s)+noise(5,$i)
temperature.memory = none
nvlink.links = 18

[device 1] # it has a name of its own
uuid = GPU-1
pci = 0000:ca:00.0
";

#[test]
fn sections_add_up() {
    let scenario = read(H100S);
    assert_eq!(scenario.driver.cuda, 13_000);
    assert_eq!(scenario.driver.start, Start::Written);
    let [first, second] = &scenario.devices[..] else { panic!() };
    assert_eq!(second.uuid, "GPU-1");
    assert_eq!((second.pci.bus, second.pci.domain), (0xca, 0));
    assert_eq!((first.serial.as_deref(), second.serial.as_deref()), (Some("160"), Some("161")));
    assert!(first.uuid.starts_with("GPU-") && first.uuid != second.uuid);
    assert!(first.gpm, "a Hopper");
    let memory = first.curve(Quantity::Memory).unwrap().value(0.0);
    assert_eq!(memory, 81_559.0 * 1024.0 * 1024.0);
    assert!(first.curve(Quantity::MemoryTemperature).is_none());
    assert!(matches!(first.curve(Quantity::Power), Some(Curve::Sum(terms)) if terms.len() == 2));
    assert_eq!(second.links, 18);
}

#[test]
fn instances_get_the_numbers_that_the_driver_gives() {
    let text = format!(
        "{H100S}\n[mig 0]\n3g.40gb\n2g.20gb busy=40\n1g.10gb x 2\n[mig 0 from 30s off]\n\
         [mig 0 from 60s]\n1g.10gb x 7"
    );
    let scenario = read(&text);
    let device = &scenario.devices[0];
    assert!(device.mig && !scenario.devices[1].mig);
    let (number, instances) = device.layout(10.0);
    let instances = instances.unwrap();
    assert_eq!(number, 1);
    assert_eq!(instances.iter().map(|it| it.gpu).collect::<Vec<_>>(), [1, 3, 7, 8]);
    assert_eq!(instances[0].slices, (3, 3));
    assert_eq!(instances[1].busy, Some(Curve::Constant(40.0)));
    assert!(matches!(device.layout(40.0), (2, None)));
    let (number, instances) = device.layout(60.0);
    assert_eq!((number, instances.unwrap().len()), (3, 7));
    let total: u64 = instances.unwrap().iter().map(|it| it.memory).sum();
    assert!(total < 81_559 << 20, "the parts fit");
}

#[test]
fn a_compute_instance_is_a_part_of_a_gpu_instance() {
    let scenario = read(&format!("{H100S}\n[mig 0]\n1c.3g.40gb gi=1\n2c.3g.40gb gi=1"));
    let (_, instances) = scenario.devices[0].layout(0.0);
    let ids: Vec<_> = instances.unwrap().iter().map(|it| (it.gpu, it.compute, it.slices)).collect();
    assert_eq!(ids, [(1, 0, (3, 1)), (1, 1, (3, 2))]);
}

#[test]
fn processes_are_told_by_keys() {
    let scenario = read(&format!(
        "{H100S}\n[processes]\npid=42 device=1 memory=2GiB sm=60 from=5s to=9s type=mps name=python\n\
         file=pids device=all sm=10 memory=1GiB"
    ));
    let process = &scenario.processes[0];
    assert_eq!((process.pid, process.devices.clone()), (42, Devices::These(vec![1])));
    assert!(process.window.contains(5.0) && !process.window.contains(9.0));
    let file = &scenario.files[0];
    assert_eq!(file.path, Path::new("/scenarios/pids"));
    let read = parse_processes("# mine\n77\n\n78 sm=99 device=0\n", &file.like).unwrap();
    assert_eq!(read.iter().map(|process| process.pid).collect::<Vec<_>>(), [77, 78]);
    assert_eq!(read[0].devices, Devices::All);
    assert_eq!((read[0].sm.value(0.0), read[1].sm.value(0.0)), (10.0, 99.0));
    assert!(parse_processes("nonsense", &file.like).is_err());
}

#[test]
fn happenings_are_sentences() {
    let scenario = read(&format!(
        "{H100S}\n[events]\nat 20s xid 79 on 0\nat 1s xid 94 gi=1 ci=0 on 1\n\
         from 5s to 60s every 2m fails nvmlGpm* unknown on all\nfrom 1m fails all each\n\
         at 0s blocks nvmlDeviceGetPowerUsage on 0\nfrom 2s to 3s throttled power-cap,idle on 0-1\n\
         at 9s lost on 1\nfrom 1s to 2s unloaded\nfrom 1s to 2s drops samples on 0\n\
         from 0s slow nvmlDeviceGetPcieThroughput 20ms"
    ));
    let what: Vec<&What> = scenario.happenings.iter().map(|it| &it.what).collect();
    assert!(matches!(what[0], What::Xid { code: 79, instance: None }));
    assert!(matches!(what[1], What::Xid { code: 94, instance: Some((1, 0)) }));
    let begins = Pattern::Begins("nvmlGpm".into());
    assert!(
        matches!(what[2], What::Fails(pattern, Failure::With(Status::UNKNOWN)) if *pattern == begins)
    );
    assert!(matches!(what[3], What::Fails(Pattern::All, Failure::Each)));
    assert!(matches!(what[5], What::Throttled(0x5)));
    assert!(matches!(what[9], What::Slow(_, time) if *time == 0.02));
    assert_eq!(scenario.happenings[2].devices, Some(Devices::All));
    assert!(scenario.happenings[3].devices.is_none());
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let mistakes = [
        ("model = x", "is in no section"),
        ("[gpu 0]", "is no section"),
        ("[device 0]\nmodel = x\ncolour = red", "`colour` is no key of a device"),
        ("[device 0]\nmodel = x\npower = wave(1,2)", "`wave(1,2)` is no function"),
        ("[device 0]\nmodel = x\npower = 5XB", "`5XB` is no number"),
        ("[device 0]\nmodel = x\npower = sine(1,2,0s)", "no length of time above 0"),
        ("[device 0]\nmodel = x\npower = steps(1,9s:2,3s:1)", "in the order of their times"),
        ("[device 0]\nmodel = x\npower = ramp(1,2,3s", "do not match"),
        ("[device 0]\nmodel = x\nmodel", "is no `key = value`"),
        ("[device 0]\npower = 1", "device 0 has no model"),
        ("[device 0-99]\nmodel = x", "more than a node has"),
        ("[mig 3]", "there is no device 3"),
        ("[device 0]\nmodel = x\n[mig 0]\nhuge", "is no profile"),
        ("[device 0]\nmodel = x\n[mig 0]\n1g.5gb gi=1\n1g.5gb gi=1 ci=0", "already"),
        ("[processes]\nsm=5", "a process has a pid"),
        ("[processes]\npid=5 colour=red", "`colour` is nothing of a process"),
        ("[events]\nxid 79", "begins with `at TIME`"),
        ("[events]\nat 5s explodes", "`explodes` does not happen"),
        ("[events]\nat 5s fails all badly", "`badly` is no error"),
        ("[events]\nfrom 5s to 4s lost on 0", "ends before it begins"),
        ("[events]\nat 5s every 9s lost on 0", "does not end"),
        ("[events]\nfrom 1s to 2s throttled boredom", "`boredom` holds nothing back"),
        ("[driver]\ncolour = red", "`colour` is no key of [driver]"),
    ];
    for (text, problem) in mistakes {
        let error = parse(text, Path::new("")).unwrap_err();
        assert!(error.contains(problem), "{text:?}: {error}");
    }
    let error = parse("[device 0]\nmodel = x\nfan = ?\npower = ?", Path::new("")).unwrap_err();
    assert!(error.starts_with("line 3: ") && error.contains("\nline 4: "), "{error}");
}
