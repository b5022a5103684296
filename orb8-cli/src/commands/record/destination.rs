//! Where a recording goes to.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use orb8_proto::v1::{RecordingEnd, RecordingHeader};
use prost::Message;

use crate::args::RecordArgs;
use crate::console::Console;
use crate::error::CliError;
use crate::recording::{Kind, RecordingError, Writer};

/// Who a node talks to is for who recorded it.
const MODE: u32 = 0o600;

/// What a block may take, compressed or not: so near a limit is at it.
const BLOCK: u64 = 512 << 10;

/// An open recording.
pub(super) struct Destination {
    writer: Writer<Sink>,
    /// `None` for standard output.
    path: Option<PathBuf>,
    time_zone: TimeZone,
}

enum Sink {
    File(File),
    Out(Box<dyn Write + Send>),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Out(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Out(out) => out.flush(),
        }
    }
}

impl Destination {
    /// Refuses what could not be written later.
    pub(super) fn check(args: &RecordArgs, console: &Console) -> Result<(), CliError> {
        let path = &args.file;
        if is_out(path) {
            return match console.terminal {
                None => Ok(()),
                Some(_) => Err(CliError::Usage(
                    "a recording is no text for a terminal: name a file with -o, or pipe it"
                        .to_owned(),
                )),
            };
        }
        if path.exists() && !args.force {
            return Err(exists(path));
        }
        Ok(())
    }

    pub(super) fn open(
        args: &RecordArgs,
        header: &RecordingHeader,
        console: &mut Console,
    ) -> Result<Self, CliError> {
        let path = (!is_out(&args.file)).then(|| args.file.clone());
        let sink = match &path {
            Some(path) => Sink::File(create(path, args.force)?),
            // Nothing else may be printed between its bytes.
            None => Sink::Out(std::mem::replace(&mut console.out, Box::new(io::sink()))),
        };
        let failed = |error| write_error(path.as_deref(), error);
        let writer = Writer::new(sink, header).map_err(failed)?;
        Ok(Self { writer, path, time_zone: console.time_zone.clone() })
    }

    /// Adds an encoded message.
    pub(super) fn add(&mut self, kind: Kind, time_ns: u64, message: &[u8]) -> Result<(), CliError> {
        self.writer.add(kind, time_ns, message).map_err(|error| self.error(error))
    }

    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        self.writer.flush().map_err(|error| self.error(error))
    }

    /// Writes the end, and waits until the disk has everything.
    pub(super) fn end(&mut self, time_ns: u64, end: &RecordingEnd) -> Result<(), CliError> {
        self.add(Kind::End, time_ns, &end.encode_to_vec())?;
        self.flush()?;
        let synced = match self.writer.get_ref() {
            Sink::File(file) => file.sync_data(),
            Sink::Out(_) => Ok(()),
        };
        match synced {
            // What is no file on a disk cannot be waited for.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            result => result.map_err(|error| self.error(error.into())),
        }
    }

    /// Leaves a file that can be read, and says how far it goes.
    pub(super) fn give_up(self, error: CliError) -> CliError {
        let CliError::Failed(problem) = error else { return error };
        let latest =
            Timestamp::from_nanosecond(self.writer.flushed_ns().into()).unwrap_or_default();
        let latest = latest.to_zoned(self.time_zone).strftime("%H:%M:%S").to_string();
        let whole = self.writer.written();
        if let Sink::File(file) = self.writer.into_inner() {
            // A part of a block is told from a whole one, but need not be there.
            let _ = file.set_len(whole);
        }
        CliError::Failed(format!(
            "{problem}\n  what was recorded until {latest} is in it and can be replayed; make room, or \
             give another file with -o"
        ))
    }

    /// Whether one more block could exceed so many bytes.
    pub(super) const fn is_near(&self, most: u64) -> bool {
        let reserve = if most / 4 < BLOCK { most / 4 } else { BLOCK };
        self.writer.written() + reserve >= most
    }

    /// Returns the bytes that are written.
    pub(super) const fn bytes(&self) -> u64 {
        self.writer.written()
    }

    /// Returns the file's name; `None` for standard output.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn error(&self, error: RecordingError) -> CliError {
        write_error(self.path.as_deref(), error)
    }
}

fn is_out(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn create(path: &Path, force: bool) -> Result<File, CliError> {
    let mut options = OpenOptions::new();
    options.write(true).mode(MODE);
    match force {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    options.open(path).and_then(keep_to_owner).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => CliError::Failed(format!("cannot create {}: {error}", path.display())),
    })
}

/// A file that was there may be for everybody to read.
fn keep_to_owner(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(file)
}

fn exists(path: &Path) -> CliError {
    CliError::Usage(format!(
        "{} exists: name another file, or overwrite it with --force",
        path.display()
    ))
}

fn write_error(path: Option<&Path>, error: RecordingError) -> CliError {
    match (path, error) {
        (None, RecordingError::Io(error)) => CliError::Output(error),
        (path, error) => {
            let name = path
                .map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
            CliError::Failed(format!("cannot write {name}: {error}"))
        }
    }
}
