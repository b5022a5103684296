//! Numbers with units, times, and curves.

use super::super::curve::Curve;
use super::Parsed;

/// What may follow a number, and what it is multiplied with.
const UNITS: [(&str, f64); 22] = [
    ("", 1.0),
    ("%", 1.0),
    ("W", 1.0),
    ("C", 1.0),
    ("MHz", 1.0),
    ("B", 1.0),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("us", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("min", 60.0),
    ("h", 3600.0),
    ("k", 1e3),
    ("M", 1e6),
];

/// Reads `80GiB`, `2.5`, `-3`, `50GB/s`, `nan`, and `max` for what has all bits set.
pub(super) fn number(text: &str) -> Parsed<f64> {
    match text {
        "nan" => return Ok(f64::NAN),
        "max" => return Ok(f64::INFINITY),
        _ => {}
    }
    let problem = || format!("`{text}` is no number: 80GiB, 2.5, 30s, 12GB/s, nan, max");
    let per_second = text.strip_suffix("/s").unwrap_or(text);
    let digits = per_second.len()
        - per_second.trim_start_matches(|c: char| c.is_ascii_digit() || "+-._".contains(c)).len();
    let (value, unit) = per_second.split_at(digits);
    let value: f64 = value.replace('_', "").parse().map_err(|_| problem())?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(problem)?;
    Ok(value * factor)
}

/// Reads a time or a length of time, s.
pub(super) fn seconds(text: &str) -> Parsed<f64> {
    let seconds = number(text)?;
    if seconds >= 0.0 { Ok(seconds) } else { Err(format!("`{text}` is no time")) }
}

/// Reads a whole number, also `0x1f`.
pub(super) fn integer<T: TryFrom<u64>>(text: &str) -> Parsed<T> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    let number = parsed.ok().and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("`{text}` is no whole number, or is too large"))
}

/// Reads `12.8`.
pub(super) fn version(text: &str) -> Parsed<(i32, i32)> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    let part = |part: &str| part.parse().map_err(|_| format!("`{text}` is no version like 12.8"));
    Ok((part(major)?, part(minor)?))
}

/// Reads a curve: a number or a function, or several with `+` between them.
pub(super) fn curve(text: &str) -> Parsed<Curve> {
    let mut terms: Vec<Curve> =
        split(text, '+')?.into_iter().map(|text| term(text.trim())).collect::<Parsed<_>>()?;
    Ok(if terms.len() == 1 { terms.remove(0) } else { Curve::Sum(terms) })
}

fn term(text: &str) -> Parsed<Curve> {
    let Some((name, rest)) = text.split_once('(') else {
        return Ok(Curve::Constant(number(text)?));
    };
    let inner = rest.strip_suffix(')').ok_or_else(|| format!("`{text}` lacks a `)`"))?;
    let arguments: Vec<&str> = split(inner, ',')?.into_iter().map(str::trim).collect();
    match (name, &arguments[..]) {
        ("ramp", [from, to, over]) => ramp(from, to, over),
        ("saw", [from, to, over]) => {
            Ok(Curve::Every { period: period(over)?, curve: Box::new(ramp(from, to, over)?) })
        }
        ("sine", [low, high, time]) => sine(low, high, time, "0"),
        ("sine", [low, high, time, phase]) => sine(low, high, time, phase),
        ("steps", [first, later @ ..]) => steps(first, later),
        ("noise", [amplitude]) => Ok(Curve::Noise { amplitude: number(amplitude)?, seed: 0 }),
        ("noise", [amplitude, seed]) => {
            Ok(Curve::Noise { amplitude: number(amplitude)?, seed: integer(seed)? })
        }
        ("every", [time, inner]) => {
            Ok(Curve::Every { period: period(time)?, curve: Box::new(curve(inner)?) })
        }
        _ => Err(format!(
            "`{text}` is no function: ramp(FROM,TO,TIME), saw(FROM,TO,TIME), \
             sine(LOW,HIGH,PERIOD[,PHASE]), steps(FIRST,TIME:VALUE,…), noise(AMPLITUDE[,SEED]), \
             every(TIME,CURVE)"
        )),
    }
}

fn ramp(from: &str, to: &str, over: &str) -> Parsed<Curve> {
    Ok(Curve::Ramp { from: number(from)?, to: number(to)?, over: period(over)? })
}

fn sine(low: &str, high: &str, time: &str, phase: &str) -> Parsed<Curve> {
    let (low, high) = (number(low)?, number(high)?);
    Ok(Curve::Sine { low, high, period: period(time)?, phase: number(phase)? })
}

fn steps(first: &str, later: &[&str]) -> Parsed<Curve> {
    let step = |text: &&str| {
        let (time, value) =
            text.split_once(':').ok_or_else(|| format!("`{text}` is no TIME:VALUE"))?;
        Ok((seconds(time)?, number(value)?))
    };
    let later: Vec<(f64, f64)> = later.iter().map(step).collect::<Parsed<_>>()?;
    if !later.is_sorted_by(|one, other| one.0 < other.0) {
        return Err("steps come in the order of their times".into());
    }
    Ok(Curve::Steps { first: number(first)?, later })
}

fn period(text: &str) -> Parsed<f64> {
    let period = seconds(text)?;
    if period > 0.0 && period.is_finite() {
        Ok(period)
    } else {
        Err(format!("`{text}` is no length of time above 0"))
    }
}

/// Splits at a character that is in no parentheses.
fn split(text: &str, at: char) -> Parsed<Vec<&str>> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0_i32, 0);
    for (position, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if character == at && depth == 0 => {
                parts.push(&text[from..position]);
                from = position + at.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    if depth == 0 { Ok(parts) } else { Err(format!("`{text}` has `(` and `)` that do not match")) }
}
