//! Devices that are not plain Ethernet: tags above, or no link header at all.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    path::Path,
};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use orb8_agent::ebpf::LinkKind;
use orb8_common::{
    flow::{DIRECTION_EGRESS, DIRECTION_INGRESS, FlowKey},
    packet::protocol,
};

use super::support::{
    Lab,
    engine::{DEFAULTS, Engine},
    frames::{flow4, flow6, ipv6, ports, udp4},
    netns::{Counted, VETH},
    seen::interface_flow,
    skip,
    traffic::{Udp, udp_echo},
};

#[test]
fn a_vlan_device_and_the_device_below_it() {
    let lab = Lab::new();
    for (namespace, address) in [(&lab.pair.client, "10.89.0.1"), (&lab.pair.server, "10.89.0.2")] {
        let add = format!("link add link {VETH} name tagged type vlan id 42");
        if let Err(reason) = namespace.try_ip(&add) {
            return skip("vlan", reason.trim());
        }
        namespace.ip("link set tagged addrgenmode none");
        namespace.ip("link set tagged up");
        namespace.ip(&format!("addr add {address}/24 dev tagged"));
    }
    let mut engine = Engine::on_interface(&lab.pair.client, VETH, &DEFAULTS);
    engine.attach_interface(&lab.pair.client, "tagged", LinkKind::Ethernet);
    let addresses = [[10, 89, 0, 1], [10, 89, 0, 2]].map(IpAddr::from);
    let ends = udp_echo(&lab.pair, addresses.into(), Udp::Connected, 10, 400);
    for (name, vlan) in [(VETH, 42), ("tagged", 0)] {
        let index = lab.pair.client.index(name);
        let key = interface_flow(index, DIRECTION_EGRESS, protocol::UDP, ends.client, ends.server);
        engine.read();
        let flow = engine.seen.flow(&FlowKey { vlan, ..key });
        assert_eq!(flow.counted, Counted::new(10, 10 * 428), "{name}");
    }
}

#[test]
fn a_device_without_link_headers() {
    let lab = Lab::new();
    let namespace = &lab.pair.client;
    let mut device = match namespace.run(|| tun("tun0")) {
        Ok(device) => device,
        Err(reason) => return skip("tun", &reason.to_string()),
    };
    namespace.ip("link set tun0 addrgenmode none");
    namespace.ip("link set tun0 up");
    namespace.ip("addr add 10.90.0.1/24 dev tun0");
    namespace.ip("addr add fd90::1/64 dev tun0 nodad");
    let mut engine = Engine::load(&DEFAULTS);
    engine.attach_interface(namespace, "tun0", LinkKind::Raw);
    let index = namespace.index("tun0");

    for (local, remote, headers) in [("10.90.0.1", "10.90.0.2", 28), ("fd90::1", "fd90::2", 48)] {
        let remote = SocketAddr::new(remote.parse().expect("an address"), 9);
        let local: IpAddr = local.parse().expect("an address");
        let local = namespace.run(|| {
            let socket = UdpSocket::bind((local, 0)).expect("a socket");
            for _ in 0..7 {
                socket.send_to(&[0; 111], remote).expect("sending");
            }
            socket.local_addr().expect("its address")
        });
        engine.read();
        let key = interface_flow(index, DIRECTION_EGRESS, protocol::UDP, local, remote);
        assert_eq!(engine.seen.flow(&key).counted, Counted::new(7, 7 * (111 + headers)));
    }

    device.write_all(&udp4().packet(&ports(1, 2, 70))).expect("a packet that comes in");
    device.write_all(&ipv6(protocol::UDP, &ports(1, 2, 70))).expect("a packet that comes in");
    engine.read();
    for (key, bytes) in [(flow4(protocol::UDP, 1, 2), 98), (flow6(protocol::UDP, 1, 2), 118)] {
        let key = FlowKey { ifindex: index, direction: DIRECTION_INGRESS, ..key };
        assert_eq!(engine.seen.flow(&key).counted, Counted::new(1, bytes));
    }
}

/// Makes a device whose packets this file sends and receives.
fn tun(name: &str) -> std::io::Result<File> {
    let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
    let file = open(Path::new("/dev/net/tun")).or_else(|_| {
        // A machine without udev: the kernel loads the driver when a node of its own is opened.
        let directory = tempfile::tempdir()?;
        let node = directory.path().join("tun");
        mknod(&node, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, makedev(10, 200))?;
        open(&node)
    })?;
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as u16;
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: `request` is a `struct ifreq`: 16 bytes of name, then the flags.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) } {
        0 => Ok(file),
        _ => Err(std::io::Error::last_os_error()),
    }
}
