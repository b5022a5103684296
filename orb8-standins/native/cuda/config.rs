//! What the environment variable `ORB8_STANDIN_CUDA` chooses: `name=number` pairs with commas between
//! them, `devices=8,memory-mib=81920,kernel-us=10`.

use std::env;

/// The variable.
pub(super) const VARIABLE: &str = "ORB8_STANDIN_CUDA";

/// The choices, with what holds where nothing is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// Devices.
    pub(super) devices: u64,
    /// Memory of each, MiB.
    pub(super) memory_mib: u64,
    /// How long a kernel runs, µs; 0 costs no look at the clock.
    pub(super) kernel_us: u64,
    /// What copies move, MiB a second; 0 for no time at all.
    pub(super) copy_mib_s: u64,
    /// How long a module takes to load, ms.
    pub(super) jit_ms: u64,
    /// What `cuDriverGetVersion` says.
    pub(super) version: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            devices: 8,
            memory_mib: 81_559,
            kernel_us: 0,
            // PCIe 5.0 ×16, as measured by nvbandwidth and the like.
            copy_mib_s: 52_000,
            jit_ms: 0,
            version: 12_080,
        }
    }
}

impl Config {
    /// Reads the variable; an error says what is wrong with it.
    pub(super) fn from_environment() -> Result<Self, String> {
        match env::var(VARIABLE) {
            Ok(text) => Self::parse(&text).map_err(|error| format!("{VARIABLE}: {error}")),
            Err(env::VarError::NotPresent) => Ok(Self::default()),
            Err(error) => Err(format!("{VARIABLE}: {error}")),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut config = Self::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(format!("{pair:?} has no ="))?;
            let place = match name.trim() {
                "devices" => &mut config.devices,
                "memory-mib" => &mut config.memory_mib,
                "kernel-us" => &mut config.kernel_us,
                "copy-mib-s" => &mut config.copy_mib_s,
                "jit-ms" => &mut config.jit_ms,
                "version" => &mut config.version,
                other => return Err(format!("there is no {other:?}")),
            };
            *place = value.trim().parse().map_err(|error| format!("{pair:?}: {error}"))?;
        }
        if config.devices > 64 {
            return Err(format!("{} devices are too many: 64 at most", config.devices));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_what_it_says_and_leaves_the_rest() {
        let config = Config::parse("devices=2, memory-mib=1024").unwrap();
        assert_eq!((config.devices, config.memory_mib), (2, 1024));
        assert_eq!(config.version, Config::default().version);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for text in ["device=2", "devices", "devices=-1", "devices=65", "jit-ms=soon"] {
            assert!(Config::parse(text).is_err(), "{text}");
        }
    }
}
