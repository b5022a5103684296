//! The `dns` object: loading and attaching.

use std::fs::File;

use aya::{Btf, EbpfLoader};
use orb8_common::dns::{Counter, MAX_PORTS};

use super::{
    DNS_OBJECT, EbpfError, Features,
    hooks::{
        AttachedTo, FILTER_PRIORITIES, LinkKind, PacketHooks, PacketObject, PacketPrograms,
        SocketHookCgroup,
    },
    object::{Counters, Object},
    ring::RingReader,
};
use crate::status::ProgramRun;

const OBJECT: &str = "dns";

const PROGRAMS: PacketPrograms = PacketPrograms {
    sockets: ["dns_socket_ingress", "dns_socket_egress"],
    ethernet: ["dns_tc_ingress", "dns_tc_egress"],
    raw: ["dns_tc_l3_ingress", "dns_tc_l3_egress"],
    priority: *FILTER_PRIORITIES.start() + 1,
};

/// What is set when the object is loaded.
#[derive(Clone, Debug)]
pub struct DnsOptions {
    /// Bytes of the ring: a power of two and a multiple of the page size.
    pub ring_size: u32,
    /// The servers' ports. Those beyond [`MAX_PORTS`] are left out.
    pub ports: Vec<u16>,
    /// Where the socket hook runs too: the interface hook leaves it what the sockets below this
    /// cgroup send.
    pub leave_to: Option<SocketHookCgroup>,
}

/// The loaded object. Dropping it detaches and unloads everything.
pub struct DnsObject {
    object: Object,
    hooks: PacketHooks,
    counters: Counters<{ Counter::COUNT }>,
}

impl DnsObject {
    /// Loads the object, and the socket hook's programs where there is a cgroup to attach them to.
    ///
    /// # Errors
    /// [`EbpfError::Load`] with the kernel's words, [`EbpfError::Incomplete`] for an object that
    /// was built from other sources.
    pub fn load(
        options: &DnsOptions,
        features: &Features,
        btf: Option<&Btf>,
    ) -> Result<Self, EbpfError> {
        let left = options.leave_to.unwrap_or_default();
        let mut ports = [0; MAX_PORTS];
        let mut count = 0_u32;
        for (port, known) in options.ports.iter().zip(&mut ports) {
            *known = port.to_be();
            count += 1;
        }
        let mut loader = EbpfLoader::new();
        loader
            .btf(btf)
            .override_global("PORTS", &ports[..], true)
            .override_global("PORT_COUNT", &count, true)
            .override_global("SOCKET_HOOK_CGROUP", &left.id, true)
            .override_global("SOCKET_HOOK_LEVEL", &left.level, true)
            .map_max_entries("EVENTS", options.ring_size);
        let mut object = Object::load(OBJECT, &mut loader, DNS_OBJECT)?;
        let hooks = PacketHooks::new(PROGRAMS, features);
        if features.socket_hook() {
            hooks.load_sockets(&mut object)?;
        }
        Ok(Self { counters: object.take_counters()?, object, hooks })
    }

    /// Takes the ring's reader. There is one.
    ///
    /// # Errors
    /// [`EbpfError::Incomplete`] when it was taken before.
    pub fn take_ring(&mut self) -> Result<RingReader, EbpfError> {
        self.object.take_ring()
    }

    /// Sums the per-CPU counters. Indexed by [`Counter`].
    ///
    /// # Errors
    /// [`EbpfError::Map`].
    pub fn counters(&self) -> Result<[u64; Counter::COUNT], EbpfError> {
        self.counters.sum()
    }

    /// Memory that the kernel says the maps take, bytes.
    #[must_use]
    pub fn map_bytes(&self) -> u64 {
        self.object.map_bytes()
    }

    /// Returns run time and runs of each loaded program; all zero where the kernel keeps no statistics.
    #[must_use]
    pub fn run_times(&self) -> Vec<ProgramRun> {
        self.object.run_times()
    }
}

impl PacketObject for DnsObject {
    fn name(&self) -> &'static str {
        OBJECT
    }

    fn attach_sockets(&mut self, cgroup: &File, path: &str) -> Result<(), EbpfError> {
        self.hooks.attach_sockets(&mut self.object, cgroup, path)
    }

    fn attach_interface(
        &mut self,
        index: u32,
        name: &str,
        kind: LinkKind,
    ) -> Result<AttachedTo, EbpfError> {
        self.hooks.attach_interface(&mut self.object, index, name, kind)
    }

    fn detach_interface(&mut self, index: u32) {
        self.hooks.detach_interface(&mut self.object, index);
    }
}

impl Drop for DnsObject {
    fn drop(&mut self) {
        self.hooks.detach_all(&mut self.object);
    }
}
