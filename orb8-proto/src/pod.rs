//! Reading a [`Pod`] without repeating what its encoding means.

use std::net::IpAddr;

use crate::filter::PodFields;
use crate::flow::{addr, present};
use crate::v1::{Pod, PodSource};

impl Pod {
    /// Returns its addresses, without those that are not 4 or 16 bytes.
    pub fn addrs(&self) -> impl Iterator<Item = IpAddr> {
        self.ips.iter().filter_map(|ip| addr(ip))
    }
}

impl PodFields for Pod {
    fn namespace(&self) -> Option<&str> {
        present(&self.namespace)
    }

    fn name(&self) -> Option<&str> {
        present(&self.name)
    }

    /// Nobody but the Kubernetes API tells labels.
    fn has_labels(&self) -> bool {
        self.sources().any(|source| source == PodSource::Api)
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(key).map(String::as_str)
    }

    fn controller(&self) -> Option<(&str, &str)> {
        let controller = self.controller.as_ref()?;
        Some((&controller.kind, &controller.name))
    }

    fn node(&self) -> Option<&str> {
        present(&self.node_name)
    }

    fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.addrs()
    }

    fn containers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.containers.iter().map(|container| (&*container.name, &*container.id))
    }
}
