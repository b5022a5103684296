//! The `orb8` binary. Everything is in `orb8-cli`, so that it can be tested and reused.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    orb8_cli::main()
}
