//! Names of functions as their programmers wrote them.

use std::fmt::{self, Write};

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};

/// Characters of a name: templates of C++ have thousands.
const LONGEST: usize = 160;
/// Bytes of a mangled name: longer ones are not taken apart.
const LONGEST_MANGLED: usize = 4_096;
/// How deep a mangled name may be nested.
const DEEPEST: u32 = 96;

/// Text of so many characters at most, without what a terminal would obey.
struct Short {
    text: String,
    left: usize,
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.left == 0 {
                // Ends the demangling as well, which may be much longer.
                return Err(fmt::Error);
            }
            self.left -= 1;
            self.text.push(if character.is_control() { '?' } else { character });
        }
        Ok(())
    }
}

/// Writes a name as it was before the compiler mangled it, shortened.
pub(super) fn demangle(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    if name.len() > LONGEST_MANGLED {
        return short(&name);
    }
    if let Ok(rust) = rustc_demangle::try_demangle(&name) {
        return short(format_args!("{rust:#}"));
    }
    cpp(&name).unwrap_or_else(|| short(&name))
}

/// Writes anything, shortened and without control characters.
pub(super) fn short(text: impl fmt::Display) -> String {
    finish(|out| write!(out, "{text}"))
}

fn cpp(name: &str) -> Option<String> {
    if !name.starts_with("_Z") {
        return None;
    }
    let parse = ParseOptions::default().recursion_limit(DEEPEST);
    let symbol = Symbol::new_with_options(name.as_bytes(), &parse).ok()?;
    let options = DemangleOptions::new().no_params().no_return_type().recursion_limit(DEEPEST);
    let text = finish(|out| symbol.structured_demangle(out, &options));
    (!text.is_empty()).then_some(text)
}

fn finish(write: impl FnOnce(&mut Short) -> fmt::Result) -> String {
    let mut out = Short { text: String::new(), left: LONGEST };
    let is_cut = write(&mut out).is_err() && out.left == 0;
    if is_cut {
        out.text.push('…');
    }
    out.text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_as_they_were_written() {
        let cases = [
            ("cuMemAlloc_v2", "cuMemAlloc_v2"),
            (
                "_ZN3c104cuda20CUDACachingAllocator9raw_allocEm",
                "c10::cuda::CUDACachingAllocator::raw_alloc",
            ),
            ("_ZN4core3fmt5Write9write_str17h0123456789abcdefE", "core::fmt::Write::write_str"),
            ("_RNvC6_123foo3bar", "123foo::bar"),
            ("_Znot mangled", "_Znot mangled"),
            ("", ""),
        ];
        for (mangled, expected) in cases {
            assert_eq!(demangle(mangled.as_bytes()), expected, "{mangled}");
        }
    }

    #[test]
    fn a_terminal_has_nothing_to_obey() {
        assert_eq!(demangle(b"a\x1b[2Jb\n\xff"), "a?[2Jb?\u{fffd}");
    }

    #[test]
    fn long_names_are_cut() {
        let text = demangle("x".repeat(10_000).as_bytes());
        assert_eq!(text.chars().count(), LONGEST + 1);
        assert!(text.ends_with('…'));
        assert_eq!(demangle("y".repeat(LONGEST).as_bytes()), "y".repeat(LONGEST));
    }

    /// Substitutions double the text with each step.
    #[test]
    fn a_name_that_explodes_is_cut() {
        let name = format!("_Z1fI1aE{}", "S0_IS1_S1_S1_S1_S1_E".repeat(100));
        assert!(demangle(name.as_bytes()).chars().count() <= LONGEST + 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..300), is_cpp: bool) {
            let mut name = if is_cpp { b"_Z".to_vec() } else { Vec::new() };
            name.extend(bytes);
            let text = demangle(&name);
            prop_assert!(text.chars().count() <= LONGEST + 1);
            prop_assert!(!text.chars().any(char::is_control));
        }
    }
}
