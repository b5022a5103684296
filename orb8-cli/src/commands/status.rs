//! `orb8 status`.

use super::Shape;
use crate::args::{GlobalArgs, StatusArgs};
use crate::connection::{Connection, Fallback};
use crate::console::Console;
use crate::error::{CliError, Exit};
use crate::output::report::Report;
use crate::output::status::StatusObject;

pub(super) async fn run(
    global: &GlobalArgs,
    args: &StatusArgs,
    console: &mut Console,
) -> Result<Exit, CliError> {
    let mut connection = Connection::open(global, Fallback::None(&args.engine), console).await?;
    let answer = connection.status().await;
    connection.close().await;
    let status = answer?;
    match Shape::of(global.output) {
        Shape::Machine(machine) => machine.write(&mut console.out, &StatusObject::new(&status))?,
        Shape::Human { .. } => {
            let mut report = Report::new(console.colors);
            report.status(&status);
            console.out.write_all(report.into_text().as_bytes())?;
        }
    }
    Ok(Exit::Success)
}
