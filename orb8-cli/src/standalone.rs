//! The engine in this process: the only place that touches `orb8-agent`.

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use orb8_agent::AgentError;
use orb8_agent::config::settings::{self, DefaultValue, Setting};
use orb8_agent::config::{Config, ConfigErrors, Environment, RawConfig};
use orb8_agent::embedded::Embedded;
use orb8_agent::error::chain;
use orb8_agent::status;
use orb8_proto::v1::{Check, CheckState};
use tonic::transport::Channel;

use crate::error::CliError;

#[cfg(feature = "demo")]
mod served;

#[cfg(feature = "demo")]
pub(crate) use served::{Served, cgroup_mount, gpu};

/// The agent's settings that mean something to an engine without listeners.
const SETTINGS: &[Setting] = &[
    settings::SIGNALS,
    settings::ATTACH,
    settings::INTERFACES,
    settings::EXCLUDE_INTERFACES,
    settings::CGROUP_ROOT,
    settings::FLOW_TABLE_SIZE,
    settings::RING_BUFFER_SIZE,
    settings::DRAIN_INTERVAL,
    settings::MAX_FLOWS,
    settings::FLOW_IDLE_TIMEOUT,
    settings::SUBSCRIBER_BUFFER,
    settings::DNS_PORTS,
    settings::DNS_TIMEOUT,
    settings::NODE_NAME,
    settings::KUBERNETES,
    settings::KUBECONFIG,
    settings::KUBE_CONTEXT,
    settings::REMOTE_PODS,
    settings::GPU_SOURCES,
    settings::GPU_INTERVAL,
    settings::GPU_NVML_LIBRARY,
    settings::GPU_DCGM,
    settings::GPU_POD_RESOURCES,
    settings::GPU_IDLE_AFTER,
    settings::GPU_TRACE,
    settings::GPU_TRACE_BUDGET,
    settings::GPU_LEAK_WINDOW,
    settings::GPU_NEURON_MONITOR,
];

/// Nobody but this process asks the engine.
const LISTENERS: &[Setting] = &[settings::LISTEN, settings::ADMIN_LISTEN, settings::SOCKET];

const HEADING: &str = "Engine (only where it runs in this process)";

/// The engine's flags.
#[derive(Clone, Debug, Default)]
pub(crate) struct EngineArgs {
    typed: RawConfig,
}

impl EngineArgs {
    /// Puts the flags over the environment over the defaults. The agent's file is the agent's.
    fn config(&self) -> Result<Config, ConfigErrors> {
        let process = Environment::of_process();
        let ours = |name: &str| {
            SETTINGS.iter().any(|setting| setting.env == name || setting.fallback_env == Some(name))
        };
        let mut variables = process.variables;
        variables.retain(|name, _| ours(name));
        let environment = Environment { variables, ..Environment::of_machine() };
        LISTENERS
            .iter()
            .fold(self.typed.clone(), |raw, listener| raw.with(*listener, settings::OFF))
            .load(&environment)
    }
}

impl Args for EngineArgs {
    fn augment_args(command: Command) -> Command {
        SETTINGS.iter().map(arg_of).fold(command, Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn arg_of(setting: &'static Setting) -> Arg {
    let default = match setting.default {
        DefaultValue::Text(text) | DefaultValue::Found(text) => format!(" [default: {text}]"),
        DefaultValue::Unset => String::new(),
    };
    Arg::new(setting.name)
        .long(setting.name)
        .value_name(setting.value)
        .action(ArgAction::Set)
        .help_heading(HEADING)
        .hide_short_help(true)
        .help(format!("{}{default}", setting.doc))
}

impl FromArgMatches for EngineArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let typed = |setting: &&Setting| {
            matches.value_source(setting.name) == Some(ValueSource::CommandLine)
        };
        let add = |raw: RawConfig, setting: &Setting| match matches.get_one::<String>(setting.name)
        {
            Some(value) => raw.with(*setting, value),
            None => raw,
        };
        Ok(Self { typed: SETTINGS.iter().filter(typed).fold(RawConfig::default(), add) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A running engine.
pub(crate) struct Engine(Embedded);

impl Engine {
    pub(crate) async fn start(args: &EngineArgs) -> Result<Self, CliError> {
        let config = args.config().map_err(|errors| CliError::Usage(errors.to_string()))?;
        Embedded::start(config).await.map(Self).map_err(CliError::from)
    }

    pub(crate) fn channel(&self) -> Channel {
        self.0.channel()
    }

    /// Takes in what was counted until now.
    pub(crate) async fn drain(&self) {
        self.0.drain().await;
    }

    pub(crate) async fn shutdown(self) {
        self.0.shutdown().await;
    }
}

impl From<AgentError> for CliError {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Config(errors) => Self::Usage(errors.to_string()),
            AgentError::MissingPrivileges { missing, remedy } => Self::NoPermission {
                problem: format!("missing privileges: {}", missing.join(", ")),
                remedy,
            },
            error => Self::Failed(format!(
                "the engine cannot run here: {}\n  `orb8 diagnose` shows what it looked for",
                chain(&error)
            )),
        }
    }
}

/// Looks at what the engine needs on this machine.
pub(crate) fn checks() -> Result<Vec<Check>, CliError> {
    Ok(orb8_agent::preflight::run().into_iter().map(check).collect())
}

fn check(check: status::Check) -> Check {
    let status::Check { name, state, detail, remedy } = check;
    let state = match state {
        status::CheckState::Ok => CheckState::Ok,
        status::CheckState::Absent => CheckState::Absent,
        status::CheckState::Failed => CheckState::Failed,
    };
    Check { name: name.to_owned(), state: state.into(), detail, remedy: remedy.unwrap_or_default() }
}
