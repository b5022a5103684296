//! Which flows someone wants: [`v1::FlowFilter`](FlowFilter)s compiled into a [`Matcher`].
//!
//! ```text
//! wanted(flow) = (include is empty, or any of include matches) and none of exclude matches
//! filter(flow) = every field that is set matches        (AND across fields)
//! field(flow)  = any of its values matches              (OR inside a field)
//! ```
//!
//! A name matches exactly, or as a prefix with a trailing `*`; the beginning of a container's id does
//! from 12 digits on. Compiling reports a value that cannot match anything; matching allocates nothing. [`DnsMatcher`] and [`TcpMatcher`] do the same for
//! their signals: each of their filters has a flow filter inside. [`PodMatcher`] and
//! [`OwnerMatcher`] take those of its fields that say who, and so do [`GpuQuery`] and [`GpuEventMatcher`].

use std::net::IpAddr;

use self::rule::Rule;
use crate::v1::{Direction, FlowFilter, Protocol};

pub use self::dns::{DnsFields, DnsMatcher};
pub use self::gpu::{DevicePlace, GpuEventMatcher, GpuQuery};
pub use self::owners::OwnerMatcher;
pub use self::pod::{PodFields, PodMatcher};
pub use self::selector::{Selector, SelectorProblem};
pub use self::tcp::{TcpFields, TcpMatcher};

mod dns;
mod glob;
mod gpu;
mod name;
mod owner;
mod owners;
mod pod;
mod rule;
mod selector;
mod tcp;
#[cfg(test)]
mod tests;
mod workload;

/// One end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Where its packets come from.
    Source,
    /// Where they go.
    Destination,
}

impl End {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Source, Self::Destination];

    /// Returns the other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

/// What a [`Matcher`] looks at. `None` matches no value of the field.
pub trait FlowFields {
    /// Returns the address; IPv4 as IPv4, never mapped.
    fn ip(&self, end: End) -> Option<IpAddr>;
    /// Returns the port, `None` for a protocol without.
    fn port(&self, end: End) -> Option<u16>;
    /// Returns the Kubernetes namespace of the owner, or else of the Service.
    fn namespace(&self, end: End) -> Option<&str>;
    /// Returns the pod's name.
    fn pod(&self, end: End) -> Option<&str>;
    /// Returns the container's name, or its short id.
    fn container(&self, end: End) -> Option<&str>;
    /// Returns the container's full id.
    fn container_id(&self, end: End) -> Option<&str>;
    /// Returns the systemd unit.
    fn unit(&self, end: End) -> Option<&str>;
    /// Whether the end is a pod whose labels are known, be it that it has none: what a selector that
    /// asks for the absence of a label may match.
    fn has_labels(&self, end: End) -> bool;
    /// Returns the pod's value of a label.
    fn label(&self, end: End, key: &str) -> Option<&str>;
    /// Returns kind and name of the pod's controller.
    fn controller(&self, end: End) -> Option<(&str, &str)>;
    /// Returns namespace and name of the Service whose address it is.
    fn service(&self, end: End) -> Option<(&str, &str)>;
    /// Returns the node that the pod runs on, or whose address it is.
    fn node(&self, end: End) -> Option<&str>;
    /// Returns the protocol.
    fn protocol(&self) -> Protocol;
    /// Returns the direction, as seen where the flow was seen.
    fn direction(&self) -> Direction;
    /// Returns the interface's name.
    fn interface(&self) -> Option<&str>;
}

/// A value of a filter that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FilterError {
    /// The field's name in its message.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a value. It names the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Neither an address nor a prefix.
    #[error("`{0}` is neither an address nor a prefix like 10.0.0.0/8")]
    NotAnAddress(String),
    /// Not a port.
    #[error("{0} is not a port (1 to 65535)")]
    NotAPort(u32),
    /// An empty name.
    #[error("a name must not be empty")]
    EmptyName,
    /// Not the name of any Kubernetes object, nor the beginning of one.
    #[error(
        "`{0}` is no name in Kubernetes: those are lower-case letters and digits, with `-` and `.` \
         between them"
    )]
    NotAName(String),
    /// More than one `/`.
    #[error("`{0}` is neither NAME nor NAMESPACE/NAME like shop/web")]
    NotNamespaced(String),
    /// A `*` that is not at the end.
    #[error("`{0}` has a `*` that is not at its end")]
    InnerWildcard(String),
    /// A number that is none of the enum's, or its zero.
    #[error("{0} is none of its values")]
    NotAValue(i32),
    /// An IP version that does not exist.
    #[error("{0} is neither 4 nor 6")]
    NotAnIpVersion(u32),
    /// Neither the name nor the number of a response code.
    #[error("`{0}` is not a response code like NXDOMAIN, or 0 to 4095")]
    NotAnRcode(String),
    /// Neither the name nor the number of a record type.
    #[error("`{0}` is not a record type like AAAA, or 0 to 65535")]
    NotAType(String),
    /// Not a label selector.
    #[error("`{selector}` is no label selector like `app=web,tier!=db`: {problem}")]
    NotASelector {
        /// The selector.
        selector: String,
        /// What is wrong with it.
        problem: SelectorProblem,
    },
    /// Neither a controller's name nor a kind with one.
    #[error("`{0}` is neither NAME nor KIND/NAME like deploy/web")]
    NotAWorkload(String),
    /// A field that pods do not have.
    #[error("pods have no such thing; it filters their traffic")]
    NotOfPods,
    /// A field that owners do not have.
    #[error("workloads have no such thing; it filters their traffic")]
    NotOfWorkloads,
    /// Not a device, in any of the ways in which one can be named.
    #[error(
        "`{0}` is no device: give a number (0), a part (0:1), a PCI address (0000:1b:00.0) or an id \
         (GPU-…, with a * at its end where it is only the beginning)"
    )]
    NotADevice(String),
    /// None of the devices that are there.
    #[error("`{device}` is none of the devices that are there: {there}")]
    NoSuchDevice {
        /// What was asked for.
        device: String,
        /// Those that are there.
        there: String,
    },
    /// A field that exists for what is streamed, but not for what is queried.
    #[error("{0} have no such thing; it filters streams only")]
    StreamsOnly(&'static str),
}

/// Compiled include and exclude filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matcher(Rules<Rule>);

impl Matcher {
    /// Compiles filters.
    ///
    /// # Errors
    ///
    /// The first value that cannot be understood.
    pub fn new(include: &[FlowFilter], exclude: &[FlowFilter]) -> Result<Self, FilterError> {
        Rules::new(include, exclude, Rule::new).map(Self)
    }

    /// Whether the flow is wanted.
    pub fn matches(&self, flow: &(impl FlowFields + ?Sized)) -> bool {
        self.0.want(|rule| rule.matches(flow))
    }

    /// Whether it wants every flow.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What every matcher is: rules of which one must match, and rules of which none may.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rules<R> {
    include: Vec<R>,
    exclude: Vec<R>,
}

impl<R> Default for Rules<R> {
    fn default() -> Self {
        Self { include: Vec::new(), exclude: Vec::new() }
    }
}

impl<R> Rules<R> {
    fn new<F>(
        include: &[F],
        exclude: &[F],
        compile: impl Fn(&F) -> Result<R, FilterError>,
    ) -> Result<Self, FilterError> {
        let compile = |filters: &[F]| filters.iter().map(&compile).collect::<Result<Vec<_>, _>>();
        Ok(Self { include: compile(include)?, exclude: compile(exclude)? })
    }

    fn want(&self, matches: impl Fn(&R) -> bool) -> bool {
        (self.include.is_empty() || self.include.iter().any(&matches))
            && !self.exclude.iter().any(&matches)
    }

    fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }
}

/// Refuses fields, by name and whether they are empty, that would match none, or all, without a
/// word.
fn none_set(
    fields: impl IntoIterator<Item = (&'static str, bool)>,
    problem: &Problem,
) -> Result<(), FilterError> {
    match fields.into_iter().find(|(_, is_empty)| !is_empty) {
        Some((field, _)) => Err(FilterError { field, problem: problem.clone() }),
        None => Ok(()),
    }
}
