//! What `/` takes: the command line's filters, and text.
//!
//! | a word | wants |
//! |---|---|
//! | `-n ml`, `--not --port dns`, … | what the flag wants on the command line |
//! | `shop/web` | the pods of `shop` whose names begin with `web`; `shop/` all of them |
//! | anything else | rows that have it somewhere, in any case |

use clap::{Arg, ArgAction, Args, Command, FromArgMatches};

use crate::filters::{FilterArgs, FilterKind};

/// What someone wants to see.
#[derive(Debug)]
pub(super) struct Filter<K: FilterKind> {
    /// As it was typed.
    pub(super) text: String,
    /// What the agent is asked for.
    pub(super) include: Vec<K::Filter>,
    pub(super) exclude: Vec<K::Filter>,
    /// What rows must have somewhere, in lower case.
    pub(super) words: Vec<String>,
}

impl<K: FilterKind> Default for Filter<K> {
    fn default() -> Self {
        Self { text: String::new(), include: Vec::new(), exclude: Vec::new(), words: Vec::new() }
    }
}

impl<K: FilterKind> Filter<K> {
    /// Reads what was typed, and says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let typed = shlex::split(text).ok_or("a quote is not closed")?;
        let (mut filters, words) = read::<K>(typed)?;
        let (pods, words): (Vec<_>, Vec<_>) = words.into_iter().partition(|it| it.contains('/'));
        if !pods.is_empty() {
            let pods = pods.iter().map(|pod| format!("--pod={}", beginning(pod)));
            filters = read::<K>(filters.words.into_iter().chain(pods).collect())?.0;
        }
        let FilterArgs { include, exclude, .. } = filters;
        let words = words.into_iter().map(|word| word.to_lowercase()).collect();
        Ok(Self { text: text.trim().to_owned(), include, exclude, words })
    }

    /// Whether a row that reads like this, in lower case, is wanted.
    pub(super) fn wants(&self, row: &str) -> bool {
        self.words.iter().all(|word| row.contains(word))
    }
}

/// Who types a pod's name rarely types all of it.
fn beginning(pod: &str) -> String {
    if pod.ends_with(['*', '/']) { pod.to_owned() } else { format!("{pod}*") }
}

const WORDS: &str = "words";

/// Reads flags, and the words between them.
fn read<K: FilterKind>(typed: Vec<String>) -> Result<(FilterArgs<K>, Vec<String>), String> {
    let words = Arg::new(WORDS).action(ArgAction::Append).num_args(0..);
    let command = Command::new("filter").no_binary_name(true).disable_help_flag(true).arg(words);
    let matches = FilterArgs::<K>::augment_args(command)
        .try_get_matches_from(typed)
        .map_err(|error| first_line(&error))?;
    let filters = FilterArgs::from_arg_matches(&matches).map_err(|error| first_line(&error))?;
    let words = matches.get_many(WORDS).into_iter().flatten().cloned().collect();
    Ok((filters, words))
}

/// There is one line for it, with what was typed below.
fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let told = line.strip_prefix("invalid value '").and_then(|rest| rest.split_once("': "));
    told.map_or(line, |(_, problem)| problem).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::{Connections, DnsSummaries, Flows, Workloads};

    #[test]
    fn flags_are_those_of_the_command_line() {
        let filter = Filter::<Flows>::parse("-n ml --port https,53 --not --protocol udp").unwrap();
        assert_eq!(filter.include[0].namespace, ["ml"]);
        assert_eq!(filter.include[0].port, [443, 53]);
        assert_eq!(filter.exclude[0].protocol, [2]);
        let filter = Filter::<Connections>::parse("--selector 'env in (a,b)' --slow 5ms").unwrap();
        let flow = filter.include[0].flow.as_ref().unwrap();
        assert_eq!(flow.label, ["env in (a,b)"]);
        assert_eq!(filter.include[0].min_latency_ns, Some(5_000_000));
    }

    #[test]
    fn words_are_pods_or_text() {
        let filter = Filter::<Workloads>::parse("shop/web -n shop Mysql").unwrap();
        assert_eq!(filter.include[0].pod, ["shop/web*"]);
        assert_eq!(filter.include[0].namespace, ["shop"]);
        assert!(filter.wants("shop/deploy/mysql") && !filter.wants("shop/deploy/web"));
        let all = Filter::<Workloads>::parse("shop/").unwrap();
        assert_eq!(all.include[0].pod, ["shop/"]);
        let none = Filter::<Workloads>::parse("  ").unwrap();
        assert!(none.include.is_empty() && none.wants("anything") && none.text.is_empty());
    }

    #[test]
    fn what_is_wrong_is_said_in_a_line() {
        for (text, expected) in [
            ("--pod 'a", "a quote is not closed"),
            ("--nonsense", "unexpected argument '--nonsense' found"),
            ("--not", "there is none after it"),
            ("shop/a/b", "neither NAME nor NAMESPACE/NAME"),
        ] {
            let error = Filter::<Flows>::parse(text).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
        let error = Filter::<DnsSummaries>::parse("--port 53").unwrap_err();
        assert!(error.starts_with("summaries have no such thing"), "{error}");
    }
}
