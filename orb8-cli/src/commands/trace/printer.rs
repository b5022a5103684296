//! Messages as rows or objects, one by one.

use super::{Stream, Told};
use crate::args::StreamArgs;
use crate::commands::Shape;
use crate::console::Console;
use crate::error::CliError;
use crate::output::table::{Change, Table};
use crate::output::{Machine, report};

/// Prints messages one by one.
pub(super) enum Printer<S: Stream> {
    Human(Box<HumanPrinter<S>>),
    Machine(Machine),
}

pub(super) struct HumanPrinter<S: Stream> {
    table: Table<S::Subject>,
    /// Rows since the header, `None` before the first one.
    since_header: Option<u16>,
}

impl<S: Stream> Printer<S> {
    pub(super) fn new(shape: Shape, args: &StreamArgs, console: &Console) -> Self {
        match shape {
            Shape::Machine(machine) => Self::Machine(machine),
            Shape::Human { wide } => {
                let table = crate::commands::table(S::VIEW, wide, args.numeric, console);
                Self::Human(Box::new(HumanPrinter { table, since_header: None }))
            }
        }
    }

    pub(super) fn print(
        &mut self,
        message: &S::Message,
        console: &mut Console,
    ) -> Result<(), CliError> {
        match self {
            Self::Machine(machine) => S::write(*machine, &mut console.out, message)?,
            Self::Human(printer) => printer.print(message, console)?,
        }
        Ok(())
    }
}

impl<S: Stream> HumanPrinter<S> {
    fn print(&mut self, message: &S::Message, console: &mut Console) -> Result<(), CliError> {
        let row = match S::told(message) {
            Told::Row(row) => row,
            Told::Lost(lost) => {
                let line = report::lost(lost, S::LOST_IN_RING, console.colors);
                writeln!(console.out, "{line}")?;
                return Ok(());
            }
            Told::Nothing => return Ok(()),
        };
        let cells = self.table.cells(row);
        let change = self.table.admit(&cells);
        if self.wants_header(change, console) {
            writeln!(console.out, "{}", self.table.header())?;
            self.since_header = Some(0);
        }
        writeln!(console.out, "{}", self.table.line(&cells))?;
        self.since_header = self.since_header.map(|rows| rows.saturating_add(1));
        Ok(())
    }

    /// A person sees it at the top, whenever columns move, and before it scrolls away; a file has it
    /// once.
    fn wants_header(&self, change: Change, console: &Console) -> bool {
        match (self.since_header, console.terminal) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(rows), Some(terminal)) => {
                change == Change::Layout || rows >= terminal.height.saturating_sub(2).max(10)
            }
        }
    }
}
