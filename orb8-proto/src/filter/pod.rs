//! Which pods someone wants.

use std::net::IpAddr;

use ipnet::IpNet;

use super::name::{Name, Namespaced, names, namespaced, object_names};
use super::owners::beside_owners;
use super::rule::{any, nets};
use super::selector::{Selector, selectors};
use super::workload::{Controlled, workloads};
use super::{FilterError, Problem, Rules, none_set};
use crate::v1::FlowFilter;

/// What a [`PodMatcher`] looks at. `None` matches no value of the field.
pub trait PodFields {
    /// Returns the namespace.
    fn namespace(&self) -> Option<&str>;
    /// Returns the pod's name.
    fn name(&self) -> Option<&str>;
    /// Whether its labels are known, be it that it has none.
    fn has_labels(&self) -> bool;
    /// Returns the value of a label.
    fn label(&self, key: &str) -> Option<&str>;
    /// Returns kind and name of its controller.
    fn controller(&self) -> Option<(&str, &str)>;
    /// Returns the node that it runs on.
    fn node(&self) -> Option<&str>;
    /// Returns its addresses; IPv4 as IPv4, never mapped.
    fn ips(&self) -> impl Iterator<Item = IpAddr>;
    /// Returns name and full id of its containers, as far as they are known.
    fn containers(&self) -> impl Iterator<Item = (&str, &str)>;
}

/// Compiled include and exclude filters for pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodMatcher(Rules<PodRule>);

/// The part of a [`FlowFilter`] that says who, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PodRule {
    namespace: Vec<Name>,
    pod: Vec<Namespaced>,
    container: Vec<Name>,
    label: Vec<Selector>,
    workload: Vec<Controlled>,
    node: Vec<Name>,
    ip: Vec<IpNet>,
}

impl PodMatcher {
    /// Compiles filters.
    ///
    /// # Errors
    ///
    /// The first value that cannot be understood, or that no pod has: a port or a side.
    pub fn new(include: &[FlowFilter], exclude: &[FlowFilter]) -> Result<Self, FilterError> {
        Rules::new(include, exclude, PodRule::new).map(Self)
    }

    /// Whether the pod is wanted.
    pub fn matches(&self, pod: &impl PodFields) -> bool {
        self.0.want(|rule| rule.matches(pod))
    }
}

impl PodRule {
    fn new(filter: &FlowFilter) -> Result<Self, FilterError> {
        pods_only(filter)?;
        Ok(Self {
            namespace: object_names("namespace", &filter.namespace)?,
            pod: namespaced("pod", &filter.pod)?,
            container: names("container", &filter.container)?,
            label: selectors("label", &filter.label)?,
            workload: workloads("workload", &filter.workload)?,
            node: object_names("node", &filter.node)?,
            ip: nets("ip", &filter.ip)?,
        })
    }

    fn matches(&self, pod: &impl PodFields) -> bool {
        let Self { namespace, pod: name, container, label, workload, node, ip } = self;
        any(namespace, |wanted| wanted.matches(pod.namespace()))
            && any(name, |wanted| wanted.matches(pod.namespace(), pod.name()))
            && any(workload, |wanted| wanted.matches(pod.controller(), pod.name()))
            && any(node, |wanted| wanted.matches(pod.node()))
            && any(ip, |net| pod.ips().any(|ip| net.contains(&ip)))
            && any(container, |wanted| {
                pod.containers().any(|(name, id)| wanted.matches_container(Some(name), Some(id)))
            })
            && any(label, |selector| pod.has_labels() && selector.matches(|key| pod.label(key)))
    }
}

/// Refuses what only the traffic of pods has.
fn pods_only(filter: &FlowFilter) -> Result<(), FilterError> {
    let others = beside_owners(filter).filter(|(field, _)| *field != "ip");
    none_set(others, &Problem::NotOfPods)
}

#[cfg(test)]
mod tests;
