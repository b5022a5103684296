//! Accelerators over the API: a test puts the state on the board, and feeds the events.

use super::*;
use crate::event::Loss;
use crate::gpu::event::{Xid, XidAction, XidClass};
use crate::gpu::share::{Owner, Share, Standing};
use crate::gpu::view::{DeviceCounts, DeviceView};
use crate::gpu::{
    Device, DeviceId, DeviceState, GpuEvent, GpuEventKind, Part, PciAddress, Seen, Shares,
    SourceKind, Vendor, View,
};

fn owner(namespace: &str, pod: &str) -> Owner {
    let text = |text: &str| Some(text.to_owned());
    Owner { namespace: text(namespace), pod: text(pod), container: None, workload: None }
}

fn device(id: &str, index: u32, parent: Option<&str>, owners: &[Owner]) -> DeviceView {
    let part = parent.map(|parent| Part {
        parent: DeviceId::new(parent),
        gpu_instance: 1,
        compute_instance: None,
        profile: "1g.10gb".into(),
    });
    let device = Device {
        id: DeviceId::new(id),
        vendor: Vendor::Nvidia,
        source: SourceKind::Nvml,
        index: Some(index),
        minor: None,
        model: "H100".into(),
        architecture: None,
        pci: PciAddress::parse(if id == "GPU-a" { "0b:00.0" } else { "1b:00.0" }),
        serial: None,
        driver: None,
        part,
        is_divided: false,
    };
    let share = |owner: &Owner| Share {
        device: DeviceId::new(id),
        owner: owner.clone(),
        holds: None,
        memory: None,
        busy: None,
        processes: Vec::new(),
        standing: Standing::InUse,
    };
    DeviceView {
        seen: Seen { device, state: DeviceState::Sampled(Box::default()) },
        shares: Shares { shares: owners.iter().map(share).collect(), ..Shares::default() },
        counts: DeviceCounts::default(),
    }
}

/// A node with two devices, the second one divided.
fn node() -> Node {
    let node = Node::new();
    let view = View {
        time: UnixNanos(1),
        devices: vec![
            device("GPU-a", 0, None, &[owner("ml", "a"), owner("shop", "b")]),
            device("GPU-c", 1, None, &[]),
            device("MIG-0", 0, Some("GPU-c"), &[owner("shop", "b")]),
        ],
        ..View::default()
    };
    lock(&node.pipeline).gpu().put(view);
    node
}

fn event(id: &str, owners: Vec<Owner>, kind: GpuEventKind) -> GpuEvent {
    GpuEvent {
        time: UnixNanos(2),
        device: Some(DeviceId::new(id)),
        index: None,
        process: None,
        owners,
        kind,
    }
}

fn xid(action: XidAction) -> GpuEventKind {
    GpuEventKind::Xid(Xid { code: 1, class: XidClass::Driver, action, meaning: "it broke" })
}

fn feed(node: &Node, events: impl IntoIterator<Item = GpuEvent>) {
    node.feed(events.into_iter().map(|event| (event.time, Payload::Gpu(Box::new(event)))));
}

fn namespace(name: &str) -> v1::FlowFilter {
    v1::FlowFilter { namespace: vec![name.into()], ..Default::default() }
}

#[tokio::test]
async fn the_last_state_is_told_to_who_asks() {
    let mut node = node();
    let mut client = node.client();
    let ask = async |client: &mut Client, request: v1::QueryGpuRequest| {
        let answer = client.query_gpu(request).await.unwrap().into_inner();
        answer.devices.iter().map(|device| device.id.clone()).collect::<Vec<_>>()
    };
    let all = v1::QueryGpuRequest::default();
    assert_eq!(ask(&mut client, all).await, ["GPU-a", "GPU-c", "MIG-0"]);
    let ml = v1::QueryGpuRequest { include: vec![namespace("ml")], ..Default::default() };
    assert_eq!(ask(&mut client, ml).await, ["GPU-a"]);
    for device in ["1:0", "MIG-*", "MIG-0"] {
        let request = v1::QueryGpuRequest { devices: vec![device.into()], ..Default::default() };
        assert_eq!(ask(&mut client, request).await, ["GPU-c", "MIG-0"], "{device}");
    }
    for (address, expected) in [("0b:00.0", &["GPU-a"][..]), ("1B:00.0", &["GPU-c", "MIG-0"])] {
        let request = v1::QueryGpuRequest { devices: vec![address.into()], ..Default::default() };
        assert_eq!(ask(&mut client, request).await, expected);
    }
    // Before the first reading, and where there is nothing: an answer all the same.
    lock(&node.pipeline).gpu().put(View::default());
    let answer = client.query_gpu(v1::QueryGpuRequest::default()).await.unwrap().into_inner();
    assert_eq!((answer.time_ns, answer.node_name.as_str()), (0, "node-1"));
    node.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let mut node = node();
    let mut client = node.client();
    let port = v1::FlowFilter { port: vec![443], ..Default::default() };
    for (request, said) in [
        (
            v1::QueryGpuRequest { include: vec![port.clone()], ..Default::default() },
            "port: workloads have no such thing",
        ),
        (
            v1::QueryGpuRequest { devices: vec!["7".into()], ..Default::default() },
            "devices: `7` is none of the devices that are there: 0, 1, 1:0",
        ),
        (
            v1::QueryGpuRequest { devices: vec!["gpu0".into()], ..Default::default() },
            "devices: `gpu0` is no device: give a number",
        ),
    ] {
        let status = client.query_gpu(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().starts_with(said), "{}", status.message());
    }
    for request in [
        v1::StreamGpuRequest { exclude: vec![port], ..Default::default() },
        v1::StreamGpuRequest { kinds: vec![99], ..Default::default() },
        v1::StreamGpuRequest { at_least: -1, ..Default::default() },
        v1::StreamGpuRequest { devices: vec![String::new()], ..Default::default() },
    ] {
        let status = client.stream_gpu(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }
    node.stop().await;
}

#[tokio::test]
async fn streams_tell_the_past_that_was_asked_for() {
    let mut node = node();
    let mut client = node.client();
    feed(
        &node,
        [
            event("GPU-a", vec![owner("ml", "a")], xid(XidAction::RestartPod)),
            event("GPU-a", vec![owner("ml", "a")], xid(XidAction::Drain)),
            event("MIG-0", vec![owner("shop", "b")], GpuEventKind::Unallocated { began: true }),
            event("GPU-c", vec![], GpuEventKind::Appeared),
            event("GPU-gone", vec![], GpuEventKind::Removed),
        ],
    );
    let mut kinds = async |request: v1::StreamGpuRequest| {
        let request = v1::StreamGpuRequest { last: 100, no_follow: true, ..request };
        let events = client.stream_gpu(request).await.unwrap().into_inner();
        let events: Vec<_> = events.map(Result::unwrap).collect().await;
        events.iter().map(v1::StreamGpuResponse::kind).collect::<Vec<_>>()
    };
    use v1::GpuEventKind::{Appeared, Removed, Unallocated, Xid};
    let device =
        |device: &str| v1::StreamGpuRequest { devices: vec![device.into()], ..Default::default() };
    for (request, expected) in [
        (v1::StreamGpuRequest::default(), vec![Xid, Xid, Unallocated, Appeared, Removed]),
        (
            v1::StreamGpuRequest { include: vec![namespace("ml")], ..Default::default() },
            vec![Xid, Xid],
        ),
        (
            v1::StreamGpuRequest { exclude: vec![namespace("ml")], ..Default::default() },
            vec![Unallocated, Appeared, Removed],
        ),
        (
            v1::StreamGpuRequest {
                kinds: vec![Xid.into(), Appeared.into()],
                at_least: v1::GpuXidAction::Reboot.into(),
                ..Default::default()
            },
            vec![Xid, Appeared],
        ),
        (device("0"), vec![Xid, Xid]),
        (device("1"), vec![Unallocated, Appeared]),
        (device("1:0"), vec![Unallocated]),
        (device("GPU-gone"), vec![Removed]),
        (v1::StreamGpuRequest { since_time_ns: Some(3), ..Default::default() }, vec![]),
    ] {
        assert_eq!(kinds(request.clone()).await, expected, "{request:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn what_follows_is_told_with_losses_in_line() {
    let mut node = node();
    let mut client = node.client();
    let stream = client.stream_gpu(v1::StreamGpuRequest::default()).await.unwrap();
    let mut stream = stream.into_inner();
    feed(&node, [event("MIG-0", vec![owner("shop", "b")], GpuEventKind::Removed)]);
    let told = stream.next().await.unwrap().unwrap();
    assert_eq!((told.device.as_str(), told.index), ("MIG-0", Some(0)));
    assert_eq!((told.parent.as_str(), told.parent_index), ("GPU-c", Some(1)));
    assert_eq!(told.owners[0].namespace, "shop");
    let loss = Loss { signal: Signal::Gpu, moments: 3, ..Loss::default() };
    node.feed([(UnixNanos(3), Payload::Loss(loss))]);
    let told = stream.next().await.unwrap().unwrap();
    assert_eq!(told.kind(), v1::GpuEventKind::Lost);
    let expected =
        v1::Lost { source: v1::LostSource::Ring.into(), events: 3, ..Default::default() };
    assert_eq!(told.lost, Some(expected));
    node.stop().await;
}
