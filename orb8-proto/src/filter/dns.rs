//! Which DNS exchanges someone wants.

use super::glob::Glob;
use super::rule::{Rule, any, enums};
use super::{FilterError, FlowFields, Problem, Rules, none_set};
use crate::dns::{rcode_number, type_number};
use crate::v1::{DnsFilter, DnsOutcome, DnsSide, FlowFilter};

/// What a [`DnsMatcher`] looks at: one exchange, or a summary of several, which has what any of them
/// has. The client is the source, the server the destination.
pub trait DnsFields: FlowFields {
    /// Returns the name that was asked for, in lower case.
    fn name(&self) -> Option<&str>;
    /// Whether a response had the code.
    fn has_rcode(&self, rcode: u16) -> bool;
    /// Whether a question was of the type.
    fn has_type(&self, query_type: u16) -> bool;
    /// Whether a query came to this.
    fn has_outcome(&self, outcome: DnsOutcome) -> bool;
    /// Returns where it was seen.
    fn side(&self) -> DnsSide;
    /// Returns the longest time that an answer took, `None` without an answer.
    fn latency_ns(&self) -> Option<u64>;
}

/// Compiled include and exclude filters for DNS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsMatcher(Rules<DnsRule>);

/// One compiled [`DnsFilter`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct DnsRule {
    flow: Option<Rule>,
    name: Vec<Glob>,
    rcode: Vec<u16>,
    query_type: Vec<u16>,
    outcome: Vec<DnsOutcome>,
    side: Vec<DnsSide>,
    min_latency_ns: Option<u64>,
}

impl DnsMatcher {
    /// Compiles filters of exchanges.
    ///
    /// # Errors
    ///
    /// The first value that cannot be understood.
    pub fn new(include: &[DnsFilter], exclude: &[DnsFilter]) -> Result<Self, FilterError> {
        Rules::new(include, exclude, DnsRule::new).map(Self)
    }

    /// Compiles filters of summaries.
    ///
    /// # Errors
    ///
    /// The first value that cannot be understood, or that no summary has: an address or a port.
    pub fn for_summaries(
        include: &[DnsFilter],
        exclude: &[DnsFilter],
    ) -> Result<Self, FilterError> {
        for flow in include.iter().chain(exclude).filter_map(|filter| filter.flow.as_ref()) {
            owners_only(flow)?;
        }
        Self::new(include, exclude)
    }

    /// Whether the exchange or summary is wanted.
    pub fn matches(&self, dns: &(impl DnsFields + ?Sized)) -> bool {
        self.0.want(|rule| rule.matches(dns))
    }

    /// Whether it wants everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl DnsRule {
    fn new(filter: &DnsFilter) -> Result<Self, FilterError> {
        // Exhaustive: a new field must be compiled, or it would match everything.
        let DnsFilter { flow, name, rcode, query_type, outcome, side, min_latency_ns } = filter;
        Ok(Self {
            flow: flow.as_ref().map(Rule::new).transpose()?,
            name: name.iter().map(|name| Glob::new("name", name)).collect::<Result<_, _>>()?,
            rcode: numbers("rcode", rcode, rcode_number, Problem::NotAnRcode)?,
            query_type: numbers("query_type", query_type, type_number, Problem::NotAType)?,
            outcome: enums("outcome", outcome)?,
            side: enums("side", side)?,
            min_latency_ns: *min_latency_ns,
        })
    }

    fn matches(&self, dns: &(impl DnsFields + ?Sized)) -> bool {
        any(&self.side, |side| *side == dns.side())
            && any(&self.outcome, |outcome| dns.has_outcome(*outcome))
            && any(&self.rcode, |rcode| dns.has_rcode(*rcode))
            && any(&self.query_type, |query_type| dns.has_type(*query_type))
            && any(&self.name, |glob| dns.name().is_some_and(|name| glob.matches(name)))
            && self.min_latency_ns.is_none_or(|least| is_slow(dns, least))
            && self.flow.as_ref().is_none_or(|rule| rule.matches(dns))
    }
}

/// Who waits for nothing waits longest.
fn is_slow(dns: &(impl DnsFields + ?Sized), least: u64) -> bool {
    dns.latency_ns().is_some_and(|latency| latency >= least) || dns.has_outcome(DnsOutcome::Timeout)
}

fn numbers(
    field: &'static str,
    values: &[String],
    read: fn(&str) -> Option<u16>,
    problem: fn(String) -> Problem,
) -> Result<Vec<u16>, FilterError> {
    let number = |value: &String| {
        read(value).ok_or_else(|| FilterError { field, problem: problem(value.clone()) })
    };
    values.iter().map(number).collect()
}

/// Refuses what a summary does not have.
fn owners_only(filter: &FlowFilter) -> Result<(), FilterError> {
    // Exhaustive: a new field is an owner's or it is not.
    let FlowFilter {
        namespace: _,
        pod: _,
        container: _,
        unit: _,
        source_namespace: _,
        source_pod: _,
        source_container: _,
        destination_namespace: _,
        destination_pod: _,
        destination_container: _,
        label: _,
        workload: _,
        node: _,
        source_label: _,
        source_workload: _,
        source_node: _,
        destination_label: _,
        destination_workload: _,
        destination_node: _,
        service,
        source_service,
        destination_service,
        ip,
        port,
        protocol,
        direction,
        source_ip,
        source_port,
        destination_ip,
        destination_port,
        ip_version,
        interface,
    } = filter;
    let others = [
        ("service", service.is_empty()),
        ("source_service", source_service.is_empty()),
        ("destination_service", destination_service.is_empty()),
        ("ip", ip.is_empty()),
        ("port", port.is_empty()),
        ("protocol", protocol.is_empty()),
        ("direction", direction.is_empty()),
        ("source_ip", source_ip.is_empty()),
        ("source_port", source_port.is_empty()),
        ("destination_ip", destination_ip.is_empty()),
        ("destination_port", destination_port.is_empty()),
        ("ip_version", ip_version.is_empty()),
        ("interface", interface.is_empty()),
    ];
    none_set(others, &Problem::StreamsOnly("summaries"))
}

#[cfg(test)]
mod tests;
