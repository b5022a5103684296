//! The file that tells NVML's stand-in which processes are on which device.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use super::options::Options;

/// This process's line, which goes when it ends.
pub(crate) struct Listed {
    path: PathBuf,
    line: String,
}

/// Adds this process's line, where there is a file for it.
pub(crate) fn list(options: &Options) -> Option<Listed> {
    let path = options.pid_file.clone()?;
    let device = options.device.unwrap_or(options.rank.unwrap_or(0).cast_signed());
    let line = format!("{} device={device} {}", std::process::id(), options.pid_line);
    let line = format!("{}\n", line.trim_end());
    let file = OpenOptions::new().create(true).append(true).open(&path);
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        eprintln!("gpu-workload: {}: {error}", path.display());
        return None;
    }
    Some(Listed { path, line })
}

impl Drop for Listed {
    fn drop(&mut self) {
        // What cannot be read or written now is somebody else's by now.
        let Ok(text) = fs::read_to_string(&self.path) else { return };
        let rest: String = text.split_inclusive('\n').filter(|line| **line != self.line).collect();
        let _ = fs::write(&self.path, rest);
    }
}
