//! Events as rows or objects, one by one.

use orb8_proto::columns::{Row, View};
use orb8_proto::v1::StreamEventsResponse;

use crate::args::TraceArgs;
use crate::commands::Shape;
use crate::console::Console;
use crate::error::CliError;
use crate::output::flow::write_event;
use crate::output::table::{Change, Table};
use crate::output::{Machine, report};

/// Prints events one by one.
pub(super) enum Printer {
    Human(Box<HumanPrinter>),
    Machine(Machine),
}

pub(super) struct HumanPrinter {
    table: Table,
    /// Rows since the header, `None` before the first one.
    since_header: Option<u16>,
}

impl Printer {
    pub(super) fn new(shape: Shape, args: &TraceArgs, console: &Console) -> Self {
        match shape {
            Shape::Machine(machine) => Self::Machine(machine),
            Shape::Human { wide } => {
                let view = if wide { View::EventsWide } else { View::Events };
                let table = crate::commands::table(view, &args.show, console);
                Self::Human(Box::new(HumanPrinter { table, since_header: None }))
            }
        }
    }

    pub(super) fn print(
        &mut self,
        event: &StreamEventsResponse,
        console: &mut Console,
    ) -> Result<(), CliError> {
        match self {
            Self::Machine(machine) => {
                write_event(*machine, &mut console.out, event)?;
            }
            Self::Human(printer) => printer.print(event, console)?,
        }
        Ok(())
    }
}

impl HumanPrinter {
    fn print(
        &mut self,
        event: &StreamEventsResponse,
        console: &mut Console,
    ) -> Result<(), CliError> {
        if let Some(lost) = &event.lost {
            writeln!(console.out, "{}", report::lost(lost, console.colors))?;
        }
        let Some(flow) = &event.flow else {
            return Ok(());
        };
        let cells = self.table.cells(&Row { flow, event: Some(event) });
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
