//! What is recorded, as each request has it.

use orb8_proto::v1::{DnsFilter, EventKind, FlowFilter, TcpEventKind, TcpFilter};

use crate::args::RecordSignal;
use crate::filters::{FilterArgs, Flows};

/// Which signals, and of what.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub(super) signals: Vec<RecordSignal>,
    include: Vec<FlowFilter>,
    exclude: Vec<FlowFilter>,
}

impl Selection {
    pub(super) fn new(filters: &FilterArgs<Flows>, signals: &[RecordSignal]) -> Self {
        let (include, exclude) = (filters.include.clone(), filters.exclude.clone());
        Self { signals: signals.to_vec(), include, exclude }
    }

    pub(super) fn has(&self, signal: RecordSignal) -> bool {
        self.signals.contains(&signal)
    }

    pub(super) const fn is_filtered(&self) -> bool {
        !self.include.is_empty() || !self.exclude.is_empty()
    }

    pub(super) fn flows(&self) -> (Vec<FlowFilter>, Vec<FlowFilter>) {
        (self.include.clone(), self.exclude.clone())
    }

    /// Every kind: who replays it chooses.
    pub(super) fn kinds() -> Vec<i32> {
        EventKind::WORDS.iter().map(|(kind, _)| (*kind).into()).collect()
    }

    pub(super) fn exchanges(&self) -> (Vec<DnsFilter>, Vec<DnsFilter>) {
        (self.include.iter().map(dns).collect(), self.exclude.iter().map(dns).collect())
    }

    /// Summaries have owners only.
    pub(super) fn summaries(&self) -> (Vec<DnsFilter>, Vec<DnsFilter>) {
        let (include, exclude) = self.reduced(owners);
        (include.iter().map(dns).collect(), exclude.iter().map(dns).collect())
    }

    /// Changes of state are sent only to those who ask for that kind.
    pub(super) fn tcp_events(&self) -> (Vec<TcpFilter>, Vec<TcpFilter>) {
        let kind: Vec<i32> = TcpEventKind::WORDS.iter().map(|(kind, _)| (*kind).into()).collect();
        let all = TcpFilter { kind, ..TcpFilter::default() };
        let of = |flow: &FlowFilter| TcpFilter { flow: Some(flow.clone()), ..all.clone() };
        let include = match self.include.is_empty() {
            true => vec![all.clone()],
            false => self.include.iter().map(of).collect(),
        };
        (include, self.exclude.iter().map(tcp).collect())
    }

    /// Connections have no interface.
    pub(super) fn connections(&self) -> (Vec<TcpFilter>, Vec<TcpFilter>) {
        let reduce = |filter: &FlowFilter| FlowFilter { interface: Vec::new(), ..filter.clone() };
        let (include, exclude) = self.reduced(reduce);
        (include.iter().map(tcp).collect(), exclude.iter().map(tcp).collect())
    }

    /// Pods and workloads have no sides.
    pub(super) fn pods(&self) -> (Vec<FlowFilter>, Vec<FlowFilter>) {
        self.reduced(who)
    }

    /// Accelerators too have owners only.
    pub(super) fn workloads(&self) -> (Vec<FlowFilter>, Vec<FlowFilter>) {
        self.reduced(|filter| FlowFilter { unit: filter.unit.clone(), ..who(filter) })
    }

    /// Leaves out of filters what rows do not have. It includes more then, but never excludes more.
    fn reduced(
        &self,
        reduce: impl Fn(&FlowFilter) -> FlowFilter,
    ) -> (Vec<FlowFilter>, Vec<FlowFilter>) {
        let include = self.include.iter().map(&reduce).collect();
        let exclude = self.exclude.iter().filter(|filter| reduce(filter) == **filter);
        (include, exclude.cloned().collect())
    }
}

fn dns(flow: &FlowFilter) -> DnsFilter {
    DnsFilter { flow: Some(flow.clone()), ..DnsFilter::default() }
}

fn tcp(flow: &FlowFilter) -> TcpFilter {
    TcpFilter { flow: Some(flow.clone()), ..TcpFilter::default() }
}

/// The part that says who, whichever end that is.
fn who(filter: &FlowFilter) -> FlowFilter {
    let FlowFilter { namespace, pod, container, label, workload, node, .. } = filter.clone();
    FlowFilter { namespace, pod, container, label, workload, node, ..FlowFilter::default() }
}

/// The part that says who is at an end.
fn owners(filter: &FlowFilter) -> FlowFilter {
    let all = filter.clone();
    FlowFilter {
        unit: all.unit,
        source_namespace: all.source_namespace,
        source_pod: all.source_pod,
        source_container: all.source_container,
        source_label: all.source_label,
        source_workload: all.source_workload,
        source_node: all.source_node,
        destination_namespace: all.destination_namespace,
        destination_pod: all.destination_pod,
        destination_container: all.destination_container,
        destination_label: all.destination_label,
        destination_workload: all.destination_workload,
        destination_node: all.destination_node,
        ..who(filter)
    }
}

#[cfg(test)]
mod tests {
    use orb8_proto::filter::{DnsMatcher, GpuQuery, Matcher, OwnerMatcher, PodMatcher, TcpMatcher};
    use orb8_proto::v1::QueryGpuRequest;

    use super::*;

    /// A filter with something in every field.
    fn full() -> FlowFilter {
        let name = || vec!["a".to_owned()];
        let ip = || vec!["10.0.0.1".to_owned()];
        FlowFilter {
            namespace: name(),
            pod: name(),
            container: name(),
            ip: ip(),
            port: vec![1],
            protocol: vec![1],
            direction: vec![1],
            source_namespace: name(),
            source_pod: name(),
            source_container: name(),
            source_ip: ip(),
            source_port: vec![1],
            destination_namespace: name(),
            destination_pod: name(),
            destination_container: name(),
            destination_ip: ip(),
            destination_port: vec![1],
            ip_version: vec![4],
            unit: name(),
            interface: name(),
            label: name(),
            workload: name(),
            service: name(),
            node: name(),
            source_label: name(),
            source_workload: name(),
            source_service: name(),
            source_node: name(),
            destination_label: name(),
            destination_workload: name(),
            destination_service: name(),
            destination_node: name(),
        }
    }

    #[test]
    fn every_request_takes_every_filter() {
        let selection = Selection {
            signals: RecordSignal::ALL.to_vec(),
            include: vec![full()],
            exclude: vec![full(), FlowFilter { pod: vec!["b".into()], ..FlowFilter::default() }],
        };
        let (include, exclude) = selection.flows();
        Matcher::new(&include, &exclude).unwrap();
        let (include, exclude) = selection.exchanges();
        DnsMatcher::new(&include, &exclude).unwrap();
        let (include, exclude) = selection.summaries();
        DnsMatcher::for_summaries(&include, &exclude).unwrap();
        assert_eq!(exclude.len(), 1, "never more than was asked for");
        let (include, exclude) = selection.tcp_events();
        TcpMatcher::new(&include, &exclude).unwrap();
        let (include, exclude) = selection.connections();
        TcpMatcher::for_connections(&include, &exclude).unwrap();
        let (include, exclude) = selection.pods();
        PodMatcher::new(&include, &exclude).unwrap();
        let (include, exclude) = selection.workloads();
        OwnerMatcher::new(&include, &exclude).unwrap();
        GpuQuery::new(&QueryGpuRequest { include, exclude, ..QueryGpuRequest::default() }).unwrap();
    }
}
