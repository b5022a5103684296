//! Errors that a device's blocks count: `ras/*_err_count`.

use std::path::Path;

use crate::gpu::sysfs::{entries, text};

/// Errors of a device since its driver was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Errors {
    /// Of its memories, mended.
    pub(super) corrected: u64,
    /// Of its memories, not mended.
    pub(super) uncorrected: u64,
    /// Of its links to other devices.
    pub(super) links: Option<u64>,
}

/// Blocks that have no memory but links.
const LINKS: &str = "xgmi_wafl";
const NO_MEMORY: [&str; 2] = ["pcie_bif", LINKS];

/// Adds up what all blocks count; `None` where none does. Makes the driver ask the firmware.
pub(super) fn read(device: &Path) -> Option<Errors> {
    let folder = device.join("ras");
    let mut errors = None;
    for name in entries(&folder) {
        let Some(block) = name.strip_suffix("_err_count") else { continue };
        let Some((uncorrected, corrected)) = text(&folder.join(&name)).as_deref().and_then(parse)
        else {
            continue;
        };
        let errors: &mut Errors = errors.get_or_insert_default();
        if block == LINKS {
            errors.links = Some(uncorrected.saturating_add(corrected));
        }
        if !NO_MEMORY.contains(&block) {
            errors.corrected = errors.corrected.saturating_add(corrected);
            errors.uncorrected = errors.uncorrected.saturating_add(uncorrected);
        }
    }
    errors
}

/// Reads `ue: 0`, `ce: 3` and, newer, `de: 0` (deferred: not mended, and not yet used).
fn parse(text: &str) -> Option<(u64, u64)> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key));
        line?.trim_start_matches(':').trim().parse::<u64>().ok()
    };
    Some((value("ue")?, value("ce")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read() {
        assert_eq!(parse("ue: 2\nce: 17\n"), Some((2, 17)));
        assert_eq!(parse("ue: 0\nce: 1\nde: 4\n"), Some((0, 1)));
        assert_eq!(parse("ue: many\nce: 1\n"), None);
        assert_eq!(parse(""), None);
    }
}
