//! What was typed, exported or written to the file, before anyone has judged it.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use super::settings::{DEFAULT_FILE, DefaultValue, SETTINGS, Setting};
use super::{Config, ConfigErrors, Environment, Origin};

/// Variable of the settings file.
const CONFIG_ENV: &str = "ORB8_CONFIG";

/// The agent's flags, for [`clap::Parser`]s to flatten. [`RawConfig::load`] makes a [`Config`] of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawConfig {
    file: Option<PathBuf>,
    flags: Values,
}

/// Values by setting name.
pub(super) type Values = BTreeMap<&'static str, String>;

impl RawConfig {
    /// Sets one setting as its flag would.
    #[must_use]
    pub fn with(mut self, setting: Setting, value: impl Into<String>) -> Self {
        self.flags.insert(setting.name, value.into());
        self
    }

    /// Reads the settings file that `--config` would name.
    #[must_use]
    pub fn with_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Puts flags over environment over file over defaults, and validates the result.
    ///
    /// # Errors
    ///
    /// Every setting that is not valid.
    pub fn load(self, environment: &Environment) -> Result<Config, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        for name in environment.unknown_variables() {
            errors.push(name.to_owned(), "is no variable of orb8; unset it or correct its name");
        }
        let file = self.read_file(environment, &mut errors);
        let layers = Layers { flags: self.flags, environment, file };
        Config::from_layers(&layers, errors)
    }

    fn read_file(&self, environment: &Environment, errors: &mut ConfigErrors) -> FileValues {
        let from_env = || environment.variables.get(CONFIG_ENV).map(PathBuf::from);
        let named = self.file.clone().or_else(from_env);
        let Some(path) = named.as_ref().or(environment.default_file.as_ref()) else {
            return FileValues::default();
        };
        match fs::read_to_string(path) {
            Ok(text) => FileValues::parse(path, &text, errors),
            Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => {
                FileValues::default()
            }
            Err(error) => {
                errors.push(path.display().to_string(), format!("cannot be read: {error}"));
                FileValues::default()
            }
        }
    }
}

/// Where a value may come from, first one first.
#[derive(Debug)]
pub(super) struct Layers<'a> {
    flags: Values,
    pub(super) environment: &'a Environment,
    file: FileValues,
}

impl Layers<'_> {
    /// Finds what sets the setting, if anything does.
    pub(super) fn find(&self, setting: &Setting) -> Option<(&str, Origin)> {
        let variables = &self.environment.variables;
        let flag = self.flags.get(setting.name).map(|value| (value, Origin::Flag));
        let ours = || {
            let value = variables.get(setting.env)?;
            Some((value, Origin::Variable(setting.env)))
        };
        let file = || {
            let value = self.file.values.get(setting.name)?;
            Some((value, Origin::File(self.file.path.clone())))
        };
        let fallback = || {
            let name = setting.fallback_env?;
            let value = variables.get(name).filter(|value| !value.is_empty())?;
            Some((value, Origin::Variable(name)))
        };
        let found = flag.or_else(ours).or_else(file).or_else(fallback)?;
        Some((found.0.as_str(), found.1))
    }
}

/// The settings file, each value as its flag would have it.
#[derive(Debug, Default)]
struct FileValues {
    path: PathBuf,
    values: Values,
}

impl FileValues {
    fn parse(path: &Path, text: &str, errors: &mut ConfigErrors) -> Self {
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                let problem = error.to_string();
                errors.push(path.display().to_string(), format!("is no TOML: {}", problem.trim()));
                return Self::default();
            }
        };
        let mut values = Values::new();
        for (key, value) in table {
            let at = || format!("{key} in {}", path.display());
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key() == key) else {
                errors.push(
                    at(),
                    "is no setting; the keys are the flags of `orb8-agent --help` with `_` for `-`",
                );
                continue;
            };
            match text_of(&value) {
                Some(text) => {
                    values.insert(setting.name, text);
                }
                None => errors.push(at(), "must be a text, a number, a boolean or a list of texts"),
            }
        }
        Self { path: path.to_owned(), values }
    }
}

fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(switch) => Some(switch.to_string()),
        toml::Value::Array(items) => {
            let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            Some(texts?.join(","))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

impl Args for RawConfig {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("PATH")
            .env(CONFIG_ENV)
            .hide_env_values(true)
            .help(format!("TOML file with settings [default: {DEFAULT_FILE}, if it exists]"))
            .value_parser(clap::value_parser!(PathBuf));
        SETTINGS.iter().map(arg_of).fold(command.arg(config), Command::arg)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn arg_of(setting: &'static Setting) -> Arg {
    let default = match setting.default {
        DefaultValue::Text(text) => format!(" [default: {text}]"),
        DefaultValue::Found(what) => format!(" [default: {what}]"),
        DefaultValue::Unset => String::new(),
    };
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .value_name(setting.value)
        // For help only: values from the environment are read with the file, by `load`.
        .env(setting.env)
        .hide_env_values(true)
        .help(format!("{}{default}", setting.doc))
        .action(ArgAction::Set);
    if setting.is_switch() {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        arg
    }
}

impl FromArgMatches for RawConfig {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut raw = Self::default();
        raw.update_from_arg_matches(matches)?;
        Ok(raw)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        let typed = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        if typed("config") {
            self.file = matches.get_one::<PathBuf>("config").cloned();
        }
        for setting in SETTINGS.iter().filter(|setting| typed(setting.name)) {
            if let Some(value) = matches.get_one::<String>(setting.name) {
                self.flags.insert(setting.name, value.clone());
            }
        }
        Ok(())
    }
}
