//! `orb8-agent`: the node agent as a daemon.

use std::process::ExitCode;

use clap::Parser;
use orb8_agent::config::{Environment, RawConfig};
use orb8_agent::error::{AgentError, EXIT_USAGE, chain};
use orb8_agent::{agent, logging, signals};

/// One for draining and one for answering; more would only cost memory.
const WORKERS: usize = 2;

/// Counts the network traffic of this node's workloads in the kernel, and serves it over gRPC.
///
/// Needs root or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON. Settings come from flags, the environment
/// and a TOML file, in this order.
#[derive(Parser)]
#[command(name = "orb8-agent", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    config: RawConfig,
}

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        // Help and version are no errors; printing can only fail where nobody reads.
        let _ = error.print();
        std::process::exit(if error.use_stderr() { EXIT_USAGE.into() } else { 0 })
    });
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orb8-agent: {}", chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

fn start(cli: Cli) -> Result<(), AgentError> {
    let config = cli.config.load(&Environment::of_process())?;
    logging::install(&config.log);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(AgentError::io("start the runtime"))?
        .block_on(async { agent::run(config, signals::shutdown()?).await })
}
