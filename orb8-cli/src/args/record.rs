//! What recording takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};

use super::OutputFormat;
use crate::filters::{FilterArgs, Flows};
use crate::standalone::EngineArgs;
use crate::time::parse_duration;

/// `orb8 record`.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    #[command(flatten)]
    pub(crate) filters: FilterArgs<Flows>,

    /// Where to: a new file, or - for standard output
    #[arg(id = "file", short = 'o', long = "output", value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Overwrite the file
    #[arg(long)]
    pub(crate) force: bool,

    /// End after this long
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) duration: Option<Duration>,

    /// End before the file is larger, such as 500MiB or 2GiB
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub(crate) max_size: Option<u64>,

    /// How often lists are recorded; events are as they happen
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub(crate) snapshot_interval: Duration,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    #[command(flatten)]
    pub(crate) signals: SignalArgs,

    // The global flag of this name, which has its letter taken away here.
    /// Unused: a recording has one format
    #[arg(id = "output", long = "format", hide = true, value_enum, default_value = "table")]
    pub(crate) format: OutputFormat,
}

/// `--signals`, which an engine in this process has too: it observes what is recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct SignalArgs {
    /// Those that were named; all that run, where it is empty.
    pub(crate) named: Vec<Signal>,
}

/// What is recorded, in the order of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Flow,
    Dns,
    Tcp,
    Gpu,
}

impl Signal {
    pub(crate) const ALL: [Self; 4] = [Self::Flow, Self::Dns, Self::Tcp, Self::Gpu];

    /// Returns its name among the agent's sources.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Gpu => "gpu",
        }
    }
}

const SIGNALS: &str = "signals";

impl Args for SignalArgs {
    fn augment_args(command: Command) -> Command {
        let describe = |arg: Arg| {
            arg.value_name("NAMES")
                .help("Record these only: flow, dns, tcp, gpu, comma-separated [default: all that run]")
                .help_heading(None)
                .hide_short_help(false)
        };
        if command.get_arguments().any(|arg| arg.get_id() == SIGNALS) {
            return command.mut_arg(SIGNALS, describe);
        }
        command.arg(describe(Arg::new(SIGNALS).long(SIGNALS)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SignalArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let Some(text) = matches.get_one::<String>(SIGNALS) else { return Ok(Self::default()) };
        let find = |name: &str| Signal::ALL.into_iter().find(|signal| signal.name() == name.trim());
        let named: Option<Vec<Signal>> = text.split(',').map(find).collect();
        named.map(|named| Self { named }).ok_or_else(|| {
            let names = Signal::ALL.map(Signal::name).join(", ");
            let message =
                format!("--signals: {text:?} must be one or more of {names}, comma-separated\n");
            Error::raw(clap::error::ErrorKind::ValueValidation, message)
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Bytes with or without a unit.
fn parse_size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 7] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("", 1),
    ];
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor);
    let bytes = number
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(*factor));
    bytes
        .filter(|bytes| *bytes >= 1 << 16)
        .ok_or_else(|| "give a size of at least 64KiB, such as 500MiB or 2GiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("500MiB"), Ok(500 << 20));
        assert_eq!(parse_size("2GB"), Ok(2_000_000_000));
        assert_eq!(parse_size("65536"), Ok(65_536));
        for bad in ["", "1", "MiB", "5 MiB", "5TB", "-1", "99999999999999999GiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
