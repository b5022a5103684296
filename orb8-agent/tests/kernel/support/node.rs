//! A node as the kubelet and a CNI plugin leave it: pods on a bridge, cgroups below `kubepods`, and what
//! is beyond the node.
//!
//! ```text
//! pod ── eth0 ─┐                                   ┌ 10.200.0.2   another node
//! pod ── eth0 ─┼─ cni0 (10.244.1.1) ─ node ─ eth0 ─┼ 10.200.0.3   a machine
//! pod ── eth0 ─┘  conntrack, Services              ├ 10.244.2.5   a pod of the other node
//!                                                  └ 192.0.2.1    the internet
//! ```
//! Whatever has a 4 here has an IPv6 address too. The node is this process's own namespace.

use std::{fmt::Write, fs};

use super::{
    cgroup::Cgroup, container::Container, netns::Netns, program::has_programs, skip, turn,
};

/// Set for a process that a test runs in.
const APART: &str = "ORB8_TEST_APART";

/// Runs a test in a process of its own, in a new network namespace: `/proc/self` is the node's.
pub(crate) fn apart(test: impl FnOnce()) {
    if std::env::var_os(APART).is_some() {
        return test();
    }
    let _turn = turn();
    let thread = std::thread::current();
    let name = thread.name().expect("a test's name");
    let mut command = std::process::Command::new(std::env::current_exe().expect("this binary"));
    command.args([name, "--exact", "--nocapture"]).env(APART, "1");
    command.stdout(std::process::Stdio::null());
    let status = Netns::new().run(|| command.status()).expect("this binary runs again");
    assert!(status.success(), "{name}: {status}");
}

pub(crate) const NODE4: &str = "10.200.0.1";
pub(crate) const NODE6: &str = "fd00:200::1";
/// Of the other node.
pub(crate) const OTHER4: &str = "10.200.0.2";
pub(crate) const OTHER6: &str = "fd00:200::2";
/// A machine that is no node.
pub(crate) const MACHINE4: &str = "10.200.0.3";
/// Of a pod of the other node.
pub(crate) const REMOTE4: &str = "10.244.2.5";
pub(crate) const REMOTE6: &str = "fd00:244:2::5";
/// Those that the name server answers with, and one that it does not.
pub(crate) const NAMED4: &str = "192.0.2.1";
pub(crate) const NAMELESS4: &str = "192.0.2.77";

const BRIDGE4: &str = "10.244.1.1";
const BRIDGE6: &str = "fd00:244:1::1";
const BRIDGE_LINK: &str = "02:00:00:01:00:01";
const NODE_LINK: &str = "02:00:00:02:00:01";
const BEYOND_LINK: &str = "02:00:00:02:00:02";

/// The node's network, and what is beyond it.
pub(crate) struct Network {
    pub(crate) node: Netns,
    /// Everything that is not on this node.
    pub(crate) beyond: Netns,
}

impl Network {
    /// Makes it of this process's namespace and a new one; `None` where something is missing.
    pub(crate) fn new(rules: &str) -> Option<Self> {
        if !has_programs(&["ip", "nft"]) {
            return None;
        }
        let network = Self { node: Netns::own(), beyond: Netns::new() };
        set("ipv4/conf/all/send_redirects", "0");
        set("ipv4/conf/default/send_redirects", "0");
        set("ipv4/ip_forward", "1");
        set("ipv6/conf/all/forwarding", "1");
        network.connect();
        if let Err(reason) = network.node.feed("nft", "-f -", rules) {
            skip("nftables", reason.trim());
            return None;
        }
        Some(network)
    }

    fn connect(&self) {
        let beyond = self.beyond.path();
        batch(
            &self.node,
            &[
                &format!("link add cni0 address {BRIDGE_LINK} type bridge"),
                "link set cni0 addrgenmode none up",
                &format!("addr add {BRIDGE4}/24 dev cni0"),
                &format!("addr add {BRIDGE6}/64 dev cni0 nodad"),
                &format!(
                    "link add eth0 address {NODE_LINK} type veth peer name eth0 address {BEYOND_LINK} \
                 netns {beyond}"
                ),
                "link set eth0 addrgenmode none up",
                &format!("addr add {NODE4}/24 dev eth0"),
                &format!("addr add {NODE6}/64 dev eth0 nodad"),
            ],
        );
        let far = [OTHER4, OTHER6, MACHINE4];
        let neighbours = far.map(|ip| format!("neigh add {ip} lladdr {BEYOND_LINK} dev eth0"));
        batch(&self.node, &neighbours.each_ref().map(String::as_str));
        batch(
            &self.beyond,
            &[
                "link set eth0 addrgenmode none up",
                &format!("addr add {OTHER4}/24 dev eth0"),
                &format!("addr add {OTHER6}/64 dev eth0 nodad"),
                &format!("neigh add {NODE4} lladdr {NODE_LINK} dev eth0"),
                &format!("neigh add {NODE6} lladdr {NODE_LINK} dev eth0"),
                &format!("addr add {MACHINE4}/32 dev lo"),
                &format!("addr add {REMOTE4}/32 dev lo"),
                &format!("addr add {REMOTE6}/128 dev lo nodad"),
                &format!("addr add {NAMED4}/32 dev lo"),
                &format!("addr add {NAMELESS4}/32 dev lo"),
                &format!("route add default via {NODE4}"),
                &format!("route add default via {NODE6}"),
            ],
        );
        self.node.ip(&format!("route add default via {OTHER4}"));
        self.node.ip(&format!("route add default via {OTHER6}"));
    }

    /// Makes a pod's namespace, with the last part of its addresses.
    pub(crate) fn pod(&self, number: u8) -> Netns {
        let pod = Netns::new();
        let [v4, v6] = pod_ips(number);
        let link = format!("02:00:00:01:00:{number:02}");
        let near = format!("veth{number}");
        batch(
            &self.node,
            &[
                &format!(
                    "link add {near} type veth peer name eth0 address {link} netns {}",
                    pod.path()
                ),
                &format!("link set {near} addrgenmode none"),
                &format!("link set {near} master cni0 up"),
                // A pod that talks to itself through a Service goes back through the port that it came by.
                &format!("link set {near} type bridge_slave hairpin on"),
                &format!("neigh add {v4} lladdr {link} dev cni0"),
                &format!("neigh add {v6} lladdr {link} dev cni0"),
            ],
        );
        // All of it goes through the node: what its connection tracking translates comes back there.
        batch(
            &pod,
            &[
                "link set eth0 addrgenmode none up",
                &format!("addr add {v4}/32 dev eth0"),
                &format!("addr add {v6}/128 dev eth0 nodad"),
                &format!("neigh add {BRIDGE4} lladdr {BRIDGE_LINK} dev eth0"),
                &format!("neigh add {BRIDGE6} lladdr {BRIDGE_LINK} dev eth0"),
                &format!("route add {BRIDGE4} dev eth0"),
                &format!("route add default via {BRIDGE4}"),
                &format!("route add {BRIDGE6} dev eth0"),
                &format!("route add default via {BRIDGE6}"),
            ],
        );
        pod
    }
}

/// The addresses of a pod of this node.
pub(crate) fn pod_ips(number: u8) -> [String; 2] {
    [format!("10.244.1.{number}"), format!("fd00:244:1::{number}")]
}

fn batch(namespace: &Netns, commands: &[&str]) {
    if let Err(error) = namespace.feed("ip", "-batch -", &commands.join("\n")) {
        panic!("ip -batch: {error}: {commands:#?}");
    }
}

fn set(name: &str, value: &str) {
    fs::write(format!("/proc/sys/net/{name}"), value).expect("a setting of the namespace");
}

/// Who made the cgroups, and of which class the pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    SystemdBurstable,
    SystemdGuaranteed,
    CgroupfsBesteffort,
    CgroupfsGuaranteed,
}

/// The cgroups of containers below one of the test's own, and the processes in them.
///
/// Fields are dropped in order: cgroups are removed when nobody is in them.
pub(crate) struct Kubepods {
    root: Cgroup,
    /// Outermost first.
    made: Vec<Cgroup>,
}

impl Kubepods {
    pub(crate) fn new() -> Self {
        Self { root: Cgroup::new(), made: Vec::new() }
    }

    /// What the agent takes for the root of the hierarchy.
    pub(crate) fn root(&self) -> &Cgroup {
        &self.root
    }

    /// Makes a container's cgroup and starts its process.
    pub(crate) fn start(
        &mut self,
        namespace: &Netns,
        layout: Layout,
        uid: &str,
        container: &str,
    ) -> Container {
        let path = path(layout, uid, &container_id(uid, container));
        self.make(&path);
        Container::start(namespace, self.made.last().expect("a cgroup"))
    }

    fn make(&mut self, path: &str) {
        let mut so_far = self.root.path().to_owned();
        for part in path.split('/') {
            so_far.push(part);
            if !so_far.exists() {
                self.made.push(Cgroup::at(so_far.clone()));
            }
        }
    }
}

impl Drop for Kubepods {
    fn drop(&mut self) {
        while let Some(innermost) = self.made.pop() {
            drop(innermost);
        }
    }
}

/// An id as container runtimes give them; the same one for the same name.
pub(crate) fn container_id(uid: &str, container: &str) -> String {
    let mut digits = String::new();
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in uid.bytes().chain(container.bytes()) {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    for round in 1..=4_u64 {
        write!(digits, "{:016x}", state.wrapping_mul(2 * round + 1)).expect("a string");
    }
    digits
}

fn path(layout: Layout, uid: &str, id: &str) -> String {
    let escaped = uid.replace('-', "_");
    match layout {
        Layout::SystemdBurstable => format!(
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{escaped}.slice/\
             cri-containerd-{id}.scope"
        ),
        Layout::SystemdGuaranteed => {
            format!("kubepods.slice/kubepods-pod{escaped}.slice/cri-containerd-{id}.scope")
        }
        Layout::CgroupfsBesteffort => format!("kubepods/besteffort/pod{uid}/{id}"),
        Layout::CgroupfsGuaranteed => format!("kubepods/pod{uid}/{id}"),
    }
}
