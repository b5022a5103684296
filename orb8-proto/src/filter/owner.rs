//! Who must be at an end.

use super::name::{Name, Namespaced, names, namespaced, object_names};
use super::rule::any;
use super::selector::{Selector, selectors};
use super::workload::{Controlled, workloads};
use super::{End, FilterError, FlowFields};

/// Who must be at an end. All that is set describes the same end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) namespace: Vec<Name>,
    pub(super) pod: Vec<Namespaced>,
    pub(super) container: Vec<Name>,
    pub(super) unit: Vec<Name>,
    pub(super) label: Vec<Selector>,
    pub(super) workload: Vec<Controlled>,
    pub(super) service: Vec<Namespaced>,
    pub(super) node: Vec<Name>,
}

/// The values of a filter that say who must be at an end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values<'a> {
    pub(super) namespace: Field<'a>,
    pub(super) pod: Field<'a>,
    pub(super) container: Field<'a>,
    pub(super) unit: Field<'a>,
    pub(super) label: Field<'a>,
    pub(super) workload: Field<'a>,
    pub(super) service: Field<'a>,
    pub(super) node: Field<'a>,
}

/// A field's name in its message, and its values.
pub(super) type Field<'a> = (&'static str, &'a [String]);

impl Owner {
    pub(super) fn new(values: Values<'_>) -> Result<Self, FilterError> {
        let Values { namespace, pod, container, unit, label, workload, service, node } = values;
        Ok(Self {
            namespace: object_names(namespace.0, namespace.1)?,
            pod: namespaced(pod.0, pod.1)?,
            container: names(container.0, container.1)?,
            unit: names(unit.0, unit.1)?,
            label: selectors(label.0, label.1)?,
            workload: workloads(workload.0, workload.1)?,
            service: namespaced(service.0, service.1)?,
            node: object_names(node.0, node.1)?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self { namespace, pod, container, unit, label, workload, service, node } = self;
        namespace.is_empty()
            && pod.is_empty()
            && container.is_empty()
            && unit.is_empty()
            && label.is_empty()
            && workload.is_empty()
            && service.is_empty()
            && node.is_empty()
    }

    pub(super) fn matches(&self, flow: &(impl FlowFields + ?Sized), end: End) -> bool {
        let Self { namespace, pod, container, unit, label, workload, service, node } = self;
        any(namespace, |name| name.matches(flow.namespace(end)))
            && any(pod, |pod| pod.matches(flow.namespace(end), flow.pod(end)))
            && any(container, |name| {
                name.matches_container(flow.container(end), flow.container_id(end))
            })
            && any(unit, |name| name.matches(flow.unit(end)))
            && any(workload, |workload| workload.matches(flow.controller(end), flow.pod(end)))
            && any(service, |service| {
                let (namespace, name) = flow.service(end).unzip();
                service.matches(namespace, name)
            })
            && any(node, |name| name.matches(flow.node(end)))
            && any(label, |selector| {
                flow.has_labels(end) && selector.matches(|key| flow.label(end, key))
            })
    }
}

#[cfg(test)]
mod tests;
