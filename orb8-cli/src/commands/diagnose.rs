//! `orb8 diagnose`: what an agent found, or without one, what the engine would find here.

use orb8_proto::v1::{CheckState, GetStatusResponse};

use super::{Shape, of_this_machine};
use crate::args::GlobalArgs;
use crate::connection::{Connection, Fallback};
use crate::console::Console;
use crate::error::{CliError, Exit};
use crate::output::report::Report;
use crate::output::status::DiagnosisObject;
use crate::standalone;

/// Ends with [`Exit::Failure`] where a check failed.
pub(super) async fn run(global: &GlobalArgs, console: &mut Console) -> Result<Exit, CliError> {
    let status = findings(global, console).await?;
    match Shape::of(global.output) {
        Shape::Machine(machine) => {
            machine.write(&mut console.out, &DiagnosisObject::new(&status))?;
        }
        Shape::Human { .. } => {
            let width = console.terminal.map(|terminal| terminal.width.into());
            let mut report = Report::new(console.colors, width);
            report.diagnosis(&status);
            console.out.write_all(report.into_text().as_bytes())?;
        }
    }
    let failed = status.checks.iter().any(|check| check.state() == CheckState::Failed);
    Ok(if failed { Exit::Failure } else { Exit::Success })
}

async fn findings(
    global: &GlobalArgs,
    console: &mut Console,
) -> Result<GetStatusResponse, CliError> {
    if global.standalone {
        return Ok(of_this_machine(standalone::checks()?));
    }
    match Connection::open(global, Fallback::None, console).await {
        Ok(mut connection) => connection.status().await,
        Err(error) if global.agent.is_some() || global.replay.is_some() => Err(error),
        Err(error) => {
            let checks = standalone::checks()?;
            let reason = error.to_string();
            let reason = reason.lines().next().unwrap_or_default();
            console.note(&format!("{reason}; this is what the engine would find here"));
            Ok(of_this_machine(checks))
        }
    }
}
