//! Filter flags: OR within a flag, AND across flags, and `--not` negates the next one.
//!
//! ```text
//! -n ml --pod a,b --port 443 --not --to-ip 10.0.0.0/8
//!   include: { namespace: [ml], pod: [a, b], port: [443] }
//!   exclude: { destination_ip: [10.0.0.0/8] }
//! ```
//!
//! Each negated flag excludes on its own: `--not --pod a --not --port 53` leaves out what is either.
//!
//! [`flags`] has every flag, [`kinds`] which of them each command takes.

use std::marker::PhantomData;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use orb8_proto::ports;

use crate::time::parse_duration;

mod flags;
mod kinds;

use self::flags::{Draft, Flag, Kind};
pub(crate) use self::kinds::{
    Connections, DnsExchanges, DnsSummaries, FilterKind, Flows, Pods, TcpEvents, Workloads,
};

/// What is wanted and what is not.
#[derive(Debug)]
pub(crate) struct FilterArgs<K: FilterKind> {
    pub(crate) include: Vec<K::Filter>,
    pub(crate) exclude: Vec<K::Filter>,
    /// The flags that say so, as they can be typed again.
    pub(crate) words: Vec<String>,
    kind: PhantomData<K>,
}

const NOT: &str = "not";
const ALL_NAMESPACES: &str = "all_namespaces";

impl<K: FilterKind> Args for FilterArgs<K> {
    fn augment_args(command: Command) -> Command {
        let not = Arg::new(NOT)
            .long(NOT)
            .action(ArgAction::Append)
            .num_args(0)
            .default_missing_value("true")
            .help_heading(K::HEADING)
            .help("Leave out what the next filter matches");
        let all = Arg::new(ALL_NAMESPACES)
            .long("all-namespaces")
            .short('A')
            .action(ArgAction::SetTrue)
            .conflicts_with("namespace")
            .help_heading(K::HEADING)
            .help("Every namespace, and what is in none; the default");
        let lacks = K::LACKS.iter().copied().flatten().map(|flag| flag.refused::<K>());
        let has = flags::<K>().map(|flag| flag.arg::<K>());
        has.chain(lacks).fold(command, Command::arg).arg(all).arg(not)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<K: FilterKind> FromArgMatches for FilterArgs<K> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut wanted = Draft::default();
        let mut exclude = Vec::new();
        let mut words = Vec::new();
        for (occurrence, negated) in pair_with_not::<K>(matches)? {
            words.extend(negated.then(|| format!("--{NOT}")));
            words.push(occurrence.word());
            if negated {
                let mut draft = Draft::default();
                occurrence.add_to(&mut draft)?;
                exclude.push(K::filter(draft));
            } else {
                occurrence.add_to(&mut wanted)?;
            }
        }
        let include = if wanted == Draft::default() { Vec::new() } else { vec![K::filter(wanted)] };
        Ok(Self { include, exclude, words, kind: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flags<K: FilterKind>() -> impl Iterator<Item = &'static Flag> {
    K::FLAGS.iter().copied().flatten()
}

/// One appearance of a flag: `--port 80,443`.
#[derive(Debug)]
struct Occurrence {
    flag: &'static Flag,
    values: Vec<String>,
    index: usize,
}

/// Says of each flag, in order, whether a `--not` is right before it.
fn pair_with_not<K: FilterKind>(matches: &ArgMatches) -> Result<Vec<(Occurrence, bool)>, Error> {
    let mut occurrences: Vec<Occurrence> =
        flags::<K>().flat_map(|flag| flag.occurrences(matches)).collect();
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
    fn arg<K: FilterKind>(&'static self) -> Arg {
        let arg = Arg::new(self.name).long(self.name).help(self.help).help_heading(K::HEADING);
        let arg = match self.short {
            Some(short) => arg.short(short),
            None => arg,
        };
        let arg = arg.visible_aliases(self.aliases).action(ArgAction::Append);
        match self.kind {
            Kind::Version(_) => arg.num_args(0).default_missing_value("true"),
            Kind::Text(_) | Kind::Port(_) => judged::<K>(self, arg).value_delimiter(','),
            Kind::Whole(_) | Kind::Latency(_) => judged::<K>(self, arg),
            Kind::Word { choices, .. } => {
                let parser = clap::builder::PossibleValuesParser::new(choices());
                let arg = arg.value_name(self.value).value_delimiter(',');
                arg.ignore_case(true).value_parser(parser)
            }
        }
    }

    /// Makes an argument that says why it is none: a guess at what was meant instead would mislead.
    fn refused<K: FilterKind>(&'static self) -> Arg {
        let arg = Arg::new(self.name).long(self.name).aliases(self.aliases).hide(true);
        let arg = arg.action(ArgAction::Append);
        let arg = match self.short {
            Some(short) => arg.short(short),
            None => arg,
        };
        match self.kind {
            Kind::Version(_) => judged::<K>(self, arg.num_args(0).default_missing_value("true")),
            _ => judged::<K>(self, arg),
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
    fn check<K: FilterKind>(&self, text: &str) -> Result<(), String> {
        let mut draft = Draft::default();
        self.add(text, &mut draft)?;
        K::check(K::filter(draft)).map_err(|error| error.problem.to_string())
    }

    fn add(&self, text: &str, draft: &mut Draft) -> Result<(), String> {
        match self.kind {
            Kind::Text(field) | Kind::Whole(field) => field(draft).push(text.to_owned()),
            Kind::Port(field) => field(draft).extend(port_numbers(text)?),
            Kind::Word { numbers, field, .. } => field(draft).extend(numbers(text)?),
            Kind::Latency(field) => {
                let latency = parse_duration(text)?.as_nanos();
                *field(draft) = Some(u64::try_from(latency).unwrap_or(u64::MAX));
            }
            Kind::Version(version) => draft.flow.ip_version.push(version),
        }
        Ok(())
    }
}

impl Occurrence {
    fn word(&self) -> String {
        let name = self.flag.name;
        match self.flag.kind {
            Kind::Version(_) => format!("--{name}"),
            _ => format!("--{name}={}", self.values.join(",")),
        }
    }

    fn add_to(&self, draft: &mut Draft) -> Result<(), Error> {
        self.values.iter().try_for_each(|value| self.flag.add(value, draft).map_err(usage))
    }
}

fn judged<K: FilterKind>(flag: &'static Flag, arg: Arg) -> Arg {
    arg.value_name(flag.value)
        .value_parser(move |text: &str| flag.check::<K>(text).map(|()| text.to_owned()))
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

fn typed(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}

fn usage(message: impl std::fmt::Display) -> Error {
    Error::raw(ErrorKind::ValueValidation, message)
}

#[cfg(test)]
mod tests;
