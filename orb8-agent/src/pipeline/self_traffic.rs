//! Which flows are the agent's own API traffic.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use orb8_common::flow::FlowKey;
use orb8_proto::filter::End;

use crate::event::{FlowSample, SocketEnd, TcpSample};
use crate::identity::Workload;
use crate::store::{ip_of, local_end};

const TCP: u8 = 6;

/// This host's addresses, kept up to date by whoever watches them. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct LocalAddresses(Arc<RwLock<HashSet<IpAddr>>>);

impl LocalAddresses {
    /// Replaces the addresses.
    pub fn set(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let addresses = addresses.into_iter().map(|address| address.to_canonical()).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Whether nobody listed them yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether the address is one of this host's. Loopback always is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let known = || self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&address);
        address.is_loopback() || known()
    }
}

/// Recognises the agent's own API traffic.
#[derive(Debug)]
pub(super) struct SelfTraffic {
    addresses: LocalAddresses,
    ports: Vec<u16>,
    collector_port: Option<u16>,
    cgroup_id: Option<u64>,
}

impl SelfTraffic {
    pub(super) fn new(addresses: LocalAddresses, cgroup_id: Option<u64>) -> Self {
        Self { addresses, ports: Vec::new(), collector_port: None, cgroup_id }
    }

    /// Tells which ports the agent listens on.
    pub(super) fn set_ports(&mut self, ports: Vec<u16>) {
        self.ports = ports;
    }

    /// Tells of one more.
    pub(super) fn add_port(&mut self, port: u16) {
        self.ports.push(port);
    }

    /// Tells which port the collector has that the agent exports to. What it exports must not be told
    /// there as more traffic.
    pub(super) fn set_collector_port(&mut self, port: u16) {
        self.collector_port = Some(port);
    }

    /// Whether one end of the flow is a listener of the agent's.
    pub(super) fn includes(&self, sample: &FlowSample, subject: Option<&Workload>) -> bool {
        let FlowKey { source_addr, source_port, destination_addr, destination_port, .. } =
            sample.key;
        let source = SocketEnd { addr: source_addr, port: source_port };
        let destination = SocketEnd { addr: destination_addr, port: destination_port };
        let local = local_end(&sample.key, sample.cgroup_id);
        sample.key.protocol == TCP
            && self.is_own([source, destination], local, sample.cgroup_id, subject)
    }

    /// Whether one end of the connection is a listener of the agent's. `local` counts the ends of
    /// the sample, local first.
    pub(super) fn includes_connection(
        &self,
        sample: &TcpSample,
        local: Option<End>,
        subject: Option<&Workload>,
    ) -> bool {
        self.is_own([sample.local, sample.remote], local, sample.cgroup_id, subject)
    }

    /// Whether one of the ends, source first, is a listener of the agent's.
    ///
    /// Where that end is the local one, its cgroup decides: somebody else may use the same port in
    /// another network namespace. Seen from the other end, an address of this host has to do; but
    /// loopback is everybody's, and a container's is not this host's.
    fn is_own(
        &self,
        ends: [SocketEnd; 2],
        local: Option<End>,
        cgroup_id: u64,
        subject: Option<&Workload>,
    ) -> bool {
        let is_own = self.cgroup_id.is_some_and(|own| own == cgroup_id);
        if is_own && self.is_export(ends, local) {
            return true;
        }
        if self.ports.is_empty() {
            return false;
        }
        let in_container = subject.is_some_and(|owner| owner.container_id.is_some());
        End::BOTH.into_iter().zip(ends).any(|(end, SocketEnd { addr, port })| {
            let address = ip_of(addr);
            if !self.ports.contains(&port) || !self.addresses.contains(address) {
                return false;
            }
            match local {
                Some(local) if local == end => is_own,
                _ => is_own || !(address.is_loopback() && in_container),
            }
        })
    }

    /// Whether the other end of a connection of the agent's own has the collector's port.
    fn is_export(&self, [source, destination]: [SocketEnd; 2], local: Option<End>) -> bool {
        let remote = match local {
            Some(End::Source) => Some(destination),
            Some(End::Destination) => Some(source),
            None => None,
        };
        remote.is_some_and(|remote| self.collector_port == Some(remote.port))
    }
}

/// Returns the id of this process's cgroup, where the hierarchy is mounted at `mount`.
pub(super) fn own_cgroup_id(mount: &Path) -> Option<u64> {
    let memberships = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = memberships.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(fs::metadata(mount.join(path)).ok()?.ino())
}
