//! Which owners of sockets someone wants.

use super::{FilterError, FlowFields, Matcher, Problem, none_set};
use crate::v1::FlowFilter;

/// Compiled include and exclude filters that say who, and nothing of what they send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerMatcher(Matcher);

impl OwnerMatcher {
    /// Compiles filters.
    ///
    /// # Errors
    ///
    /// The first value that cannot be understood, or that no owner has: a port or a side.
    pub fn new(include: &[FlowFilter], exclude: &[FlowFilter]) -> Result<Self, FilterError> {
        include.iter().chain(exclude).try_for_each(owners_only)?;
        Matcher::new(include, exclude).map(Self)
    }

    /// Whether the owner, at either end of what is looked at, is wanted.
    pub fn matches(&self, owner: &(impl FlowFields + ?Sized)) -> bool {
        self.0.matches(owner)
    }

    /// Whether it wants every owner.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Refuses what only an owner's traffic has.
fn owners_only(filter: &FlowFilter) -> Result<(), FilterError> {
    let others = beside_owners(filter).filter(|(field, _)| *field != "unit");
    none_set(others, &Problem::NotOfWorkloads)
}

/// The fields that are not what pods and other owners have in common, each with whether it is empty.
pub(super) fn beside_owners(filter: &FlowFilter) -> impl Iterator<Item = (&'static str, bool)> {
    // Exhaustive: a new field is an owner's or it is not.
    let FlowFilter {
        namespace: _,
        pod: _,
        container: _,
        unit,
        label: _,
        workload: _,
        node: _,
        service,
        ip,
        port,
        protocol,
        direction,
        ip_version,
        interface,
        source_namespace,
        source_pod,
        source_container,
        source_label,
        source_workload,
        source_service,
        source_node,
        source_ip,
        source_port,
        destination_namespace,
        destination_pod,
        destination_container,
        destination_label,
        destination_workload,
        destination_service,
        destination_node,
        destination_ip,
        destination_port,
    } = filter;
    [
        ("unit", unit.is_empty()),
        ("service", service.is_empty()),
        ("ip", ip.is_empty()),
        ("port", port.is_empty()),
        ("protocol", protocol.is_empty()),
        ("direction", direction.is_empty()),
        ("ip_version", ip_version.is_empty()),
        ("interface", interface.is_empty()),
        ("source_namespace", source_namespace.is_empty()),
        ("source_pod", source_pod.is_empty()),
        ("source_container", source_container.is_empty()),
        ("source_label", source_label.is_empty()),
        ("source_workload", source_workload.is_empty()),
        ("source_service", source_service.is_empty()),
        ("source_node", source_node.is_empty()),
        ("source_ip", source_ip.is_empty()),
        ("source_port", source_port.is_empty()),
        ("destination_namespace", destination_namespace.is_empty()),
        ("destination_pod", destination_pod.is_empty()),
        ("destination_container", destination_container.is_empty()),
        ("destination_label", destination_label.is_empty()),
        ("destination_workload", destination_workload.is_empty()),
        ("destination_service", destination_service.is_empty()),
        ("destination_node", destination_node.is_empty()),
        ("destination_ip", destination_ip.is_empty()),
        ("destination_port", destination_port.is_empty()),
    ]
    .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Workload, WorkloadSummary};

    fn summary(namespace: &str, pod: &str) -> WorkloadSummary {
        let workload =
            Workload { namespace: namespace.into(), pod: pod.into(), ..Workload::default() };
        WorkloadSummary { workload: Some(workload), ..WorkloadSummary::default() }
    }

    #[test]
    fn owners_are_wanted_by_who_they_are() {
        let shop = FlowFilter { namespace: vec!["shop".into()], ..FlowFilter::default() };
        let web = FlowFilter { pod: vec!["web*".into()], ..FlowFilter::default() };
        let matcher = OwnerMatcher::new(&[shop], &[web]).unwrap();
        assert!(matcher.matches(&summary("shop", "db-0")));
        assert!(!matcher.matches(&summary("shop", "web-1")));
        assert!(!matcher.matches(&summary("ml", "db-0")));
        assert!(!matcher.matches(&WorkloadSummary::default()), "nobody is in no namespace");
    }

    #[test]
    fn what_they_send_is_no_part_of_them() {
        for (field, filter) in [
            ("port", FlowFilter { port: vec![443], ..FlowFilter::default() }),
            ("source_pod", FlowFilter { source_pod: vec!["a".into()], ..FlowFilter::default() }),
        ] {
            let error = OwnerMatcher::new(&[filter], &[]).unwrap_err();
            assert_eq!((error.field, error.problem), (field, Problem::NotOfWorkloads));
        }
    }
}
