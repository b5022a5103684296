//! Log lines on standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Starts logging for the whole process. Call it once, before anything else runs.
pub fn install(config: &LogConfig) {
    // The filter was validated with the settings.
    let filter = EnvFilter::new(&config.filter);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match config.format {
        LogFormat::Text => {
            let has_colors = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(has_colors).init();
        }
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
