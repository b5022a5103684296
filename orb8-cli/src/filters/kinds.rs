//! What can be filtered, and by which flags.

use orb8_proto::filter::{DnsMatcher, FilterError, Matcher, OwnerMatcher, PodMatcher, TcpMatcher};
use orb8_proto::v1::{DnsFilter, FlowFilter, TcpFilter};

use super::flags::{
    DNS, Draft, ENDS, Flag, INTERFACE, IP, OWN_UNIT, OWNER, POD_IP, PODS, SERVICE, TCP, TCP_EVENTS,
    UNIT, VERSION,
};

/// What is filtered.
pub(crate) trait FilterKind: std::fmt::Debug + 'static {
    /// What the agent is sent.
    type Filter: Clone + std::fmt::Debug + Send + Sync;
    const HEADING: &'static str;
    /// In the order of help.
    const FLAGS: &'static [&'static [Flag]];
    /// Those that others have and that are easily expected: [`Self::check`] says why it lacks them.
    const LACKS: &'static [&'static [Flag]] = &[];

    fn filter(draft: Draft) -> Self::Filter;

    /// Judges a filter as the agent does.
    fn check(filter: Self::Filter) -> Result<(), FilterError>;
}

const HEADING: &str = "Filters (names match exactly, or as a prefix with a trailing *)";

/// Flows and their events.
#[derive(Debug)]
pub(crate) enum Flows {}

impl FilterKind for Flows {
    type Filter = FlowFilter;
    const HEADING: &'static str = HEADING;
    const FLAGS: &'static [&'static [Flag]] = &[OWNER, SERVICE, UNIT, IP, ENDS, INTERFACE, VERSION];

    fn filter(draft: Draft) -> FlowFilter {
        draft.flow
    }

    fn check(filter: FlowFilter) -> Result<(), FilterError> {
        Matcher::new(&[filter], &[]).map(drop)
    }
}

/// DNS exchanges.
#[derive(Debug)]
pub(crate) enum DnsExchanges {}

impl FilterKind for DnsExchanges {
    type Filter = DnsFilter;
    const HEADING: &'static str = "Filters (the source is the client, the destination the server)";
    const FLAGS: &'static [&'static [Flag]] =
        &[DNS, OWNER, SERVICE, UNIT, IP, ENDS, INTERFACE, VERSION];

    fn filter(draft: Draft) -> DnsFilter {
        DnsFilter { flow: flow(draft.flow), ..draft.dns }
    }

    fn check(filter: DnsFilter) -> Result<(), FilterError> {
        DnsMatcher::new(&[filter], &[]).map(drop)
    }
}

/// What owners asked for.
#[derive(Debug)]
pub(crate) enum DnsSummaries {}

impl FilterKind for DnsSummaries {
    type Filter = DnsFilter;
    const HEADING: &'static str = "Filters (of all exchanges for a name, one must match)";
    const FLAGS: &'static [&'static [Flag]] = &[DNS, OWNER, UNIT];
    const LACKS: &'static [&'static [Flag]] = &[SERVICE, IP, ENDS, INTERFACE, VERSION];

    fn filter(draft: Draft) -> DnsFilter {
        DnsExchanges::filter(draft)
    }

    fn check(filter: DnsFilter) -> Result<(), FilterError> {
        DnsMatcher::for_summaries(&[filter], &[]).map(drop)
    }
}

/// TCP events.
#[derive(Debug)]
pub(crate) enum TcpEvents {}

impl FilterKind for TcpEvents {
    type Filter = TcpFilter;
    const HEADING: &'static str = HEADING;
    const FLAGS: &'static [&'static [Flag]] =
        &[TCP_EVENTS, TCP, OWNER, SERVICE, UNIT, IP, ENDS, INTERFACE, VERSION];

    fn filter(draft: Draft) -> TcpFilter {
        TcpFilter { flow: flow(draft.flow), ..draft.tcp }
    }

    fn check(filter: TcpFilter) -> Result<(), FilterError> {
        TcpMatcher::new(&[filter], &[]).map(drop)
    }
}

/// TCP connections.
#[derive(Debug)]
pub(crate) enum Connections {}

impl FilterKind for Connections {
    type Filter = TcpFilter;
    const HEADING: &'static str = HEADING;
    const FLAGS: &'static [&'static [Flag]] = &[TCP, OWNER, SERVICE, UNIT, IP, ENDS, VERSION];
    const LACKS: &'static [&'static [Flag]] = &[TCP_EVENTS, INTERFACE];

    fn filter(draft: Draft) -> TcpFilter {
        TcpEvents::filter(draft)
    }

    fn check(filter: TcpFilter) -> Result<(), FilterError> {
        TcpMatcher::for_connections(&[filter], &[]).map(drop)
    }
}

/// Pods.
#[derive(Debug)]
pub(crate) enum Pods {}

impl FilterKind for Pods {
    type Filter = FlowFilter;
    const HEADING: &'static str = HEADING;
    const FLAGS: &'static [&'static [Flag]] = &[PODS, POD_IP];
    const LACKS: &'static [&'static [Flag]] = &[SERVICE, UNIT, ENDS, INTERFACE, VERSION];

    fn filter(draft: Draft) -> FlowFilter {
        draft.flow
    }

    fn check(filter: FlowFilter) -> Result<(), FilterError> {
        PodMatcher::new(&[filter], &[]).map(drop)
    }
}

/// What workloads do.
#[derive(Debug)]
pub(crate) enum Workloads {}

impl FilterKind for Workloads {
    type Filter = FlowFilter;
    const HEADING: &'static str = HEADING;
    const FLAGS: &'static [&'static [Flag]] = &[PODS, OWN_UNIT];
    const LACKS: &'static [&'static [Flag]] = &[SERVICE, IP, ENDS, INTERFACE, VERSION];

    fn filter(draft: Draft) -> FlowFilter {
        draft.flow
    }

    fn check(filter: FlowFilter) -> Result<(), FilterError> {
        OwnerMatcher::new(&[filter], &[]).map(drop)
    }
}

fn flow(filter: FlowFilter) -> Option<FlowFilter> {
    (filter != FlowFilter::default()).then_some(filter)
}
