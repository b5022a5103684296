//! What the figures have to reach: the table that the project set itself before it was written.

/// A bound.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// No more than this, in the unit given.
    AtMost(f64, &'static str),
    /// No less.
    AtLeast(f64, &'static str),
    /// No further from zero than this, either way.
    Within(f64, &'static str),
    /// None at all.
    Zero,
}

impl Target {
    /// Whether a value reaches it.
    pub(crate) fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound, _) => value <= bound,
            Self::AtLeast(bound, _) => value >= bound,
            Self::Within(bound, _) => value.abs() <= bound,
            Self::Zero => value == 0.0,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(bound, unit) => write!(f, "≤ {bound}{unit}"),
            Self::AtLeast(bound, unit) => write!(f, "≥ {bound}{unit}"),
            Self::Within(bound, unit) => write!(f, "± {bound}{unit}"),
            Self::Zero => f.write_str("= 0"),
        }
    }
}

/// Over the empty program, at the socket hook: sockets with storage of their own.
pub(crate) const SOCKET_ONE: Target = Target::AtMost(20.0, " ns");
/// The same where each packet's socket has left the cache.
pub(crate) const SOCKET_MANY: Target = Target::AtMost(90.0, " ns");
/// Sockets that are not connected, many flows.
pub(crate) const SOCKET_UNCONNECTED: Target = Target::AtMost(110.0, " ns");
/// Over the empty program, at the interface hook: one flow, many, short connections.
pub(crate) const INTERFACE_ONE: Target = Target::AtMost(75.0, " ns");
pub(crate) const INTERFACE_MANY: Target = Target::AtMost(105.0, " ns");
pub(crate) const INTERFACE_SHORT: Target = Target::AtMost(130.0, " ns");

/// What a flow program may take more or less in an agent that observes nothing else.
pub(crate) const FLOW_UNCHANGED: Target = Target::Within(5.0, " ns");

/// Traffic with the agent, as part of that without.
pub(crate) const RATE_ONE: Target = Target::AtLeast(0.93, "");
pub(crate) const RATE_MANY: Target = Target::AtLeast(0.91, "");
pub(crate) const RATE_SHORT: Target = Target::AtLeast(0.91, "");

/// Reading eight devices each second.
pub(crate) const GPU_POLLING: Target = Target::AtMost(0.5, " %");
/// What a loop that does nothing but call the driver loses by being watched.
pub(crate) const GPU_WATCHED: Target = Target::AtMost(2.0, " %");

/// The agent's processor time, per cent of a core, programs left out.
pub(crate) const CPU_IDLE: Target = Target::AtMost(0.12, " %");
pub(crate) const CPU_100K: Target = Target::AtMost(0.2, " %");
/// Resident memory.
pub(crate) const RSS_IDLE: Target = Target::AtMost(23.0, " MiB");
pub(crate) const RSS_SHORT: Target = Target::AtMost(60.0, " MiB");
/// What 100,000 flows may add to the idle agent.
pub(crate) const RSS_HELD: Target = Target::AtMost(40.0, " MiB");
/// Packets that are in no flow, and records that found no room, with default settings.
pub(crate) const NO_LOSS: Target = Target::Zero;
/// What reference and agent may differ by.
pub(crate) const EXACT: Target = Target::Zero;

/// A question to the index of 5,000 pods.
pub(crate) const LOOKUP: Target = Target::AtMost(50.0, " ns");
/// What 5,000 pods, and they with 100,000 flows, may add to the idle agent.
pub(crate) const RSS_IDENTITY: Target = Target::AtMost(40.0, " MiB");
/// How long new flows may wait while all objects are listed again.
pub(crate) const STALL: Target = Target::AtMost(50.0, " ms");

/// A scrape with 5,000 pods, and what it may keep the pipeline waiting.
pub(crate) const SCRAPE: Target = Target::AtMost(100.0, " ms");
pub(crate) const SCRAPE_WAIT: Target = Target::AtMost(5.0, " ms");

/// From the kernel's time of a new flow to the subscriber.
pub(crate) const LATENCY_P99: Target = Target::AtMost(10.0, " ms");
