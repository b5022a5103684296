//! Numbers as people read them. Machine-readable output keeps them as they are.

use std::time::Duration;

const DECIMAL: [&str; 7] = ["B", "KB", "MB", "GB", "TB", "PB", "EB"];
const COUNTS: [&str; 7] = ["", "K", "M", "G", "T", "P", "E"];
const TIMES: [&str; 7] = ["ns", "µs", "ms", "s", "ks", "Ms", "Gs"];
const BINARY: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Formats traffic in powers of 1000, at most six characters: `544B`, `1.4KB`, `123MB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    let (value, unit) = scale(bytes, 1000, &DECIMAL);
    format!("{value}{unit}")
}

/// Formats traffic per second: `1.4KB/s`.
#[must_use]
pub fn byte_rate(bytes_per_second: u64) -> String {
    let bytes = bytes(bytes_per_second);
    format!("{bytes}/s")
}

/// Formats packets: as they are below 100,000, else in powers of 1000: `850K`, `68.0M`.
#[must_use]
pub fn packets(packets: u64) -> String {
    if packets < 100_000 {
        return packets.to_string();
    }
    let (value, unit) = scale(packets, 1000, &COUNTS);
    format!("{value}{unit}")
}

/// Formats memory in powers of 1024: `23.1 MiB`.
#[must_use]
pub fn memory(bytes: u64) -> String {
    let (value, unit) = scale(bytes, 1024, &BINARY);
    format!("{value} {unit}")
}

/// Formats memory without a blank, at most seven characters: `23.1MiB`.
#[must_use]
pub fn memory_short(bytes: u64) -> String {
    let (value, unit) = scale(bytes, 1024, &BINARY);
    format!("{value}{unit}")
}

/// Formats a part of some memory and all of it, in the unit of all: `71.2/79.6GiB`.
#[must_use]
pub fn memory_part(part: u64, whole: u64) -> String {
    let (whole, unit) = scale(whole, 1024, &BINARY);
    let exponent = BINARY.iter().position(|of| *of == unit).unwrap_or_default() as u32;
    let divisor = 1024_u128.pow(exponent);
    let tenths = (u128::from(part) * 10 + divisor / 2) / divisor;
    match tenths {
        _ if exponent == 0 => format!("{part}/{whole}{unit}"),
        0..1000 => format!("{}.{}/{whole}{unit}", tenths / 10, tenths % 10),
        _ => format!("{}/{whole}{unit}", (tenths + 5) / 10),
    }
}

/// Formats a part of 1: `0%`, `<1%`, `12%`. `None` of what is no part.
#[must_use]
pub fn percent(part: f64) -> Option<String> {
    // Adding nothing takes the sign from a zero.
    let percent = part * 100.0 + 0.0;
    match percent {
        _ if !percent.is_finite() || percent < 0.0 => None,
        _ if percent > 0.0 && percent < 1.0 => Some("<1%".to_owned()),
        _ => Some(format!("{percent:.0}%")),
    }
}

/// Groups digits by thousands: `48,201`.
#[must_use]
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Formats how long something took or ran, with its two largest units: `450ms`, `12.3s`, `1h 4m`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => match duration.subsec_millis() / 100 {
            0 => format!("{seconds}s"),
            tenths => format!("{seconds}.{tenths}s"),
        },
        60..3600 => format!("{minutes}m {}s", seconds % 60),
        3600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// Formats how long something took, at most six characters below a minute: `850ns`, `12.3µs`,
/// `1.2ms`, `5.0s`, `1m 4s`.
#[must_use]
pub fn latency(ns: u64) -> String {
    match ns {
        // Rounded, it is a minute.
        59_950_000_000.. => duration(Duration::from_millis(ns.saturating_add(500_000) / 1_000_000)),
        999_500_000.. => format!(
            "{}.{}s",
            (ns + 50_000_000) / 1_000_000_000,
            (ns + 50_000_000) / 100_000_000 % 10
        ),
        _ => {
            let (value, unit) = scale(ns, 1000, &TIMES);
            format!("{value}{unit}")
        }
    }
}

/// Formats a part of a whole: `0%`, `<1%`, `12%`. `None` of nothing.
#[must_use]
pub fn share(part: u64, whole: u64) -> Option<String> {
    let percent = (u128::from(part) * 100).checked_div(whole.into())?;
    Some(if percent == 0 && part > 0 { "<1%".to_owned() } else { format!("{percent}%") })
}

/// Returns about three significant digits, rounded, and the unit.
fn scale(value: u64, base: u64, units: &[&'static str; 7]) -> (String, &'static str) {
    if value < base {
        return (value.to_string(), units[0]);
    }
    let value = u128::from(value);
    let rounded = |divisor: u128| (value + divisor / 2) / divisor;
    let mut divisor = u128::from(base);
    let mut unit = 1;
    while rounded(divisor) >= u128::from(base) {
        divisor *= u128::from(base);
        unit += 1;
    }
    let tenths = (value * 10 + divisor / 2) / divisor;
    let text = match tenths {
        0..1000 => format!("{}.{}", tenths / 10, tenths % 10),
        _ => rounded(divisor).to_string(),
    };
    (text, units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_three_digits() {
        let cases = [
            (0, "0B"),
            (544, "544B"),
            (999, "999B"),
            (1000, "1.0KB"),
            (1440, "1.4KB"),
            (1450, "1.5KB"),
            (99_949, "99.9KB"),
            (99_951, "100KB"),
            (999_499, "999KB"),
            (999_500, "1.0MB"),
            (123_456_789, "123MB"),
            (u64::MAX, "18.4EB"),
        ];
        for (value, text) in cases {
            assert_eq!(bytes(value), text, "{value}");
        }
        assert_eq!(byte_rate(1440), "1.4KB/s");
    }

    #[test]
    fn packets_are_exact_while_they_are_few() {
        for (value, text) in
            [(12, "12"), (99_999, "99999"), (850_000, "850K"), (68_000_000, "68.0M")]
        {
            assert_eq!(packets(value), text);
        }
    }

    #[test]
    fn memory_is_binary() {
        assert_eq!(memory(1 << 20), "1.0 MiB");
        assert_eq!(memory(1023), "1023 B");
        assert_eq!(memory(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn a_part_of_memory_has_the_unit_of_all() {
        const GIB: u64 = 1 << 30;
        for (part, whole, text) in [
            (0, 80 * GIB, "0.0/80.0GiB"),
            (71 * GIB + GIB / 4, 80 * GIB, "71.3/80.0GiB"),
            (3 << 20, 80 * GIB, "0.0/80.0GiB"),
            (141 * GIB, 141 * GIB, "141/141GiB"),
            (99 * GIB + GIB * 99 / 100, 100 * GIB, "100/100GiB"),
            (5, 9, "5/9B"),
            (u64::MAX, 1 << 20, "17592186044416/1.0MiB"),
        ] {
            assert_eq!(memory_part(part, whole), text);
        }
        assert_eq!(memory_short(GIB + GIB / 2), "1.5GiB");
    }

    #[test]
    fn a_little_is_not_nothing() {
        for (part, text) in [
            (0.0, Some("0%")),
            (-0.0, Some("0%")),
            (0.004, Some("<1%")),
            (0.126, Some("13%")),
            (1.0, Some("100%")),
            (-0.1, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ] {
            assert_eq!(percent(part).as_deref(), text);
        }
    }

    #[test]
    fn counts_are_grouped() {
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (48_201_123, "48,201,123")] {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn durations_have_two_units() {
        let cases = [
            (Duration::from_millis(450), "450ms"),
            (Duration::from_millis(12_345), "12.3s"),
            (Duration::from_millis(3_012), "3s"),
            (Duration::from_secs(3599), "59m 59s"),
            (Duration::from_secs(3600), "1h 0m"),
            (Duration::from_secs(90_000), "1d 1h"),
        ];
        for (value, text) in cases {
            assert_eq!(duration(value), text);
        }
    }

    #[test]
    fn latencies_keep_three_digits() {
        let cases = [
            (0, "0ns"),
            (850, "850ns"),
            (1_234, "1.2µs"),
            (123_456, "123µs"),
            (999_499_999, "999ms"),
            (999_500_000, "1.0s"),
            (5_000_123_456, "5.0s"),
            (59_949_999_999, "59.9s"),
            (59_950_000_000, "59.9s"),
            (60_000_000_000, "1m 0s"),
        ];
        for (value, text) in cases {
            assert_eq!(latency(value), text, "{value}");
        }
    }

    #[test]
    fn few_are_not_none() {
        assert_eq!(share(1, 1000).as_deref(), Some("<1%"));
        assert_eq!(share(0, 1000).as_deref(), Some("0%"));
        assert_eq!(share(1, 8).as_deref(), Some("12%"));
        assert_eq!(share(0, 0), None);
    }

    proptest::proptest! {
        #[test]
        fn bytes_fit_six_columns(value: u64) {
            proptest::prop_assert!(bytes(value).len() <= 6);
        }
    }
}
