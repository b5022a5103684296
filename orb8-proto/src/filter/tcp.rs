//! Which TCP events and connections someone wants.

use super::name::{Name, names};
use super::rule::{Rule, any, enums};
use super::{FilterError, FlowFields, Problem, Rules, none_set};
use crate::v1::{TcpEventKind, TcpFilter, TcpState};

/// What a [`TcpMatcher`] looks at: an event, or a connection.
pub trait TcpFields: FlowFields {
    /// Returns what happened, `None` for a connection.
    fn kind(&self) -> Option<TcpEventKind>;
    /// Returns the state that the connection is in.
    fn state(&self) -> TcpState;
    /// Returns the kernel's name for why a packet was dropped or a connection reset.
    fn reason(&self) -> Option<&str>;
    /// Returns the longer of the handshake and the smoothed round-trip time, `None` without either.
    fn latency_ns(&self) -> Option<u64>;
}

/// Compiled include and exclude filters for TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpMatcher(Rules<TcpRule>);

/// One compiled [`TcpFilter`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct TcpRule {
    flow: Option<Rule>,
    kind: Vec<TcpEventKind>,
    min_latency_ns: Option<u64>,
    reason: Vec<Name>,
    state: Vec<TcpState>,
}

/// The kernel's names are in capitals; one that it does not tell is a number.
fn upper(reason: &str) -> String {
    if reason.starts_with("0x") { reason.to_owned() } else { reason.to_ascii_uppercase() }
}

impl TcpMatcher {
    /// Compiles filters of events.
    ///
    /// # Errors
    ///
    /// The first value that cannot be understood.
    pub fn new(include: &[TcpFilter], exclude: &[TcpFilter]) -> Result<Self, FilterError> {
        Rules::new(include, exclude, TcpRule::new).map(Self)
    }

    /// Compiles filters of connections.
    ///
    /// # Errors
    ///
    /// The first value that cannot be understood, or that no connection has: a kind, a reason or an
    /// interface.
    pub fn for_connections(
        include: &[TcpFilter],
        exclude: &[TcpFilter],
    ) -> Result<Self, FilterError> {
        for filter in include.iter().chain(exclude) {
            let TcpFilter { flow, kind, reason, min_latency_ns: _, state: _ } = filter;
            let others = [
                ("kind", kind.is_empty()),
                ("reason", reason.is_empty()),
                ("interface", flow.as_ref().is_none_or(|flow| flow.interface.is_empty())),
            ];
            none_set(others, &Problem::StreamsOnly("connections"))?;
        }
        Self::new(include, exclude)
    }

    /// Whether the event or connection is wanted.
    ///
    /// Changes of state are wanted by those who ask for that kind, and by nobody else.
    pub fn matches(&self, tcp: &(impl TcpFields + ?Sized)) -> bool {
        let asks = |rule: &TcpRule| rule.kind.contains(&TcpEventKind::State) && rule.matches(tcp);
        let is_asked_for =
            tcp.kind() != Some(TcpEventKind::State) || self.0.include.iter().any(asks);
        is_asked_for && self.0.want(|rule| rule.matches(tcp))
    }
}

impl TcpRule {
    fn new(filter: &TcpFilter) -> Result<Self, FilterError> {
        // Exhaustive: a new field must be compiled, or it would match everything.
        let TcpFilter { flow, kind, min_latency_ns, reason, state } = filter;
        Ok(Self {
            flow: flow.as_ref().map(Rule::new).transpose()?,
            kind: enums("kind", kind)?,
            min_latency_ns: *min_latency_ns,
            reason: names("reason", &reason.iter().map(|name| upper(name)).collect::<Vec<_>>())?,
            state: enums("state", state)?,
        })
    }

    fn matches(&self, tcp: &(impl TcpFields + ?Sized)) -> bool {
        any(&self.kind, |kind| Some(*kind) == tcp.kind())
            && any(&self.state, |state| *state == tcp.state())
            && any(&self.reason, |reason| reason.matches(tcp.reason()))
            && self
                .min_latency_ns
                .is_none_or(|least| tcp.latency_ns().is_some_and(|ns| ns >= least))
            && self.flow.as_ref().is_none_or(|rule| rule.matches(tcp))
    }
}

#[cfg(test)]
mod tests;
