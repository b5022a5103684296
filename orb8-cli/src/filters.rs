//! Filter flags: OR within a flag, AND across flags, and `--not` negates the next one.
//!
//! ```text
//! -n ml --pod a,b --port 443 --not --to-ip 10.0.0.0/8
//!   include: { namespace: [ml], pod: [a, b], port: [443] }
//!   exclude: { destination_ip: [10.0.0.0/8] }
//! ```
//!
//! Each negated flag excludes on its own: `--not --pod a --not --port 53` leaves out what is either.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use orb8_proto::filter::Matcher;
use orb8_proto::ports;
use orb8_proto::v1::{Direction, FlowFilter, Protocol};

/// What is wanted and what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilterArgs {
    pub(crate) include: Vec<FlowFilter>,
    pub(crate) exclude: Vec<FlowFilter>,
}

/// One filter flag.
#[derive(Debug)]
struct Flag {
    name: &'static str,
    short: Option<char>,
    value: &'static str,
    help: &'static str,
    kind: Kind,
}

/// How a flag's values get into a filter.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Names, addresses: as they are typed; [`Matcher`] judges them.
    Text(fn(&mut FlowFilter) -> &mut Vec<String>),
    /// Ports by number or name.
    Port(fn(&mut FlowFilter) -> &mut Vec<u32>),
    Protocol,
    Direction,
    /// A flag without a value.
    Version(u32),
}

macro_rules! text {
    ($field:ident) => {
        Kind::Text(|filter| &mut filter.$field)
    };
}

macro_rules! port {
    ($field:ident) => {
        Kind::Port(|filter| &mut filter.$field)
    };
}

const fn flag(name: &'static str, value: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag { name, short: None, value, help, kind }
}

const fn short(flag: Flag, short: char) -> Flag {
    Flag { short: Some(short), ..flag }
}

/// Every filter flag, in the order of help.
const FLAGS: &[Flag] = &[
    short(flag("namespace", "NAME", text!(namespace), "Kubernetes namespace of either end"), 'n'),
    flag("pod", "[NS/]NAME", text!(pod), "Pod of either end"),
    flag("container", "NAME", text!(container), "Container of either end, by name or id"),
    flag("unit", "NAME", text!(unit), "systemd unit of either end"),
    flag("ip", "ADDRESS", text!(ip), "Address or prefix of either end"),
    flag("port", "PORT", port!(port), "Port of either end, by number or name"),
    flag("from-namespace", "NAME", text!(source_namespace), "Namespace of the source"),
    flag("from-pod", "[NS/]NAME", text!(source_pod), "Pod of the source"),
    flag("from-container", "NAME", text!(source_container), "Container of the source"),
    flag("from-ip", "ADDRESS", text!(source_ip), "Address or prefix of the source"),
    flag("from-port", "PORT", port!(source_port), "Port of the source"),
    flag("to-namespace", "NAME", text!(destination_namespace), "Namespace of the destination"),
    flag("to-pod", "[NS/]NAME", text!(destination_pod), "Pod of the destination"),
    flag("to-container", "NAME", text!(destination_container), "Container of the destination"),
    flag("to-ip", "ADDRESS", text!(destination_ip), "Address or prefix of the destination"),
    flag("to-port", "PORT", port!(destination_port), "Port of the destination"),
    flag("protocol", "PROTOCOL", Kind::Protocol, "Protocol"),
    flag("direction", "DIRECTION", Kind::Direction, "As seen from this node"),
    flag("interface", "NAME", text!(interface), "Interface"),
    short(flag("ipv4", "", Kind::Version(4), "Only IPv4"), '4'),
    short(flag("ipv6", "", Kind::Version(6), "Only IPv6"), '6'),
];

const NOT: &str = "not";
const HEADING: &str = "Filters (names match exactly, or as a prefix with a trailing *)";

impl Args for FilterArgs {
    fn augment_args(command: Command) -> Command {
        let not = Arg::new(NOT)
            .long(NOT)
            .action(ArgAction::Append)
            .num_args(0)
            .default_missing_value("true")
            .help_heading(HEADING)
            .help("Leave out what the next filter matches");
        FLAGS.iter().map(Flag::arg).fold(command, Command::arg).arg(not)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for FilterArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut include = FlowFilter::default();
        let mut exclude = Vec::new();
        for (occurrence, negated) in pair_with_not(matches)? {
            if negated {
                let mut filter = FlowFilter::default();
                occurrence.add_to(&mut filter)?;
                exclude.push(filter);
            } else {
                occurrence.add_to(&mut include)?;
            }
        }
        let include = if include == FlowFilter::default() { Vec::new() } else { vec![include] };
        Ok(Self { include, exclude })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// One appearance of a flag: `--port 80,443`.
#[derive(Debug)]
struct Occurrence {
    flag: &'static Flag,
    values: Vec<String>,
    index: usize,
}

/// Says of each flag, in order, whether a `--not` is right before it.
fn pair_with_not(matches: &ArgMatches) -> Result<Vec<(Occurrence, bool)>, Error> {
    let mut occurrences: Vec<Occurrence> =
        FLAGS.iter().flat_map(|flag| flag.occurrences(matches)).collect();
    occurrences.sort_by_key(|occurrence| occurrence.index);
    let mut nots: Vec<usize> = Vec::new();
    if typed(matches, NOT) {
        nots.extend(matches.indices_of(NOT).into_iter().flatten());
    }
    nots.reverse();
    let mut paired = Vec::with_capacity(occurrences.len());
    for occurrence in occurrences {
        let before = nots.iter().rev().take_while(|not| **not < occurrence.index).count();
        if before > 1 {
            return Err(usage("--not negates the next filter: it cannot follow itself"));
        }
        nots.truncate(nots.len() - before);
        paired.push((occurrence, before == 1));
    }
    if !nots.is_empty() {
        return Err(usage("--not negates the next filter: there is none after it"));
    }
    Ok(paired)
}

impl Flag {
    fn arg(&'static self) -> Arg {
        let arg = Arg::new(self.name).long(self.name).help(self.help).help_heading(HEADING);
        let arg = match self.short {
            Some(short) => arg.short(short),
            None => arg,
        };
        let arg = arg.action(ArgAction::Append);
        match self.kind {
            Kind::Version(_) => arg.num_args(0).default_missing_value("true"),
            Kind::Text(_) | Kind::Port(_) => arg
                .value_name(self.value)
                .value_delimiter(',')
                .value_parser(move |text: &str| self.check(text).map(|()| text.to_owned())),
            Kind::Protocol => words(arg.value_name(self.value), Protocol::WORDS),
            Kind::Direction => words(arg.value_name(self.value), Direction::WORDS),
        }
    }

    /// Finds each appearance, with the position of its last value.
    fn occurrences(&'static self, matches: &ArgMatches) -> Vec<Occurrence> {
        if !typed(matches, self.name) {
            return Vec::new();
        }
        let mut indices = matches.indices_of(self.name).into_iter().flatten();
        let groups = matches.get_occurrences::<String>(self.name).into_iter().flatten();
        groups
            .map(|values| {
                let values: Vec<String> = values.cloned().collect();
                let index = indices.by_ref().take(values.len()).last().unwrap_or_default();
                Occurrence { flag: self, values, index }
            })
            .collect()
    }

    /// Judges one value by the rules that the agent applies.
    fn check(&self, text: &str) -> Result<(), String> {
        let mut filter = FlowFilter::default();
        self.add(text, &mut filter)?;
        Matcher::new(&[filter], &[]).map(drop).map_err(|error| error.problem.to_string())
    }

    fn add(&self, text: &str, filter: &mut FlowFilter) -> Result<(), String> {
        match self.kind {
            Kind::Text(field) => field(filter).push(text.to_owned()),
            Kind::Port(field) => field(filter).extend(port_numbers(text)?),
            Kind::Protocol => filter.protocol.push(find(Protocol::WORDS, text)?.into()),
            Kind::Direction => filter.direction.push(find(Direction::WORDS, text)?.into()),
            Kind::Version(version) => filter.ip_version.push(version),
        }
        Ok(())
    }
}

impl Occurrence {
    fn add_to(&self, filter: &mut FlowFilter) -> Result<(), Error> {
        self.values.iter().try_for_each(|value| self.flag.add(value, filter).map_err(usage))
    }
}

/// A name may stand for several ports.
fn port_numbers(text: &str) -> Result<Vec<u32>, String> {
    if let Ok(port) = text.parse::<u32>() {
        return Ok(vec![port]);
    }
    let named: Vec<u32> = ports::numbers(text).map(u32::from).collect();
    if named.is_empty() {
        return Err("neither a port (1 to 65535) nor the name of a well-known one".to_owned());
    }
    Ok(named)
}

fn words<E>(arg: Arg, words: &'static [(E, &'static str)]) -> Arg {
    let words: Vec<&'static str> = words.iter().map(|(_, word)| *word).collect();
    let parser = clap::builder::PossibleValuesParser::new(words);
    arg.value_delimiter(',').ignore_case(true).value_parser(parser)
}

fn find<E: Copy>(words: &[(E, &str)], text: &str) -> Result<E, String> {
    words
        .iter()
        .find(|(_, word)| word.eq_ignore_ascii_case(text))
        .map(|(value, _)| *value)
        .ok_or_else(|| format!("`{text}` is none of its values"))
}

fn typed(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}

fn usage(message: impl std::fmt::Display) -> Error {
    Error::raw(ErrorKind::ValueValidation, message)
}

#[cfg(test)]
mod tests;
