//! Parsers of single values. What they refuse, they say in words that follow the value:
//! `"5" must be a duration from 100ms to 60s, such as 1s`.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::settings::OFF;

/// Suffixes of sizes, with their factors.
const SIZE_UNITS: &[(&str, u64)] = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Suffixes of durations, with their milliseconds. `ms` comes before `s` and `m`.
const TIME_UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// A value, or nothing for `off` and the empty text.
pub(super) fn unless_off<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if text.is_empty() || text == OFF {
        return Ok(None);
    }
    parse(text).map(Some)
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "must be an IP address with a port, such as 127.0.0.1:9090 or [::]:9090, or off".into()
    })
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("must be a path".into());
    }
    Ok(PathBuf::from(text))
}

pub(super) fn absolute_path(text: &str) -> Result<PathBuf, String> {
    path(text)
        .ok()
        .filter(|path| path.is_absolute())
        .ok_or_else(|| "must be an absolute path".into())
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err("must be true or false".into()),
    }
}

pub(super) fn number<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    move |text| match text.parse::<T>() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err(format!("must be a number from {} to {}", range.start(), range.end())),
    }
}

pub(super) fn duration(
    range: RangeInclusive<Duration>,
    allowed: &str,
) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| match with_unit(text, TIME_UNITS).map(Duration::from_millis) {
        Some(value) if range.contains(&value) => Ok(value),
        _ => Err(format!("must be a duration {allowed}, such as 1s, 1500ms or 2m")),
    }
}

/// A size that a BPF ring buffer can have on a machine with this page size.
pub(super) fn ring_size(page: u64, max: u64) -> impl Fn(&str) -> Result<u32, String> {
    move |text| {
        let bytes = text.parse().ok().or_else(|| with_unit(text, SIZE_UNITS));
        bytes
            .filter(|size: &u64| {
                size.is_power_of_two() && size.is_multiple_of(page) && *size <= max
            })
            .and_then(|size| u32::try_from(size).ok())
            .ok_or_else(|| {
                format!(
                    "must be a power of two from {page} (this machine's page size) to {max} bytes, \
                     such as 524288, 512KiB or 1MiB"
                )
            })
    }
}

/// Bytes, as a number or with a unit.
pub(super) fn size(
    range: RangeInclusive<u64>,
    allowed: &str,
) -> impl Fn(&str) -> Result<usize, String> {
    move |text| {
        let bytes = text.parse().ok().or_else(|| with_unit(text, SIZE_UNITS));
        let bytes = bytes.filter(|bytes: &u64| range.contains(bytes));
        bytes
            .and_then(|bytes| usize::try_from(bytes).ok())
            .ok_or_else(|| format!("must be a size {allowed}, in bytes or such as 512KiB or 16MiB"))
    }
}

/// Port numbers, each once.
pub(super) fn ports(count: RangeInclusive<usize>) -> impl Fn(&str) -> Result<Vec<u16>, String> {
    move |text| {
        let parse = |port: &str| port.trim().parse().ok().filter(|port| *port > 0);
        let mut ports = text.split(',').map(parse).collect::<Option<Vec<u16>>>();
        if let Some(ports) = &mut ports {
            ports.sort_unstable();
            ports.dedup();
        }
        ports.filter(|ports| count.contains(&ports.len())).ok_or_else(|| {
            let most = count.end();
            format!("must be up to {most} ports from 1 to 65535, comma-separated, such as 53,5353")
        })
    }
}

/// A number directly followed by one of the units.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Interface names, `*` standing for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Whether the whole name matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        for part in parts {
            let Some(at) = rest.find(part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

pub(super) fn globs(text: &str) -> Result<Vec<Glob>, String> {
    let parse = |name: &str| match name.trim() {
        name if name.is_empty() || name.contains(['/', ' ']) => {
            Err("must be interface names separated by commas, such as eth0,veth*".to_owned())
        }
        name => Ok(Glob(name.to_owned())),
    };
    text.split(',').map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        let matches = |glob: &str, name: &str| globs(glob).unwrap()[0].matches(name);
        assert!(matches("eth0", "eth0"));
        assert!(!matches("eth0", "eth01"));
        assert!(!matches("eth0", "veth0"));
        assert!(matches("veth*", "veth"));
        assert!(matches("veth*", "veth12ab"));
        assert!(matches("*", "anything"));
        assert!(matches("e*s*0", "enp3s0f0"));
        assert!(!matches("e*s*1", "enp3s0f0"));
        assert!(!matches("ab*ba", "aba"), "the ends must not overlap");
        assert!(globs("eth0,,eth1").is_err());
        assert!(globs("../eth0").is_err());
        assert_eq!(globs("eth0, lo").unwrap().len(), 2);
    }

    #[test]
    fn sizes_must_suit_the_ring() {
        let size = |page, text: &str| ring_size(page, 32 << 20)(text).ok();
        assert_eq!(size(4096, "1048576"), Some(1 << 20));
        assert_eq!(size(4096, "1MiB"), Some(1 << 20));
        assert_eq!(size(4096, "512KiB"), Some(512 << 10));
        assert_eq!(size(4096, "4096"), Some(4096));
        assert_eq!(size(65_536, "4096"), None, "less than a page");
        assert_eq!(size(65_536, "64KiB"), Some(65_536));
        assert_eq!(size(4096, "32MiB"), Some(32 << 20));
        for bad in ["64MiB", "3MiB", "1MB", "1 MiB", "", "0", "-1", "1048577", "99999999999999MiB"]
        {
            assert_eq!(size(4096, bad), None, "{bad}");
        }
        let error = ring_size(65_536, 32 << 20)("4096").unwrap_err();
        assert!(error.contains("from 65536 (this machine's page size)"), "{error}");
    }

    #[test]
    fn sizes_have_units_and_bounds() {
        let parse = size(1 << 20..=4 << 30, "in range");
        assert_eq!((parse("1MiB"), parse("1048576")), (Ok(1 << 20), Ok(1 << 20)));
        assert_eq!(parse("4GiB"), Ok(4 << 30));
        for bad in ["", "off", "1MB", "1023KiB", "5GiB", "-1", "99999999999999GiB"] {
            assert!(parse(bad).unwrap_err().starts_with("must be a size in range"), "{bad}");
        }
    }

    #[test]
    fn ports_are_told_once() {
        let parse = ports(1..=3);
        assert_eq!(parse("53"), Ok(vec![53]));
        assert_eq!(parse("5353, 53,53"), Ok(vec![53, 5353]));
        for bad in ["", "0", "53,", "65536", "dns", "1,2,3,4"] {
            assert!(parse(bad).unwrap_err().starts_with("must be up to 3 ports"), "{bad}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        let parse = duration(Duration::from_millis(100)..=Duration::from_secs(60), "in range");
        assert_eq!(parse("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(parse("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(parse("1m"), Ok(Duration::from_secs(60)));
        for bad in ["5", "99ms", "61s", "1h", "s", "1.5s", "1s ", "18446744073709551615h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
