//! What functions answer (`nvmlReturn_t`).

use std::ffi::CStr;

/// An answer other than success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub(super) u32);

/// What a function has to say.
pub(super) type Answer<T> = Result<T, Status>;

pub(super) const SUCCESS: u32 = 0;

impl Status {
    pub(super) const UNINITIALIZED: Self = Self(1);
    pub(super) const INVALID_ARGUMENT: Self = Self(2);
    pub(super) const NOT_SUPPORTED: Self = Self(3);
    pub(super) const NOT_FOUND: Self = Self(6);
    pub(super) const INSUFFICIENT_SIZE: Self = Self(7);
    pub(super) const DRIVER_NOT_LOADED: Self = Self(9);
    pub(super) const TIMEOUT: Self = Self(10);
    pub(super) const GPU_IS_LOST: Self = Self(15);
    pub(super) const ARGUMENT_VERSION_MISMATCH: Self = Self(25);
    pub(super) const UNKNOWN: Self = Self(999);

    /// Returns what an answer is as a number.
    pub(super) fn code(answer: Answer<()>) -> u32 {
        match answer {
            Ok(()) => SUCCESS,
            Err(Self(code)) => code,
        }
    }

    /// Finds a code by its name, as in nvml.h but lower case and with hyphens, or by its number.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Ok(code) = text.parse() {
            return Some(Self(code));
        }
        CODES.iter().find(|(_, name, _)| *name == text).map(|(code, _, _)| Self(*code))
    }

    /// Returns what it means, as the library itself says it.
    pub(super) fn text(self) -> &'static CStr {
        let row = CODES.iter().find(|(code, _, _)| *code == self.0);
        row.map_or(c"Unknown Error", |(_, _, text)| text)
    }
}

/// Every code that a newer driver knows, with its name and its text.
pub(super) const CODES: [(u32, &str, &CStr); 32] = [
    (0, "success", c"Success"),
    (1, "uninitialized", c"Uninitialized"),
    (2, "invalid-argument", c"Invalid Argument"),
    (3, "not-supported", c"Not Supported"),
    (4, "no-permission", c"Insufficient Permissions"),
    (5, "already-initialized", c"Already Initialized"),
    (6, "not-found", c"Not Found"),
    (7, "insufficient-size", c"Insufficient Size"),
    (8, "insufficient-power", c"Insufficient External Power"),
    (9, "driver-not-loaded", c"Driver Not Loaded"),
    (10, "timeout", c"Timeout"),
    (11, "irq-issue", c"Interrupt Request Issue"),
    (12, "library-not-found", c"NVML Shared Library Not Found"),
    (13, "function-not-found", c"Function Not Found"),
    (14, "corrupted-inforom", c"Corrupted infoROM"),
    (15, "gpu-is-lost", c"GPU is lost"),
    (16, "reset-required", c"GPU requires reset"),
    (17, "operating-system", c"GPU access blocked by the operating system"),
    (18, "lib-rm-version-mismatch", c"Driver/library version mismatch"),
    (19, "in-use", c"In use by another client"),
    (20, "memory", c"Insufficient Memory"),
    (21, "no-data", c"No data"),
    (
        22,
        "vgpu-ecc-not-supported",
        c"The requested vgpu operation is not available, ECC is enabled",
    ),
    (23, "insufficient-resources", c"Insufficient Resources"),
    (24, "freq-not-supported", c"Frequency Not Supported"),
    (25, "argument-version-mismatch", c"Argument Version Mismatch"),
    (26, "deprecated", c"Deprecated"),
    (27, "not-ready", c"Not Ready"),
    (28, "gpu-not-found", c"GPU Not Found"),
    (29, "invalid-state", c"Invalid State"),
    (30, "reset-type-not-supported", c"Reset Type Not Supported"),
    (999, "unknown", c"Unknown Error"),
];

/// What "every error in turn" answers, one after the other: each code, and one that no header has.
pub(super) fn each(turn: usize) -> Status {
    let errors = CODES.len() - 1;
    CODES.get(1 + turn % (errors + 1)).map_or(Status(4242), |(code, _, _)| Status(*code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_turn() {
        let mut codes: Vec<u32> = (0..32).map(|turn| each(turn).0).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), 32);
        assert!(!codes.contains(&SUCCESS) && codes.contains(&4242));
        assert_eq!(Status::parse("not-found"), Some(Status::NOT_FOUND));
        assert_eq!(Status::parse("15"), Some(Status::GPU_IS_LOST));
        assert_eq!(Status::parse("nonsense"), None);
    }
}
