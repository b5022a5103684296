//! What is wrong with settings.

use std::fmt;
use std::path::PathBuf;

use super::settings::Setting;

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Flag,
    Variable(&'static str),
    File(PathBuf),
    Default,
}

impl Origin {
    /// Names the setting as the person who set it wrote it.
    pub(super) fn name(&self, setting: &Setting) -> String {
        match self {
            Self::Flag => format!("--{}", setting.name),
            Self::Variable(name) => (*name).to_owned(),
            Self::File(path) => format!("{} in {}", setting.key(), path.display()),
            Self::Default => format!("the default of --{}", setting.name),
        }
    }
}

/// Every setting that is not valid, one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

/// One setting that is not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ConfigError {
    at: String,
    problem: String,
}

impl ConfigErrors {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, at: String, problem: impl Into<String>) {
        self.0.push(ConfigError { at, problem: problem.into() });
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, ConfigError { at, problem }) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{at}: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
