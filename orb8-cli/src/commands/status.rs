//! `orb8 status`.

use super::Shape;
use crate::args::GlobalArgs;
use crate::connection::{Connection, Fallback};
use crate::console::Console;
use crate::error::{CliError, Exit};
use crate::output::report::Report;
use crate::output::status::StatusObject;

pub(super) async fn run(global: &GlobalArgs, console: &mut Console) -> Result<Exit, CliError> {
    if global.standalone {
        return Err(CliError::Usage(
            "--standalone has no status: an engine that starts now has counted nothing\n  \
             `orb8 diagnose --standalone` shows what works on this machine"
                .to_owned(),
        ));
    }
    let mut connection = Connection::open(global, Fallback::None, console).await?;
    let answer = connection.status().await;
    connection.close().await;
    let status = answer?;
    match Shape::of(global.output) {
        Shape::Machine(machine) => machine.write(&mut console.out, &StatusObject::new(&status))?,
        Shape::Human { .. } => {
            let mut report = Report::new(console.colors, None);
            report.status(&status);
            console.out.write_all(report.into_text().as_bytes())?;
        }
    }
    Ok(Exit::Success)
}
