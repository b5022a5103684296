//! The kernel's own types, where it tells them (BTF): offsets of members, the number of a tracepoint's
//! arguments, names of an enum's values.
//!
//! It stands in for relocation at load, which compilers of Rust do not emit.

use std::{fs, io};

/// Where the kernel tells its types.
const FILE: &str = "/sys/kernel/btf/vmlinux";

/// `struct btf_header`: magic, version, flags, its own length, then where types and strings are.
const MAGIC: u16 = 0xeb9f;
/// `struct btf_type`: name, info, size or type.
const TYPE: usize = 12;
/// `struct btf_member`: name, type, offset in bits.
const MEMBER: usize = 12;
/// How deep structures nest without names.
const MAX_DEPTH: u32 = 16;

/// `BTF_KIND_*`.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// See the [module](self).
pub(super) struct KernelTypes {
    bytes: Vec<u8>,
    /// Where each type begins; the first is `void`.
    types: Vec<usize>,
    strings: usize,
}

/// One type.
#[derive(Clone, Copy)]
struct Type {
    at: usize,
    kind: u32,
    /// Members, values or parameters.
    len: usize,
    /// Whether offsets of members carry the size of a bit field.
    has_bit_fields: bool,
}

impl KernelTypes {
    /// Reads what the running kernel tells.
    pub(super) fn of_kernel() -> io::Result<Self> {
        let broken =
            || io::Error::new(io::ErrorKind::InvalidData, "the kernel's types do not parse");
        Self::parse(fs::read(FILE)?).ok_or_else(broken)
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let magic = u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?);
        if magic != MAGIC {
            return None;
        }
        let mut types = Self { bytes, types: vec![0], strings: 0 };
        let header = types.word(4)? as usize;
        let start = header + types.word(8)? as usize;
        let end = start + types.word(12)? as usize;
        types.strings = header + types.word(16)? as usize;
        let mut at = start;
        while at < end {
            types.types.push(at);
            at += TYPE + types.at(at)?.trailer()?;
        }
        Some(types)
    }

    /// Returns the offset of a member, bytes, by its path from a structure: `tcp_sock`, `rack.rtt_us`.
    /// Structures without a name are looked into.
    pub(super) fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        // Some names are more than one structure's; only one of them has the member.
        self.named(structure, &[kind::STRUCT]).find_map(|found| self.offset_in(found, path))
    }

    /// Returns how many arguments a tracepoint has.
    pub(super) fn arguments(&self, tracepoint: &str) -> Option<usize> {
        let name = format!("btf_trace_{tracepoint}");
        let pointer = self.named(&name, &[kind::TYPEDEF]).next()?;
        let function = self.target(self.target(pointer)?)?;
        // The first is the tracepoint's own data.
        (function.kind == kind::FUNC_PROTO).then(|| function.len.saturating_sub(1))
    }

    /// Whether the kernel has a function.
    pub(super) fn has_function(&self, name: &str) -> bool {
        self.named(name, &[kind::FUNC]).next().is_some()
    }

    /// Returns an enum's values with their names.
    pub(super) fn values(&self, name: &str) -> Vec<(u32, &str)> {
        let Some(found) = self.named(name, &[kind::ENUM]).next() else { return Vec::new() };
        let value = |index: usize| {
            let at = found.at + TYPE + index * 8;
            Some((self.word(at + 4)?, self.string(self.word(at)?)?))
        };
        (0..found.len).filter_map(value).collect()
    }

    fn offset_in(&self, structure: Type, path: &str) -> Option<u32> {
        let mut offset = 0;
        let mut inside = structure;
        for member in path.split('.') {
            let (at, next) = self.member(inside, member, MAX_DEPTH)?;
            offset += at;
            inside = next;
        }
        Some(offset)
    }

    /// Finds a member: where it is, and what it is.
    fn member(&self, structure: Type, name: &str, depth: u32) -> Option<(u32, Type)> {
        if depth == 0 || !matches!(structure.kind, kind::STRUCT | kind::UNION) {
            return None;
        }
        (0..structure.len).find_map(|index| {
            let at = structure.at + TYPE + index * MEMBER;
            let (found, of, bits) = (self.word(at)?, self.word(at + 4)?, self.word(at + 8)?);
            let offset = if structure.has_bit_fields { bits & 0x00ff_ffff } else { bits } / 8;
            match self.string(found)? {
                "" => {
                    let (inner, of) = self.member(self.resolved(of)?, name, depth - 1)?;
                    Some((offset + inner, of))
                }
                // A type that is not told (void) has no members to go on with.
                found if found == name => Some((offset, self.resolved(of).unwrap_or(structure))),
                _ => None,
            }
        })
    }

    fn named<'a>(&'a self, name: &'a str, kinds: &'a [u32]) -> impl Iterator<Item = Type> + 'a {
        let of = |at: &usize| self.at(*at);
        self.types[1..].iter().filter_map(of).filter(move |found| {
            kinds.contains(&found.kind)
                && self.word(found.at).and_then(|at| self.string(at)) == Some(name)
        })
    }

    /// What a pointer, typedef or qualifier is of.
    fn target(&self, of: Type) -> Option<Type> {
        self.resolved(self.word(of.at + 8)?)
    }

    /// A type behind its typedefs and qualifiers.
    fn resolved(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            let found = self.at(*self.types.get(id as usize).filter(|at| **at != 0)?)?;
            match found.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = self.word(found.at + 8)?;
                }
                _ => return Some(found),
            }
        }
        None
    }

    fn at(&self, at: usize) -> Option<Type> {
        let info = self.word(at + 4)?;
        Some(Type {
            at,
            kind: info >> 24 & 0x1f,
            len: (info & 0xffff) as usize,
            has_bit_fields: info >> 31 == 1,
        })
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn string(&self, offset: u32) -> Option<&str> {
        let rest = self.bytes.get(self.strings + offset as usize..)?;
        let len = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..len]).ok()
    }
}

impl Type {
    /// Bytes behind the type itself; `None` for a kind that is not known, since nobody can tell where
    /// the next one begins.
    const fn trailer(self) -> Option<usize> {
        Some(match self.kind {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * self.len,
            kind::ENUM | kind::FUNC_PROTO => 8 * self.len,
            kind::PTR..=kind::TYPE_TAG => 0,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_tells_where_its_members_are() {
        let types = match KernelTypes::of_kernel() {
            Ok(types) => types,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return println!("SKIPPED: this kernel does not tell its types");
            }
            Err(error) => panic!("{error}"),
        };
        // Fixed by the kernel's interface to user space, or by being first.
        assert_eq!(types.offset("sock", "__sk_common.skc_daddr"), Some(0));
        assert_eq!(types.offset("sock_common", "skc_daddr"), Some(0), "in a union without a name");
        assert_eq!(types.offset("sock_common", "skc_rcv_saddr"), Some(4));
        assert!(types.offset("tcp_sock", "rack.rtt_us") > types.offset("tcp_sock", "rack"));
        assert_eq!(types.offset("sock", "no_such_member"), None);
        assert_eq!(types.offset("no_such_structure", "x"), None);
        assert_eq!(types.arguments("inet_sock_set_state"), Some(3));
        assert_eq!(types.arguments("no_such_tracepoint"), None);
        assert!(types.has_function("tcp_v4_rcv") && !types.has_function("no_such_function"));
    }

    #[test]
    fn nonsense_is_no_type_and_no_panic() {
        let header = |length: u32| {
            let mut bytes = vec![0x9f, 0xeb, 1, 0];
            for word in [24, 0, length, length, 8] {
                bytes.extend_from_slice(&u32::to_le_bytes(word));
            }
            bytes
        };
        assert!(KernelTypes::parse(Vec::new()).is_none());
        assert!(KernelTypes::parse(vec![0; 64]).is_none());
        assert!(KernelTypes::parse(header(4096)).is_none(), "types beyond the end");
        let mut unknown = header(12);
        unknown.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 31, 0, 0, 0, 0]);
        assert!(KernelTypes::parse(unknown).is_none(), "a kind that is not known");
    }
}
