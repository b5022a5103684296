use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use super::*;
use crate::gpu::activity::CollectiveKind;
use crate::gpu::device::{Device, DeviceId, Part, PciAddress, SourceKind, Vendor};
use crate::gpu::reading::{DeviceState, Seen};
use crate::gpu::sample::{
    Busy, Clocks, Ecc, Memory, NvLink, Pcie, Power, RemappedRows, Sample as Reading, Temperature,
    Throttle, ThrottleReason,
};
use crate::gpu::share::{Basis, Held, Owner, Shares};
use crate::gpu::totals::{Moved, OwnerTotals, Sums, Waited};
use crate::gpu::view::{DeviceCounts, DeviceView, HolderHealth, SourceHealth, Watching};
use crate::identity::Workload;
use crate::metrics::traffic::TRAFFIC;
use crate::metrics::{Format, METRICS};

const GIB: u64 = 1 << 30;

fn device(index: u32, id: &str) -> Device {
    Device {
        id: DeviceId::new(id),
        vendor: Vendor::Nvidia,
        source: SourceKind::Nvml,
        index: Some(index),
        minor: Some(index),
        model: "NVIDIA H100 80GB HBM3".to_owned(),
        architecture: Some("hopper".to_owned()),
        pci: PciAddress::parse("00000000:1B:00.0"),
        serial: Some("1320".to_owned()),
        driver: Some("550.163.01".to_owned()),
        part: None,
        is_divided: false,
    }
}

/// A reading in which everything is known.
fn reading() -> Reading {
    let half = Some(0.5);
    Reading {
        time: UnixNanos(1),
        busy: Busy {
            gpu: Some(0.75),
            memory: half,
            encoder: half,
            decoder: half,
            engine: half,
            sm: half,
            sm_occupancy: half,
            tensor: half,
            fp64: half,
            fp32: half,
            fp16: half,
            dram: half,
        },
        memory: Memory {
            total: Some(80 * GIB),
            used: Some(60 * GIB),
            reserved: Some(GIB),
            free: Some(19 * GIB),
        },
        temperature: Temperature {
            gpu: Some(66.0),
            memory: Some(74.0),
            slowdown: Some(87.0),
            shutdown: Some(92.0),
        },
        power: Power { draw: Some(690.5), limit: Some(700.0), energy_mj: Some(5_000) },
        clocks: Clocks {
            sm: Some(1980),
            memory: Some(2619),
            video: Some(1545),
            max_sm: Some(1980),
            max_memory: Some(2619),
        },
        throttle: Throttle {
            reasons: Some(vec![ThrottleReason::PowerCap]),
            lost: vec![(ThrottleReason::PowerCap, Duration::from_millis(1_500))],
        },
        pcie: Pcie {
            tx_rate: Some(1),
            rx_rate: Some(2),
            replays: Some(3),
            generation: Some(4),
            width: Some(8),
            max_generation: Some(5),
            max_width: Some(16),
        },
        nvlink: Some(NvLink {
            links: 18,
            active: 17,
            tx_bytes: Some(1),
            rx_bytes: Some(2),
            tx_rate: Some(3),
            rx_rate: Some(4),
            crc_errors: Some(5),
            replays: Some(6),
            recoveries: Some(7),
        }),
        ecc: Some(Ecc {
            is_enabled: true,
            corrected: Some(1),
            uncorrected: Some(2),
            corrected_lifetime: Some(3),
            uncorrected_lifetime: Some(4),
        }),
        rows: Some(RemappedRows {
            correctable: 1,
            uncorrectable: 2,
            is_pending: true,
            has_failed: false,
        }),
        performance_state: Some(0),
        persistence_mode: Some(true),
    }
}

fn share(id: &str, pod: &str, holds: bool, standing: Standing) -> Share {
    let workload = Workload {
        namespace: Some("ml".to_owned()),
        pod: Some(pod.to_owned()),
        container: Some("trainer".to_owned()),
        ..Workload::default()
    };
    Share {
        device: DeviceId::new(id),
        owner: Owner {
            namespace: workload.namespace.clone(),
            pod: workload.pod.clone(),
            container: workload.container.clone(),
            workload: Some(Arc::new(workload)),
        },
        holds: holds.then(|| Held {
            resource: "nvidia.com/gpu".to_owned(),
            is_shared: false,
            claim: None,
        }),
        memory: Some((20 * GIB, Basis::Exact)),
        busy: Some((0.25, Basis::Estimated)),
        processes: vec![7],
        standing,
    }
}

fn counts() -> DeviceCounts {
    DeviceCounts {
        xids: BTreeMap::from([(79, 2), (31, 1)]),
        xid_times: BTreeMap::new(),
        last_xid: Some(79),
        last_xid_time: UnixNanos(5),
        throttled: BTreeMap::from([(ThrottleReason::PowerCap, Duration::from_secs(2))]),
        energy_mj: 2_500,
        lost: 1,
        silent: 3,
    }
}

fn view() -> View {
    let idle = Standing::Idle { since: UnixNanos(40_000_000_000), is_long: true };
    let whole = DeviceView {
        seen: Seen { device: device(0, "GPU-a"), state: DeviceState::Sampled(Box::new(reading())) },
        shares: Shares {
            shares: vec![
                share("GPU-a", "bert-0", true, Standing::Active),
                share("GPU-a", "idle-0", true, idle),
                share("GPU-a", "thief", false, Standing::Unallocated),
            ],
            unattributed_memory: Some(0),
            unattributed_busy: Some(0.0),
        },
        counts: counts(),
    };
    let parent = DeviceView {
        seen: Seen {
            device: Device { is_divided: true, ..device(1, "GPU-b") },
            state: DeviceState::Sampled(Box::default()),
        },
        shares: Shares::default(),
        counts: DeviceCounts::default(),
    };
    let part = Part {
        parent: DeviceId::new("GPU-b"),
        gpu_instance: 11,
        compute_instance: Some(0),
        profile: "1g.10gb".to_owned(),
    };
    let instance = DeviceView {
        seen: Seen {
            device: Device { part: Some(part), index: Some(2), ..device(1, "MIG-c") },
            state: DeviceState::Sampled(Box::new(reading())),
        },
        shares: Shares {
            shares: vec![share("MIG-c", "embedder", true, Standing::Active)],
            unattributed_memory: Some(40 * GIB),
            unattributed_busy: Some(0.5),
        },
        counts: DeviceCounts::default(),
    };
    let lost = DeviceView {
        seen: Seen {
            device: device(3, "GPU-d"),
            state: DeviceState::Lost { reason: "gone".to_owned(), since: UnixNanos(1) },
        },
        shares: Shares {
            shares: vec![Share {
                memory: None,
                busy: None,
                ..share("GPU-d", "etl", true, Standing::Lost)
            }],
            ..Shares::default()
        },
        counts: DeviceCounts { lost: 1, ..DeviceCounts::default() },
    };
    View {
        time: UnixNanos(100_000_000_000),
        interval: Duration::from_secs(1),
        sources: vec![
            SourceHealth {
                kind: SourceKind::Nvml,
                devices: 3,
                problem: None,
                took: Duration::from_millis(3),
                failures: 1,
                invalid: 2,
                unread: 0,
                lacks: None,
            },
            SourceHealth {
                kind: SourceKind::Amd,
                devices: 0,
                problem: Some("not there".to_owned()),
                took: Duration::ZERO,
                failures: 0,
                invalid: 0,
                unread: 0,
                lacks: None,
            },
        ],
        holders: HolderHealth { from: Some("kubelet".to_owned()), ..HolderHealth::default() },
        devices: vec![whole, parent, instance, lost],
        processes: Vec::new(),
        activity: Vec::new(),
        totals: vec![owner_totals()],
        watching: Watching { is_on: true, cost: Some(0.004), budget: 0.01, ..Watching::default() },
    }
}

fn owner_totals() -> OwnerTotals {
    let mut sums = Sums { launches: 5, graph_launches: 6, failed: 1, ..Sums::default() };
    sums.allocated[0] = Moved { count: 2, bytes: 4096 };
    sums.freed[0] = Moved { count: 1, bytes: 1024 };
    sums.copies[0] = Moved { count: 3, bytes: 300 };
    sums.waits[0] = Waited { count: 4, time: Duration::from_millis(2_500) };
    sums.modules = Waited { count: 1, time: Duration::from_secs(1) };
    sums.collectives[CollectiveKind::AllReduce as usize] = Moved { count: 9, bytes: 900 };
    OwnerTotals {
        workload: share("", "bert-0", true, Standing::Active).owner.workload,
        since: UnixNanos(5),
        sums,
        outstanding: 3072,
        leak_growth: 12.5,
        behind: 2,
    }
}

fn text(families: Vec<Family>) -> String {
    String::from_utf8(Format::Text.encode(families)).unwrap()
}

fn told(families: &[Family], name: &str) -> Vec<(String, f64)> {
    let family = families.iter().find(|family| family.name == name);
    let samples = family.into_iter().flat_map(|family| &family.samples);
    let labels = |sample: &Sample| {
        let all: Vec<String> =
            sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        all.join(",")
    };
    let value = |sample: &Sample| match sample.value {
        Value::Count(count) => count as f64,
        Value::Sum(value) | Value::Gauge(value) => value,
        Value::Histogram(_) => panic!("a histogram"),
    };
    samples.map(|sample| (labels(sample), value(sample))).collect()
}

#[test]
fn every_metric_of_the_table_is_told_with_its_labels_once() {
    let families = families(&view(), UnixNanos(3));
    let mut names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    names.extend(TRAFFIC.iter().map(|metric| metric.name));
    for metric in GPU {
        assert!(names.insert(metric.name), "{} is there twice", metric.name);
        assert!(metric.help.ends_with('.'), "{}", metric.name);
        assert_eq!(
            metric.kind == Kind::Counter,
            metric.name.ends_with("_total"),
            "{}",
            metric.name
        );
        let family = families.iter().find(|family| family.name == metric.name);
        let family = family.unwrap_or_else(|| panic!("nothing is told of {}", metric.name));
        let allowed: BTreeSet<&str> =
            metric.owner_labels().iter().chain(metric.labels).copied().collect();
        let mut seen = HashSet::new();
        for sample in &family.samples {
            assert!(seen.insert(sample.labels.clone()), "{}: {:?}", metric.name, sample.labels);
            for (label, value) in sample.labels.iter() {
                assert!(allowed.contains(label) && !value.is_empty(), "{}: {label}", metric.name);
            }
        }
    }
}

#[test]
fn parts_and_the_rest_sum_to_the_device() {
    let families = families(&view(), UnixNanos(3));
    let sum = |name: &str, of: &str| -> f64 {
        let samples = told(&families, name);
        let of = samples.iter().filter(|(labels, _)| labels.contains(&format!("uuid={of}")));
        of.map(|(_, value)| value).sum()
    };
    for (device, pods, rest) in [
        ("orb8_gpu_memory_used", "orb8_gpu_pod_memory_used", "orb8_gpu_unattributed_memory"),
        ("orb8_gpu_utilization", "orb8_gpu_pod_utilization", "orb8_gpu_unattributed_utilization"),
    ] {
        let parts = sum(pods, "GPU-a") + sum(rest, "GPU-a");
        assert!((sum(device, "GPU-a") - parts).abs() < 1e-9, "{device}: {parts}");
    }
    // A part of a divided device has names of its own: the sum over devices has it once.
    assert!(
        told(&families, "orb8_gpu_memory_used").iter().all(|(labels, _)| !labels.contains("MIG"))
    );
    assert_eq!(
        told(&families, "orb8_gpu_instance_memory_size"),
        [(
            "gpu=1:2,uuid=MIG-c,model=NVIDIA H100 80GB HBM3,parent=GPU-b,profile=1g.10gb"
                .to_owned(),
            (80 * GIB) as f64
        )]
    );
}

#[test]
fn owners_that_are_called_the_same_are_one() {
    let step = |job: u32, standing, basis| {
        let workload = Workload {
            unit: Some("slurmstepd.scope".to_owned()),
            cgroup_path: format!("/system.slice/slurmstepd.scope/job_{job}"),
            ..Workload::default()
        };
        let owner = Owner {
            namespace: None,
            pod: None,
            container: None,
            workload: Some(Arc::new(workload)),
        };
        let memory = Some((GIB, basis));
        Share { owner, memory, ..share("GPU-a", "", false, standing) }
    };
    let mut view = view();
    view.devices[0].shares.shares = vec![
        step(1, Standing::InUse, Basis::Exact),
        step(2, Standing::Unallocated, Basis::Estimated),
    ];
    let families = families(&view, UnixNanos(3));
    let of_units = |name: &str| -> Vec<(String, f64)> {
        let told = told(&families, name).into_iter();
        told.filter(|(labels, _)| labels.contains("slurmstepd")).collect()
    };
    let labels = |own: &str| format!("gpu=0,uuid=GPU-a,workload=slurmstepd.scope{own}");
    let used = (labels(",basis=estimated"), 2.0 * GIB as f64);
    assert_eq!(of_units("orb8_gpu_pod_memory_used"), [used]);
    assert_eq!(of_units("orb8_gpu_pod_unallocated"), [(labels(""), 1.0)]);
}

#[test]
fn what_is_not_known_has_no_sample() {
    assert!(families(&View::default(), UnixNanos(3)).is_empty(), "before the first reading");
    let families = families(&view(), UnixNanos(3));
    let up: Vec<f64> = told(&families, "orb8_gpu_up").into_iter().map(|(_, value)| value).collect();
    assert_eq!(up, [1.0, 1.0, 0.0]);
    for (name, samples) in [("orb8_gpu_temperature_celsius", 2), ("orb8_gpu_power_watts", 1)] {
        assert_eq!(told(&families, name).len(), samples, "{name}: of GPU-a alone");
    }
    let sources = told(&families, "orb8_gpu_source_up");
    assert_eq!(sources, [("source=nvml".to_owned(), 1.0)], "one that is not there is not down");
}

#[test]
fn holders_tell_what_they_do_with_it() {
    let families = families(&view(), UnixNanos(3));
    let of = |name: &str| -> Vec<(String, f64)> {
        let pod = |labels: &str| {
            labels.split(',').find_map(|label| label.strip_prefix("pod=")).unwrap().to_owned()
        };
        told(&families, name).into_iter().map(|(labels, value)| (pod(&labels), value)).collect()
    };
    let pods = |values: &[(&str, f64)]| -> Vec<(String, f64)> {
        values.iter().map(|(pod, value)| ((*pod).to_owned(), *value)).collect()
    };
    let idle = pods(&[("bert-0", 0.0), ("idle-0", 60.0), ("embedder", 0.0)]);
    assert_eq!(of("orb8_gpu_pod_idle_seconds"), idle, "not of a device that is lost");
    let long = pods(&[("bert-0", 0.0), ("idle-0", 1.0), ("embedder", 0.0)]);
    assert_eq!(of("orb8_gpu_pod_idle"), long);
    assert!(of("orb8_gpu_pod_holds").contains(&("etl".to_owned(), 1.0)), "who is held up by it");
    assert_eq!(of("orb8_gpu_pod_unallocated"), pods(&[("thief", 1.0)]));
    assert_eq!(
        told(&families, "orb8_gpu_xid_errors_total")[1].0,
        "gpu=0,uuid=GPU-a,model=NVIDIA H100 80GB HBM3,xid=79,class=hardware,action=reboot"
    );
    assert_eq!(
        told(&families, "orb8_gpu_pod_wait_seconds_total"),
        [("namespace=ml,pod=bert-0,container=trainer,kind=stream".to_owned(), 2.5)]
    );
}

#[test]
fn dcgm_exporters_dashboards_find_its_names() {
    let page = text(dcgm_families(&view(), &"gpu-node-1".into(), UnixNanos(3)));
    let of_a = "gpu=\"0\",UUID=\"GPU-a\",pci_bus_id=\"00000000:1B:00.0\",device=\"nvidia0\",\
                modelName=\"NVIDIA H100 80GB HBM3\",Hostname=\"gpu-node-1\",\
                DCGM_FI_DRIVER_VERSION=\"550.163.01\"";
    let holder = "container=\"trainer\",namespace=\"ml\",pod=\"bert-0\"";
    for line in [
        format!("DCGM_FI_DEV_GPU_UTIL{{{of_a},{holder}}} 75"),
        format!("DCGM_FI_DEV_FB_USED{{{of_a},{holder}}} 61440"),
        format!("DCGM_FI_DEV_XID_ERRORS{{{of_a},{holder}}} 79"),
        format!("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{{{of_a},{holder}}} 0.5"),
    ] {
        assert!(page.lines().any(|at| at.trim_end_matches(".0") == line), "{line} in\n{page}");
    }
    // Two hold it, and so does nobody who only uses it.
    assert_eq!(page.matches("DCGM_FI_DEV_GPU_TEMP{").count(), 3);
    assert!(page.contains("GPU_I_PROFILE=\"1g.10gb\",GPU_I_ID=\"11\"") && !page.contains("thief"));
}
