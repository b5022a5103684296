//! Settings: flags over environment over file over defaults, validated once and all at once.
//!
//! ```text
//! settings (the table) ──▶ RawConfig (flags) ─┐
//!                          Environment ───────┼─▶ Config, or every reason why not
//!                          TOML file ─────────┘
//! ```

use std::path::PathBuf;
use std::time::Duration;

use orb8_k8s::client::Access;

use crate::api::ApiConfig;
use crate::event::Signal;
use crate::gpu::GpuConfig;
use crate::history::HistoryConfig;
use crate::metrics::traffic::TrafficConfig;
use crate::otlp::OtlpConfig;
use crate::pipeline::HubConfig;
use crate::sources::dns::DnsConfig;
use crate::store::StoreConfig;
use errors::Origin;
use raw::Layers;
use reader::Reader;

mod docs;
mod environment;
mod errors;
mod gpu;
mod otlp;
mod raw;
mod reader;
pub mod settings;
mod values;

pub use docs::{settings_table, variables_table};
pub use environment::{CheckPath, Environment};
pub use errors::ConfigErrors;
pub use raw::RawConfig;
pub(crate) use reader::MAX_RING;
pub use values::Glob;

/// Everything the agent can be told, valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Name of this node in answers.
    pub node_name: String,
    /// Who may ask, and where.
    pub api: ApiConfig,
    /// What is observed.
    pub signals: SignalSelection,
    /// Which hooks count.
    pub attach: AttachStrategy,
    /// Interfaces of the interface hook.
    pub interfaces: InterfaceSelector,
    /// Root of the cgroup v2 hierarchy; `None` where there is none.
    pub cgroup_root: Option<PathBuf>,
    /// Entries of each generation of the kernel's flow table.
    pub flow_table_size: u32,
    /// Bytes of the ring buffer.
    pub ring_buffer_size: u32,
    /// How often the kernel's counters are read.
    pub drain_interval: Duration,
    /// What DNS is, and how long it may take.
    pub dns: DnsConfig,
    /// What the agent keeps.
    pub store: StoreConfig,
    /// What of the past can be asked for; `None` for nothing.
    pub history: Option<HistoryConfig>,
    /// What subscribers get.
    pub hub: HubConfig,
    /// Where pods, Services and nodes are asked for.
    pub kubernetes: KubernetesConfig,
    /// What traffic metrics are told by.
    pub metrics: TrafficConfig,
    /// Where telemetry is sent.
    pub otlp: OtlpConfig,
    /// What of accelerators is looked at.
    pub gpu: GpuConfig,
    /// What is logged.
    pub log: LogConfig,
}

/// Where pods, Services and nodes are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// The API server.
    pub access: Access,
    /// Whether the pods of other nodes are watched too.
    pub remote_pods: bool,
}

/// What is observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalSelection {
    /// Everything that runs here.
    All,
    /// These, and none of them may fail.
    Only(Vec<Signal>),
}

impl SignalSelection {
    /// Whether a signal is wanted.
    #[must_use]
    pub fn includes(&self, signal: Signal) -> bool {
        match self {
            Self::All => true,
            Self::Only(signals) => signals.contains(&signal),
        }
    }
}

/// Which hooks count flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttachStrategy {
    /// The socket hook where it serves, else the interface hook.
    Auto,
    /// The socket hook.
    Cgroup,
    /// The interface hook.
    Tc,
    /// Both; a packet is still counted once.
    Both,
}

impl AttachStrategy {
    /// Every strategy.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Cgroup, Self::Tc, Self::Both];

    /// Returns the word for it in settings and status.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cgroup => "cgroup",
            Self::Tc => "tc",
            Self::Both => "both",
        }
    }
}

/// Which interfaces the interface hook goes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceSelector {
    /// Any, when empty.
    pub include: Vec<Glob>,
    /// Left out.
    pub exclude: Vec<Glob>,
}

impl InterfaceSelector {
    /// Whether the interface is wanted.
    #[must_use]
    pub fn selects(&self, name: &str) -> bool {
        let any = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(name));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

/// What is logged, and how it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Directives that [`EnvFilter`](tracing_subscriber::EnvFilter) accepts.
    pub filter: String,
    /// How lines read.
    pub format: LogFormat,
}

/// How log lines read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

impl Config {
    /// Returns the defaults with every listener off, whatever the environment and the file say:
    /// for an agent inside another process, and for tests.
    ///
    /// # Errors
    ///
    /// A default that does not suit this machine, such as a page larger than the ring.
    pub fn in_process() -> Result<Self, ConfigErrors> {
        [settings::LISTEN, settings::ADMIN_LISTEN, settings::SOCKET]
            .into_iter()
            .fold(RawConfig::default(), |raw, listener| raw.with(listener, settings::OFF))
            .load(&Environment::of_machine())
    }

    fn from_layers(layers: &Layers<'_>, errors: ConfigErrors) -> Result<Self, ConfigErrors> {
        let mut reader = Reader { layers, errors };
        let config = reader.config();
        match config {
            Some(config) if reader.errors.is_empty() => Ok(config),
            _ => Err(reader.errors),
        }
    }
}

#[cfg(test)]
mod tests;
