//! The settings file that packages install: every setting with its default, none of them set.

use std::fmt::Write;
use std::fs;

use orb8_agent::config::settings::{DefaultValue, SETTINGS, Setting};
use orb8_agent::config::{Environment, RawConfig};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/agent.toml");
const WIDTH: usize = 98;

const HEAD: &str = "\
# Settings of orb8-agent. Every one is at its default; to change one, remove the `#` before its name,
# then `systemctl restart orb8-agent`. An unknown name or a bad value ends the agent, which says why in
# `journalctl -u orb8-agent`. Environment variables and flags win over this file.
";

fn comment(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.split_whitespace() {
        if lines.last().is_some_and(|line| line.len() + 1 + word.len() > WIDTH) {
            lines.push(String::from("#"));
        }
        if let Some(line) = lines.last_mut() {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n")
}

/// As TOML writes it: numbers and switches as they are, and text in quotes.
fn value(setting: &Setting) -> String {
    match setting.default {
        DefaultValue::Text(text) if text.parse::<u64>().is_ok() || setting.is_switch() => {
            text.into()
        }
        DefaultValue::Text(text) => format!("{text:?}"),
        // Not a value that is taken: who removes the `#` has to write one.
        DefaultValue::Found(what) => format!("\"\"    # {what}"),
        DefaultValue::Unset => "\"\"    # unset".into(),
    }
}

fn settings_file() -> String {
    let mut text = HEAD.to_owned();
    for setting in SETTINGS {
        // Writing to a String cannot fail.
        let _ =
            write!(text, "\n{}\n#{} = {}\n", comment(setting.doc), setting.key(), value(setting));
    }
    text
}

#[test]
fn the_settings_file_of_packages_is_up_to_date() {
    let new = settings_file();
    if std::env::var_os("ORB8_BLESS").is_some() {
        fs::write(FILE, &new).unwrap();
        return;
    }
    assert!(
        fs::read_to_string(FILE).is_ok_and(|old| old == new),
        "packaging/agent.toml is stale; run `ORB8_BLESS=1 cargo test -p orb8-agent --test manifests package`"
    );
}

/// What the file says is the default is a value that the file may have, and is the default.
#[test]
fn every_default_may_be_written_there() {
    let load = |lines: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.toml");
        fs::write(&file, lines).unwrap();
        let host_name = Some("machine".to_owned());
        let environment = Environment { host_name, page_size: 4096, ..Environment::default() };
        RawConfig::default().with_file(file).load(&environment)
    };
    let nothing = load(&settings_file()).unwrap();
    for setting in SETTINGS {
        if matches!(setting.default, DefaultValue::Text(_)) {
            let line = format!("{} = {}\n", setting.key(), value(setting));
            assert_eq!(load(&line).as_ref().ok(), Some(&nothing), "{line}");
        }
    }
}
