//! The libraries and the program that stand in for CUDA.

use std::{
    process::{Child, Command},
    sync::{Mutex, PoisonError},
};

use orb8_standins::Paths;
use tempfile::TempDir;

/// A process that begins has, for a moment, the files that are being written elsewhere, and a program
/// that somebody may write to does not run: they are installed and started by turns.
static WRITTEN: Mutex<()> = Mutex::new(());

/// Puts them into a folder of the test's own.
pub(crate) fn install() -> (TempDir, Paths) {
    let folder = tempfile::tempdir().expect("a folder");
    let _written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    let paths = orb8_standins::install(folder.path()).expect("the stand-ins");
    (folder, paths)
}

/// Starts a process.
pub(crate) fn spawn(command: &mut Command) -> Child {
    let _written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    command.spawn().expect("the program")
}
