//! Durations and moments as they are typed.

use std::time::Duration;

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
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
    /// At this time where the clock hangs.
    Local(DateTime),
    /// When the clock last showed this.
    Clock(Time),
}

impl Since {
    /// Parses a duration, a time such as `2026-01-31T12:00:00Z` or `12:00`, or Unix time.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // `12:30:00` is a duration too, but not here.
        if let Ok(duration) = parse_duration(text)
            && !text.contains(':')
        {
            return Ok(Self::Ago(duration));
        }
        let at = text.parse::<Timestamp>().ok().or_else(|| unix(text)).map(Self::At);
        let local = || text.parse::<DateTime>().ok().filter(|_| text.len() > DATE).map(Self::Local);
        let clock = || text.parse::<Time>().ok().filter(|_| text.contains(':')).map(Self::Clock);
        at.or_else(local).or_else(clock).ok_or_else(|| {
            "give how long ago, such as 5m, or a time: 12:00, 12:00:30, 2026-01-31T12:00:00Z or Unix \
             time"
                .into()
        })
    }

    /// Returns Unix time in nanoseconds, as seen from now.
    pub(crate) fn unix_ns(self, now_ns: u64, zone: &TimeZone) -> u64 {
        let nanos = |time: Timestamp| u64::try_from(time.as_nanosecond()).unwrap_or(0);
        let local = |time: DateTime| zone.to_timestamp(time).map_or(0, nanos);
        match self {
            Self::Ago(duration) => {
                let ago = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
                now_ns.saturating_sub(ago)
            }
            Self::At(time) => nanos(time),
            Self::Local(time) => local(time),
            Self::Clock(time) => {
                let now = Timestamp::from_nanosecond(now_ns.into()).unwrap_or_default();
                let today = now.to_zoned(zone.clone()).date();
                let at = local(today.to_datetime(time));
                if at <= now_ns {
                    return at;
                }
                let yesterday = today.yesterday().unwrap_or(today);
                local(yesterday.to_datetime(time))
            }
        }
    }

    /// Returns the end of what begins at a time: where the clock has not shown it since then, when it
    /// will.
    pub(crate) fn unix_ns_after(self, begin: u64, now_ns: u64, zone: &TimeZone) -> u64 {
        const DAY_NS: u64 = 24 * 3600 * 1_000_000_000;
        let at = self.unix_ns(now_ns, zone);
        match self {
            Self::Clock(_) if at < begin => self.unix_ns(begin.saturating_add(DAY_NS), zone),
            Self::Clock(_) | Self::Ago(_) | Self::At(_) | Self::Local(_) => at,
        }
    }
}

/// Characters of a date without a time.
const DATE: usize = "2026-01-31".len();

/// Reads Unix time: seconds, or by the number of digits milli-, micro- or nanoseconds. Fewer digits are
/// no time that anybody recorded.
fn unix(text: &str) -> Option<Timestamp> {
    let number = text.parse::<i64>().ok().filter(|_| !text.starts_with(['+', '-']))?;
    match text.len() {
        9..=11 => Timestamp::from_second(number).ok(),
        12..=14 => Timestamp::from_millisecond(number).ok(),
        15..=17 => Timestamp::from_microsecond(number).ok(),
        18..=19 => Timestamp::from_nanosecond(number.into()).ok(),
        _ => None,
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

    const NOON: &str = "2026-01-31T12:00:00Z";

    fn resolve(text: &str) -> String {
        let now: Timestamp = NOON.parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let now = u64::try_from(now.as_nanosecond()).unwrap();
        let at = Since::parse(text).unwrap().unix_ns(now, &zone);
        Timestamp::from_nanosecond(at.into()).unwrap().to_string()
    }

    #[test]
    fn since_is_a_duration_or_a_time() {
        assert_eq!(Since::parse("5m"), Ok(Since::Ago(Duration::from_secs(300))));
        for (text, expected) in [
            ("5m", "2026-01-31T11:55:00Z"),
            ("1970-01-01T00:00:01Z", "1970-01-01T00:00:01Z"),
            ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00Z"),
            ("2026-01-31T12:00:00", "2026-01-31T11:00:00Z"),
            ("2026-01-31 12:30", "2026-01-31T11:30:00Z"),
            ("12:59", "2026-01-31T11:59:00Z"),
            ("12:59:30", "2026-01-31T11:59:30Z"),
            ("13:01", "2026-01-30T12:01:00Z"),
            ("1769860800", "2026-01-31T12:00:00Z"),
            ("1769860800500", "2026-01-31T12:00:00.5Z"),
            ("1769860800000000001", "2026-01-31T12:00:00.000000001Z"),
        ] {
            assert_eq!(resolve(text), expected, "{text}");
        }
        for bad in ["yesterday", "5", "", "12", "25:00", "-5m", "2026-01-31", "+1769860800"] {
            assert!(Since::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_end_may_be_yet_to_come() {
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let now = Since::parse(NOON).unwrap().unix_ns(0, &zone);
        let until = |from: &str, to: &str| {
            let from = Since::parse(from).unwrap().unix_ns(now, &zone);
            let to = Since::parse(to).unwrap().unix_ns_after(from, now, &zone);
            Timestamp::from_nanosecond(to.into()).unwrap().to_string()
        };
        // It is 13:00 there.
        assert_eq!(until("12:58", "13:05"), "2026-01-31T12:05:00Z");
        assert_eq!(until("5m", "13:05"), "2026-01-31T12:05:00Z");
        assert_eq!(until("14:00", "14:05"), "2026-01-30T13:05:00Z", "both were yesterday");
        assert_eq!(until("23:00", "01:00"), "2026-01-31T00:00:00Z");
        assert_eq!(until("5m", "10m"), "2026-01-31T11:50:00Z", "no clock");
    }
}
