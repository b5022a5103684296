use std::time::Duration;

use super::*;
use crate::gpu::holding::Holding;
use crate::gpu::reading::Seen;
use crate::gpu::sample::Sample;

const MIG: &str = include_str!("testdata/mig.txt");
const OTHER_CASE: &str = include_str!("testdata/mig.Hostname.txt");
const TIME_SLICED: &str = include_str!("testdata/time-sliced.txt");
const NOW: UnixNanos = UnixNanos(1_000);

fn read(text: &str) -> (Reading, u64) {
    let mut source = DcgmSource::new(&GpuConfig::default());
    let reading = source.interpret(text.as_bytes(), NOW).unwrap();
    (reading, source.invalid())
}

fn sample<'a>(reading: &'a Reading, id: &str) -> &'a Sample {
    let seen = reading.devices.iter().find(|seen| seen.device.id.as_str() == id);
    seen.unwrap_or_else(|| panic!("no {id}")).state.sample().unwrap()
}

fn holder(holding: &Holding) -> (&str, &str, &str, &str, bool) {
    (
        &holding.namespace,
        &holding.pod,
        &holding.container,
        holding.device.as_ref().map_or("", DeviceId::as_str),
        holding.is_shared,
    )
}

const GPU0: &str = "GPU-0aa7c3f1-1111-4e5a-9c1b-000000000000";
const GPU1: &str = "GPU-1bb7c3f1-2222-4e5a-9c1b-000000000001";

#[test]
fn a_recorded_exporter_with_mig_is_read() {
    let (reading, invalid) = read(MIG);
    assert_eq!(invalid, 0);
    let ids: Vec<_> = reading.devices.iter().map(|seen| seen.device.id.as_str()).collect();
    assert_eq!(ids, [GPU0, GPU1, &format!("{GPU1}/gi11"), &format!("{GPU1}/gi13")]);
    let Seen { device, .. } = &reading.devices[0];
    assert_eq!((device.index, device.minor), (Some(0), Some(0)));
    assert_eq!(device.model, "NVIDIA H100 80GB HBM3");
    assert_eq!(device.pci.as_ref().unwrap().as_str(), "0000:1b:00.0");
    assert_eq!(device.driver.as_deref(), Some("580.159.04"));
    assert!(!device.is_divided && reading.devices[1].device.is_divided);
    let part = reading.devices[3].device.part.as_ref().unwrap();
    assert_eq!((part.parent.as_str(), part.gpu_instance), (GPU1, 13));
    assert_eq!(part.profile, "1g.10gb");
    assert!(reading.processes.is_empty() && reading.events.is_empty());
}

#[test]
fn units_are_the_models_own() {
    let (reading, _) = read(MIG);
    let whole = sample(&reading, GPU0);
    assert_eq!(whole.time, NOW);
    assert_eq!((whole.busy.gpu, whole.busy.memory), (Some(0.97), Some(0.55)));
    assert_eq!((whole.busy.sm, whole.busy.tensor), (Some(0.87122), Some(0.425113)));
    let memory = whole.memory;
    assert_eq!((memory.used, memory.reserved), (Some(20480 << 20), Some(480 << 20)));
    assert_eq!(memory.total, Some((20480 + 480 + 60599) << 20));
    assert_eq!(whole.power.draw, Some(689.412));
    assert_eq!(whole.power.energy_mj, Some(1_840_274_561_233));
    assert_eq!((whole.clocks.sm, whole.clocks.memory), (Some(1980), Some(2619)));
    assert_eq!((whole.temperature.gpu, whole.temperature.memory), (Some(66.0), Some(74.0)));
    assert_eq!(whole.pcie.tx_rate, Some(1 << 30));
    assert_eq!(whole.rows, Some(Default::default()));
    assert_eq!(whole.ecc, None, "the exporter does not count errors here");
}

#[test]
fn what_is_the_devices_is_not_its_instances() {
    let (reading, _) = read(MIG);
    let parent = sample(&reading, GPU1);
    assert_eq!(parent.power.draw, Some(112.334));
    assert_eq!(parent.power.energy_mj, Some(301_223_400_871));
    assert_eq!((parent.memory.used, parent.busy.engine), (None, None));
    let busy = sample(&reading, &format!("{GPU1}/gi11"));
    assert_eq!(busy.memory.used, Some(2062 << 20));
    assert_eq!(busy.busy.engine, Some(0.874501));
    assert_eq!((busy.power.draw, busy.power.energy_mj), (None, None));
    let free = sample(&reading, &format!("{GPU1}/gi13"));
    assert_eq!(free.busy.engine, Some(0.0));
}

#[test]
fn pods_hold_what_their_labels_are_on() {
    let (reading, _) = read(MIG);
    let holders: Vec<_> = reading.holdings.iter().map(holder).collect();
    let part = format!("{GPU1}/gi11");
    assert_eq!(
        holders,
        [
            ("ml-training", "llama-ft-0", "trainer", GPU0, false),
            ("inference", "embedder-7c9d5f6b4-x2x7p", "server", &part, false),
        ]
    );
    assert_eq!(reading.holdings[1].resource, "nvidia.com/mig-1g.10gb");
}

#[test]
fn both_cases_of_the_hosts_label_are_the_same() {
    assert_eq!(read(MIG).0, read(OTHER_CASE).0);
}

#[test]
fn a_shared_device_is_counted_once() {
    let (reading, invalid) = read(TIME_SLICED);
    assert_eq!(invalid, 0);
    assert_eq!(reading.devices.len(), 1);
    let sample = sample(&reading, GPU0);
    assert_eq!(sample.busy.gpu, Some(0.97), "the series without a pod is the device's");
    assert_eq!(sample.power.draw, Some(412.1), "what all pods' series repeat is the device's");
    let holders: Vec<_> = reading.holdings.iter().map(holder).collect();
    assert_eq!(
        holders,
        [
            ("team-a", "svc-a-6d8f9c7b5-aaaaa", "server", GPU0, true),
            ("team-b", "svc-b-7f6b5d4c3-bbbbb", "server", GPU0, true),
        ]
    );
}

#[test]
fn values_of_pods_that_differ_are_not_the_devices() {
    let row = |pod: &str, value: u32| {
        format!(
            "DCGM_FI_DEV_GPU_UTIL{{gpu=\"0\",UUID=\"GPU-a\",namespace=\"n\",pod=\"{pod}\",vgpu=\"0\"}} {value}\n"
        )
    };
    let (reading, _) = read(&format!("{}{}", row("a", 70), row("b", 20)));
    assert_eq!(sample(&reading, "GPU-a").busy.gpu, None);
    assert_eq!(reading.holdings.len(), 2);
}

#[test]
fn labels_of_claims_and_of_a_scrape_are_known() {
    let text = "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-a\",pod=\"exporter\",namespace=\"gpu-operator\",\
                exported_pod=\"p\",exported_namespace=\"n\",exported_container=\"c\",\
                dra_claim_name=\"single\",dra_claim_namespace=\"n\",dra_device_name=\"gpu-0\",\
                dra_driver_name=\"gpu.nvidia.com\"} 5\n\
                DCGM_FI_DEV_GPU_TEMP{gpu=\"0\",UUID=\"GPU-a\",pod=\"\",namespace=\"\"} 40\n";
    let (reading, _) = read(text);
    let [holding] = &reading.holdings[..] else { panic!("{:?}", reading.holdings) };
    assert_eq!(holder(holding), ("n", "p", "c", "GPU-a", false));
    assert_eq!(holding.claim.as_deref(), Some("n/single"));
    assert_eq!((&*holding.resource, &*holding.given_as), ("gpu.nvidia.com", "gpu-0"));
}

#[test]
fn nonsense_takes_nothing_else_along() {
    let text = "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-a\"} NaN\n\
                DCGM_FI_DEV_GPU_TEMP{gpu=\"0\",UUID=\"GPU-a\"} -2000\n\
                DCGM_FI_DEV_FB_USED{gpu=\"0\",UUID=\"GPU-a\"} 9223372036854775794\n\
                DCGM_FI_DEV_FB_FREE{gpu=\"0\",UUID=\"GPU-a\" 5\n\
                DCGM_FI_DEV_SM_CLOCK{gpu=\"0\",UUID=\"GPU-a\"} 1980\n\
                DCGM_FI_DEV_NVSWITCH_TEMPERATURE_CURRENT{nvswitch=\"0\"} 40\n";
    let (reading, invalid) = read(text);
    let expected = Sample { time: NOW, ..Sample::default() };
    let clocks = crate::gpu::sample::Clocks { sm: Some(1980), ..Default::default() };
    assert_eq!(*sample(&reading, "GPU-a"), Sample { clocks, ..expected });
    assert_eq!(invalid, 3, "two values and a line; a blank is no nonsense");
}

#[test]
fn devices_are_bounded() {
    let row =
        |number: usize| format!("DCGM_FI_DEV_GPU_UTIL{{gpu=\"0\",UUID=\"GPU-{number}\"}} 1\n");
    let (reading, invalid) = read(&(0..300).map(row).collect::<String>());
    assert_eq!((reading.devices.len(), invalid), (256, 44));
}

#[test]
fn an_error_is_told_when_it_changes() {
    let mut source = DcgmSource::new(&GpuConfig::default());
    let none: [u32; 0] = [];
    let mut codes = |code: u32| {
        let text = format!("DCGM_FI_DEV_XID_ERRORS{{gpu=\"3\",UUID=\"GPU-a\"}} {code}\n");
        let reading = source.interpret(text.as_bytes(), NOW).unwrap();
        let codes = reading.events.iter().map(|event| {
            assert_eq!((event.index, event.device.as_ref().unwrap().as_str()), (Some(3), "GPU-a"));
            let GpuEventKind::Xid(xid) = &event.kind else { panic!("{event:?}") };
            xid.code
        });
        codes.collect::<Vec<_>>()
    };
    assert_eq!(codes(31), none, "nobody knows when");
    assert_eq!(codes(31), none);
    assert_eq!(codes(79), [79]);
    assert_eq!(codes(79), none);
    assert_eq!(codes(0), none, "cleared");
    assert_eq!(codes(79), [79]);
}

#[test]
fn who_is_no_exporter_is_told() {
    let mut source = DcgmSource::new(&GpuConfig::default());
    let error = source.interpret(b"<html>\n", NOW).unwrap_err();
    assert!(
        matches!(&error, SourceError::Failed(why) if why.contains("tells of no device")),
        "{error}"
    );
}

#[tokio::test]
async fn a_wrong_url_is_told_with_what_to_do() {
    for url in ["not a url", "https://localhost:9400/metrics", "/metrics"] {
        let config = GpuConfig { dcgm: url.into(), ..GpuConfig::default() };
        let error = DcgmSource::new(&config).read().await.unwrap_err();
        assert!(
            matches!(&error, SourceError::Failed(why) if why.contains("--gpu-dcgm")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn where_nobody_listens_it_is_absent() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = GpuConfig { dcgm: format!("http://{address}/metrics"), ..GpuConfig::default() };
    let error = DcgmSource::new(&config).with_rest(Duration::ZERO).read().await.unwrap_err();
    assert!(
        matches!(&error, SourceError::Absent(why) if why.contains("start it") && why.contains("refused")),
        "{error}"
    );
}

#[tokio::test]
async fn one_that_fails_is_left_alone_for_a_while() {
    use orb8_standins::dcgm::{Answer, Dcgm};

    let server = Dcgm::start(Answer::Status(500)).unwrap();
    let config = GpuConfig { dcgm: server.url(), ..GpuConfig::default() };
    let mut source = DcgmSource::new(&config).with_rest(Duration::from_mins(1));
    let error = source.read().await.unwrap_err();
    server.set(Answer::Text("DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-a\"} 5\n".into()));
    assert_eq!(source.read().await.unwrap_err(), error, "told again, and not asked");
    source = source.with_rest(Duration::ZERO);
    assert_eq!(source.read().await.unwrap().devices.len(), 1);
}

#[tokio::test]
async fn without_a_device_of_nvidias_nobody_is_asked_unless_it_is_wanted() {
    let sys = tempfile::tempdir().unwrap();
    let folder = sys.path().join(sysfs::PCI).join("0000:00:01.0");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("vendor"), "0x8086\n").unwrap();
    let roots = crate::gpu::config::Roots { sys: sys.path().into(), ..Default::default() };
    let config = GpuConfig { roots, ..GpuConfig::default() };
    let error = DcgmSource::new(&config).read().await.unwrap_err();
    assert!(matches!(&error, SourceError::Absent(why) if why.contains("--gpu-sources")), "{error}");
    // With a device, by name, or at a URL of one's own.
    let by_name = SourceSelection::Only(vec![SourceKind::Dcgm]);
    let wanted = GpuConfig { sources: by_name, ..config.clone() };
    assert!(DcgmSource::new(&wanted).sys.is_none());
    let wanted = GpuConfig { dcgm: "http://127.0.0.1:1/".into(), ..config.clone() };
    assert!(DcgmSource::new(&wanted).sys.is_none());
    std::fs::write(folder.join("vendor"), "0x10de\n").unwrap();
    let source = DcgmSource::new(&config);
    assert!(source.sys.as_deref().is_some_and(|sys| sysfs::may_have(sys, VENDOR)));
}

#[test]
fn holders_are_bounded_and_what_is_left_out_is_counted() {
    let row = |pod: usize| {
        format!(
            "DCGM_FI_DEV_GPU_UTIL{{gpu=\"0\",UUID=\"GPU-a\",namespace=\"n\",pod=\"p{pod}\"}} 1\n"
        )
    };
    let rows = (0..4100).chain([0]);
    let (reading, invalid) = read(&rows.map(row).collect::<String>());
    assert_eq!((reading.holdings.len(), invalid), (4096, 4));
}
