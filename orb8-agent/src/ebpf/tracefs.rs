//! What the kernel says of its tracepoints: the `format` files of tracefs.

use std::{fs, io, path::Path};

use super::sys::open_in_tracefs;

/// Where tracefs is usually mounted.
const MOUNTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Reads a tracepoint's format. Where tracefs is not mounted, it is looked into without mounting it
/// for anyone else.
pub(super) fn format(group: &str, name: &str) -> io::Result<String> {
    let file = format!("events/{group}/{name}/format");
    for mount in MOUNTS {
        if let Ok(text) = fs::read_to_string(Path::new(mount).join(&file)) {
            return Ok(text);
        }
    }
    io::read_to_string(open_in_tracefs(&file)?)
}

/// Reads the names that a format prints for the values of a field:
/// `__print_symbolic(REC->reason, { 2, "NOT_SPECIFIED" }, …)`.
pub(super) fn names(format: &str, field: &str) -> Vec<(u32, String)> {
    let start = format!("__print_symbolic(REC->{field},");
    let Some((_, list)) = format.split_once(&start) else { return Vec::new() };
    let list = list.split_once("})").map_or(list, |(list, _)| list);
    let name = |entry: &str| {
        let (value, name) =
            entry.trim_start_matches([' ', ',']).strip_prefix('{')?.split_once(',')?;
        Some((number(value.trim())?, name.trim().trim_matches('"').to_owned()))
    };
    list.split('}').filter_map(name).collect()
}

/// Kernels print the values of an enum as decimal or hexadecimal numbers.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_off_a_format() {
        let format = "print fmt: \"location=%pS reason: %s\", REC->location, \
                      __print_symbolic(REC->reason, { 2, \"NOT_SPECIFIED\" }, { 3, \"NO_SOCKET\" }, \
                      { 0x10001, \"RX_DROP\" }), REC->other";
        let expected = [(2, "NOT_SPECIFIED"), (3, "NO_SOCKET"), (0x10001, "RX_DROP")];
        assert_eq!(names(format, "reason"), expected.map(|(id, name)| (id, name.to_owned())));
        assert!(names(format, "state").is_empty());
        assert!(names("", "reason").is_empty());
        assert!(names("__print_symbolic(REC->reason, { x, \"A\" })", "reason").is_empty());
    }
}
