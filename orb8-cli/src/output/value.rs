//! Values as every object has them.

use jiff::Timestamp;

/// A word of an enum; absent where it is unspecified.
pub(crate) type Word = Option<&'static str>;

/// RFC 3339 with nanoseconds; absent where the time is not known.
pub(super) fn timestamp(unix_ns: u64) -> Option<String> {
    if unix_ns == 0 {
        return None;
    }
    let time = Timestamp::from_nanosecond(i128::from(unix_ns)).ok()?;
    Some(format!("{time:.9}"))
}

pub(super) fn tcp_flags(flags: u32) -> Vec<&'static str> {
    const WORDS: [(u32, &str); 8] = [
        (0x02, "syn"),
        (0x10, "ack"),
        (0x08, "psh"),
        (0x01, "fin"),
        (0x04, "rst"),
        (0x20, "urg"),
        (0x40, "ece"),
        (0x80, "cwr"),
    ];
    WORDS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, word)| *word).collect()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(super) fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
pub(super) fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}
