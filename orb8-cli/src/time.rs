//! Durations and moments as they are typed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Parses `5s`, `1m`, `500ms`, `1h30m`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "give a duration such as 500ms, 5s, 1m or 1h30m".to_owned();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{}: the unit is missing", wrong()));
    }
    let parsed = text.parse::<SignedDuration>().map_err(|_| wrong())?;
    let duration = Duration::try_from(parsed).map_err(|_| wrong())?;
    if duration.is_zero() {
        return Err("a duration must be longer than zero".to_owned());
    }
    Ok(duration)
}

/// A moment in the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// This long ago.
    Ago(Duration),
    /// At this time.
    At(Timestamp),
}

impl Since {
    /// Parses a duration, or a time such as `2026-01-31T12:00:00Z`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(duration) = parse_duration(text) {
            return Ok(Self::Ago(duration));
        }
        text.parse::<Timestamp>().map(Self::At).map_err(|_| {
            "give a duration such as 5m, or a time such as 2026-01-31T12:00:00Z".into()
        })
    }

    /// Returns Unix time in nanoseconds.
    pub(crate) fn unix_ns(self) -> u64 {
        match self {
            Self::Ago(duration) => {
                let ago = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
                now_ns().saturating_sub(ago)
            }
            Self::At(time) => u64::try_from(time.as_nanosecond()).unwrap_or(0),
        }
    }
}

/// Returns Unix time in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        for bad in ["5", "", "-5s", "0s", "5 parsecs"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn since_is_a_duration_or_a_time() {
        assert_eq!(Since::parse("5m"), Ok(Since::Ago(Duration::from_secs(300))));
        let at = Since::parse("1970-01-01T00:00:01Z").unwrap();
        assert_eq!(at.unix_ns(), 1_000_000_000);
        assert!(Since::parse("yesterday").is_err());
        assert!(Since::Ago(Duration::from_secs(1)).unix_ns() < now_ns());
    }
}
