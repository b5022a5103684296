//! What readers are told to type is taken.

use std::fs;
use std::path::Path;

use clap::Args;
use clap::error::ErrorKind;

use super::pages::{Page, all, root};

/// A command of ours, and where it stands.
#[derive(Debug)]
struct Typed {
    page: String,
    /// The program's name, then its arguments.
    words: Vec<String>,
    /// Text may name a command without all that it needs.
    is_inline: bool,
}

/// Every command line that begins with one of our programs, sudo or not, here or in a pod.
fn typed() -> Vec<Typed> {
    all().iter().flat_map(typed_on).collect()
}

fn typed_on(page: &Page) -> Vec<Typed> {
    let mut lines: Vec<(String, bool)> = Vec::new();
    for block in &page.blocks {
        let prompt = match block.language.as_str() {
            "console" => "$ ",
            "sh" | "bash" => "",
            _ => continue,
        };
        let text = block.text.replace("\\\n> ", "").replace("\\\n", "");
        lines.extend(
            text.lines().filter_map(|line| Some((line.strip_prefix(prompt)?.into(), false))),
        );
    }
    // An ellipsis says that this is not all of it.
    let whole = page.codes.iter().filter(|code| !code.contains('…'));
    lines.extend(whole.map(|code| (code.clone(), true)));
    let typed = |(line, is_inline): (String, bool)| {
        let words = shlex::split(&line).unwrap_or_default();
        let commands = words.split(|word| matches!(word.as_str(), "|" | "||" | "&&" | "&" | ";"));
        let ours = commands.filter_map(ours).collect::<Vec<_>>();
        let page = page.name();
        ours.into_iter().map(move |words| Typed { page: page.clone(), words, is_inline })
    };
    lines.into_iter().flat_map(typed).collect()
}

/// Takes a command as far as it is one of ours.
fn ours(command: &[String]) -> Option<Vec<String>> {
    let name = |word: &String| Path::new(word).file_name()?.to_str().map(str::to_owned);
    let is_ours =
        |word: &&String| name(word).is_some_and(|name| name == "orb8" || name == "orb8-agent");
    let mut words = command;
    if words.first().is_some_and(|word| word == "kubectl" || word == "docker") {
        words = &words[words.iter().position(|word| word == "--")? + 1..];
    }
    while words.first().is_some_and(|word| word == "sudo" || word.contains('=')) {
        words = &words[1..];
    }
    let program = words.first().filter(is_ours)?;
    let is_redirection = |word: &str| word == "<" || word.starts_with('>');
    let arguments = words[1..].iter().take_while(|word| !is_redirection(word));
    // `2>&1` and the like.
    let arguments = arguments.filter(|word| !word.contains(">&"));
    Some(name(program).into_iter().chain(arguments.cloned()).collect())
}

/// Returns what is wrong, if anything is.
fn judged(typed: &Typed) -> Result<(), clap::Error> {
    // What readers put in themselves: <namespace>.
    let is_blank = |word: &String| word.starts_with('<') && word.ends_with('>');
    let words = typed.words.iter();
    let words = words.map(|word| if is_blank(word) { "x".into() } else { word.into() });
    let taken = match typed.words[0].as_str() {
        "orb8" => crate::parse(words).map(|_| ()),
        _ => agent(&typed.words),
    };
    taken.or_else(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(()),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::MissingSubcommand
        | ErrorKind::MissingRequiredArgument
            if typed.is_inline =>
        {
            Ok(())
        }
        _ => Err(error),
    })
}

fn agent(words: &[String]) -> Result<(), clap::Error> {
    let command = clap::Command::new("orb8-agent").version("0");
    let command = orb8_agent::config::RawConfig::augment_args(command);
    command.try_get_matches_from(words).map(|_| ())
}

#[test]
fn every_command_line_is_taken() {
    let typed = typed();
    let of = |name: &str| typed.iter().filter(|typed| typed.words[0] == name).count();
    assert!(of("orb8") > 60 && of("orb8-agent") > 3, "only {} commands were found", typed.len());
    let wrong = typed.iter().filter_map(|typed| {
        let error = judged(typed).err()?.to_string();
        let error = error.lines().next().unwrap_or_default().to_owned();
        Some(format!("{}: {}\n    {error}", typed.page, typed.words.join(" ")))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "commands that orb8 does not take:\n{}", wrong.join("\n"));
}

#[test]
fn commands_are_found_where_they_stand() {
    let found = |line: &str| {
        let words = shlex::split(line).unwrap();
        ours(&words).map(|words| words.join(" "))
    };
    let status = Some("orb8 status".to_owned());
    assert_eq!(found("sudo target/release/orb8 status # all of it"), status);
    assert_eq!(found("kubectl -n orb8-system exec ds/orb8-agent -- orb8 status"), status);
    assert_eq!(found("NO_COLOR=1 orb8 status > file"), status);
    assert_eq!(found("orb8-agent --config a.toml"), Some("orb8-agent --config a.toml".to_owned()));
    for line in ["sudo systemctl restart orb8-agent", "kubectl get pods", "install -D orb8 /bin"] {
        assert_eq!(found(line), None, "{line}");
    }
    let wrong = Typed {
        page: String::new(),
        words: ["orb8", "flows", "--no-such-flag"].map(str::to_owned).to_vec(),
        is_inline: false,
    };
    assert!(judged(&wrong).is_err());
}

/// What follows a program's name in code.
fn words_after<'a>(pages: &'a [Page], start: &'a str) -> impl Iterator<Item = (&'a Page, &'a str)> {
    let in_page = move |page: &'a Page| {
        let lines = page.code().flat_map(str::lines);
        lines.filter_map(move |line| {
            let line = line.trim_start().trim_start_matches("$ ");
            let rest = line.strip_prefix(start)?;
            Some((page, rest.split([' ', ';', '|', '`']).next().unwrap_or_default()))
        })
    };
    pages.iter().flat_map(in_page)
}

#[test]
fn every_xtask_and_make_target_is_there() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let (xtask, makefile) = (read("xtask/src/main.rs"), read("Makefile"));
    let pages = all();
    let mut found = 0;
    for (page, name) in words_after(&pages, "cargo xtask ") {
        found += 1;
        let variant: String = name
            .split('-')
            .map(|word| {
                word.get(..1).unwrap_or_default().to_uppercase() + word.get(1..).unwrap_or_default()
            })
            .collect();
        let is_there = name == "--help"
            || ["(", " {", ","].iter().any(|end| xtask.contains(&format!("    {variant}{end}")));
        assert!(is_there, "{}: no `cargo xtask {name}`", page.name());
    }
    // Alone, it lists them.
    for (page, name) in words_after(&pages, "make ").filter(|(_, name)| !name.is_empty()) {
        found += 1;
        let is_there = makefile.lines().any(|line| line.starts_with(&format!("{name}:")));
        assert!(is_there, "{}: no `make {name}`", page.name());
    }
    assert!(found > 20, "{found}");
}
