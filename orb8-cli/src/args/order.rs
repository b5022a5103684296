//! Flags that stand where they mean nothing.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, Error};

/// Says which flag of a command that is a list itself stands before one of the lists below it, which
/// would not see it.
pub(crate) fn misplaced(command: &Command, matches: &ArgMatches) -> Option<String> {
    let (name, own) = matches.subcommand()?;
    let list = own.subcommand_name()?;
    let command = command.find_subcommand(name)?;
    let typed = |id: &str| own.value_source(id) == Some(ValueSource::CommandLine);
    let flag = command
        .get_arguments()
        .filter(|flag| !flag.is_global_set())
        .find(|flag| typed(flag.get_id().as_str()))?
        .get_long()?;
    Some(format!("--{flag} goes behind `{list}`: orb8 {name} {list} --{flag} …"))
}

/// Tells who typed a command's flag before the command, as other tools take it, where it belongs. Of long
/// flags the parser says so itself.
pub(crate) fn explain(mut error: Error, command: &Command, args: &[OsString]) -> Error {
    let unknown = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(flag))) => flag.clone(),
        _ => return error,
    };
    let mut args = args.iter().skip(1).filter_map(|arg| arg.to_str());
    let first = args.by_ref().find(|arg| *arg == unknown || command.find_subcommand(arg).is_some());
    let name = args.find(|arg| command.find_subcommand(arg).is_some());
    if let (true, Some(name)) = (first == Some(unknown.as_str()), name)
        && has_short(command.find_subcommand(name), &unknown)
    {
        let tip = format!("it goes behind the command: orb8 {name} … {unknown} …");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// Whether a command, or one below it, has a short flag.
fn has_short(command: Option<&Command>, flag: &str) -> bool {
    command.is_some_and(|command| {
        let is_it =
            |short: char| flag.strip_prefix('-').is_some_and(|rest| rest == short.to_string());
        command.get_arguments().filter_map(|arg| arg.get_short()).any(is_it)
            || command.get_subcommands().any(|below| has_short(Some(below), flag))
    })
}
